"""What a replay found: a notebook's cells as they ran in a fresh kernel, beside what is recorded of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from cellwright.notebooks.compare import ERROR, Difference, compare, worst
from cellwright.notebooks.document import SKIP_TAG, Cell, Output
from pydantic import BaseModel, ConfigDict, Field

RAISES_TAG = "raises-exception"
"""Says, of a cell, that it may fail: Jupyter's own tag."""

Verdict = Literal["same", "tolerance", "different", "failed", "skipped"]
VERDICTS: tuple[Verdict, ...] = ("same", "tolerance", "different", "failed", "skipped")
WORDS: dict[Verdict, str] = {
    "same": "same",
    "tolerance": "same within tolerance",
    "different": "different",
    "failed": "failed",
    "skipped": "skipped",
}


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True)


class ReplayedCell(_Told):
    """One code cell's verdict. `recorded` and `now` hold the outputs where they are not the same."""

    number: int = Field(description="Its place among all cells, from 1")
    cell_id: str
    source: str
    verdict: Verdict
    reason: str = Field("", description="Why it was skipped or failed")
    differences: list[Difference] = []
    duration_ms: int = 0
    recorded: list[dict[str, Any]] = []
    now: list[dict[str, Any]] = []


class ReplayedInput(_Told):
    """A file that the notebook was made with."""

    name: str
    status: Literal["same", "changed", "missing"]


class ReplayedPackage(_Told):
    """A package whose version is another now; null: not installed."""

    name: str
    recorded: str | None
    now: str | None


class Replay(_Told):
    """A replay's whole report."""

    title: str
    kernel: str
    python: str = Field(description="Version of the Python that it ran on")
    started_at: datetime
    duration_s: float
    cells: list[ReplayedCell]
    inputs: list[ReplayedInput] = Field([], description="Those that its provenance names")
    packages: list[ReplayedPackage] = Field([], description="Those that have another version now")
    verdict: Verdict = Field(
        description="The worst of the cells': failed, different, tolerance or same; skipped where none ran"
    )
    counts: dict[Verdict, int]

    @property
    def proven(self) -> bool:
        """Whether the notebook came out as it is recorded, or nearly."""
        return self.verdict in ("same", "tolerance")


def judge(number: int, cell: Cell, now: Sequence[Output], status: str, duration_ms: int) -> ReplayedCell:
    """A cell that ran, and ended with `status`; outputs must be whole on both sides."""
    recorded = list(cell.outputs)
    differences = list(compare(recorded, now))
    expected = RAISES_TAG in cell.tags or any(output["output_type"] == "error" for output in recorded)
    likeness = worst(difference.likeness for difference in differences)
    verdict: Verdict = likeness
    reason = ""
    if status != "ok" and not (status == "error" and expected):
        verdict = "failed"
        reason = next((f"{o['ename']}: {o['evalue']}" for o in now if o["output_type"] == "error"), status)
        if status == "timeout":
            reason = f"it ran into the time limit for cells, after {duration_ms / 1000:.0f} s"
        differences = [found for found in differences if found.about != ERROR]
    elif likeness == "different" and not recorded and cell.execution_count is None:
        reason = "nothing is recorded for this cell"
    return ReplayedCell(
        number=number,
        cell_id=cell.id,
        source=cell.source,
        verdict=verdict,
        reason=reason,
        differences=differences,
        duration_ms=duration_ms,
        recorded=recorded if differences else [],
        now=list(now),
    )


def skipped(number: int, cell: Cell, reason: str) -> ReplayedCell:
    """A cell that was not run."""
    return ReplayedCell(number=number, cell_id=cell.id, source=cell.source, verdict="skipped", reason=reason)


def is_skipped(cell: Cell) -> bool:
    """Whether the notebook itself says that a cell is not to be run."""
    return SKIP_TAG in cell.tags


def counted(cells: Sequence[ReplayedCell]) -> tuple[Verdict, dict[Verdict, int]]:
    """The verdict over all cells, and how many there are of each."""
    counts = {verdict: sum(cell.verdict == verdict for cell in cells) for verdict in VERDICTS}
    order: tuple[Verdict, ...] = ("failed", "different", "tolerance")
    ran = len(cells) > counts["skipped"]
    return next((verdict for verdict in order if counts[verdict]), "same" if ran else "skipped"), counts


def told(report: Replay) -> str:
    """The report in a sentence."""
    parts = [f"{number} {WORDS[verdict]}" for verdict, number in report.counts.items() if number]
    return f"{len(report.cells)} code cells: {', '.join(parts)}." if parts else "There are no code cells."
