"""Messages and history."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from cellwright.extension.endpoint import Call, Route
from cellwright.extension.handlers.models import Body, Page
from cellwright.extension.handlers.sessions import Notes, messages_of
from cellwright.extension.handlers.turns import Document, ShownImage, shown
from cellwright.server.domain import Message, Session
from pydantic import BaseModel, Field, field_validator


class MessagePage(Page):
    limit: int = Field(100, ge=1, le=500)


class MessageList(BaseModel):
    messages: list[Message]
    total: int
    limit: int
    offset: int


class HistoryPage(Page):
    max_turns: int = Field(20, ge=1, le=1_000)
    limit: int = Field(100, ge=1, le=500)


class HistoryEntry(BaseModel):
    id: str
    turn: int
    role: str
    content: str
    code: str | None
    thoughts: str | None
    artifact_ids: list[str]
    artifact_urls: list[str]
    is_error: bool
    runs: list[str] = Field(description="How each cell that it ran ended; empty for code that did not run")
    created_at: datetime


class History(BaseModel):
    session_id: str
    turn_count: int
    history: list[HistoryEntry]


class NewMessage(Body):
    role: Literal["user", "assistant", "system"] = "user"
    content: str = Field(min_length=1, max_length=200_000)
    images: list[ShownImage] = Field(default=[], max_length=10)
    documents: list[Document] = Field(default=[], max_length=10)
    metadata: Notes = Field({}, description="Your own; `images` and `file_ids` are the server's")

    @field_validator("metadata")
    @classmethod
    def _own(cls, value: dict[str, Any]) -> dict[str, Any]:
        if taken := {"images", "file_ids"} & value.keys():
            raise ValueError(f"{', '.join(sorted(taken))}: the server sets this itself")
        return value


class MessageChange(Body):
    content: str = Field(min_length=1, max_length=200_000)


async def list_messages(call: Call) -> MessageList:
    session, limit, offset = await call.session(), call.query.limit, call.query.offset
    found, total = await messages_of(call, session, limit, offset)
    return MessageList(messages=found, total=total, limit=call.query.limit, offset=call.query.offset)


async def add(call: Call) -> Message:
    session, body = await call.session(), call.body
    metadata = dict(body.metadata)
    if body.images:
        metadata["images"] = [
            (await call.app.sessions.show(session, *shown(image))).model_dump() for image in body.images
        ]
    for document in body.documents:
        file = await call.app.sessions.write(session, document.name, document.content)
        metadata["file_ids"] = [*metadata.get("file_ids", []), file.id]
    return await call.app.messages.add(session, body.role, body.content, metadata)


async def _message(call: Call) -> Message:
    message = await call.app.rows.message(call.path["message"])
    await call.may_within("message", message.id, message.session_id)
    return message


async def edit(call: Call) -> Message:
    return await call.app.messages.edit(await _message(call), call.body.content, call.owner)


async def delete(call: Call) -> None:
    await call.app.messages.delete(await _message(call), call.owner)


async def history(call: Call) -> History:
    session, rows, asked = await call.session(), call.app.rows, call.query
    return await rows.recent(
        session.id,
        f"history:{asked.max_turns}:{asked.limit}:{asked.offset}",
        lambda: _history(call, session),
        lambda told: sum(len(entry.content) + len(entry.code or "") + 1_000 for entry in told.history),
    )


async def _history(call: Call, session: Session) -> History:
    turns = await call.app.rows.conversation(session.id, call.query.max_turns)
    made = await call.app.rows.artifacts_of_turns(session.id, [turn.id for turn, _ in turns])
    base = call.handler.settings["base_url"]
    entries = []
    for turn, messages in turns:
        for message in messages:
            ids = made.get(message.id, [])
            entries.append(
                HistoryEntry(
                    id=message.id,
                    turn=turn.n,
                    role=message.role,
                    content=message.content,
                    code=message.code,
                    thoughts=message.thoughts,
                    artifact_ids=ids,
                    artifact_urls=[f"{base}cellwright/api/v1/artifacts/{i}/content" for i in ids],
                    is_error=message.is_error,
                    runs=[str(entry["status"]) for entry in message.execution_logs],
                    created_at=message.created_at,
                )
            )
    chosen = entries[call.query.offset : call.query.offset + call.query.limit]
    return History(session_id=session.id, turn_count=session.turn_count, history=chosen)


ROUTES = [
    Route(
        "GET",
        "/sessions/{session}/messages",
        list_messages,
        "Messages, oldest first",
        MessagePage,
        None,
        MessageList,
        errors=(404,),
    ),
    Route(
        "GET",
        "/sessions/{session}/history",
        history,
        "Enough of the last turns to resume, replay or branch",
        HistoryPage,
        None,
        History,
        errors=(404,),
    ),
    Route(
        "POST",
        "/sessions/{session}/messages",
        add,
        "Add a message, without a turn",
        None,
        NewMessage,
        Message,
        201,
        (404,),
        "write",
        example={"role": "system", "content": "Amounts are in euros."},
    ),
    Route(
        "PATCH",
        "/messages/{message}",
        edit,
        "Give a message other words; the log keeps the former ones",
        None,
        MessageChange,
        Message,
        200,
        (404, 409),
        "write",
        example={"content": "Which region grew most in 2024?"},
    ),
    Route(
        "DELETE",
        "/messages/{message}",
        delete,
        "Take a message out of the conversation; the notebook's cells stay",
        status=204,
        errors=(404, 409),
        action="write",
    ),
]
