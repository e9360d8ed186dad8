"""Going back: conversation, notebook, files and variables together, and forth again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from cellwright.kernels.errors import KernelNotStarted
from cellwright.notebooks.document import Cell, CellId
from cellwright.server import events as e
from cellwright.server.app import Cellwright
from cellwright.server.errors import Conflict, NotFound, StoreUnavailable
from cellwright.server.kernel_life import workspace_of
from cellwright.server.notebook_files import content

from tests.conftest import OWNER, Talk
from tests.doubles.openai_server import Say, cell
from tests.integration.going_back import branch, call, foretell, go, look, settled, three_turns, value_of


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
    assert after.messages[-1] == "(I changed mine.txt, ran code in the kernel.)"


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


async def test_a_file_that_became_a_folder(talk: Talk) -> None:
    """And a folder that became a file: there and back."""
    await talk.run("import os, shutil\nopen('model', 'w').write('1')\nos.mkdir('d')\nopen('d/a', 'w').write('2')")
    await talk.run(
        "os.remove('model')\nos.mkdir('model')\nopen('model/b', 'w').write('3')\nshutil.rmtree('d')\n"
        "open('d', 'w').write('4')"
    )
    await settled(talk)
    told = await go(talk, "undo")
    assert (told.files.left, (await look(talk)).files) == ([], {"model": "1", "d/a": "2"})
    told = await go(talk, "redo")
    assert (told.files.left, (await look(talk)).files) == ([], {"model/b": "3", "d": "4"})


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
