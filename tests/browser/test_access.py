"""For everybody: with a screen reader, with the keyboard alone, in every theme; under a base URL, in Notebook 7."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import EXTENSION
from tests.browser.lab import SLOW_MS, Lab
from tests.doubles.openai_server import OpenAIServer, Say, cell

THEMES = ("JupyterLab Light", "JupyterLab Dark", "JupyterLab Dark High Contrast")
AXE = EXTENSION / "lab" / "node_modules" / "axe-core" / "axe.min.js"
# What `@jupyter/chat` draws by itself, and we cannot change.
THEIRS = [".jp-chat-input-container", ".jp-chat-message-header", ".jp-chat-navigation"]


def violations(lab: Lab) -> list[str]:
    """What axe finds in the panel, in words."""
    if not lab.page.evaluate("'axe' in window"):
        lab.page.add_script_tag(content=AXE.read_text())
    about = {"include": [["#cellwright-panel"]], "exclude": [[selector] for selector in THEIRS]}
    found: dict[str, Any] = lab.page.evaluate("about => axe.run(about)", about)
    assert len(found["passes"]) > 5, "axe looked at nothing"
    return [
        f"{problem['id']}: {node['html'][:160]} ({node['failureSummary'][:200]})"
        for problem in found["violations"]
        for node in problem["nodes"]
    ]


@pytest.mark.parametrize("theme", THEMES)
def test_every_view_in_every_theme(lab: Lab, model: OpenAIServer, theme: str) -> None:
    """axe finds nothing in chat, variables, artifacts, history and sessions."""
    lab.open()
    lab.page.evaluate("theme => window.jupyterapp.commands.execute('apputils:change-theme', { theme })", theme)
    lab.page.wait_for_function("theme => document.body.dataset.jpThemeName === theme", arg=theme)
    lab.new_chat()
    assert violations(lab) == []
    source = "import pandas as pd\nframe = pd.DataFrame({'a': [1]})\nframe.to_csv('a.csv')\nprint('printed')\n1 / 0"
    model.script([cell(source, "Fail", thinking="Hm."), Say("It **failed**: `1 / 0`.")])
    lab.ask("Try.")
    lab.ended(1)
    lab.turn(1).get_by_title("Show the code").click()
    lab.page.wait_for_timeout(300)
    assert violations(lab) == []
    for view in ("Variables", "Artifacts", "History"):
        lab.tab(view)
        lab.page.wait_for_timeout(300)
        assert violations(lab) == [], view
    lab.panel.get_by_role("button", name="All sessions").click()
    lab.page.wait_for_timeout(300)
    assert violations(lab) == []


def test_with_the_keyboard_alone(lab: Lab, model: OpenAIServer) -> None:
    """Show the panel, begin a chat, ask, unfold the code, go through the views and back, without a pointer."""
    model.script([cell("answer = 42", "Think"), Say("It is 42.")])
    lab.page.goto(f"{lab.server.url}lab/workspaces/{lab.workspace}?token={lab.server.token}&reset")
    lab.page.wait_for_function("window.jupyterapp?.commands.hasCommand('cellwright:show')")
    lab.page.evaluate("window.jupyterapp.restored")
    expect(lab.page.locator(".jp-Launcher")).to_be_visible(timeout=SLOW_MS)
    lab.page.wait_for_timeout(2_000)  # JupyterLab gives its launcher the focus when all else is done.
    lab.page.locator("body").press("Control+Alt+j")
    new = lab.panel.locator("[aria-label='New chat']").first
    expect(new).to_be_visible(timeout=SLOW_MS)
    new.focus()
    lab.page.keyboard.press("Enter")
    expect(lab.input).to_be_focused()
    lab.page.keyboard.type("What is the answer?")
    lab.page.keyboard.press("Enter")
    lab.ended(1)
    expect(lab.input).to_be_focused()
    fold = lab.turn(1).locator(".jp-Cellwright-fold")
    fold.focus()
    lab.page.keyboard.press("Enter")
    expect(lab.turn(1).locator(".jp-Cellwright-code")).to_contain_text("answer = 42")
    lab.panel.get_by_role("tab", name="Chat").focus()
    lab.page.keyboard.press("ArrowRight")
    expect(lab.panel.get_by_role("tab", name="Variables")).to_be_focused()
    expect(lab.panel.locator(".jp-Cellwright-variables")).to_contain_text("answer")


def test_what_is_said_aloud(lab: Lab, model: OpenAIServer) -> None:
    """A live region tells that work began and that the answer is there."""
    model.script([cell("import time; time.sleep(1)", "Wait"), Say("Done.")])
    lab.open()
    lab.new_chat()
    said = lab.panel.locator("[aria-live='polite']").first
    lab.ask("Go.")
    expect(said).to_have_text("Cellwright is at work", timeout=SLOW_MS)
    expect(said).to_have_text("The answer is there", timeout=SLOW_MS)
