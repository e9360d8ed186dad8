"""Two notebooks beside each other, by cell id: what was added, taken out, changed, and in what."""

from __future__ import annotations

import difflib
from typing import Literal

from cellwright.notebooks.compare import Difference, compare
from cellwright.notebooks.document import Cell, Document
from cellwright.notebooks.edits import changed
from pydantic import BaseModel, ConfigDict, Field

DIFF_LINES = 200


class CellDifference(BaseModel):
    """One cell that is not the same in both."""

    model_config = ConfigDict(frozen=True)

    cell_id: str
    kind: str
    what: Literal["added", "deleted", "changed", "moved"]
    source: str = Field(description="Of the later one, or of the one that is gone")
    source_diff: str = Field("", description="A unified diff of the sources, where both have the cell")
    outputs: list[Difference] = []


def differences(before: Document, after: Document) -> list[CellDifference]:
    """What differs, in the order of `after`, what is gone last. Outputs must be whole on both sides."""
    kinds = changed(before, after)
    found = []
    for cell in after:
        if cell.id in kinds["added"]:
            found.append(CellDifference(cell_id=cell.id, kind=cell.kind, what="added", source=cell.source))
        elif cell.id in kinds["changed"]:
            found.append(_changed(before[cell.id], cell))
        elif cell.id in kinds["moved"]:
            found.append(CellDifference(cell_id=cell.id, kind=cell.kind, what="moved", source=cell.source))
    for cell_id in kinds["deleted"]:
        gone = before[cell_id]
        found.append(CellDifference(cell_id=cell_id, kind=gone.kind, what="deleted", source=gone.source))
    return found


def _changed(before: Cell, after: Cell) -> CellDifference:
    lines = difflib.unified_diff(before.source.split("\n"), after.source.split("\n"), lineterm="", n=2)
    outputs = compare(before.outputs, after.outputs) if after.kind == "code" else ()
    return CellDifference(
        cell_id=after.id,
        kind=after.kind,
        what="changed",
        source=after.source,
        source_diff="\n".join(list(lines)[2 : DIFF_LINES + 2]),
        outputs=list(outputs),
    )
