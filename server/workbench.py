"""What a turn can do in its session: run and edit cells, look at files and variables. Every act is in the log."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID, uuid5

import asyncpg
import structlog
from cellwright.kernels.client import KernelConnection
from cellwright.kernels.execution import OBEY_WITHIN_S, Execution, Finished, reattach, spool_file
from cellwright.kernels.sessions import SessionKernels
from cellwright.notebooks.document import SKIP_TAG, Cell, Output
from cellwright.notebooks.errors import EditConflict, UnknownCell
from cellwright.notebooks.outputs import Change
from cellwright.notebooks.render import cell_text, images
from cellwright.server import events as e
from cellwright.server import variables
from cellwright.server.agent.profiles import profile
from cellwright.server.agent.risk import reasons
from cellwright.server.artifacts import Artifacts
from cellwright.server.domain import (
    Artifact,
    CellStatus,
    ExecutionId,
    Session,
    ToolCall,
    ToolResult,
    Turn,
    Variable,
    VariablesBack,
    new_id,
)
from cellwright.server.errors import CellwrightError, NotebookMoved, NotFound
from cellwright.server.harvest import Harvest
from cellwright.server.kernel_life import KernelLife, workspace_of
from cellwright.server.live import LiveCell
from cellwright.server.memory import Memory
from cellwright.server.notebook_files import NotebookFiles, content
from cellwright.server.preferences import PreferenceRows, Preferences
from cellwright.server.settings import Settings
from cellwright.server.store.cells import Cells
from cellwright.server.store.hot import Hot
from cellwright.server.store.log import Log
from cellwright.server.store.sessions import SessionRows
from cellwright.server.workspace import File

if TYPE_CHECKING:
    from cellwright.server.named import NamedCheckpoints, TakenBack

log = structlog.get_logger(__name__)
T = TypeVar("T")
MAX_PICTURES = 4
LOOK_AT_SIZE_S = 2.0


class Rejected(Exception):
    """The user did not allow a cell: a signal, not an error. Its text is what the model is told."""


class Stopped(Exception):
    """The user asked this turn to stop: a signal, not an error."""


@dataclass(frozen=True)
class Tools:
    """The services that every workbench uses."""

    settings: Settings
    log: Log
    rows: SessionRows
    cells: Cells
    artifacts: Artifacts
    harvest: Harvest
    hot: Hot
    kernels: SessionKernels
    life: KernelLife
    notebooks: NotebookFiles
    preferences: PreferenceRows
    memory: Memory
    root: Path


@dataclass(frozen=True)
class Ran:
    """A cell that has ended, and what is to be told of it."""

    cell_id: str
    status: CellStatus
    outputs: list[Output]
    execution_count: int | None
    duration_ms: int
    text: str
    artifacts: list[Artifact]


class Workbench:
    """One turn's hands. All that it writes carries the turn's lease generation."""

    def __init__(self, tools: Tools, session: Session, turn: Turn, generation: int, points: NamedCheckpoints) -> None:
        self._t, self.session, self.turn, self.generation = tools, session, turn, generation
        self._points = points
        self.workspace = workspace_of(tools.root, session)
        self.stopping = asyncio.Event()
        self.made: list[str] = []
        self._execution: Execution | None = None
        self._stopped_at: float | None = None
        self._told_unsaved: e.NotebookFailed | None = None
        self._put_off: list[e.Event] = []
        self._compressed = False
        self.waiting = False
        """For the user's word. A server that stops leaves such a turn to the next one."""

        self.waited_s = 0.0
        """How long the turn waited for the user's word: no limit counts that."""

    @property
    def settings(self) -> Settings:
        return self._t.settings

    @property
    def hot(self) -> Hot:
        return self._t.hot

    async def record(self, *events: e.Event, at_revision: int | None = None) -> list[e.Record]:
        """Appends events of this turn, under its lease, behind those that were put off; raises NotebookMoved."""
        stamped = [event.model_copy(update={"turn_id": self.turn.id}) for event in (*self._put_off, *events)]
        records = await self._t.log.append(
            self.session.id, stamped, generation=self.generation, at_revision=at_revision
        )
        self._put_off = []
        return records

    def put_off(self, event: e.Event) -> None:
        """Has an event appended together with the next: one commit less before a cell starts."""
        self._put_off.append(event)

    async def flush(self) -> None:
        """Appends what was put off."""
        if self._put_off:
            await self.record()

    async def events(self) -> list[e.Record]:
        """What the log says of this turn."""
        return await self._t.log.of_turn(self.turn.id)

    async def refresh(self) -> Session:
        self.session = await self._t.rows.get(self.session.id)
        return self.session

    async def artifact_names(self) -> list[str]:
        """Names of all that the session made or was given, oldest first."""
        return await self._t.rows.artifact_names(self.session.id)

    async def conversation(self) -> Any:
        """Turns that lead to this one, each with its messages."""
        return await self._t.rows.conversation(self.session.id, self.settings.session_history_limit)

    async def stop(self) -> None:
        """Makes the turn end: closes the model call, or interrupts the cell.

        Asked again for a cell that ignores the interrupt, ends the kernel: nothing less stops it.
        """
        now = time.monotonic()
        connection = self._t.kernels.get(self.session.id)
        if self._stopped_at is not None and now - self._stopped_at > OBEY_WITHIN_S and connection is not None:
            await connection.manager.shutdown_kernel(now=True)
            return
        self._stopped_at = self._stopped_at or now
        self.stopping.set()
        if self._execution is not None:
            await self._execution.interrupt()

    async def unless_stopped(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`; raises Stopped, having cancelled it, when the turn is to stop."""
        task = asyncio.create_task(work)
        stop = asyncio.create_task(self.stopping.wait())
        try:
            await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise Stopped
            return task.result()
        finally:
            stop.cancel()
            if not task.done():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task

    async def preferences(self) -> Preferences:
        """What holds in this session."""
        return await self._t.preferences.effective(self.session)

    async def compress(self, max_tokens: int) -> bool:
        """Has the model summarise older turns; says whether it did. What goes wrong costs the summary, not the turn.

        Once a turn: what failed would fail again.
        """
        if self._compressed:
            return False
        self._compressed = True
        try:
            await self._t.memory.compress(await self.refresh(), max_tokens, "cellwright", keep_last=2)
        except CellwrightError as error:
            log.info("not_compressed", session_id=self.session.id, why=str(error))
            return False
        await self.refresh()
        return True

    async def remember(self, name: str, fact: str) -> None:
        """Keeps a fact in the session's context."""
        session = await self.refresh()
        await self._t.memory.change(session, {name: fact}, "merge", "agent")

    # -- points -------------------------------------------------------------------------------------------------

    async def checkpoint(self, label: str) -> e.CheckpointCreated:
        """Names the point where the turn is; raises KernelError or StoreUnavailable."""
        await self.kernel()
        made = await self._points.within(await self.refresh(), label)
        created = made[-1]
        assert isinstance(created, e.CheckpointCreated)
        await self.record(*made)
        return created

    async def recover(self) -> VariablesBack:
        """Brings back what the session's kernel held that was lost; raises Conflict or KernelError."""
        async with self._t.life.recovering(await self.refresh(), "safe") as (back, told):
            await self.record(*told)
        await self.refresh()
        return back

    async def take_back(self, label: str) -> TakenBack:
        """Variables and files as they were at that point; raises NotFound or KernelError."""
        here = await self._points.files(await self.refresh())
        if here:
            await self.record(*here)
        taken = await self._points.take_back(await self.refresh(), label)
        await self.record(*taken.events)
        await self.save()
        return taken

    # -- the user's word ----------------------------------------------------------------------------------------

    async def approved(self, call_id: str, message_id: str, source: str, purpose: str) -> tuple[str, str | None]:
        """The source that may run, and who changed it, if somebody did. Waits for the user where it must.

        Raises Rejected, or Stopped. Only a decision in the log ends the waiting; a restart does not.
        """
        mode = self.turn.request.approval or (await self.preferences()).approval or self.settings.approval
        if mode == "auto":
            return source, None
        before = [cell.source for cell in await self.document() if cell.kind == "code"]
        why = await asyncio.to_thread(reasons, source, str(self.workspace.folder), before)
        if not why and mode == "ask-risky":
            return source, None
        state = e.fold(record.event for record in await self.events())
        key = f"{message_id}/{call_id}"
        if key not in state.asked:
            asked = e.ApprovalRequested(
                call_id=call_id,
                message_id=message_id,
                source=source,
                purpose=purpose,
                reasons=why or ["every cell is shown first"],
            )
            await self.record(asked)
        began = time.monotonic()
        decided = state.decided.get(key)
        if decided is None:
            self.waiting = True
            decided = await self.unless_stopped(self._decision(key))
            self.waiting = False
        self.waited_s += time.monotonic() - began
        if decided.decision == "reject":
            raise Rejected(decided.reason or "no reason was given")
        changed = decided.source is not None and decided.source != source
        return decided.source or source, decided.by if changed else None

    async def _decision(self, key: str) -> e.ApprovalDecided:
        first = (await self.events())[0].seq
        async with contextlib.aclosing(self._t.log.follow(self.session.id, first - 1)) as records:
            async for record in records:
                event = record.event
                if isinstance(event, e.ApprovalDecided) and event.turn_id == self.turn.id and event.key == key:
                    return event
        raise Stopped

    # -- the kernel ---------------------------------------------------------------------------------------------

    async def kernel(self) -> KernelConnection:
        """The session's kernel, living when this returns."""
        connection, self.session = await self._t.life.obtain(
            self.session.id, turn_id=self.turn.id, generation=self.generation, first=self.flush
        )
        return connection

    # -- cells --------------------------------------------------------------------------------------------------

    async def run_cell(
        self,
        source: str,
        purpose: str = "",
        *,
        cell_id: str | None = None,
        call_id: str | None = None,
        message_id: str | None = None,
        tool: str = "run_cell",
        metadata: dict[str, Any] | None = None,
    ) -> Ran:
        """Runs a cell, put behind the last one (or run again in its place, for `cell_id`), to its end.

        The intent is committed before the code is sent, and the end only after every output is stored.
        """
        connection = await self.kernel()
        if self.stopping.is_set():
            raise Stopped
        before = await asyncio.to_thread(self.workspace.files)
        execution_id = ExecutionId(new_id())
        after = await self.last_cell()
        ours = {"turn": self.turn.n, "purpose": purpose} if purpose else {}
        ours |= (metadata or {}).get("cellwright", {})
        started = e.CellStarted(
            cell_id=cell_id or new_id(),
            execution_id=execution_id,
            source=source,
            purpose=purpose,
            after=after,
            metadata={**(metadata or {}), **({"cellwright": ours} if ours else {})},
            message_id=message_id,
            call_id=call_id,
            kernel_id=connection.kernel_id,
            kernel_incarnation=self.session.kernel_incarnation,
        )
        await self.record(started)
        agent = self.turn.request.kind == "ask"
        execution = Execution(
            connection,
            execution_id,
            source,
            self.generation,
            self.settings.cell_timeout_s,
            self._t.kernels.folder,
            profile(self.turn.request.agent or self.session.agent).allowed_imports if agent else None,
        )
        self._execution = execution
        watching = asyncio.create_task(self._watch_size(execution, before))
        try:
            if self.stopping.is_set():
                await execution.interrupt()
            return await self._finish(started, execution.run(), connection, before, tool)
        finally:
            self._execution = None
            watching.cancel()

    async def _watch_size(self, execution: Execution, before: list[File]) -> None:
        """Interrupts a cell that makes the workspace grow over its limit; one that makes it smaller may run."""
        limit = self.settings.workspace_limit_bytes
        if limit is None:
            return
        allowed = max(limit, sum(file.size_bytes for file in before))
        while True:
            await asyncio.sleep(LOOK_AT_SIZE_S)
            held = sum(file.size_bytes for file in await asyncio.to_thread(self.workspace.files))
            if held > allowed:
                log.warning("workspace_full", session_id=self.session.id, held_bytes=held)
                execution.why = f"the workspace holds {held:,} bytes, its limit is {limit:,}"
                await execution.interrupt()
                return

    async def recover_cell(self, started: e.CellStarted, tool: str) -> Ran:
        """Ends a cell that a former server sent: from the kernel's spool if the kernel lives, else as far as known."""
        session = await self.refresh()
        connection = None
        same = session.kernel_id is not None and session.kernel_id == started.kernel_id
        if same and session.kernel_incarnation == started.kernel_incarnation:
            connection = await self._t.life.take_back(session)
        before = await self._files_since(started)
        folder = self._t.kernels.folder
        if connection is None or folder is None:
            gone = "the server was restarted, and the kernel is gone"

            async def unknown() -> AsyncIterator[Change | Finished]:
                yield Finished("outcome_unknown", cause=gone)

            spooled = bool(folder and await asyncio.to_thread(spool_file(folder, started.execution_id).exists))
            run = reattach(None, started.execution_id, folder, cause=gone) if folder and spooled else unknown()
            if session.kernel_id is not None:
                await self.record(
                    e.KernelChanged(
                        status="died",
                        kernel_id=session.kernel_id,
                        incarnation=session.kernel_incarnation,
                        cause="it did not outlive the server",
                        variables_lost=True,
                    )
                )
            return await self._finish(started, run, None, before, tool)
        run = reattach(connection, started.execution_id, folder, self.stopping)
        return await self._finish(started, run, connection, before, tool)

    async def _files_since(self, started: e.CellStarted) -> list[File]:
        """The workspace's files that are older than the cell's start: what a cell of a former server did not make."""
        records = await self.events()
        at = next((r.at for r in records if r.event == started), None)
        found = await asyncio.to_thread(self.workspace.files)
        return [file for file in found if at is None or file.modified_ns < at.timestamp() * 1e9]

    async def _finish(
        self,
        started: e.CellStarted,
        run: AsyncIterator[Change | Finished],
        connection: KernelConnection | None,
        before: list[File],
        tool: str,
    ) -> Ran:
        finished = Finished("outcome_unknown")
        async with LiveCell(self.hot, self.session.id, self.turn.id, started.cell_id, started.execution_id) as live:
            async for event in run:
                if isinstance(event, Finished):
                    finished = event
                else:
                    live.add(event)
        outputs = await self._t.artifacts.keep_outputs(live.area.outputs)
        status = CellStatus(finished.status)
        text = cell_text(status.value, outputs)
        changed_by = started.metadata.get("cellwright", {}).get("changed_by")
        if changed_by is not None:
            text = f"[the user changed the code before it ran; it was:\n{started.source}\n]\n{text}"
        if finished.cause and status is not CellStatus.OK:
            text = f"{text} ({finished.cause})"
        completed = e.CellCompleted(
            cell_id=started.cell_id,
            execution_id=started.execution_id,
            status=status,
            outputs=outputs,
            execution_count=finished.execution_count,
            duration_ms=round(finished.duration_s * 1000),
            message_id=started.message_id,
            cause=finished.cause,
            text=text,
        )
        events: list[e.Event] = [completed]
        tags = await self._tagging(started, status, completed)
        if tags is not None:
            events.append(tags)
        now = finished.variables
        if connection is not None and now is None and status in (CellStatus.OK, CellStatus.ERROR):
            now = await variables.asked(connection)
        if connection is not None and now is not None:
            changed = variables.changes(connection, now)
            if changed is not None:
                events.append(changed)
        try:
            await self.record(*events)
        except asyncpg.ForeignKeyViolationError:
            # A deletion of the last other reference took an object between the two steps.
            await self._t.artifacts.keep_outputs(live.area.outputs)
            await self.record(*events)
        await self.hot.settle(self.session.id)
        artifacts = await self._harvest(started, outputs, before)
        await self.save()
        if artifacts:
            names = ", ".join(artifact.name for artifact in artifacts)
            text += f"\n[artifacts: {names}]"
        ran = Ran(
            started.cell_id,
            status,
            outputs,
            completed.execution_count,
            completed.duration_ms,
            text,
            artifacts,
        )
        if started.call_id is not None and started.message_id is not None:
            await self.record(
                e.ToolCompleted(
                    message_id=started.message_id,
                    result=self.result_of(ran, started.call_id, tool),
                )
            )
        return ran

    async def _harvest(self, started: e.CellStarted, outputs: list[Output], before: list[File]) -> list[Artifact]:
        made = await self._t.harvest.of(
            self.session.id, self.turn.id, self.generation, started, outputs, self.workspace, before
        )
        self.made += [artifact.id for artifact in made]
        return made

    async def complete(self, ran: e.CellCompleted, call: ToolCall) -> ToolResult:
        """Does what is left to do for a cell that had ended when a former server died: artifacts, and its result."""
        started = next(r.event for r in await self.events() if _started(r.event, ran.execution_id))
        assert isinstance(started, e.CellStarted)
        await self._harvest(started, list(ran.outputs), await self._files_since(started))
        await self.save()
        return told_of(ran, call)

    def result_of(self, ran: Ran, call_id: str, tool: str) -> ToolResult:
        pictures = [image.sha256 for image in images(ran.outputs) if image.sha256 is not None]
        return ToolResult(
            call_id=call_id,
            name=tool,
            content=f"cell {ran.cell_id[:8]}: {ran.status.value}\n{ran.text}",
            is_error=ran.status is not CellStatus.OK,
            cell_id=ran.cell_id,
            image_sha256=pictures[:MAX_PICTURES],
        )

    async def _tagging(
        self, started: e.CellStarted, status: CellStatus, completed: e.CellCompleted
    ) -> e.CellsEdited | None:
        """A failed attempt is skipped when the notebook is run again; one that was repaired is not."""
        if self.turn.request.kind == "execute":
            return None
        try:
            now = await self._t.cells.cell(self.session.id, started.cell_id)
        except UnknownCell:  # The user deleted it while it ran.
            return None
        cell = replace(now, outputs=tuple(completed.outputs), execution_count=completed.execution_count)
        tagged = cell.untagged(SKIP_TAG) if status is CellStatus.OK else cell.tagged(SKIP_TAG)
        if tagged.metadata == cell.metadata:
            return None
        edit = e.CellEdit(op="replace", cell_id=cell.id, cell=content(tagged))
        return e.CellsEdited(author="cellwright", edits=[edit])

    async def last_cell(self) -> str | None:
        return await self._t.cells.last(self.session.id)

    async def add_markdown(self, source: str, role: str, author: Any = "cellwright", call_id: str = "") -> str:
        """Puts a markdown cell at the end; returns its id."""
        event = await self.markdown(source, role, author, call_id)
        await self.record(event)
        return event.edits[0].cell_id

    async def markdown(self, source: str, role: str, author: Any = "cellwright", call_id: str = "") -> e.CellsEdited:
        """The event that puts a markdown cell at the end."""
        # Named by what it is for: written again after a crash, it takes its own place.
        cell_id = str(uuid5(UUID(self.turn.id), f"{role}:{call_id}"))
        cell = e.CellContent(
            id=cell_id, kind="markdown", source=source, metadata={"cellwright": {"turn": self.turn.n, "role": role}}
        )
        edit = e.CellEdit(op="insert", cell_id=cell_id, cell=cell, after=await self.last_cell())
        return e.CellsEdited(author=author, edits=[edit])

    async def cell(self, name: str) -> Cell:
        """A cell by its id or the first characters of it; raises NotFound."""
        document = await self._t.cells.document(self.session.id)
        found = [cell for cell in document if cell.id.startswith(name)] if name else []
        if len(found) != 1:
            raise NotFound("cell", name)
        return found[0]

    async def replace_source(self, cell: Cell, expected_hash: str, source: str) -> None:
        """Gives a cell other source; raises EditConflict when it is not the one that was read."""
        while True:
            revision = await self._t.cells.revision(self.session.id)
            now = await self._t.cells.cell(self.session.id, cell.id)
            if expected_hash and not now.source_hash.startswith(expected_hash):
                raise EditConflict(cell.id, expected_hash, now.source_hash)
            outputs = () if now.kind == "code" else now.outputs
            changed = replace(now, source=source, outputs=outputs, execution_count=None)
            edit = e.CellEdit(op="replace", cell_id=cell.id, cell=content(changed))
            try:
                # What a user saves between our reading and our writing is not written over.
                await self.record(e.CellsEdited(author="agent", edits=[edit]), at_revision=revision)
                return
            except NotebookMoved:
                continue

    async def document(self) -> Any:
        return await self._t.cells.document(self.session.id)

    async def variables_lost(self) -> str | None:
        """Why variables were lost since the model last spoke; None if they were not."""
        return await self._t.log.variables_lost(self.session.id, self.turn.id)

    async def files(self) -> dict[str, Artifact]:
        """What is known of the workspace's files."""
        return await self._t.artifacts.files(self.session.id)

    async def variable(self, name: str) -> Variable | None:
        """One variable in detail, or None when there is none of that name."""
        return await variables.look_at(await self.kernel(), name)

    async def variables(self) -> list[Variable]:
        connection = self._t.kernels.get(self.session.id)
        return [] if connection is None else [variables.known(told) for told in connection.last_variables]

    async def picture(self, sha256: str) -> bytes:
        return (await self._t.artifacts.fetch_all([sha256]))[sha256]

    async def save(self) -> None:
        """Writes the working copy; a disk that is full costs the copy, not the turn."""
        try:
            await self._t.notebooks.save(await self.refresh(), self.generation)
        except Exception as error:
            if isinstance(error, asyncio.CancelledError):
                raise
            log.warning("notebook_not_saved", session_id=self.session.id, error=str(error))
            event = e.NotebookFailed(path=self.session.notebook_path, reason=_why(error))
            if event != self._told_unsaved:
                self._told_unsaved = event
                await self.record(event)


def _why(error: Exception) -> str:
    """An error in a user's words: a contents manager's says more in its log message than in its text."""
    return str(getattr(error, "log_message", None) or error)[:500]


def _started(event: e.Event, execution_id: str) -> bool:
    return isinstance(event, e.CellStarted) and event.execution_id == execution_id


def told_of(ran: e.CellCompleted, call: ToolCall) -> ToolResult:
    """What the model is told of a cell that ended, from the log alone."""
    return ToolResult(
        call_id=call.id,
        name=call.name,
        content=f"cell {ran.cell_id[:8]}: {ran.status.value}\n{ran.text}",
        is_error=ran.status is not CellStatus.OK,
        cell_id=ran.cell_id,
    )
