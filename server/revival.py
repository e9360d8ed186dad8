"""Brings a session's variables back as they were at the end of a turn: stored ones, and cells that run again."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from cellwright.kernels.client import KernelConnection
from cellwright.kernels.errors import KernelDied, KernelError
from cellwright.kernels.execution import run_whole
from cellwright.kernels.sessions import SessionKernels
from cellwright.notebooks.chance import imported
from cellwright.notebooks.dependencies import Names, slice_for
from cellwright.notebooks.document import Cell, CellId
from cellwright.notebooks.doubt import Doubt
from cellwright.notebooks.outputs import inline, references
from cellwright.notebooks.reach import Reach, Reached
from cellwright.notebooks.replay import ReplayedCell, judge
from cellwright.server.agent.risk import Reasons
from cellwright.server.artifacts import Artifacts
from cellwright.server.checkpoints import Checkpoint, Checkpoints, digests
from cellwright.server.domain import Means, RanAgain, Session, Sha256, Skipped, TurnId, VariablesBack
from cellwright.server.errors import StoreUnavailable
from cellwright.server.settings import Settings
from cellwright.server.snapshots import Modules, Snapshots
from cellwright.server.store.ways import Run, Way, Ways
from cellwright.server.workspace import Workspace

Again = Literal["never", "safe", "all"]
"""Which cells may run again: none, those that do not look as if they reached outside, any."""

OTHERWISE = ("different", "failed")
OUTSIDE = "it does not run again, because it {}"


@dataclass(frozen=True)
class Start:
    """What was stored before a cell ran; nothing before the first."""

    before: Checkpoint | None
    exact: bool
    """Whether nothing ran between."""


@dataclass(frozen=True)
class Plan:
    """How the variables at the end of a way can come back."""

    session: Session
    workspace: Workspace
    way: Way
    again: Again
    through_death: bool
    checkpoint: Checkpoint | None = None
    runs: tuple[Run, ...] = ()
    """The cells that are to run again, in order."""

    since: int = 0
    """How many of them come before the checkpoint: they only make what it does not hold."""

    wanted: dict[str, Skipped] = field(default_factory=dict)
    """Names that the cells are to make, with what is known of them."""

    refused: dict[str, str] = field(default_factory=dict)
    """Why a cell may not run again, by its execution."""

    read: dict[str, str] = field(default_factory=dict)
    """A file that a cell reads and that has changed since, by its execution."""

    imports: dict[str, str] = field(default_factory=dict)
    """What all cells up to there have imported, by the names that they gave it."""

    reached: dict[str, Reached] = field(default_factory=dict)
    """What each cell reads, changes and calls, by its execution."""

    starts: dict[str, Start] = field(default_factory=dict)
    """Where a turn begins among the cells before the checkpoint, by the execution."""

    @property
    def empty(self) -> bool:
        """Whether there was no variable."""
        return self.checkpoint is None and not self.runs

    @property
    def means(self) -> list[Means]:
        """What it takes, as far as it can be known beforehand."""
        runs = any(run.execution_id not in self.refused for run in self.runs)
        found: list[Means] = ["stored"] if self.checkpoint is not None else []
        return [*found, *(["rerun"] if runs else [])] or ["none"]  # type: ignore[list-item]

    def foretold(self) -> VariablesBack:
        """What is to be expected of it, if the cells that run again show what they showed."""
        ran = [
            RanAgain(
                cell_id=run.cell_id,
                turn=run.turn,
                source=run.source,
                verdict="skipped" if run.execution_id in self.refused else "planned",
                reason=self.refused.get(run.execution_id, ""),
                duration_ms=run.duration_ms,
            )
            for run in self.runs
        ]
        kept = set(self.checkpoint.kept) if self.checkpoint is not None else set()
        doubt, there = Doubt(self.imports), set(kept)

        def run_again(run: Run) -> None:
            reached = self.reached[run.execution_id]
            if run.execution_id in self.refused:
                doubt.left_out(run.source, self.refused[run.execution_id], reached)
            else:
                doubt.ran(run.source, reached, whole=run.ok, read=self.read.get(run.execution_id, ""))
                there.update(reached.names.touches)

        for run in self.runs[: self.since]:
            doubt.chance_known = run.execution_id in self.starts and self.starts[run.execution_id].exact
            run_again(run)
        doubt.put_back(kept)
        for run in self.runs[self.since :]:
            run_again(run)
        return VariablesBack(
            means=self.means,
            restored=sorted(kept - self.wanted.keys()),
            ran_again=ran,
            missing=self.lacking(there, doubt),
        )

    def lacking(self, there: Collection[str], doubt: Doubt) -> list[Skipped]:
        """Of the names that the cells make, those that are not `there`, or may be otherwise."""
        found = []
        for name, told in self.wanted.items():
            if name in doubt.names and (name not in self.imports or name not in there):
                found.append(Skipped(name=name, type=told.type, reason=doubt.names[name]))
            elif name not in there and told.type:
                found.append(told)
        return found


class Revival:
    """Plans and does it, in a kernel that is fresh."""

    def __init__(
        self,
        settings: Settings,
        kernels: SessionKernels,
        checkpoints: Checkpoints,
        artifacts: Artifacts,
        snapshots: Snapshots,
        ways: Ways,
    ) -> None:
        self._settings, self._kernels, self._checkpoints = settings, kernels, checkpoints
        self._artifacts, self._snapshots, self._ways = artifacts, snapshots, ways

    async def plan(
        self,
        session: Session,
        workspace: Workspace,
        way: Way,
        again: Again,
        *,
        through_death: bool = False,
        unreadable: Mapping[str, Skipped] = MappingProxyType({}),
    ) -> Plan:
        """What brings the variables at the end of a way back, those that are stored and `unreadable` by their cells."""
        lives = await self._ways.lives(way, through_death=through_death)
        runs = await self._ways.runs(way, lives)
        if through_death:  # What failed in a kernel that had nothing would only now do what it was to.
            runs = [run for run in runs if run.ok or lives.whole(run.incarnation)]
        found = await self._ways.checkpoints(way, lives)
        # A cell that failed may have made some of its names, or none: what made them before is needed as well.
        reached = await asyncio.to_thread(_reached, runs)
        looked = [reached[run.execution_id].names for run in runs]
        checkpoint, at = None, 0
        if found:
            checkpoint, at = self._checkpoints.of_row(found[0][0]), found[0][1]
        before = sum(run.turn <= at for run in runs)
        held = set(checkpoint.kept) - unreadable.keys() if checkpoint is not None else set()
        wanted = {told.name: told for told in checkpoint.skipped} if checkpoint is not None else {}
        wanted |= unreadable
        same = _Unchanged(runs[:before], looked, found, {} if checkpoint is None else digests(checkpoint.manifest))
        chosen = slice_for(looked[:before], wanted, held, same.since)
        since = range(before, len(runs))
        for place in since:
            for name in looked[place].touches:
                wanted.setdefault(name, Skipped(name=name, type="", reason="made after the last stored variables"))
        picked = [runs[place] for place in (*chosen, *since)]
        refused = {}
        if again == "never":
            refused = {run.execution_id: "no cell was to run again" for run in picked}
        elif again == "safe":
            versions = {turn.id: turn.workspace_version for turn in way.turns}
            code = await self._snapshots.modules(session.id, versions.values()) if picked else {}
            lay = {turn: code.get(version, {}) for turn, version in versions.items()}
            found_reasons = await asyncio.to_thread(_reasons, runs, workspace.folder, lay)
            ids = {run.execution_id for run in picked}
            refused = {run: OUTSIDE.format(", ".join(why)) for run, why in found_reasons.items() if why and run in ids}
        read = await self._read(session, way, picked)
        imports = await asyncio.to_thread(_imports, picked and runs)
        return Plan(
            session, workspace, way, again, through_death,
            checkpoint, tuple(picked), len(chosen), wanted, refused, read, imports, reached,
            self._starts(runs, [runs[place] for place in chosen], found),
        )  # fmt: skip

    def _starts(
        self, runs: Sequence[Run], chosen: Sequence[Run], stored: Sequence[tuple[Any, int]]
    ) -> dict[str, Start]:
        """For the first of the chosen cells of each turn, what was stored last before that."""
        found: dict[str, Start] = {}
        for run in {run.turn: run for run in reversed(chosen)}.values():
            row, n = next(((row, n) for row, n in stored if n < run.turn), (None, 0))
            between = next(other for other in runs if n < other.turn)
            before = None if row is None else self._checkpoints.of_row(row)
            found[run.execution_id] = Start(before, exact=before is not None and between == run)
        return found

    async def _read(self, session: Session, way: Way, runs: Sequence[Run]) -> dict[str, str]:
        """Files that cells name, that were there before and after their turn, and that are others at the way's end."""
        found: dict[str, str] = {}
        turns = {turn.id: turn for turn in way.turns if turn.before is not None}
        now = (await self._snapshots.load(session.id, way.workspace_version)).files
        known: dict[str | None, dict[str, Sha256]] = {}
        for run in runs:
            turn = turns.get(run.turn_id)
            if turn is None or turn.before is None:
                continue
            versions = (turn.before.workspace_version, turn.workspace_version)
            for version in {*versions} - known.keys():
                held = (await self._snapshots.load(session.id, version)).files
                known[version] = {n: f.sha256 for n, f in held.items() if n not in now or now[n].sha256 != f.sha256}
            others = sorted(known[versions[0]].keys() & known[versions[1]].keys())
            named = next((name for name in others if os.path.basename(name) in run.source), None)
            if named is not None:
                found[run.execution_id] = named
        return found

    async def into(self, connection: KernelConnection, plan: Plan, gone: Collection[str] = ()) -> VariablesBack:
        """Does what was planned, in a kernel without variables; raises KernelDied.

        Files that are `gone` were there before, and are to stay gone, whatever cells write when they run again.
        """
        began = time.monotonic()
        plan, restored = await self._stored(connection, plan)
        appeared: list[str] = []
        async with AsyncExitStack() as stack:
            if any(run.execution_id not in plan.refused for run in plan.runs):
                unchanged = self._snapshots.unchanged(plan.session, plan.workspace, gone)
                appeared = await stack.enter_async_context(unchanged)
            back = await self._made(connection, plan, restored)
        return back.model_copy(update={"appeared": appeared, "seconds": round(time.monotonic() - began, 4)})

    async def _stored(self, connection: KernelConnection, plan: Plan) -> tuple[Plan, set[str]]:
        """Stored variables: what is left to be done then, and the names that are there."""
        if plan.checkpoint is None:
            return plan, set()
        try:
            told = await self._checkpoints.restore(connection, plan.checkpoint)
        except KernelDied:
            raise
        except (KernelError, StoreUnavailable) as error:
            lost = [Skipped(name=name, type="?", reason=str(error)) for name in plan.checkpoint.kept]
            return await self._without(plan, lost), set()
        failed = [lost for lost in told.missing if lost.name not in plan.wanted]
        # What cannot be read here is made again, where its cells can do that.
        return await self._without(plan, failed) if failed else plan, set(told.names)

    async def _made(self, connection: KernelConnection, plan: Plan, restored: set[str]) -> VariablesBack:
        """Runs the cells, behind and between what is stored; tells of all."""
        checkpoint = plan.checkpoint
        recorded = await self._ways.outputs(plan.runs)
        ran: list[RanAgain] = []
        doubt = Doubt(plan.imports)
        for run in plan.runs[: plan.since]:
            doubt.chance_known = await self._set_out(connection, plan.starts.get(run.execution_id))
            ran.append(await self._again(connection, run, recorded.get(run.execution_id, []), plan, doubt))
        stale: dict[str, list[str]] = {}
        again = ""
        if checkpoint is not None and plan.since:
            # To make one name again, others had to be made as they were before, and chance was drawn from.
            touched = {name for run in plan.runs[: plan.since] for name in plan.reached[run.execution_id].names.touches}
            made = await _there(connection) & plan.wanted.keys()
            try:
                stale = await self._checkpoints.renew(
                    connection, checkpoint, restored - plan.wanted.keys(), touched, made
                )
                await _delete(connection, touched - plan.wanted.keys() - {*checkpoint.kept})
            except KernelDied:
                raise
            except (KernelError, StoreUnavailable) as error:
                again = str(error)
        doubt.put_back(restored)
        for run in plan.runs[plan.since :]:
            ran.append(await self._again(connection, run, recorded.get(run.execution_id, []), plan, doubt))
        await connection.learn_variables()
        there = await _there(connection)
        missing = plan.lacking(there, doubt)
        absent = sorted(restored - there - plan.wanted.keys())
        missing += [Skipped(name=name, type="", reason=again or "it could not be brought back") for name in absent]
        known = {told.name for told in missing}
        missing += [
            Skipped(name=name, type=plan.wanted[name].type, reason=f"it holds {', '.join(others)} as made again")
            for name, others in stale.items()
            if name not in known
        ]
        lost = {told.name for told in missing}
        means: list[Means] = ["stored"] if checkpoint is not None and restored else []
        means += ["rerun"] if any(cell.verdict != "skipped" for cell in ran) else []
        return VariablesBack(
            means=means or ["none"],
            restored=sorted(((restored | plan.wanted.keys()) & there) - lost),
            ran_again=ran,
            missing=missing,
        )

    async def _set_out(self, connection: KernelConnection, start: Start | None) -> bool:
        """Chance, settings and working directory as they were before a cell ran; whether those of chance are exact.

        Between cells of one turn, others may be left out: there they are what they are by then.
        """
        if start is None:
            return False
        try:
            await self._checkpoints.set_out(connection, start.before)
        except KernelDied:
            raise
        except (KernelError, StoreUnavailable):
            return False
        return start.exact

    async def _without(self, plan: Plan, lost: Sequence[Skipped]) -> Plan:
        """The plan where stored variables could not be read."""
        unreadable = {told.name: told for told in lost}
        return await self.plan(
            plan.session, plan.workspace, plan.way, plan.again,
            through_death=plan.through_death, unreadable=unreadable,
        )  # fmt: skip

    async def _again(
        self,
        connection: KernelConnection,
        run: Run,
        recorded: list[dict[str, object]],
        plan: Plan,
        doubt: Doubt,
    ) -> RanAgain:
        """Runs a cell again and compares; notes in `doubt` the names that it may have made otherwise."""
        about = {"cell_id": run.cell_id, "turn": run.turn, "source": run.source}
        if run.execution_id in plan.refused:
            why = plan.refused[run.execution_id]
            doubt.left_out(run.source, why, plan.reached[run.execution_id])
            return RanAgain(**about, verdict="skipped", reason=why, duration_ms=run.duration_ms)
        try:
            held = await self._artifacts.fetch_all(references(recorded))
        except KeyError:
            held, recorded = {}, []  # Its record is gone: it will look different, and is named.
        whole = tuple(inline(recorded, held.__getitem__))
        outputs, ended = await run_whole(connection, run.source, self._kernels.folder, self._settings.cell_timeout_s)
        cell = Cell(CellId(run.cell_id), "code", run.source, whole, 1)
        found = await asyncio.to_thread(judge, 1, cell, outputs, ended.status, round(ended.duration_s * 1000))
        wrong = f"the cell that makes it {_verb(found)} when it ran again" if found.verdict in OTHERWISE else ""
        read = plan.read.get(run.execution_id, "")
        reached = plan.reached[run.execution_id]
        whence = await asyncio.to_thread(
            doubt.ran, run.source, reached, whole=ended.status == "ok", wrong=wrong, read=read
        )
        why = _why(found) or (whence and f"it draws from {whence}")
        return RanAgain(**about, verdict=found.verdict, reason=why, duration_ms=found.duration_ms)


class _Unchanged:
    """Which stored variables hold, at the end, just what they held when a cell began."""

    def __init__(
        self, runs: Sequence[Run], looked: Sequence[Names], stored: Sequence[tuple[Any, int]], now: dict[str, str]
    ) -> None:
        self._runs, self._looked, self._stored, self._now = runs, looked, stored, now

    def since(self, place: int) -> set[str]:
        """Those that are as they were when the cell at a place began."""
        row, n = next(((row, n) for row, n in self._stored if n < self._runs[place].turn), (None, 0))
        if row is None:
            return set()
        then = digests(row["variables"]["manifest"])
        same = {name for name, digest in then.items() if self._now.get(name) == digest}
        for earlier in range(place - 1, -1, -1):
            if self._runs[earlier].turn <= n:
                break
            same -= self._looked[earlier].touches
        return same


OF_IPYTHON = ("In", "Out", "exit", "get_ipython", "open", "quit")
"""Names that no checkpoint holds."""


async def _delete(connection: KernelConnection, names: Collection[str]) -> None:
    """Takes away what cells made again that was deleted later."""
    chosen = sorted(name for name in names if not name.startswith("_") and name not in OF_IPYTHON)
    if chosen:
        away = f"(lambda shell: [shell.user_ns.pop(name, None) for name in {chosen!r}])(get_ipython())"
        await connection.evaluate(f"__import__('json').dumps({away} and None)")


async def _there(connection: KernelConnection) -> set[str]:
    """All names that the kernel holds."""
    return set(await connection.evaluate("__import__('json').dumps([*get_ipython().user_ns])"))


def _reasons(runs: Sequence[Run], workspace: Path, code: Mapping[TurnId, Modules]) -> dict[str, list[str]]:
    """Why each of the cells that ran is risky, by its execution; `code` lay in the workspace after its turn."""
    judged, found = Reasons(str(workspace), ran=True), dict[str, list[str]]()
    for turn, of_turn in groupby(runs, key=lambda run: run.turn_id):
        judged.lie(code.get(turn, {}))
        found |= {run.execution_id: judged.of(run.source) for run in of_turn}
    return found


def _reached(runs: Sequence[Run]) -> dict[str, Reached]:
    reach, found = Reach(), {}
    for run in runs:
        told = reach.of(run.source)
        found[run.execution_id] = told if run.ok else replace(told, names=told.names.unsure())
    return found


def _imports(runs: Sequence[Run]) -> dict[str, str]:
    return {name: meant for run in runs for name, meant in imported(run.source).items()}


def _verb(found: ReplayedCell) -> str:
    return f"failed ({found.reason})" if found.verdict == "failed" else "showed something else"


def _why(found: ReplayedCell) -> str:
    return found.reason or "; ".join(f"{d.about}: {d.text}" for d in found.differences)[:500]
