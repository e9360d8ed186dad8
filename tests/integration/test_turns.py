"""Turns on real stores and kernels, with a scripted model behind LiteLLM."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path

import nbformat
import pytest
from cellwright.notebooks.document import Cell
from cellwright.server import events as e
from cellwright.server.app import standalone
from cellwright.server.domain import CellStatus, TurnRequest, TurnStatus
from cellwright.server.errors import Busy, Invalid, NoModel, NotFound
from cellwright.server.models.litellm import library
from cellwright.server.settings import Settings
from cellwright.server.store.cells import Cells

from tests.conftest import Talk
from tests.doubles.openai_server import OpenAIServer, Say, cell
from tests.jupyter import free_port

library()  # The import takes seconds; no test shall be charged with it.


def of(kind: type, events: list) -> list:
    return [event for event in events if isinstance(event, kind)]


async def test_the_main_job(talk: Talk, root: Path) -> None:
    """Variables live from turn to turn; a failed cell is seen and repaired; all of it stands in the notebook."""
    first = await talk.ask("Make x.", cell("x = 20 + 1", "set x", thinking="hm"), Say("It is made."))
    assert (first.status, first.answer) == (TurnStatus.COMPLETED, "It is made.")
    second = await talk.ask(
        "Double it.",
        cell("y = x * zwei", "double"),
        cell("y = x * 2\nprint(y)\ny", "double"),
        Say("It is 42."),
    )
    assert second.answer == "It is 42."
    told = talk.model.requests[-1]["messages"]
    results = [message["content"] for message in told if message["role"] == "tool"]
    assert "NameError: name 'zwei' is not defined" in results[-2]
    assert "42" in results[-1]
    assert "x: int = 21" in told[0]["content"]

    session = await talk.refresh()
    notebook = nbformat.read(root / session.notebook_path, as_version=4)
    nbformat.validate(notebook)
    kinds = [(c.cell_type, c.metadata.get("tags", [])) for c in notebook.cells]
    assert kinds == [
        ("markdown", []), ("code", []), ("markdown", []),
        ("markdown", []), ("code", ["skip-execution"]), ("code", []), ("markdown", []),
    ]  # fmt: skip
    assert notebook.cells[5].outputs[0].text == "42\n"
    assert session.usage.calls == 5
    assert (session.turn_count, session.message_count) == (2, 7)


async def test_a_user_who_saves_while_the_agent_edits(talk: Talk, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Saved between the agent's look at a cell and its change of it, the user's words stay, and the agent is told."""
    await talk.run("x = 1")
    (target,) = await talk.app.cells.document(talk.session.id)
    look = Cells.cell
    saved: list[str] = []

    async def look_and_be_late(self: Cells, *args: str) -> Cell:
        found = await look(self, *args)
        if not saved:
            session = await talk.refresh()
            path = root / session.notebook_path
            saved.append(path.read_text().replace("x = 1", "x = 1  # mine"))
            await talk.app.notebooks.take(session, {"content": json.loads(saved[0])}, written)
        return found

    async def written(model: dict) -> dict:
        (root / talk.session.notebook_path).write_text(json.dumps(model["content"]))
        return model

    edit = {"cell_id": target.id[:8], "expected_hash": target.source_hash[:8], "source": "x = 2"}
    talk.model.script([Say(calls=[("edit_cell", edit)]), Say("I see.")])
    turn = await talk.app.turns.ask(talk.session, "Raise x.", TurnRequest())
    monkeypatch.setattr(Cells, "cell", look_and_be_late)
    await talk.end(turn)
    assert saved
    sources = [cell.source for cell in await talk.app.cells.document(talk.session.id) if cell.kind == "code"]
    assert sources == ["x = 1  # mine"]
    assert "changed" in talk.model.requests[-1]["messages"][-1]["content"]


async def test_the_log_counts_without_gaps_and_ends_each_turn_once(talk: Talk) -> None:
    """Sequence numbers are 1, 2, 3, …; every turn has exactly one end, and it is its last event."""
    await talk.ask("a", cell("1"), Say("A"))
    await talk.ask("b", Say("B"))
    records = await talk.app.log.read(talk.session.id, limit=1_000)
    assert [record.seq for record in records] == list(range(1, len(records) + 1))
    for turn_id in {r.event.turn_id for r in records if r.event.turn_id}:
        events = [r.event for r in records if r.event.turn_id == turn_id]
        assert [isinstance(event, e.TurnEnded) for event in events].count(True) == 1
        assert isinstance(events[-1], e.TurnEnded)


async def test_queued_turns_keep_their_order(talk: Talk) -> None:
    """Turns asked while another runs are done one after the other, as they came; or refused, if so wished."""
    talk.model.script([cell("import time; time.sleep(1)"), Say("1"), Say("2"), Say("3")])
    turns = [await talk.app.turns.ask(talk.session, f"q{n}", TurnRequest()) for n in range(3)]
    with pytest.raises(Busy):
        await talk.app.turns.ask(talk.session, "now!", TurnRequest(), reject_when_busy=True)
    assert [(await talk.end(turn)).answer for turn in turns] == ["1", "2", "3"]


async def test_stop_in_a_cell_keeps_variables(talk: Talk) -> None:
    """Stopping interrupts the cell; the turn says it was stopped, the next one finds the kernel as it was."""
    talk.model.script([cell("kept = 7\nimport time\nwhile True: time.sleep(0.05)"), Say("never")])
    turn = await talk.app.turns.ask(talk.session, "loop", TurnRequest())
    async with contextlib.aclosing(talk.app.log.follow(talk.session.id)) as records:
        async for record in records:
            if isinstance(record.event, e.CellStarted):
                break
    await asyncio.sleep(0.3)
    await talk.app.turns.stop(turn)
    turn = await talk.end(turn)
    assert turn.status is TurnStatus.STOPPED
    ended = of(e.CellCompleted, await talk.events(turn))
    assert [event.status for event in ended] == [CellStatus.INTERRUPTED]
    ran = of(e.CellCompleted, await talk.run("kept"))
    assert ran[0].outputs[0]["data"]["text/plain"] == "7"


async def test_stop_while_the_model_thinks_closes_the_call(talk: Talk) -> None:
    """Stopping before the first token closes the connection to the provider at once."""
    talk.model.script([Say("slow", first_token_s=30)])
    turn = await talk.app.turns.ask(talk.session, "q", TurnRequest())
    while not talk.model.open_streams:
        await asyncio.sleep(0.01)
    await talk.app.turns.stop(turn)
    assert (await talk.end(turn)).status is TurnStatus.STOPPED
    async with asyncio.timeout(2):
        while talk.model.open_streams:
            await asyncio.sleep(0.01)


async def test_a_failing_provider_is_tried_again(talk: Talk) -> None:
    """429 and a cut stream are attempts that are withdrawn; the third answer counts, and is recorded once."""
    turn = await talk.ask(
        "q",
        Say(status=429, headers={"Retry-After": "0"}),
        Say("half of an answer that will never", cut_after_chunks=1),
        Say("whole"),
    )
    events = await talk.events(turn)
    assert turn.answer == "whole"
    assert [event.attempt for event in of(e.AttemptDiscarded, events)] == [1, 2]
    assert [event.message.content for event in of(e.MessageCompleted, events)] == ["whole"]


@pytest.mark.parametrize(
    ("status", "words"), [(401, "CELLWRIGHT_API_KEY"), (404, "CELLWRIGHT_MODEL"), (400, "refused")]
)
async def test_a_provider_that_refuses_is_not_tried_again(talk: Talk, status: int, words: str) -> None:
    """A wrong key, an unknown model and a bad request end the turn with what to do."""
    turn = await talk.ask("q", Say(status=status, content="no"), Say("never"))
    assert turn.status is TurnStatus.FAILED
    assert words in (turn.cause or "")
    assert len(talk.model.requests) == 1


async def test_nonsense_from_the_model_runs_nothing(talk: Talk) -> None:
    """Arguments that do not parse and unknown tools get a result that says so; the history stays well formed."""
    turn = await talk.ask(
        "q",
        Say(calls=[("run_cell", '{"source": "open('), ("nosuch", {}), ("run_cell", {"source": "1", "extra": 1})]),
        Say("sorry"),
    )
    assert turn.answer == "sorry"
    told = talk.model.requests[-1]["messages"]
    calls = [call["id"] for message in told for call in message.get("tool_calls") or []]
    results = {m["tool_call_id"]: m["content"] for m in told if m["role"] == "tool"}
    assert list(results) == calls
    assert "wrong" in results[calls[0]]
    assert "no tool 'nosuch'" in results[calls[1]]
    assert not of(e.CellStarted, await talk.events(turn))


async def test_limits_end_a_turn(talk: Talk) -> None:
    """The turn says which limit it met."""
    turn = await talk.ask("q", *[cell(f"{n}") for n in range(9)], max_iterations=3)
    assert turn.status is TurnStatus.FAILED
    assert "3 iterations" in (turn.cause or "")


async def test_the_same_failure_three_times_asks_the_user(talk: Talk) -> None:
    """Code that fails the same way again and again is stopped."""
    turn = await talk.ask("q", *[cell("1/0") for _ in range(9)])
    assert turn.status is TurnStatus.FAILED
    assert "ZeroDivisionError" in (turn.cause or "")
    assert len(of(e.CellStarted, await talk.events(turn))) == 3


async def test_the_other_tools(talk: Talk, root: Path) -> None:
    """Every tool works through the loop, and the model reads its result."""
    session = talk.session
    (root / session.workspace / "notes.txt").write_text("one\ntwo\nthree\n")
    await talk.run("import pandas as pd\ndf = pd.DataFrame({'a': [1, None]})\nwrong = 1")
    target = (await talk.app.tools.cells.document(session.id)).cells[0]
    turn = await talk.ask(
        "q",
        Say(calls=[
            ("list_files", {}),
            ("read_file", {"name": "notes.txt", "start_line": 2, "lines": 1}),
            ("read_file", {"name": "../../etc/passwd"}),
            ("inspect_variable", {"name": "df"}),
            ("inspect_variable", {"name": "nosuch"}),
            ("write_markdown", {"source": "## Note"}),
            ("edit_cell", {"cell_id": target.id[:8], "expected_hash": "0000", "source": "x"}),
            ("edit_cell", {"cell_id": target.id[:8], "expected_hash": target.source_hash[:8], "source": "right = 2"}),
        ]),
        Say(calls=[("finish", {"answer": "All done.", "artifacts": ["notes.txt"]})]),
    )  # fmt: skip
    assert (turn.status, turn.answer) == (TurnStatus.COMPLETED, "All done.")
    results = [m["content"] for m in talk.model.requests[-1]["messages"] if m["role"] == "tool"]
    assert "notes.txt" in results[0]
    assert results[1] == "two"
    assert "no file" in results[2]
    assert "a: float64, 1 missing" in results[3]
    assert "no variable" in results[4]
    assert "was written" in results[5]
    assert "was changed since" in results[6]
    assert ": ok" in results[7]
    document = await talk.app.tools.cells.document(session.id)
    assert document[target.id].source == "right = 2"
    assert "## Note" in [c.source for c in document]


async def test_the_profiles(talk: Talk) -> None:
    """Each profile has its own prompt and tools; one that may not run cells does not."""
    prompts = {}
    for agent in ("data_analysis", "coding", "chat"):
        await talk.ask("q", Say("a"), agent=agent)
        request = talk.model.requests[-1]
        prompts[agent] = request["messages"][0]["content"]
        tools = {tool["function"]["name"] for tool in request["tools"]}
        assert ("run_cell" in tools) == (agent != "chat")
    assert len(set(prompts.values())) == 3
    for prompt in prompts.values():
        assert "50 rows" in prompt
        assert "ame the files" in prompt or "name them in your answer" in prompt
    await talk.ask("q", cell("ran = 1"), Say("a"), agent="chat")
    assert "no tool 'run_cell'" in talk.model.requests[-1]["messages"][-1]["content"]


async def test_the_prompt_says_what_is_there(talk: Talk, root: Path) -> None:
    """Files with columns, variables with shapes, and the notebook's outline reach the model unasked."""
    from cellwright.server.store.objects import Spooled

    spooled = Spooled()
    spooled.write(b"region,sales\nnorth,1\nsouth,2\n")
    artifact = await talk.app.sessions.upload(talk.session, spooled, "sales.csv")
    assert artifact.metadata["rows"] == 2
    await talk.ask("q", Say("a"), file_ids=[artifact.id])
    system = talk.model.requests[-1]["messages"][0]["content"]
    assert "sales.csv" in system
    assert "region (str)" in system or "region (object)" in system
    assert "2 rows" in system
    assert "sales: pandas.DataFrame [2, 2]" in system
    document = await talk.app.tools.cells.document(talk.session.id)
    assert "pd.read_csv('sales.csv')" in document.cells[1].source


async def test_what_cannot_be_asked(talk: Talk) -> None:
    """An empty query, an unknown file and an unknown agent are refused, and leave nothing behind."""
    before = await talk.app.log.last_seq(talk.session.id)
    for query, request, error in (
        ("  \n", TurnRequest(), Invalid),
        ("q", TurnRequest(file_ids=["5c7f0a39-8a52-4dd2-a5ee-ff3c62cf6f4b"]), NotFound),
        ("q", TurnRequest(file_ids=["nonsense"]), NotFound),
        ("q", TurnRequest(agent="nosuch"), Invalid),
    ):
        with pytest.raises(error):
            await talk.app.turns.ask(talk.session, query, request)
    assert await talk.app.log.last_seq(talk.session.id) == before


async def test_no_model_is_said_in_two_lines(talk: Talk) -> None:
    """Without a model the question is refused with what to set."""
    object.__setattr__(talk.app.settings, "model", None)
    with pytest.raises(NoModel) as caught:
        await talk.app.turns.ask(talk.session, "q", TurnRequest())
    assert "CELLWRIGHT_MODEL" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2


async def test_a_dead_kernel_is_told(talk: Talk) -> None:
    """The model is told that the kernel died and why; the next cell says that variables are gone."""
    turn = await talk.ask(
        "q", cell("kept = 1"), cell("print('before', flush=True)\nimport os; os._exit(7)"), cell("2"), Say("I see.")
    )
    assert turn.answer == "I see."
    results = [m["content"] for m in talk.model.requests[-1]["messages"] if m["role"] == "tool"]
    assert "all variables are gone" in results[1]
    assert "exit code 7" in results[1]
    assert "before" in results[1]
    changes = [(event.status, event.variables_lost) for event in of(e.KernelChanged, await talk.events(turn))]
    assert ("restarted", True) in changes


async def test_artifacts_of_a_cell(talk: Talk, root: Path) -> None:
    """Figures, tables and files become artifacts with their lineage, each content once."""
    source = """
import matplotlib.pyplot as plt, pandas as pd
from IPython.display import display, SVG, JSON, Latex, HTML
plt.plot([1, 2]); plt.title("t"); plt.show()
display(SVG("<svg xmlns='http://www.w3.org/2000/svg' width='1' height='1'/>"))
display(JSON({"a": 1})); display(Latex("$x$"))
display({"application/vnd.plotly.v1+json": {"data": []}, "text/plain": "p"}, raw=True)
display({"application/vnd.vegalite.v5+json": {"mark": "bar"}, "text/plain": "v"}, raw=True)
open("made.txt", "w").write("hi")
pd.DataFrame({"a": [1, 2]})
"""
    turn = await talk.ask("q", cell(source, "Show all"), cell(source, "Show all"), Say("done"))
    found, total = await talk.app.artifacts.page(talk.session.id, limit=100)
    kinds = sorted(artifact.file_type for artifact in found)
    assert kinds == sorted(["png", "svg", "json", "tex", "json", "json", "txt", "html"])
    assert total == 8
    table = next(artifact for artifact in found if artifact.file_type == "html")
    assert table.metadata["rows"] == 2
    assert table.metadata["columns"][0]["name"] == "a"
    for artifact in found:
        assert artifact.turn_id == turn.id
        assert artifact.cell_id
        data = b"".join([chunk async for chunk in talk.app.artifacts.read(artifact)])
        assert len(data) == artifact.size_bytes
    names = [artifact.name for artifact in found]
    assert "made.txt" in names
    assert "show-all.png" in names


async def test_long_output_is_bounded_and_whole(talk: Talk) -> None:
    """A million lines: head and tail in the notebook, every line in the text artifact."""
    ran = of(e.CellCompleted, await talk.run("for i in range(1_000_000): print('line', i)"))
    found, _ = await talk.app.artifacts.page(talk.session.id)
    text = next(a for a in found if a.created_by == "text")
    data = b"".join([chunk async for chunk in talk.app.artifacts.read(text)])
    assert data.splitlines() == [b"line %d" % i for i in range(1_000_000)]
    document = await talk.app.sessions.document(await talk.refresh())
    shown = document.cells[0].outputs[0]["text"]
    assert shown.startswith("line 0\n")
    assert shown.endswith("line 999999\n")
    assert "characters left out" in shown
    assert len(shown) < 1_200_000
    assert len(json.dumps(ran[0].outputs)) < 1_000


async def test_what_the_user_typed_into_the_file_is_kept(talk: Talk, root: Path) -> None:
    """Edits of the notebook on disk enter the log before the next turn, and are never overwritten."""
    await talk.ask("q", cell("a = 1"), Say("done"))
    session = await talk.refresh()
    path = root / session.notebook_path
    notebook = json.loads(path.read_text())
    notebook["cells"][1]["source"] = "a = 100"
    notebook["cells"].insert(0, {"cell_type": "markdown", "id": "mine", "metadata": {}, "source": "# Mine"})
    await asyncio.sleep(0.05)
    path.write_text(json.dumps(notebook))
    turn = await talk.ask("again", cell("b = 2"), Say("done"))
    edits = [event for event in await talk.events() if isinstance(event, e.CellsEdited) and event.author == "user"]
    assert len(edits) == 1
    sources = [c["source"] for c in json.loads(path.read_text())["cells"]]
    text = ["".join(source) for source in sources]
    assert text[0] == "# Mine"
    assert "a = 100" in text
    assert "b = 2" in text
    assert turn.status is TurnStatus.COMPLETED


async def test_the_notebook_at_any_revision(talk: Talk) -> None:
    """Each turn's snapshot can be read again, whatever came later."""
    first = await talk.ask("one", cell("a = 1"), Say("1"))
    before = await talk.app.tools.cells.document(talk.session.id)
    await talk.ask("two", cell("b = 2"), Say("2"))
    assert first.revision is not None
    assert await talk.app.tools.cells.document(talk.session.id, first.revision) == before
    assert len(await talk.app.tools.cells.document(talk.session.id)) == len(before) + 3


async def test_deleting_a_session_leaves_nothing(talk: Talk) -> None:
    """Rows, kernel and every object that nothing else refers to are gone."""
    await talk.run("print('x' * 200_000)\nimport matplotlib.pyplot as plt; plt.plot([1]); plt.show()")
    objects = await talk.app.artifacts.objects_of(talk.session.id)
    assert objects
    await talk.app.sessions.delete(await talk.refresh())
    with pytest.raises(NotFound):
        await talk.app.rows.get(talk.session.id)
    assert talk.app.kernels.live == 0
    for sha256 in objects:
        with pytest.raises(KeyError):
            _ = [chunk async for chunk in talk.app.artifacts.objects.read(sha256)]


async def test_a_recorded_session_plays_back(talk: Talk, root: Path) -> None:
    """A session's recording, played as a model on a new kernel, gives the same answers."""
    await talk.ask("Add.", cell("import random\nprint(id(object()))\n1 + 1", "add"), Say("2"))
    recording = await talk.app.sessions.recording(await talk.refresh())
    (root / "mine.rehearsal.json").write_text(recording.to_json().replace("print(id(object()))", "pass"))
    again = await talk.app.sessions.create("tester", model="rehearsal:mine.rehearsal.json")
    turn = await talk.app.turns.ask(again, "Add.", TurnRequest())
    turn = await talk.end(turn)
    assert turn.status is TurnStatus.FAILED
    assert "another result" in (turn.cause or "")
    (root / "mine.rehearsal.json").write_text(
        recording.model_copy(
            update={
                "turns": [
                    turn.model_copy(
                        update={
                            "replies": [
                                reply.model_copy(
                                    update={
                                        "calls": [
                                            c.model_copy(
                                                update={
                                                    "arguments": '{"source": "1 + 1"}',
                                                    "result": "cell <id>: ok\n2",
                                                }
                                            )
                                            for c in reply.calls
                                        ]
                                    }
                                )
                                for reply in turn.replies
                            ]
                        }
                    )
                    for turn in recording.turns
                ]
            }
        ).to_json()
    )
    turn = await talk.end(await talk.app.turns.ask(again, "Add.", TurnRequest()))
    assert turn.answer == "2"


async def test_a_model_that_is_down(settings: Settings, root: Path, model: OpenAIServer) -> None:
    """A refused connection ends the turn with words that name it; the question is kept, and the next one works."""
    closed = settings.model_copy(update={"api_base": f"http://127.0.0.1:{free_port()}/v1"})
    async with standalone(closed, root) as app:
        session = await app.sessions.create("tester", title="Down")
        talk = Talk(app, session, model)
        turn = await talk.ask("anyone?")
        assert turn.status == "failed"
        assert "model" in str(turn.cause).lower()
        assert "Traceback" not in str(turn.cause)
        messages, _ = await app.rows.messages(session.id)
        assert [message.content for message in messages][:1] == ["anyone?"]
        assert (await talk.run("1 + 1"))[-1].type == "turn.completed"
