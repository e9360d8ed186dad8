"""JupyterLab as its users see it: what they would click and read."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any, Self

from playwright.sync_api import ConsoleMessage, Error, Locator, Page, expect

from tests.jupyter import JupyterServer

SLOW_MS = 30_000
SAVED_S = 10
NOTEBOOK = "[...window.jupyterapp.shell.widgets('main')].find(w => w.model?.sharedModel?.cells)"


GIVE = """([kind, name, text]) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([text], name, { type: 'text/csv' }));
    const about = { bubbles: true, cancelable: true };
    const event = kind === 'drop' ? new DragEvent('drop', { ...about, dataTransfer: transfer })
                                  : new ClipboardEvent('paste', { ...about, clipboardData: transfer });
    document.querySelector('#cellwright-panel textarea').dispatchEvent(event);
}"""


class LabServer(JupyterServer):
    """A JupyterLab with the built front end."""

    module = "jupyterlab"

    def __init__(self, folder: Path, root: Path, data_dir: Path, *, labextensions: Path, **more: Any) -> None:
        settings = folder / "settings"
        quiet = settings / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
        quiet.parent.mkdir(parents=True)
        quiet.write_text('{"fetchNews": "false", "checkForUpdates": false}')
        paths = [str(labextensions.parent), *filter(None, [more.pop("JUPYTER_PATH", "")])]
        places = {"JUPYTERLAB_SETTINGS_DIR": str(settings), "JUPYTER_PATH": os.pathsep.join(paths)}
        super().__init__(folder, root, data_dir, **places, **more)
        self._workspaces = folder / "workspaces"

    def begin(self, *arguments: str, **environment: str) -> Self:
        return super().begin(
            f"--LabApp.workspaces_dir={self._workspaces}",
            "--LabApp.expose_app_in_browser=True",
            *arguments,
            **environment,
        )


class Lab:
    """One browser window with JupyterLab, and the panel in it."""

    def __init__(self, page: Page, server: JupyterServer, workspace: str) -> None:
        self.page, self.server = page, server
        self.workspace = "".join(c if c.isalnum() else "-" for c in workspace)[:60]
        self.logged: list[str] = []
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.logged.append(f"pageerror: {error.stack}"))

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.logged.append(f"{message.type}: {message.text}")

    @property
    def panel(self) -> Locator:
        return self.page.locator("#cellwright-panel")

    def open(self, path: str = "") -> Lab:
        """Loads JupyterLab, and shows the panel."""
        self.page.goto(f"{self.server.url}lab/workspaces/{self.workspace}{path}?token={self.server.token}&reset")
        return self.ready()

    @property
    def _stored(self) -> str:
        """In JavaScript: what JupyterLab has stored of where it stands, as text."""
        fetched = f"window.jupyterapp.serviceManager.workspaces.fetch('{self.workspace}')"
        return f"{fetched}.then(held => JSON.stringify(held))"

    def kept(self, session: str = "") -> None:
        """Waits until JupyterLab has stored that the session is shown: a page that is loaded again comes back to it.

        While its first storing is not confirmed, the address says `reset`, and a reload would begin from nothing.
        """
        self.page.wait_for_function("!new URLSearchParams(location.search).has('reset')", timeout=SLOW_MS)
        self.page.wait_for_function(f"() => {self._stored}.then(text => text.includes('{session}'))", polling=200)

    def reload(self, session: str = "") -> Lab:
        """Loads the page again, once JupyterLab has stored where it stands, and stores nothing more."""
        self.kept(session)
        settled = "const is = window.cellwrightStored === text; window.cellwrightStored = text; return is;"
        self.page.wait_for_function(f"() => {self._stored}.then(text => {{ {settled} }})", polling=1_000)
        self.page.reload()
        return self.ready()

    def ready(self) -> Lab:
        self.page.wait_for_function("window.jupyterapp?.commands.hasCommand('cellwright:show')")
        # What JupyterLab puts into its main area at first, be it the launcher, takes the focus, and with it the keys.
        self.page.wait_for_function("window.jupyterapp.shell.currentWidget?.node.contains(document.activeElement)")
        self.show()
        return self

    def show(self) -> None:
        self.page.evaluate("window.jupyterapp.commands.execute('cellwright:show')")
        expect(self.panel.locator(".jp-Cellwright-header")).to_be_visible(timeout=SLOW_MS)

    def command(self, name: str, **arguments: Any) -> None:
        self.page.evaluate("([name, args]) => void window.jupyterapp.commands.execute(name, args)", [name, arguments])

    def new_chat(self) -> str:
        """Begins a chat; returns its session's id."""
        with self.page.expect_response(lambda said: said.request.method == "POST" and "/sessions?" in said.url) as made:
            self.panel.locator("[aria-label='New chat']").first.click()
        expect(self.panel.locator(".jp-Cellwright-welcome")).to_be_visible()
        return str(made.value.json()["id"])

    def choose(self, session: str) -> None:
        """Opens a session from the list."""
        if self.panel.get_by_role("button", name="All sessions").is_visible():
            self.panel.get_by_role("button", name="All sessions").click()
        self.panel.locator(f"li[data-session='{session}'] .jp-Cellwright-session").click()
        expect(self.input).to_be_visible()

    @property
    def input(self) -> Locator:
        return self.panel.locator(".jp-chat-input-textfield textarea").first

    def write(self, query: str) -> Locator:
        """Types a question; returns the button that sends it."""
        self.input.fill(query)
        send = self.panel.get_by_role("button", name="Send message")
        # Who types is slower than the page, which knows a moment later that there is something to send.
        expect(send).to_be_enabled(timeout=SLOW_MS)
        return send

    def ask(self, query: str) -> None:
        sent = self.write(query)
        for _ in range(3):  # What a busy page does meanwhile may take the cursor away.
            self.input.press("Enter")
            with contextlib.suppress(AssertionError):
                expect(sent).to_be_disabled(timeout=SLOW_MS / 3)
                return
        raise AssertionError(f"{query!r} was not sent.")

    def stands(self) -> str:
        """Where the page is, and what JupyterLab has stored of it: for who looks into a test that failed."""
        try:
            return f"{self.page.url}\n{self.page.evaluate(self._stored)}"
        except Error as error:
            return f"{self.page.url}\n{error}"

    def drop(self, name: str, text: str, how: str = "drop") -> None:
        """Drops a file onto the question, or pastes it, and waits until it stands there."""
        self.page.evaluate(GIVE, [how, name, text])
        expect(self.panel.locator(".jp-chat-attachment", has_text=name)).to_be_visible()

    def choose_from_menu(self, item: Locator, entry: str) -> None:
        """Clicks on an entry of a context menu; opens that again where the page, taking the focus, closed it."""
        wanted = self.page.locator(".lm-Menu-item", has_text=entry)
        for _ in range(3):
            item.click(button="right")
            with contextlib.suppress(Error):
                wanted.click(timeout=SLOW_MS / 3)
                return
        raise AssertionError(f"There is no {entry!r}.")

    def turn(self, n: int) -> Locator:
        return self.panel.locator(f".jp-Cellwright-steps[data-turn='{n}']")

    def ended(self, n: int, status: str = "completed") -> Locator:
        """The message of a turn that has ended so."""
        turn = self.page.locator(f".jp-Cellwright-steps[data-turn='{n}'][data-status='{status}']")
        expect(turn).to_be_attached(timeout=SLOW_MS)
        return self.panel.locator(".jp-chat-message", has=turn)

    def tab(self, name: str) -> None:
        self.panel.get_by_role("tab", name=name).click()

    @property
    def cells(self) -> Locator:
        """The cells of the notebook that is in front."""
        return self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook .jp-Cell")

    def open_notebook(self) -> None:
        self.panel.get_by_role("button", name="Open notebook").click()
        expect(self.cells.first).to_be_visible(timeout=SLOW_MS)
        self.bound()

    def bound(self) -> None:
        """Waits until the open notebook follows its session, on the session's kernel."""
        self.page.wait_for_function(
            f"{NOTEBOOK}.model.getMetadata('cellwright')?.tab && {NOTEBOOK}.sessionContext.session?.kernel"
        )
        # A kernel that is left for another at this moment never tells.
        told = f"{NOTEBOOK}.sessionContext.session.kernel.info"
        self.page.evaluate(f"Promise.race([{told}, new Promise(go => setTimeout(go, 3000))]).then(() => 0)")

    def type_cell(self, source: str, last: bool = True) -> None:
        """Makes a cell behind the last (or first) one, and types into it."""
        self.cells.nth(-1 if last else 0).click(position={"x": 4, "y": 4})
        self.page.keyboard.press("Escape")
        self.command("notebook:insert-cell-below")
        self.command("notebook:enter-edit-mode")
        self.page.keyboard.type(source)

    def in_tab(self) -> list[tuple[str, str]]:
        """Kinds and sources of the cells in the open notebook's model."""
        found = self.page.evaluate(f"{NOTEBOOK}.model.sharedModel.cells.map(c => [c.cell_type, c.getSource()])")
        return [tuple(pair) for pair in found]

    def in_file(self) -> list[tuple[str, str]]:
        """The same, of the file."""
        path = self.page.evaluate(f"{NOTEBOOK}.context.localPath")
        while not (text := (self.server.root / path).read_text()).endswith("}\n"):
            self.page.wait_for_timeout(50)  # It is being written.
        notebook = json.loads(text)
        return [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]

    def saved(self) -> None:
        """Waits until the open notebook is saved, and follows the log to its end."""
        self.page.wait_for_function(
            f"(() => {{ const held = {NOTEBOOK}; return !held.model.dirty; }})()", timeout=SLOW_MS, polling=100
        )
        self.page.wait_for_timeout(700)  # Longer than a tab gathers changes before it saves.
        self.page.wait_for_function(f"!{NOTEBOOK}.model.dirty", timeout=SLOW_MS, polling=100)

    def in_log(self, session: str) -> list[tuple[str, str]]:
        """The same, of the session's log."""
        document = self.server.call("GET", f"/sessions/{session}/notebook")
        return [(found["cell_type"], "".join(found["source"])) for found in document["cells"]]

    def agree(self, session: str) -> None:
        """Waits until all is saved; tab, file and log hold the same cells then, and nothing was asked."""
        self.saved()
        give_up = time.monotonic() + SAVED_S
        while not (self.in_tab() == self.in_file() == self.in_log(session)) and time.monotonic() < give_up:
            self.page.wait_for_timeout(200)
        log = self.in_log(session)
        assert self.in_tab() == log
        assert self.in_file() == log
        self.no_dialog()

    def no_dialog(self) -> None:
        """Nothing asks the user anything."""
        expect(self.page.locator(".jp-Dialog")).to_have_count(0)
        assert not [line for line in self.logged if line.startswith("pageerror")], self.logged

    def no_kernel_dialog(self) -> None:
        """Answers JupyterLab's question for a kernel, where it asks."""
        self.page.wait_for_timeout(1_000)
        if self.page.locator(".jp-Dialog").count():
            self.page.locator(".jp-Dialog .jp-mod-accept").click()
