"""A notebook as an immutable value: cells in order, each named by its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NewType

from cellwright.notebooks.errors import UnknownCell

CellId = NewType("CellId", str)
Version = NewType("Version", str)
Kind = Literal["code", "markdown", "raw"]
Output = dict[str, Any]

SKIP_TAG = "skip-execution"


def digest(value: Any) -> str:
    """The sha256, in hex, of `value` as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Cell:
    """One nbformat 4.5 cell."""

    id: CellId
    kind: Kind
    source: str
    outputs: tuple[Output, ...] = ()
    execution_count: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def version(self) -> Version:
        """Names all that the cell holds, its place apart."""
        held = [self.kind, self.source, list(self.outputs), self.execution_count, dict(self.metadata)]
        return Version(digest(held))

    @property
    def content_hash(self) -> str:
        """Names kind, source and outputs: what stays equal when a front end rewrites metadata."""
        return digest([self.kind, self.source, list(self.outputs)])

    @property
    def source_hash(self) -> str:
        """Names the source alone: what an edit expects to replace."""
        return digest(self.source)

    @property
    def tags(self) -> tuple[str, ...]:
        return tuple(self.metadata.get("tags", ()))

    def tagged(self, tag: str) -> Cell:
        """The same cell with `tag` among its tags."""
        if tag in self.tags:
            return self
        return replace(self, metadata={**self.metadata, "tags": [*self.tags, tag]})

    def untagged(self, tag: str) -> Cell:
        """The same cell without `tag`."""
        if tag not in self.tags:
            return self
        rest = {k: v for k, v in self.metadata.items() if k != "tags"}
        left = [t for t in self.tags if t != tag]
        return replace(self, metadata={**rest, "tags": left} if left else rest)


@dataclass(frozen=True)
class Document:
    """Cells in order, and the notebook's own metadata."""

    cells: tuple[Cell, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Cell]:
        return iter(self.cells)

    def __len__(self) -> int:
        return len(self.cells)

    def __contains__(self, cell_id: object) -> bool:
        return any(cell.id == cell_id for cell in self.cells)

    def __getitem__(self, cell_id: str) -> Cell:
        """The cell with that id; raises UnknownCell."""
        return self.cells[self.index(cell_id)]

    @property
    def language(self) -> str:
        """What its code cells are written in, as its metadata says; Python where that says nothing."""
        told = [self.metadata.get("kernelspec"), self.metadata.get("language_info")]
        spec, info = (part if isinstance(part, Mapping) else {} for part in told)
        return str(spec.get("language") or info.get("name") or "python").lower()

    def index(self, cell_id: str) -> int:
        """The place of a cell, from 0; raises UnknownCell."""
        for i, cell in enumerate(self.cells):
            if cell.id == cell_id:
                return i
        raise UnknownCell(cell_id)
