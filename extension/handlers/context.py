"""What a session keeps in mind, and what its model would be sent."""

from __future__ import annotations

from typing import Any, Literal

from cellwright.extension.endpoint import Call, Route
from cellwright.extension.handlers.models import Body
from cellwright.server.domain import Summary
from cellwright.server.turns import Rendered
from pydantic import BaseModel, Field


class Context(BaseModel):
    context: dict[str, Any] = Field(description="Facts by name; every prompt holds them")
    summary: Summary | None = Field(description="What stands for older turns")


class ContextChanges(Body):
    context: dict[str, Any] = Field(description="Facts by name; with merge, null removes one")
    mode: Literal["replace", "merge"] = "merge"


class Compress(Body):
    max_tokens: int = Field(2_000, ge=100, le=32_000)


class Inherit(Body):
    source: str = Field(alias="from", min_length=1, max_length=120, description="A session that you may see")
    keys: list[str] | None = Field(None, max_length=200, description="unset: all")


async def get(call: Call) -> Context:
    session = await call.session()
    return Context(context=session.context, summary=session.summary)


async def _now(call: Call) -> Context:
    session = await call.app.rows.get((await call.session()).id)
    return Context(context=session.context, summary=session.summary)


async def change(call: Call) -> Context:
    await call.app.memory.change(await call.session(), call.body.context, call.body.mode, call.owner)
    return await _now(call)


async def rendered(call: Call) -> Rendered:
    return await call.app.turns.rendered(await call.session())


async def compress(call: Call) -> Context:
    await call.app.memory.compress(await call.session(), call.body.max_tokens, call.owner)
    return await _now(call)


async def inherit(call: Call) -> Context:
    session = await call.session()
    other = await call.may(call.body.source, "read")
    await call.app.memory.inherit(session, other, call.body.keys, call.owner)
    return await _now(call)


ROUTES = [
    Route(
        "GET", "/sessions/{session}/context", get, "What the session keeps in mind", None, None, Context, 200, (404,)
    ),
    Route(
        "PATCH",
        "/sessions/{session}/context",
        change,
        "Set facts by name, or replace them all",
        None,
        ContextChanges,
        Context,
        200,
        (404,),
        "write",
        example={"context": {"unit": "grams"}, "mode": "merge"},
    ),
    Route(
        "GET",
        "/sessions/{session}/context/rendered",
        rendered,
        "Exactly what the model would be sent now, with token counts by part",
        None,
        None,
        Rendered,
        200,
        (404, 409),
        needs="write",
    ),
    Route(
        "POST",
        "/sessions/{session}/context/compress",
        compress,
        "Have the model summarise all turns but the last; a bad reply changes nothing",
        None,
        Compress,
        Context,
        200,
        (404, 409, 502),
        "execute",
        example={"max_tokens": 2000},
    ),
    Route(
        "POST",
        "/sessions/{session}/context/inherit",
        inherit,
        "Take facts over from another session",
        None,
        Inherit,
        Context,
        200,
        (404,),
        "write",
        example={"from": "sales", "keys": ["unit"]},
    ),
]
