"""Who writes the open notebook: its tabs, and what becomes of every save."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from tornado import websocket

from tests.api.test_adapters import opened, until
from tests.doubles.openai_server import OpenAIServer
from tests.jupyter import JupyterServer


def run(jupyter: JupyterServer, session: str, source: str) -> str:
    """Runs a cell; returns its id."""
    return str(jupyter.call("POST", f"/sessions/{session}/execute", json={"source": source})["cell_id"])


def file_of(jupyter: JupyterServer, session: str) -> tuple[Path, dict[str, Any]]:
    path = jupyter.root / jupyter.call("GET", f"/sessions/{session}")["notebook_path"]
    return path, json.loads(path.read_text())


def save(jupyter: JupyterServer, session: str, notebook: dict[str, Any]) -> dict[str, Any]:
    """Saves as JupyterLab does."""
    path = jupyter.call("GET", f"/sessions/{session}")["notebook_path"]
    body = {"type": "notebook", "format": "json", "content": notebook}
    answer = jupyter.http.put(f"{jupyter.url}api/contents/{path}", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def sources(notebook: dict[str, Any]) -> list[str]:
    return ["".join(cell["source"]) for cell in notebook["cells"]]


def logged(jupyter: JupyterServer, session: str) -> dict[str, Any]:
    return dict(jupyter.call("GET", f"/sessions/{session}/notebook"))


def edited(notebook: dict[str, Any], place: int, source: str, tab: str = "") -> dict[str, Any]:
    changed = copy.deepcopy(notebook)
    changed["cells"][place]["source"] = source
    if tab:
        changed["metadata"]["cellwright"]["tab"] = tab
    return changed


def test_a_stale_save_takes_nothing_away(jupyter: JupyterServer, session: str) -> None:
    """What was run since the saved copy was read stays; what was typed into the copy is in the log at once."""
    run(jupyter, session, "a = 1")
    _, stale = file_of(jupyter, session)
    run(jupyter, session, "b = 2")
    save(jupyter, session, edited(stale, 0, "a = 1  # mine"))
    assert sources(logged(jupyter, session)) == ["a = 1  # mine", "b = 2"]
    assert sources(file_of(jupyter, session)[1]) == ["a = 1  # mine", "b = 2"]
    edits = [event for event in jupyter.events(session) if event["type"] == "cells.edited"]
    assert [event["author"] for event in edits] == ["user"]


def test_saves_of_one_tab_follow_each_other(jupyter: JupyterServer, session: str) -> None:
    """A tab that saves twice before it hears of the first save has not changed its own words twice."""
    run(jupyter, session, "a = 1")
    _, read = file_of(jupyter, session)
    save(jupyter, session, edited(read, 0, "first", "one"))
    save(jupyter, session, edited(read, 0, "second", "one"))
    assert sources(logged(jupyter, session)) == ["second"]


def test_saves_of_two_tabs_are_joined(jupyter: JupyterServer, session: str) -> None:
    """Two tabs that read one state and change different cells: both changes hold, in whatever order they save."""
    run(jupyter, session, "a = 1")
    run(jupyter, session, "b = 2")
    _, read = file_of(jupyter, session)
    save(jupyter, session, edited(read, 0, "a by one", "one"))
    save(jupyter, session, edited(read, 1, "b by two", "two"))
    save(jupyter, session, edited(read, 0, "a by one, again", "one"))
    assert sources(logged(jupyter, session)) == ["a by one, again", "b by two"]
    assert "tab" not in file_of(jupyter, session)[1]["metadata"]["cellwright"]


def test_a_save_that_says_nothing_new(jupyter: JupyterServer, session: str) -> None:
    """It is written, and the log is not told of it again."""
    run(jupyter, session, "a = 1")
    _, read = file_of(jupyter, session)
    save(jupyter, session, read)
    before = jupyter.call("GET", f"/sessions/{session}")["seq"]
    answer = save(jupyter, session, read)
    assert answer["last_modified"]
    # The point of the turn may be kept meanwhile.
    assert {event["type"] for event in jupyter.events(session)[before:]} <= {"checkpoint.created"}


def test_our_kernelspec_is_no_part_of_the_notebook(jupyter: JupyterServer, session: str) -> None:
    """JupyterLab notes the kernel that a tab is attached to; the notebook shall still run anywhere."""
    run(jupyter, session, "a = 1")
    _, read = file_of(jupyter, session)
    read["metadata"]["kernelspec"] = {"name": "cellwright", "display_name": "Python (Cellwright)", "language": "python"}
    read["metadata"]["mine"] = {"kept": True}
    save(jupyter, session, read)
    metadata = file_of(jupyter, session)[1]["metadata"]
    assert metadata["kernelspec"]["name"] == "python3"
    assert metadata["mine"] == {"kept": True}


def test_copies_and_nonsense_are_saved_as_they_come(jupyter: JupyterServer, session: str) -> None:
    """A copy under another name is nobody's working copy; what names no session of ours is left alone."""
    run(jupyter, session, "a = 1")
    _, read = file_of(jupyter, session)
    nobody = {"session_id": "6c5f8d3e-0000-4000-8000-000000000000", "revision": 3}
    for name, ours in (("copy.ipynb", read["metadata"]["cellwright"]), ("odd.ipynb", nobody), ("text.ipynb", "text")):
        changed = edited(read, 0, "changed in the copy")
        changed["metadata"]["cellwright"] = ours
        body = {"type": "notebook", "format": "json", "content": changed}
        assert jupyter.http.put(f"{jupyter.url}api/contents/{name}", json=body).status_code == 201
        assert sources(json.loads((jupyter.root / name).read_text())) == ["changed in the copy"]
    assert sources(logged(jupyter, session)) == ["a = 1"]


async def claim(jupyter: JupyterServer, session: str, tab: str) -> tuple[websocket.WebSocketClientConnection, bool]:
    """Opens the notebook in a tab; whether that one is to save."""
    socket = await opened(jupyter, session)
    path = jupyter.call("GET", f"/sessions/{session}")["notebook_path"]
    await socket.write_message(json.dumps({"type": "document.claim", "path": path, "tab_id": tab, "id": "c"}))
    return socket, (await until(socket, "document.joined"))[-1]["data"]["writer"]


async def test_while_a_tab_has_it_open_we_do_not_write(
    jupyter: JupyterServer, session: str, model: OpenAIServer
) -> None:
    """The file stays as it is, the first tab saves; the next takes its place; after the last we write again."""
    run(jupyter, session, "a = 1")
    first, writes = await claim(jupyter, session, "one")
    second, writes_too = await claim(jupyter, session, "two")
    assert (writes, writes_too) == (True, False)
    path, before = file_of(jupyter, session)
    run(jupyter, session, "b = 2")
    assert sources(file_of(jupyter, session)[1]) == sources(before) == ["a = 1"]
    first.close()
    assert (await until(second, "document.joined"))[-1]["data"]["writer"]
    save(jupyter, session, before)
    assert (await until(second, "notebook.saved"))[-1]["data"]["path"] == str(path.relative_to(jupyter.root))
    assert sources(file_of(jupyter, session)[1]) == ["a = 1", "b = 2"]
    await second.write_message(json.dumps({"type": "document.leave", "id": "l"}))
    await until(second, "accepted")
    run(jupyter, session, "c = 3")
    assert sources(file_of(jupyter, session)[1]) == ["a = 1", "b = 2", "c = 3"]
    second.close()


async def test_claims_of_other_notebooks_are_refused(jupyter: JupyterServer, session: str) -> None:
    """A tab can only hold the session's own notebook."""
    socket = await opened(jupyter, session)
    await socket.write_message(json.dumps({"type": "document.claim", "path": "else.ipynb", "tab_id": "t", "id": "c"}))
    (told,) = [message for message in await until(socket, "problem") if message["event"] == "problem"]
    assert told["data"]["status"] == 422
    socket.close()


def test_a_tab_that_heard_half_of_its_own_save(jupyter: JupyterServer, session: str) -> None:
    """It saves again from a later revision that lacks its first save: no copy is made of its own words."""
    run(jupyter, session, "a = 1")
    _, read = file_of(jupyter, session)
    run(jupyter, session, "b = 2")
    between = jupyter.call("GET", f"/sessions/{session}")["revision"]
    save(jupyter, session, edited(read, 0, "a, typed", "one"))
    later = edited(read, 0, "a, typed on", "one")
    later["metadata"]["cellwright"]["revision"] = between
    later["cells"].append(logged(jupyter, session)["cells"][1])
    save(jupyter, session, later)
    assert sources(logged(jupyter, session)) == ["a, typed on", "b = 2"]


def test_a_save_of_mere_metadata_is_told(jupyter: JupyterServer, session: str) -> None:
    """The file is another then, and the other tabs must know, or they are told that it changed."""
    run(jupyter, session, "a = 1")
    _, read = file_of(jupyter, session)
    save(jupyter, session, read)
    before = len(jupyter.events(session))
    read["metadata"]["toc"] = {"shown": True}
    save(jupyter, session, read)
    assert "notebook.saved" in [event["type"] for event in jupyter.events(session)[before:]]
