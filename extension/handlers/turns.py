"""Asking, watching, stopping."""

from __future__ import annotations

from cellwright.extension import sse
from cellwright.extension.endpoint import Call, Route, Streamed
from cellwright.extension.handlers.models import Body, Page, Query, TurnRow, turn_row
from cellwright.notebooks.outputs import inline, references
from cellwright.server import events as e
from cellwright.server.domain import ArtifactId, Turn, TurnRequest
from cellwright.server.errors import Invalid
from pydantic import BaseModel, Field

MAX_QUERY_CHARACTERS = 200_000


class Ask(Body):
    query: str = Field(max_length=MAX_QUERY_CHARACTERS)
    file_ids: list[ArtifactId] = Field(default=[], max_length=50)
    agent: str | None = None
    model: str | None = Field(None, max_length=200)
    max_iterations: int | None = Field(None, ge=1, le=1_000)
    when_busy: str = Field("queue", pattern="^(queue|reject)$")


class Asked(BaseModel):
    turn_id: str
    n: int


class Execute(Body):
    source: str = Field(min_length=1, max_length=MAX_QUERY_CHARACTERS)


class Executed(BaseModel):
    turn_id: str
    cell_id: str | None
    status: str
    outputs: list[dict[str, object]]
    execution_count: int | None
    duration_ms: int | None
    artifacts: list[str]
    cause: str | None = None


class After(Query):
    after: int = Field(0, ge=0, le=2**62)


class TurnList(BaseModel):
    turns: list[TurnRow]
    total: int
    limit: int
    offset: int


def wants_stream(call: Call) -> bool:
    return "text/event-stream" in call.handler.request.headers.get("Accept", "")


async def _stream(call: Call, turn: Turn) -> Streamed:
    records = await call.app.log.of_turn(turn.id)
    return await sse.answer(call.handler, turn.session_id, records[0].seq - 1, turn.id)


async def query(call: Call) -> Asked | Streamed:
    session, body = await call.session(), call.body
    request = TurnRequest(
        agent=body.agent,
        model=body.model,
        max_iterations=body.max_iterations,
        file_ids=body.file_ids,
        asked_by=call.owner,
    )
    turn = await call.app.turns.ask(session, body.query, request, reject_when_busy=body.when_busy == "reject")
    if wants_stream(call):
        return await _stream(call, turn)
    return Asked(turn_id=turn.id, n=turn.n)


async def execute(call: Call) -> Executed | Streamed:
    turn = await call.app.sessions.execute(await call.session(), call.body.source, call.owner)
    if wants_stream(call):
        return await _stream(call, turn)
    turn = await call.app.turns.wait(turn)
    state = e.fold(record.event for record in await call.app.log.of_turn(turn.id))
    ran = state.cells[-1] if state.cells else None
    outputs = list(ran.outputs) if ran else []
    held = await call.app.artifacts.fetch_all(references(outputs))
    return Executed(
        turn_id=turn.id,
        cell_id=ran.cell_id if ran else None,
        status=ran.status.value if ran else turn.status.value,
        outputs=inline(outputs, held.__getitem__),
        execution_count=ran.execution_count if ran else None,
        duration_ms=ran.duration_ms if ran else None,
        artifacts=state.artifacts,
        cause=turn.cause or (ran.cause if ran else None),
    )


async def events(call: Call) -> Streamed:
    session = await call.session()
    after = call.query.after
    last = call.handler.request.headers.get("Last-Event-ID")
    if last is not None:
        if not (last.isascii() and last.isdigit() and len(last) < 19):
            raise Invalid("Last-Event-ID is not a number that this server gave out.")
        after = int(last)
    return await sse.answer(call.handler, session.id, after)


async def list_turns(call: Call) -> TurnList:
    session = await call.session()
    found, total = await call.app.rows.turns(session.id, call.query.limit, call.query.offset)
    rows = [turn_row(turn) for turn in found]
    return TurnList(turns=rows, total=total, limit=call.query.limit, offset=call.query.offset)


async def _turn(call: Call) -> Turn:
    return await call.app.rows.turn(call.path["turn"], call.owner)


async def get(call: Call) -> TurnRow:
    turn = await _turn(call)
    runs = await call.app.rows.runs(turn.id)
    names = (
        "cell_id",
        "execution_id",
        "purpose",
        "status",
        "cause",
        "execution_count",
        "duration_ms",
        "started_at",
        "ended_at",
    )
    made = await call.app.rows.artifacts_of_turns(turn.session_id, [turn.id])
    return turn_row(
        turn,
        cells=[{name: run[name] for name in names} for run in runs],
        artifacts=[artifact for ids in made.values() for artifact in ids],
    )


async def stop(call: Call) -> Asked:
    turn = await call.app.turns.stop(await _turn(call))
    return Asked(turn_id=turn.id, n=turn.n)


STREAM = ("application/json", "text/event-stream")
ROUTES = [
    Route(
        "POST",
        "/sessions/{session}/query",
        query,
        "Ask the agent. With Accept: text/event-stream the answer is the turn's events",
        None,
        Ask,
        Asked,
        202,
        (404, 409),
        "execute",
        STREAM,
    ),
    Route(
        "POST",
        "/sessions/{session}/execute",
        execute,
        "Run one cell without the model",
        None,
        Execute,
        Executed,
        200,
        (404, 409),
        "execute",
        STREAM,
    ),
    Route(
        "GET",
        "/sessions/{session}/events",
        events,
        "Every event of the session, from Last-Event-ID or after, through live",
        After,
        errors=(404,),
        media=("text/event-stream",),
    ),
    Route("GET", "/sessions/{session}/turns", list_turns, "The session's turns", Page, None, TurnList, errors=(404,)),
    Route("GET", "/turns/{turn}", get, "A turn, its cells and artifacts", None, None, TurnRow, errors=(404,)),
    Route(
        "POST",
        "/turns/{turn}/stop",
        stop,
        "Stop the model call and the running cell together; variables stay",
        None,
        None,
        Asked,
        202,
        (404, 409),
        "execute",
    ),
]
