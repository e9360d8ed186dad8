"""Wakes readers of the log: one Postgres listener a process, fanned out to one flag per reader."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg
import structlog
from cellwright.server.domain import SessionId
from cellwright.server.errors import StoreUnavailable
from cellwright.server.store import postgres

CHANNEL = "cellwright_events"
POLL_S = 5.0
"""A reader looks by itself this often: what a lost listener costs is a delay, never an event."""

RECONNECT_S = 0.5

log = structlog.get_logger(__name__)


class Wakeups:
    """Listens for appended events for as long as `run` runs."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._readers: dict[SessionId, set[asyncio.Event]] = defaultdict(set)
        self._watchers: list[Callable[[SessionId, str], None]] = []
        self._states: list[Callable[[bool], None]] = []
        self.listening = asyncio.Event()

    def watch(self, watcher: Callable[[SessionId, str], None]) -> None:
        """Calls `watcher(session_id, event_type)` for the last event of every append, of any process."""
        self._watchers.append(watcher)

    def watch_state(self, watcher: Callable[[bool], None]) -> None:
        """Calls `watcher(listening)` whenever the listener starts or stops to hear everything."""
        self._states.append(watcher)

    def _tell(self, listening: bool) -> None:
        for watcher in self._states:
            watcher(listening)

    @contextmanager
    def of(self, session_id: SessionId) -> Iterator[asyncio.Event]:
        """A flag that is set whenever the session's log has grown."""
        flag = asyncio.Event()
        self._readers[session_id].add(flag)
        try:
            yield flag
        finally:
            self._readers[session_id].discard(flag)
            if not self._readers[session_id]:
                del self._readers[session_id]

    async def wait(self, flag: asyncio.Event) -> bool:
        """Returns when `flag` is set, or after POLL_S; says which."""
        try:
            async with asyncio.timeout(POLL_S):
                await flag.wait()
        except TimeoutError:
            return False
        return True

    async def run(self) -> None:
        """Listens until cancelled, and again whenever the connection was lost."""
        while True:
            try:
                connection = await postgres.connect(self._dsn)
            except StoreUnavailable:
                await asyncio.sleep(RECONNECT_S)
                continue
            lost = asyncio.Event()
            connection.add_termination_listener(lambda *_, lost=lost: lost.set())
            try:
                await connection.add_listener(CHANNEL, self._heard)
                self.listening.set()
                self._tell(True)
                self._wake_all()
                await lost.wait()
                log.warning("postgres_listener_lost")
            except (*postgres.AWAY, asyncpg.PostgresError) as error:
                log.warning("postgres_listener_failed", error=str(error))
            finally:
                self.listening.clear()
                self._tell(False)
                connection.terminate()
            await asyncio.sleep(RECONNECT_S)

    def _heard(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        session, _, event_type = str(payload).split(":", 2)
        session_id = SessionId(session)
        for flag in self._readers.get(session_id, ()):
            flag.set()
        for watcher in self._watchers:
            watcher(session_id, event_type)

    def _wake_all(self) -> None:
        for flags in self._readers.values():
            for flag in flags:
                flag.set()
