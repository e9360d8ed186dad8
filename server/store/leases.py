"""Who may write a session's turns: a lease with a fence, on the database's clock."""

from __future__ import annotations

from cellwright.server.domain import SessionId
from cellwright.server.store import postgres, queries

SQL = queries.load("leases")


class Leases:
    """The leases that this process (`owner`) holds or may take."""

    def __init__(self, pool: postgres.Pool, owner: str, lease_s: float) -> None:
        self._pool, self.owner, self.lease_s = pool, owner, lease_s

    async def claim(self, session_id: SessionId) -> int | None:
        """The generation under which this process may write, or None while another holds the session."""
        async with postgres.acquired(self._pool) as connection:
            generation: int | None = await connection.fetchval(SQL.claim_lease, session_id, self.owner, self.lease_s)
        return generation

    async def renew(self, session_ids: list[SessionId]) -> dict[SessionId, int]:
        """Generations of those sessions that are still this process's."""
        async with postgres.acquired(self._pool) as connection:
            rows = await connection.fetch(SQL.renew_leases, self.owner, self.lease_s, session_ids)
        return {row["id"]: row["generation"] for row in rows}

    async def release(self, session_id: SessionId) -> None:
        """Lets any process take the session at once."""
        async with postgres.acquired(self._pool) as connection:
            await connection.execute(SQL.release_lease, session_id, self.owner)

    async def expire_others(self) -> None:
        """Ends every other process's leases: only for who owns the data folder, and so knows them dead."""
        async with postgres.acquired(self._pool) as connection:
            await connection.execute(SQL.expire_all_leases, self.owner)

    async def to_take(self) -> list[SessionId]:
        """Sessions with turns to do that no other living process holds."""
        async with postgres.acquired(self._pool) as connection:
            return [row["id"] for row in await connection.fetch(SQL.sessions_to_take, self.owner)]
