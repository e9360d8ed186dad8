"""What the server speaks of: sessions, turns, messages, cells' runs, artifacts. Immutable, without I/O."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, NewType
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field

SessionId = NewType("SessionId", str)
TurnId = NewType("TurnId", str)
MessageId = NewType("MessageId", str)
ArtifactId = NewType("ArtifactId", str)
ExecutionId = NewType("ExecutionId", str)
"""Names one run of one cell; it is the Jupyter message id under which the code is sent."""
Sha256 = NewType("Sha256", str)


def new_id() -> str:
    """A fresh UUID, as text."""
    return str(uuid4())


class Frozen(BaseModel):
    """A value: compared by content, never changed."""

    model_config = ConfigDict(defer_build=True, frozen=True, extra="forbid", from_attributes=True)


class SessionStatus(StrEnum):
    ACTIVE = "active"
    IDLE = "idle"
    HIBERNATED = "hibernated"
    EXPIRED = "expired"


class TurnStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"
    INTERRUPTED = "interrupted"

    @property
    def ended(self) -> bool:
        return self not in (TurnStatus.QUEUED, TurnStatus.RUNNING)


class CellStatus(StrEnum):
    """How a run of a cell ended."""

    OK = "ok"
    ERROR = "error"
    ABORTED = "aborted"
    INTERRUPTED = "interrupted"
    TIMEOUT = "timeout"
    KERNEL_DIED = "kernel_died"
    OUTCOME_UNKNOWN = "outcome_unknown"


class Usage(Frozen):
    """Tokens and money of model calls, and how many calls there were."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = Field(0.0, description="US dollars, by LiteLLM's price list; 0 where it knows no price")
    calls: int = 0

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            cost=self.cost + other.cost,
            calls=self.calls + other.calls,
        )


class Column(Frozen):
    """One column of a table."""

    name: str
    dtype: str
    nulls: int | None = None


class Variable(Frozen):
    """A name in the kernel's namespace, without its value."""

    name: str
    type: str
    shape: list[int] | None = None
    size_bytes: int | None = None
    preview: str = ""
    columns: list[Column] | None = None
    rows: list[list[Any]] | None = Field(None, description="First rows of a table")
    summary: dict[str, float] | None = Field(
        None, description="Of an array of numbers: min, max, mean, nulls, of `values` values, every n-th"
    )
    thumbnail: str | None = Field(None, description="Of an image, a data: URL")


class ToolCall(Frozen):
    """A model's wish to have a tool run; `arguments` is JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


class ToolResult(Frozen):
    """What the model is told of one tool call."""

    call_id: str
    name: str
    content: str
    is_error: bool = False
    cell_id: str | None = None
    image_sha256: list[str] = Field(default_factory=list, description="Figures that a model with eyes is shown")


class Message(Frozen):
    """One message of the conversation."""

    id: MessageId
    session_id: SessionId
    turn_id: TurnId | None = None
    role: Literal["user", "assistant", "system"]
    content: str
    code: str | None = None
    thoughts: str | None = None
    tool_calls: list[ToolCall] = []
    tool_results: list[ToolResult] = []
    token_count: int = 0
    model: str | None = None
    agent: str | None = None
    response_time_ms: int | None = None
    is_error: bool = False
    execution_logs: list[dict[str, Any]] = Field(
        default=[], description="One entry per cell it ran: cell_id, status, duration_ms, text"
    )
    metadata: dict[str, Any] = {}
    created_at: datetime


Access = Literal["read", "write", "own"]
"""read: see everything; write: also ask and run; own: also share and delete."""
LEVELS: tuple[Access, ...] = ("read", "write", "own")


class Who(Frozen):
    """Who asks: a user by name (none: nobody logged in), and the hash of a share link's token, if one was shown."""

    name: str | None
    link: str | None = None


class Share(Frozen):
    """Lets a user, or whoever holds a link, into a session."""

    id: str
    session_id: SessionId
    role: Literal["read", "write"]
    user_name: str | None = None
    token_hash: str | None = None
    created_by: str
    created_at: datetime
    expires_at: datetime | None = None


class Moving(Frozen):
    """What a move of the head changes before the log says that it has moved."""

    workspace_version: str | None = Field(description="Of the files that are put in place")
    in_place: bool = Field(description="Whether the kernel itself goes back, by a copy; else another takes its place")


class Session(Frozen):
    """A conversation with an agent that works in a notebook on a kernel."""

    id: SessionId
    owner: str
    key: str | None
    title: str
    title_by: Literal["default", "model", "user"]
    agent: str
    model: str | None
    kernel_name: str | None
    status: SessionStatus
    notebook_path: str
    workspace: str
    metadata: dict[str, Any]
    preferences: dict[str, Any]
    message_count: int
    turn_count: int
    last_message_preview: str
    seq: int
    revision: int = Field(description="Sequence number of the event that last changed the notebook")
    head_turn_id: TurnId | None
    usage: Usage
    kernel_id: str | None
    kernel_incarnation: int
    context: dict[str, Any] = Field({}, description="Facts that it was told to keep in mind")
    summary: Summary | None = None
    redo: list[TurnId] = Field([], description="Turns that an undo came from; the next one to go back to is the last")
    workspace_version: str | None = None
    moving: Moving | None = Field(None, description="Where its head is being moved; a server that ends then leaves it")
    parent_session_id: SessionId | None = Field(None, description="The session that it is a branch of")
    parent_turn: int | None = None
    created_at: datetime
    updated_at: datetime
    last_activity: datetime
    access: Access = Field("own", description="What the one who asked may do with it")


class Summary(Frozen):
    """What stands for a conversation's older turns in the model's sight."""

    text: str
    through_turn: int = Field(description="The last turn that it covers")
    tokens: int


class Turn(Frozen):
    """One question and all that was done to answer it."""

    id: TurnId
    session_id: SessionId
    n: int = Field(description="Counts the session's turns from 1")
    parent_id: TurnId | None
    status: TurnStatus
    query: str
    request: TurnRequest
    answer: str | None
    cause: str | None
    usage: Usage
    revision: int | None = Field(description="Of the notebook when the turn ended")
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    limb: bool = Field(False, description="Whether a rewind left it behind: it does not lead to the head")
    line: list[tuple[int, int]] | None = Field(None, description="The ranges of the log that lead to its end")
    workspace_version: str | None = None
    before: Before | None = Field(None, description="What there was when it began")


class Before(Frozen):
    """The way to a turn's beginning, and the notebook's revision and the files of then."""

    line: list[tuple[int, int]]
    revision: int
    workspace_version: str | None


class Image(Frozen):
    """A picture that a user showed with a question; the session's artifacts hold it."""

    sha256: Sha256
    mime_type: str
    name: str = ""


Approval = Literal["auto", "ask", "ask-risky"]
"""Which of the agent's cells wait for the user's word: none, all, or those that look risky."""


class TurnRequest(Frozen):
    """How a turn is to be done, beyond its query."""

    agent: str | None = None
    model: str | None = None
    max_iterations: int | None = None
    file_ids: list[ArtifactId] = []
    images: list[Image] = []
    approval: Approval | None = None
    kind: Literal["ask", "execute", "edit"] = Field(
        "ask",
        description="execute: the query is a cell to run without a model; edit: says what the user did by themselves",
    )
    asked_by: str = ""


class Skipped(Frozen):
    """A variable that a checkpoint does not hold, or that could not be brought back."""

    name: str
    type: str
    reason: str


class KeptFile(Frozen):
    """A file of a workspace as a snapshot holds it."""

    name: str
    sha256: Sha256
    size_bytes: int
    executable: bool = False


class LeftOut(Frozen):
    """A file that a snapshot does not hold, and why."""

    name: str
    size_bytes: int
    reason: str


class RanAgain(Frozen):
    """A cell that was run again to make what was missing, and how it compares with its record."""

    cell_id: str
    turn: int
    source: str
    verdict: Literal["same", "tolerance", "different", "failed", "skipped", "planned"]
    reason: str = ""
    duration_ms: int = Field(0, description="How long it took; of one that did not run again, how long by the record")


Means = Literal["none", "fork", "stored", "rerun"]
"""How variables come back: there are none; a live copy of the kernel; stored ones; cells that run again."""


class FilesMoved(Frozen):
    """What a rewind does to the workspace's files, by name."""

    written: list[str] = []
    removed: list[str] = []
    left: list[LeftOut] = Field([], description="Those that stay as they are, because no snapshot holds them")


class VariablesBack(Frozen):
    """How variables were brought back, or would be."""

    means: list[Means] = []
    restored: list[str] = Field([], description="Names that are as they were")
    ran_again: list[RanAgain] = []
    missing: list[Skipped] = Field([], description="What could not be brought back as it was")
    appeared: list[str] = Field([], description="Files that came while cells ran again; they stay")
    seconds: float = 0.0


class CellsMoved(Frozen):
    """What a rewind does to the notebook, by cell id."""

    added: list[str] = []
    changed: list[str] = []
    deleted: list[str] = []
    moved: list[str] = []


class Rewound(Frozen):
    """What a rewind does, or did."""

    from_turn: int
    to_turn: int = Field(description="0: before the first turn")
    left_turns: list[int] = Field(description="Turns that do not lead to the head any more; they stay in the log")
    back_turns: list[int] = Field([], description="Turns that lead to the head again")
    cells: CellsMoved
    files: FilesMoved
    variables: VariablesBack
    not_rewound: list[str] = Field([], description="What the code that is left behind did outside: that stays done")
    seconds: float = 0.0


ArtifactKind = Literal["result", "intermediate", "debug", "context", "data", "model"]


class Artifact(Frozen):
    """Something worth keeping that a session made or was given."""

    id: ArtifactId
    session_id: SessionId
    turn_id: TurnId | None = None
    message_id: MessageId | None = None
    cell_id: str | None = None
    name: str
    file_type: str
    kind: ArtifactKind
    mime_type: str
    size_bytes: int
    sha256: Sha256
    status: Literal["pending", "ready", "failed"]
    description: str = ""
    tags: dict[str, str] = {}
    parents: list[ArtifactId] = []
    derived_from: str | None = None
    created_by: str
    created_at: datetime
    expires_at: datetime | None = None
    access_count: int = 0
    last_accessed: datetime | None = None
    metadata: dict[str, Any] = {}


Session.model_rebuild()
Turn.model_rebuild()
