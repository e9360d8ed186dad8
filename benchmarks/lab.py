"""The front end's speed: `python -m benchmarks.lab`. Milliseconds as a user in the browser has them, and sizes.

The peer is JupyterLab itself: its start without us, and a cell of its own notebook from Shift+Enter to the picture.
"""

from __future__ import annotations

import re
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from playwright.sync_api import Page, Route, sync_playwright

from tests.browser.conftest import EXTENSION, chromium
from tests.browser.lab import Lab, LabServer
from tests.doubles.openai_server import OpenAIServer, Say, cell

RUNS = 7
STARTS = 15
PLOT = "import matplotlib.pyplot as plt\nplt.plot([1, 2, 3])\nplt.show()"
WATCH = """selector => new Promise(resolve => {
    const count = document.querySelectorAll(selector).length;
    const more = () => document.querySelectorAll(selector).length > count;
    const look = () => more() ? resolve(performance.now()) : requestAnimationFrame(look);
    look();
})"""


def median(measure: Callable[[], float], runs: int = RUNS) -> float:
    return statistics.median(measure() for _ in range(runs))


def started(page: Page, server: LabServer, workspace: str) -> float:
    """From the address to the restored application."""
    page.goto("about:blank")
    began = time.perf_counter()
    page.goto(f"{server.url}lab/workspaces/{workspace}?token={server.token}&reset")
    page.wait_for_function("window.jupyterapp", polling=10)
    page.evaluate("window.jupyterapp.restored")
    return (time.perf_counter() - began) * 1000


def without_us(route: Route) -> None:
    """The page, with our extension taken from its list."""
    answer = route.fetch()
    text = re.sub(r', \{[^{}]*"name": "cellwright"[^{}]*\}|\{[^{}]*"name": "cellwright"[^{}]*\}, ', "", answer.text())
    assert '"name": "cellwright"' not in text
    route.fulfill(response=answer, body=text)


def with_us(route: Route) -> None:
    """The page as it is, by the same way."""
    answer = route.fetch()
    assert '"name": "cellwright"' in answer.text()
    route.fulfill(response=answer)


def sizes() -> None:
    built = EXTENSION / "labextensions" / "cellwright" / "static"
    files = {path.name: path.stat().st_size for path in built.glob("*.js")}
    entry = next(size for name, size in files.items() if name.startswith("remoteEntry"))
    print(f"bundle: {sum(files.values()) / 1000:.0f} kB in {len(files)} files; the entry {entry / 1000:.0f} kB")


def main() -> None:
    sizes()
    with tempfile.TemporaryDirectory() as made, OpenAIServer() as model, sync_playwright() as playwright:
        server = LabServer.fresh(Path(made), labextensions=EXTENSION / "labextensions", **model.settings)
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
        try:
            server.start()
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            ours, without = [], []
            for n in range(2 * STARTS + 2):
                here = n % 2 == 0
                page.route("**/lab/workspaces/start**", with_us if here else without_us)
                ms = started(page, server, f"start-{n}")
                page.unroute_all()
                if n > 1:
                    (ours if here else without).append(ms)
            a, b = statistics.median(ours), statistics.median(without)
            print(f"JupyterLab's start: {a:.0f} ms with us, {b:.0f} ms without ({a - b:+.0f} ms)")
            in_use(Lab(page, server, "bench").open(), model)
        finally:
            browser.close()
            server.stop()


def in_use(lab: Lab, model: OpenAIServer) -> None:
    lab.new_chat()
    model.script([cell("1", "warm"), Say("Warm.")])
    lab.ask("Warm up.")
    lab.ended(1)
    turn = 1

    def asked() -> float:
        nonlocal turn
        turn += 1
        model.script([Say("Yes.")])
        lab.input.fill("Is it there?")
        seen = lab.page.evaluate_handle(f"(window.seen = ({WATCH})('#cellwright-panel .jp-chat-message'), 0)")
        seen.dispose()
        began = lab.page.evaluate("performance.now()")
        lab.input.press("Enter")
        ms = float(lab.page.evaluate("window.seen")) - float(began)
        lab.ended(turn)
        return ms

    def drawn() -> float:
        nonlocal turn
        turn += 1
        model.script([cell(PLOT, "plot"), Say("Drawn.")])
        lab.page.evaluate(f"(window.seen = ({WATCH})('#cellwright-panel .jp-Cellwright-outputs img'), 0)")
        lab.ask("Draw.")
        seen = float(lab.page.evaluate("window.seen"))
        origin = float(lab.page.evaluate("performance.timeOrigin"))
        lab.ended(turn)
        session = lab.server.call("GET", "/sessions")["sessions"][0]["id"]
        log = lab.server.call("GET", f"/sessions/{session}/log", params={"turns": 1})["events"]
        done = next(e for e in log if e["event"] == "cell.completed")
        return origin + seen - datetime.fromisoformat(done["data"]["at"]).timestamp() * 1000

    def run_by_hand() -> float:
        lab.type_cell(PLOT)
        lab.page.evaluate(f"(window.seen = ({WATCH})('.jp-Notebook .jp-OutputArea-output img'), 0)")
        began = float(lab.page.evaluate("performance.now()"))
        lab.page.keyboard.press("Control+Enter")
        return float(lab.page.evaluate("window.seen")) - began

    print(f"Enter to the first visible change: {median(asked):.0f} ms")
    print(f"a cell's end in the log to its picture in the panel: {median(drawn):.0f} ms")
    lab.open_notebook()
    print(f"JupyterLab's own cell, Ctrl+Enter to the picture, same kernel: {median(run_by_hand, 3):.0f} ms")


if __name__ == "__main__":
    main()
