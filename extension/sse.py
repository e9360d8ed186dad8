"""Server-sent events: every durable event once, in order, with live text in between."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncGenerator, Iterable, Iterator
from typing import Any

from cellwright.extension.endpoint import Call, Streamed
from cellwright.server import events as e
from cellwright.server.app import Cellwright
from cellwright.server.domain import SessionId, TurnId
from cellwright.server.errors import Forbidden, NotFound
from cellwright.server.live import joined
from cellwright.server.narrate import line, phase
from tornado import iostream

KEEP_ALIVE_S = 15.0
QUEUED = 2
RECHECK_S = 10.0
"""How long a stream runs on without another look at who reads it: shares end by themselves too."""


def frame(kind: str, data: dict[str, Any], event_id: int | None = None) -> str:
    """One event on the wire."""
    head = f"id: {event_id}\n" if event_id is not None else ""
    return f"{head}event: {kind}\ndata: {json.dumps(data, ensure_ascii=False, default=str)}\n\n"


def durable(record: e.Record, about: dict[str, Any]) -> dict[str, Any]:
    """What a client is told of a durable event."""
    payload = record.event.model_dump(mode="json", exclude={"type"})
    held = payload.pop("message", None)  # The name stands for the line for people; a message's fields stand beside it.
    if held is not None:
        payload = {**held, **payload, "message_id": held["id"]}
        del payload["id"]
    told = {"at": record.at.isoformat(), "phase": phase(record.event.type), "message": line(record.event)}
    return {**about, **payload, **told}


async def live(app: Cellwright, session_id: SessionId) -> AsyncGenerator[dict[str, Any], None]:
    """One snapshot of what is live now, then every delta that continues it; a snapshot again after a gap.

    Where the beginning was lost, with Redis, nothing is told until the next beginning: the log will tell it.
    """
    with app.hot.subscribe(session_id) as queue:
        writer, number = "", 0
        waiting, lost = True, None
        while True:
            if waiting:
                deltas = await app.hot.so_far(session_id)
                lost = None if not deltas or deltas[0]["begins"] else _subject(deltas[-1])
                if deltas:
                    writer, number = deltas[-1]["writer"], deltas[-1]["number"]
                    if lost is None:
                        yield _told(joined(deltas))
                waiting = False
            delta = await queue.get()
            if delta["writer"] == writer and delta["number"] <= number:
                continue
            if delta["writer"] == writer and delta["number"] > number + 1:
                waiting = True
                continue
            writer, number = delta["writer"], delta["number"]
            if lost == _subject(delta) and not delta["begins"]:
                continue
            lost = None
            yield _told(delta)


def _subject(delta: dict[str, Any]) -> str:
    """The message or the execution that a delta belongs to."""
    return str(delta.get("message_id") or delta["execution_id"])


def _told(delta: dict[str, Any]) -> dict[str, Any]:
    """A delta without what processes tell each other."""
    return {name: value for name, value in delta.items() if name not in ("writer", "number", "begins")}


def _and(about: dict[str, Any], event: e.Event) -> dict[str, Any]:
    """What each event of a turn says of the turn: its agent and how far it is."""
    match event:
        case e.TurnStarted(agent=agent, max_iterations=most):
            return {"agent": agent, "iteration": 0, "max_iterations": most}
        case e.IterationCompleted(iteration=iteration):
            return {**about, "iteration": iteration}
    return about


def told(records: Iterable[e.Record]) -> Iterator[tuple[str, dict[str, Any], int]]:
    """Type, data and id of events that are past."""
    about: dict[str, Any] = {}
    for record in records:
        about = _and(about, record.event)
        yield record.event.type, durable(record, about), record.seq
        if isinstance(record.event, e.TurnEnded):
            about = {}


async def _about(app: Cellwright, session_id: SessionId, after: int) -> dict[str, Any]:
    """The same, for a reader that comes in the middle."""
    about: dict[str, Any] = {}
    for record in await app.log.turn_at(session_id, after) if after else ():
        about = {} if isinstance(record.event, e.TurnEnded) else _and(about, record.event)
    return about


async def events(
    app: Cellwright, session_id: SessionId, after: int, turn_id: TurnId | None = None
) -> AsyncGenerator[tuple[str, dict[str, Any], int | None], None]:
    """Type, data and id of everything a reader is told; ends with the turn, if one is named."""
    queue: asyncio.Queue[tuple[str, Any]] = asyncio.Queue(QUEUED)

    async def read_log() -> None:
        async with contextlib.aclosing(app.log.follow(session_id, after)) as records:
            async for record in records:
                await queue.put(("durable", record))

    async def read_live() -> None:
        async with contextlib.aclosing(live(app, session_id)) as deltas:
            async for delta in deltas:
                await queue.put(("live", delta))

    tasks = [asyncio.create_task(read_log()), asyncio.create_task(read_live())]
    settled: set[str] = set()
    try:
        about = await _about(app, session_id, after)
        while True:
            get = asyncio.ensure_future(queue.get())
            try:
                await asyncio.wait([get, *tasks], timeout=KEEP_ALIVE_S, return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not get.done():
                    get.cancel()
            if get.cancelling():
                for task in tasks:
                    if task.done():
                        task.result()
                yield "", {}, None
                continue
            kind, heard = get.result()
            if kind == "live":
                of = _subject(heard)
                if of in settled or (turn_id is not None and heard.get("turn_id") != turn_id):
                    continue
                heard["phase"] = phase(heard["type"], heard.get("channel"))
                yield heard.pop("type"), heard, None
                continue
            event = heard.event
            if isinstance(event, e.MessageCompleted):
                settled.add(event.message.id)
            elif isinstance(event, e.CellCompleted):
                settled.add(event.execution_id)
            elif isinstance(event, e.AttemptDiscarded):
                settled.add(event.message_id)
            about = _and(about, event)
            if turn_id is not None and event.turn_id != turn_id:
                if isinstance(event, e.SessionShared):
                    yield "", {}, None  # Whoever reads on must still be allowed to.
                continue
            yield event.type, durable(heard, about), heard.seq
            if isinstance(event, e.TurnEnded):
                if turn_id is not None:
                    return
                about = {}
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def answer(call: Call, session_id: SessionId, after: int, turn_id: TurnId | None = None) -> Streamed:
    """Writes the stream until its end, until the client goes, or may no longer see it."""
    return await write(call, session_id, framed(events(call.app, session_id, after, turn_id)))


async def framed(
    source: AsyncGenerator[tuple[str, dict[str, Any], int | None], None],
) -> AsyncGenerator[tuple[str, str], None]:
    """Each event as its type and its text on the wire; a comment keeps the connection alive."""
    async with contextlib.aclosing(source):
        async for kind, data, event_id in source:
            yield kind, frame(kind, data, event_id) if kind else ": still here\n\n"


async def write(call: Call, session_id: SessionId | None, source: AsyncGenerator[tuple[str, str], None]) -> Streamed:
    """Writes what `source` gives (types and texts) as the answer, at the client's pace.

    Ends when the client may no longer read the session that it is about, if it is about one.
    """
    handler = call.handler
    handler.set_header("Content-Type", "text/event-stream")
    handler.set_header("Cache-Control", "no-cache")
    handler.set_header("X-Accel-Buffering", "no")
    stream = handler.request.connection.stream
    with contextlib.suppress(OSError, AttributeError):
        # tornado sets Nagle's algorithm again after each response: 40 ms for every small event.
        stream.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    gone = asyncio.Event()
    handler.request.connection.set_close_callback(gone.set)
    closed = asyncio.ensure_future(gone.wait())
    looked = time.monotonic()
    try:
        handler.write(": cellwright\n\n")
        await handler.flush()
        while True:
            following = asyncio.ensure_future(anext(source))
            await asyncio.wait([following, closed], return_when=asyncio.FIRST_COMPLETED)
            if closed.done():
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
                return Streamed()
            try:
                kind, text = following.result()
                again = kind in ("", "session.shared") or time.monotonic() - looked > RECHECK_S
                if session_id is not None and again:
                    await call.may(session_id, "read")
                    looked = time.monotonic()
            except (StopAsyncIteration, NotFound, Forbidden):
                break
            handler.write(text)
            await handler.flush()
        handler.finish()
    except iostream.StreamClosedError:
        pass
    finally:
        closed.cancel()
        await source.aclose()
    return Streamed()
