"""What was read lately of a session, for as long as its log has not grown: a warm read asks Postgres for nothing.

Every append is told to every process by Postgres itself, so nothing here is older than that message takes (under a
millisecond), and while the listener is away nothing is kept.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from cellwright.server.domain import SessionId

T = TypeVar("T")
MAX_BYTES = 64 << 20
KEPT_S = 60.0
LIGHT = 2_000
"""What an answer is taken to hold that is not weighed."""


class Recent:
    """A bounded memory of answers by session and name."""

    def __init__(self) -> None:
        self._held: OrderedDict[tuple[SessionId, str], tuple[float, Any, int]] = OrderedDict()
        self._bytes = 0
        self._names: dict[SessionId, set[str]] = {}
        self._changes: dict[SessionId, int] = {}
        self._loading: dict[SessionId, int] = {}
        self.listening = False

    async def get(
        self,
        session_id: SessionId,
        name: str,
        load: Callable[[], Awaitable[T]],
        weigh: Callable[[T], int] = lambda _: LIGHT,
    ) -> T:
        """The answer that is known, or what `load` gives; errors are not kept, nor what weighs too much (in bytes)."""
        key = (session_id, name)
        found = self._held.get(key)
        if found is not None and self.listening and time.monotonic() - found[0] < KEPT_S:
            self._held.move_to_end(key)
            answer: T = found[1]
            return answer
        began = time.monotonic()
        before = self._changes.get(session_id, 0)
        self._loading[session_id] = self._loading.get(session_id, 0) + 1
        try:
            answer = await load()
            # What changed while it was read may be half in it.
            if self.listening and self._changes.get(session_id, 0) == before:
                self._keep(key, began, answer, weigh(answer))
        finally:
            self._loading[session_id] -= 1
            if not self._loading[session_id]:
                del self._loading[session_id]
                self._changes.pop(session_id, None)
        return answer

    def _keep(self, key: tuple[SessionId, str], at: float, answer: object, weight: int) -> None:
        if weight > MAX_BYTES // 8:
            return
        self._drop(key)
        self._held[key] = (at, answer, weight)
        self._bytes += weight
        self._names.setdefault(key[0], set()).add(key[1])
        while self._bytes > MAX_BYTES:
            self._drop(next(iter(self._held)))

    def _drop(self, key: tuple[SessionId, str]) -> None:
        found = self._held.pop(key, None)
        if found is not None:
            self._bytes -= found[2]
            names = self._names[key[0]]
            names.discard(key[1])
            if not names:
                del self._names[key[0]]

    def forget(self, session_id: SessionId) -> None:
        """The session's log has grown."""
        if session_id in self._loading:
            self._changes[session_id] = self._changes.get(session_id, 0) + 1
        for name in list(self._names.get(session_id, ())):
            self._drop((session_id, name))

    def heard(self, listening: bool) -> None:
        """The listener came or went: what was missed in between is not known."""
        self.listening = listening
        self._held.clear()
        self._names.clear()
        self._bytes = 0
        for session_id in self._loading:
            self._changes[session_id] = self._changes.get(session_id, 0) + 1
