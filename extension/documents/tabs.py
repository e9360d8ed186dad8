"""The browser tabs that have a session's notebook open: one of them saves, and while there is one, we do not write."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import structlog
from cellwright.extension.documents.shared import SharedNotebooks
from cellwright.server.app import Cellwright
from cellwright.server.domain import SessionId
from cellwright.server.errors import CellwrightError, Conflict

log = structlog.get_logger(__name__)
LEASE_S = 20
REFRESH_S = 7.0

Tell = Callable[[dict[str, Any]], Awaitable[None]]


@dataclass
class Tab:
    """An open notebook, and the way to it."""

    id: str
    tell: Tell
    shared: bool = False
    """It shows a document that jupyter-collaboration shares: the server edits it, and the tab saves nothing."""


class Tabs:
    """Tabs by session, in the order in which they came: the first has the writer's role."""

    def __init__(self, app: Cellwright, server: Any) -> None:
        self._app = app
        self._shared = SharedNotebooks(app, server)
        self._open: dict[SessionId, list[Tab]] = {}
        self._refreshing: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        app.notebooks.open_elsewhere = self.holds

    async def holds(self, session_id: SessionId) -> bool:
        """Whether a tab has the notebook open, here or at another server."""
        return session_id in self._open or await self._app.hot.has_tabs(session_id)

    async def join(self, session_id: SessionId, tab: Tab) -> None:
        """A tab has the notebook open; it is told whether it is the one that saves.

        Raises Conflict for a tab that shares a document which this server does not have.
        """
        if tab.shared and not await self._shared.join(session_id):
            raise Conflict("This server does not share the notebook (jupyter-collaboration).")
        here = self._open.setdefault(session_id, [])
        here[:] = [known for known in here if known.id != tab.id]
        here.append(tab)
        await self._app.hot.keep_tabs(session_id, LEASE_S)
        if self._refreshing is None:
            self._refreshing = asyncio.create_task(self._refresh(), name="tabs")
        await self._told(session_id, tab)

    def leave(self, session_id: SessionId, tab: Tab) -> None:
        """A tab was closed; the next one saves, and after the last, we do."""
        here = self._open.get(session_id, [])
        if tab not in here:
            return
        wrote = here[0] is tab
        here.remove(tab)
        self._app.notebooks.forget(session_id, tab.id)
        if not here:
            del self._open[session_id]
            self._do(self._write(session_id))
        elif wrote:
            self._do(self._told(session_id, here[0]))

    async def _told(self, session_id: SessionId, tab: Tab) -> None:
        writer = not tab.shared and self._open.get(session_id, [])[:1] == [tab]
        await tab.tell({"event": "document.joined", "id": None, "data": {"writer": writer, "lease_s": LEASE_S}})

    async def _write(self, session_id: SessionId) -> None:
        if session_id in self._open:
            return  # Somebody came meanwhile.
        try:
            await self._shared.leave(session_id, lambda: session_id in self._open)
            if session_id in self._open:
                return
            await self._app.hot.drop_tabs(session_id)
            await self._app.notebooks.save(await self._app.rows.get(session_id))
        except (CellwrightError, OSError) as error:
            log.warning("notebook_not_saved", session_id=session_id, error=str(error))

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_S)
            for session_id in list(self._open):
                try:
                    await self._app.hot.keep_tabs(session_id, LEASE_S)
                except (
                    Exception
                ) as error:  # The next round may do better; without a round, all tabs would be forgotten.
                    log.warning("tabs_not_kept", session_id=session_id, error=str(error))

    def _do(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stops looking after tabs; their sockets end with the server."""
        await self._shared.close()
        if self._refreshing is not None:
            self._refreshing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._refreshing
        for task in list(self._tasks):
            with contextlib.suppress(asyncio.CancelledError):
                await task
