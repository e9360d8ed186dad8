"""One cell, from sending its code to its last output: complete before it is done, sent once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from cellwright.kernels.client import Exchange, KernelConnection
from cellwright.kernels.inside import spool
from cellwright.kernels.messages import change
from cellwright.kernels.messages import count as counted
from cellwright.kernels.registry import Registry
from cellwright.kernels.wires import Message
from cellwright.notebooks.document import Output
from cellwright.notebooks.outputs import Change, OutputArea
from jupyter_client.session import Session

Status = Literal["ok", "error", "aborted", "interrupted", "timeout", "kernel_died", "outcome_unknown"]

IDLE_WITHIN_S = 10.0
"""How long outputs may still take after the reply, while none arrives."""

OBEY_WITHIN_S = 10.0
"""How long a cell that ran into its limit may ignore the interrupt before the kernel is killed."""

ASK_AGAIN_S = 5.0
RESENDS = 5
FOLLOW_EVERY_S = 0.05


@dataclass(frozen=True)
class Finished:
    """The end of a cell's run. `variables` is None where the kernel does not tell them."""

    status: Status
    execution_count: int | None = None
    duration_s: float = 0.0
    variables: list[dict[str, Any]] | None = None
    cause: str | None = None


@dataclass
class Execution:
    """A run of `source` under `execution_id`; iterate it once, to its end."""

    connection: KernelConnection
    execution_id: str
    source: str
    generation: int = 0
    timeout_s: float | None = None
    folder: Path | None = None
    allowed_imports: tuple[str, ...] | None = None
    why: str | None = field(default=None, init=False)
    """Why it is interrupted, where that is not the user's wish."""

    _exchange: Exchange | None = field(default=None, init=False)
    _interrupted: bool = field(default=False, init=False)
    _ask_again_at: float | None = field(default=None, init=False)

    async def interrupt(self) -> None:
        """Stops the cell: interrupts it if it runs, and otherwise as soon as it does."""
        self._interrupted = True
        if self._exchange is not None and self._exchange.running:
            self._ask_again_at = time.monotonic() + ASK_AGAIN_S
            await self.connection.interrupt()

    async def _ask_again(self, exchange: Exchange) -> None:
        """Interrupts once more: the first may have come to nothing in a callback, whose errors Python ignores."""
        if self._ask_again_at is not None and exchange.running and time.monotonic() >= self._ask_again_at:
            self._ask_again_at = None
            await self.connection.interrupt()

    async def _send(self) -> Exchange:
        content = {
            "code": self.source,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": True,
        }
        return await self.connection.send(
            "execute_request",
            content,
            message_id=self.execution_id,
            metadata={
                "cellwright": {"generation": self.generation, "allowed_imports": self.allowed_imports},
                "deletedCells": [],
            },
        )

    async def run(self) -> AsyncIterator[Change | Finished]:
        """Yields what happens to the cell's outputs, in order, and at last how it ended."""
        for attempt in range(RESENDS):
            self._exchange = await self._send()
            try:
                async for event in self._follow(self._exchange):
                    # A cell of the user's that failed makes the kernel drop what is queued: ours did not run.
                    dropped = isinstance(event, Finished) and event.status == "aborted" and event.cause is None
                    if dropped and attempt + 1 < RESENDS and not self._interrupted:
                        break
                    yield event
                    if isinstance(event, Finished):
                        return
            finally:
                self.connection.forget(self._exchange)

    async def _follow(self, exchange: Exchange) -> AsyncIterator[Change | Finished]:
        started: float | None = None
        count: int | None = None
        error: str | None = None
        timed_out = idle = False
        kill_at: float | None = None
        replied_at: float | None = None
        begin = time.monotonic()
        heard: set[str] = set()
        while not (exchange.reply.done() and idle and exchange.published.empty()):
            message = await self._next(exchange, self._wait_s(started, replied_at, kill_at))
            now = time.monotonic()
            if message is None:
                if self.connection.died.done() and exchange.published.empty():
                    cause = self.connection.died.result()
                    for late in await self._unheard(heard):
                        yield late
                    yield Finished("timeout" if timed_out else "kernel_died", count, now - begin, cause=cause)
                    return
                await self._ask_again(exchange)
                if exchange.reply.done() or idle:
                    replied_at = replied_at or now
                    if now - replied_at >= IDLE_WITHIN_S:
                        break
                elif kill_at is not None:
                    if now >= kill_at:
                        await self.connection.manager.shutdown_kernel(now=True)
                        kill_at = now + OBEY_WITHIN_S
                elif started is not None and self.timeout_s is not None and now - started >= self.timeout_s:
                    timed_out, kill_at = True, now + OBEY_WITHIN_S
                    await self.connection.interrupt()
                continue
            replied_at = now if exchange.reply.done() or idle else None
            heard.add(message["header"]["msg_id"])
            match message["header"]["msg_type"]:
                case "execute_input":
                    started = begin = now
                    count = counted(message["content"])
                    if self._interrupted:
                        await self.interrupt()
                case "status":
                    idle = message["content"].get("execution_state") == "idle"
                case "error":
                    error = message["content"].get("ename")
            changed = change(message)
            if changed is not None:
                yield changed
        if not exchange.reply.done():
            yield Finished("outcome_unknown", count, time.monotonic() - begin, cause="the kernel sent no reply")
            return
        yield self._finish(exchange.reply.result(), count, time.monotonic() - begin, error, timed_out)

    async def _unheard(self, heard: set[str]) -> list[Change]:
        """What a kernel that died had published, by its spool, but no longer got onto the wire."""
        if self.folder is None or not spool_file(self.folder, self.execution_id).exists():
            return []
        session = _reader(self.connection)
        found = []
        for _, parts in await asyncio.to_thread(_records, spool_file(self.folder, self.execution_id), 0) or ():
            if parts[0] == spool.REPLY:
                continue
            message = session.deserialize(session.feed_identities(parts)[1])
            if message["header"]["msg_id"] not in heard:
                found.append(change(message))
        return [changed for changed in found if changed is not None]

    def _wait_s(self, started: float | None, replied_at: float | None, kill_at: float | None) -> float:
        now = time.monotonic()
        ends = [now + 5.0]
        if started is not None and self.timeout_s is not None and kill_at is None:
            ends.append(started + self.timeout_s)
        if kill_at is not None:
            ends.append(kill_at)
        if self._ask_again_at is not None:
            ends.append(self._ask_again_at)
        if replied_at is not None:
            ends.append(replied_at + IDLE_WITHIN_S)
        return max(0.001, min(ends) - now)

    async def _next(self, exchange: Exchange, wait_s: float) -> Message | None:
        """The next published message; None when `wait_s` passed, the reply came or the kernel died meanwhile."""
        if not exchange.published.empty():
            return exchange.published.get_nowait()
        got = asyncio.ensure_future(exchange.published.get())
        waits: set[asyncio.Future[Any]] = {got}
        for signal in (exchange.reply, self.connection.died):
            if not signal.done():
                waits.add(signal)
        try:
            await asyncio.wait(waits, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not got.done():
                got.cancel()
        return got.result() if got.done() and not got.cancelled() else None

    def _finish(
        self, reply: Message, count: int | None, duration_s: float, error: str | None, timed_out: bool
    ) -> Finished:
        ended = finished(reply, count, duration_s, error, timed_out=timed_out, interrupted=self._interrupted)
        return replace(ended, cause=self.why) if self.why and ended.status == "interrupted" else ended


def finished(
    reply: dict[str, Any],
    count: int | None,
    duration_s: float,
    error: str | None,
    *,
    timed_out: bool = False,
    interrupted: bool = False,
) -> Finished:
    """How a cell ended, by its reply and the name of the last error that it showed."""
    content = reply["content"]
    variables = (reply.get("metadata") or {}).get("cellwright") or {}
    status: Status = content["status"]
    if status == "error" and timed_out:
        status = "timeout"
    elif status == "error" and interrupted and (error or content.get("ename")) == "KeyboardInterrupt":
        status = "interrupted"
    elif status not in ("ok", "error"):
        status = "aborted"
    return Finished(
        status,
        count if count is not None else counted(content),
        duration_s,
        variables.get("variables"),
        content.get("reason"),
    )


async def run_whole(
    connection: KernelConnection, source: str, folder: Path | None, timeout_s: float | None = None
) -> tuple[list[Output], Finished]:
    """Runs a cell that no notebook holds; returns its outputs and how it ended. `folder` is that of the kernels."""
    area, ended, execution_id = OutputArea(), Finished("outcome_unknown"), str(uuid4())
    try:
        async for event in Execution(connection, execution_id, source, timeout_s=timeout_s, folder=folder).run():
            if isinstance(event, Finished):
                ended = event
            else:
                area.apply(event)
    finally:
        if folder is not None:
            await asyncio.to_thread(Registry(folder).drop_kept, execution_id)
    return area.outputs, ended


def spool_file(folder: Path, execution_id: str) -> Path:
    """Where the kernel keeps what a cell publishes."""
    return Registry(folder).kept(execution_id, "spool")


def _reader(connection: KernelConnection | None) -> Session:
    """Reads spooled messages: of its own, because a session refuses a signature that it has seen."""
    if connection is None:  # Its key went with the kernel; the file's owner is us alone.
        return Session(key=b"")
    return Session(key=connection.manager.session.key)


async def reattach(
    connection: KernelConnection | None,
    execution_id: str,
    folder: Path,
    stop: asyncio.Event | None = None,
    cause: str | None = None,
) -> AsyncIterator[Change | Finished]:
    """Finishes a cell that a former server sent, from the kernel's spool: every output once, in order, and the reply.

    Ends with `outcome_unknown` when the kernel never received the cell, and `kernel_died` when it ended before the
    cell did. Without a connection the kernel is gone, and the spool is all there is.
    """
    path = spool_file(folder, execution_id)
    session = _reader(connection)
    place, count, error = 0, None, None
    begin = time.monotonic()
    interrupted = False
    while True:
        died = connection is None or connection.died.done()
        if connection is not None and connection.died.done():
            cause = connection.died.result()
        records = await asyncio.to_thread(_records, path, place)
        if records is None:
            yield Finished("kernel_died" if died else "outcome_unknown", cause=cause)
            return
        for place, parts in records:  # noqa: B007 (kept for the next look)
            if parts[0] == spool.REPLY:
                yield finished(_json(parts[1]), count, time.monotonic() - begin, error, interrupted=interrupted)
                return
            message = session.deserialize(session.feed_identities(parts)[1])
            if message["header"]["msg_type"] == "execute_input":
                count = counted(message["content"])
            if message["header"]["msg_type"] == "error":
                error = message["content"].get("ename")
            changed = change(message)
            if changed is not None:
                yield changed
        if died:
            yield Finished("kernel_died", count, time.monotonic() - begin, cause=cause)
            return
        if stop is not None and stop.is_set() and not interrupted and connection is not None:
            interrupted = True
            await connection.interrupt()
        await asyncio.sleep(FOLLOW_EVERY_S)


def _json(data: bytes) -> dict[str, Any]:
    import json

    return dict(json.loads(data))


def _records(path: Path, place: int) -> list[tuple[int, list[bytes]]] | None:
    try:
        return list(spool.read(path, place))
    except FileNotFoundError:
        return None
