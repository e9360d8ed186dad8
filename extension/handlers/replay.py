"""Notebooks of anybody's: run again and compared with what is recorded in them, or made into a session."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
from collections.abc import AsyncGenerator
from pathlib import PurePosixPath
from typing import Any

from cellwright.extension import problems, sse
from cellwright.extension.endpoint import Call, Route, Streamed
from cellwright.extension.handlers.models import Query, SessionDetail
from cellwright.extension.handlers.sessions import KEY, detail
from cellwright.extension.multipart import Part, Uploads
from cellwright.notebooks import codec
from cellwright.notebooks.document import Document
from cellwright.notebooks.replay import Replay, ReplayedCell
from cellwright.notebooks.report import POLICY, page
from cellwright.server.errors import CellwrightError, Forbidden, Invalid, NotFound
from cellwright.server.replay import Begun, Progress, Running, provenance
from cellwright.server.workspace import Workspace
from pydantic import Field

FILES = (
    "The notebook comes in a part named `notebook`, the files that it needs in others, with their paths from the "
    "notebook's folder as names"
)
MAX_NOTEBOOK_BYTES = 256 << 20


class ReplayQuery(Query):
    keep_going: bool = Field(False, description="Run what follows a cell that fails")


class ImportQuery(Query):
    title: str | None = Field(None, min_length=1, max_length=200, description="By default the notebook's own name")
    key: str | None = Field(
        None, min_length=1, max_length=120, pattern=KEY, description="Your own name for the session"
    )


async def _received(call: Call) -> tuple[Part, bytes, list[Part]]:
    """The notebook's part and bytes, and the other files; raises Invalid."""
    parts = await call.body.finish()
    notebook = next((part for part in parts if part.field == "notebook"), parts[0])
    if notebook.spooled.size_bytes > MAX_NOTEBOOK_BYTES:
        raise Invalid(f"The notebook is larger than {MAX_NOTEBOOK_BYTES:,} bytes.")
    notebook.spooled.finish()
    data = await asyncio.to_thread(notebook.spooled.path.read_bytes)
    return notebook, data, [part for part in parts if part is not notebook]


def _name(part: Part) -> str:
    return re.sub(r"\.ipynb$", "", PurePosixPath(part.name.replace("\\", "/")).name) or "notebook"


async def replay(call: Call) -> Any:
    part, data, files = await _received(call)
    document = await asyncio.to_thread(codec.decode, data)
    title = provenance(document).get("title")
    folder = await asyncio.to_thread(call.app.replays.folder)
    try:
        for file in files:
            file.spooled.finish()
            place = await asyncio.to_thread(folder.inside, file.name)
            await asyncio.to_thread(shutil.copyfile, file.spooled.path, place)
        await _supply(call, document, folder)
    except BaseException:
        await asyncio.to_thread(shutil.rmtree, folder.folder, ignore_errors=True)
        raise
    title = title if isinstance(title, str) and title else _name(part)
    source = call.app.replays.run(document, title, folder, keep_going=call.query.keep_going)
    wanted = call.handler.request.headers.get("Accept", "")
    if "text/event-stream" in wanted:
        return await sse.write(call, None, _framed(source))
    report = await _ended(call, source)
    if report is None or "text/html" not in wanted:
        return report or Streamed()
    html = await asyncio.to_thread(page, report)
    call.handler.set_header("Content-Type", "text/html; charset=utf-8")
    call.handler.set_header("Content-Security-Policy", f"sandbox; {POLICY}")
    call.handler.finish(html)
    return Streamed()


async def _ended(call: Call, source: AsyncGenerator[Progress, None]) -> Replay | None:
    """The report, or None when the client has gone: then the replay ends as well."""

    async def last() -> Replay | None:
        async with contextlib.aclosing(source):
            async for progress in source:
                if isinstance(progress, Replay):
                    return progress
        return None

    gone = asyncio.Event()
    call.handler.request.connection.set_close_callback(gone.set)
    running, left = asyncio.ensure_future(last()), asyncio.ensure_future(gone.wait())
    try:
        await asyncio.wait([running, left], return_when=asyncio.FIRST_COMPLETED)
        return running.result() if running.done() else None
    finally:
        left.cancel()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _supply(call: Call, document: Document, folder: Workspace) -> None:
    """Inputs that did not come with a notebook of a session's, if whoever asks may read that session."""
    session_id = provenance(document).get("session_id")
    if isinstance(session_id, str):
        with contextlib.suppress(NotFound, Forbidden):
            session = await call.may(session_id, "read")
            await call.app.replays.supply(document, folder, session.id)


async def _framed(source: AsyncGenerator[Progress, None]) -> AsyncGenerator[tuple[str, str], None]:
    async with contextlib.aclosing(source):
        try:
            async for progress in source:
                kind, data = _told(progress)
                yield kind, sse.frame(kind, data)
        except CellwrightError as error:
            yield "replay.failed", sse.frame("replay.failed", problems.body(problems.problem(error)))


def _told(progress: Progress) -> tuple[str, dict[str, Any]]:
    match progress:
        case Begun(cells, kernel):
            return "replay.started", {"cells": cells, "kernel": kernel}
        case Running(number, done):
            return "cell.started", {"number": number, "done": done}
        case ReplayedCell():
            return "cell.replayed", progress.model_dump(mode="json", exclude={"recorded", "now"})
        case Replay():
            return "replay.completed", progress.model_dump(mode="json")


async def bring_in(call: Call) -> SessionDetail:
    part, data, files = await _received(call)
    for file in files:
        file.spooled.finish()
    named = [(file.name, file.spooled) for file in files]
    asked = call.query
    session = await call.app.exports.bring_in(
        call.owner, data, named, title=asked.title, named=_name(part), key=asked.key
    )
    return await detail(call, session)


ROUTES = [
    Route(
        "POST",
        "/replay",
        replay,
        f"Run a notebook in a fresh kernel, and compare it cell by cell with what it holds. {FILES}. "
        "With Accept: text/event-stream progress and then the report; with text/html a page",
        ReplayQuery,
        None,
        Replay,
        200,
        (413,),
        "execute",
        ("application/json", "text/event-stream", "text/html"),
        receiver=Uploads,
        takes="multipart/form-data",
    ),
    Route(
        "POST",
        "/import",
        bring_in,
        f"Make a session of a notebook. {FILES}",
        ImportQuery,
        None,
        SessionDetail,
        201,
        (409, 413),
        "write",
        receiver=Uploads,
        takes="multipart/form-data",
    ),
]
