"""The open notebook: the agent's cells appear and fill in it, and what the user types is kept."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import pytest
from cellwright.notebooks.document import digest
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser.lab import NOTEBOOK, SLOW_MS, Lab, LabServer
from tests.doubles.openai_server import OpenAIServer, Say, cell

FROZEN_S = int(os.environ.get("FROZEN_S", "5"))
"""How long a tab is frozen: minutes are tried by hand."""

SLOW_CELL = "import time\nfor i in range(8):\n    print('step', i, flush=True)\n    time.sleep(0.25)"


def begun(lab: Lab, model: OpenAIServer) -> str:
    """A session with one turn, its notebook open beside the chat."""
    model.script([cell("x = 41\nx", "Make x"), Say("x is 41.")])
    lab.open()
    session = lab.new_chat()
    lab.ask("Make x.")
    lab.ended(1)
    lab.open_notebook()
    expect(lab.cells).to_have_count(3)
    return session


def test_cells_appear_and_fill(lab: Lab, model: OpenAIServer) -> None:
    """The agent's cell comes, prints while it runs, and is saved by the tab; the kernel is the session's own."""
    session = begun(lab, model)
    model.script([cell(SLOW_CELL, "Count"), Say("Counted.")])
    lab.ask("Count slowly.")
    running = lab.cells.filter(has_text="step 0").first
    expect(running).to_be_visible(timeout=SLOW_MS)
    assert lab.turn(2).get_attribute("data-status") == "running"
    lab.ended(2)
    expect(lab.cells.filter(has_text="step 7")).to_have_count(1)
    lab.agree(session)
    lab.type_cell("x + 1")
    lab.page.keyboard.press("Shift+Enter")
    expect(lab.cells.filter(has_text="42")).to_have_count(1)
    lab.no_dialog()


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
    assert ("code", "mine = 'typed by me'\n# and more, after the end") in lab.in_tab()
    model.script([Say("I see.")])
    lab.input.fill("What did I type?")
    lab.input.press("Enter")
    lab.ended(3)
    assert "typed by me" in json.dumps(model.requests[-1])
    lab.agree(session)
    assert [source for _, source in lab.in_tab()].count("mine = 'typed by me'\n# and more, after the end") == 1
    lab.no_dialog()


def test_the_agent_edits_what_the_user_edits(lab: Lab, model: OpenAIServer) -> None:
    """Both change one cell: the user's words stay in place, and the agent's follow in a cell of their own."""
    session = begun(lab, model)
    (target,) = [
        c for c in lab.server.call("GET", f"/sessions/{session}/notebook")["cells"] if c["cell_type"] == "code"
    ]
    lab.cells.nth(1).locator(".cm-content").click()
    lab.page.keyboard.press("Control+End")
    lab.page.keyboard.type("  # my note")
    known = digest("x = 41\nx")
    edit = ("edit_cell", {"cell_id": target["id"], "expected_hash": known, "source": "x = 42\nx"})
    model.script([Say(calls=[edit]), Say("Raised.")])
    lab.server.call("POST", f"/sessions/{session}/query", json={"query": "Raise x."})
    lab.ended(2)
    expect(lab.cells.filter(has_text="# my note")).to_have_count(1)
    sources = [source for kind, source in lab.in_tab() if kind == "code"]
    assert "x = 41\nx  # my note" in sources
    assert "x = 42\nx" in sources
    lab.page.keyboard.press("Control+s")
    lab.agree(session)


def test_two_windows(lab: Lab, browser: Browser, jupyter: LabServer, model: OpenAIServer) -> None:
    """Both show the same; one saves, neither is told that the file changed; when it closes, the other goes on."""
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
    lab.saved()
    other.saved()
    other.type_cell("from_the_other = 2")
    other.page.keyboard.press("Control+s")
    other.saved()
    expect(lab.cells.filter(has_text="from_the_other")).to_have_count(1)
    lab.type_cell("from_the_first = 3")
    lab.page.keyboard.press("Control+s")
    lab.saved()
    expect(other.cells.filter(has_text="from_the_first")).to_have_count(1)
    lab.agree(session)
    other.agree(session)
    lab.page.close()
    model.script([cell("z = 1", "Make z"), Say("Made.")])
    other.ask("Make z.")
    other.ended(3)
    expect(other.cells.filter(has_text="z = 1")).to_have_count(1)
    other.agree(session)
    window.close()


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
    lab.agree(session)


def test_a_tab_that_slept(lab: Lab, model: OpenAIServer) -> None:
    """A tab without a connection misses nothing, and takes nothing away when it comes back."""
    session = begun(lab, model)
    lab.page.context.set_offline(True)
    cut(lab.page)
    lab.type_cell("typed_offline = 1")
    model.script([cell("meanwhile = 1", "Go on"), Say("Done.")])
    turn = lab.server.call("POST", f"/sessions/{session}/query", json={"query": "Go on."})["turn_id"]
    lab.server.until_ended(turn)
    lab.page.context.set_offline(False)
    expect(lab.cells.filter(has_text="meanwhile = 1")).to_have_count(1, timeout=SLOW_MS)
    lab.page.keyboard.press("Control+s")
    lab.agree(session)
    assert "typed_offline = 1" in [source for _, source in lab.in_tab()]
    lab.no_dialog()


def test_a_tab_that_was_frozen(lab: Lab, browser: Browser, jupyter: LabServer, model: OpenAIServer) -> None:
    """The browser stops a tab that nobody looks at, with the writer's role: it comes back, and all is there once.

    Meanwhile the agent works, another window opens the notebook, and its user types there.
    """
    session = begun(lab, model)
    lab.type_cell("typed_before = 1")
    devices = lab.page.context.new_cdp_session(lab.page)
    devices.send("Page.setWebLifecycleState", {"state": "frozen"})
    model.script([cell("meanwhile = 1", "Go on"), Say("Done."), cell("later = 1", "Go on"), Say("Done.")])
    jupyter.until_ended(jupyter.call("POST", f"/sessions/{session}/query", json={"query": "Go on."})["turn_id"])
    window = browser.new_context(viewport={"width": 1280, "height": 800})
    other = Lab(window.new_page(), jupyter, "awake").open()
    other.choose(session)
    other.open_notebook()
    expect(other.cells.filter(has_text="meanwhile = 1")).to_have_count(1)
    other.type_cell("typed_elsewhere = 1")
    other.page.keyboard.press("Control+s")
    other.page.wait_for_timeout(FROZEN_S * 1000)
    jupyter.until_ended(jupyter.call("POST", f"/sessions/{session}/query", json={"query": "Go on."})["turn_id"])
    devices.send("Page.setWebLifecycleState", {"state": "active"})
    for shown in (lab, other):
        expect(shown.cells.filter(has_text="later = 1")).to_have_count(1, timeout=SLOW_MS)
        expect(shown.cells.filter(has_text="typed_elsewhere = 1")).to_have_count(1)
    lab.page.keyboard.press("Control+s")
    lab.agree(session)
    other.agree(session)
    assert "typed_before = 1" in [source for _, source in other.in_tab()]
    window.close()


def test_changed_on_disk(lab: Lab, jupyter: LabServer, model: OpenAIServer) -> None:
    """What another program writes into the file is taken in with the next turn, and shown in the tab."""
    session = begun(lab, model)
    path = jupyter.root / jupyter.call("GET", f"/sessions/{session}")["notebook_path"]
    lab.saved()
    notebook = json.loads(path.read_text())
    notebook["cells"].append(
        {
            "cell_type": "code",
            "id": "outside",
            "metadata": {},
            "source": "outside = 1",
            "outputs": [],
            "execution_count": None,
        }
    )
    path.write_text(json.dumps(notebook))
    model.script([cell("w = 1", "Make w"), Say("Made.")])
    lab.ask("Make w.")
    lab.ended(2)
    expect(lab.cells.filter(has_text="outside = 1")).to_have_count(1)
    lab.agree(session)


def test_cells_moved_and_deleted(lab: Lab, model: OpenAIServer) -> None:
    """The user's order and deletions hold, for the log as well."""
    session = begun(lab, model)
    lab.cells.nth(2).click(position={"x": 4, "y": 4})
    lab.page.keyboard.press("Escape")
    lab.command("notebook:move-cell-up")
    lab.cells.nth(0).click(position={"x": 4, "y": 4})
    lab.page.keyboard.press("Escape")
    lab.command("notebook:delete-cell")
    expect(lab.cells).to_have_count(2)
    model.script([cell("v = 1", "Make v"), Say("Made.")])
    lab.ask("Make v.")
    lab.ended(2)
    expect(lab.cells.filter(has_text="v = 1")).to_have_count(1)
    lab.agree(session)
    assert [kind for kind, _ in lab.in_tab()][:2] == ["markdown", "code"]
    lab.no_dialog()


def test_an_adopted_notebook(lab: Lab, jupyter: LabServer, model: OpenAIServer) -> None:
    """The agent works in the user's own notebook, open as it is, and nothing of it is lost."""
    made: dict[str, Any] = {"metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    one = {
        "cell_type": "code",
        "id": "own",
        "metadata": {},
        "source": "own = 5",
        "outputs": [],
        "execution_count": None,
    }
    (jupyter.root / "own.ipynb").write_text(json.dumps({**made, "cells": [one]}))
    lab.open("/tree/own.ipynb")
    expect(lab.cells).to_have_count(1)
    lab.no_kernel_dialog()
    lab.type_cell("typed_before = 6")
    lab.command("cellwright:adopt-current")
    expect(lab.panel.locator(".jp-Cellwright-name")).to_contain_text("own")
    model.script([cell("mine = 7", "Add mine"), Say("Added.")])
    lab.ask("Add something.")
    lab.ended(1)
    expect(lab.cells.filter(has_text="mine = 7")).to_have_count(1)
    lab.agree(lab.server.call("GET", "/sessions")["sessions"][0]["id"])
    assert {"own = 5", "typed_before = 6", "mine = 7"} <= {source for _, source in lab.in_tab()}
    lab.no_dialog()


def test_large_outputs(lab: Lab, model: OpenAIServer) -> None:
    """Outputs that the log keeps elsewhere are whole in the tab and the file, and are nobody's edit."""
    session = begun(lab, model)
    model.script([cell("print('large ' * 40_000)", "Print much"), Say("Printed.")])
    lab.ask("Print much.")
    lab.ended(2)
    lab.saved()
    path = lab.server.root / lab.server.call("GET", f"/sessions/{session}")["notebook_path"]
    (output,) = next(c for c in json.loads(path.read_text())["cells"] if "large" in "".join(c["source"]))["outputs"]
    assert "".join(output["text"]) == "large " * 40_000 + "\n"
    edits = [event for event in lab.server.events(session) if event["type"] == "cells.edited"]
    assert "user" not in {event["author"] for event in edits}


def test_large_outputs_that_do_not_come_at_once(lab: Lab, model: OpenAIServer) -> None:
    """Where they cannot be had, the tab waits and asks again; it never saves an empty output in their place."""
    session = begun(lab, model)
    failures = iter([True, True])

    def fail_at_first(route: Route) -> None:
        if next(failures, False):
            route.abort()
        else:
            route.continue_()

    lab.page.route("**/objects/*", fail_at_first)
    model.script([cell("print('large ' * 40_000)", "Print much"), Say("Printed.")])
    lab.ask("Print much.")
    lab.ended(2)
    expect(lab.cells.filter(has_text="Printed.")).to_have_count(1, timeout=SLOW_MS)
    lab.agree(session)
    edits = [event for event in lab.server.events(session) if event["type"] == "cells.edited"]
    assert "user" not in {event["author"] for event in edits}


def test_put_back_to_the_file(lab: Lab, model: OpenAIServer) -> None:
    """A tab that is loaded from the disk again follows from there: nothing looks as if the user had deleted it."""
    session = begun(lab, model)
    lab.page.route("**/api/contents/**", lambda r: r.abort() if r.request.method == "PUT" else r.continue_())
    model.script([cell("second = 2", "Second"), Say("Done.")])
    lab.ask("Second.")
    lab.ended(2)
    expect(lab.cells).to_have_count(6)
    lab.page.unroute_all()
    lab.page.evaluate(f"{NOTEBOOK}.context.revert()")
    model.script([cell("third = 3", "Third"), Say("Done.")])
    lab.ask("Third.")
    lab.ended(3)
    expect(lab.cells).to_have_count(9)
    lab.agree(session)


def test_typing_while_it_is_saved(lab: Lab, model: OpenAIServer) -> None:
    """What is typed while a save is under way is unsaved afterwards, and reaches the log with the next one."""
    session = begun(lab, model)
    lab.page.route("**/api/contents/**", slowly)
    lab.type_cell("slow = 1")
    with lab.page.expect_request(lambda asked: asked.method == "PUT" and "/api/contents/" in asked.url):
        lab.page.keyboard.press("Control+s")
    lab.page.keyboard.type("  # typed during the save", delay=60)
    lab.page.wait_for_timeout(2_500)
    lab.page.unroute_all()
    assert lab.page.evaluate(f"{NOTEBOOK}.model.dirty")
    model.script([Say("I see.")])
    lab.ask("What is there?")
    lab.ended(2)
    assert "typed during the save" in json.dumps(model.requests[-1])
    lab.agree(session)


def slowly(route: Route) -> None:
    time.sleep(0.4)
    route.continue_()


def test_a_kernel_that_sleeps(lab: Lab, model: OpenAIServer) -> None:
    """Opening the notebook wakes the session's kernel: what the user runs there has the session's variables."""
    model.script([cell("x = 41\nx", "Make x"), Say("x is 41.")])
    lab.open()
    session = lab.new_chat()
    lab.ask("Make x.")
    lab.ended(1)
    lab.server.call("POST", f"/sessions/{session}/kernel/hibernate")
    lab.open_notebook()
    lab.type_cell("x + 1")
    lab.page.keyboard.press("Shift+Enter")
    expect(lab.cells.filter(has_text="42")).to_have_count(1, timeout=SLOW_MS)
    # Again, with the notebook put back by JupyterLab itself.
    lab.page.keyboard.press("Control+s")
    lab.saved()
    lab.server.call("POST", f"/sessions/{session}/kernel/hibernate")
    lab.kept(session)
    lab.page.reload()
    lab.ready()
    lab.open_notebook()
    lab.page.wait_for_function(f"{NOTEBOOK}.sessionContext.session?.kernel?.name === 'cellwright'")
    lab.type_cell("x + 2")
    lab.page.keyboard.press("Shift+Enter")
    expect(lab.cells.filter(has_text="43")).to_have_count(1, timeout=SLOW_MS)
    lab.no_dialog()


def test_the_kernel_restarted_by_the_user(lab: Lab, model: OpenAIServer) -> None:
    """JupyterLab's own restart is noticed: variables are gone, the notebook stays, and the agent is told."""
    session = begun(lab, model)
    lab.command("notebook:restart-kernel")
    lab.page.locator(".jp-Dialog .jp-mod-warn, .jp-Dialog .jp-mod-accept").last.click()
    lab.page.wait_for_timeout(2_000)
    model.script([cell("'x' in globals()", "Look for x"), Say("It is gone.")])
    lab.ask("Is x there?")
    lab.ended(2)
    expect(lab.cells.filter(has_text="False")).to_have_count(1)
    lab.agree(session)


def cut(page: Page) -> None:
    """Ends every WebSocket of the page, as a machine that sleeps does."""
    page.evaluate("window.cellwrightSockets?.forEach(socket => socket.close())")


@pytest.fixture(autouse=True)
def sockets(lab: Lab) -> None:
    """Remembers the page's WebSockets, so that a test can cut them."""
    lab.page.add_init_script(
        "window.cellwrightSockets = []; const Real = window.WebSocket; window.WebSocket = class extends Real {"
        "  constructor(...args) { super(...args); window.cellwrightSockets.push(this); } };"
    )
