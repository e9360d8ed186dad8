"""Sessions."""

from __future__ import annotations

import json
from typing import Annotated, Any

from cellwright.extension.endpoint import Call, Route
from cellwright.extension.handlers.models import (
    Body,
    Page,
    Query,
    SessionDetail,
    SessionRow,
    SessionState,
    parent_of,
    row_of,
)
from cellwright.server import events as e
from cellwright.server.domain import Message, Session, SessionStatus
from cellwright.server.errors import Invalid
from cellwright.server.preferences import Preferences
from pydantic import AfterValidator, BaseModel, Field, field_validator, model_validator

MAX_NOTES_BYTES = 1 << 16


def _bounded(value: dict[str, Any] | None) -> dict[str, Any] | None:
    if value is not None and len(json.dumps(value)) > MAX_NOTES_BYTES:
        raise ValueError(f"at most {MAX_NOTES_BYTES:,} bytes of JSON")
    return value


Notes = Annotated[dict[str, Any], AfterValidator(_bounded)]
"""Free JSON of the client's own; every list of sessions carries it."""

KEY = r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$"


class NewSession(Body):
    title: str | None = Field(None, min_length=1, max_length=200)
    key: str | None = Field(None, min_length=1, max_length=120, pattern=KEY, description="Your own name for it")
    agent: str | None = None
    model: str | None = Field(None, max_length=200)
    kernel: str | None = Field(None, max_length=200, description="A kernelspec's name")
    metadata: Notes = {}
    preferences: Notes = Field({}, description="Over your own: see /preferences")
    notebook_path: str | None = Field(
        None, max_length=1_000, description="An existing notebook of the server's tree, which becomes the session's"
    )

    @field_validator("preferences")
    @classmethod
    def _known(cls, value: dict[str, Any]) -> dict[str, Any]:
        Preferences(**value)
        return value


class SessionChanges(Body):
    title: str | None = Field(None, min_length=1, max_length=200)
    agent: str | None = None
    model: str | None = Field(None, max_length=200)
    metadata: Notes | None = None
    preferences: Notes | None = None
    last_seen: int | None = Field(None, ge=0, le=2**62, description="The last event that you have seen, for `unread`")

    @field_validator("preferences")
    @classmethod
    def _known(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        Preferences(**(value or {}))
        return value

    @model_validator(mode="after")
    def _something(self) -> SessionChanges:
        if not self.model_fields_set:
            raise ValueError("say what to change")
        return self


class SessionPage(Page):
    search: str | None = Field(None, max_length=200)
    status: SessionStatus | None = None
    agent: str | None = None


class SessionList(BaseModel):
    sessions: list[SessionRow]
    total: int
    limit: int
    offset: int


class Detail(Query):
    messages: bool = False


def kernel_status(call: Call, session: Session) -> str:
    return call.app.sessions.kernel_status(session) or "none"


async def list_sessions(call: Call) -> SessionList:
    asked: SessionPage = call.query
    arguments = call.handler.request.arguments
    metadata = {
        name.removeprefix("metadata."): call.handler.get_argument(name)
        for name in arguments
        if name.startswith("metadata.")
    }
    found, total = await call.app.rows.page(
        call.owner,
        search=asked.search,
        status=asked.status.value if asked.status else None,
        agent=asked.agent,
        metadata=metadata or None,
        limit=asked.limit,
        offset=asked.offset,
    )
    rows = [SessionRow(**row_of(session, kernel_status(call, session), unread)) for session, unread in found]
    return SessionList(sessions=rows, total=total, limit=asked.limit, offset=asked.offset)


async def create(call: Call) -> SessionDetail:
    body: NewSession = call.body
    asked = body.model_dump(exclude={"notebook_path"})
    made = await call.app.sessions.create(call.owner, adopt=body.notebook_path, **asked)
    return await detail(call, made)


async def detail(call: Call, session: Session, **more: Any) -> SessionDetail:
    rows, user = call.app.rows, call.who.name
    variables = [variable.name for variable in await call.app.sessions.variables(session)]
    unread = await rows.recent(session.id, f"unread:{user}", lambda: rows.unread(session.id, user)) if user else 0
    state = await rows.recent(session.id, "state", lambda: _state(call, session))
    fields = session.model_dump(include=set(SessionDetail.model_fields))
    told: dict[str, Any] = {
        "kernel_status": kernel_status(call, session),
        "variables": variables,
        "unread": unread,
        "state": state,
    }
    told["parent"] = parent_of(session)
    if session.head_turn_id is not None:
        told["head_turn"] = await rows.recent(session.id, "head", lambda: _head(call, session))
    told["can_redo"] = bool(session.redo)
    return SessionDetail(**{**fields, **told, **more})


async def _head(call: Call, session: Session) -> int:
    assert session.head_turn_id is not None
    return (await call.app.rows.turn(session.head_turn_id)).n


async def _state(call: Call, session: Session) -> SessionState:
    turns = await call.app.rows.open_turns(session.id)
    run = await call.app.rows.last_run(session.id) or {}
    operation = None
    if turns:
        state = e.fold(record.event for record in await call.app.log.of_turn(turns[0].id))
        waits = set(state.asked) - set(state.decided)
        operation = "waiting for approval" if waits else turns[0].status.value
    return SessionState(
        busy=bool(turns), current_operation=operation, last_code=run.get("source"), last_output=run.get("text")
    )


async def get(call: Call) -> SessionDetail:
    session = await call.session()
    more: dict[str, Any] = {}
    if call.query.messages:
        more["messages"] = (await messages_of(call, session, 500, 0))[0]
    return await detail(call, session, **more)


async def change(call: Call) -> SessionDetail:
    body: SessionChanges = call.body
    changes = body.model_dump(exclude_unset=True)
    for name in ("title", "agent", "metadata", "preferences", "last_seen"):
        if name in changes and changes[name] is None:
            raise Invalid(f"{name} cannot be null.")
    seen = changes.pop("last_seen", None)
    # To have looked at it is the reader's own business; all else changes the session.
    session = await call.may(call.path["session"], "write" if changes else "read")
    if seen is not None:
        await call.app.rows.saw(session.id, call.owner, min(seen, session.seq))
    if changes:
        session = await call.app.sessions.change(session, changes, call.owner)
    return await detail(call, session)


async def delete(call: Call) -> None:
    await call.app.sessions.delete(await call.session())


async def messages_of(call: Call, session: Session, limit: int, offset: int) -> tuple[list[Message], int]:
    """A page of a session's messages, and how many there are."""
    rows = call.app.rows
    return await rows.recent(
        session.id, f"messages:{limit}:{offset}", lambda: rows.messages(session.id, limit, offset), _weight
    )


def _weight(page: tuple[list[Message], int]) -> int:
    """About how many bytes a page of messages holds."""
    return sum(
        2_000
        + len(message.content)
        + sum(len(call.arguments) for call in message.tool_calls)
        + sum(len(result.content) for result in message.tool_results)
        + sum(len(str(entry)) for entry in message.execution_logs)
        for message in page[0]
    )


async def generate_title(call: Call) -> SessionDetail:
    session = await call.session()
    await call.app.titles.generate(session)
    return await detail(call, await call.session())


ROUTES = [
    Route("GET", "/sessions", list_sessions, "Your sessions, newest activity first", SessionPage, None, SessionList),
    Route(
        "POST",
        "/sessions",
        create,
        "Make a session",
        None,
        NewSession,
        SessionDetail,
        201,
        (409,),
        "write",
        example={"title": "Sales by region", "key": "sales", "agent": "data_analysis", "metadata": {"team": "a"}},
    ),
    Route("GET", "/sessions/{session}", get, "A session", Detail, None, SessionDetail, errors=(404,)),
    Route(
        "PATCH",
        "/sessions/{session}",
        change,
        "Change a session",
        None,
        SessionChanges,
        SessionDetail,
        200,
        (404,),
        "write",
        example={"title": "Sales by region and month"},
    ),
    Route(
        "DELETE",
        "/sessions/{session}",
        delete,
        "Delete a session: its kernel, conversation, notebook history and artifacts. Files in its folder stay",
        status=204,
        errors=(404,),
        action="write",
        needs="own",
    ),
    Route(
        "POST",
        "/sessions/{session}/generate-title",
        generate_title,
        "Name the session by what is said in it; without a usable model, by the first question",
        None,
        None,
        SessionDetail,
        errors=(404,),
        action="write",
    ),
]
