"""Going back in JupyterLab: chat, open notebook, files and variables together, after a look at what changes."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.lab import SLOW_MS, Lab
from tests.doubles.openai_server import OpenAIServer, Say, cell


@pytest.fixture
def talked(lab: Lab, model: OpenAIServer) -> str:
    """A session of three turns, with its notebook open beside the chat."""
    lab.open()
    session = lab.new_chat()
    for number in (1, 2, 3):
        model.script([cell(f"x = {number}; open('f{number}.txt', 'w').write('{number}'); x"), Say(f"x is {number}.")])
        lab.ask(f"Make x {number}.")
        lab.ended(number)
        if number == 1:
            lab.open_notebook()
    expect(lab.cells).to_have_count(9)
    return session


def button(lab: Lab, turn: int, label: str) -> Locator:
    message = lab.ended(turn)
    message.hover()
    return message.get_by_role("button", name=label)


def accept(lab: Lab, *words: str) -> None:
    """Reads what the dialog foretells, and accepts it."""
    dialog = lab.page.locator(".jp-Dialog")
    for word in words:
        expect(dialog).to_contain_text(word)
    dialog.locator(".jp-mod-accept").click()
    expect(dialog).to_have_count(0)


def variables(lab: Lab, session: str) -> dict[str, Any]:
    told = lab.server.call("GET", f"/sessions/{session}/variables")["variables"]
    return {found["name"]: found["preview"] for found in told}


def test_rewind_and_redo(lab: Lab, talked: str) -> None:
    """The chat, the open notebook and the variables are those of the turn; one click takes all of it back."""
    button(lab, 1, "Rewind to here").click()
    accept(lab, "Rewind to turn 1?", "2, 3", "f2.txt", "Nothing is deleted")
    expect(lab.turn(2)).to_have_count(0, timeout=SLOW_MS)
    expect(lab.cells).to_have_count(3)
    lab.agree(talked)
    assert variables(lab, talked)["x"] == "1"
    back = lab.panel.get_by_role("status").filter(has_text="You went back to turn 1.")
    expect(back).to_be_visible()
    back.get_by_role("button", name="Redo").click()
    lab.ended(3)
    expect(lab.cells).to_have_count(9)
    expect(back).to_have_count(0)
    lab.agree(talked)
    assert variables(lab, talked)["x"] == "3"
    lab.no_dialog()


def test_edit_and_ask_again(lab: Lab, talked: str, model: OpenAIServer) -> None:
    """The question comes back into the input, and what followed from it is gone until it is asked anew."""
    lab.input.fill("A draft")
    button(lab, 2, "Edit and ask again").click()
    accept(lab, "Ask turn 2 again?")
    expect(lab.input).to_have_value("Make x 2.")
    expect(lab.turn(2)).to_have_count(0)
    lab.panel.get_by_role("button", name="Redo").click()
    lab.ended(3)
    expect(lab.input).to_have_value("A draft")  # The question went with what asked it again.
    button(lab, 2, "Edit and ask again").click()
    accept(lab, "Ask turn 2 again?")
    expect(lab.input).to_have_value("Make x 2.")
    model.script([cell("x = x * 100; x"), Say("x is 100.")])
    lab.write("Make x a hundred times as much.").click()
    lab.ended(4)
    expect(lab.panel.locator(".jp-chat-message").filter(has_text="x is 100.")).to_have_count(1)
    expect(lab.turn(3)).to_have_count(0)
    expect(lab.input).to_have_value("A draft")
    lab.agree(talked)
    assert variables(lab, talked)["x"] == "100"


@pytest.mark.parametrize("behind", [False, True])
def test_something_is_in_view(lab: Lab, model: OpenAIServer, behind: bool) -> None:
    """A notebook that was looked at far below what is left of it shows that, also when another tab was in front."""
    lab.open()
    session = lab.new_chat()
    for number in (1, 2, 3, 4):
        model.script([cell("for line in range(40): print(line)"), Say("Counted.")])
        lab.ask(f"Count, {number}.")
        lab.ended(number)
        if number == 1:
            lab.open_notebook()
    expect(lab.cells).to_have_count(12)
    lab.cells.last.scroll_into_view_if_needed()
    tabs = lab.page.locator(".lm-DockPanel-tabBar .lm-TabBar-tab")
    if behind:
        lab.command("launcher:create")
        expect(lab.cells).to_have_count(0)
    lab.server.call("POST", f"/sessions/{session}/undo", json={"to_turn": 1})
    expect(lab.page.locator(".jp-Notebook .jp-Cell")).to_have_count(3)
    if behind:
        tabs.filter(has_text=".ipynb").click()
    expect(lab.cells.last).to_be_in_viewport()


def test_what_a_dead_kernel_held_is_offered(lab: Lab, model: OpenAIServer) -> None:
    """One click brings it back; what came with it is in the notebook's kernel, and the offer is gone."""
    model.script([cell("x = 41; f = lambda: x + 1"), Say("Made.")])
    lab.open()
    session = lab.new_chat()
    lab.ask("Make x.")
    lab.ended(1)
    lab.server.http.post(f"/sessions/{session}/execute", json={"source": "import os; os._exit(1)"})
    offer = lab.panel.get_by_role("status").filter(has_text="its variables are gone")
    expect(offer).to_be_visible(timeout=SLOW_MS)
    offer.get_by_role("button", name="Bring them back").click()
    bar = lab.panel.locator(".jp-Cellwright-wayback")
    expect(bar).to_have_count(0, timeout=SLOW_MS)
    assert variables(lab, session)["x"] == "41"
    ran = lab.server.call("POST", f"/sessions/{session}/execute", json={"source": "f()"})
    assert ran["outputs"][0]["data"]["text/plain"] == "42"
    expect(bar).to_have_count(0)


def test_what_sleep_lost_is_offered(lab: Lab, model: OpenAIServer) -> None:
    """A session that woke without all that it had gets the rest by one click."""
    model.script([cell("x = 41; stream = (n for n in [x])"), Say("Made.")])
    lab.open()
    session = lab.new_chat()
    lab.ask("Make x.")
    lab.ended(1)
    lab.server.call("POST", f"/sessions/{session}/kernel/hibernate")
    lab.server.call("POST", f"/sessions/{session}/execute", json={"source": "x"})
    offer = lab.panel.get_by_role("status").filter(has_text="Not all variables were stored")
    expect(offer).to_be_visible(timeout=SLOW_MS)
    offer.get_by_role("button", name="Bring them back").click()
    expect(lab.panel.locator(".jp-Cellwright-wayback")).to_have_count(0, timeout=SLOW_MS)
    ran = lab.server.call("POST", f"/sessions/{session}/execute", json={"source": "next(stream)"})
    assert ran["outputs"][0]["data"]["text/plain"] == "41"


@pytest.mark.parametrize("choice", ["Leave out", "Run again"])
def test_what_reached_outside_is_asked_about(lab: Lab, model: OpenAIServer, choice: str) -> None:
    """Before it runs again to bring lost variables back, the user sees it with the reason, and decides."""
    model.script([cell("import subprocess"), cell("out = subprocess.Popen(['true'])"), cell("x = 41"), Say("Made.")])
    lab.open()
    session = lab.new_chat()
    lab.ask("Make x.")
    lab.ended(1)
    lab.server.http.post(f"/sessions/{session}/execute", json={"source": "import os; os._exit(1)"})
    lab.panel.get_by_role("button", name="Bring them back").click(timeout=SLOW_MS)
    dialog = lab.page.locator(".jp-Dialog")
    expect(dialog).to_contain_text("out = subprocess.Popen", timeout=SLOW_MS)
    expect(dialog).to_contain_text("starts processes")
    dialog.get_by_role("button", name=choice).click()
    expect(lab.panel.locator(".jp-Cellwright-wayback")).to_have_count(0, timeout=SLOW_MS)
    found = variables(lab, session)
    assert (found["x"], "out" in found) == ("41", choice == "Run again")


def test_a_dialog_can_be_refused(lab: Lab, talked: str) -> None:
    """Cancelled, nothing moves."""
    button(lab, 1, "Rewind to here").click()
    lab.page.locator(".jp-Dialog .jp-mod-reject").click()
    lab.ended(3)
    expect(lab.cells).to_have_count(9)
    assert lab.server.call("GET", f"/sessions/{talked}")["head_turn"] == 3


def test_what_is_typed_is_kept(lab: Lab, talked: str) -> None:
    """Cells of the user's that are typed when they rewind go with the rewind, and come back with the redo."""
    lab.type_cell("mine = 1")
    button(lab, 1, "Rewind to here").click()
    accept(lab)
    expect(lab.cells).to_have_count(3)
    lab.agree(talked)
    lab.panel.get_by_role("button", name="Redo").click()
    expect(lab.cells).to_have_count(10)
    assert ("code", "mine = 1") in lab.in_tab()
    expect(lab.panel.locator(".jp-chat-message").filter(has_text="changed 1 cell of the notebook")).to_have_count(1)
    lab.agree(talked)


def test_the_history(lab: Lab, talked: str, model: OpenAIServer) -> None:
    """What was left behind for another question stands in the history, beside the way to here; one can come back."""
    button(lab, 1, "Rewind to here").click()
    accept(lab)
    expect(lab.cells).to_have_count(3)
    model.script([cell("x = 4; x"), Say("x is 4.")])
    lab.ask("Make x 4.")
    lab.ended(4)
    lab.tab("History")
    rows = lab.panel.locator(".jp-Cellwright-history li")
    expect(rows).to_have_count(4)
    assert rows.evaluate_all("rows => rows.map(row => [row.dataset.turn, 'left' in row.dataset])") == [
        ["4", False],
        ["3", True],
        ["2", True],
        ["1", False],
    ]
    expect(rows.nth(0)).to_contain_text("you are here")
    expect(rows.nth(0).get_by_role("button", name="Rewind to turn 4")).to_have_count(0)
    limb = rows.nth(1)
    limb.get_by_role("button", name="Make x 3.").click()
    expect(limb).to_contain_text("x is 3.")
    limb.get_by_role("button", name="Come back to turn 3").click()
    accept(lab, "Come back to turn 3?", "2, 3", "f3.txt")
    expect(rows.nth(1)).to_contain_text("you are here", timeout=SLOW_MS)
    expect(rows.nth(0)).to_contain_text("left behind")
    lab.tab("Chat")
    lab.ended(3)
    expect(lab.turn(4)).to_have_count(0)
    expect(lab.cells).to_have_count(9)
    lab.agree(talked)
    assert variables(lab, talked)["x"] == "3"


def test_named_points(lab: Lab, talked: str) -> None:
    """The point where the session is gets a name in the history; from elsewhere it is gone to by that, after a look."""
    lab.tab("History")
    rows = lab.panel.locator(".jp-Cellwright-history > li")
    rows.nth(0).hover()
    rows.nth(0).get_by_role("button", name="Name this point").click()
    lab.page.locator(".jp-Dialog input").fill("all three")
    lab.page.locator(".jp-Dialog .jp-mod-accept").click()
    point = rows.nth(0).get_by_role("button", name="all three")
    expect(point).to_be_visible()
    rows.nth(2).hover()
    rows.nth(2).get_by_role("button", name="Rewind to turn 1").click()
    accept(lab, "Rewind to turn 1?")
    expect(lab.cells).to_have_count(3)
    point.click()
    accept(lab, "Go to “all three”?", "2, 3")
    expect(rows.nth(0)).to_contain_text("you are here", timeout=SLOW_MS)
    expect(lab.cells).to_have_count(9)
    lab.agree(talked)
    assert variables(lab, talked)["x"] == "3"


def test_branch_from_here(lab: Lab, talked: str) -> None:
    """A branch opens with what there was; in the list it stands below its parent."""
    button(lab, 2, "Branch from here").click()
    expect(lab.panel.locator(".jp-Cellwright-name", has_text="(branch)")).to_be_visible(timeout=SLOW_MS)
    lab.ended(2)
    expect(lab.turn(3)).to_have_count(0)
    lab.panel.get_by_role("button", name="All sessions").click()
    rows = lab.panel.locator("li[data-session]")
    expect(rows.filter(has_text="from turn 2")).to_have_attribute("data-depth", "1")
    places = rows.evaluate_all("rows => rows.map(row => row.dataset.session)")
    branch = rows.filter(has_text="from turn 2").get_attribute("data-session")
    assert places.index(branch) == places.index(talked) + 1
    assert lab.server.call("GET", f"/sessions/{talked}")["head_turn"] == 3
