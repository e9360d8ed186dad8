"""The Jupyter Server extension: builds Cellwright on the server's own kernels and contents, and serves the routes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog
from cellwright.extension.documents.contents import PlainContents, merge_saves
from cellwright.extension.documents.tabs import Tabs
from cellwright.extension.routes import handlers
from cellwright.server.app import Cellwright
from cellwright.server.errors import CellwrightError, DataFolderInUse, StoreUnavailable
from cellwright.server.logs import configure
from cellwright.server.settings import Settings
from cellwright.server.store.folder import private_folder, runtime_folder
from jupyter_server._tz import utcnow
from jupyter_server.extension.application import ExtensionApp
from traitlets import Dict

TAKE_OVER_S = 10.0
AGAIN_S = 2.0
log = structlog.get_logger(__name__)


class CellwrightApp(ExtensionApp):
    """`c.CellwrightApp.options = {"model": "…"}` in jupyter_config.py, or CELLWRIGHT_* in the environment."""

    name = "cellwright"
    extension_url = "/cellwright/api/v1/health"
    load_other_extensions = True

    options = Dict(help="Settings by name, over those of the environment: see `cellwright doctor`.").tag(config=True)

    cellwright: Cellwright | None = None
    opened: asyncio.Future[None] | None = None
    failed: Exception | None = None
    tabs: Tabs | None = None
    _idle: asyncio.Task[None] | None = None
    _again: asyncio.Task[None] | None = None

    def initialize_settings(self) -> None:
        self.settings["cellwright_extension"] = self

    def initialize_handlers(self) -> None:
        self.handlers.extend(handlers(self.name))
        try:
            settings = Settings.load(self.options)
        except CellwrightError as error:
            self._failed(error)
            return
        configure(settings.log_format)
        server = self.serverapp
        assert server is not None
        root = Path(getattr(server.contents_manager, "root_dir", None) or server.root_dir)
        contents = PlainContents(server.contents_manager)
        self.cellwright = Cellwright(
            settings,
            server.kernel_manager,
            contents,
            root,
            getattr(server, "connection_url", None),
            server.session_manager,
        )
        merge_saves(server.contents_manager, contents, lambda: None if self.tabs is None else self.cellwright)
        free = not self.cellwright.folder.in_use()
        if free:
            # A kernel that outlives a crash keeps its place in JupyterLab: the tab that was open finds it again.
            path = private_folder(settings.data_dir) / "jupyter-sessions.db"
            if server.session_manager.database_filepath == ":memory:":
                server.session_manager.database_filepath = str(path)
        if free and _leftovers(self.cellwright):
            # Kernels outlived a crash: they must stand in the kernel manager before the first request asks for them.
            server.io_loop.run_sync(self._open)
        else:
            server.io_loop.add_callback(self._open_in_background)

    async def _open_in_background(self) -> None:
        self.opened = asyncio.ensure_future(self._open())

    async def _open(self) -> None:
        assert self.cellwright is not None
        try:
            await self.cellwright.open(TAKE_OVER_S)
            self.tabs = Tabs(self.cellwright, self.serverapp)
        except (StoreUnavailable, DataFolderInUse) as error:
            self._failed(error)
            self._again = asyncio.create_task(self._open_later(self.cellwright), name="open later")
        except CellwrightError as error:
            self._failed(error)
        except Exception as error:
            log.exception("cellwright_did_not_open")
            self._failed(error)
        if self.cellwright.settings.idle_stop_s is not None:
            self._idle = asyncio.create_task(self._stop_when_idle(self.cellwright.settings.idle_stop_s))

    async def _open_later(self, cellwright: Cellwright) -> None:
        """Opens as soon as the stores answer: a database may start more slowly than we do."""
        told = str(self.failed)
        while self.failed is not None:
            await asyncio.sleep(AGAIN_S)
            try:
                await cellwright.open()
                self.tabs = Tabs(cellwright, self.serverapp)
                self.failed = None
                log.info("cellwright_opened", after=told)
            except Exception as error:
                self.failed = error
                if str(error) != told:
                    told = str(error)
                    self._failed(error)

    async def _stop_when_idle(self, after_s: float) -> None:
        """Stops a server that was started in the background, once no turn runs and no request came for so long."""
        assert self.cellwright is not None
        assert self.serverapp is not None
        while True:
            await asyncio.sleep(min(after_s, 10.0))
            idle_s = (utcnow() - self.serverapp.web_app.last_activity()).total_seconds()
            if idle_s >= after_s and not self.cellwright.turns.busy:
                log.info("stopping_when_idle", idle_s=round(idle_s))
                self.serverapp.stop(from_signal=True)
                return

    def _failed(self, error: Exception) -> None:
        """Jupyter goes on without us; every request of ours is told why."""
        self.failed = error
        self.log.error("Cellwright is not running: %s", error)

    async def stop_extension(self) -> None:
        if self.opened is not None and not self.opened.done():
            self.opened.cancel()
            await asyncio.gather(self.opened, return_exceptions=True)
        for task in (self._idle, self._again):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if self.tabs is not None:
            await self.tabs.close()
            self.tabs = None
        if self.cellwright is not None and self.failed is None:
            await self.cellwright.close()


def _leftovers(cellwright: Cellwright) -> bool:
    return any(runtime_folder(cellwright.folder.path).glob("*.registered"))
