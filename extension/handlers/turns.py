"""Asking, watching, stopping."""

from __future__ import annotations

import base64
from typing import Any, Literal

from cellwright.extension import sse
from cellwright.extension.endpoint import Call, Route, Streamed
from cellwright.extension.handlers.models import (
    Body,
    Page,
    PendingApproval,
    Query,
    TurnRow,
    TurnSummary,
    turn_row,
    turn_summary,
)
from cellwright.notebooks.outputs import inline, references
from cellwright.server import events as e
from cellwright.server.app import Cellwright
from cellwright.server.domain import Approval, ArtifactId, Session, Turn, TurnRequest
from cellwright.server.errors import Invalid
from pydantic import BaseModel, Field

MAX_QUERY_CHARACTERS = 200_000
MAX_LOG_BYTES = 8 * 1024 * 1024
"""Of a page of the log; more only where one turn alone has more."""

IMAGES = {
    "image/png": b"\x89PNG",
    "image/jpeg": b"\xff\xd8\xff",
    "image/gif": b"GIF8",
    "image/webp": b"RIFF",
}
"""Types that models see, and how such a file begins."""


class ShownImage(Body):
    """A picture for a model that sees."""

    data: str = Field(description="Base64, or a data: URL")
    mime_type: Literal["image/png", "image/jpeg", "image/gif", "image/webp"] = "image/png"
    name: str = Field("image", max_length=200)

    def decoded(self) -> tuple[bytes, str]:
        """The bytes and their type; raises Invalid."""
        head, _, body = self.data.rpartition(",")
        mime = head.removeprefix("data:").partition(";")[0] if head.startswith("data:") else self.mime_type
        try:
            data = base64.b64decode(body, validate=True)
        except ValueError as error:
            raise Invalid(f"The image {self.name!r} is not base64.") from error
        if mime not in IMAGES or not data.startswith(IMAGES[mime]):
            raise Invalid(f"The image {self.name!r} is not a PNG, JPEG, GIF or WebP.")
        return data, mime


class Document(Body):
    """A text that comes with a question: it becomes a file of the workspace."""

    name: str = Field(min_length=1, max_length=200)
    content: str = Field(min_length=1, max_length=4_000_000)


class Ask(Body):
    query: str = Field(max_length=MAX_QUERY_CHARACTERS)
    file_ids: list[ArtifactId] = Field(default=[], max_length=50)
    images: list[ShownImage] = Field(default=[], max_length=10)
    documents: list[Document] = Field(default=[], max_length=10)
    approval: Approval | None = Field(None, description="Which cells wait for your word in this turn")
    agent: str | None = None
    model: str | None = Field(None, max_length=200)
    max_iterations: int | None = Field(None, ge=1, le=1_000)
    when_busy: str = Field("queue", pattern="^(queue|reject)$")


class Asked(BaseModel):
    turn_id: str
    n: int


class Execute(Body):
    source: str = Field(min_length=1, max_length=MAX_QUERY_CHARACTERS)


class Decision(Body):
    decision: Literal["approve", "reject"]
    source: str | None = Field(None, min_length=1, max_length=MAX_QUERY_CHARACTERS, description="Run this instead")
    reason: str = Field("", max_length=2_000, description="The model is told")


class Decided(BaseModel):
    turn_id: str
    call_id: str
    decision: str


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


class LogQuery(Query):
    turns: int = Field(20, ge=1, le=100, description="How many of the last turns, with all that happened since")
    before: int | None = Field(None, ge=1, le=2**31, description="Those before the turn of this number")


class LoggedEvent(BaseModel):
    """As the socket tells it."""

    event: str
    id: int
    data: dict[str, Any]


class LogPage(BaseModel):
    events: list[LoggedEvent]
    first_turn: int = Field(description="Number of the first turn in here; there are more before it when it is over 1")
    turn_count: int


class TurnList(BaseModel):
    turns: list[TurnSummary]
    total: int
    limit: int
    offset: int


def wants_stream(call: Call) -> bool:
    return "text/event-stream" in call.handler.request.headers.get("Accept", "")


async def stream(call: Call, turn: Turn) -> Streamed:
    """The turn's events from its beginning."""
    records = await call.app.log.of_turn(turn.id)
    return await sse.answer(call, turn.session_id, records[0].seq - 1, turn.id)


async def ask(app: Cellwright, session: Session, body: Ask, by: str) -> Turn:
    """Queues a question, with what comes with it."""
    images = [await app.sessions.show(session, *shown(image)) for image in body.images]
    file_ids = list(body.file_ids)
    for document in body.documents:
        file_ids.append((await app.sessions.write(session, document.name, document.content)).id)
    request = TurnRequest(
        agent=body.agent,
        model=body.model,
        max_iterations=body.max_iterations,
        file_ids=file_ids,
        images=images,
        approval=body.approval,
        asked_by=by,
    )
    return await app.turns.ask(session, body.query, request, reject_when_busy=body.when_busy == "reject")


def shown(image: ShownImage) -> tuple[bytes, str, str]:
    """An image's bytes, its name with an ending, and its type; raises Invalid."""
    data, mime = image.decoded()
    name = image.name if "." in image.name else f"{image.name}.{mime.partition('/')[2]}"
    return data, name, mime


async def query(call: Call) -> Asked | Streamed:
    turn = await ask(call.app, await call.session(), call.body, call.owner)
    asked = Asked(turn_id=turn.id, n=turn.n)
    if wants_stream(call):
        await call.remember(asked)
        return await stream(call, turn)
    return asked


async def execute(call: Call) -> Executed | Streamed:
    turn = await call.app.sessions.execute(await call.session(), call.body.source, call.owner)
    await call.remember(Asked(turn_id=turn.id, n=turn.n))
    return await stream(call, turn) if wants_stream(call) else await executed(call, turn)


async def query_again(call: Call, before: Any) -> Asked | Streamed:
    """A repeat of a question is answered by the turn that it began."""
    turn = await call.app.rows.turn(before["turn_id"])
    return await stream(call, turn) if wants_stream(call) else Asked(turn_id=turn.id, n=turn.n)


async def execute_again(call: Call, before: Any) -> Executed | Streamed:
    turn = await call.app.rows.turn(before["turn_id"])
    return await stream(call, turn) if wants_stream(call) else await executed(call, turn)


async def executed(call: Call, turn: Turn) -> Executed:
    """What the cell of a turn gave, when it has ended."""
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
    return await sse.answer(call, session.id, after)


async def logged(call: Call) -> LogPage:
    session = await call.session()
    before = call.query.before
    if before is not None and before > session.turn_count:
        raise Invalid(f"The session has {session.turn_count} turns.")
    end = before or session.turn_count + 1
    first = await call.app.log.first_within(session.id, max(1, end - call.query.turns), end, MAX_LOG_BYTES)
    records = await call.app.log.of_turns(session.id, first, before)
    events = [LoggedEvent(event=kind, id=number, data=data) for kind, data, number in sse.told(records)]
    return LogPage(events=events, first_turn=first, turn_count=session.turn_count)


async def list_turns(call: Call) -> TurnList:
    session = await call.session()
    found, total = await call.app.rows.turns(session.id, call.query.limit, call.query.offset)
    rows = [turn_summary(turn) for turn in found]
    return TurnList(turns=rows, total=total, limit=call.query.limit, offset=call.query.offset)


async def _turn(call: Call) -> Turn:
    turn = await call.app.rows.turn(call.path["turn"])
    await call.may_within("turn", turn.id, turn.session_id)
    return turn


async def get(call: Call) -> TurnRow:
    turn = await _turn(call)
    runs = await call.app.rows.runs(turn.id)
    names = (
        "cell_id",
        "execution_id",
        "source",
        "purpose",
        "status",
        "cause",
        "text",
        "execution_count",
        "duration_ms",
        "started_at",
        "ended_at",
    )
    made = await call.app.rows.artifacts_of_turns(turn.session_id, [turn.id])
    state = e.fold(record.event for record in await call.app.log.of_turn(turn.id))
    waiting = [event for key, event in state.asked.items() if key not in state.decided and not state.ended]
    return turn_row(
        turn,
        cells=[{name: run[name] for name in names} for run in runs],
        artifacts=[artifact for ids in made.values() for artifact in ids],
        approvals=[
            PendingApproval(call_id=w.call_id, source=w.source, purpose=w.purpose, reasons=w.reasons) for w in waiting
        ],
    )


async def stop(call: Call) -> Asked:
    turn = await call.app.turns.stop(await _turn(call))
    return Asked(turn_id=turn.id, n=turn.n)


async def decide(call: Call) -> Decided:
    body: Decision = call.body
    turn = await _turn(call)
    decided = await call.app.turns.decide(turn, call.path["call"], body.decision, body.source, body.reason, call.owner)
    return Decided(turn_id=turn.id, call_id=decided.call_id, decision=decided.decision)


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
        again=query_again,
        example={"query": "Which region grew most?"},
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
        again=execute_again,
        example={"source": "6 * 7"},
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
    Route(
        "GET",
        "/sessions/{session}/log",
        logged,
        "What happened in the last turns, as the socket tells it; fewer turns where they are large",
        LogQuery,
        None,
        LogPage,
        errors=(404,),
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
    Route(
        "POST",
        "/turns/{turn}/approvals/{call}",
        decide,
        "Answer a cell that waits for your word; `source` runs something else in its place",
        None,
        Decision,
        Decided,
        200,
        (404, 409),
        "execute",
        example={"decision": "approve"},
    ),
]
