"""The notebook, and the forms in which it leaves."""

from __future__ import annotations

from typing import Literal

from cellwright.extension.endpoint import Call, Route, Streamed
from cellwright.extension.handlers.models import Query
from cellwright.notebooks import codec
from cellwright.notebooks.export import MIMES
from cellwright.server.artifacts import disposition, slug
from pydantic import BaseModel


class Notebook(BaseModel):
    """An nbformat 4.5 notebook."""

    cells: list[dict[str, object]]
    metadata: dict[str, object]
    nbformat: int
    nbformat_minor: int


class ExportQuery(Query):
    format: Literal["ipynb", "py", "md", "html", "rehearsal"] = "ipynb"


async def get(call: Call) -> Notebook:
    document = await call.app.sessions.document(await call.session())
    call.handler.set_header("ETag", f'"{document.metadata["cellwright"]["revision"]}"')
    return Notebook(**codec.encode(document))


async def leave(call: Call) -> Streamed:
    session = await call.session()
    form = call.query.format
    if form == "rehearsal":
        data = (await call.app.sessions.recording(session)).to_json().encode()
        mime, ending = "application/json", "rehearsal.json"
    else:
        (data, mime), ending = await call.app.exports.file(session, form), form
    call.handler.set_header("Content-Type", mime)
    call.handler.set_header("Content-Security-Policy", "sandbox")
    call.handler.set_header("Content-Disposition", disposition(f"{slug(session.title)}.{ending}", inline=False))
    call.handler.finish(data)
    return Streamed()


async def shown(call: Call) -> Streamed:
    session = await call.session()
    name = call.path["sha256"]
    data = await call.app.artifacts.shown(session.id, name)
    call.handler.set_header("Content-Type", "application/octet-stream")
    call.handler.set_header("Content-Security-Policy", "sandbox; default-src 'none'")
    call.handler.set_header("Cache-Control", "private, max-age=31536000, immutable")
    call.handler.finish(data)
    return Streamed()


ROUTES = [
    Route("GET", "/sessions/{session}/notebook", get, "The notebook as it is now", None, None, Notebook, errors=(404,)),
    Route(
        "GET",
        "/sessions/{session}/export",
        leave,
        "The notebook as a file of its own, with its origin; rehearsal is the recording of the model's replies",
        ExportQuery,
        errors=(404,),
        media=(*MIMES.values(), "application/json"),
    ),
    Route(
        "GET",
        "/sessions/{session}/objects/{sha256}",
        shown,
        "A large value of an output: what a reference in an event or a cell names",
        errors=(404,),
        media=("application/octet-stream",),
    ),
]
