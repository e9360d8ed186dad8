"""Changes to a document: single edits guarded by what they expect, and a three-way merge by cell id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from cellwright.notebooks.document import Cell, CellId, Document
from cellwright.notebooks.errors import EditConflict

CONFLICT_TAG = "cellwright-kept"


@dataclass(frozen=True)
class Insert:
    """Puts `cell` behind the cell `after`, or first when `after` is None."""

    cell: Cell
    after: CellId | None


@dataclass(frozen=True)
class Replace:
    """Puts `cell` in the place of the one with its id, if that one's source still has `expected_hash`."""

    cell: Cell
    expected_hash: str | None = None


@dataclass(frozen=True)
class Delete:
    """Takes a cell out, if its source still has `expected_hash`."""

    cell_id: CellId
    expected_hash: str | None = None


@dataclass(frozen=True)
class Move:
    """Puts a cell behind another, or first."""

    cell_id: CellId
    after: CellId | None


Edit = Insert | Replace | Delete | Move


def apply(document: Document, edits: Iterable[Edit]) -> Document:
    """The document after `edits`, in order; raises UnknownCell or EditConflict and then changes nothing."""
    cells = list(document.cells)

    def at(cell_id: str) -> int:
        return Document(tuple(cells)).index(cell_id)

    def guard(cell: Cell, expected: str | None) -> None:
        if expected is not None and cell.source_hash != expected:
            raise EditConflict(cell.id, expected, cell.source_hash)

    for edit in edits:
        match edit:
            case Insert(cell, after):
                cells.insert(0 if after is None else at(after) + 1, cell)
            case Replace(cell, expected):
                place = at(cell.id)
                guard(cells[place], expected)
                cells[place] = cell
            case Delete(cell_id, expected):
                place = at(cell_id)
                guard(cells[place], expected)
                del cells[place]
            case Move(cell_id, after):
                moved = cells.pop(at(cell_id))
                cells.insert(0 if after is None else at(after) + 1, moved)
    return replace(document, cells=tuple(cells))


def difference(before: Document, after: Document) -> list[Edit]:
    """Edits that turn `before` into `after`: `apply(before, difference(before, after)) == after`."""
    edits: list[Edit] = []
    kept = {cell.id for cell in after}
    edits += [Delete(cell.id) for cell in before if cell.id not in kept]
    order = [cell.id for cell in before if cell.id in kept]
    old = {cell.id: cell for cell in before}
    previous: CellId | None = None
    place = 0
    for cell in after:
        if cell.id not in old:
            edits.append(Insert(cell, previous))
        else:
            if order[place] == cell.id:
                place += 1
            else:
                edits.append(Move(cell.id, previous))
                order.remove(cell.id)
                order.insert(place, cell.id)
                place += 1
            if old[cell.id] != cell:
                edits.append(Replace(cell))
        previous = cell.id
    return edits


def merge(base: Document, ours: Document, theirs: Document) -> Document:
    """Joins two changes of `base` by cell id; what `theirs` (the user) typed is never lost.

    Where both changed one cell's source differently, the user's stays in place and ours follows it
    as a cell of its own, tagged `cellwright-kept`. A cell that one side deleted and the other changed stays.
    """
    was, mine, their = ({cell.id: cell for cell in doc} for doc in (base, ours, theirs))
    joined: dict[CellId, list[Cell]] = {}
    for cell_id in {**mine, **their}:
        cells = _merge_cell(was.get(cell_id), mine.get(cell_id), their.get(cell_id))
        if cells:
            joined[cell_id] = cells
    order = _merge_order(
        [c.id for c in base], [c.id for c in ours if c.id in joined], [c.id for c in theirs if c.id in joined]
    )
    metadata = dict(ours.metadata)
    for key, value in theirs.metadata.items():
        if base.metadata.get(key) != value:
            metadata[key] = value
    return Document(tuple(cell for cell_id in order for cell in joined[cell_id]), metadata)


def _merge_cell(was: Cell | None, ours: Cell | None, theirs: Cell | None) -> list[Cell]:
    if ours is None and theirs is None:
        return []
    if ours is None or theirs is None:
        left = ours or theirs
        assert left is not None
        # One side lacks it: new on the other side, or deleted here. A deletion wins only over no change.
        return [] if was is not None and left.content_hash == was.content_hash else [left]
    if was is not None and theirs.content_hash == was.content_hash:
        if theirs.metadata != was.metadata and ours.content_hash == was.content_hash:
            return [replace(ours, metadata=theirs.metadata)]
        return [ours]
    if was is not None and ours.content_hash == was.content_hash:
        return [theirs]
    if ours.source == theirs.source:
        # The same source ran or was edited on both sides: the log's outputs are the complete ones.
        return [ours if ours.outputs else theirs]
    if was is not None and ours.source == was.source:
        return [theirs]
    if was is not None and theirs.source == was.source:
        return [ours]
    kept = replace(ours, id=CellId(f"{ours.id[:48]}-kept-{ours.source_hash[:8]}")).tagged(CONFLICT_TAG)
    return [theirs, kept]


def _merge_order(base: Sequence[CellId], ours: Sequence[CellId], theirs: Sequence[CellId]) -> list[CellId]:
    """Ours, in the user's order where the user moved cells, with the user's additions behind their neighbours."""
    common = set(ours) & set(theirs)
    known = [c for c in base if c in common]
    their_order = [c for c in theirs if c in common]
    moved = [c for c in their_order if c in set(known)] != known
    order = _reordered(ours, their_order) if moved else list(ours)
    present = set(order)
    previous: CellId | None = None
    for cell_id in theirs:
        if cell_id not in present:
            order.insert(order.index(previous) + 1 if previous is not None else 0, cell_id)
            present.add(cell_id)
        previous = cell_id
    return order


def _reordered(ours: Sequence[CellId], wanted: Sequence[CellId]) -> list[CellId]:
    """`ours` with its cells that are in `wanted` in that order; each of the others follows its neighbour."""
    inside = set(wanted)
    followers: dict[CellId | None, list[CellId]] = {}
    leader: CellId | None = None
    for cell_id in ours:
        if cell_id in inside:
            leader = cell_id
        else:
            followers.setdefault(leader, []).append(cell_id)
    order = list(followers.get(None, []))
    for cell_id in wanted:
        order += [cell_id, *followers.get(cell_id, [])]
    return order


def changed(before: Document, after: Document) -> Mapping[str, list[CellId]]:
    """Ids by what happened to them between two documents: added, changed, deleted, moved."""
    old = {cell.id: cell for cell in before}
    now = {cell.id for cell in after}
    moved = [e.cell_id for e in difference(before, after) if isinstance(e, Move)]
    return {
        "added": [c.id for c in after if c.id not in old],
        "changed": [c.id for c in after if c.id in old and old[c.id].content_hash != c.content_hash],
        "deleted": [c.id for c in before if c.id not in now],
        "moved": moved,
    }
