"""The Jupyter Server extension: builds Cellwright on the server's own kernels and contents, and serves the routes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import structlog
from jupyter_server.extension.application import ExtensionApp
from traitlets import Dict

from cellwright.extension.routes import handlers
from cellwright.server.app import Cellwright
from cellwright.server.errors import CellwrightError
from cellwright.server.logs import configure
from cellwright.server.settings import Settings

TAKE_OVER_S = 10.0
log = structlog.get_logger(__name__)


class CellwrightApp(ExtensionApp):
    """`c.CellwrightApp.options = {"model": "…"}` in jupyter_config.py, or CELLWRIGHT_* in the environment."""

    name = "cellwright"
    extension_url = "/cellwright/api/v1/health"
    load_other_extensions = True

    options = Dict(help="Settings by name, over those of the environment: see `cellwright doctor`.").tag(config=True)

    cellwright: Cellwright | None = None

    def initialize_settings(self) -> None:
        self.settings["cellwright_failed"] = None
        self.settings["cellwright_opened"] = None
        self.settings["cellwright"] = None

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
        self.cellwright = Cellwright(
            settings, server.kernel_manager, server.contents_manager, root, getattr(server, "connection_url", None)
        )
        self.settings["cellwright"] = self.cellwright
        if settings.database_url is None and _leftovers(self.cellwright):
            # Kernels outlived a crash: they must stand in the kernel manager before the first request asks for them.
            server.io_loop.run_sync(self._open)
        else:
            server.io_loop.add_callback(self._open_in_background)

    async def _open_in_background(self) -> None:
        self.settings["cellwright_opened"] = asyncio.ensure_future(self._open())

    async def _open(self) -> None:
        assert self.cellwright is not None
        try:
            await self.cellwright.open(TAKE_OVER_S)
        except CellwrightError as error:
            self._failed(error)
        except Exception as error:
            log.exception("cellwright_did_not_open")
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        """Jupyter goes on without us; every request of ours is told why."""
        self.settings["cellwright_failed"] = error
        self.log.error("Cellwright is not running: %s", error)

    async def stop_extension(self) -> None:
        opened: asyncio.Future[Any] | None = self.settings.get("cellwright_opened")
        if opened is not None and not opened.done():
            opened.cancel()
            await asyncio.gather(opened, return_exceptions=True)
        if self.cellwright is not None and self.settings["cellwright_failed"] is None:
            await self.cellwright.close()


def _leftovers(cellwright: Cellwright) -> bool:
    from cellwright.server.store.folder import runtime_folder

    return any(runtime_folder(cellwright.folder.path).glob("*.registered"))
