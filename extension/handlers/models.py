"""Bodies and answers that several resources share."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Self

from cellwright.server.domain import Artifact, Session, Turn, Usage
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator


class Body(BaseModel):
    """What a client sends: unknown fields are an error, not a surprise."""

    model_config = ConfigDict(extra="forbid")


class Query(BaseModel):
    """The arguments behind a path's question mark: unknown ones are an error, as in bodies."""

    model_config = ConfigDict(extra="forbid")


def _in_our_time(value: datetime) -> datetime:
    try:
        value = value.astimezone(UTC)
    except OverflowError:
        raise ValueError("a year between 2000 and 2200") from None
    if not 2000 <= value.year <= 2200:
        raise ValueError("a year between 2000 and 2200")
    return value


Time = Annotated[AwareDatetime, AfterValidator(_in_our_time)]


class Page(Query):
    """Part of a list: from `offset` on, or the `page` of so many, counted from 1."""

    limit: int = Field(50, ge=1, le=100)
    offset: int = Field(0, ge=0, le=2**31)
    page: int | None = Field(None, ge=1, le=2**24, description="In place of offset")

    @model_validator(mode="after")
    def _from_page(self) -> Self:
        if self.page is not None:
            if "offset" in self.model_fields_set:
                raise ValueError("give either offset or page")
            self.offset = (self.page - 1) * self.limit
        return self


class Parent(BaseModel):
    """The session and turn that a branch began with."""

    session_id: str
    turn: int


class SessionRow(BaseModel):
    """A session in a list."""

    id: str
    key: str | None
    title: str
    agent: str
    model: str | None
    status: str
    kernel_status: str = Field(description="none, starting, idle, busy")
    message_count: int
    turn_count: int
    last_message_preview: str
    unread: int = Field(description="Answers since you last looked")
    access: str = Field(description="own; or what it is shared with you for: read, write")
    metadata: dict[str, Any]
    parent: Parent | None = Field(None, description="What it is a branch of")
    created_at: datetime
    updated_at: datetime
    last_activity: datetime


class SessionState(BaseModel):
    """What the session is doing, and did last."""

    busy: bool
    current_operation: str | None = Field(description="queued, running or waiting for approval; null at rest")
    last_code: str | None
    last_output: str | None = Field(description="In words, as the model was told")


class SessionDetail(SessionRow):
    """A session with where its things are."""

    notebook_path: str
    workspace: str
    preferences: dict[str, Any]
    variables: list[str]
    usage: Usage
    state: SessionState
    seq: int = Field(description="Number of the last event in its log")
    revision: int
    head_turn: int = Field(0, description="Number of the turn where the session is; 0: before the first")
    can_redo: bool = False
    messages: list[Any] | None = None


def row_of(session: Session, kernel_status: str, unread: int) -> dict[str, Any]:
    fields = session.model_dump(include=set(SessionRow.model_fields))
    return {**fields, "parent": parent_of(session), "kernel_status": kernel_status, "unread": unread}


def parent_of(session: Session) -> dict[str, Any] | None:
    """What a session is a branch of."""
    if session.parent_session_id is None:
        return None
    return {"session_id": session.parent_session_id, "turn": session.parent_turn or 0}


class PendingApproval(BaseModel):
    """A cell that waits for the user's word."""

    call_id: str
    source: str
    purpose: str
    reasons: list[str]


class TurnSummary(BaseModel):
    """A turn in a list."""

    id: str
    session_id: str
    n: int
    parent_id: str | None = Field(description="The turn that it follows")
    limb: bool = Field(description="Whether a rewind left it behind; it can be gone back to")
    kind: str = Field(description="ask, execute (a cell of the user's) or edit (what the user did by themselves)")
    status: str
    query: str
    answer: str | None
    cause: str | None
    usage: Usage
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


class TurnRow(TurnSummary):
    """A turn, with what it ran and made."""

    cells: list[dict[str, Any]] = []
    artifacts: list[str] = []
    approvals: list[PendingApproval] = Field([], description="Cells that wait for the user's word")


def turn_row(turn: Turn, **more: Any) -> TurnRow:
    return TurnRow(**_of_turn(turn), **more)


def turn_summary(turn: Turn) -> TurnSummary:
    return TurnSummary(**_of_turn(turn))


def _of_turn(turn: Turn) -> dict[str, Any]:
    return {**turn.model_dump(include=set(TurnSummary.model_fields) - {"kind"}), "kind": turn.request.kind}


class ArtifactList(BaseModel):
    artifacts: list[Artifact]
    total: int
    limit: int
    offset: int
