"""What the surface does beyond sessions and turns, through HTTP, over embedded and served stores."""

from __future__ import annotations

import asyncio
import base64
import concurrent.futures
import contextlib
import io
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx_sse import connect_sse
from PIL import Image

from tests.api.test_http import problem
from tests.conftest import own_stores
from tests.doubles.openai_server import OpenAIServer, Say, cell
from tests.jupyter import JupyterServer
from tests.services import Services


@pytest.fixture(scope="module", params=["embedded", "served"])
def jupyter(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    cluster: Path,
    _model: OpenAIServer,
    services: Services | None,
) -> Iterator[JupyterServer]:
    environment = _model.settings
    loop, stack = asyncio.new_event_loop(), contextlib.AsyncExitStack()
    if request.param == "served":
        if services is None:
            pytest.skip(f"not installed here: {', '.join(Services.missing())}")
        stores = loop.run_until_complete(stack.enter_async_context(own_stores(services)))
        environment |= {f"CELLWRIGHT_{name.upper()}": str(value) for name, value in stores.items()}
    server = JupyterServer.fresh(tmp_path_factory.mktemp("surface"), cluster, **environment)
    try:
        yield server.start()
    finally:
        server.stop()
        loop.run_until_complete(stack.aclose())
        loop.close()


def ask(jupyter: JupyterServer, session: str, text: str, **more: Any) -> dict[str, Any]:
    """A question, to its turn's end."""
    turn = jupyter.call("POST", f"/sessions/{session}/query", json={"query": text, **more})
    return jupyter.until_ended(turn["turn_id"])


def until(met: Any, seconds: float = 20.0) -> Any:
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        if found := met():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come to that")


def test_unread_state_and_title(jupyter: JupyterServer, model: OpenAIServer) -> None:
    """A session says what it did last, what is unread, and is named after its first answer unless the user did."""
    session = jupyter.call("POST", "/sessions", json={})["id"]
    model.script([cell("6 * 7", "compute"), Say("It is 42.")])
    model.name_with = Say("The answer, computed")
    ask(jupyter, session, "What is six times seven?")
    told = until(lambda: (d := jupyter.call("GET", f"/sessions/{session}"))["title"] != "New chat" and d)
    assert told["title"] == "The answer, computed"
    assert told["unread"] == 2
    assert (told["state"]["busy"], told["state"]["last_code"]) == (False, "6 * 7")
    assert "42" in told["state"]["last_output"]
    seen = jupyter.call("PATCH", f"/sessions/{session}", json={"last_seen": told["seq"]})
    assert seen["unread"] == 0
    rows = jupyter.call("GET", "/sessions")["sessions"]
    assert next(row["unread"] for row in rows if row["id"] == session) == 0
    jupyter.call("PATCH", f"/sessions/{session}", json={"title": "Mine"})
    model.script([Say("Again.")])
    ask(jupyter, session, "Again?")
    assert jupyter.call("GET", f"/sessions/{session}")["title"] == "Mine"
    assert jupyter.call("POST", f"/sessions/{session}/generate-title")["title"] == "The answer, computed"
    model.name_with = Say(status=500)
    assert jupyter.call("POST", f"/sessions/{session}/generate-title")["title"] == "What is six times seven?"


def test_messages_are_added_edited_and_deleted(jupyter: JupyterServer, model: OpenAIServer) -> None:
    """What users do to the conversation is what the model is told next; the log keeps the former words."""
    session = jupyter.call("POST", "/sessions", json={"title": "t"})["id"]
    model.script([Say("First."), Say("Second.")])
    ask(jupyter, session, "one")
    added = jupyter.call("POST", f"/sessions/{session}/messages", json={"role": "system", "content": "Be brief."})
    question = jupyter.call("GET", f"/sessions/{session}/messages")["messages"][0]
    jupyter.call("PATCH", f"/messages/{question['id']}", json={"content": "one, edited"})
    ask(jupyter, session, "two")
    said = [(m["role"], m["content"]) for m in model.requests[-1]["messages"]][1:]
    assert said == [("user", "one, edited"), ("assistant", "First."), ("system", "Be brief."), ("user", "two")]
    events = jupyter.events(session)
    assert next(event["former"] for event in events if event["type"] == "message.edited") == "one"
    assert jupyter.http.delete(f"/messages/{added['id']}").status_code == 204
    problem(jupyter.http.delete(f"/messages/{added['id']}"), 404)
    assert jupyter.call("GET", f"/sessions/{session}")["message_count"] == 4


def test_artifacts_in_full(jupyter: JupyterServer) -> None:
    """Stored by a client, tagged, found, changed, previewed, traced, shared, and gone with their last session."""
    session, other = [jupyter.call("POST", "/sessions", json={"title": "t"})["id"] for _ in range(2)]
    path = f"/sessions/{session}/artifacts"
    table = jupyter.call("POST", path, json={"name": "a.json", "json": {"x": [1]}, "tags": {"stage": "raw"}})
    text = jupyter.call("POST", path, json={"name": "n.txt", "text": "ä\n" * 5_000, "parents": [table["id"]]})
    assert jupyter.http.get(f"/artifacts/{table['id']}/content").json() == {"x": [1]}
    picture = io.BytesIO()
    Image.new("RGB", (900, 300), "red").save(picture, "PNG")
    data = base64.b64encode(picture.getvalue()).decode()
    figure = jupyter.call("POST", path, json={"name": "f.png", "data": data, "kind": "debug", "parents": [text["id"]]})
    assert figure["expires_at"] is not None
    assert table["expires_at"] is None
    problem(jupyter.http.post(path, json={"name": "x", "text": "a", "json": 1}), 422)
    problem(jupyter.http.post(path, json={"name": "x", "data": "%%%"}), 422)
    problem(jupyter.http.post(path, json={"name": "x", "text": "a", "parents": [session]}), 404)
    for tag, found in (("stage", 1), ("stage:raw", 1), ("stage:done", 0), ("nosuch", 0)):
        assert jupyter.call("GET", path, params={"tag": tag})["total"] == found, tag
    changed = jupyter.call(
        "PATCH", f"/artifacts/{table['id']}", json={"tags": {"stage": "done"}, "description": "d", "kind": "data"}
    )
    assert (changed["tags"], changed["description"], changed["kind"]) == ({"stage": "done"}, "d", "data")
    assert jupyter.call("PATCH", f"/artifacts/{figure['id']}", json={"expires_at": None})["expires_at"] is None
    link = jupyter.call("GET", f"/artifacts/{table['id']}/url", params={"expires_hours": 1})
    assert httpx.get(link["url"], trust_env=False).json() == {"x": [1]}
    part = httpx.get(link["url"], trust_env=False, headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.content) == (206, jupyter.http.get(f"/artifacts/{table['id']}/content").content[2:5])
    small = jupyter.http.get(f"/artifacts/{figure['id']}/preview", params={"size": 90})
    assert Image.open(io.BytesIO(small.content)).size == (90, 30)
    assert jupyter.call("GET", f"/artifacts/{text['id']}/preview")["text"].startswith("ä\n")
    told = jupyter.call("POST", f"/sessions/{session}/upload", files={"file": ("t.csv", b"a,b\n1,2\n3,4\n")})
    shown = jupyter.call("GET", f"/artifacts/{told['artifact_id']}/preview")
    assert (shown["kind"], shown["rows"], shown["total_rows"]) == ("table", [[1, 2], [3, 4]], 2)
    lineage = jupyter.call("GET", f"/artifacts/{figure['id']}/lineage")
    assert {parent["name"] for parent in lineage["parents"]} == {"a.json", "n.txt"}
    assert [c["name"] for c in jupyter.call("GET", f"/artifacts/{table['id']}/lineage")["children"]] == ["n.txt"]
    problem(jupyter.http.post(f"/artifacts/{table['id']}/parents", json={"parents": [figure["id"]]}), 422)
    shared = jupyter.call("POST", f"/artifacts/{text['id']}/share", json={"session_id": other})
    assert (shared["sha256"], shared["derived_from"]) == (text["sha256"], text["id"])
    jupyter.call("DELETE", f"/sessions/{session}")
    problem(jupyter.http.get(f"/artifacts/{text['id']}"), 404)
    assert jupyter.http.get(f"/artifacts/{shared['id']}/content").text == "ä\n" * 5_000
    assert jupyter.call("GET", f"/artifacts/{shared['id']}")["access_count"] == 1


def test_a_figure_knows_its_question(jupyter: JupyterServer, model: OpenAIServer) -> None:
    """What a cell made leads back to the question and the cell."""
    session = jupyter.call("POST", "/sessions", json={"title": "t"})["id"]
    source = "import matplotlib.pyplot as plt\nplt.plot([1, 2]); plt.show()"
    model.script([cell(source, "a line"), Say("Drawn.")])
    turn = ask(jupyter, session, "draw a line")
    lineage = jupyter.call("GET", f"/artifacts/{turn['artifacts'][0]}/lineage")
    assert (lineage["prompt"], lineage["cell"]["source"], lineage["turn_id"]) == ("draw a line", source, turn["id"])


def test_search(jupyter: JupyterServer, model: OpenAIServer) -> None:
    """Words are found in messages, code, outputs and names, from their beginning, with where they stand."""
    session = jupyter.call("POST", "/sessions", json={"title": "Birds"})["id"]
    model.script([cell("wingspan_cm = 120; print('an albatross glides')", "look"), Say("Größe: **120 cm**.")])
    ask(jupyter, session, "How large is the wandering bird?")
    jupyter.call("POST", f"/sessions/{session}/upload", files={"file": ("sea_birds-2024.csv", b"a\n1\n")})
    for words, kind in (
        ("wander", "message"),
        ("größe 120", "message"),
        ("wingspan_cm", "code"),
        ("albatross", "output"),
        ("sea birds", "artifact"),
        ("birds-2024.csv", "artifact"),
    ):
        found = jupyter.call("GET", "/search", params={"q": words})
        assert kind in {r["kind"] for r in found["results"]}, (words, found)
        result = next(r for r in found["results"] if r["kind"] == kind)
        start, end = result["highlights"][0]
        assert words.split()[0][:4].lower() in result["text"][start:end].lower()
        assert result["session_id"] == session
    for words in ("nosuchword", "'; drop table", "&|!():*", "\\", "a" * 400):
        assert jupyter.http.get("/search", params={"q": words}).status_code == 200
    assert jupyter.call("GET", "/search", params={"q": "nosuchword"})["total"] == 0
    problem(jupyter.http.get("/search"), 422)


def test_context(jupyter: JupyterServer, model: OpenAIServer) -> None:
    """Facts stand in the prompt; they are merged, replaced, inherited; what the model would be sent can be seen."""
    one, two = [jupyter.call("POST", "/sessions", json={"title": "t"})["id"] for _ in range(2)]
    path = f"/sessions/{one}/context"
    jupyter.call("PATCH", path, json={"context": {"unit": "grams", "year": 2024}})
    now = jupyter.call("PATCH", path, json={"context": {"year": None, "team": ["a"]}})
    assert now["context"] == {"unit": "grams", "team": ["a"]}
    problem(jupyter.http.patch(path, json={"context": {"big": "x" * 40_000}}), 422)
    inherit = f"/sessions/{two}/context/inherit"
    assert jupyter.call("POST", inherit, json={"from": one, "keys": ["unit"]})["context"] == {"unit": "grams"}
    problem(jupyter.http.post(inherit, json={"from": one, "keys": ["nosuch"]}), 404)
    rendered = jupyter.call("GET", f"/sessions/{two}/context/rendered")
    assert "unit: grams" in rendered["messages"][0]["content"]
    assert rendered["tokens"]["total"] == sum(v for name, v in rendered["tokens"].items() if name != "total")
    model.script([Say(calls=[("remember", {"name": "outliers", "fact": "keep them"})]), Say("Noted.")])
    ask(jupyter, two, "Keep the outliers.")
    assert jupyter.call("GET", f"/sessions/{two}/context")["context"]["outliers"] == "keep them"
    assert jupyter.call("PATCH", path, json={"context": {}, "mode": "replace"})["context"] == {}


def test_compress(jupyter: JupyterServer, model: OpenAIServer) -> None:
    """A summary stands for older turns, with every artifact; a bad reply changes nothing."""
    session = jupyter.call("POST", "/sessions", json={"title": "t"})["id"]
    problem(jupyter.http.post(f"/sessions/{session}/context/compress", json={}), 409)
    model.script(
        [cell("open('kept.txt', 'w').write('x')", "write"), Say("Mean mass is 4201 g."), Say("Yes."), Say("No.")]
    )
    for text in ("What is the mean mass?", "Is it large?", "Is it small?"):
        ask(jupyter, session, text)
    for bad in (Say("ok"), Say("word " * 3_000), Say("x" * 200, finish="length"), Say(status=400)):
        model.script([bad])
        problem(jupyter.http.post(f"/sessions/{session}/context/compress", json={"max_tokens": 500}), 502)
        assert jupyter.call("GET", f"/sessions/{session}/context")["summary"] is None
    summary = "The user asked for the mean mass, which is 4201 g, and whether that is large; the agent said that it is."
    model.script([Say(summary)])
    now = jupyter.call("POST", f"/sessions/{session}/context/compress", json={"max_tokens": 500})["summary"]
    assert now["through_turn"] == 2
    assert summary in now["text"]
    assert "kept.txt" in now["text"]
    jupyter.call("PATCH", f"/sessions/{session}", json={"preferences": {"max_context_messages": 2}})
    rendered = jupyter.call("GET", f"/sessions/{session}/context/rendered")
    assert rendered["turns_in_full"] == 1
    assert summary in rendered["messages"][0]["content"]


def test_preferences(jupyter: JupyterServer, model: OpenAIServer) -> None:
    """A user's hold for new sessions, a session's own override them; nonsense is refused."""
    problem(jupyter.http.patch("/preferences", json={"default_agent": "nosuch"}), 422)
    problem(jupyter.http.patch("/preferences", json={"nosuch": 1}), 422)
    problem(jupyter.http.post("/sessions", json={"preferences": {"approval": "never"}}), 422)
    told = jupyter.call(
        "PATCH", "/preferences", json={"default_agent": "coding", "preferred_workflows": ["Plot first."]}
    )
    try:
        assert told["max_context_messages"] == 20
        session = jupyter.call("POST", "/sessions", json={})
        assert session["agent"] == "coding"
        rendered = jupyter.call("GET", f"/sessions/{session['id']}/context/rendered")
        assert "Plot first." in rendered["messages"][0]["content"]
    finally:
        jupyter.call("PATCH", "/preferences", json={"default_agent": None, "preferred_workflows": []})


def test_a_repeat_does_nothing_twice(jupyter: JupyterServer, model: OpenAIServer) -> None:
    """An Idempotency-Key makes a repeat answer as the first did; for another request it is refused."""
    key = {"Idempotency-Key": "made-by-the-client"}
    first = jupyter.http.post("/sessions", json={"title": "once"}, headers=key)
    again = jupyter.http.post("/sessions", json={"title": "once"}, headers=key)
    assert (first.status_code, again.status_code, again.json()["id"]) == (201, 201, first.json()["id"])
    assert again.headers["Idempotency-Replayed"] == "true"
    problem(jupyter.http.post("/sessions", json={"title": "twice"}, headers=key), 422)
    session = first.json()["id"]
    model.script([Say("Once."), Say("Twice!")])
    key = {"Idempotency-Key": "q1"}
    turns = [jupyter.http.post(f"/sessions/{session}/query", json={"query": "q"}, headers=key).json() for _ in range(3)]
    assert len({turn["turn_id"] for turn in turns}) == 1
    jupyter.until_ended(turns[0]["turn_id"])
    told = []
    with connect_sse(
        jupyter.http,
        "POST",
        f"/sessions/{session}/query",
        json={"query": "q"},
        headers={**key, "Accept": "text/event-stream"},
    ) as source:
        told = [event.event for event in source.iter_sse()]
    assert told[-1] == "turn.completed"
    assert jupyter.call("GET", f"/sessions/{session}/turns")["total"] == 1
    # One that failed did nothing, and may be sent again.
    key = {"Idempotency-Key": "fails-first"}
    problem(jupyter.http.post("/sessions", json={"agent": "nosuch"}, headers=key), 422)
    assert jupyter.http.post("/sessions", json={"agent": "coding"}, headers=key).status_code == 201
    files = {"file": ("a.csv", b"a\n1\n")}
    key = {"Idempotency-Key": "upload"}
    made = [jupyter.http.post(f"/sessions/{session}/upload", files=files, headers=key).json() for _ in range(2)]
    # httpx makes up a new boundary for each; the file is what counts.
    assert made[0]["artifact_id"] == made[1]["artifact_id"]
    problem(jupyter.http.post("/sessions", json={}, headers={"Idempotency-Key": "x" * 300}), 422)
    # A deletion is answered as it was, by key and by id: that the thing is gone is what was asked for.
    jupyter.call("POST", "/sessions", json={"key": "to-be-deleted"})
    for name in ("to-be-deleted", session):
        key = {"Idempotency-Key": f"delete {name}"}
        said = [jupyter.http.delete(f"/sessions/{name}", headers=key).status_code for _ in range(2)]
        assert said == [204, 204], name


def test_approval(jupyter: JupyterServer, model: OpenAIServer) -> None:
    """A risky cell waits for the user's word, which may change or reject it; a harmless one does not."""
    session = jupyter.call("POST", "/sessions", json={"title": "t", "preferences": {"approval": "ask-risky"}})["id"]
    model.script(
        [
            cell("x = 20 + 22", "compute"),
            cell("import os\nos.remove('nosuch.txt')", "clean up"),
            cell("import subprocess\nsubprocess.run(['ls'])", "look"),
            Say("Done."),
        ]
    )
    turn = jupyter.call("POST", f"/sessions/{session}/query", json={"query": "go"})
    path = f"/turns/{turn['turn_id']}"

    def waiting() -> Any:
        return jupyter.call("GET", path)["approvals"]

    first = until(waiting)[0]
    assert "deletes files" in first["reasons"][0]
    assert jupyter.call("GET", f"/sessions/{session}")["state"]["current_operation"] == "waiting for approval"
    problem(jupyter.http.post(f"{path}/approvals/nosuch", json={"decision": "approve"}), 404)
    decided = {"decision": "approve", "source": "print('left alone', x)"}
    jupyter.call("POST", f"{path}/approvals/{first['call_id']}", json=decided)
    problem(jupyter.http.post(f"{path}/approvals/{first['call_id']}", json=decided), 409)
    second = until(lambda: [w for w in waiting() if "subprocess" in w["source"]])[0]
    jupyter.call("POST", f"{path}/approvals/{second['call_id']}", json={"decision": "reject", "reason": "not here"})
    assert jupyter.until_ended(turn["turn_id"])["status"] == "completed"
    results = [m["content"] for m in model.requests[-1]["messages"] if m["role"] == "tool"]
    assert "left alone 42" in results[1]
    assert "the user changed the code" in results[1]
    assert "did not allow" in results[2]
    assert "not here" in results[2]
    sources = [c["source"] for c in jupyter.call("GET", f"/sessions/{session}/notebook")["cells"]]
    assert not any("subprocess" in source for source in sources)


def test_a_waiting_cell_can_be_stopped(jupyter: JupyterServer, model: OpenAIServer) -> None:
    """Nothing but a decision ends the waiting; stopping the turn does, and runs nothing."""
    session = jupyter.call("POST", "/sessions", json={"title": "t"})["id"]
    model.script([cell("1 + 1")])
    turn = jupyter.call("POST", f"/sessions/{session}/query", json={"query": "go", "approval": "ask"})
    until(lambda: jupyter.call("GET", f"/turns/{turn['turn_id']}")["approvals"])
    jupyter.call("POST", f"/turns/{turn['turn_id']}/stop")
    ended = jupyter.until_ended(turn["turn_id"])
    assert (ended["status"], ended["cells"], ended["approvals"]) == ("stopped", [], [])


def test_quick(jupyter: JupyterServer, model: OpenAIServer) -> None:
    """One call, one answer; the session is made on first use and remembered by its key."""
    model.script([cell("total = 6 * 7\ntotal", "compute"), Say("42."), Say("Still 42.")])
    context = {"session_id": "session_456", "variables": {"x": 1}, "cell_count": 3}
    first = jupyter.call("POST", "/agent/quick", json={"query": "6*7?", "context": context})
    assert (first["answer"], first["code"], first["is_error"]) == ("42.", ["total = 6 * 7\ntotal"], False)
    assert "total" in [v["name"] for v in first["variables"]]
    assert first["usage"]["calls"] == 2
    second = jupyter.call("POST", "/agent/quick", json={"query": "Sure?", "context": {"session_id": "session_456"}})
    assert (second["session_id"], second["answer"]) == (first["session_id"], "Still 42.")
    model.script([Say(status=401)])
    failed = jupyter.call("POST", "/agent/quick", json={"query": "?", "context": {"session_id": "session_456"}})
    assert failed["is_error"]
    assert "key" in failed["answer"]


def test_images_for_models_that_see(jupyter: JupyterServer, model: OpenAIServer) -> None:
    """A picture with a question is kept; a model that sees is shown it; what is no picture is refused."""
    session = jupyter.call("POST", "/sessions", json={"title": "t", "model": "openai/gpt-4o"})["id"]
    picture = io.BytesIO()
    Image.new("RGB", (8, 8), "blue").save(picture, "PNG")
    data = base64.b64encode(picture.getvalue()).decode()
    model.script([Say("Blue.")])
    documents = [{"name": "note.txt", "content": "a note"}]
    ask(jupyter, session, "Which colour?", images=[{"data": f"data:image/png;base64,{data}"}], documents=documents)
    content = model.requests[-1]["messages"][-1]["content"]
    assert content[1]["image_url"]["url"] == f"data:image/png;base64,{data}"
    files = jupyter.call("GET", f"/sessions/{session}/files")["files"]
    assert [file["name"] for file in files] == ["note.txt"]
    for bad in ("AAAA", "data:text/html;base64,PGI+", "%"):
        problem(jupyter.http.post(f"/sessions/{session}/query", json={"query": "q", "images": [{"data": bad}]}), 422)


def test_usage_models_metrics_and_cleaning(jupyter: JupyterServer, model: OpenAIServer) -> None:
    """What calls cost by session, model and day; which models there are; figures for Prometheus; cleaning by hand."""
    session = jupyter.call("POST", "/sessions", json={"title": "t"})["id"]
    model.script([Say("Yes.")])
    ask(jupyter, session, "?")
    by_session = jupyter.call("GET", "/usage", params={"by": "session"})["usage"]
    mine = next(row for row in by_session if row["group"] == session)
    assert mine["calls"] == 1
    assert mine["prompt_tokens"] > 100
    assert jupyter.call("GET", "/usage", params={"by": "model"})["usage"][0]["group"].startswith("openai/")
    today = datetime.now(UTC)
    assert jupyter.call("GET", "/usage")["usage"][-1]["group"] == today.strftime("%Y-%m-%d")
    later = {"from": (today + timedelta(days=1)).isoformat()}
    assert jupyter.call("GET", "/usage", params=later)["usage"] == []
    problem(jupyter.http.get("/usage", params={"from": "yesterday"}), 422)
    known = {m["name"]: m for m in jupyter.call("GET", "/models")["models"]}
    assert known["openai/scripted"]["default"]
    assert any(name.startswith("rehearsal:") for name in known)
    figures = httpx.get(f"{jupyter.url}metrics", headers={"Authorization": "token testing"}, trust_env=False).text
    assert 'cellwright_turns_total{kind="ask",status="completed"}' in figures
    assert 'cellwright_kernels{state="live"}' in figures
    gone = jupyter.call("POST", f"/sessions/{session}/artifacts", json={"name": "x.txt", "text": "old"})
    past = (today - timedelta(days=1)).isoformat()
    jupyter.call("PATCH", f"/artifacts/{gone['id']}", json={"expires_at": past})
    counted = jupyter.call("POST", "/clean", json={"dry_run": True})
    assert {c["what"]: c["count"] for c in counted["cleaned"]}["expired artifacts"] == 1
    assert jupyter.http.get(f"/artifacts/{gone['id']}").status_code == 200
    done = jupyter.call("POST", "/clean")
    assert [c for c in done["cleaned"] if c["problem"]] == []
    problem(jupyter.http.get(f"/artifacts/{gone['id']}"), 404)


def test_adopting_a_notebook(jupyter: JupyterServer) -> None:
    """An existing notebook becomes a session's, in its own folder; what is none, or another's already, is refused."""
    folder = jupyter.root / f"mine-{time.monotonic_ns()}"
    folder.mkdir()
    cells = [{"cell_type": "code", "id": "abc", "source": "x = 1", "metadata": {}, "outputs": [], "execution_count": 1}]
    notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (folder / "work.ipynb").write_text(json.dumps(notebook))
    path = f"{folder.name}/work.ipynb"
    session = jupyter.call("POST", "/sessions", json={"notebook_path": path})
    assert (session["title"], session["workspace"], session["notebook_path"]) == ("work", folder.name, path)
    jupyter.call("POST", f"/sessions/{session['id']}/execute", json={"source": "open('here.txt', 'w').close()"})
    assert (folder / "here.txt").exists()
    written = json.loads((folder / "work.ipynb").read_text())
    assert ["".join(c["source"]) for c in written["cells"]] == ["x = 1", "open('here.txt', 'w').close()"]
    problem(jupyter.http.post("/sessions", json={"notebook_path": path}), 409)
    (folder / "broken.ipynb").write_text("{")
    for bad in ("nosuch.ipynb", "../x.ipynb", f"{folder.name}/broken.ipynb", f"{folder.name}/here.txt", "/etc/passwd"):
        problem(jupyter.http.post("/sessions", json={"notebook_path": bad}), 422)


def test_the_docs_page(jupyter: JupyterServer) -> None:
    """The page and what it is made of come from here, under a policy that lets it reach nothing else."""
    page = jupyter.http.get("/docs")
    assert "swagger-ui-bundle.js" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for name in ("swagger-ui.css", "swagger-ui-bundle.js", "start.js"):
        assert len(jupyter.http.get(f"/docs/{name}").content) > 300
    problem(jupyter.http.get("/docs/index.js"), 404)


def test_what_a_client_may_not_claim(jupyter: JupyterServer) -> None:
    """Pictures by hash, odd types, and times that no calendar has are refused before they are kept."""
    session = jupyter.call("POST", "/sessions", json={"title": "t"})["id"]
    images = [{"sha256": "xx/etc/hostname", "mime_type": "image/png"}]
    for metadata in ({"images": images}, {"images": [1]}, {"file_ids": 1}):
        problem(jupyter.http.post(f"/sessions/{session}/messages", json={"content": "c", "metadata": metadata}), 422)
    kept = jupyter.call("POST", f"/sessions/{session}/artifacts", json={"name": "a.txt", "text": "a"})
    for time_ in ("9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "2024-01-01T00:00:00"):
        problem(jupyter.http.patch(f"/artifacts/{kept['id']}", json={"expires_at": time_}), 422)
        body = {"name": "b.txt", "text": "b", "expires_at": time_}
        problem(jupyter.http.post(f"/sessions/{session}/artifacts", json=body), 422)
        problem(jupyter.http.get("/usage", params={"from": time_}), 422)
    body = {"name": "b", "text": "b", "mime_type": "中/中"}
    problem(jupyter.http.post(f"/sessions/{session}/artifacts", json=body), 422)


def test_facts_that_are_set_at_once_are_all_kept(jupyter: JupyterServer) -> None:
    """Whoever merges, the user or the agent, takes nothing from the other."""
    session = jupyter.call("POST", "/sessions", json={"title": "t"})["id"]
    path = f"/sessions/{session}/context"
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: jupyter.call("PATCH", path, json={"context": {f"fact{n}": n}}), range(16)))
    assert jupyter.call("GET", path)["context"] == {f"fact{n}": n for n in range(16)}


def test_a_message_before_the_first_turn(jupyter: JupyterServer, model: OpenAIServer) -> None:
    """It is told to the model; a question that is removed leaves a history that any provider takes."""
    session = jupyter.call("POST", "/sessions", json={"title": "t"})["id"]
    jupyter.call("POST", f"/sessions/{session}/messages", json={"role": "system", "content": "Amounts are in euros."})
    model.script([Say("First."), Say("Second."), Say("Third.")])
    ask(jupyter, session, "one, a secret")
    assert [m["content"] for m in model.requests[-1]["messages"]][1:] == ["Amounts are in euros.", "one, a secret"]
    messages = jupyter.call("GET", f"/sessions/{session}/messages")["messages"]
    for message in messages[:2]:
        jupyter.call("DELETE", f"/messages/{message['id']}")
    ask(jupyter, session, "two")
    told = [(m["role"], m["content"]) for m in model.requests[-1]["messages"]][1:]
    assert told == [("user", "(removed)"), ("assistant", "First."), ("user", "two")]
    jupyter.call("PATCH", f"/sessions/{session}", json={"preferences": {"max_context_messages": 1}})
    ask(jupyter, session, "three")
    earlier = model.requests[-1]["messages"][0]["content"].partition("Earlier in this conversation")[2]
    assert "a secret" not in earlier  # The notebook's cell is another matter: it stays.
    assert "First." in earlier


def test_many_decisions_at_once(jupyter: JupyterServer, model: OpenAIServer) -> None:
    """Decisions that come together hold nothing else up; one counts."""
    session = jupyter.call("POST", "/sessions", json={"title": "t"})["id"]
    model.script([cell("1"), Say("Done.")])
    turn = jupyter.call("POST", f"/sessions/{session}/query", json={"query": "go", "approval": "ask"})
    call_id = until(lambda: jupyter.call("GET", f"/turns/{turn['turn_id']}")["approvals"])[0]["call_id"]
    path = f"/turns/{turn['turn_id']}/approvals/{call_id}"
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        said = list(pool.map(lambda _: jupyter.http.post(path, json={"decision": "approve"}).status_code, range(24)))
    assert sorted(said) == [200, *[409] * 23]
    assert jupyter.until_ended(turn["turn_id"])["status"] == "completed"


def test_a_server_that_stops_while_a_cell_waits(jupyter: JupyterServer, model: OpenAIServer) -> None:
    """The next server waits on; the decision that it is told then is what happens."""
    session = jupyter.call("POST", "/sessions", json={"title": "t"})["id"]
    model.script([cell("40 + 2"), Say("Done.")])
    turn = jupyter.call("POST", f"/sessions/{session}/query", json={"query": "go", "approval": "ask"})
    until(lambda: jupyter.call("GET", f"/turns/{turn['turn_id']}")["approvals"])
    jupyter.restart()
    waiting = until(lambda: jupyter.call("GET", f"/turns/{turn['turn_id']}")["approvals"])
    jupyter.call("POST", f"/turns/{turn['turn_id']}/approvals/{waiting[0]['call_id']}", json={"decision": "approve"})
    ended = jupyter.until_ended(turn["turn_id"])
    assert (ended["status"], [cell["status"] for cell in ended["cells"]]) == ("completed", ["ok"])


def test_arrays_and_images_close_up(jupyter: JupyterServer) -> None:
    """An array's summary and an image's thumbnail; large ones are looked at in part."""
    session = jupyter.call("POST", "/sessions", json={"title": "t"})["id"]
    source = """
import numpy as np
from PIL import Image
numbers = np.array([1.0, np.nan, 3.0])
large = np.arange(20_000_000.0)
pixels = np.zeros((300, 600, 3), dtype="uint8"); pixels[..., 0] = 255
picture = Image.new("RGB", (300, 200), "blue")
words = np.array(["a"])
"""
    jupyter.call("POST", f"/sessions/{session}/execute", json={"source": source})

    def told(name: str) -> Any:
        return jupyter.call("GET", f"/sessions/{session}/variables/{name}")

    summary = told("numbers")["summary"]
    assert (summary["min"], summary["max"], summary["mean"], summary["nulls"]) == (1, 3, 2, 1)
    assert told("large")["summary"]["every"] == 1_000
    assert told("words")["summary"] is None
    for name, size, colour in (("pixels", (128, 64), (255, 0, 0)), ("picture", (128, 85), (0, 0, 255))):
        data = base64.b64decode(told(name)["thumbnail"].partition(",")[2])
        image = Image.open(io.BytesIO(data))
        assert (image.size, image.convert("RGB").getpixel((5, 5))) == (size, colour), name


def test_pages(jupyter: JupyterServer) -> None:
    """A list goes on by offset or by page; both at once, and arguments that there are not, are refused."""
    made = [
        jupyter.call("POST", "/sessions", json={"title": f"p{n}", "metadata": {"pages": "1"}})["id"] for n in range(5)
    ]
    asked = {"metadata.pages": "1", "limit": 2}
    found = [jupyter.call("GET", "/sessions", params={**asked, "page": n})["sessions"] for n in (1, 2, 3)]
    assert [row["id"] for page in found for row in page] == made[::-1]
    problem(jupyter.http.get("/sessions", params={**asked, "page": 1, "offset": 1}), 422)
    for wrong in ({"page": 0}, {"pages": 1}, {"titel": "x"}):
        problem(jupyter.http.get("/sessions", params=wrong), 422)


def test_the_log_by_turns(jupyter: JupyterServer, session: str) -> None:
    """The last turns come with all that happened since they began; those before them, up to where these begin."""
    for n in range(1, 6):
        jupyter.call("POST", f"/sessions/{session}/execute", json={"source": f"x = {n}"})
    seq = jupyter.call("GET", f"/sessions/{session}")["seq"]
    last = jupyter.call("GET", f"/sessions/{session}/log", params={"turns": 2})
    assert (last["first_turn"], last["turn_count"]) == (4, 5)
    before = jupyter.call("GET", f"/sessions/{session}/log", params={"turns": 3, "before": 4})
    assert before["first_turn"] == 1
    told = [event["id"] for event in (*before["events"], *last["events"])]
    assert told == list(range(1, len(told) + 1))
    assert len(told) >= seq
    assert last["events"][0]["event"] == "turn.queued"
    whole = jupyter.call("GET", f"/sessions/{session}/log")["events"]
    assert len(whole) >= len(told)
    # The last turn's point may be kept meanwhile.
    streamed = jupyter.events(session)[: len(whole)]
    assert [(e["event"], e["id"]) for e in whole] == [(e["type"], e["seq"]) for e in streamed]
    assert jupyter.http.get(f"/sessions/{session}/log", params={"before": 9}).status_code == 422
    # JupyterLab puts the time behind every address.
    assert jupyter.http.get(f"/sessions/{session}/log?turns=2&1795299368089").status_code == 200


def test_a_page_of_the_log_is_bounded(jupyter: JupyterServer, session: str) -> None:
    """Large turns come in smaller pages, of one turn at least; together they are all that happened."""
    large = "x = '" + "x" * 190_000 + "'"
    for _ in range(30):
        jupyter.call("POST", f"/sessions/{session}/execute", json={"source": large})
    pages: list[dict[str, Any]] = []
    before: dict[str, int] = {}
    while before != {"before": 1}:
        page = jupyter.http.get(f"/sessions/{session}/log", params={"turns": 100, **before})
        assert len(page.content) < 9_000_000
        pages.insert(0, page.json())
        before = {"before": page.json()["first_turn"]}
    assert len(pages) > 1
    told = [event["id"] for page in pages for event in page["events"]]
    assert told == list(range(1, told[-1] + 1))


def test_large_values_of_outputs(jupyter: JupyterServer, session: str) -> None:
    """What an event refers to can be had whole, by whoever may see the session, and from no other session."""
    jupyter.call("POST", f"/sessions/{session}/execute", json={"source": "print('long ' * 20_000)"})
    (ran,) = (event for event in jupyter.events(session) if event["type"] == "cell.completed")
    (output,) = ran["outputs"]
    name = output["text"]["cellwright/object"]
    held = jupyter.http.get(f"/sessions/{session}/objects/{name}")
    assert held.text == "long " * 20_000 + "\n"
    assert "immutable" in held.headers["cache-control"]
    other = jupyter.call("POST", "/sessions", json={})["id"]
    assert jupyter.http.get(f"/sessions/{other}/objects/{name}").status_code == 404
    assert jupyter.http.get(f"/sessions/{session}/objects/{'0' * 64}").status_code == 404
