"""Rows of sessions, turns and messages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from cellwright.server.domain import Message, Session, SessionId, Turn, TurnId, Usage
from cellwright.server.errors import NotFound
from cellwright.server.store import postgres, queries

SQL = queries.load("sessions")
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def is_uuid(text: str) -> bool:
    """Whether `text` is an id as the server writes them."""
    return UUID.fullmatch(text) is not None


class SessionRows:
    """Reads what the log's projection wrote. `owner` None reads for the server itself."""

    def __init__(self, pool: postgres.Pool) -> None:
        self._pool = pool

    async def get(self, name: str, owner: str | None = None) -> Session:
        """A session by id or by its owner's key; raises NotFound, also for what is another's."""
        async with postgres.acquired(self._pool) as connection:
            row = None
            if is_uuid(name):
                row = await connection.fetchrow(SQL.session, name, owner)
            if row is None and owner is not None:
                row = await connection.fetchrow(SQL.session_by_key, name, owner)
        if row is None:
            raise NotFound("session", name)
        return _session(row)

    async def page(
        self,
        owner: str,
        *,
        search: str | None = None,
        status: str | None = None,
        agent: str | None = None,
        metadata: dict[str, Any] | None = None,
        limit: int = 50,
        offset: int = 0,
    ) -> tuple[list[Session], int]:
        """A page of an owner's sessions, newest activity first, and how many there are in all."""
        chosen = (owner, search, status, agent, metadata)
        async with postgres.acquired(self._pool) as connection:
            rows = await connection.fetch(SQL.list_sessions, *chosen, limit, offset)
            total = await connection.fetchval(SQL.count_sessions, *chosen)
        return [_session(row) for row in rows], total

    async def turn(self, turn_id: str, owner: str | None = None) -> Turn:
        """A turn by id; raises NotFound."""
        row = None
        if is_uuid(turn_id):
            async with postgres.acquired(self._pool) as connection:
                row = await connection.fetchrow(SQL.turn, turn_id, owner)
        if row is None:
            raise NotFound("turn", turn_id)
        return _turn(row)

    async def turns(self, session_id: SessionId, limit: int = 50, offset: int = 0) -> tuple[list[Turn], int]:
        """A page of a session's turns, oldest first, and how many there are."""
        async with postgres.acquired(self._pool) as connection:
            rows = await connection.fetch(SQL.list_turns, session_id, limit, offset)
            total = await connection.fetchval(SQL.count_turns, session_id)
        return [_turn(row) for row in rows], total

    async def open_turns(self, session_id: SessionId) -> list[Turn]:
        """Turns that are queued or under way, in order."""
        async with postgres.acquired(self._pool) as connection:
            return [_turn(row) for row in await connection.fetch(SQL.open_turns, session_id)]

    async def conversation(self, session_id: SessionId, max_turns: int) -> list[tuple[Turn, list[Message]]]:
        """The last `max_turns` turns that lead to the head, oldest first, each with its messages."""
        async with postgres.acquired(self._pool) as connection:
            turns = [_turn(row) for row in await connection.fetch(SQL.turns_to_head, session_id, max_turns)]
            turns.reverse()
            rows = await connection.fetch(SQL.messages_of_turns, [turn.id for turn in turns])
        by_turn: dict[TurnId, list[Message]] = {turn.id: [] for turn in turns}
        for row in rows:
            by_turn[row["turn_id"]].append(_message(row))
        return [(turn, by_turn[turn.id]) for turn in turns]

    async def messages(self, session_id: SessionId, limit: int = 100, offset: int = 0) -> tuple[list[Message], int]:
        """A page of a session's messages, oldest first, and how many there are."""
        async with postgres.acquired(self._pool) as connection:
            rows = await connection.fetch(SQL.list_messages, session_id, limit, offset)
            total = await connection.fetchval(SQL.count_messages, session_id)
        return [_message(row) for row in rows], total

    async def artifacts_of_turns(self, session_id: SessionId, turn_ids: Sequence[TurnId]) -> dict[str, list[str]]:
        """Ids of the artifacts that turns made, by message id (by turn id where no message made them)."""
        found: dict[str, list[str]] = {}
        async with postgres.acquired(self._pool) as connection:
            for row in await connection.fetch(SQL.message_artifacts, session_id, list(turn_ids)):
                found.setdefault(row["message_id"] or row["turn_id"], []).append(row["id"])
        return found

    async def runs(self, turn_id: TurnId) -> list[dict[str, Any]]:
        """Every run of a cell in a turn, in order."""
        async with postgres.acquired(self._pool) as connection:
            return [dict(row) for row in await connection.fetch(SQL.runs_of_turn, turn_id)]

    async def with_kernels(self, kernel_ids: list[str] | None) -> list[tuple[SessionId, str, int]]:
        """Sessions whose kernel is one of these (any, for None): session, kernel, incarnation."""
        async with postgres.acquired(self._pool) as connection:
            rows = await connection.fetch(SQL.with_kernels, kernel_ids)
        return [(SessionId(str(row["id"])), row["kernel_id"], row["kernel_incarnation"]) for row in rows]

    async def last_activity(self, session_ids: Sequence[SessionId]) -> list[tuple[SessionId, datetime]]:
        """When each of these sessions was last used."""
        async with postgres.acquired(self._pool) as connection:
            rows = await connection.fetch(SQL.last_activity, list(session_ids))
        return [(SessionId(str(row["id"])), row["last_activity"]) for row in rows]

    async def request_stop(self, turn_id: TurnId) -> None:
        """Notes durably that a turn is to stop."""
        async with postgres.acquired(self._pool) as connection:
            await connection.execute(SQL.request_stop, turn_id)

    async def stop_requested(self, turn_id: TurnId) -> bool:
        async with postgres.acquired(self._pool) as connection:
            return bool(await connection.fetchval(SQL.stop_requested, turn_id))


def _pick(model: type[Any], row: Any, **more: Any) -> Any:
    fields = {name: row[name] for name in model.model_fields if name in row.keys() and name not in more}  # noqa: SIM118
    return model(**fields, **more)


def _session(row: Any) -> Session:
    session: Session = _pick(Session, row, usage=Usage.model_validate(row["usage"]))
    return session


def _turn(row: Any) -> Turn:
    turn: Turn = _pick(Turn, row, usage=Usage.model_validate(row["usage"]))
    return turn


def _message(row: Any) -> Message:
    message: Message = _pick(Message, row)
    return message
