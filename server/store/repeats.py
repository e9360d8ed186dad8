"""Answers to requests that carried an Idempotency-Key: asked again within a day, the same is answered, nothing done."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from cellwright.server.errors import Conflict, Invalid
from cellwright.server.store import postgres, queries

SQL = queries.load("repeats")
MAX_KEY = 255


@dataclass(frozen=True)
class Answered:
    """What the first of several equal requests was answered."""

    status: int
    answer: Any


class Repeats:
    """One row for each key of a user's. A row without a status is a request under way, or one that was cut short."""

    def __init__(self, pool: postgres.Pool) -> None:
        self._pool = pool

    async def begin(self, owner: str, key: str, *request: bytes) -> Answered | None:
        """Notes a request; returns the answer of an equal one before it.

        Raises Invalid for a key that is none or belongs to another request, Conflict while the first is under way.
        """
        if not key.isprintable() or len(key) > MAX_KEY:
            raise Invalid(f"An Idempotency-Key has up to {MAX_KEY} printable characters.")
        told = hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in request)).hexdigest()
        async with postgres.acquired(self._pool) as connection:
            if await connection.fetchval(SQL.begin, owner, key, told) is not None:
                return None
            row = await connection.fetchrow(SQL.find, owner, key)
        if row is None:
            raise Conflict("Another request with this Idempotency-Key has just failed: send it again.")
        if row["request"] != told:
            raise Invalid("This Idempotency-Key belongs to another request: choose a new one.")
        if row["status"] is None:
            raise Conflict(
                "The request with this Idempotency-Key is under way, or the server ended in the middle of it. "
                "Look at what it did before you ask again with another key."
            )
        return Answered(row["status"], row["answer"])

    async def finish(self, owner: str, key: str, status: int, answer: Any) -> None:
        """Notes what was answered."""
        async with postgres.acquired(self._pool) as connection:
            await connection.execute(SQL.finish, owner, key, status, answer)

    async def forget(self, owner: str, key: str) -> None:
        """The request failed, and did nothing: it may be sent again."""
        async with postgres.acquired(self._pool) as connection:
            await connection.execute(SQL.forget, owner, key)

    async def prune(self, older_than_s: float, *, dry_run: bool = False) -> int:
        """Removes old ones; returns how many there were."""
        async with postgres.acquired(self._pool) as connection:
            count = int(await connection.fetchval(SQL.count_old, older_than_s))
            if not dry_run:
                await connection.execute(SQL.prune, older_than_s)
        return count
