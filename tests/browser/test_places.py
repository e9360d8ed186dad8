"""Where JupyterLab may stand: under a base URL, behind a login with its XSRF check, and as Notebook 7."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
from playwright.sync_api import Browser, Route, expect

from tests.browser.lab import SLOW_MS, Lab, LabServer
from tests.doubles.hub import Hub
from tests.doubles.identity import ARGUMENTS
from tests.doubles.openai_server import OpenAIServer, Say, cell

ROOT = Path(__file__).parents[2]


class Below(LabServer):
    """Under a base URL."""

    base = "/user/ada/"

    def begin(self, *arguments: str, **environment: str) -> Self:
        super().begin(f"--ServerApp.base_url={self.base}", *arguments, **environment)
        return self


@pytest.fixture(scope="module")
def below(
    tmp_path_factory: pytest.TempPathFactory, cluster: Path, labextensions: Path, _lab_model: OpenAIServer
) -> Iterator[LabServer]:
    folder = tmp_path_factory.mktemp("below")
    with Below.fresh(folder, cluster, labextensions=labextensions, **_lab_model.settings) as server:
        yield server


def test_below_a_base_url_with_a_login(browser: Browser, below: LabServer, model: OpenAIServer) -> None:
    """After a login with the password: chat, figure, notebook."""
    model.script([cell("import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()", "Plot"), Say("Plotted.")])
    window = browser.new_context(viewport={"width": 1280, "height": 800})
    page = window.new_page()
    page.goto(f"{below.url}login?next={below.base}lab/workspaces/below")
    page.fill("input[name=password]", below.token)
    page.click("#login_submit")
    lab = Lab(page, below, "below").ready()
    lab.new_chat()
    lab.ask("Plot.")
    lab.ended(1)
    expect(lab.turn(1).locator("img")).to_be_visible()
    expect(lab.panel.locator(".jp-Cellwright-cards .jp-Cellwright-card img")).to_be_visible()
    lab.open_notebook()
    expect(lab.cells).to_have_count(3)
    lab.no_dialog()
    assert not [line for line in lab.logged if "403" in line], lab.logged
    window.close()


def by_cookie(route: Route) -> None:
    """Sends a request without the token that a page has: its cookies, and the XSRF header, must do."""
    route.continue_(headers={name: value for name, value in route.request.headers.items() if name != "authorization"})


class OfAHub(LabServer):
    """Ann's server as JupyterHub starts it."""

    module, base = "jupyterhub.singleuser", "/user/ann/"


def test_behind_a_hub(
    browser: Browser, tmp_path: Path, cluster: Path, labextensions: Path, model: OpenAIServer
) -> None:
    """After the Hub's login, with its cookies and XSRF check alone: chat, upload, figure, notebook, download."""
    model.script([cell("import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()", "Plot"), Say("Plotted.")])
    server = OfAHub.fresh(tmp_path, cluster, token="token-ann", labextensions=labextensions, **model.settings)
    window = browser.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True)
    with Hub() as hub:
        try:
            server.start(**hub.settings(server.port, hub.url))
            page = window.new_page()
            refused: list[str] = []
            page.on("response", lambda answer: refused.append(answer.url) if answer.status == 403 else None)
            page.route("**/cellwright/api/**", by_cookie)
            page.goto(f"{server.url}lab/workspaces/hub?reset")
            lab = Lab(page, server, "hub").ready()
            assert page.url.startswith(server.url)
            session = lab.new_chat()
            (tmp_path / "sent.csv").write_text("a\n1\n")
            lab.drop("sent.csv", "a\n1\n")
            lab.ask("Plot.")
            lab.ended(1)
            expect(lab.turn(1).locator("img").first).to_be_visible()
            lab.open_notebook()
            lab.tab("Artifacts")
            card = lab.panel.locator(".jp-Cellwright-gallery .jp-Cellwright-card[data-name='sent.csv']")
            with page.expect_download() as download:
                card.get_by_role("button", name="Download", exact=True).click()
            assert download.value.path().read_text() == "a\n1\n"
            lab.agree(session)
            assert refused == []
        finally:
            window.close()
            server.stop()


def test_notebook_7(lab: Lab, jupyter: LabServer, model: OpenAIServer) -> None:
    """The panel stands beside a notebook in Notebook 7 as well, and that notebook follows the agent."""
    model.script([cell("seven = 7", "Make seven"), Say("Made."), cell("eight = 8", "Make eight"), Say("Made.")])
    session = jupyter.call("POST", "/sessions", json={"title": "Seven"})
    first = jupyter.call("POST", f"/sessions/{session['id']}/query", json={"query": "Make seven."})
    jupyter.until_ended(first["turn_id"])
    path = jupyter.call("GET", f"/sessions/{session['id']}")["notebook_path"]
    lab.page.goto(f"{jupyter.url}notebooks/{path}?token={jupyter.token}&cellwright={session['id']}")
    expect(lab.panel.locator(".jp-Cellwright-header")).to_be_visible(timeout=SLOW_MS)
    expect(lab.page.locator(".jp-Notebook .jp-Cell")).to_have_count(3)
    lab.ask("Make eight.")
    lab.ended(2)
    expect(lab.page.locator(".jp-Notebook .jp-Cell")).to_have_count(6)
    expect(lab.page.locator(".jp-Dialog")).to_have_count(0)


def test_versions_that_differ(lab: Lab) -> None:
    """Front end and server say so, and what to do; the panel works on."""

    def other(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), "version": "9.9.9"})

    lab.page.route("**/cellwright/api/v1/health*", other)
    lab.open()
    expect(lab.page.get_by_text("the server has 9.9.9: restart the server")).to_be_visible()
    lab.new_chat()


def test_a_server_without_cellwright(lab: Lab) -> None:
    """The panel says what is missing, in one place however often it is looked at, and works when it is there."""
    lab.page.route("**/cellwright/api/v1/health*", lambda route: route.fulfill(status=404))
    lab.page.goto(f"{lab.server.url}lab/workspaces/without?token={lab.server.token}&reset")
    lab.page.wait_for_function("window.jupyterapp?.commands.hasCommand('cellwright:show')")
    show = "window.jupyterapp.commands.execute('cellwright:show').catch(() => 0)"
    lab.page.evaluate(f"window.jupyterapp.restored.then(() => {show})")
    expect(lab.panel.get_by_role("alert")).to_contain_text("pip install cellwright")
    lab.page.evaluate(show)
    expect(lab.panel.get_by_role("alert")).to_have_count(1)
    lab.page.unroute_all()
    lab.show()
    expect(lab.panel.get_by_role("alert")).to_have_count(0)


def test_a_session_to_look_at(
    browser: Browser,
    tmp_path: Path,
    cluster: Path,
    labextensions: Path,
    model: OpenAIServer,
) -> None:
    """Who may only read sees all of it, and is offered nothing that they may not do."""
    model.script([cell("shared = 1\nshared", "Make it"), Say("Made.")])
    names = {"PYTHONPATH": str(ROOT), "token": "token-bob", **model.settings}  # A page says its server's own token.
    server = LabServer.fresh(tmp_path, cluster, labextensions=labextensions, **names)
    server.http.headers["Authorization"] = "token token-ann"
    window = browser.new_context(viewport={"width": 1280, "height": 800})
    try:
        server.start(*ARGUMENTS)
        session = server.call("POST", "/sessions", json={"title": "Ann's"})["id"]
        server.until_ended(server.call("POST", f"/sessions/{session}/query", json={"query": "Make it."})["turn_id"])
        server.call("POST", f"/sessions/{session}/shares", json={"user": "bob", "role": "read"})
        page = window.new_page()
        page.goto(f"{server.url}lab?token=token-bob&cellwright={session}")
        lab = Lab(page, server, "shared")
        answer = lab.ended(1)
        expect(answer.get_by_text("Made.")).to_be_visible()
        expect(lab.turn(1).get_by_text("1").last).to_be_visible()
        expect(answer.get_by_role("button", name="Try again")).to_have_count(0)
        lab.write("May I?").click()
        expect(lab.input).to_have_value("May I?")
        expect(lab.panel.get_by_text("You may look at this session")).to_be_visible()
        lab.tab("Variables")
        expect(lab.panel.locator("tr[data-name='shared']")).to_be_visible()
        assert server.call("GET", f"/sessions/{session}")["turn_count"] == 1
    finally:
        window.close()
        server.stop()


def test_the_wheel_holds_the_front_end(labextensions: Path, tmp_path: Path) -> None:
    """`pip install` needs no Node: the built extension and its schema are in the wheel."""
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    source = tmp_path / "source"
    ignore = shutil.ignore_patterns(".git", ".venv", ".peers", "node_modules", "build", "*.egg-info", "demo-workspace")
    shutil.copytree(ROOT, source, ignore=ignore, symlinks=True)
    home = {**os.environ, "HOME": pwd.getpwuid(os.getuid()).pw_dir}  # npm keeps its settings there.
    done = subprocess.run([*build, str(source)], capture_output=True, text=True, env=home)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as held:
        names = [name.partition(".data/data/")[2] for name in held.namelist() if ".data/data/" in name]
        place = "share/jupyter/labextensions/cellwright/"
        package = next(name for name in held.namelist() if name.endswith(place + "package.json"))
        entry = json.loads(held.read(package))["jupyterlab"]["_build"]["load"]
    assert place + entry in names
    assert place + "schemas/cellwright/panel.json" in names
    assert "etc/jupyter/jupyter_server_config.d/cellwright.json" in names
