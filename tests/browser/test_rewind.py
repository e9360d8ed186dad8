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
    button(lab, 2, "Edit and ask again").click()
    accept(lab, "Ask turn 2 again?")
    expect(lab.input).to_have_value("Make x 2.")
    expect(lab.turn(2)).to_have_count(0)
    model.script([cell("x = x * 100; x"), Say("x is 100.")])
    lab.ask("Make x a hundred times as much.")
    lab.ended(4)
    expect(lab.panel.locator(".jp-chat-message").filter(has_text="x is 100.")).to_have_count(1)
    expect(lab.turn(3)).to_have_count(0)
    lab.agree(talked)
    assert variables(lab, talked)["x"] == "100"


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
