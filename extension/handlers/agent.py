"""One call, one answer; and the AI SDK's chat."""

from __future__ import annotations

import re
from typing import Any, Literal
from uuid import NAMESPACE_URL, uuid5

from cellwright.extension import ai_sdk, sse
from cellwright.extension.endpoint import Call, Route, Streamed
from cellwright.extension.handlers.models import Body
from cellwright.extension.handlers.sessions import KEY, Notes
from cellwright.extension.handlers.turns import MAX_QUERY_CHARACTERS, Ask, ShownImage, ask
from cellwright.server import events as e
from cellwright.server.domain import ArtifactId, Session, Turn, TurnStatus, Usage, Variable
from cellwright.server.errors import Conflict, Invalid, NotFound
from cellwright.server.store.sessions import is_uuid
from pydantic import BaseModel, ConfigDict, Field, model_validator


class QuickContext(Body):
    """What the client knows. Its variables and cell count are hints: the kernel knows better."""

    session_id: str | None = Field(
        None, min_length=1, max_length=120, description="An id, or a key of yours, made on first use; unset: a new one"
    )
    notebook_id: str | None = Field(None, max_length=1_000)
    variables: dict[str, Any] | list[Any] = {}
    cell_count: int | None = None


class Quick(Body):
    query: str = Field(max_length=MAX_QUERY_CHARACTERS)
    context: QuickContext = QuickContext()


class QuickAnswer(BaseModel):
    session_id: str
    turn_id: str
    answer: str
    code: list[str] = Field(description="Source of each cell that ran, in order")
    artifacts: list[str]
    variables: list[Variable]
    usage: Usage
    is_error: bool


class UIPart(BaseModel):
    """A part of a UI message; of the AI SDK's many only text and files are ours to read."""

    model_config = ConfigDict(extra="allow")
    type: str
    text: str | None = Field(None, max_length=MAX_QUERY_CHARACTERS)
    url: str | None = None
    media_type: str | None = Field(None, alias="mediaType")
    filename: str | None = Field(None, max_length=200)


class UIMessage(BaseModel):
    model_config = ConfigDict(extra="allow")
    id: str = ""
    role: Literal["system", "user", "assistant"]
    parts: list[UIPart] = []


class Chat(BaseModel):
    """`useChat`'s body, or the plain one: `message` and what belongs to it."""

    model_config = ConfigDict(extra="allow")
    id: str | None = Field(None, min_length=1, max_length=120, description="The chat's id: a session's id, or its key")
    messages: list[UIMessage] | None = Field(None, max_length=2_000)
    trigger: Literal["submit-message", "regenerate-message"] = "submit-message"
    message_id: str | None = Field(None, alias="messageId")
    message: str | None = Field(None, min_length=1, max_length=MAX_QUERY_CHARACTERS)
    session_id: str | None = Field(None, min_length=1, max_length=120)
    file_ids: list[ArtifactId] = Field([], max_length=50)
    metadata: Notes = {}

    @model_validator(mode="after")
    def _one(self) -> Chat:
        if (self.messages is None) == (self.message is None):
            raise ValueError("give either messages or message")
        return self

    def asked(self) -> Ask:
        """The question; raises Invalid when there is none."""
        if self.message is not None:
            return Ask(query=self.message, file_ids=self.file_ids)
        last = next((message for message in reversed(self.messages or []) if message.role == "user"), None)
        texts = [part.text for part in last.parts if part.type == "text" and part.text] if last is not None else []
        if last is None or not texts:
            raise Invalid("The messages hold no text of a user's.")
        images = []
        for part in last.parts:
            if part.type == "file":
                if not (part.url or "").startswith("data:image/"):
                    raise Invalid("Send other files than images by upload, and name them in file_ids.")
                images.append(ShownImage(data=part.url or "", name=part.filename or "image"))
        return Ask(query="\n".join(texts), file_ids=self.file_ids, images=images)


async def _session(call: Call, name: str, metadata: dict[str, Any] | None = None) -> Session:
    """The session of that id or key; with a key that is new, a new one."""
    try:
        return await call.may(name)
    except NotFound:
        if is_uuid(name):
            raise
    key = name if re.fullmatch(KEY, name) else str(uuid5(NAMESPACE_URL, name))
    try:
        return await call.app.sessions.create(call.owner, key=key, metadata=metadata)
    except Conflict:  # Made by another request meanwhile, or under the key that stands for an odd name.
        return await call.may(key)


async def quick(call: Call) -> QuickAnswer:
    body: Quick = call.body
    name = body.context.session_id
    session = await _session(call, name) if name is not None else await call.app.sessions.create(call.owner)
    turn = await ask(call.app, session, Ask(query=body.query), call.owner)
    turn = await call.app.turns.wait(turn)
    state = e.fold(record.event for record in await call.app.log.of_turn(turn.id))
    return QuickAnswer(
        session_id=session.id,
        turn_id=turn.id,
        answer=turn.answer or turn.cause or "",
        code=list(state.sources.values()),
        artifacts=state.artifacts,
        variables=await call.app.sessions.variables(session),
        usage=turn.usage,
        is_error=turn.status is not TurnStatus.COMPLETED,
    )


async def chat(call: Call) -> Streamed:
    body: Chat = call.body
    asked = body.asked()
    name = body.id or body.session_id
    if name is not None:
        session = await _session(call, name, body.metadata)
    else:
        session = await call.app.sessions.create(call.owner, metadata=body.metadata)
    turn = await ask(call.app, session, asked, call.owner)
    await call.remember(Begun(turn_id=turn.id))
    return await _stream(call, session, turn)


class Begun(BaseModel):
    turn_id: str


async def chat_again(call: Call, before: Any) -> Streamed:
    turn = await call.app.rows.turn(before["turn_id"])
    return await _stream(call, await call.may(turn.session_id), turn)


async def resume(call: Call) -> Streamed:
    """The stream of the turn that is under way; 204 when there is none, as the AI SDK expects."""
    session = await call.session()
    turns = await call.app.rows.open_turns(session.id)
    if not turns:
        call.handler.set_status(204)
        call.handler.finish()
        return Streamed()
    return await _stream(call, session, turns[0])


async def _stream(call: Call, session: Session, turn: Turn) -> Streamed:
    records = await call.app.log.of_turn(turn.id)
    call.handler.set_header(*ai_sdk.HEADER)
    call.handler.set_header("X-Session-Id", session.id)
    base = f"{call.handler.settings['base_url']}cellwright/api/v1/artifacts"
    return await sse.write(call, session.id, ai_sdk.stream(call.app, session, turn, records[0].seq - 1, base))


ROUTES = [
    Route(
        "POST",
        "/agent/quick",
        quick,
        "One question, one answer; makes the session on first use",
        None,
        Quick,
        QuickAnswer,
        200,
        (404, 409),
        "execute",
        example={"query": "What is 6 times 7?", "context": {"session_id": "my_analysis_001"}},
    ),
    Route(
        "POST",
        "/agent/chat",
        chat,
        "A turn as the AI SDK's UI message stream; takes useChat's body",
        None,
        Chat,
        None,
        200,
        (404, 409),
        "execute",
        ("text/event-stream",),
        again=chat_again,
        example={
            "id": "my_analysis_001",
            "messages": [{"id": "m1", "role": "user", "parts": [{"type": "text", "text": "What is in sales.csv?"}]}],
        },
    ),
    Route(
        "GET",
        "/agent/chat/{session}/stream",
        resume,
        "The turn under way, from its beginning, as the AI SDK's stream; 204 when there is none",
        errors=(404,),
        media=("text/event-stream",),
    ),
]
