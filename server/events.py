"""The durable events of a session's log, and the fold of a turn's events into what is left to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal

from cellwright.server.domain import (
    Artifact,
    CellStatus,
    ExecutionId,
    Frozen,
    KeptFile,
    LeftOut,
    Message,
    Moving,
    RanAgain,
    Rewound,
    SessionId,
    Skipped,
    Summary,
    ToolCall,
    ToolResult,
    TurnId,
    TurnRequest,
    Usage,
    Variable,
)
from pydantic import ConfigDict, Field, TypeAdapter


class _Event(Frozen):
    """A fact about a session; written once, never changed."""

    turn_id: TurnId | None = None


class CellContent(Frozen):
    """A notebook cell as the log keeps it."""

    id: str
    kind: Literal["code", "markdown", "raw"]
    source: str
    outputs: list[dict[str, Any]] = []
    execution_count: int | None = None
    metadata: dict[str, Any] = {}


class SessionCreated(_Event):
    type: Literal["session.created"] = "session.created"
    title: str
    agent: str
    workspace: str
    notebook_path: str


class SessionChanged(_Event):
    """Named fields were changed, by whom."""

    type: Literal["session.changed"] = "session.changed"
    changes: dict[str, Any]
    by: str


class TitleChanged(_Event):
    type: Literal["title.changed"] = "title.changed"
    title: str
    by: Literal["default", "model", "user"]


class TurnQueued(_Event):
    type: Literal["turn.queued"] = "turn.queued"
    turn_id: TurnId
    n: int
    query: str
    request: TurnRequest
    message: Message


class TurnStarted(_Event):
    type: Literal["turn.started"] = "turn.started"
    turn_id: TurnId
    n: int
    query: str
    agent: str
    model: str
    max_iterations: int


class MessageCompleted(_Event):
    type: Literal["message.completed"] = "message.completed"
    message: Message
    usage: Usage = Usage()


class MessageEdited(_Event):
    """A message has other words; the event keeps the former ones."""

    type: Literal["message.edited"] = "message.edited"
    message_id: str
    content: str
    former: str
    by: str


class MessageDeleted(_Event):
    type: Literal["message.deleted"] = "message.deleted"
    message_id: str
    by: str


class ApprovalRequested(_Event):
    """A cell waits for the user's word; nothing but that ends the waiting."""

    type: Literal["approval.requested"] = "approval.requested"
    call_id: str
    message_id: str
    source: str
    purpose: str = ""
    reasons: list[str]

    @property
    def key(self) -> str:
        return f"{self.message_id}/{self.call_id}"


class ApprovalDecided(_Event):
    type: Literal["approval.decided"] = "approval.decided"
    call_id: str
    message_id: str
    decision: Literal["approve", "reject"]
    source: str | None = Field(None, description="What is to run instead of what was proposed")
    reason: str = ""
    by: str

    @property
    def key(self) -> str:
        """The call that it is about: models use the same ids again."""
        return f"{self.message_id}/{self.call_id}"


class ContextChanged(_Event):
    """What the session keeps in mind, or the summary of its older turns, is another now."""

    type: Literal["context.changed"] = "context.changed"
    context: dict[str, Any] | None = None
    summary: Summary | None = None
    forget_summary: bool = Field(False, description="What it was made of has changed")
    by: str


class Used(_Event):
    """A model call beside the conversation: for a title, or a summary."""

    type: Literal["usage"] = "usage"
    what: Literal["title", "summary"]
    model: str
    usage: Usage


class SessionShared(_Event):
    """A share was made, or revoked."""

    type: Literal["session.shared"] = "session.shared"
    share_id: str
    role: Literal["read", "write"]
    user_name: str | None = None
    revoked: bool = False
    by: str


class AttemptDiscarded(_Event):
    """A model attempt failed half-way: its deltas must be dropped."""

    type: Literal["attempt.discarded"] = "attempt.discarded"
    message_id: str
    attempt: int
    attempts: int
    reason: str
    retry_in_s: float | None = None


class ToolCompleted(_Event):
    """A tool call has its result; for `run_cell` it stands beside the cell's own event."""

    type: Literal["tool.completed"] = "tool.completed"
    message_id: str
    result: ToolResult


class CellStarted(_Event):
    """A cell is about to be sent to the kernel."""

    type: Literal["cell.started"] = "cell.started"
    cell_id: str
    execution_id: ExecutionId
    source: str
    purpose: str = ""
    after: str | None = Field(None, description="The cell it stands behind; None puts it first")
    metadata: dict[str, Any] = {}
    message_id: str | None = None
    call_id: str | None = None
    kernel_id: str | None = None
    kernel_incarnation: int = 0


class CellCompleted(_Event):
    """A cell has ended, and every output is stored."""

    type: Literal["cell.completed"] = "cell.completed"
    cell_id: str
    execution_id: ExecutionId
    status: CellStatus
    outputs: list[dict[str, Any]]
    execution_count: int | None
    duration_ms: int
    message_id: str | None = None
    cause: str | None = None
    text: str = Field("", description="What the model is told")


class CellEdit(Frozen):
    """One change of the notebook; `cell` is None for a deletion and a mere move."""

    op: Literal["insert", "replace", "delete", "move"]
    cell_id: str
    cell: CellContent | None = None
    after: str | None = None


class CellsEdited(_Event):
    type: Literal["cells.edited"] = "cells.edited"
    author: Literal["user", "agent", "cellwright"]
    edits: list[CellEdit]


class IterationCompleted(_Event):
    type: Literal["iteration.completed"] = "iteration.completed"
    iteration: int
    max_iterations: int


class FileUploaded(_Event):
    type: Literal["file.uploaded"] = "file.uploaded"
    artifact: Artifact


class ArtifactReady(_Event):
    type: Literal["artifact.ready"] = "artifact.ready"
    artifact: Artifact


class ArtifactChanged(_Event):
    """An artifact's own fields (tags, kind, description, expiry, parents) are others now."""

    type: Literal["artifact.changed"] = "artifact.changed"
    artifact_id: str
    changes: dict[str, Any]
    by: str


class ArtifactDeleted(_Event):
    type: Literal["artifact.deleted"] = "artifact.deleted"
    artifact_id: str
    name: str
    by: str


class ArtifactFailed(_Event):
    type: Literal["artifact.failed"] = "artifact.failed"
    name: str
    reason: str


class VariablesChanged(_Event):
    type: Literal["variables.changed"] = "variables.changed"
    added: list[Variable]
    changed: list[Variable]
    removed: list[str]


class KernelChanged(_Event):
    type: Literal["kernel.changed"] = "kernel.changed"
    status: Literal["starting", "idle", "busy", "restarted", "died", "hibernated", "restored"]
    kernel_id: str | None
    incarnation: int
    cause: str | None = None
    variables_lost: bool = False
    back_to: int | None = Field(None, description="The checkpoint's event to which an agent went back within its turn")
    recovered: bool = Field(False, description="Whether what a kernel that was lost held was brought back")
    ran_again: list[RanAgain] = Field([], description="Cells that ran again for that, and how they compare")


class CheckpointCreated(_Event):
    """The kernel's variables were stored. `manifest` names the objects; see `kernels/inside/checkpoint.py`."""

    type: Literal["checkpoint.created"] = "checkpoint.created"
    checkpoint_id: str
    of_turn: TurnId | None = Field(None, description="The turn behind which it stands: that has ended by then")
    kind: Literal["hibernated", "named", "turn", "begin"]
    label: str | None = None
    incarnation: int
    kept: list[str]
    skipped: list[Skipped]
    size_bytes: int
    new_bytes: int
    seconds: float
    manifest: dict[str, Any]


class WorkspaceSaved(_Event):
    """The workspace's files as they are, each stored by its content. `version` names all of it."""

    type: Literal["workspace.saved"] = "workspace.saved"
    version: str
    files: list[KeptFile]
    left_out: list[LeftOut] = []


class HeadMoving(_Event):
    """Files and kernel are about to be changed, to those of another point; `head.moved` or `head.stayed` follows."""

    type: Literal["head.moving"] = "head.moving"
    why: Literal["undo", "redo", "restore"]
    by: str
    moving: Moving


class HeadStayed(_Event):
    """A move of the head that had begun did not come to its end; all is as it was before, but what is named."""

    type: Literal["head.stayed"] = "head.stayed"
    cause: str
    left: list[LeftOut] = []


class HeadMoved(_Event):
    """The session's head is another turn: conversation, notebook, files and variables are those of its end.

    Nothing is taken out of the log: what does not lead to the head stays as a limb. `line` is the way to the turn.
    """

    type: Literal["head.moved"] = "head.moved"
    why: Literal["undo", "redo", "restore"]
    by: str
    to_turn_id: TurnId | None
    from_turn_id: TurnId | None
    line: list[tuple[int, int]]
    redo: list[TurnId]
    context: dict[str, Any]
    summary: Summary | None
    workspace_version: str | None
    rewound: Rewound


class SessionBranched(_Event):
    """A branch was made: of this session, or this session of another."""

    type: Literal["session.branched"] = "session.branched"
    direction: Literal["to", "from"]
    session_id: SessionId = Field(description="The other one")
    turn: int = Field(description="The turn of the parent's whose end the branch begins with; 0: before the first")
    by: str


class NotebookSaved(_Event):
    type: Literal["notebook.saved"] = "notebook.saved"
    path: str
    revision: int


class NotebookFailed(_Event):
    """The working copy cannot be written, or holds what is no notebook; the log has all of it."""

    type: Literal["notebook.failed"] = "notebook.failed"
    path: str
    reason: str


class _TurnEnded(_Event):
    turn_id: TurnId
    answer: str | None = None
    artifacts: list[str] = []
    usage: Usage = Usage()
    cause: str | None = None


class TurnCompleted(_TurnEnded):
    type: Literal["turn.completed"] = "turn.completed"


class TurnFailed(_TurnEnded):
    type: Literal["turn.failed"] = "turn.failed"


class TurnStopped(_TurnEnded):
    type: Literal["turn.stopped"] = "turn.stopped"


class TurnInterrupted(_TurnEnded):
    type: Literal["turn.interrupted"] = "turn.interrupted"


TurnEnded = TurnCompleted | TurnFailed | TurnStopped | TurnInterrupted
Event = Annotated[
    SessionCreated
    | SessionChanged
    | TitleChanged
    | TurnQueued
    | TurnStarted
    | MessageCompleted
    | MessageEdited
    | MessageDeleted
    | ApprovalRequested
    | ApprovalDecided
    | ContextChanged
    | SessionShared
    | Used
    | AttemptDiscarded
    | ToolCompleted
    | CellStarted
    | CellCompleted
    | CellsEdited
    | IterationCompleted
    | FileUploaded
    | ArtifactReady
    | ArtifactChanged
    | ArtifactDeleted
    | ArtifactFailed
    | VariablesChanged
    | KernelChanged
    | CheckpointCreated
    | WorkspaceSaved
    | HeadMoving
    | HeadStayed
    | HeadMoved
    | SessionBranched
    | NotebookSaved
    | NotebookFailed
    | TurnCompleted
    | TurnFailed
    | TurnStopped
    | TurnInterrupted,
    Field(discriminator="type"),
]
EVENT: TypeAdapter[Event] = TypeAdapter(Event, config=ConfigDict(defer_build=True))


class Record(Frozen):
    """An event as it stands in the log: `seq` counts a session's events from 1, without gaps."""

    session_id: SessionId
    seq: int
    at: datetime
    event: Event


@dataclass
class TurnState:
    """What a turn's events say was done: enough to go on after a crash."""

    started: bool = False
    ended: bool = False
    iterations: int = 0
    usage: Usage = field(default_factory=Usage)
    message: Message | None = None
    results: dict[str, ToolResult] = field(default_factory=dict)
    running: CellStarted | None = None
    ran: dict[str, CellCompleted] = field(default_factory=dict)
    cells: list[CellCompleted] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)
    artifacts: list[str] = field(default_factory=list)
    asked: dict[str, ApprovalRequested] = field(default_factory=dict)
    decided: dict[str, ApprovalDecided] = field(default_factory=dict)
    answered: bool = False

    @property
    def open_calls(self) -> list[ToolCall]:
        """Calls of the last message that have no result yet, in order."""
        calls = self.message.tool_calls if self.message is not None else []
        return [call for call in calls if call.id not in self.results]


def fold(events: Iterable[Event]) -> TurnState:
    """The state of one turn after its `events`, in order."""
    state = TurnState()
    call_of: dict[str, str] = {}
    for event in events:
        match event:
            case TurnStarted():
                state.started = True
            case MessageCompleted(message=message) if message.role == "assistant":
                state.message, state.results, state.ran = message, {}, {}
                state.usage += event.usage
            case ToolCompleted(result=result):
                state.results[result.call_id] = result
            case CellStarted():
                state.running = event
                state.sources[event.execution_id] = event.source
                if event.call_id is not None:
                    call_of[event.execution_id] = event.call_id
            case CellCompleted():
                state.running = None
                state.cells.append(event)
                if event.execution_id in call_of:
                    state.ran[call_of[event.execution_id]] = event
            case ApprovalRequested():
                state.asked[event.key] = event
            case ApprovalDecided():
                state.decided.setdefault(event.key, event)
            case IterationCompleted(iteration=iteration):
                state.iterations = iteration
                state.message = None
            case CellsEdited(edits=edits):
                put = [edit.cell for edit in edits if edit.cell is not None and edit.op == "insert"]
                roles = [cell.metadata.get("cellwright", {}).get("role") for cell in put]
                state.answered = state.answered or "answer" in roles
            case ArtifactReady(artifact=artifact):
                state.artifacts.append(artifact.id)
            case TurnCompleted() | TurnFailed() | TurnStopped() | TurnInterrupted():
                state.ended = True
            case _:
                pass
    return state
