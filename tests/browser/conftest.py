"""JupyterLab with the panel, in a real browser, on a real server with a scripted model."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.browser.lab import SLOW_MS, Lab, LabServer
from tests.doubles.openai_server import OpenAIServer

EXTENSION = Path(__file__).parents[2] / "extension"
# A machine that does something else beside it needs more than Playwright's five seconds now and then.
expect.set_options(timeout=SLOW_MS / 2)
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def labextensions() -> Path:
    """The folder of the built front end; built here where it is older than its sources."""
    built = EXTENSION / "labextensions" / "cellwright" / "package.json"
    sources = [p for part in ("src", "style", "schema") for p in (EXTENSION / "lab" / part).rglob("*") if p.is_file()]
    if not built.exists() or built.stat().st_mtime < max(p.stat().st_mtime for p in sources):
        done = subprocess.run(["make", "labextension"], cwd=EXTENSION.parent, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return built.parent.parent


def chromium() -> str | None:
    """The machine's own browser."""
    return os.environ.get("CELLWRIGHT_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Not for longer: its event loop is in the way of other modules' coroutines."""
    found = chromium()
    if found is None:
        pytest.skip("there is no Chromium")
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=[*quiet, "--disable-sync"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def _lab_model() -> Iterator[OpenAIServer]:
    with OpenAIServer() as served:
        yield served


@pytest.fixture
def model(_lab_model: OpenAIServer) -> OpenAIServer:
    _lab_model.script([])
    return _lab_model


@pytest.fixture(scope="module")
def jupyter(
    tmp_path_factory: pytest.TempPathFactory, cluster: Path, labextensions: Path, _lab_model: OpenAIServer
) -> Iterator[LabServer]:
    folder = tmp_path_factory.mktemp("lab")
    with LabServer.fresh(folder, cluster, labextensions=labextensions, **_lab_model.settings) as server:
        yield server


@pytest.fixture
def lab(browser: Browser, jupyter: LabServer, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    """A fresh JupyterLab in a window of its own; what the page logs as an error fails the test."""
    window = browser.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True)
    shown = Lab(window.new_page(), jupyter, request.node.name)
    yield shown
    if request.node.stash.get(FAILED, False):
        shown.page.screenshot(path=str(tmp_path / "failed.png"))
        print(f"screenshot: {tmp_path / 'failed.png'}", shown.stands(), *shown.logged, sep="\n")
    window.close()


FAILED: pytest.StashKey[bool] = pytest.StashKey()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Any:
    report = yield
    if report.when == "call":
        item.stash[FAILED] = report.failed
    return report
