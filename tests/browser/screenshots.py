"""Makes the README's pictures: `python -m tests.browser.screenshots docs/images`, of a real JupyterLab.

The demo's session is a rehearsal (recorded replies); the turn under way and the error are a scripted model's.
"""

from __future__ import annotations

import json
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from cellwright.notebooks.replay import Replay
from cellwright.notebooks.report import page
from playwright.sync_api import Page, expect, sync_playwright

from tests.browser.conftest import EXTENSION, chromium
from tests.browser.lab import SLOW_MS, Lab, LabServer
from tests.doubles.openai_server import OpenAIServer, Say, cell

SIZE = {"width": 1280, "height": 800}
GAP, FILLED = b"NA,NA,NA,NA,NA", b"40.1,18.4,192,3700,male"
TRAINING = """
import time
for epoch in range(1, 9):
    print(f"epoch {epoch}: loss {1 / epoch:.3f}", flush=True)
    time.sleep(0.6)
"""


class Pictures:
    """A folder of them."""

    def __init__(self, page: Page, folder: Path) -> None:
        self._page, self._folder = page, folder

    def take(self, name: str, other: Page | None = None) -> None:
        """One, of JupyterLab or of another page."""
        shown = other or self._page
        shown.mouse.move(0, 0)
        shown.wait_for_timeout(600)
        shown.screenshot(path=str(self._folder / f"{name}.png"))
        print(name)


def penguins(lab: Lab) -> str:
    """The demo's session, with its file."""
    demo = files("cellwright.server.demo")
    recording = json.loads((demo / "penguins.rehearsal.json").read_text())
    questions = [turn["query"] for turn in recording["turns"]]
    fields = {"title": "Palmer penguins", "model": "rehearsal:penguins", "metadata": {"suggestions": questions}}
    session = str(lab.server.call("POST", "/sessions", json=fields)["id"])
    table = {"file": ("penguins.csv", (demo / "penguins.csv").read_bytes())}
    lab.server.call("POST", f"/sessions/{session}/upload", files=table)
    return session


def main(folder: Path) -> None:
    """All pictures, by one run."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as made, OpenAIServer() as model, sync_playwright() as playwright:
        server = LabServer.fresh(Path(made), labextensions=EXTENSION / "labextensions", **model.settings)
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
        try:
            server.start()
            window = browser.new_context(viewport=SIZE).new_page()
            story(Lab(window, server, "pictures"), model, Pictures(window, folder))
        finally:
            browser.close()
            server.stop()


def story(lab: Lab, model: OpenAIServer, pictures: Pictures) -> None:
    """One after the other, each begun where the former ended."""
    session = penguins(lab)
    lab.open()
    lab.choose(session)
    pictures.take("first-start")
    for n in (1, 2):
        lab.panel.locator(".jp-Cellwright-suggestion").click()
        lab.ended(n)
    lab.page.wait_for_timeout(500)
    pictures.take("finished-turn")
    lab.open_notebook()
    lab.page.keyboard.press("Escape")
    lab.page.evaluate("window.jupyterapp.commands.execute('application:toggle-left-area')")
    figure = lab.cells.filter(has=lab.page.locator(".jp-OutputArea img")).first
    if figure.count():
        figure.scroll_into_view_if_needed()
    pictures.take("live-notebook")
    lab.page.evaluate("window.jupyterapp.commands.execute('apputils:change-theme', { theme: 'JupyterLab Dark' })")
    lab.page.wait_for_timeout(1_500)
    pictures.take("dark")
    lab.page.evaluate("window.jupyterapp.commands.execute('apputils:change-theme', { theme: 'JupyterLab Light' })")
    lab.page.wait_for_timeout(1_000)
    lab.tab("Variables")
    lab.panel.locator(".jp-Cellwright-variables .jp-Cellwright-fold").first.click()
    pictures.take("variables")
    lab.tab("Artifacts")
    pictures.take("artifacts")
    lab.tab("Chat")
    message = lab.ended(1)
    message.hover()
    message.get_by_role("button", name="Rewind to here").click()
    expect(lab.page.locator(".jp-Dialog")).to_contain_text("Nothing is deleted")
    pictures.take("preview")
    lab.page.locator(".jp-Dialog .jp-mod-reject").click()
    replayed(lab, session, pictures)
    lab.server.call("POST", f"/sessions/{session}/undo", json={"to_turn": 1})
    source = "penguins.groupby('island').size()"
    lab.server.call("POST", f"/sessions/{session}/execute", json={"source": source})
    lab.tab("History")
    expect(lab.panel.locator(".jp-Cellwright-history li[data-current]")).to_contain_text("island")
    pictures.take("history")
    lab.new_chat()
    model.script([cell(TRAINING, "Train a small model", thinking="Eight epochs will do.")])
    lab.ask("Train it, and tell me how the loss falls.")
    expect(lab.turn(1).get_by_text("epoch 4")).to_be_visible(timeout=SLOW_MS)
    pictures.take("under-way")
    lab.turn(1).get_by_role("button", name="Stop").click()
    lab.ended(1, "stopped")
    model.script([cell("frame = load('missing.csv')", "Load the file"), Say(status=401)])
    lab.ask("Now with the other file.")
    lab.ended(2, "failed")
    pictures.take("error")


def replayed(lab: Lab, session: str, pictures: Pictures) -> None:
    """What a replay of the session says where somebody has filled a gap in the data meanwhile."""
    export = lab.server.http.get(f"/sessions/{session}/export", params={"format": "ipynb"}).content
    data = (files("cellwright.server.demo") / "penguins.csv").read_bytes()
    parts = [("notebook", ("palmer-penguins.ipynb", export)), ("file", ("penguins.csv", data.replace(GAP, FILLED, 1)))]
    found = lab.server.call("POST", "/replay", files=parts, params={"keep_going": True})
    shown = lab.page.context.new_page()
    shown.set_content(page(Replay.model_validate(found)))
    pictures.take("replay", shown)
    shown.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
