"""One rewind for all of a session: the head moves, and conversation, notebook, files and variables move with it.

The log is only ever added to. What does not lead to the head any more stays in it, and can be the head again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import structlog
from cellwright.kernels.copies import CopyRefused, SleepingCopy
from cellwright.kernels.errors import KernelError, KernelNotStarted
from cellwright.notebooks.chance import imported, reads_the_clock
from cellwright.notebooks.document import Document
from cellwright.notebooks.edits import changed, difference
from cellwright.notebooks.reach import Reach
from cellwright.server import events as e
from cellwright.server.agent import dangers
from cellwright.server.agent.risk import Reasons
from cellwright.server.domain import (
    CellsMoved,
    FilesMoved,
    LeftOut,
    Moving,
    Rewound,
    Session,
    SessionId,
    Turn,
    TurnId,
    VariablesBack,
)
from cellwright.server.errors import Busy, CellwrightError, Conflict, NotebookMoved, NotFound, StoreUnavailable
from cellwright.server.kernel_life import workspace_of
from cellwright.server.notebook_files import told_edits
from cellwright.server.revival import Again, Plan, Revival
from cellwright.server.snapshots import Modules, Snapshot, Snapshots
from cellwright.server.store import postgres, queries
from cellwright.server.store.ways import Way, Ways, covers
from cellwright.server.turn_points import TurnPoints
from cellwright.server.workbench import Tools

SQL = queries.load("sessions")
Why = Literal["undo", "redo", "restore"]


@dataclass(frozen=True)
class Before:
    """The beginning of a turn, by its number or id: with what the user did since the one before it."""

    turn: int | str


To = int | str | Before | Way | None
"""A turn by its number or id, a point, or nothing: one turn back, or forth."""

OUTSIDE = (dangers.NETWORK, dangers.STARTS, dangers.WRITES, dangers.INSTALLS, dangers.DELETES_OUT, dangers.DELETES_ANY)
MAX_TOLD = 20
LOOKS = 3
SETTLES_S = 10.0
LOOK_EVERY_S = 1.0
RESTS_S = 1.5
RESTS_BY_COST = 10
"""A kernel that was idle for that long rests; and for so many times what its last point took: who works by hand in one
that holds much does not wait for us."""

BROKEN_OFF = "The server ended while it went to another point."

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Target:
    """Where the head is to go, and what it takes."""

    way: Way
    document: Document
    files: Snapshot
    moves: FilesMoved
    plan: Plan | None
    copy: SleepingCopy | None
    redo: list[TurnId]
    rewound: Rewound
    again: Again
    untouched: bool = False
    """Whether the variables are as they are to be already."""

    known: bool = True
    """Whether the log knows all files as they are."""


class Rewind:
    """Goes to the points behind the turns of a session."""

    def __init__(
        self, tools: Tools, points: TurnPoints, snapshots: Snapshots, revival: Revival, ways: Ways, pool: postgres.Pool
    ) -> None:
        self._t, self.points, self._pool = tools, points, pool
        self._snapshots, self._revival, self._ways = snapshots, revival, ways
        self._locks: dict[SessionId, asyncio.Lock] = {}
        self._still: dict[SessionId, asyncio.Lock] = {}

    def alone(self, session_id: SessionId) -> asyncio.Lock:
        """Held while a turn runs, or its point is kept, or the head moves: one after the other."""
        return self._locks.setdefault(session_id, asyncio.Lock())

    def still(self, session_id: SessionId) -> asyncio.Lock:
        """Held while the head moves, and by who brings a file: what comes in the middle of a move would go with it."""
        return self._still.setdefault(session_id, asyncio.Lock())

    async def run(self) -> None:
        """Keeps what users run by themselves in kernels, once these rest, until cancelled."""
        seen: dict[SessionId, tuple[int, float]] = {}
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            before, seen = seen, {}
            for session_id in self._t.kernels.sessions():
                connection = self._t.kernels.get(session_id)
                if connection is None or not self.points.unkept(connection) or connection.execution_state != "idle":
                    continue
                ran, since = before.get(session_id, (-1, 0.0))
                if ran != connection.runs_of_others:
                    ran, since = connection.runs_of_others, time.monotonic()
                seen[session_id] = ran, since
                rested = time.monotonic() - since >= max(RESTS_S, self.points.cost_s(connection) * RESTS_BY_COST)
                if rested and not self.alone(session_id).locked():
                    await self._keep_own(session_id)

    async def _keep_own(self, session_id: SessionId) -> None:
        try:
            async with self.exclusively(session_id):
                await self.points.own_variables(await self._t.rows.get(session_id))
        except CellwrightError as error:  # A turn has begun, or a store is away: the next look will do.
            log.debug("point_not_kept", session_id=session_id, error=str(error))
        except Exception:
            log.exception("point_not_kept", session_id=session_id)

    async def settled(self, session_id: SessionId) -> None:
        """Waits a while for the point of a turn that has just ended."""
        if not await self._t.rows.open_turns(session_id):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SETTLES_S), self.alone(session_id):
                    pass

    # -- finding the way -----------------------------------------------------------------------------------------

    async def turn(self, session: Session, name: int | str) -> Turn:
        """A turn of the session's that has ended, by its number or id; raises NotFound or Conflict."""
        number = int(name) if isinstance(name, int) or name.isdecimal() else None
        if number is not None:
            async with postgres.acquired(self._pool) as connection:
                row = await connection.fetchrow(SQL.turn_by_number, session.id, number)
            turn = None if row is None else await self._t.rows.turn(str(row["id"]))
        else:
            turn = await self._t.rows.turn(str(name))
        if turn is None or turn.session_id != session.id:
            raise NotFound("turn", str(name))
        if turn.line is None:
            raise Conflict(f"Turn {turn.n} has not ended: it is no place to go to.")
        return turn

    async def _way(self, session: Session, why: Why, to: To) -> tuple[Way, list[TurnId]]:
        """Where a move goes, and the turns that a redo after it comes back to.

        To a turn that leads to the head it goes as to the beginning of the one that follows: what the user did between
        the two, a file that they gave for the next question, stays.
        """
        if isinstance(to, Way):
            return to, []
        here = await self._ways.to(session.id, session.head_turn_id)
        left = [] if session.head_turn_id is None else [session.head_turn_id]
        if isinstance(to, Before):
            asked = await self.turn(session, to.turn)
            if asked.id not in here.ids:
                raise Conflict(f"Turn {asked.n} does not lead to where the session is.")
            return await self._ways.before(session.id, asked.id), [*session.redo, *left]
        if to is not None:
            turn = None if str(to) == "0" else await self.turn(session, to)
            place = -1 if turn is None else here.ids.index(turn.id) if turn.id in here.ids else None
            if place is None:
                assert turn is not None
                return await self._ways.to(session.id, turn.id), []
            if place == len(here.turns) - 1:
                return here, list(session.redo)
            following = here.turns[place + 1]
            redo = [*session.redo, *left]
            if following.request.kind == "edit" and turn is not None:
                return await self._ways.to(session.id, turn.id), redo
            return await self._ways.before(session.id, following.id), redo
        if why == "redo":
            if not session.redo:
                raise Conflict("There is nothing to redo: nothing was undone since the last turn.")
            *redo, turn_id = session.redo
            return await self._ways.to(session.id, turn_id), redo
        turns = list(here.turns)
        while turns and turns[-1].request.kind == "edit":
            turns.pop()  # What the user did by themselves goes with the turn before it.
        if not turns:
            raise Conflict("There is nothing to undo.")
        return await self._ways.before(session.id, turns[-1].id), [*session.redo, *left]

    # -- going ---------------------------------------------------------------------------------------------------

    async def preview(self, session: Session, why: Why, to: To, again: Again, generation: int) -> Rewound:
        """What a move would do, without doing it; raises NotFound or Conflict.

        What the user typed into the notebook's file is taken into the log first, as before a turn.
        """
        async with self.exclusively(session.id):
            await self._t.notebooks.pull(await self._t.rows.get(session.id), generation)
            target = await self._target(await self._t.rows.get(session.id), why, to, again)
        return target.rewound

    async def go(self, session: Session, why: Why, to: To, by: str, generation: int, again: Again = "safe") -> Rewound:
        """Moves the head; raises NotFound, Conflict, Busy, or what a kernel's start raises, and then nothing has moved.

        What the user did since the last turn is kept as a turn of theirs first.
        """
        began = time.monotonic()
        async with self.exclusively(session.id), self.still(session.id):
            for _ in range(LOOKS):
                session = await self.kept(await self._t.rows.get(session.id), by, generation)
                target = await self._target(session, why, to, again)
                if target.known:  # Else the user did something meanwhile, which is to be kept as well.
                    break
            context, summary = await self._ways.context(target.way)
            document = await self._t.cells.document(session.id)
            edits = [told for change in difference(document, target.document) for told in told_edits(change)]
            moving = Moving(workspace_version=target.files.version, in_place=target.copy is not None)
            await self._t.log.append(session.id, [e.HeadMoving(why=why, by=by, moving=moving)], generation=generation)
            kernel = self._t.kernels.get(session.id)
            try:
                async with self._moved(session, target) as (moved, back, told):
                    rewound = target.rewound.model_copy(
                        update={"files": moved, "variables": back, "seconds": round(time.monotonic() - began, 4)}
                    )
                    events: list[e.Event] = [
                        e.HeadMoved(
                            why=why,
                            by=by,
                            to_turn_id=target.way.turn.id if target.way.turn is not None else None,
                            from_turn_id=session.head_turn_id,
                            line=target.way.line,
                            redo=target.redo,
                            context=context,
                            summary=summary,
                            workspace_version=target.files.version,
                            rewound=rewound,
                        )
                    ]
                    if edits:
                        events.append(e.CellsEdited(author="cellwright", edits=edits))
                    await self._append(session, [*events, *told], generation)
            except BaseException as error:
                with contextlib.suppress(StoreUnavailable):  # Then it is put right when the session is next used.
                    same = self._t.kernels.get(session.id) is kernel
                    await asyncio.shield(self.put_right(session.id, generation, _cause(error), same_kernel=same))
                raise
            await self._t.notebooks.save(await self._t.rows.get(session.id), generation)
            log.info("head_moved", session_id=session.id, to=rewound.to_turn, means=back.means)
            return rewound

    async def _append(self, session: Session, events: list[e.Event], generation: int) -> None:
        """Commits a move, unless the notebook is another than it was made for: then it has to be made again."""
        try:
            await self._t.log.append(session.id, events, generation=generation, at_revision=session.revision)
        except NotebookMoved:
            raise Conflict("The notebook was changed meanwhile. Nothing was moved: try again.") from None

    @asynccontextmanager
    async def _moved(
        self, session: Session, target: _Target
    ) -> AsyncIterator[tuple[FilesMoved, VariablesBack, list[e.Event]]]:
        """Makes files and variables what they are to be; a kernel that ends for it does so after the block."""
        moved = await self._snapshots.put_back(workspace_of(self._t.root, session), target.moves, target.files)
        async with self._brought_back(session, target) as (back, told):
            yield moved.model_copy(update={"left": [*moved.left, *map(_appeared, back.appeared)]}), back, told

    async def put_right(self, session_id: SessionId, generation: int, cause: str, *, same_kernel: bool = False) -> None:
        """Takes back what a move of the head that did not come to its end has changed, if there was one.

        Files that are neither as they were before nor as the move was to make them are the user's, and stay. A kernel
        that may have gone back is ended, and what it held at the head is brought back. Nothing else may go on in the
        session.
        """
        session = await self._t.rows.get(session_id)
        if session.moving is None:
            return
        workspace = workspace_of(self._t.root, session)
        before = await self._snapshots.load(session.id, session.workspace_version)
        meant = await self._snapshots.load(session.id, session.moving.workspace_version)
        now, _ = await self._snapshots.take(session, workspace)
        moves = self._snapshots.moves(session, workspace, now, before)
        theirs = {name for name in now.files if now.files[name] != meant.files.get(name)}
        moves = moves.model_copy(
            update={
                "written": [name for name in moves.written if name not in theirs],
                "removed": [name for name in moves.removed if name not in theirs],
            }
        )
        files = await self._snapshots.put_back(workspace, moves, before)
        in_place = session.moving.in_place and not same_kernel
        if in_place:
            await self._t.life.take_back(session)
            await self._t.life.end(session, "it may have gone back already when that was broken off")
        stayed = e.HeadStayed(cause=cause, left=files.left)
        await self._t.log.append(session.id, [stayed], generation=generation)
        log.warning("head_stayed", session_id=session.id, cause=cause)
        if in_place:
            try:
                async with self._t.life.recovering(await self._t.rows.get(session.id), "safe") as (_, told):
                    await self._t.log.append(session.id, told, generation=generation)
            except (KernelError, CellwrightError) as error:  # The log says that they are lost; they can be asked for.
                log.warning("variables_not_recovered", session_id=session.id, error=str(error))

    async def _files_are(self, session: Session, wanted: Snapshot) -> None:
        """Sees that the workspace holds the files of a snapshot."""
        workspace = workspace_of(self._t.root, session)
        now, _ = await self._snapshots.take(session, workspace)
        await self._snapshots.put_back(workspace, self._snapshots.moves(session, workspace, now, wanted), wanted)

    async def recover(self, session: Session, again: Again, generation: int) -> VariablesBack:
        """Brings back what a kernel that was lost held; raises Busy, or Conflict where nothing can be."""
        async with self.exclusively(session.id):
            await self.put_right(session.id, generation, BROKEN_OFF)
            async with self._t.life.recovering(await self._t.rows.get(session.id), again) as (back, told):
                await self._t.log.append(session.id, told, generation=generation)
        return back

    async def recovery(self, session: Session, again: Again) -> VariablesBack:
        """What a recovery would do, without doing it; raises Busy or Conflict."""
        async with self.exclusively(session.id):
            plan = await self._t.life.recovery(await self._t.rows.get(session.id), again)
        return await asyncio.to_thread(plan.foretold)

    async def within(self, session: Session, way: Way) -> tuple[FilesMoved, VariablesBack, list[e.Event]]:
        """Variables and files as they were at a point, for the turn that runs; and what it has to say of that.

        The files as they are must be in the log. When it fails, they are as they were.
        """
        workspace = workspace_of(self._t.root, session)
        before = await self._snapshots.load(session.id, session.workspace_version)
        then = await self._snapshots.load(session.id, way.workspace_version)
        now, _ = await self._snapshots.take(session, workspace)
        plan = await self._revival.plan(session, workspace, way, "safe")
        try:
            moves = self._snapshots.moves(session, workspace, now, then)
            files = await self._snapshots.put_back(workspace, moves, then)
            into = partial(self._revival.into, plan=plan, gone=files.removed)
            async with self._t.life.replacing(session, into) as (back, told):
                pass
        except BaseException:
            await asyncio.shield(self._files_are(session, before))
            raise
        return files, back, [*await self.points.files(session), *told]

    async def kept(self, session: Session, by: str, generation: int) -> Session:
        """The session when all is at one point, and what the user did since the last turn is a turn of theirs."""
        await self.put_right(session.id, generation, BROKEN_OFF)
        return await self.points.own_doings(session, by, generation)

    @asynccontextmanager
    async def exclusively(self, session_id: SessionId) -> AsyncIterator[None]:
        """No turn runs within it; raises Busy where one does."""
        await self._see_rest(session_id)
        async with self.alone(session_id):
            await self._see_rest(session_id)
            yield

    async def _see_rest(self, session_id: SessionId) -> None:
        if await self._t.rows.open_turns(session_id):
            raise Busy("A turn is under way: stop it, or wait for its end.")

    async def _target(self, session: Session, why: Why, to: To, again: Again) -> _Target:
        here = await self._ways.to(session.id, session.head_turn_id)
        way, redo = await self._way(session, why, to)
        document = await self._t.cells.document(session.id, way.revision)
        workspace = workspace_of(self._t.root, session)
        files = await self._snapshots.load(session.id, way.workspace_version)
        now, news = await self._snapshots.take(session, workspace)
        moves = self._snapshots.moves(session, workspace, now, files)
        turn_id = way.turn.id if way.turn is not None else None
        line = (await self._ways.now(session)).line
        at_head = turn_id == session.head_turn_id and all(covers(line, end) for _, end in way.line[-1:])
        untouched = at_head and self._t.kernels.get(session.id) is not None
        copy = self.points.copy(session.id, turn_id)
        if way.checkpoint is not None:
            untouched = False  # It may stand in the middle of its turn.
        if way.checkpoint is not None or await self._ways.holds_own_doings(way):
            copy = None
        plan = None if copy is not None or untouched else await self._revival.plan(session, workspace, way, again)
        variables = VariablesBack(means=["fork"]) if plan is None else await asyncio.to_thread(plan.foretold)
        left = [turn for turn in here.turns if turn.id not in way.ids]
        kinds = changed(await self._t.cells.document(session.id), document)
        rewound = Rewound(
            from_turn=here.n,
            to_turn=way.n,
            left_turns=[turn.n for turn in left],
            back_turns=[turn.n for turn in way.turns if turn.id not in here.ids],
            cells=CellsMoved(**{name: list(ids) for name, ids in kinds.items()}),
            files=moves,
            variables=VariablesBack() if untouched else variables,
            not_rewound=await self._outside(here, left, workspace.folder),
        )
        known = news is None
        return _Target(way, document, files, moves, plan, copy, redo, rewound, again, untouched, known)

    async def _outside(self, here: Way, left: list[Turn], folder: Path) -> list[str]:
        """What the cells of the turns that are left look to have done where no rewind reaches, in words."""
        if not left:
            return []
        ran = await self._ways.sources(here)
        numbers = {turn.n for turn in left}
        versions = {turn.n: turn.workspace_version for turn in here.turns}
        code = await self._snapshots.modules(here.session_id, versions.values())
        held = {n: code.get(version, {}) for n, version in versions.items()}
        found = await asyncio.to_thread(outside, [(n, source, n in numbers) for n, source in ran], str(folder), held)
        return [f"turn {n}: a cell {reason}; that is not taken back" for n, reason in found]

    @asynccontextmanager
    async def _brought_back(
        self, session: Session, target: _Target
    ) -> AsyncIterator[tuple[VariablesBack, list[e.Event]]]:
        if target.untouched:
            yield VariablesBack(means=["none"]), []
            return
        if target.copy is not None:
            try:
                moved = bool(target.moves.written or target.moves.removed)
                back = await self._t.life.go_back(session, target.copy, moved)
            except (CopyRefused, KernelNotStarted) as error:
                log.info("copy_not_woken", session_id=session.id, error=str(error))
            else:
                yield back
                return
        workspace = workspace_of(self._t.root, session)
        plan = target.plan or await self._revival.plan(session, workspace, target.way, target.again)
        if plan.empty and self._t.kernels.get(session.id) is None:
            yield VariablesBack(means=["none"]), []
            return
        into = partial(self._revival.into, plan=plan, gone=target.moves.removed)
        async with self._t.life.replacing(session, into) as back:
            yield back


def outside(
    cells: list[tuple[int, str, bool]], folder: str, modules: Mapping[int, Modules] = MappingProxyType({})
) -> list[tuple[int, str]]:
    """Of cells by turn, in order: what those that are left look to have done where no rewind reaches.

    The others are there for what they say of names. `modules` lay in the workspace after each turn.
    """
    judged = Reasons(folder, ran=True)
    known: dict[str, str] = {}
    reach = Reach()
    told: dict[tuple[int, str], None] = {}
    for number, source, left in cells:
        judged.lie(modules.get(number, {}))
        known |= imported(source)
        found = [reason.partition(" (")[0] for reason in judged.of(source) if reason.startswith(OUTSIDE)]
        code = reach.of(source).code
        if left and reads_the_clock(source, known, code):
            found.append("reads the clock")
        if left:
            told |= {(number, reason): None for reason in found}
    return list(told)[:MAX_TOLD]


def _appeared(name: str) -> LeftOut:
    return LeftOut(name=name, size_bytes=0, reason="it appeared while cells ran again")


def _cause(error: BaseException) -> str:
    return str(error) or type(error).__name__
