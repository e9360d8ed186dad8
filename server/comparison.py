"""Two points beside each other, of one session or of two: turns, cells, outputs, files, variables, artifacts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cellwright.notebooks.differences import CellDifference, differences
from cellwright.notebooks.document import Document
from cellwright.server.domain import Frozen, Session, Variable
from cellwright.server.events import ArtifactReady, FileUploaded, KernelChanged, Record, VariablesChanged
from cellwright.server.notebook_files import NotebookFiles
from cellwright.server.snapshots import Snapshots
from cellwright.server.store.log import Log
from cellwright.server.store.ways import Way


class Named(Frozen):
    """Names that only one of two points has, and those that are not the same in both."""

    added: list[str] = []
    changed: list[str] = []
    deleted: list[str] = []


class Comparison(Frozen):
    """What a second point has otherwise than a first."""

    turns: Named
    cells: list[CellDifference]
    files: Named
    variables: Named
    artifacts: Named


class Comparisons:
    """Compares."""

    def __init__(self, log: Log, notebooks: NotebookFiles, snapshots: Snapshots) -> None:
        self._log, self._notebooks, self._snapshots = log, notebooks, snapshots

    async def between(self, one: tuple[Session, Way], other: tuple[Session, Way]) -> Comparison:
        """What `other` has otherwise than `one`."""
        before, after = await self._at(*one), await self._at(*other)
        cells = await asyncio.to_thread(differences, before.document, after.document)
        parts = {name: named(held, after.named[name]) for name, held in before.named.items()}
        return Comparison(cells=cells, **parts)

    async def _at(self, session: Session, way: Way) -> _Point:
        records = await self._log.on_way(session.id, way.line, way.ids)
        files = await self._snapshots.load(session.id, way.workspace_version)
        return _Point(
            await self._notebooks.document(session, way.revision),
            {
                "turns": {f"{turn.n}: {turn.query.splitlines()[0][:80]}": turn.query for turn in way.turns},
                "files": {file.name: file.sha256 for file in files.files.values()},
                "variables": _variables(records),
                "artifacts": _artifacts(records),
            },
        )


@dataclass(frozen=True)
class _Point:
    """What there is at a point: the notebook, and all else by name."""

    document: Document
    named: dict[str, Mapping[str, Any]]


def named(before: Mapping[str, Any], after: Mapping[str, Any]) -> Named:
    """Which names are new, other, or gone."""
    return Named(
        added=[name for name in after if name not in before],
        changed=[name for name in after if name in before and before[name] != after[name]],
        deleted=[name for name in before if name not in after],
    )


def _variables(records: list[Record]) -> dict[str, Variable]:
    """The variables at the end of these events, as the kernel told them: type, shape, size, and how they begin."""
    found: dict[str, Variable] = {}
    for record in records:
        match record.event:
            case KernelChanged(status="died" | "restarted"):
                found = {}
            case VariablesChanged(added=added, changed=changed, removed=removed):
                found |= {variable.name: variable for variable in (*added, *changed)}
                for name in removed:
                    found.pop(name, None)
    return dict(sorted(found.items()))


def _artifacts(records: list[Record]) -> dict[str, str]:
    made = [r.event.artifact for r in records if isinstance(r.event, ArtifactReady | FileUploaded)]
    return {artifact.name: artifact.sha256 for artifact in made}
