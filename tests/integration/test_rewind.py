"""Going back: conversation, notebook, files and variables together, and forth again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cellwright.kernels.errors import KernelNotStarted
from cellwright.notebooks.document import Cell, CellId
from cellwright.notebooks.render import plain
from cellwright.server import events as e
from cellwright.server.app import Cellwright
from cellwright.server.comparison import Comparison
from cellwright.server.domain import Rewound, VariablesBack
from cellwright.server.errors import Conflict, NotFound, StoreUnavailable
from cellwright.server.kernel_life import workspace_of
from cellwright.server.notebook_files import content
from cellwright.server.store import postgres

from tests.conftest import OWNER, Talk
from tests.doubles.openai_server import Say, cell


@dataclass
class Seen:
    """All that a user sees of a session."""

    messages: list[str]
    cells: list[tuple[str, str, str]]
    files: dict[str, str]
    variables: dict[str, str]
    artifacts: list[str]
    facts: dict[str, Any] = field(default_factory=dict)


async def value_of(talk: Talk, name: str) -> str:
    """A variable's value, asked of the kernel outside of all records."""
    kernel = talk.app.kernels.get(talk.session.id)
    assert kernel is not None
    return str(await kernel.evaluate(f"__import__('json').dumps(repr({name}))"))


async def look(talk: Talk) -> Seen:
    session, app = await talk.refresh(), talk.app
    messages, _ = await app.rows.messages(session.id, 500)
    document = await app.cells.document(session.id)
    workspace = workspace_of(app.root, session)
    files = {f.name: (workspace.folder / f.name).read_text() for f in workspace.files()}
    kernel = app.kernels.get(session.id)
    names = [] if kernel is None else [told["name"] for told in kernel.last_variables]
    artifacts, _ = await app.artifacts.page(session.id, limit=100)
    return Seen(
        [m.content for m in messages],
        [(c.id, c.source, plain(str(c.outputs))) for c in document],
        files,
        {name: await value_of(talk, name) for name in sorted(names)},
        sorted(a.name for a in artifacts),
        session.context,
    )


async def go(talk: Talk, why: Any, to: int | str | None = None, again: Any = "safe") -> Rewound:
    generation = await talk.app.turns.owned(talk.session.id)
    return await talk.app.rewind.go(await talk.refresh(), why, to, OWNER, generation, again)


async def foretell(talk: Talk, to: int | None = None) -> Rewound:
    generation = await talk.app.turns.owned(talk.session.id)
    return await talk.app.rewind.preview(await talk.refresh(), "undo", to, "safe", generation)


async def recover(talk: Talk) -> VariablesBack:
    generation = await talk.app.turns.owned(talk.session.id)
    return await talk.app.rewind.recover(await talk.refresh(), "safe", generation)


async def three_turns(talk: Talk) -> list[Seen]:
    """What was seen before the first turn and after each of three."""
    seen = [await look(talk)]
    for number in (1, 2, 3):
        source = (
            f"x = {number}\nopen('f{number}.txt', 'w').write('{number}')\nopen('all.txt', 'a').write('{number}')\nx"
        )
        await talk.ask(f"turn {number}", cell(source, f"step {number}"), Say(f"answer {number}"))
        await settled(talk)
        seen.append(await look(talk))
    return seen


async def settled(talk: Talk) -> None:
    """Waits until the point of the last turn is kept."""
    async with talk.app.rewind.alone(talk.session.id):
        pass


async def test_undo_and_redo(talk: Talk) -> None:
    """Each undo shows what there was one turn before, each redo what there was then, to the letter."""
    seen = await three_turns(talk)
    for before in (2, 1):
        told = await go(talk, "undo")
        assert (told.from_turn, told.to_turn, told.left_turns) == (before + 1, before, [before + 1])
        assert await look(talk) == seen[before]
    for after in (2, 3):
        told = await go(talk, "redo")
        assert (told.to_turn, told.back_turns) == (after, [after])
        assert await look(talk) == seen[after]
    with pytest.raises(Conflict):
        await go(talk, "redo")
    await go(talk, "undo", 0)
    empty = await look(talk)
    assert (empty.messages, empty.cells, empty.files, empty.variables) == ([], [], {}, {})
    with pytest.raises(Conflict):
        await go(talk, "undo")
    await go(talk, "redo")
    assert await look(talk) == seen[3]


@pytest.mark.parametrize("copies", [0, 2])
async def test_variables_by_each_means(talk: Talk, copies: int) -> None:
    """What a copy holds comes back whatever it is; stored variables bring the rest made again by its cells."""
    talk.app.kernels._most_copies = copies
    object.__setattr__(talk.app.settings, "live_copies", copies)
    await talk.run("n = 3\ndata = [1, 2]")
    await talk.run("lines = (str(i * n) for i in range(n))\nfirst = next(lines)")
    await talk.run("n = 5\nlines = None")
    await settled(talk)
    told = await go(talk, "undo")
    assert told.variables.means == (["fork"] if copies else ["stored", "rerun"])
    assert not told.variables.missing
    assert await value_of(talk, "(n, data, first)") == "(3, [1, 2], '0')"
    assert await value_of(talk, "list(lines)") == "['3', '6']"
    assert [again.verdict for again in told.variables.ran_again] == ([] if copies else ["same"])


async def test_a_branch_of_the_tree(talk: Talk) -> None:
    """A new turn after an undo makes another limb; redo ends, and the old limb can be gone back to by its number."""
    seen = await three_turns(talk)
    await go(talk, "undo", 1)
    assert await look(talk) == seen[1]
    turn = await talk.ask("another way", cell("y = x * 10\ny", "other"), Say("ten"))
    assert turn.n == 4
    assert (await talk.app.rows.turn(turn.id)).parent_id == (await talk.app.rewind.turn(talk.session, 1)).id
    await settled(talk)
    other = await look(talk)
    assert other.messages == ["turn 1", "", "answer 1", "another way", "", "ten"]
    with pytest.raises(Conflict):
        await go(talk, "redo")
    told = await go(talk, "restore", 3)
    assert (told.left_turns, told.back_turns) == ([4], [2, 3])
    assert await look(talk) == seen[3]
    await go(talk, "restore", 4)
    assert await look(talk) == other
    with pytest.raises(NotFound):
        await go(talk, "restore", 9)


async def test_the_model_knows_nothing_of_what_was_undone(talk: Talk) -> None:
    """After an undo the model is sent the conversation as it was, with the next question."""
    await three_turns(talk)
    await go(talk, "undo", 1)
    talk.model.requests.clear()
    await talk.ask("go on", Say("done"))
    sent = str(talk.model.requests[-1]["messages"])
    assert "answer 1" in sent
    assert "answer 2" not in sent
    assert "f2.txt" not in sent


async def test_what_the_user_did_is_kept(talk: Talk) -> None:
    """Files, cells and variables of the user's own since the last turn come back with a redo."""
    await talk.ask("q", cell("a = 1\na"), Say("one"))
    await talk.ask("r", cell("a = 2\na"), Say("two"))
    await settled(talk)
    workspace = workspace_of(talk.app.root, talk.session)
    (workspace.folder / "mine.txt").write_text("mine")
    kernel = talk.app.kernels.get(talk.session.id)
    assert kernel is not None
    await kernel.evaluate("__import__('json').dumps(get_ipython().user_ns.update(b=7))")
    before = await look(talk)
    told = await go(talk, "undo")
    assert (told.to_turn, told.left_turns) == (1, [2, 3])
    assert (await look(talk)).files == {}
    assert (await look(talk)).variables == {"a": "1"}
    await go(talk, "redo")
    after = await look(talk)
    assert (after.files, after.cells, after.variables) == (before.files, before.cells, {"a": "2", "b": "7"})
    assert after.messages[-1] == "(I changed files, ran code in the kernel.)"


async def test_a_file_given_for_a_question_stays(talk: Talk) -> None:
    """Undoing the question leaves what was there when it was asked: an upload is not taken back with it."""
    await talk.app.sessions.write(talk.session, "sales.csv", "a\n1\n")
    await talk.ask("q", cell("open('sales.csv', 'a').write('2')"), Say("done"))
    await settled(talk)
    await go(talk, "undo")
    seen = await look(talk)
    assert (seen.files, seen.artifacts, seen.messages) == ({"sales.csv": "a\n1\n"}, ["sales.csv"], [])


async def test_facts_and_summary_go_back(talk: Talk) -> None:
    """What the session keeps in mind is what it was."""
    await talk.app.memory.change(talk.session, {"unit": "kg"}, "merge", OWNER)
    await talk.ask("q", Say("one"))
    await talk.app.memory.change(talk.session, {"unit": "t"}, "merge", OWNER)
    await talk.ask("r", Say("two"))
    await go(talk, "undo", 0)
    assert (await talk.refresh()).context == {"unit": "kg"}
    await go(talk, "redo")
    assert (await talk.refresh()).context == {"unit": "t"}


async def test_a_preview_changes_nothing(talk: Talk) -> None:
    """It says what would happen, and nothing does."""
    seen = await three_turns(talk)
    told = await foretell(talk, 1)
    assert (told.left_turns, told.to_turn) == ([2, 3], 1)
    assert told.files.removed == ["f2.txt", "f3.txt"]
    assert told.files.written == ["all.txt"]
    assert len(told.cells.deleted) == 6
    assert await look(talk) == seen[3]


async def test_what_is_not_rewound_is_named(talk: Talk) -> None:
    """Code that looked to reach outside is named, and never run again unasked."""
    await talk.run("import subprocess\nhandle = subprocess.Popen(['true'])\nok = 1")
    await talk.run("handle = None")
    await settled(talk)
    object.__setattr__(talk.app.settings, "live_copies", 0)
    talk.app.rewind.points._copies.clear()
    told = await go(talk, "undo")
    assert [lost.name for lost in told.variables.missing] == ["handle"]
    assert "starts processes" in told.variables.missing[0].reason
    assert told.variables.ran_again[0].verdict == "skipped"
    assert await value_of(talk, "ok") == "1"
    told = await go(talk, "undo")
    assert "turn 1: a cell starts processes" in told.not_rewound[0]


async def test_what_is_not_rewound_is_named_across_cells(talk: Talk) -> None:
    """Names mean what earlier cells have said: a module, a connection. The clock is named, too."""
    await talk.run("import requests, sqlite3, time as t\nclass psycopg2: connect = dict")
    await talk.run("from time import perf_counter as now\nimport subprocess as s")
    await talk.run("if False: requests.post('http://127.0.0.1:9', json={})\nbegan = now()")
    await talk.run("done = s.run(['true'])\nplace = '/tmp/' 'cellwright-outside.txt'\nif False: open(place, 'w')")
    await settled(talk)
    told = await go(talk, "undo", 2)
    assert told.not_rewound == [
        "turn 3: a cell reaches the network; that is not taken back",
        "turn 3: a cell reads the clock; that is not taken back",
        "turn 4: a cell starts processes; that is not taken back",
        "turn 4: a cell writes outside the workspace; that is not taken back",
    ]


async def test_redo_outlives_the_users_own_doings(talk: Talk) -> None:
    """What the user types or runs after an undo is a turn of theirs, and not one that they asked: redo still works."""
    seen = await three_turns(talk)
    await go(talk, "undo", 1)
    (workspace_of(talk.app.root, talk.session).folder / "mine.txt").write_text("mine")
    told = await go(talk, "redo")
    assert (told.from_turn, told.to_turn, told.left_turns) == (4, 3, [4])
    assert await look(talk) == seen[3]
    await go(talk, "redo", 4)
    assert (await look(talk)).files["mine.txt"] == "mine"


async def test_an_edited_message_reads_as_it_did(talk: Talk) -> None:
    """Where a message was edited later than the turn that one goes back to, it has its former words there."""
    seen = await three_turns(talk)
    session = await talk.refresh()
    messages, _ = await talk.app.rows.messages(session.id, 500)
    first = next(m for m in messages if m.content == "answer 1")
    await talk.app.messages.edit(first, "answer one", OWNER)
    after = await look(talk)
    await go(talk, "undo", 1)
    assert (await look(talk)).messages == seen[1].messages
    await go(talk, "redo")
    assert [m for m in (await look(talk)).messages if "answer" in m] == [m for m in after.messages if "answer" in m]


async def test_what_the_user_ran_before_a_question(talk: Talk) -> None:
    """Undoing the question leaves the variables that the user had set by then, by whatever means they come."""
    await talk.run("x = 1")
    await settled(talk)
    await by_hand(talk, "k = [x] * 3")
    await talk.run("k = None; x = 2")
    await settled(talk)
    for _ in range(2):
        await go(talk, "undo")
        assert await value_of(talk, "(x, k)") == "(1, [1, 1, 1])"
        await go(talk, "redo")
        assert await value_of(talk, "(x, k)") == "(2, None)"


async def by_hand(talk: Talk, source: str) -> None:
    """What a user does in JupyterLab without the agent: code that another client of the kernel sends."""
    connection = talk.app.kernels.get(talk.session.id)
    assert connection is not None
    heard = connection.runs_of_others
    other = connection.manager.client()
    other.start_channels()
    other.execute(source)
    await other.get_shell_msg(timeout=20)
    other.stop_channels()
    async with asyncio.timeout(20):
        while connection.runs_of_others == heard:
            await asyncio.sleep(0.01)


async def test_what_the_user_ran_before_the_first_question(talk: Talk) -> None:
    """There is no turn yet that it could belong to; undoing the first question leaves it all the same."""
    await talk.app.sessions.wake(talk.session)
    await by_hand(talk, "mine = [1, 2]")
    await talk.run("theirs = sum(mine)")
    await settled(talk)
    for _ in range(2):
        await go(talk, "undo")
        assert await value_of(talk, "mine") == "[1, 2]"
        await go(talk, "redo")
        assert await value_of(talk, "(mine, theirs)") == "([1, 2], 3)"
    child = await branch(talk, from_turn=0)
    await child.run("mine = mine * 2")
    assert await value_of(child, "mine") == "[1, 2, 1, 2]"


async def kept_by_itself(talk: Talk) -> None:
    """Waits until what a user ran by hand is stored."""
    connection = talk.app.kernels.get(talk.session.id)
    assert connection is not None
    async with asyncio.timeout(20):
        while talk.app.rewind.points.unkept(connection):
            await asyncio.sleep(0.05)
    await settled(talk)


@pytest.mark.parametrize("asked", [True, False])
async def test_what_the_user_ran_outlives_the_kernel(talk: Talk, asked: bool) -> None:
    """Once the kernel rests, it is stored: a death before the next question takes nothing of it."""
    if asked:
        await talk.run("x = 1")
        await settled(talk)
    else:
        await talk.app.sessions.wake(talk.session)
    for n in range(3):
        await by_hand(talk, f"mine = {[n]}")
        await kept_by_itself(talk)
    told = [event for event in await talk.events() if isinstance(event, e.VariablesChanged)]
    assert "mine" in {variable.name for event in told for variable in event.added}
    connection = talk.app.kernels.get(talk.session.id)
    assert connection is not None
    await by_hand(talk, "late = 1")
    os.kill(connection.manager.provisioner.pid, 9)
    async with asyncio.timeout(20):
        while not any(isinstance(ev, e.KernelChanged) and ev.status == "died" for ev in await talk.events()):
            await asyncio.sleep(0.05)
    back = await recover(talk)
    assert (back.means, "mine" in back.restored) == (["stored"], True)
    assert await value_of(talk, "mine") == "[2]"
    async with postgres.acquired(talk.app.rewind._pool) as database:
        kept = await database.fetchval("SELECT count(*) FROM checkpoints WHERE metadata ->> 'kind' = 'begin'")
    assert kept == 1


async def test_what_was_kept_by_itself_is_a_turn_of_theirs(talk: Talk) -> None:
    """An undo records it first, as it does what was not stored yet."""
    await talk.run("x = 1")
    await settled(talk)
    await by_hand(talk, "x = 2")
    await kept_by_itself(talk)
    told = await go(talk, "undo")
    assert (told.from_turn, told.to_turn, told.left_turns) == (2, 0, [1, 2])
    assert (await talk.app.rows.turns(talk.session.id, 10))[0][-1].query == "(I ran code in the kernel.)"
    await go(talk, "redo")
    assert await value_of(talk, "x") == "2"


@pytest.mark.parametrize("how", ["undo", "recover"])
async def test_files_stay_when_cells_run_again(talk: Talk, how: str) -> None:
    """A cell that runs again for its variables leaves no trace in files; what comes meanwhile stays."""
    object.__setattr__(talk.app.settings, "turn_checkpoint_bytes", 0)
    object.__setattr__(talk.app.settings, "live_copies", 0)
    await talk.run("x = open('log.txt', 'a').write('ran')\nopen('once.txt', 'w').write('a')")
    await talk.run("import os\nos.path.exists('once.txt')" if how == "undo" else "import os; os._exit(1)")
    await settled(talk)
    folder = workspace_of(talk.app.root, talk.session).folder
    into = talk.app.rewind._revival._into

    async def meanwhile(*arguments: Any) -> VariablesBack:
        (folder / "theirs.txt").write_text("theirs")
        return await into(*arguments)

    talk.app.rewind._revival._into = meanwhile  # type: ignore[method-assign]
    if how == "undo":
        told = await go(talk, "undo")
        assert [left.name for left in told.files.left] == ["theirs.txt"]
    else:
        assert (await recover(talk)).appeared == ["theirs.txt"]
    assert await value_of(talk, "x") == "3"
    found = {file.name: file.read_text() for file in folder.iterdir() if file.suffix == ".txt"}
    assert found == {"log.txt": "ran", "once.txt": "a", "theirs.txt": "theirs"}


async def test_an_upload_waits_for_a_move(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is given while the head moves is there when it has moved."""
    await three_turns(talk)
    rewind = talk.app.rewind
    moving, given = rewind._moved, []

    @asynccontextmanager
    async def slowly(*arguments: Any) -> AsyncIterator[Any]:
        upload = talk.app.sessions.write(talk.session, "given.csv", "a\n1\n")
        given.append(asyncio.create_task(upload))
        await asyncio.sleep(0.1)
        async with moving(*arguments) as moved:
            yield moved

    monkeypatch.setattr(rewind, "_moved", slowly)
    await go(talk, "undo", 1)
    await given[0]
    seen = await look(talk)
    assert (seen.files["given.csv"], "given.csv" in seen.artifacts) == ("a\n1\n", True)


async def test_a_notebook_that_changes_meanwhile(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell that the user types while the head moves is kept: the move is refused, and can be made again."""
    seen = await three_turns(talk)
    rewind = talk.app.rewind
    moving = rewind._moved

    @asynccontextmanager
    async def typing(*arguments: Any) -> AsyncIterator[Any]:
        async with moving(*arguments) as moved:
            typed = Cell(CellId("typed"), "code", "typed = 1")
            edit = e.CellEdit(op="insert", cell_id=typed.id, after=None, cell=content(typed))
            await talk.app.log.append(talk.session.id, [e.CellsEdited(author="user", edits=[edit])])
            yield moved

    with monkeypatch.context() as patched:
        patched.setattr(rewind, "_moved", typing)
        with pytest.raises(Conflict, match="try again"):
            await go(talk, "undo", 1)
    now = await look(talk)
    assert (now.files, now.variables) == (seen[3].files, seen[3].variables)
    await go(talk, "undo", 1)
    assert await look(talk) == seen[1]
    await go(talk, "redo")
    assert "typed = 1" in [source for _, source, _ in (await look(talk)).cells]


async def test_a_name_that_is_not_utf8(talk: Talk) -> None:
    """A file whose name cannot be written down stays as it is, and is named."""
    await talk.run("open(b'caf\\xe9.csv', 'w').write('1')\nx = 1")
    await talk.run("x = 2")
    await settled(talk)
    folder = workspace_of(talk.app.root, talk.session).folder
    for _ in range(2):
        told = await go(talk, "undo")
        assert [left.reason for left in told.files.left] == ["its name is not UTF-8"]
        assert [name for name in os.listdir(os.fsencode(folder)) if name.endswith(b".csv")] == [b"caf\xe9.csv"]


async def test_asleep_with_nothing_left(talk: Talk) -> None:
    """A session whose only variables were undone while it slept has lost none when it wakes."""
    await talk.ask("hello", Say("hello"))
    await talk.run("x = 1")
    await settled(talk)
    assert await talk.app.life.hibernate(talk.session.id)
    await go(talk, "undo")
    await talk.run("y = 2")
    changes = [event for event in await talk.events() if isinstance(event, e.KernelChanged)]
    assert not any(event.variables_lost for event in changes)
    with pytest.raises(Conflict):
        await recover(talk)


async def test_what_an_agent_took_back_does_not_run_again(talk: Talk) -> None:
    """After the kernel's death only what counted runs again."""
    object.__setattr__(talk.app.settings, "turn_checkpoint_bytes", 0)
    await talk.ask(
        "q",
        cell("x = [1]"),
        call("checkpoint", label="before"),
        cell("x.append(2)"),
        call("rewind", label="before"),
        Say("It was no good."),
    )
    await talk.run("import os; os._exit(1)")
    await settled(talk)
    told = await recover(talk)
    assert await value_of(talk, "x") == "[1]"
    assert "x.append(2)" not in [again.source for again in told.ran_again]


async def test_the_middle_of_a_turn(talk: Talk) -> None:
    """Restored to a point in a turn's middle, moves from there and back lead to what there was."""
    await talk.ask("q", cell("x = 1"), call("checkpoint", label="p"), cell("x = 2"), Say("two"))
    await settled(talk)
    (point,), _ = await talk.app.points.page(talk.session, 10, 0)
    generation = await talk.app.turns.owned(talk.session.id)
    restored = talk.app.points.restore(await talk.refresh(), point.id, "replace", [], OWNER, generation)
    await restored
    assert await value_of(talk, "x") == "1"
    middle = await look(talk)
    await talk.run("y = x")
    await settled(talk)
    for copies in (True, False):
        if not copies:
            talk.app.rewind.points._copies.clear()
        await go(talk, "undo")
        assert await look(talk) == middle
        await go(talk, "redo")
        assert await value_of(talk, "(x, y)") == "(1, 1)"
    await go(talk, "undo")
    other = await branch(talk)
    await other.run("z = x")
    assert (
        await value_of(other, "z"),
        [turn.status for turn in (await other.app.rows.turns(other.session.id))[0]],
    ) == (
        "1",
        ["stopped", "completed"],
    )
    await go(talk, "redo", 1)
    assert await value_of(talk, "x") == "2"


async def test_more_than_a_snapshot_holds(talk: Talk) -> None:
    """A file over the limit stays as it is, and is named."""
    object.__setattr__(talk.app.settings, "snapshot_file_bytes", 10)
    await talk.run("open('big.txt', 'w').write('x' * 100); open('small.txt', 'w').write('s')")
    await talk.run("open('big.txt', 'w').write('y' * 100); open('small.txt', 'w').write('t')")
    await settled(talk)
    told = await go(talk, "undo")
    assert [(left.name, left.size_bytes) for left in told.files.left] == [("big.txt", 100)]
    files = (await look(talk)).files
    assert (files["small.txt"], files["big.txt"][0]) == ("s", "y")


async def test_more_files_than_a_snapshot_holds(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more than it may hold in all, what did not fit is named; among too many files none is removed as new."""
    object.__setattr__(talk.app.settings, "snapshot_bytes", 150)
    await talk.run("for n in 'abc': open(n, 'w').write('1' * 100)")
    await talk.run("for n in 'abc': open(n, 'w').write('2' * 100)")
    await settled(talk)
    told = await go(talk, "undo")
    assert {left.name: left.reason for left in told.files.left} == {
        "b": "larger than 50 bytes, which is what can be kept of it",
        "c": "larger than 50 bytes, which is what can be kept of it",
    }
    assert {name: text[0] for name, text in (await look(talk)).files.items()} == {"a": "1", "b": "2", "c": "2"}
    for module in ("workspace", "snapshots"):
        monkeypatch.setattr(f"cellwright.server.{module}.MAX_FILES", 3)
    await talk.run("import os; os.remove('a'); open('d', 'w').write('3'); open('e', 'w').write('3')")
    await settled(talk)
    told = await go(talk, "undo")
    assert {left.name for left in told.files.left} == {"b", "c", "d", "…"}
    folder = workspace_of(talk.app.root, talk.session).folder
    assert [(folder / name).read_text()[0] for name in "abcde"] == ["1", "2", "2", "3", "3"]


async def test_what_a_live_copy_lacks_is_named(talk: Talk) -> None:
    """A process has no copy of what its child processes and tasks do."""
    await talk.run("import subprocess\np = subprocess.Popen(['sleep', '60'])")
    await settled(talk)
    await talk.run("x = 1")
    await settled(talk)
    told = await go(talk, "undo")
    assert (told.variables.means, [lost.name for lost in told.variables.missing]) == (["fork"], ["child processes: 1"])
    os.kill(int(await value_of(talk, "p.pid")), 9)


async def test_a_notebook_that_was_adopted(app: Cellwright, model: Any, root: Any) -> None:
    """In a folder of the user's own nothing is removed, and their notebook is what it was."""
    import nbformat
    from nbformat.v4 import new_code_cell, new_notebook

    nbformat.write(new_notebook(cells=[new_code_cell("mine = 1")]), root / "mine.ipynb")
    (root / "other.txt").write_text("theirs")
    talk = Talk(app, await app.sessions.create(OWNER, adopt="mine.ipynb"), model)
    before = await look(talk)
    await talk.run("open('new.txt', 'w').write('n'); open('other.txt', 'w').write('changed')")
    await settled(talk)
    told = await go(talk, "undo")
    after = await look(talk)
    assert after.cells == before.cells
    assert {left.name for left in told.files.left} == {"new.txt", "other.txt"}
    assert after.files == {"new.txt": "n", "other.txt": "changed"}


async def branch(talk: Talk, **more: Any) -> Talk:
    generation = await talk.app.turns.owned(talk.session.id)
    made = await talk.app.branches.make(await talk.refresh(), OWNER, OWNER, generation, **more)
    return Talk(talk.app, made, talk.model)


def same(one: Seen, other: Seen) -> bool:
    """Whether two sessions show the same, the notebook's own cells by what they hold."""
    return (one.messages, one.cells, one.files, one.artifacts, one.facts) == (
        other.messages,
        other.cells,
        other.files,
        other.artifacts,
        other.facts,
    )


async def test_a_branch_has_all_that_there_was(talk: Talk) -> None:
    """Conversation, notebook, files, artifacts and variables as after that turn, and a kernel of its own."""
    seen = await three_turns(talk)
    child = await branch(talk, from_turn=2, title="Other")
    there = await look(child)
    assert same(there, seen[2])
    assert (child.session.parent_session_id, child.session.parent_turn) == (talk.session.id, 2)
    ran = await child.run("print(x, __import__('os').getcwd())")
    shown = next(event.outputs[0]["text"] for event in ran if event.type == "cell.completed")
    assert shown.startswith("2 ")
    assert shown.strip().endswith(child.session.workspace)
    assert await look(talk) == seen[3]


async def test_parent_and_branch_change_independently(talk: Talk) -> None:
    """What one does afterwards, the other does not see; each can undo by itself, and be deleted."""
    seen = await three_turns(talk)
    child = await branch(talk)
    await child.ask("mine", cell("x = 'child'\nopen('child.txt', 'w').write('c')", "step 4"), Say("ok"))
    await settled(child)
    assert await look(talk) == seen[3]
    await talk.ask("theirs", cell("x = 'parent'", "step 4"), Say("ok"))
    await settled(talk)
    assert await value_of(child, "x") == "'child'"
    await go(child, "undo", 1)
    assert same(await look(child), seen[1])
    assert await value_of(child, "x") == "1"
    await talk.app.sessions.delete(await talk.refresh())
    await go(child, "redo")
    assert await value_of(child, "x") == "'child'"
    assert (await look(child)).files["child.txt"] == "c"


def memory(talk: Talk) -> int:
    """What a session's kernel holds, in bytes; of pages that it shares, its part."""
    kernel = talk.app.kernels.get(talk.session.id)
    assert kernel is not None
    lines = Path(f"/proc/{kernel.manager.provisioner.pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


async def test_branches_share_what_they_only_read(talk: Talk) -> None:
    """A large table is in memory once for all of them, until one changes it."""
    await talk.run("import numpy as np, pandas as pd\nsmall = 1")
    await settled(talk)
    bare = await branch(talk)
    await bare.run("total = small")
    await talk.run("big = pd.DataFrame(np.random.default_rng(0).random((250_000, 64)))")
    await settled(talk)
    size = 250_000 * 64 * 8
    children = [await branch(talk) for _ in range(4)]
    for child in children:
        await child.run("total = float(big.to_numpy().sum())")
    more = sum(memory(child) - memory(bare) for child in children)
    assert size / 2 < more < 2 * size
    await children[0].run("big *= 2")
    assert sum(memory(child) - memory(bare) for child in children) - more > size / 2
    assert len({await value_of(child, "total") for child in children}) == 1


async def test_a_branch_costs_no_more_tokens(talk: Talk) -> None:
    """What the parent's turns cost is not counted a second time."""
    await talk.ask("q", Say("one"))
    used = await talk.app.used(OWNER, "session", None, None)
    child = await branch(talk)
    assert [(row.prompt_tokens, row.calls) for row in await talk.app.used(OWNER, "session", None, None)] == [
        (row.prompt_tokens, row.calls) for row in used
    ]
    assert child.session.usage.calls == 0


async def test_a_named_checkpoint(talk: Talk) -> None:
    """A point with a name holds all that there was; facts come back as asked."""
    await talk.ask("q", cell("x = 1\nopen('a.txt', 'w').write('1')", "one"), Say("one"))
    await talk.app.memory.change(talk.session, {"unit": "kg", "by": "me"}, "merge", OWNER)
    generation = await talk.app.turns.owned(talk.session.id)
    point = await talk.app.points.make(await talk.refresh(), "good", OWNER, generation)
    assert (point.label, "x" in point.variables) == ("good", True)
    before = await look(talk)
    await talk.ask("r", cell("x = 2\nopen('a.txt', 'w').write('2')", "two"), Say("two"))
    await settled(talk)
    await talk.app.memory.change(talk.session, {"unit": "t", "more": 1}, "merge", OWNER)
    assert [p.label for p in (await talk.app.points.page(talk.session, 10, 0))[0]] == ["good"]
    told = await talk.app.points.restore(await talk.refresh(), point.id, "merge", [], OWNER, generation)
    assert told.to_turn == point.turn == 2  # What the user told it since is a turn of theirs.
    after = await look(talk)
    assert (after.messages, after.cells, after.files, after.variables) == (
        before.messages,
        before.cells,
        before.files,
        before.variables,
    )
    assert after.facts == {"unit": "kg", "by": "me", "more": 1}
    await talk.app.points.restore(await talk.refresh(), point.id, "selective", ["by"], OWNER, generation)
    with pytest.raises(NotFound):
        await talk.app.points.restore(await talk.refresh(), point.id, "selective", ["no"], OWNER, generation)


async def compared(one: Talk, n: int, other: Talk, m: int) -> Comparison:
    app = one.app
    points = [
        (await talk.refresh(), await app.ways.to(talk.session.id, (await app.rewind.turn(talk.session, turn)).id))
        for talk, turn in ((one, n), (other, m))
    ]
    return await app.comparisons.between(points[0], points[1])


async def test_what_variables_hold_is_compared(talk: Talk) -> None:
    """A change that no description shows is found, and said in words; what came back by an undo is the same."""
    await talk.run("data = list(range(5_000))\nrow = {'a': [1, 2]}\ndef f(x): return x + 1\nsame = {'k': {1, 2}}")
    await talk.run("data[4_000] = 0\nrow['a'][1] = 3\ndef f(x): return x + 2\ngone = (i for i in range(3))")
    await settled(talk)
    told = await compared(talk, 1, talk, 2)
    assert {v.name: (v.what, v.how) for v in told.variables} == {
        "data": ("changed", "1 of 5,000 items differ, the first at [4000]: 4000 → 0"),
        "f": ("changed", "its code is another"),
        "gone": ("added", ""),
        "row": ("changed", "'a': 1 of 2 items differ, the first at [1]: 2 → 3"),
    }
    assert told.not_compared == []
    await go(talk, "undo")
    child = await branch(talk)
    await child.run("pass")
    await settled(child)
    assert (await compared(talk, 1, child, 2)).variables == []


async def test_what_cannot_be_compared_is_named(talk: Talk) -> None:
    """Where no variables are stored, and between two users: what looks the same may not be."""
    await talk.run("data = list(range(5_000))\nn = 1")
    await settled(talk)
    other = Talk(talk.app, await talk.app.sessions.create("another", title="Theirs"), talk.model)
    await other.run("data = list(range(5_000))\nn = 2")
    await settled(other)
    found = await compared(talk, 1, other, 1)
    assert ([v.name for v in found.variables], found.not_compared) == (["n"], ["data"])
    object.__setattr__(talk.app.settings, "turn_checkpoint_bytes", 0)
    await talk.run("data[4_000] = 0")
    await settled(talk)
    assert (await compared(talk, 1, talk, 2)).not_compared == ["data"]


@pytest.mark.parametrize("recovery", ["ask", "auto"])
async def test_after_a_kernels_death(talk: Talk, recovery: str) -> None:
    """What a kernel held that died comes back when asked for, or by itself: stored variables, and the cells since."""
    object.__setattr__(talk.app.settings, "recovery", recovery)
    await talk.run("x = [1, 2, 3]")
    await settled(talk)
    object.__setattr__(talk.app.settings, "turn_checkpoint_bytes", 0)
    await talk.run("y = sum(x)\ny")
    ended = await talk.run("z = 1\nimport os; os._exit(1)")
    assert any(event.type == "kernel.changed" and event.status == "died" for event in await talk.events())
    assert ended[-1].type == "turn.completed"
    await settled(talk)
    if recovery == "ask":
        told = await recover(talk)
        assert told.means == ["stored", "rerun"]
        assert [(again.source, again.verdict) for again in told.ran_again] == [("y = sum(x)\ny", "same")]
    await talk.run("w = (x, y)")
    assert await value_of(talk, "w") == "([1, 2, 3], 6)"
    with pytest.raises(Conflict):
        await recover(talk)


async def test_an_agent_brings_lost_variables_back(talk: Talk) -> None:
    """It is told of the loss and of the way back, and gets what there was."""
    await talk.run("x = [1, 2]")
    await talk.ask("die", cell("y = x + [3]"), cell("import os; os._exit(1)"), Say("It died."))
    await settled(talk)
    await talk.ask("go on", call("recover_variables"), cell("z = y"), call("recover_variables"), Say("There."))
    events = await talk.events()
    results = [event.result for event in events if isinstance(event, e.ToolCompleted)]
    first, again = (result for result in results if result.name == "recover_variables")
    assert "from what was stored" in first.content
    assert "x" in first.content
    assert again.is_error
    assert await value_of(talk, "z") == "[1, 2, 3]"
    assert any("recover_variables brings them back" in str(body) for body in talk.model.requests)


@pytest.mark.parametrize("recovery", ["ask", "auto"])
async def test_recovery_leaves_out_what_reached_outside(talk: Talk, recovery: str) -> None:
    """Unasked it is not run again; the answer, and the log, name it, and say of each other cell how it compares."""
    object.__setattr__(talk.app.settings, "recovery", recovery)
    object.__setattr__(talk.app.settings, "turn_checkpoint_bytes", 0)
    await talk.run("import subprocess")
    await talk.run("open('count.txt', 'a').write('1')\nout = subprocess.run(['true']).returncode")
    await talk.run("x = 1\nx")
    await talk.run("import os; os._exit(1)")
    await settled(talk)
    if recovery == "ask":
        generation = await talk.app.turns.owned(talk.session.id)
        foretold = await talk.app.rewind.recovery(await talk.refresh(), "safe")
        assert [a.verdict for a in foretold.ran_again] == ["planned", "skipped", "planned"]
        told = await recover(talk)
        assert [lost.name for lost in told.missing] == ["out"]
    await talk.run("y = x")
    (back,) = [ev for ev in await talk.events() if isinstance(ev, e.KernelChanged) and ev.status == "restored"]
    assert [a.verdict for a in back.ran_again] == ["same", "skipped", "same"]
    assert (workspace_of(talk.app.root, talk.session).folder / "count.txt").read_text() == "1"
    if recovery == "ask":
        await talk.run("import os; os._exit(1)")
        await settled(talk)
        generation = await talk.app.turns.owned(talk.session.id)
        assert not (await talk.app.rewind.recover(await talk.refresh(), "all", generation)).missing
        assert await value_of(talk, "out") == "0"


async def test_recovery_after_others_have_run(talk: Talk) -> None:
    """Asked for later, what was lost comes back together with what was made since."""
    await talk.run("x = 1")
    await talk.run("import os; os._exit(1)")
    await settled(talk)
    await talk.run("y = 2")
    await settled(talk)
    told = await recover(talk)
    assert not told.missing
    assert await value_of(talk, "(x, y)") == "(1, 2)"
    await talk.run("z = x + y")
    await settled(talk)
    await go(talk, "undo")
    assert await value_of(talk, "(x, y)") == "(1, 2)"


@pytest.mark.parametrize("how", ["undo", "recover"])
async def test_who_hears_of_it_finds_it(talk: Talk, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """In the moment in which the log tells that variables are back, they are there."""
    await talk.run("x = 1")
    await settled(talk)
    await talk.run("x = 2" if how == "undo" else "import os; os._exit(1)")
    await settled(talk)
    append, found = talk.app.log.append, []

    async def heard(session_id: Any, events: Any, **more: Any) -> Any:
        appended = await append(session_id, events, **more)
        if any(isinstance(event, e.KernelChanged) and event.status == "restored" for event in events):
            found.extend(await talk.app.sessions.variables(talk.session))
        return appended

    monkeypatch.setattr(talk.app.log, "append", heard)
    await (go(talk, "undo") if how == "undo" else recover(talk))
    assert [(variable.name, variable.preview) for variable in found] == [("x", "1")]


def call(name: str, **arguments: Any) -> Say:
    """A model's wish to have a tool run."""
    return Say(calls=[(name, arguments)])


async def test_an_agent_takes_back_what_it_tried(talk: Talk) -> None:
    """Within a turn an agent goes back to its own checkpoint: variables and files, not what it knows of it."""
    turn = await talk.ask(
        "q",
        cell("x = [1]\nopen('a.txt', 'w').write('good')", "begin"),
        call("checkpoint", label="before"),
        cell("x.append(2); del x[0]\nopen('a.txt', 'w').write('bad')\nopen('b.txt', 'w').write('b')", "try"),
        call("rewind", label="nosuch"),
        call("rewind", label="before"),
        cell("x.append(3)\nx", "go on"),
        Say("done"),
    )
    assert turn.status == "completed", turn.cause
    await settled(talk)
    seen = await look(talk)
    assert seen.variables == {"x": "[1, 3]"}
    assert seen.files == {"a.txt": "good"}
    sent = str(talk.model.requests[-1]["messages"])
    assert "there are: before" in sent
    assert "as they were at 'before'" in sent
    assert "b.txt" in sent
    document = await talk.app.cells.document(talk.session.id)
    assert ["skip-execution" in c.tags for c in document if c.kind == "code"] == [False, True, False]
    [point], _ = await talk.app.points.page(talk.session, 10, 0)
    generation = await talk.app.turns.owned(talk.session.id)
    await talk.app.points.restore(await talk.refresh(), point.id, "replace", [], OWNER, generation)
    assert await value_of(talk, "x") == "[1]"
    await talk.run("x = None")
    generation = await talk.app.turns.owned(talk.session.id)
    await talk.app.points.restore(await talk.refresh(), point.id, "replace", [], OWNER, generation)
    assert await value_of(talk, "x") == "[1]"


async def test_what_fails_moves_nothing(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    """When no kernel can be started, conversation, notebook, files and variables are as they were."""
    seen = await three_turns(talk)
    monkeypatch.setattr(talk.app.rewind.points, "_copies", {})

    async def refuse(*_: object) -> None:
        raise KernelNotStarted("no more of them")

    with monkeypatch.context() as broken:
        broken.setattr(talk.app.kernels, "start", refuse)
        with pytest.raises(KernelNotStarted):
            await go(talk, "undo", 1)
    assert await look(talk) == seen[3]
    await go(talk, "undo", 1)
    assert await look(talk) == seen[1]


@pytest.mark.parametrize("copies", [0, 2])
async def test_a_store_that_is_away_at_the_last_moment(
    talk: Talk, monkeypatch: pytest.MonkeyPatch, copies: int
) -> None:
    """A move that cannot be written down did not happen: the kernel that went back already has its variables again."""
    object.__setattr__(talk.app.settings, "live_copies", copies)
    talk.app.kernels._most_copies = copies
    seen = await three_turns(talk)
    append = talk.app.log.append

    async def away(session_id: Any, events: Any, **more: Any) -> Any:
        if any(isinstance(event, e.HeadMoved) for event in events):
            raise StoreUnavailable("Postgres is away.")
        return await append(session_id, events, **more)

    with monkeypatch.context() as broken:
        broken.setattr(talk.app.log, "append", away)
        with pytest.raises(StoreUnavailable):
            await go(talk, "undo", 2)
    assert await look(talk) == seen[3]
    told = [event.type for event in await talk.events() if event.type.startswith("head.")]
    assert told == ["head.moving", "head.stayed"]
    await go(talk, "undo", 1)
    assert await look(talk) == seen[1]


async def test_a_question_that_comes_meanwhile(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked while the head moves is answered behind it, and seen."""
    await three_turns(talk)
    rewind = talk.app.rewind
    moving, asked = rewind._moved, []

    @asynccontextmanager
    async def slowly(*arguments: Any) -> AsyncIterator[Any]:
        asked.append(await talk.app.sessions.execute(talk.session, "y = x + 1\ny", OWNER))
        async with moving(*arguments) as moved:
            yield moved

    monkeypatch.setattr(rewind, "_moved", slowly)
    await go(talk, "undo", 1)
    turn = await talk.end(asked[0])
    await settled(talk)
    assert await value_of(talk, "y") == "2"
    assert (await look(talk)).messages[-1].startswith("I ran this cell")
    assert not turn.limb


async def test_asleep(talk: Talk) -> None:
    """What is undone while the session sleeps does not wake with it."""
    await talk.ask("q", Say("one"))
    await talk.run("x = 1")
    await settled(talk)
    assert await talk.app.life.hibernate(talk.session.id)
    await go(talk, "undo")
    await talk.run("there = 'x' in globals()")
    assert await value_of(talk, "there") == "False"


async def test_a_cell_that_failed_half_way(talk: Talk) -> None:
    """What a cell made before it failed is made again, or named."""
    object.__setattr__(talk.app.settings, "turn_checkpoint_bytes", 0)
    object.__setattr__(talk.app.settings, "live_copies", 0)
    await talk.run("x = [1]")
    await talk.run("x.append(2); y = 5; 1 / 0")
    await talk.run("z = (x, y)")
    await talk.run("x = y = z = None")
    await settled(talk)
    told = await go(talk, "undo")
    assert not told.variables.missing
    assert await value_of(talk, "z") == "([1, 2], 5)"


async def test_what_the_user_changes_while_an_agent_goes_back(talk: Talk) -> None:
    """A file that the user put into the folder during the turn is in the log before the agent's rewind takes it out."""
    folder = workspace_of(talk.app.root, talk.session).folder
    await talk.ask(
        "q",
        cell("x = 1", "begin"),
        call("checkpoint", label="before"),
        cell(f"open({str(folder / 'theirs.txt')!r}, 'w').write('dear')", "as if the user did"),
        call("rewind", label="before"),
        Say("done"),
    )
    await settled(talk)
    assert (await look(talk)).files == {}
    saved = [event for event in await talk.events() if event.type == "workspace.saved"]
    assert ["theirs.txt"] in [[file.name for file in event.files] for event in saved]


async def test_what_a_session_fell_asleep_with(talk: Talk) -> None:
    """Where a turn's variables were too many to be kept, an undo and a redo come back to what was stored for sleep."""
    object.__setattr__(talk.app.settings, "turn_checkpoint_bytes", 0)
    object.__setattr__(talk.app.settings, "live_copies", 0)
    await talk.run("x = [open('made.txt', 'x')] and 7")  # Run again, it fails.
    await talk.run("import random\ny = random.random()")
    await settled(talk)
    y = await value_of(talk, "y")
    assert await talk.app.life.hibernate(talk.session.id)
    await go(talk, "undo")
    told = await go(talk, "redo")
    assert told.variables.means == ["stored"]
    assert await value_of(talk, "(x, y)") == f"(7, {y})"


async def test_more_than_is_stored_after_a_turn(talk: Talk) -> None:
    """What is too large is made again by the cells that make and mention it; all the rest comes from the store."""
    object.__setattr__(talk.app.settings, "turn_checkpoint_bytes", 2_000_000)
    object.__setattr__(talk.app.settings, "live_copies", 0)
    await talk.run("import numpy as np, pandas as pd\nsmall = np.random.rand(10)\nother = 5")
    await talk.run("big = np.ones(1_000_000) * other\nframe = pd.DataFrame({'a': big})\nheld = [frame]")
    await talk.run("def spoil(array):\n    array[0] = 7\n    return 1\nresult = spoil(big)\nother = 6")
    await talk.run("unrelated = 1")
    await settled(talk)
    drew = await value_of(talk, "small.tolist()")
    await talk.run("big = frame = held = small = None")
    told = await go(talk, "undo")
    assert told.variables.means == ["stored", "rerun"]
    assert not told.variables.missing
    assert [again.turn for again in told.variables.ran_again] == [1, 2, 3]  # Also what `other` was then.
    assert await value_of(talk, "small.tolist()") == drew
    assert await value_of(talk, "([float(n) for n in big[:2]], other, len(frame), held[0].shape)") == (
        "([7.0, 5.0], 6, 1000000, (1000000, 1))"
    )
    branch = await talk.app.branches.make(
        await talk.refresh(), OWNER, OWNER, await talk.app.turns.owned(talk.session.id)
    )
    there = Talk(talk.app, branch, talk.model)
    woken = await there.run("print(float(big[0]), other)")
    assert "7.0 6" in str(woken)
    assert not [event for event in woken if isinstance(event, e.KernelChanged) and event.variables_lost]


async def test_what_is_drawn_anew_is_named(talk: Talk) -> None:
    """A value that came from chance or the clock is told, also where no output shows that it is another."""
    object.__setattr__(talk.app.settings, "turn_checkpoint_bytes", 0)
    object.__setattr__(talk.app.settings, "live_copies", 0)
    await talk.run("import random, time\nbegan = time.time()\nx = random.random()\nsure = 1")
    await talk.run("y = x + 1\nalso = sure")
    await talk.run("random.seed(2)\nseeded = random.random()")
    await talk.run("last = random.random()")
    await talk.run("gone = 1")
    await settled(talk)
    kept = await value_of(talk, "(seeded, last)")
    foretold = await foretell(talk)
    told = await go(talk, "undo")
    assert foretold.variables.missing == told.variables.missing
    missing = {lost.name: lost.reason for lost in told.variables.missing}
    assert set(missing) == {"began", "x", "y"}
    assert "clock" in missing["began"]
    assert "chance" in missing["x"]
    assert "made from x" in missing["y"]
    assert await value_of(talk, "(seeded, last)") == kept


async def test_what_was_read_from_a_file_that_changed(talk: Talk) -> None:
    """A value that a cell reads again from a file that is another by then is told, before and after."""
    object.__setattr__(talk.app.settings, "turn_checkpoint_bytes", 0)
    object.__setattr__(talk.app.settings, "live_copies", 0)
    await talk.app.sessions.write(talk.session, "n.txt", "1")
    await talk.app.sessions.write(talk.session, "same.txt", "1")
    await talk.run("n = int(open('n.txt').read())\nm = n + 1")
    await talk.run("k = int(open('same.txt').read())")
    await talk.run("written = open('n.txt', 'w').write('7')")
    await talk.run("n = m = k = None")
    await settled(talk)
    foretold = await foretell(talk)
    told = await go(talk, "undo")
    assert foretold.variables.missing == told.variables.missing
    missing = {lost.name: lost.reason for lost in told.variables.missing}
    assert set(missing) == {"n", "m"}
    assert "n.txt" in missing["n"]


async def test_what_is_stored_is_not_in_doubt(talk: Talk) -> None:
    """A value from the store is as it was, and what follows it, whatever was drawn anew to make another."""
    object.__setattr__(talk.app.settings, "turn_checkpoint_bytes", 2_000_000)
    object.__setattr__(talk.app.settings, "live_copies", 0)
    await talk.run("import numpy as np\nsmall = np.random.rand(10)\nbig = np.ones(1_000_000)")
    await settled(talk)
    object.__setattr__(talk.app.settings, "turn_checkpoint_bytes", 0)
    await talk.run("later = float(small.sum())")
    await talk.run("small = big = later = None")
    await settled(talk)
    told = await go(talk, "undo")
    assert [again.turn for again in told.variables.ran_again] == [1, 2]
    assert not told.variables.missing
    assert await value_of(talk, "later == float(small.sum())") == "True"
