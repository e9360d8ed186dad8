"""The log: durable events, numbered without gaps for each session, written together with what they describe."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from cellwright.server.domain import SessionId, TurnId
from cellwright.server.errors import NotebookMoved, NotFound, StaleLease
from cellwright.server.events import EVENT, Event, Record
from cellwright.server.store import postgres, queries
from cellwright.server.store.recent import Recent
from cellwright.server.store.wake import Wakeups

SQL = queries.load("log")
ENDS = ("turn.completed", "turn.failed", "turn.stopped", "turn.interrupted")
PAGE, PAGE_BYTES, WHOLE = 200, 256 << 10, 1 << 62

Projection = Callable[[postgres.Connection, Record], Awaitable[None]]
"""Writes what one event describes (turns, messages, cells, …) in the transaction that appends it."""


def crash_point(name: str) -> None:
    """Ends this process here, as a power cut would, when the tests ask for it by name."""
    if os.environ.get("CELLWRIGHT_TEST_CRASH_AT") == name:
        os.kill(os.getpid(), signal.SIGKILL)


class Log:
    """Appends and reads events. Readers are woken by Postgres itself, in the order of the commits."""

    def __init__(self, pool: postgres.Pool, wakeups: Wakeups, project: Projection, recent: Recent) -> None:
        self._pool, self._wakeups, self._project, self._recent = pool, wakeups, project, recent
        wakeups.watch(lambda session_id, _: recent.forget(session_id))
        wakeups.watch_state(recent.heard)

    @asynccontextmanager
    async def transaction(self, session_id: SessionId) -> AsyncIterator[postgres.Connection]:
        """A transaction for appends `within` it, and whatever is to be committed together with them."""
        async with postgres.acquired(self._pool) as connection, connection.transaction():
            yield connection
        self._recent.forget(session_id)

    async def append(
        self,
        session_id: SessionId,
        events: Sequence[Event],
        *,
        generation: int | None = None,
        at_revision: int | None = None,
        within: postgres.Connection | None = None,
    ) -> list[Record]:
        """Commits `events` and all that they describe, in one transaction, and wakes the readers.

        `generation` is the writer's lease: raises StaleLease when another process took the session since.
        Raises NotebookMoved where the notebook is not `at_revision` any more. `within` appends in a `transaction` of
        the caller's. Raises NotFound when the session is gone.
        """
        for event in events:
            crash_point(f"before:{event.type}")
        if within is not None:
            return await self._append(within, session_id, events, generation)
        async with self.transaction(session_id) as connection:
            if at_revision is not None:
                now = await connection.fetchval(SQL.hold_revision, session_id)
                if now is not None and now != at_revision:
                    raise NotebookMoved
            records = await self._append(connection, session_id, events, generation)
        for event in events:
            crash_point(f"after:{event.type}")
        return records

    async def _append(
        self,
        connection: postgres.Connection,
        session_id: SessionId,
        events: Sequence[Event],
        generation: int | None,
    ) -> list[Record]:
        row = await connection.fetchrow(
            SQL.append,
            session_id,
            generation,
            [event.turn_id for event in events],
            [event.type for event in events],
            [event.model_dump(mode="json", exclude={"turn_id", "type"}) for event in events],
        )
        if row is None:
            if await connection.fetchval(SQL.session_exists, session_id) is None:
                raise NotFound("session", session_id)
            raise StaleLease()
        first = row["seq"] - len(events) + 1
        records = [
            Record(session_id=session_id, seq=first + i, at=row["at"], event=event) for i, event in enumerate(events)
        ]
        for record in records:
            await self._project(connection, record)
        return records

    async def append_past(
        self, session_id: SessionId, events: Sequence[tuple[datetime, Event]], within: postgres.Connection
    ) -> None:
        """Appends events with the times that they had, and all that they describe: a session that begins with a past.

        Nobody is woken: the session is not there before the transaction ends.
        """
        last = await within.fetchval(
            SQL.append_past,
            session_id,
            [event.turn_id for _, event in events],
            [event.type for _, event in events],
            [event.model_dump(mode="json", exclude={"turn_id", "type"}) for _, event in events],
            [at for at, _ in events],
        )
        for number, (at, event) in enumerate(events, last - len(events) + 1):
            await self._project(within, Record(session_id=session_id, seq=number, at=at, event=event))

    async def on_way(
        self, session_id: SessionId, line: Sequence[tuple[int, int]], turns: Sequence[TurnId]
    ) -> list[Record]:
        """The events that lead to a point of a session: those of its `turns`, and those of none on its `line`."""
        async with postgres.acquired(self._pool) as connection:
            rows = await connection.fetch(SQL.on_way, session_id, [list(part) for part in line], list(turns))
        return [_record(row) for row in rows]

    async def read(self, session_id: SessionId, after: int = 0, limit: int = PAGE) -> list[Record]:
        """Up to `limit` events with a higher number than `after`, in order."""
        return (await self._page(session_id, after, limit, WHOLE))[0]

    async def _page(self, session_id: SessionId, after: int, limit: int, max_bytes: int) -> tuple[list[Record], bool]:
        """Events that fit, the first whatever its size; and whether there may be more."""
        async with postgres.acquired(self._pool) as connection:
            rows = await connection.fetch(SQL.events_after, session_id, after, limit, max_bytes)
        more = len(rows) == limit or sum(row["size"] for row in rows) >= max_bytes
        return [_record(row) for row in rows], more

    async def of_turn(self, turn_id: TurnId, within: postgres.Connection | None = None) -> list[Record]:
        """All events of one turn, in order; `within` reads in a transaction of the caller's."""
        if within is not None:
            return [_record(row) for row in await within.fetch(SQL.events_of_turn, turn_id)]
        async with postgres.acquired(self._pool) as connection:
            return [_record(row) for row in await connection.fetch(SQL.events_of_turn, turn_id)]

    async def of_turns(self, session_id: SessionId, first: int, before: int | None) -> list[Record]:
        """All events of a session from the beginning of turn `first` to that of turn `before`, or to the end."""
        async with postgres.acquired(self._pool) as connection:
            begins = await connection.fetchval(SQL.turn_begins, session_id, first) if first > 1 else 1
            ends = await connection.fetchval(SQL.turn_begins, session_id, before) if before is not None else WHOLE
            rows = await connection.fetch(SQL.events_through, session_id, (begins or WHOLE) - 1, (ends or WHOLE) - 1)
        return [_record(row) for row in rows]

    async def first_within(self, session_id: SessionId, first: int, before: int, limit_bytes: int) -> int:
        """The first of the turns from `first` to before `before` from which on all of them fit into `limit_bytes`.

        The last turn is in any case among them.
        """
        async with postgres.acquired(self._pool) as connection:
            fits = await connection.fetchval(SQL.first_turn_within, session_id, first, before, limit_bytes)
        return max(first, before - 1) if fits is None else int(fits)

    async def turn_at(self, session_id: SessionId, seq: int) -> list[Record]:
        """How far the turn was that event `seq` belongs to: its start, iterations and end up to there."""
        async with postgres.acquired(self._pool) as connection:
            rows = await connection.fetch(SQL.turn_at, session_id, seq, ["turn.started", "iteration.completed", *ENDS])
        return [_record(row) for row in rows]

    async def of_type(self, session_id: SessionId, event_type: str) -> list[Event]:
        """All events of one kind in a session, in order."""
        async with postgres.acquired(self._pool) as connection:
            rows = await connection.fetch(SQL.events_of_type, session_id, event_type)
        return [_record(row).event for row in rows]

    async def variables_lost(self, session_id: SessionId, turn_id: TurnId) -> str | None:
        """Why the kernel lost its variables since a model last spoke, before this turn; None if it did not."""
        async with postgres.acquired(self._pool) as connection:
            cause: str | None = await connection.fetchval(SQL.variables_lost, session_id, turn_id)
        return cause

    async def last_seq(self, session_id: SessionId) -> int:
        """The number of the session's last event; raises NotFound."""
        async with postgres.acquired(self._pool) as connection:
            seq = await connection.fetchval(SQL.last_seq, session_id)
        if seq is None:
            raise NotFound("session", session_id)
        return int(seq)

    async def follow(self, session_id: SessionId, after: int = 0) -> AsyncGenerator[Record, None]:
        """Every event after `after`, once, in order, for as long as the caller listens.

        Raises NotFound when the session is deleted. Who leaves early closes it (`contextlib.aclosing`).
        """
        with self._wakeups.of(session_id) as awake:
            while True:
                awake.clear()
                page, more = await self._page(session_id, after, PAGE, PAGE_BYTES)
                for record in page:
                    after = record.seq
                    yield record
                del page  # What is read was given away: a follower that waits holds nothing.
                if not more and not await self._wakeups.wait(awake):
                    await self.last_seq(session_id)


def _record(row: Any) -> Record:
    payload = {"type": row["type"], "turn_id": row["turn_id"], **row["payload"]}
    at: datetime = row["at"]
    return Record(session_id=row["session_id"], seq=row["seq"], at=at, event=EVENT.validate_python(payload))
