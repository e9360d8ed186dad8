"""Brings the database to the shape this version needs, once, whoever starts first."""

from __future__ import annotations

from importlib.resources import files

import asyncpg

ADVISORY_LOCK = 0x63656C6C  # "cell"


def migrations() -> list[tuple[int, str, str]]:
    """Number, name and SQL of each migration, in order."""
    found = []
    for entry in (files("cellwright.server.store") / "sql" / "migrations").iterdir():
        if entry.name.endswith(".sql"):
            number, _, name = entry.name.removesuffix(".sql").partition("_")
            found.append((int(number), name, entry.read_text("utf-8")))
    return sorted(found)


async def migrate(connection: asyncpg.Connection[asyncpg.Record]) -> list[str]:
    """Applies what is missing, each in a transaction, under an advisory lock; returns the names applied."""
    applied = []
    await connection.execute("SELECT pg_advisory_lock($1)", ADVISORY_LOCK)
    try:
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations"
            " (number integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        done = {row["number"] for row in await connection.fetch("SELECT number FROM schema_migrations")}
        for number, name, sql in migrations():
            if number in done:
                continue
            async with connection.transaction():
                await connection.execute(sql)
                await connection.execute("INSERT INTO schema_migrations (number, name) VALUES ($1, $2)", number, name)
            applied.append(name)
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1)", ADVISORY_LOCK)
    return applied
