"""Messages and history."""

from __future__ import annotations

from datetime import datetime

from cellwright.extension.endpoint import Call, Route
from cellwright.extension.handlers.models import Query
from cellwright.server.domain import Message
from pydantic import BaseModel, Field


class MessagePage(Query):
    limit: int = Field(100, ge=1, le=500)
    offset: int = Field(0, ge=0, le=2**31)


class MessageList(BaseModel):
    messages: list[Message]
    total: int
    limit: int
    offset: int


class HistoryPage(Query):
    max_turns: int = Field(20, ge=1, le=1_000)
    limit: int = Field(100, ge=1, le=500)
    offset: int = Field(0, ge=0, le=2**31)


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
    created_at: datetime


class History(BaseModel):
    session_id: str
    turn_count: int
    history: list[HistoryEntry]


async def list_messages(call: Call) -> MessageList:
    session = await call.session()
    found, total = await call.app.rows.messages(session.id, call.query.limit, call.query.offset)
    return MessageList(messages=found, total=total, limit=call.query.limit, offset=call.query.offset)


async def history(call: Call) -> History:
    session = await call.session()
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
]
