"""What a user prefers, for every session that does not say otherwise."""

from __future__ import annotations

from typing import Any

from cellwright.server.domain import Approval, Frozen, Session
from cellwright.server.store import postgres
from pydantic import Field

READ = "SELECT chosen FROM preferences WHERE owner = $1"
WRITE = """INSERT INTO preferences (owner, chosen) VALUES ($1, $2)
ON CONFLICT (owner) DO UPDATE SET chosen = excluded.chosen, updated_at = now()"""


class Preferences(Frozen):
    """A user's; a session's own override them."""

    default_model: str | None = Field(None, max_length=200)
    default_agent: str | None = Field(None, max_length=100)
    max_context_messages: int = Field(20, ge=1, le=1_000, description="Recent messages that a model is sent in full")
    auto_compress_context: bool = Field(True, description="Have the model summarise what no longer fits")
    approval: Approval | None = Field(None, description="unset: as the server is set up")
    preferred_workflows: list[str] = Field([], max_length=50, description="In the user's words; models are told")


class PreferenceRows:
    """Reads and writes them."""

    def __init__(self, pool: postgres.Pool) -> None:
        self._pool = pool

    async def of(self, owner: str) -> Preferences:
        async with postgres.acquired(self._pool) as connection:
            chosen = await connection.fetchval(READ, owner)
        return Preferences(**(chosen or {}))

    async def change(self, owner: str, changes: dict[str, Any]) -> Preferences:
        """Sets some of them; raises pydantic's ValidationError."""
        async with postgres.acquired(self._pool) as connection, connection.transaction():
            chosen = await connection.fetchval(READ + " FOR UPDATE", owner) or {}
            now = Preferences(**{**chosen, **changes})
            await connection.execute(WRITE, owner, now.model_dump(exclude_unset=True))
        return now

    async def effective(self, session: Session) -> Preferences:
        """What holds in a session: its own where it has them, its owner's for the rest."""
        theirs = await self.of(session.owner)
        own = {name: value for name, value in session.preferences.items() if name in Preferences.model_fields}
        return Preferences(**{**theirs.model_dump(exclude_unset=True), **own})
