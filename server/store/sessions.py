"""Rows of sessions, turns and messages."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from cellwright.server.domain import LEVELS, Access, Message, Session, SessionId, Share, Turn, TurnId, Usage, Who
from cellwright.server.errors import NotFound
from cellwright.server.store import postgres, queries
from cellwright.server.store.recent import Recent

SQL = queries.load("sessions")
T = TypeVar("T")
KNOWN_KEYS = 10_000
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
BEGINNING = re.compile(r"[0-9a-f]{8}(-[0-9a-f-]{0,27})?")
"""How an id begins, as lists show it."""


def is_uuid(text: str) -> bool:
    """Whether `text` is an id as the server writes them."""
    return UUID.fullmatch(text) is not None


class SessionRows:
    """Reads what the log's projection wrote."""

    def __init__(self, pool: postgres.Pool, recent: Recent) -> None:
        self._pool, self._recent = pool, recent
        self._keys: dict[tuple[str, str], SessionId] = {}

    async def get(self, session_id: str) -> Session:
        """A session as it is now, for the server itself; raises NotFound."""
        row = None
        if is_uuid(session_id):
            async with postgres.acquired(self._pool) as connection:
                row = await connection.fetchrow(SQL.session, session_id)
        if row is None:
            raise NotFound("session", session_id)
        return _session(row)

    async def find(self, name: str, who: Who) -> Session:
        """A session by id, by its beginning, or by the key that its owner gave it; raises NotFound.

        The beginning has eight letters or more, and is of one only of the sessions that the user may see. What is
        another's is not found.
        """
        found = await self._allowed(SessionId(name), who) if is_uuid(name) else None
        while found is None and (session_id := await self._by_key(name, who)) is not None:
            found = await self._allowed(session_id, who)
            if found is None:  # Deleted; another may go by the key now.
                self._keys.pop((str(who.name), name), None)
        if found is None:
            raise NotFound("session", name)
        return found

    async def _allowed(self, session_id: SessionId, who: Who) -> Session | None:
        try:
            session, shares = await self.recent(session_id, "session", partial(self._read, session_id))
        except NotFound:
            return None
        access = access_of(session, shares, who)
        return None if access is None else session.model_copy(update={"access": access})

    async def recent(
        self, session_id: str, name: str, load: Callable[[], Awaitable[T]], weigh: Callable[[T], int] | None = None
    ) -> T:
        """What was read lately under that name, if the session's log has not grown since; else what `load` gives."""
        more = {} if weigh is None else {"weigh": weigh}
        return await self._recent.get(SessionId(session_id), name, load, **more)

    async def _read(self, session_id: SessionId) -> tuple[Session, list[Share]]:
        session = await self.get(session_id)
        async with postgres.acquired(self._pool) as connection:
            shares = await connection.fetch(SQL.shares, session_id)
        return session, [_pick(Share, share) for share in shares]

    async def _by_key(self, key: str, who: Who) -> SessionId | None:
        if who.name is None:
            return None
        known = self._keys.get((who.name, key))
        if known is None:
            async with postgres.acquired(self._pool) as connection:
                known = await connection.fetchval(SQL.session_by_key, key, who.name)
            if known is not None:
                self._keys[who.name, key] = known
                if len(self._keys) > KNOWN_KEYS:
                    del self._keys[next(iter(self._keys))]
        if known is None and BEGINNING.fullmatch(key):
            async with postgres.acquired(self._pool) as connection:
                found = await connection.fetch(SQL.sessions_by_beginning, key, who.name)
            return found[0]["id"] if len(found) == 1 else None
        return known

    async def page(
        self,
        user: str,
        *,
        search: str | None = None,
        status: str | None = None,
        agent: str | None = None,
        metadata: dict[str, Any] | None = None,
        limit: int = 50,
        offset: int = 0,
    ) -> tuple[list[tuple[Session, int]], int]:
        """A page of a user's own and shared sessions with their unread answers, newest activity first; and the total.

        A shared one says by its `access` what the user may do with it.
        """
        chosen = (user, search, status, agent, metadata)
        async with postgres.acquired(self._pool) as connection:
            rows = await connection.fetch(SQL.list_sessions, *chosen, limit, offset)
            total = await connection.fetchval(SQL.count_sessions, *chosen)
        return [(_session(row), row["unread"]) for row in rows], total

    async def unread(self, session_id: SessionId, user: str) -> int:
        """How many answers came since the user last looked."""
        async with postgres.acquired(self._pool) as connection:
            return int(await connection.fetchval(SQL.unread, session_id, user))

    async def saw(self, session_id: SessionId, user: str, seq: int) -> None:
        """Notes up to which event the user has seen the session."""
        async with postgres.acquired(self._pool) as connection:
            await connection.execute(SQL.saw, user, session_id, seq)
            await connection.execute("SELECT pg_notify('cellwright_events', $1)", f"{session_id}:0:seen")
        self._recent.forget(session_id)

    async def delete(self, session_id: SessionId) -> None:
        """Takes a session out, with all that refers to it; whoever asks from now on is told that there is none."""
        async with postgres.acquired(self._pool) as connection:
            await connection.execute(SQL.delete_session, session_id)
        self._recent.forget(session_id)

    async def turn(self, turn_id: str) -> Turn:
        """A turn by id; raises NotFound."""
        row = None
        if is_uuid(turn_id):
            async with postgres.acquired(self._pool) as connection:
                row = await connection.fetchrow(SQL.turn, turn_id)
        if row is None:
            raise NotFound("turn", turn_id)
        return turn_of(row)

    async def message(self, message_id: str) -> Message:
        """A message by id; raises NotFound."""
        row = None
        if is_uuid(message_id):
            async with postgres.acquired(self._pool) as connection:
                row = await connection.fetchrow(SQL.message, message_id)
        if row is None:
            raise NotFound("message", message_id)
        return _message(row)

    async def last_run(self, session_id: SessionId) -> dict[str, Any] | None:
        """The last cell that was sent, and what it showed, in words."""
        async with postgres.acquired(self._pool) as connection:
            row = await connection.fetchrow(SQL.last_run, session_id)
        return None if row is None else dict(row)

    async def turns(self, session_id: SessionId, limit: int = 50, offset: int = 0) -> tuple[list[Turn], int]:
        """A page of a session's turns, oldest first, and how many there are."""
        async with postgres.acquired(self._pool) as connection:
            rows = await connection.fetch(SQL.list_turns, session_id, limit, offset)
            total = await connection.fetchval(SQL.count_turns, session_id)
        return [turn_of(row) for row in rows], total

    async def snapshots(self, session_id: SessionId, limit: int, offset: int) -> tuple[list[dict[str, Any]], int]:
        """A page of the notebook's revisions after turns, and how many there are."""
        async with postgres.acquired(self._pool) as connection:
            rows = await connection.fetch(SQL.snapshots, session_id, limit, offset)
            total = await connection.fetchval(SQL.count_snapshots, session_id)
        return [{**row, "turn": row["n"], "created_at": row["created_at"].isoformat()} for row in rows], total

    async def open_turns(self, session_id: SessionId) -> list[Turn]:
        """Turns that are queued or under way, in order."""
        async with postgres.acquired(self._pool) as connection:
            return [turn_of(row) for row in await connection.fetch(SQL.open_turns, session_id)]

    async def conversation(self, session_id: SessionId, max_turns: int) -> list[tuple[Turn, list[Message]]]:
        """The last `max_turns` turns that lead to the head, oldest first, each with its messages."""
        async with postgres.acquired(self._pool) as connection:
            turns = [turn_of(row) for row in await connection.fetch(SQL.turns_to_head, session_id, max_turns)]
            turns.reverse()
            whole = not turns or turns[0].parent_id is None
            rows = await connection.fetch(SQL.messages_of_turns, [turn.id for turn in turns], session_id, whole)
        by_turn: dict[TurnId, list[Message]] = {turn.id: [] for turn in turns}
        last = turns[0].id if turns else None
        for row in rows:
            # A message of no turn (one that a client added) stands behind the turn in which it came.
            last = row["turn_id"] or last
            if last is not None:
                by_turn[last].append(_message(row))
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

    async def artifact_names(self, session_id: SessionId, through_turn: int | None = None) -> list[str]:
        """Names of the session's artifacts, oldest first, each once; up to a turn, if one is given."""
        async with postgres.acquired(self._pool) as connection:
            rows = await connection.fetch(SQL.artifact_names, session_id, through_turn)
        return [row["name"] for row in rows]

    async def runs(self, turn_id: TurnId) -> list[dict[str, Any]]:
        """Every run of a cell in a turn, in order."""
        async with postgres.acquired(self._pool) as connection:
            return [dict(row) for row in await connection.fetch(SQL.runs_of_turn, turn_id)]

    async def fatal_runs(self, session_id: SessionId) -> set[tuple[str, str]]:
        """Cells that the kernel did not survive when they ran last: id, and the source of then."""
        async with postgres.acquired(self._pool) as connection:
            return {(row["cell_id"], row["source"]) for row in await connection.fetch(SQL.fatal_runs, session_id)}

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

    async def unused_for(self, seconds: float, session_id: SessionId | None = None) -> list[SessionId]:
        """Sessions (or that one) that nobody used for so long and that have no turn to do."""
        async with postgres.acquired(self._pool) as connection:
            return [SessionId(row["id"]) for row in await connection.fetch(SQL.unused_for, seconds, session_id)]

    async def hibernated(self) -> int:
        """How many sessions sleep, with their variables stored."""
        async with postgres.acquired(self._pool) as connection:
            return int(await connection.fetchval(SQL.hibernated))

    async def request_stop(self, turn_id: TurnId) -> None:
        """Notes durably that a turn is to stop."""
        async with postgres.acquired(self._pool) as connection:
            await connection.execute(SQL.request_stop, turn_id)

    async def stop_requested(self, turn_id: TurnId) -> bool:
        async with postgres.acquired(self._pool) as connection:
            return bool(await connection.fetchval(SQL.stop_requested, turn_id))


def access_of(session: Session, shares: Sequence[Share], who: Who) -> Access | None:
    """What `who` may do with a session: as its owner, as a user it is shared with, or by a link; None: nothing."""
    if who.name is not None and session.owner == who.name:
        return "own"
    now = datetime.now(UTC)
    best: Access | None = None
    for share in shares:
        if share.expires_at is not None and share.expires_at <= now:
            continue
        if share.user_name is not None and share.user_name == who.name:
            granted: Access = share.role
        elif share.token_hash is not None and share.token_hash == who.link:
            # Whoever holds a link may look; to run code takes a user that Jupyter knows.
            granted = share.role if who.name is not None else "read"
        else:
            continue
        best = granted if best is None or LEVELS.index(granted) > LEVELS.index(best) else best
    return best


def _pick(model: type[Any], row: Any, **more: Any) -> Any:
    fields = {name: row[name] for name in model.model_fields if name in row.keys() and name not in more}  # noqa: SIM118
    return model(**fields, **more)


def _session(row: Any) -> Session:
    session: Session = _pick(Session, row, usage=Usage.model_validate(row["usage"]))
    return session


def turn_of(row: Any) -> Turn:
    """A turn as its row has it."""
    turn: Turn = _pick(Turn, row, usage=Usage.model_validate(row["usage"]))
    return turn


def _message(row: Any) -> Message:
    message: Message = _pick(Message, row)
    return message
