"""What model calls cost: tokens, money and time, by session, model or day."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from cellwright.server.domain import Frozen
from cellwright.server.store import postgres, queries
from pydantic import Field

SQL = queries.load("usage")
By = Literal["session", "model", "day"]


class UsageRow(Frozen):
    """The sum of one group."""

    group: str = Field(description="The session's id, the model's name, or the day (UTC)")
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost: float = Field(description="US dollars, by LiteLLM's price list; 0 where it knows no price")
    seconds: float = Field(description="Spent in model calls")


async def used(
    pool: postgres.Pool, owner: str, by: By, since: datetime | None = None, until: datetime | None = None
) -> list[UsageRow]:
    """What a user's own sessions used, the dearest group first (days in order)."""
    async with postgres.acquired(pool) as connection:
        rows = [UsageRow(**dict(row)) for row in await connection.fetch(SQL.used, owner, by, since, until)]
    return sorted(rows, key=(lambda r: r.group) if by == "day" else (lambda r: (-r.cost, -r.prompt_tokens, r.group)))
