"""The life of a session's kernel: started on use, adopted after a crash, hibernated when idle, woken by use."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import structlog
from cellwright.kernels import users
from cellwright.kernels.client import KernelConnection
from cellwright.kernels.copies import SleepingCopy
from cellwright.kernels.errors import KernelError, KernelUnreachable
from cellwright.kernels.sessions import SessionKernels
from cellwright.server import events as e
from cellwright.server import variables
from cellwright.server.checkpoints import Checkpoints, Restored
from cellwright.server.domain import Session, SessionId, Skipped, TurnId, VariablesBack, new_id
from cellwright.server.errors import CellwrightError, Conflict, NotFound, StoreUnavailable, TooManyKernels
from cellwright.server.revival import Again, Plan, Revival
from cellwright.server.settings import Settings
from cellwright.server.store.log import Log
from cellwright.server.store.sessions import SessionRows
from cellwright.server.store.ways import Ways
from cellwright.server.workspace import Workspace

LOOK_EVERY_S = 30.0
STOP_WITHIN_S = 30.0
AT_ONCE = 4
RESTS_WITHIN_S = 1.0
TOLD_NAMES = 10

HOLDS_ON = "it holds on to a file, and files were put back: open it anew"

log = structlog.get_logger(__name__)


def workspace_of(root: Path, session: Session) -> Workspace:
    """The session's folder below the server's root."""
    return Workspace(root / session.workspace, Path(session.notebook_path).name)


class KernelLife:
    """One living kernel a session at most; everything that happens to it is in the session's log."""

    def __init__(
        self,
        settings: Settings,
        events: Log,
        rows: SessionRows,
        kernels: SessionKernels,
        checkpoints: Checkpoints,
        revival: Revival,
        ways: Ways,
        root: Path,
    ) -> None:
        self._settings, self._log, self._rows, self._root = settings, events, rows, root
        self._kernels, self._checkpoints, self._revival, self._ways = kernels, checkpoints, revival, ways
        self._writing: set[asyncio.Task[None]] = set()
        self._keeping: dict[SessionId, asyncio.Event] = {}

    # -- coming --------------------------------------------------------------------------------------------------

    async def obtain(
        self,
        session_id: SessionId,
        *,
        turn_id: TurnId | None = None,
        generation: int | None = None,
        first: Callable[[], Awaitable[None]] | None = None,
    ) -> tuple[KernelConnection, Session]:
        """The session's kernel: the living one, the one a former server left, or a new one; and the session with it.

        `first` is awaited before anything is written of a kernel's start: what belongs before it in the log.

        A hibernated session's variables are put back first. Raises KernelNotStarted, TooManyKernels or Conflict.
        """
        async with self._kernels.lock(session_id):
            session = await self._rows.get(session_id)
            workspace = workspace_of(self._root, session)
            connection = self._kernels.get(session_id)
            if connection is not None:
                if connection.kernel_id == session.kernel_id:
                    await _return_to_folder(connection, workspace)
                    return connection, session
                # The log knows another kernel, or none: this one's variables are not what it says.
                await self._kernels.end(session_id)
            adopted = await self._adopted(session)
            if adopted is not None:
                return adopted, session
            await self.make_room(session_id)

            if first is not None:
                await first()

            async def told(*events: e.Event) -> None:
                stamped = [event.model_copy(update={"turn_id": turn_id}) for event in events]
                await self._log.append(session_id, stamped, generation=generation)

            await told(e.KernelChanged(status="starting", kernel_id=None, incarnation=session.kernel_incarnation))
            await asyncio.to_thread(self._make, workspace)
            connection = await self._kernels.start(session_id, session.kernel_name, workspace.folder)
            incarnation = session.kernel_incarnation + 1
            await told(await self._born(session, connection, incarnation))
            self._report_death(session_id, incarnation)
            return connection, await self._rows.get(session_id)

    def _make(self, workspace: Workspace) -> None:
        workspace.make()
        if self._settings.kernel_user is not None:
            users.give(workspace.folder, self._settings.kernel_user)

    async def _born(self, session: Session, connection: KernelConnection, incarnation: int) -> e.KernelChanged:
        """Brings back what the session's last kernel held, if it was stored; says how that went."""
        checkpoint = await self._checkpoints.to_wake(session)
        if checkpoint is None:
            return await self._reborn(session, connection, incarnation)
        try:
            restored = await self._checkpoints.restore(connection, checkpoint)
            await connection.learn_variables()
        except (KernelError, StoreUnavailable) as error:
            return e.KernelChanged(
                status="restarted",
                kernel_id=connection.kernel_id,
                incarnation=incarnation,
                cause=f"the stored variables could not be brought back: {error}",
                variables_lost=True,
            )
        return _restored(connection, incarnation, VariablesBack(restored=restored.names, missing=restored.missing))

    async def _reborn(self, session: Session, connection: KernelConnection, incarnation: int) -> e.KernelChanged:
        """A fresh kernel where none was stored whole: a session's first, a branch's, or one after a loss."""
        first = session.kernel_incarnation == 0
        fresh = e.KernelChanged(status="idle", kernel_id=connection.kernel_id, incarnation=incarnation)
        lost = fresh.model_copy(update={"status": "restarted", "variables_lost": True})
        if first and session.parent_session_id is None:
            return fresh
        try:
            way, workspace = await self._ways.now(session), workspace_of(self._root, session)
            plan = await self._revival.plan(session, workspace, way, "safe", through_death=True)
            if plan.empty and not (await self._ways.lives(way)).lost:
                return fresh  # Nothing was made yet, or all of it was undone.
            if plan.empty or not (first or self._settings.recovery == "auto"):
                return lost
            back = await self._revival.into(connection, plan)
        except (KernelError, CellwrightError) as error:
            return lost.model_copy(update={"cause": f"the variables could not be brought back: {error}"})
        return _restored(connection, incarnation, back, recovered=not first)

    async def recovery(self, session: Session, again: Again) -> Plan:
        """What brings back what a kernel that was lost held: the last stored variables, and what the cells since made.

        What was made after the loss is made again as well; so it is with what was not stored when the session fell
        asleep. Raises Conflict where nothing was lost, or nothing of it can
        be brought back.
        """
        way = await self._ways.now(session)
        if not (await self._ways.lives(way, through_death=True)).lost:
            raise Conflict("The kernel has lost nothing.")
        plan = await self._revival.plan(session, workspace_of(self._root, session), way, again, through_death=True)
        if plan.empty:
            raise Conflict("There is nothing that could be brought back.")
        return plan

    @asynccontextmanager
    async def recovering(self, session: Session, again: Again) -> AsyncIterator[tuple[VariablesBack, list[e.Event]]]:
        """Does that, while no cell runs; raises Conflict. The events are for the caller to append."""
        plan = await self.recovery(session, again)
        async with self.replacing(session, lambda kernel: self._revival.into(kernel, plan), recovered=True) as told:
            yield told

    async def _adopted(self, session: Session) -> KernelConnection | None:
        if session.kernel_id is None:
            return None
        adopted = await self._kernels.adopt(session.id, session.kernel_id)
        if adopted is not None:
            self._report_death(session.id, session.kernel_incarnation)
        return adopted

    async def take_back(self, session: Session) -> KernelConnection | None:
        """The kernel that the log names, living here or left by a former server; None when it is gone."""
        async with self._kernels.lock(session.id):
            return self._kernels.get(session.id) or await self._adopted(session)

    async def adopt_all(self, *, alone: bool) -> int:
        """Takes back the kernels that a former server of this data folder left; returns how many.

        With `alone` no other server uses the database: what does not run here, runs nowhere.
        """
        rows = await self._rows.with_kernels(None if alone else list(self._kernels.left()))
        adopted = 0
        for session_id, kernel_id, incarnation in rows:
            if await self._kernels.adopt(session_id, kernel_id) is not None:
                adopted += 1
                self._report_death(session_id, incarnation)
            else:
                await self._died(session_id, incarnation, "it did not outlive the server")
        await self._kernels.sweep({kernel_id for _, kernel_id, _ in rows})
        return adopted

    # -- going ---------------------------------------------------------------------------------------------------

    def _report_death(self, session_id: SessionId, incarnation: int) -> None:
        connection = self._kernels.get(session_id)
        kernel_id = None if connection is None else connection.kernel_id

        def told(cause: str, replaced: bool) -> None:
            wrote = self._died(session_id, incarnation, cause, kernel_id if replaced else None)
            task = asyncio.get_running_loop().create_task(wrote)
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)

        self._kernels.on_death(session_id, told)

    async def _died(self, session_id: SessionId, incarnation: int, cause: str, successor: str | None = None) -> None:
        """Writes a kernel's death; `successor` goes by its id now, and is the session's next kernel."""
        event = e.KernelChanged(
            status="restarted" if successor else "died",
            kernel_id=successor,
            incarnation=incarnation + 1 if successor else incarnation,
            cause=cause,
            variables_lost=True,
        )
        with contextlib.suppress(NotFound):
            await self._log.append(session_id, [event])

    @asynccontextmanager
    async def keeping(self, session_id: SessionId, connection: KernelConnection) -> AsyncIterator[None]:
        """While a point of the session is kept, its kernel is at work for us, and not for a user."""
        done = self._keeping[session_id] = asyncio.Event()
        try:
            yield
            await rests(connection)
        finally:
            del self._keeping[session_id]
            done.set()

    def status(self, session_id: SessionId) -> str | None:
        """What the session's kernel does, if it has one here. While a point is kept, it is at nobody's work."""
        kernel = self._kernels.get(session_id)
        if kernel is None:
            return None
        return "idle" if session_id in self._keeping else kernel.execution_state

    # -- coming back ---------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def replacing(
        self,
        session: Session,
        fill: Callable[[KernelConnection], Awaitable[VariablesBack]],
        *,
        recovered: bool = False,
    ) -> AsyncIterator[tuple[VariablesBack, list[e.Event]]]:
        """Gives the session a fresh kernel, which `fill` makes what it is to be; and the events that tell of it.

        The one that it has lives until the block has ended, which is to append them, and stays if anything fails.
        Raises KernelNotStarted, KernelDied or TooManyKernels.
        """
        async with self._kernels.lock(session.id):
            workspace = workspace_of(self._root, session)
            former = self._kernels.get(session.id)
            if former is None:
                await self.make_room(session.id)
            await asyncio.to_thread(self._make, workspace)
            name = new_id()
            connection = await self._kernels.start(name, session.kernel_name, workspace.folder)
            try:
                back = await fill(connection)
                # Who hears of it and asks finds the new one.
                async with self._kernels.taking_over(name, session.id):
                    yield back, self._came_back(session, former, connection, back, recovered=recovered)
                    self._report_death(session.id, session.kernel_incarnation + 1)
            except BaseException:
                await asyncio.shield(self._kernels.end(name))
                raise

    async def go_back(self, session: Session, copy: SleepingCopy, moved: bool) -> tuple[VariablesBack, list[e.Event]]:
        """Makes the session's kernel what it was when the copy was made; raises KernelNotStarted or CopyRefused.

        `moved`: files were put back, and others stand in the places of those that were open.
        """
        began = time.monotonic()
        former = self._kernels.get(session.id)
        connection = await self._kernels.go_back(session.id, copy)
        await connection.learn_variables()
        doubtful = {name for name, _ in copy.bound if moved}
        back = VariablesBack(
            means=["fork"],
            restored=sorted({told["name"] for told in connection.last_variables} - doubtful),
            missing=[
                *(Skipped(name=lost, type="", reason="no copy of a process has them") for lost in copy.lost),
                *(Skipped(name=name, type=kind, reason=HOLDS_ON) for name, kind in copy.bound if moved),
            ],
            seconds=round(time.monotonic() - began, 4),
        )
        self._report_death(session.id, session.kernel_incarnation + 1)
        return back, self._came_back(session, former, connection, back)

    def _came_back(
        self,
        session: Session,
        former: KernelConnection | None,
        connection: KernelConnection,
        back: VariablesBack,
        *,
        recovered: bool = False,
    ) -> list[e.Event]:
        incarnation = session.kernel_incarnation + 1
        now, connection.last_variables = connection.last_variables, [] if former is None else former.last_variables
        changed = variables.changes(connection, now)
        told = _restored(connection, incarnation, back, recovered=recovered)
        return [told] if changed is None else [told, changed]

    async def restart(self, session: Session) -> None:
        """Ends the kernel; the next cell starts another. Raises Conflict while a turn runs."""
        if await self._rows.open_turns(session.id):
            raise Conflict("A turn is under way: stop it before you restart the kernel.")
        await self.end(session, "the user restarted it")

    async def end(self, session: Session, cause: str) -> None:
        """Ends the kernel, if it has one, with its variables."""
        async with self._kernels.lock(session.id):
            if self._kernels.get(session.id) is not None:
                await self._kernels.end(session.id)
                await self._died(session.id, session.kernel_incarnation, cause)

    async def hibernate(self, session_id: SessionId) -> bool:
        """Stores the variables and ends the kernel; returns False for a kernel that is busy, or none.

        Raises KernelUnreachable or StoreUnavailable; the kernel then lives on.
        """
        if session_id in self._keeping:
            await self._keeping[session_id].wait()
        async with self._kernels.lock(session_id):
            connection = self._kernels.get(session_id)
            # Looked at under the lock: a turn that is queued from now on waits for it, and then wakes the session.
            if connection is None or await self._rows.open_turns(session_id) or not await rests(connection):
                return False
            session = await self._rows.get(session_id)
            # It is a point of the head's as well: where that has none of its own, a redo comes back to it.
            created = await self._checkpoints.save(session, connection, "hibernated", of_turn=session.head_turn_id)
            ended = e.KernelChanged(
                status="hibernated",
                kernel_id=None,
                incarnation=session.kernel_incarnation,
                variables_lost=bool(created.skipped),
                cause=_told_missing(Restored(names=created.kept, missing=created.skipped)),
            )
            await self._log.append(session_id, [created, ended])
            await self._kernels.end(session_id)
        await self._checkpoints.prune(session_id)
        log.info("hibernated", session_id=session_id, kept=len(created.kept), new_bytes=created.new_bytes)
        return True

    async def see_room(self, session: Session) -> None:
        """Raises TooManyKernels where a turn would not get a kernel: as many as may live are at work."""
        held = self._kernels.sessions()
        if session.id in held or session.kernel_id is not None or len(held) < self._settings.session_max_concurrent:
            return
        if not await self._at_rest(held):
            raise TooManyKernels()

    async def make_room(self, session_id: SessionId) -> None:
        """Sees that one more kernel may live, hibernating the longest idle; raises TooManyKernels when none is."""
        while self._kernels.live >= self._settings.session_max_concurrent:
            idle = [other for _, other in await self._idle_since() if other != session_id]
            for other in await self._at_rest(idle):
                if await self._try_to_hibernate(other):
                    break
            else:
                raise TooManyKernels()

    async def _at_rest(self, sessions: Sequence[SessionId]) -> list[SessionId]:
        """Those of them whose kernels are not at work; where all seem to be, within the moment that word of rest takes.

        A kernel whose point is kept will be.
        """
        kernels = {found: kernel for found in sessions if (kernel := self._kernels.get(found)) is not None}
        resting = [found for found in kernels if self.status(found) != "busy"]
        if not resting:
            told = await asyncio.gather(*(rests(kernel) for kernel in kernels.values()))
            resting = [found for found, at_rest in zip(kernels, told, strict=True) if at_rest]
        return resting

    async def _idle_since(self) -> list[tuple[datetime, SessionId]]:
        return sorted((at, session_id) for session_id, at in await self._rows.last_activity(self._kernels.sessions()))

    async def _try_to_hibernate(self, session_id: SessionId) -> bool:
        try:
            return await self.hibernate(session_id)
        except (CellwrightError, KernelError) as error:
            log.warning("not_hibernated", session_id=session_id, error=str(error))
            return False

    async def run(self) -> None:
        """Hibernates sessions that nobody used for `session_max_age_hours`, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            with contextlib.suppress(StoreUnavailable):
                await self.hibernate_idle()

    async def hibernate_idle(self, *, dry_run: bool = False) -> int:
        """Hibernates those sessions now; returns how many."""
        now, count = datetime.now(UTC), 0
        for at, session_id in await self._idle_since():
            if (now - at).total_seconds() >= self._settings.session_max_age_hours * 3600:
                count += dry_run or await self._try_to_hibernate(session_id)
        return count

    async def close(self) -> None:
        """Hibernates every kernel that can be, within STOP_WITHIN_S, and ends all."""
        if self._kernels.remote:
            await self._kernels.close()
            return
        several = asyncio.Semaphore(AT_ONCE)

        async def one(session_id: SessionId) -> None:
            async with several:
                with contextlib.suppress(Exception):
                    await self._try_to_hibernate(session_id)

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_WITHIN_S):
                await asyncio.gather(*(one(session_id) for session_id in self._kernels.sessions()))
        await self._kernels.close()
        await asyncio.gather(*self._writing, return_exceptions=True)


async def rests(connection: KernelConnection) -> bool:
    """Whether a kernel is at rest within a moment: word of that comes a little behind its last answer."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(RESTS_WITHIN_S):
            while connection.execution_state == "busy" and not connection.died.done():
                await asyncio.sleep(0.005)
    return connection.execution_state != "busy"


async def _return_to_folder(connection: KernelConnection, workspace: Workspace) -> None:
    """Makes the folder that someone deleted under a living kernel anew, and puts the kernel back into it."""
    if await asyncio.to_thread(workspace.folder.is_dir):
        return
    await asyncio.to_thread(workspace.make)
    with contextlib.suppress(KernelUnreachable):
        path = str(workspace.folder)
        await connection.evaluate(f"__import__('json').dumps(__import__('os').chdir({path!r}))")


def _restored(
    connection: KernelConnection, incarnation: int, back: VariablesBack, *, recovered: bool = False
) -> e.KernelChanged:
    return e.KernelChanged(
        status="restored",
        kernel_id=connection.kernel_id,
        incarnation=incarnation,
        cause=_told_missing(Restored(names=back.restored, missing=back.missing)),
        variables_lost=bool(back.missing),
        recovered=recovered,
        ran_again=back.ran_again,
    )


def _told_missing(restored: Restored) -> str | None:
    if not restored.missing:
        return None
    names = [f"{missing.name} ({missing.type}: {missing.reason})" for missing in restored.missing[:TOLD_NAMES]]
    more = len(restored.missing) - len(names)
    return "not brought back: " + "; ".join(names) + (f"; and {more} more" if more > 0 else "")
