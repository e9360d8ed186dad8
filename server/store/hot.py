"""Live text on its way to readers: Redis, or its stand-in within the process. Losing it all costs latency only.

What is live in a session (the message being written, the cell that runs) is one list of deltas, numbered by the
process that writes them. A reader subscribes, reads the list so far, and drops what it has seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import structlog
from cellwright.server.domain import SessionId
from cellwright.server.errors import StoreUnavailable

if TYPE_CHECKING:
    from redis.asyncio import Redis

LIVE_TTL_S = 3_600
QUEUE_ENTRIES = 1_000
RECONNECT_S = 0.5

log = structlog.get_logger(__name__)
Delta = dict[str, Any]


def _away() -> tuple[type[Exception], ...]:
    """What the client raises when Redis does not answer. Imported late: the library takes longer than all of ours."""
    from redis.exceptions import RedisError

    return (RedisError, OSError)


def open_redis(url: str | None) -> Redis:
    """A client for `url`; without one, a Redis that lives in this process."""
    if url is None:
        from fakeredis import FakeAsyncRedis

        embedded: Redis = FakeAsyncRedis(decode_responses=True)
        return embedded
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    return Redis.from_url(
        url, decode_responses=True, socket_timeout=5, socket_connect_timeout=2, retry=Retry(NoBackoff(), 1)
    )


class Hot:
    """Publishes live deltas and hands them to this process's readers while `run` runs."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._readers: dict[SessionId, set[asyncio.Queue[Delta]]] = defaultdict(set)
        self._down = False
        self._commands: set[asyncio.Future[Any]] = set()
        self._writer = uuid4().hex[:8]
        self._numbers: dict[SessionId, int] = defaultdict(int)
        self._under_way: set[SessionId] = set()

    async def publish(self, session_id: SessionId, delta: Delta) -> None:
        """Adds a delta to what is live. A Redis that is away is not an error: the log will tell."""
        await self._write(session_id, delta, fresh=False)

    async def replace(self, session_id: SessionId, delta: Delta) -> None:
        """Puts `delta`, a snapshot, in the place of all deltas so far."""
        await self._write(session_id, delta, fresh=True)

    async def _write(self, session_id: SessionId, delta: Delta, *, fresh: bool) -> None:
        key = f"live:{session_id}"
        self._numbers[session_id] += 1
        about = {"writer": self._writer, "number": self._numbers[session_id]}
        begins = fresh or session_id not in self._under_way
        self._under_way.add(session_id)
        text = json.dumps({**about, "begins": begins, **delta})

        async def write() -> None:
            async with self._redis.pipeline(transaction=True) as pipe:
                if fresh:
                    pipe.delete(key)
                pipe.rpush(key, text)
                pipe.expire(key, LIVE_TTL_S)
                pipe.publish(key, text)
                await pipe.execute()

        await self._whole(write(), None)

    async def so_far(self, session_id: SessionId) -> list[Delta]:
        """All deltas of what is live now, in order. Where Redis lost some, the first does not say that it `begins`."""
        found: list[str] = await self._whole(self._redis.lrange(f"live:{session_id}", 0, -1), [])
        return [json.loads(text) for text in found]

    async def settle(self, session_id: SessionId) -> None:
        """Forgets what was live: the durable event that holds it has been committed."""
        self._under_way.discard(session_id)
        await self._whole(self._redis.delete(f"live:{session_id}"), None)

    async def _whole(self, command: Any, otherwise: Any) -> Any:
        """Runs a command to its end even when the caller is cancelled: a half-read answer would be the next one's."""
        task = asyncio.ensure_future(command)
        self._commands.add(task)
        task.add_done_callback(self._done)
        try:
            return await asyncio.shield(task)
        except _away():
            return otherwise

    def _done(self, task: asyncio.Future[Any]) -> None:
        self._commands.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, _away()):
            self._report(error)
        elif error is None:
            self._down = False

    async def keep_tabs(self, session_id: SessionId, for_s: int) -> None:
        """Notes for all servers that a browser has the session's notebook open."""
        await self._whole(self._redis.set(f"tabs:{session_id}", self._writer, ex=for_s), None)

    async def has_tabs(self, session_id: SessionId) -> bool:
        """Whether some server noted that, of late."""
        return bool(await self._whole(self._redis.exists(f"tabs:{session_id}"), 0))

    async def drop_tabs(self, session_id: SessionId) -> None:
        """Takes this server's note away."""
        if await self._whole(self._redis.get(f"tabs:{session_id}"), None) == self._writer:
            await self._whole(self._redis.delete(f"tabs:{session_id}"), None)

    async def count(self, what: str, window_s: int) -> tuple[int, int]:
        """Counts one more of `what` in the present window; how many that makes, and the seconds until the next one.

        A Redis that is away counts nothing: (0, 0).
        """
        now = time.time()
        key = f"rate:{what}:{int(now // window_s)}"

        async def add() -> int:
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.incr(key)
                pipe.expire(key, window_s)
                return int((await pipe.execute())[0])

        return await self._whole(add(), 0), math.ceil(window_s - now % window_s)

    @contextmanager
    def subscribe(self, session_id: SessionId) -> Iterator[asyncio.Queue[Delta]]:
        """A queue of the session's deltas from now on; one that is not read loses its oldest."""
        queue: asyncio.Queue[Delta] = asyncio.Queue(QUEUE_ENTRIES)
        self._readers[session_id].add(queue)
        try:
            yield queue
        finally:
            self._readers[session_id].discard(queue)
            if not self._readers[session_id]:
                del self._readers[session_id]

    async def run(self) -> None:
        """Listens to all processes' deltas until cancelled, and again whenever the connection was lost."""
        while True:
            with contextlib.suppress(*_away(), ValueError):
                async with self._redis.pubsub(ignore_subscribe_messages=True) as heard:
                    await heard.psubscribe("live:*")
                    while True:
                        message = await heard.get_message(timeout=5.0)
                        if message is not None:
                            self._deliver(message)
            await asyncio.sleep(RECONNECT_S)

    def _deliver(self, message: dict[str, Any]) -> None:
        session_id = SessionId(str(message["channel"]).removeprefix("live:"))
        readers = self._readers.get(session_id)
        if not readers:
            return
        delta = json.loads(message["data"])
        for queue in readers:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(delta)

    def _report(self, error: BaseException) -> None:
        if not self._down:
            log.warning("redis_unavailable", error=str(error))
        self._down = True

    async def check(self) -> None:
        """A real round trip; raises StoreUnavailable."""
        try:
            await self._redis.ping()
        except _away() as error:
            raise StoreUnavailable(f"Redis does not answer: {error}") from error

    async def close(self) -> None:
        if self._commands:
            await asyncio.wait(self._commands, timeout=5)
        await self._redis.aclose()
