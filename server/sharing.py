"""Letting others into a session: a user by name, or whoever holds a link that expires."""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from typing import Literal

from cellwright.server.domain import Session, Share, new_id
from cellwright.server.errors import Invalid, NotFound
from cellwright.server.events import SessionShared
from cellwright.server.store import postgres, queries
from cellwright.server.store.log import Log
from cellwright.server.store.sessions import is_uuid

SQL = queries.load("sessions")
LINK_HOURS = 24.0 * 7


class Sharing:
    """Shares are rows; that there is one, and its end, is in the session's log. A link's token is kept as a hash."""

    def __init__(self, pool: postgres.Pool, log: Log) -> None:
        self._pool, self._log = pool, log

    async def make(
        self, session: Session, by: str, role: Literal["read", "write"], user: str | None, expires_hours: float | None
    ) -> tuple[Share, str | None]:
        """A share with `user`, or a new link and its token, which is told this once; raises Invalid."""
        if user == session.owner:
            raise Invalid("The session is this user's own.")
        token = None if user is not None else secrets.token_urlsafe(32)
        hashed = None if token is None else hashlib.sha256(token.encode()).hexdigest()
        hours = expires_hours or (None if user is not None else LINK_HOURS)
        expires_at = None if hours is None else datetime.now(UTC) + timedelta(hours=hours)
        async with self._log.transaction(session.id) as connection:
            row = await connection.fetchrow(SQL.insert_share, new_id(), session.id, role, user, hashed, by, expires_at)
            assert row is not None
            share = Share(**dict(row))
            told = SessionShared(share_id=share.id, role=role, user_name=user, by=by)
            await self._log.append(session.id, [told], within=connection)
        return share, token

    async def of(self, session: Session) -> list[Share]:
        """The session's shares, oldest first."""
        async with postgres.acquired(self._pool) as connection:
            return [Share(**dict(row)) for row in await connection.fetch(SQL.shares, session.id)]

    async def get(self, share_id: str) -> Share:
        """One share; raises NotFound."""
        row = None
        if is_uuid(share_id):
            async with postgres.acquired(self._pool) as connection:
                row = await connection.fetchrow(SQL.share, share_id)
        if row is None:
            raise NotFound("share", share_id)
        return Share(**dict(row))

    async def revoke(self, share: Share, by: str) -> None:
        """Ends a share at once, also for those who are reading."""
        told = SessionShared(share_id=share.id, role=share.role, user_name=share.user_name, revoked=True, by=by)
        async with self._log.transaction(share.session_id) as connection:
            await connection.execute(SQL.delete_share, share.id)
            await self._log.append(share.session_id, [told], within=connection)
