"""Edits, differences and the three-way merge."""

from __future__ import annotations

import random

import pytest
from cellwright.notebooks.document import Cell, CellId, Document
from cellwright.notebooks.edits import CONFLICT_TAG, Delete, Insert, Move, Replace, apply, difference, merge
from cellwright.notebooks.errors import EditConflict, UnknownCell


def cell(name: str, source: str = "", outputs: tuple[dict, ...] = ()) -> Cell:
    return Cell(CellId(name), "code", source or name, outputs)


def doc(*cells: Cell | str) -> Document:
    return Document(tuple(c if isinstance(c, Cell) else cell(c) for c in cells))


def ids(document: Document) -> str:
    return "".join(c.id for c in document)


def random_document(rng: random.Random, base: Document) -> Document:
    cells = list(base.cells)
    for number in range(rng.randrange(6)):
        match rng.randrange(4):
            case 0 if cells:
                del cells[rng.randrange(len(cells))]
            case 1 if cells:
                place = rng.randrange(len(cells))
                cells[place] = cell(cells[place].id, f"changed {rng.random()}")
            case 2 if cells:
                cells.insert(rng.randrange(len(cells)), cells.pop(rng.randrange(len(cells))))
            case _:
                cells.insert(rng.randrange(len(cells) + 1), cell(f"n{number}{rng.randrange(10**6)}"))
    return Document(tuple(cells))


def test_difference_is_what_apply_needs() -> None:
    """Applying the difference of two documents to the first gives the second."""
    rng = random.Random(1)
    for _ in range(500):
        before = random_document(rng, doc(*"abcdef"))
        after = random_document(rng, before)
        assert apply(before, difference(before, after)) == after


def test_merge_with_one_side_unchanged_is_the_other_side() -> None:
    """A merge takes everything from the side that changed."""
    rng = random.Random(2)
    for _ in range(300):
        base = doc(*"abcde")
        changed = random_document(rng, base)
        assert merge(base, base, changed) == changed
        assert ids(merge(base, changed, base)) == ids(changed)


def test_merge_never_loses_what_the_user_typed() -> None:
    """Every source that the user changed or added stands in the merged document."""
    rng = random.Random(3)
    for _ in range(500):
        base = doc(*"abcdef")
        ours, theirs = random_document(rng, base), random_document(rng, base)
        merged = merge(base, ours, theirs)
        sources = {c.source for c in merged}
        known = {c.source for c in base}
        assert {c.source for c in theirs} - known <= sources
        assert {c.source for c in ours} - known <= sources
        assert len({c.id for c in merged}) == len(merged)


def test_a_conflict_keeps_both() -> None:
    """Where both sides changed one cell, the user's stays in place and ours follows it, tagged."""
    merged = merge(doc("a", "b"), doc(cell("a", "ours"), "b"), doc(cell("a", "theirs"), "b"))
    assert [c.source for c in merged] == ["theirs", "ours", "b"]
    assert merged.cells[1].tags == (CONFLICT_TAG,)


def test_a_stale_save_takes_nothing_away() -> None:
    """Cells that the server added since stay, though the saved file does not have them."""
    assert ids(merge(doc("a"), doc("a", "b", "c"), doc("a", "u"))) == "aubc"


def test_outputs_of_the_log_win_over_a_tab_that_has_none() -> None:
    """A cell that ran keeps its outputs when a tab saves the same source without them."""
    shown = ({"output_type": "stream", "name": "stdout", "text": "1"},)
    merged = merge(doc(), doc(cell("a", "x", shown)), doc(cell("a", "x")))
    assert merged.cells[0].outputs == shown


def test_an_edit_of_a_changed_cell_is_refused() -> None:
    """An edit names what it replaces; where that changed, nothing is changed."""
    document = doc("a", "b")
    with pytest.raises(EditConflict):
        apply(document, [Delete(CellId("b")), Replace(cell("a", "x"), expected_hash="0" * 64)])
    edited = apply(document, [Replace(cell("a", "x"), expected_hash=document["a"].source_hash)])
    assert edited["a"].source == "x"


def test_single_edits() -> None:
    """Insert, move and delete do what they say; an unknown cell is an error."""
    document = doc(*"abc")
    assert ids(apply(document, [Insert(cell("x"), None), Insert(cell("y"), CellId("b"))])) == "xabyc"
    assert ids(apply(document, [Move(CellId("a"), CellId("c")), Delete(CellId("b"))])) == "ca"
    with pytest.raises(UnknownCell):
        apply(document, [Delete(CellId("z"))])
