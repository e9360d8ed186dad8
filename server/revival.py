"""Brings a session's variables back as they were at the end of a turn: stored ones, and cells that run again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cellwright.kernels.client import KernelConnection
from cellwright.kernels.errors import KernelDied, KernelError
from cellwright.kernels.execution import run_whole
from cellwright.kernels.sessions import SessionKernels
from cellwright.notebooks.chance import Drawn, drawn
from cellwright.notebooks.dependencies import made_from, names, slice_for
from cellwright.notebooks.document import Cell, CellId
from cellwright.notebooks.outputs import inline, references
from cellwright.notebooks.replay import ReplayedCell, judge
from cellwright.server.agent.risk import reasons
from cellwright.server.artifacts import Artifacts
from cellwright.server.checkpoints import Checkpoint, Checkpoints
from cellwright.server.domain import Means, RanAgain, Skipped, VariablesBack
from cellwright.server.errors import StoreUnavailable
from cellwright.server.settings import Settings
from cellwright.server.store.ways import Run, Way, Ways

Again = Literal["never", "safe", "all"]
"""Which cells may run again: none, those that do not look as if they reached outside, any."""

OUTSIDE = "it was not run again, because it {}"


@dataclass(frozen=True)
class Plan:
    """How the variables at the end of a way can come back."""

    way: Way
    checkpoint: Checkpoint | None = None
    runs: tuple[Run, ...] = ()
    """The cells that are to run again, in order."""

    since: int = 0
    """How many of them come before the checkpoint: they only make what it does not hold."""

    wanted: dict[str, Skipped] = field(default_factory=dict)
    """Names that the cells are to make, with what is known of them."""

    refused: dict[str, str] = field(default_factory=dict)
    """Why a cell may not run again, by its execution."""

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
        """What is to be expected of it."""
        ran = [
            RanAgain(
                cell_id=run.cell_id,
                turn=run.turn,
                source=run.source,
                verdict="skipped",
                reason=self.refused.get(run.execution_id, "to be run again"),
            )
            for run in self.runs
        ]
        lost = {name for run in self.runs if run.execution_id in self.refused for name in names(run.source).touches}
        kept = self.checkpoint.kept if self.checkpoint is not None else []
        return VariablesBack(
            means=self.means,
            restored=[name for name in kept if name not in self.wanted],
            ran_again=ran,
            missing=[told for name, told in self.wanted.items() if name in lost or not self.runs],
        )


class Revival:
    """Plans and does it, in a kernel that is fresh."""

    def __init__(
        self,
        settings: Settings,
        kernels: SessionKernels,
        checkpoints: Checkpoints,
        artifacts: Artifacts,
        ways: Ways,
    ) -> None:
        self._settings, self._kernels, self._checkpoints = settings, kernels, checkpoints
        self._artifacts, self._ways = artifacts, ways

    async def plan(self, way: Way, workspace: Path, again: Again, *, through_death: bool = False) -> Plan:
        """What brings the variables at the end of a way back."""
        lives = await self._ways.lives(way, through_death=through_death)
        runs = await self._ways.runs(way, lives)
        found = await self._ways.checkpoint(way, lives)
        # A cell that failed may have made some of its names, or none: what made them before is needed as well.
        looked = [names(run.source) if run.ok else names(run.source).unsure() for run in runs]
        checkpoint, at = None, 0
        if found is not None:
            checkpoint, at = self._checkpoints.of_row(found[0]), found[1]
        before = sum(run.turn <= at for run in runs)
        held = set(checkpoint.kept) if checkpoint is not None else set()
        wanted = {told.name: told for told in checkpoint.skipped} if checkpoint is not None else {}
        chosen = slice_for(looked[:before], wanted, held)
        since = range(before, len(runs))
        for place in since:
            for name in looked[place].touches:
                wanted.setdefault(name, Skipped(name=name, type="", reason="made after the last stored variables"))
        picked = [runs[place] for place in (*chosen, *since)]
        refused = {}
        for run in picked:
            found_reasons = await asyncio.to_thread(reasons, run.source, str(workspace))
            if again == "never":
                refused[run.execution_id] = "no cell was to run again"
            elif again == "safe" and found_reasons:
                refused[run.execution_id] = OUTSIDE.format(", ".join(found_reasons))
        return Plan(way, checkpoint, tuple(picked), len(chosen), wanted, refused)

    async def into(self, connection: KernelConnection, plan: Plan) -> VariablesBack:
        """Does what was planned, in a kernel without variables; raises KernelDied."""
        began = time.monotonic()
        restored: set[str] = set()
        failed: list[Skipped] = []
        checkpoint = plan.checkpoint
        if checkpoint is not None:
            try:
                told = await self._checkpoints.restore(connection, checkpoint)
                restored = set(told.names)
                failed = [lost for lost in told.missing if lost.name not in plan.wanted]
            except KernelDied:
                raise
            except (KernelError, StoreUnavailable) as error:
                failed = [Skipped(name=name, type="", reason=str(error)) for name in checkpoint.kept]
        recorded = await self._ways.outputs(plan.runs)
        ran: list[RanAgain] = []
        doubtful: dict[str, str] = {}
        # What the shared generators of chance hold is known where it was put back, and no cell is left out since.
        chance = Chance(known=False)
        for run in plan.runs[: plan.since]:
            chance.known = False
            ran.append(await self._again(connection, run, recorded.get(run.execution_id, []), plan, doubtful, chance))
        touched = {name for run in plan.runs[: plan.since] for name in names(run.source).touches}
        if checkpoint is not None and plan.since:
            # To make one name again, others had to be made as they were before, and chance was drawn from.
            await self._checkpoints.restore(connection, checkpoint, touched & restored)
            doubtful = {name: why for name, why in doubtful.items() if name not in restored}
        chance.known = bool(restored)
        for run in plan.runs[plan.since :]:
            ran.append(await self._again(connection, run, recorded.get(run.execution_id, []), plan, doubtful, chance))
        await connection.learn_variables()
        there = {told["name"] for told in connection.last_variables}
        missing = [*failed, *_missing(plan, there, doubtful, ran)]
        lost = {told.name for told in missing}
        made = {name for name in plan.wanted if name in there}
        means: list[Means] = ["stored"] if checkpoint is not None and restored else []
        means += ["rerun"] if any(cell.verdict != "skipped" for cell in ran) else []
        return VariablesBack(
            means=means or ["none"],
            restored=sorted((restored | made) - lost),
            ran_again=ran,
            missing=missing,
            seconds=round(time.monotonic() - began, 4),
        )

    async def _again(
        self,
        connection: KernelConnection,
        run: Run,
        recorded: list[dict[str, object]],
        plan: Plan,
        doubtful: dict[str, str],
        chance: Chance,
    ) -> RanAgain:
        """Runs a cell again and compares; notes in `doubtful` the names that it may have made otherwise."""
        about = {"cell_id": run.cell_id, "turn": run.turn, "source": run.source}
        looked = names(run.source)
        if run.execution_id in plan.refused:
            why = plan.refused[run.execution_id]
            doubtful.update(dict.fromkeys(looked.touches, why))
            chance.known = False
            return RanAgain(**about, verdict="skipped", reason=why)
        try:
            held = await self._artifacts.fetch_all(references(recorded))
        except KeyError:
            held, recorded = {}, []  # Its record is gone: it will look different, and is named.
        whole = tuple(inline(recorded, held.__getitem__))
        outputs, ended = await run_whole(connection, run.source, self._kernels.folder, self._settings.cell_timeout_s)
        cell = Cell(CellId(run.cell_id), "code", run.source, whole, 1)
        found = await asyncio.to_thread(judge, 1, cell, outputs, ended.status, round(ended.duration_s * 1000))
        anew = chance.anew(await asyncio.to_thread(drawn, run.source), ended.status == "ok")
        _note(run.source, found, doubtful, anew)
        why = _why(found) or "".join(sorted({f"it draws from {source}" for source in anew.values()})[:1])
        return RanAgain(**about, verdict=found.verdict, reason=why, duration_ms=found.duration_ms)


@dataclass
class Chance:
    """Whether the generators of chance that a program shares are as they were when a cell ran first."""

    known: bool

    def anew(self, drawn: Drawn, whole: bool) -> dict[str, str]:
        """Names that a cell has made otherwise, and from what; `whole`: whether it ran to its end."""
        found = {name: source for name, source in drawn.names.items() if source != "shared" or not self.known}
        self.known = whole and (self.known or drawn.seeds)
        return {name: "chance" if source == "shared" else source for name, source in found.items()}


def _note(source: str, found: ReplayedCell, doubtful: dict[str, str], anew: Mapping[str, str]) -> None:
    """What a cell that came out otherwise made is in doubt; what came out the same is not any more."""
    looked, made = names(source), made_from(source, doubtful)
    for name in looked.touches:
        if found.verdict in ("different", "failed"):
            doubtful[name] = f"the cell that makes it {_verb(found)} when it ran again"
        elif name in looked.makes and name not in made:
            doubtful.pop(name, None)
    for name, root in made.items():
        doubtful.setdefault(name, f"it is made from {root}, and that could not be brought back as it was")
    for name, whence in anew.items():
        doubtful.setdefault(name, f"it was drawn from {whence} when its cell ran again")


def _verb(found: ReplayedCell) -> str:
    return f"failed ({found.reason})" if found.verdict == "failed" else "showed something else"


def _why(found: ReplayedCell) -> str:
    return found.reason or "; ".join(f"{d.about}: {d.text}" for d in found.differences)[:500]


def _missing(plan: Plan, there: Collection[str], doubtful: dict[str, str], ran: Sequence[RanAgain]) -> list[Skipped]:
    found = []
    for name, told in plan.wanted.items():
        if name in doubtful:
            found.append(Skipped(name=name, type=told.type, reason=doubtful[name]))
        elif name not in there and told.type:
            found.append(told)
    return found
