"""With jupyter-collaboration: the shared document is edited on the server, and every tab shows it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cellwright.notebooks.document import digest
from playwright.sync_api import Browser, expect

from tests.browser.lab import NOTEBOOK, SLOW_MS, Lab, LabServer
from tests.doubles.openai_server import OpenAIServer, Say, cell

ADDED = Path(__file__).parents[2] / ".collab"
SLOW_CELL = "import time\nfor i in range(8):\n    print('step', i, flush=True)\n    time.sleep(0.25)"


@pytest.fixture(scope="module")
def jupyter(
    tmp_path_factory: pytest.TempPathFactory, cluster: Path, labextensions: Path, _lab_model: OpenAIServer
) -> Iterator[LabServer]:
    """JupyterLab with jupyter-collaboration, which `make test` puts beside the rest."""
    if not ADDED.exists():
        pytest.skip("jupyter-collaboration is not there: make .collab/stamp")
    places = {
        "PYTHONPATH": str(ADDED),
        "JUPYTER_PATH": str(ADDED / "share" / "jupyter"),
        "JUPYTER_CONFIG_PATH": str(ADDED / "etc" / "jupyter"),
    }
    folder = tmp_path_factory.mktemp("shared")
    server = LabServer.fresh(folder, cluster, labextensions=labextensions, **places, **_lab_model.settings)
    try:
        yield server.start(f"--SQLiteYStore.db_path={folder / 'ystore.db'}")
    finally:
        server.stop()


def begun(lab: Lab, model: OpenAIServer) -> str:
    """A session with one turn, its shared notebook open beside the chat."""
    model.script([cell("x = 41\nx", "Make x"), Say("x is 41.")])
    lab.open()
    session = lab.new_chat()
    lab.ask("Make x.")
    lab.ended(1)
    lab.open_notebook()
    expect(lab.cells).to_have_count(3)
    assert lab.page.evaluate(f"{NOTEBOOK}.model.collaborative")
    return session


def typed(lab: Lab, session: str) -> list[str]:
    """Sources of the code cells that the log holds."""
    return [source for kind, source in lab.in_log(session) if kind == "code"]


def test_cells_appear_and_fill(lab: Lab, model: OpenAIServer) -> None:
    """The agent's cell comes and prints while it runs; the user's cell runs on the session's kernel."""
    session = begun(lab, model)
    model.script([cell(SLOW_CELL, "Count"), Say("Counted.")])
    lab.ask("Count slowly.")
    expect(lab.cells.filter(has_text="step 0").first).to_be_visible(timeout=SLOW_MS)
    assert lab.turn(2).get_attribute("data-status") == "running"
    lab.ended(2)
    expect(lab.cells.filter(has_text="step 7")).to_have_count(1)
    expect(lab.cells).to_have_count(6)
    lab.type_cell("x + 1")
    lab.page.keyboard.press("Shift+Enter")
    expect(lab.cells.filter(has_text="42")).to_have_count(1)
    lab.agree(session)


def test_typing_while_the_agent_works(lab: Lab, model: OpenAIServer) -> None:
    """What is typed meanwhile stays, focus and all; the agent sees it in its next turn."""
    session = begun(lab, model)
    model.script([cell(SLOW_CELL, "Count"), Say("Counted.")])
    lab.ask("Count slowly.")
    expect(lab.cells.filter(has_text="step 0").first).to_be_visible(timeout=SLOW_MS)
    lab.type_cell("mine = 'typed by me'", last=False)
    lab.page.keyboard.type("\n# and more", delay=120)
    lab.ended(2)
    lab.page.keyboard.type(", after the end")
    whole = "mine = 'typed by me'\n# and more, after the end"
    assert ("code", whole) in lab.in_tab()
    model.script([Say("I see.")])
    lab.ask("What did I type?")
    lab.ended(3)
    assert "typed by me" in json.dumps(model.requests[-1])
    assert whole in typed(lab, session)
    lab.agree(session)
    assert typed(lab, session).count(whole) == 1
    assert len(typed(lab, session)) == 3


def test_two_windows(lab: Lab, browser: Browser, jupyter: LabServer, model: OpenAIServer) -> None:
    """Both show the agent's cells once, and each other's; when the last is closed, the file is whole."""
    session = begun(lab, model)
    window = browser.new_context(viewport={"width": 1280, "height": 800})
    other = Lab(window.new_page(), jupyter, "other-window").open()
    other.choose(session)
    other.open_notebook()
    model.script([cell("y = 1", "Make y"), Say("Made.")])
    lab.ask("Make y.")
    lab.ended(2)
    for shown in (lab, other):
        expect(shown.cells).to_have_count(6)
    other.type_cell("from_the_other = 2")
    expect(lab.cells.filter(has_text="from_the_other")).to_have_count(1)
    lab.type_cell("from_the_first = 3")
    expect(other.cells.filter(has_text="from_the_first")).to_have_count(1)
    lab.agree(session)
    other.agree(session)
    other.page.keyboard.type("  # last words")
    expect(lab.cells.filter(has_text="# last words")).to_have_count(1, timeout=SLOW_MS)
    window.close()
    lab.agree(session)
    lab.page.close()
    path = jupyter.root / jupyter.call("GET", f"/sessions/{session}")["notebook_path"]
    model.script([cell("z = 1", "Make z"), Say("Made.")])
    jupyter.until_ended(jupyter.call("POST", f"/sessions/{session}/query", json={"query": "Make z."})["turn_id"])
    held = ["".join(found["source"]) for found in json.loads(path.read_text())["cells"]]
    assert {"from_the_other = 2  # last words", "from_the_first = 3", "y = 1", "z = 1"} <= set(held)
    assert len(held) == len(set(held)) + 1  # Two answers are the same word.


def test_the_agent_edits_what_the_user_edits(lab: Lab, model: OpenAIServer) -> None:
    """Both change one cell: the user's words stay in place, and the agent's follow in a cell of their own."""
    session = begun(lab, model)
    (target,) = [
        c for c in lab.server.call("GET", f"/sessions/{session}/notebook")["cells"] if c["cell_type"] == "code"
    ]
    edit = ("edit_cell", {"cell_id": target["id"], "expected_hash": digest("x = 41\nx"), "source": "x = 42\nx"})
    model.script([Say(calls=[edit], first_token_s=1.5), Say("Raised.")])
    lab.server.call("POST", f"/sessions/{session}/query", json={"query": "Raise x."})
    lab.cells.nth(1).locator(".cm-content").click()
    lab.page.keyboard.press("Control+End")
    lab.page.keyboard.type("  # my note", delay=20)
    lab.ended(2)
    expect(lab.cells.filter(has_text="# my note")).to_have_count(1)
    lab.agree(session)
    assert "x = 41\nx  # my note" in typed(lab, session)


def test_the_agent_edits_a_cell(lab: Lab, model: OpenAIServer) -> None:
    """An edit of the agent's changes the cell in its place, with its outputs."""
    session = begun(lab, model)
    (target,) = [
        c for c in lab.server.call("GET", f"/sessions/{session}/notebook")["cells"] if c["cell_type"] == "code"
    ]
    edit = ("edit_cell", {"cell_id": target["id"], "expected_hash": digest("x = 41\nx"), "source": "x = 43\nx"})
    model.script([Say(calls=[edit]), Say("Raised.")])
    lab.ask("Raise x.")
    lab.ended(2)
    lab.agree(session)
    assert typed(lab, session) == ["x = 43\nx"]
    expect(lab.cells.nth(1).locator(".jp-OutputArea")).to_contain_text("43")


def test_changed_on_disk_and_moved(lab: Lab, jupyter: LabServer, model: OpenAIServer) -> None:
    """What another program writes into the file is shown and taken in; the user's order and deletions hold."""
    session = begun(lab, model)
    lab.agree(session)
    path = jupyter.root / jupyter.call("GET", f"/sessions/{session}")["notebook_path"]
    notebook = json.loads(path.read_text())
    outside = {"cell_type": "code", "id": "outside", "metadata": {}, "source": "outside = 1"}
    notebook["cells"].append({**outside, "outputs": [], "execution_count": None})
    path.write_text(json.dumps(notebook))
    expect(lab.cells.filter(has_text="outside = 1")).to_have_count(1, timeout=SLOW_MS)
    lab.cells.nth(0).click(position={"x": 4, "y": 4})
    lab.page.keyboard.press("Escape")
    lab.command("notebook:delete-cell")
    expect(lab.cells).to_have_count(3)
    model.script([cell("w = 1", "Make w"), Say("Made.")])
    lab.ask("Make w.")
    lab.ended(2)
    expect(lab.cells.filter(has_text="w = 1")).to_have_count(1)
    lab.agree(session)
    assert typed(lab, session) == ["x = 41\nx", "outside = 1", "w = 1"]


def test_reload_in_the_middle(lab: Lab, model: OpenAIServer) -> None:
    """A page that is loaded again while a cell runs shows the rest of it, and nothing twice."""
    session = begun(lab, model)
    model.script([cell(SLOW_CELL, "Count"), Say("Counted.")])
    lab.kept(session)
    lab.ask("Count slowly.")
    expect(lab.cells.filter(has_text="step 0").first).to_be_visible(timeout=SLOW_MS)
    lab.page.reload()
    lab.ready()
    lab.ended(2)
    lab.open_notebook()
    expect(lab.cells.filter(has_text="step 7")).to_have_count(1)
    expect(lab.cells).to_have_count(6)
    lab.agree(session)
