"""Finds words in what a user may see: messages, code, what cells showed, and names of artifacts."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Literal

from cellwright.server.domain import Frozen, SessionId
from cellwright.server.store import postgres, queries
from pydantic import Field

SQL = queries.load("search")
AROUND = 80
SPLIT = re.compile(r"[\s._\-/\\:(){}\[\]<>=+*\",;'`|]+")


class Found(Frozen):
    """One place where the words stand."""

    kind: Literal["message", "code", "output", "artifact"]
    id: str = Field(description="Of the message, the cell or the artifact")
    session_id: SessionId
    session_title: str
    turn_id: str | None
    text: str = Field(description="The words in their surroundings")
    highlights: list[tuple[int, int]] = Field(description="Start and end of each word found, in `text`")
    at: datetime


def words_of(query: str) -> list[str]:
    """What is looked for: the words of a query; each must be the beginning of a word that is found."""
    return [word for word in SPLIT.split(query.lower()) if word]


class Search:
    """Postgres' full text search, in any language: words as they are written, from their beginning."""

    def __init__(self, pool: postgres.Pool) -> None:
        self._pool = pool

    async def find(
        self, user: str, query: str, session_id: str | None = None, limit: int = 50, offset: int = 0
    ) -> tuple[list[Found], int]:
        """A page of what is found, the newest first, and how many there are (counted up to 1,000)."""
        words = words_of(query)
        if not words:
            return [], 0
        async with postgres.acquired(self._pool) as connection:
            rows = await connection.fetch(SQL.search, user, words, session_id, limit, offset)
        return [_found(row, words) for row in rows], rows[0]["total"] if rows else 0


def _found(row: object, words: list[str]) -> Found:
    told = dict(row)  # type: ignore[call-overload]
    told.pop("total")
    text, highlights = excerpt(told.pop("text"), words)
    return Found(**told, text=text, highlights=highlights)


def excerpt(text: str, words: list[str]) -> tuple[str, list[tuple[int, int]]]:
    """The surroundings of the first word that is found, and where all of them stand in it."""
    pattern = re.compile("|".join(rf"(?<![^\W_]){re.escape(word)}[^\W_]*" for word in words), re.IGNORECASE)
    first = pattern.search(text)
    start = max(0, (first.start() if first else 0) - AROUND)
    shown = text[start : (first.end() if first else 0) + 2 * AROUND]
    return shown, [match.span() for match in pattern.finditer(shown)]
