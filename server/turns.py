"""Turns: accepted durably, claimed by the process that owns the session, run to exactly one end, whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import keyword
import math
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

import structlog
from cellwright.kernels.errors import KernelError
from cellwright.server import events as e
from cellwright.server.agent.context import assembled
from cellwright.server.agent.loop import AgentLoop, Limits, Outcome
from cellwright.server.agent.profiles import profile
from cellwright.server.artifacts import slug
from cellwright.server.domain import (
    Artifact,
    CellStatus,
    Frozen,
    Message,
    MessageId,
    Session,
    SessionId,
    ToolCall,
    Turn,
    TurnId,
    TurnRequest,
    TurnStatus,
    Usage,
    new_id,
)
from cellwright.server.errors import (
    Busy,
    CellwrightError,
    Conflict,
    DiskFull,
    Invalid,
    NotFound,
    StaleLease,
    StoreUnavailable,
)
from cellwright.server.models.catalog import Models
from cellwright.server.named import NamedCheckpoints
from cellwright.server.rewind import BROKEN_OFF, Rewind
from cellwright.server.store import postgres, queries
from cellwright.server.store.leases import Leases
from cellwright.server.store.log import crash_point
from cellwright.server.workbench import Stopped, Tools, Workbench, told_of
from pydantic import Field

SQL = queries.load("sessions")
SWEEP_S = 5.0
STORE_AWAY_S = 1.0

log = structlog.get_logger(__name__)


class RenderedMessage(Frozen):
    """One message as the model would be sent it."""

    role: str
    content: str
    tool_calls: list[ToolCall] = []
    pictures: int = 0


class Rendered(Frozen):
    """What a model would be sent, and what that costs."""

    model: str
    messages: list[RenderedMessage]
    tools: list[str]
    tokens: dict[str, int] = Field(description="situation, earlier_turns, conversation, tools, total")
    budget: int
    turns_in_full: int
    turns_in_short: int


class Turns:
    """Accepts turns for any session, and runs those of the sessions whose lease this process holds."""

    def __init__(
        self,
        tools: Tools,
        leases: Leases,
        models: Models,
        rewind: Rewind,
        points: NamedCheckpoints,
        pool: postgres.Pool,
    ) -> None:
        self._t, self._leases, self._models, self._pool = tools, leases, models, pool
        self._rewind, self._points = rewind, points
        self._held: dict[SessionId, int] = {}
        self._renewed: dict[SessionId, float] = {}
        self._workers: dict[SessionId, asyncio.Task[None]] = {}
        self._again: set[SessionId] = set()
        self._running: dict[TurnId, Workbench] = {}
        self._closing = False
        self._ended: list[Callable[[Session, Turn, e.Event], None]] = []

    def when_ended(self, told: Callable[[Session, Turn, e.Event], None]) -> None:
        """Calls `told(session, turn, end)` for every turn that this process ended."""
        self._ended.append(told)

    @property
    def busy(self) -> bool:
        """Whether this process runs a turn."""
        return bool(self._running)

    # -- accepting ----------------------------------------------------------------------------------------------

    async def ask(self, session: Session, query: str, request: TurnRequest, *, reject_when_busy: bool = False) -> Turn:
        """Commits a turn to be done; raises Invalid, NotFound (a file that is not there) or Busy."""
        if not query.strip():
            raise Invalid("The query is empty: say what the agent is to do.")
        await asyncio.to_thread(self._see_room)
        await self._t.life.see_room(session)
        profile(request.agent or session.agent)
        if request.kind == "ask":
            await self._models.check(request.model or session.model)
        if request.file_ids:
            await self._t.artifacts.some(session.id, request.file_ids)
        turn_id = TurnId(new_id())
        async with self._t.log.transaction(session.id) as connection:
            row = await connection.fetchrow(SQL.lock_session, session.id)
            if row is None:
                raise NotFound("session", session.id)
            if reject_when_busy and await connection.fetchrow(SQL.open_turns, session.id) is not None:
                raise Busy("The session is busy with another turn.")
            n = row["turn_count"] + 1
            message = Message(
                id=MessageId(new_id()),
                session_id=session.id,
                turn_id=turn_id,
                role="user",
                content=query if request.kind == "ask" else f"I ran this cell:\n\n```python\n{query}\n```",
                code=query if request.kind == "execute" else None,
                created_at=datetime.now(UTC),
                metadata={
                    **({"file_ids": list(request.file_ids)} if request.file_ids else {}),
                    **({"images": [image.model_dump() for image in request.images]} if request.images else {}),
                },
            )
            event = e.TurnQueued(turn_id=turn_id, n=n, query=query, request=request, message=message)
            await self._t.log.append(session.id, [event], within=connection)
        crash_point("after:turn.queued")
        self.wake(session.id)
        return await self._t.rows.turn(turn_id)

    def _see_room(self) -> None:
        """Raises DiskFull before any work that could not be kept."""
        wanted = self._t.settings.min_free_bytes
        for folder in (self._t.root, self._t.settings.data_dir):
            with contextlib.suppress(OSError):
                free = shutil.disk_usage(folder).free
                if free < wanted:
                    raise DiskFull(
                        f"The disk of {folder} has {free:,} bytes left, and {wanted:,} must be free to begin."
                    )

    async def decide(
        self, turn: Turn, call_id: str, decision: Literal["approve", "reject"], source: str | None, reason: str, by: str
    ) -> e.ApprovalDecided:
        """Answers a cell that waits for the user's word; raises NotFound, or Conflict when it has its answer."""
        async with self._t.log.transaction(turn.session_id) as connection:
            await connection.fetchrow(SQL.lock_session, turn.session_id)
            state = e.fold(record.event for record in await self._t.log.of_turn(turn.id, connection))
            asked = [event for event in state.asked.values() if event.call_id == call_id]
            if not asked:
                raise NotFound("request for approval", call_id)
            if asked[-1].key in state.decided or state.ended:
                raise Conflict("This was decided already." if not state.ended else "The turn has ended.")
            decided = e.ApprovalDecided(
                turn_id=turn.id,
                call_id=call_id,
                message_id=asked[-1].message_id,
                decision=decision,
                source=source,
                reason=reason,
                by=by,
            )
            await self._t.log.append(turn.session_id, [decided], within=connection)
        return decided

    async def stop(self, turn: Turn) -> Turn:
        """Asks a turn to stop, wherever it runs; raises Conflict when it has ended."""
        if turn.status.ended:
            raise Conflict(f"Turn {turn.n} has ended: {turn.status.value}.")
        await self._t.rows.request_stop(turn.id)
        bench = self._running.get(turn.id)
        if bench is not None:
            await bench.stop()
        else:
            async with postgres.acquired(self._pool) as connection:
                await connection.execute("SELECT pg_notify('cellwright_events', $1)", f"{turn.session_id}:0:stop")
        return turn

    async def wait(self, turn: Turn) -> Turn:
        """The turn when it has ended."""
        if not turn.status.ended:
            first = (await self._t.log.of_turn(turn.id))[0].seq
            async with contextlib.aclosing(self._t.log.follow(turn.session_id, first)) as records:
                async for record in records:
                    if record.event.turn_id == turn.id and isinstance(record.event, e.TurnEnded):
                        break
        return await self._t.rows.turn(turn.id)

    async def rendered(self, session: Session) -> Rendered:
        """What the model would be sent if the session were asked now, without the question; raises NoModel."""
        model = await self._models.get(session.model)
        turn = Turn(
            id=TurnId(new_id()),
            session_id=session.id,
            n=session.turn_count + 1,
            parent_id=session.head_turn_id,
            status=TurnStatus.QUEUED,
            query="",
            request=TurnRequest(),
            answer=None,
            cause=None,
            usage=Usage(),
            revision=None,
            created_at=datetime.now(UTC),
            started_at=None,
            ended_at=None,
        )
        found = await assembled(Workbench(self._t, session, turn, 0, self._points), profile(session.agent), model)
        return Rendered(
            model=model.name,
            messages=[
                RenderedMessage(role=m.role, content=m.content, tool_calls=list(m.tool_calls), pictures=len(m.pictures))
                for m in found.request.messages
            ],
            tools=[tool.name for tool in found.request.tools],
            tokens=found.tokens,
            budget=self._t.settings.context_tokens,
            turns_in_full=found.turns_in_full,
            turns_in_short=found.turns_in_short,
        )

    # -- owning -------------------------------------------------------------------------------------------------

    def heard(self, session_id: SessionId, event_type: str) -> None:
        """What any process appended: queued turns wake their owner, requests to stop reach it."""
        if event_type == "turn.queued":
            self.wake(session_id)
        elif event_type == "stop":
            for bench in list(self._running.values()):
                if bench.session.id == session_id:
                    asyncio.get_running_loop().create_task(self._stop_if_asked(bench))

    async def _stop_if_asked(self, bench: Workbench) -> None:
        with contextlib.suppress(StoreUnavailable):
            if await self._t.rows.stop_requested(bench.turn.id):
                await bench.stop()

    def wake(self, session_id: SessionId) -> None:
        """Sees to the session's turns soon, if this process owns it or may."""
        if self._closing:
            return
        self._again.add(session_id)
        worker = self._workers.get(session_id)
        if worker is None or worker.done():
            self._workers[session_id] = asyncio.create_task(self._work(session_id), name=f"session {session_id}")

    async def run(self) -> None:
        """Keeps this process's leases, and takes sessions whose owner is gone, until cancelled."""
        beat = max(0.2, min(self._leases.lease_s / 3, SWEEP_S))
        while True:
            try:
                await self._renew()
                for session_id in await self._leases.to_take():
                    self.wake(session_id)
            except StoreUnavailable as error:
                log.warning("leases_not_renewed", error=error.detail)
            except Exception:
                log.exception("leases_not_renewed")
            await asyncio.sleep(beat)

    async def _renew(self) -> None:
        if not self._held:
            return
        asked, asked_at = dict(self._held), time.monotonic()
        kept = await self._leases.renew(list(asked))
        for session_id, generation in asked.items():
            if kept.get(session_id) == generation:
                self._renewed[session_id] = asked_at
                continue
            if self._held.get(session_id) != generation:
                continue  # Claimed anew while we asked.
            del self._held[session_id]
            worker = self._workers.get(session_id)
            if worker is not None:
                log.warning("lease_lost", session_id=session_id)
                worker.cancel()

    async def _work(self, session_id: SessionId) -> None:
        structlog.contextvars.bind_contextvars(session_id=session_id)
        while session_id in self._again and not self._closing:
            self._again.discard(session_id)
            try:
                generation = await self._claim(session_id)
                if generation is None:
                    return
                async with self._rewind.alone(session_id):
                    await self._rewind.put_right(session_id, generation, BROKEN_OFF)
                for turn in await self._t.rows.open_turns(session_id):
                    async with self._rewind.alone(session_id):
                        await self._run(turn, generation)
            except (StaleLease, NotFound):
                self._held.pop(session_id, None)
            except StoreUnavailable as error:
                log.warning("store_unavailable", error=error.detail)
                await asyncio.sleep(STORE_AWAY_S)
                self._again.add(session_id)
            except Exception:
                log.exception("session_worker_failed")

    def still(self, session_id: SessionId) -> asyncio.Lock:
        """Held by who brings a file to a session, so that none comes in the middle of a rewind."""
        return self._rewind.still(session_id)

    async def owned(self, session_id: SessionId) -> int:
        """The generation under which this process may write for the session; raises Conflict where another has it."""
        generation = await self._claim(session_id)
        if generation is None:
            raise Conflict("Another server works for this session: ask that one, or try again in a while.")
        return generation

    async def _claim(self, session_id: SessionId) -> int | None:
        """The generation under which to write; None while another process holds the session."""
        renewed = self._renewed.get(session_id, -math.inf)
        held = self._held.get(session_id)
        # What was renewed a moment ago is ours for longer than a moment; if it is not, the fence says so.
        if held is not None and time.monotonic() - renewed < self._leases.lease_s / 2:
            return held
        asked_at = time.monotonic()
        generation = await self._leases.claim(session_id)
        if generation is not None:
            self._held[session_id], self._renewed[session_id] = generation, asked_at
        return generation

    # -- running ------------------------------------------------------------------------------------------------

    async def _run(self, turn: Turn, generation: int) -> None:
        session = await self._t.rows.get(turn.session_id)
        bench = Workbench(self._t, session, turn, generation, self._points)
        self._running[turn.id] = bench
        structlog.contextvars.bind_contextvars(turn_id=turn.id)
        usage = Usage()
        try:
            fresh = turn.status is TurnStatus.QUEUED
            state = e.TurnState() if fresh else e.fold(record.event for record in await bench.events())
            usage = state.usage
            bench.made = list(state.artifacts)
            if await self._t.rows.stop_requested(turn.id):
                bench.stopping.set()
            end: e.Event = await self._attempt(bench, state)
        except asyncio.CancelledError:
            if self._closing and not bench.waiting:
                end = e.TurnInterrupted(turn_id=turn.id, cause="The server was stopped.", usage=usage)
                with contextlib.suppress(Exception):
                    async with asyncio.timeout(5):
                        await self._settle(bench)
                        await bench.record(end)
            raise
        except Exception as error:
            if _ends_the_worker(error):
                raise
            log.exception("turn_failed_unexpectedly")
            cause = f"Something went wrong in the server ({type(error).__name__}). The log has the details."
            end = e.TurnFailed(turn_id=turn.id, cause=cause, usage=usage)
        finally:
            self._running.pop(turn.id, None)
            structlog.contextvars.unbind_contextvars("turn_id")
        await self._settle(bench)
        await bench.record(*await self._rewind.points.files(await bench.refresh()), end)
        log.info("turn_ended", turn_id=turn.id, how=end.type)
        for told in self._ended:
            told(session, turn, end)
        await self._rewind.points.variables(session.id, turn.id, generation)

    async def _settle(self, bench: Workbench) -> None:
        """A cell that was sent and never ended (its turn was cancelled) is accounted for before the turn ends."""
        state = e.fold(record.event for record in await bench.events())
        if state.running is not None:
            await bench.record(
                e.CellCompleted(
                    cell_id=state.running.cell_id,
                    execution_id=state.running.execution_id,
                    status=CellStatus.OUTCOME_UNKNOWN,
                    outputs=[],
                    execution_count=None,
                    duration_ms=0,
                    message_id=state.running.message_id,
                    cause="the turn ended while it ran",
                    text="Whether this cell finished is not known.",
                )
            )
            state = e.fold(record.event for record in await bench.events())
        if state.message is not None:
            # The model must not be told that a cell was not run when it was.
            for call in state.open_calls:
                if (ran := state.ran.get(call.id)) is not None:
                    await bench.record(e.ToolCompleted(message_id=state.message.id, result=told_of(ran, call)))
        await bench.hot.settle(bench.session.id)

    async def _attempt(self, bench: Workbench, state: e.TurnState) -> e.Event:
        """Does the turn, from wherever it stands; returns its end."""
        turn = bench.turn
        loop: AgentLoop | None = None
        ending: dict[str, Any] = {}
        try:
            if bench.stopping.is_set() and not state.started:
                raise Stopped()
            if not state.started:
                await self._begin(bench)
            if state.running is not None:
                call = next((c for c in state.open_calls if c.id == state.running.call_id), None)
                await bench.recover_cell(state.running, call.name if call is not None else "run_cell")
                state = e.fold(record.event for record in await bench.events())
            if turn.request.file_ids and state.message is None and not state.sources:
                await self._load_files(bench)
                state = e.fold(record.event for record in await bench.events())
            if turn.request.kind == "execute":
                outcome = await self._execute(bench, state)
            else:
                loop = await self._loop(bench, state)
                outcome = await loop.run()
            if outcome.answer and turn.request.kind == "ask" and not state.answered:
                await bench.add_markdown(outcome.answer, "answer")
            await bench.save()
            ending = {"answer": outcome.answer, "artifacts": outcome.artifacts, "usage": outcome.usage}
            return e.TurnCompleted(turn_id=turn.id, **ending)
        except Stopped:
            kind: type[e.TurnStopped | e.TurnFailed] = e.TurnStopped
            cause = "Stopped."
        except CellwrightError as error:
            if _ends_the_worker(error):
                raise
            kind, cause = e.TurnFailed, error.detail
        except KernelError as error:
            kind, cause = e.TurnFailed, str(error)
        usage = loop.usage if loop is not None else state.usage
        await bench.save()
        return kind(turn_id=turn.id, cause=cause, artifacts=bench.made, usage=usage)

    async def _begin(self, bench: Workbench) -> None:
        """Takes in what the user did to the notebook, then starts the turn with its prompt as a cell."""
        turn, session = bench.turn, bench.session
        agent = profile(turn.request.agent or session.agent)
        await self._t.notebooks.pull(session, bench.generation)
        given = await self._rewind.points.files(session)
        if given:
            await self._t.log.append(session.id, given, generation=bench.generation)
        await self._rewind.points.own_variables(session, bench.generation)
        model = turn.request.model or session.model or self._models.default() or ""
        iterations = self._iterations(bench)
        started = e.TurnStarted(
            turn_id=turn.id,
            n=turn.n,
            query=turn.query,
            agent=agent.name,
            model=model if turn.request.kind == "ask" else "",
            max_iterations=iterations,
        )
        if turn.request.kind == "ask":
            quoted = "\n".join(f"> {line}".rstrip() for line in turn.query.splitlines())
            await bench.record(started, await bench.markdown(quoted, "prompt"))
        else:
            bench.put_off(started)

    async def _load_files(self, bench: Workbench) -> None:
        """Loads the tables among the query's files, in a cell that everyone sees."""
        artifacts = await self._t.artifacts.some(bench.session.id, bench.turn.request.file_ids)
        lines = [line for artifact in artifacts if (line := loading(artifact)) is not None]
        if lines:
            await bench.run_cell("\n".join(["import pandas as pd", "", *lines]), "Load the files")

    def _iterations(self, bench: Workbench) -> int:
        agent = profile(bench.turn.request.agent or bench.session.agent)
        most = agent.max_iterations or bench.settings.max_iterations
        return min(bench.turn.request.max_iterations or most, bench.settings.max_iterations)

    async def _loop(self, bench: Workbench, state: e.TurnState) -> AgentLoop:
        turn, session, settings = bench.turn, bench.session, bench.settings
        limits = Limits(self._iterations(bench), settings.max_turn_tokens, settings.max_turn_cost, settings.max_turn_s)
        model = await self._models.get(turn.request.model or session.model)
        return AgentLoop(bench, model, profile(turn.request.agent or session.agent), limits, state)

    async def _execute(self, bench: Workbench, state: e.TurnState) -> Outcome:
        """A turn without a model: one cell of the user's."""
        if state.cells:
            return Outcome("", Usage(), bench.made)
        ran = await bench.run_cell(bench.turn.query)
        if ran.status is CellStatus.INTERRUPTED and bench.stopping.is_set():
            raise Stopped()
        return Outcome("", Usage(), bench.made)

    # -- ending -------------------------------------------------------------------------------------------------

    async def forget(self, session_id: SessionId) -> None:
        """Ends this process's work for a session that is being deleted."""
        self._again.discard(session_id)
        worker = self._workers.pop(session_id, None)
        if worker is not None:
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)
        async with self._rewind.alone(session_id):
            self._held.pop(session_id, None)

    async def close(self) -> None:
        """Interrupts what runs, says so in the log, and gives all leases up."""
        self._closing = True
        workers = [worker for worker in self._workers.values() if not worker.done()]
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        for session_id in list(self._held):
            with contextlib.suppress(StoreUnavailable):
                await self._leases.release(session_id)
        self._held.clear()


def _ends_the_worker(error: BaseException) -> bool:
    """Whether an error says that this process can write nothing more for the session now, not even its end."""
    gone = isinstance(error, NotFound) and error.kind == "session"
    return gone or isinstance(error, (StaleLease, StoreUnavailable))


READERS = {
    "csv": "pd.read_csv({name!r})",
    "tsv": "pd.read_csv({name!r}, sep='\\t')",
    "xlsx": "pd.read_excel({name!r})",
    "xls": "pd.read_excel({name!r})",
    "json": "pd.read_json({name!r})",
    "jsonl": "pd.read_json({name!r}, lines=True)",
    "ndjson": "pd.read_json({name!r}, lines=True)",
    "parquet": "pd.read_parquet({name!r})",
}


def loading(artifact: Artifact) -> str | None:
    """The line that loads a table under its file's name; None for other files and those that do not parse."""
    reader = READERS.get(artifact.file_type)
    if reader is None or "problem" in artifact.metadata:
        return None
    variable = slug(artifact.name.rsplit(".", 1)[0]).replace("-", "_")
    if not variable.isidentifier() or keyword.iskeyword(variable) or variable == "pd":
        variable = f"data_{variable}"
    return f"{variable} = {reader.format(name=artifact.name)}"
