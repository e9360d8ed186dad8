"""The connection pool: JSON and UUID as plain Python values, and a clear error when Postgres is away."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg
from cellwright.server.errors import StoreUnavailable

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

Connection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

AWAY = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InterfaceError,
    OSError,
    TimeoutError,
)


async def _prepare(connection: Any) -> None:
    for name in ("json", "jsonb"):
        await connection.set_type_codec(name, encoder=_encode, decoder=json.loads, schema="pg_catalog")
    for name in ("text", "varchar"):
        await connection.set_type_codec(name, encoder=storable, decoder=str, schema="pg_catalog", format="text")
    await connection.set_type_codec("uuid", encoder=str, decoder=str, schema="pg_catalog", format="text")


def storable(text: str) -> str:
    """Text that Postgres can hold: programs print NULs and broken surrogates, UTF-8 columns take neither."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def _encode(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_plain(value), ensure_ascii=False)
    if "\\u0000" in text:
        text = json.dumps(_plain(value), ensure_ascii=False)
    return text.encode("utf-8", "replace").decode()


def _plain(value: Any) -> Any:
    """Without what Python's JSON has and Postgres' has not: NUL, and numbers that are not finite."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case str():
            return value.replace("\x00", "\ufffd")
        case dict():
            return {_plain(k): _plain(v) for k, v in value.items()}
        case list() | tuple():
            return [_plain(v) for v in value]
        case _:
            return value


async def connect(dsn: str) -> asyncpg.Connection[asyncpg.Record]:
    """One connection of its own, outside the pool; raises StoreUnavailable."""
    try:
        connection = await asyncpg.connect(dsn, timeout=10)
    except (*AWAY, asyncpg.PostgresError, ValueError) as error:
        raise StoreUnavailable(f"Postgres cannot be reached: {error}") from error
    await _prepare(connection)
    return connection


async def open_pool(dsn: str, max_size: int = 10) -> Pool:
    """A pool of up to `max_size` connections; raises StoreUnavailable."""
    try:
        return await asyncpg.create_pool(
            dsn, min_size=1, max_size=max_size, init=_prepare, reset=_reset, timeout=10, command_timeout=60
        )
    except (*AWAY, asyncpg.PostgresError, ValueError) as error:
        raise StoreUnavailable(f"Postgres cannot be reached: {error}") from error


async def _reset(_connection: object) -> None:
    """Nothing: no connection of the pool is ever given a state of its own, and each reset is a round trip."""


@asynccontextmanager
async def acquired(pool: Pool) -> AsyncIterator[Connection]:
    """A connection of the pool; raises StoreUnavailable when Postgres is away."""
    try:
        async with pool.acquire(timeout=15) as connection:
            yield connection
    except AWAY as error:
        raise StoreUnavailable(f"Postgres does not answer: {error}") from error
