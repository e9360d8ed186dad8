"""Two points beside each other, of one session or of two: turns, cells, outputs, files, variables, artifacts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import structlog
from cellwright.kernels import injected
from cellwright.kernels.client import KernelConnection
from cellwright.kernels.errors import KernelError
from cellwright.notebooks.differences import CellDifference, differences
from cellwright.notebooks.document import Document
from cellwright.server.checkpoints import Checkpoint, Checkpoints
from cellwright.server.domain import Frozen, Session, SessionId, Variable, new_id
from cellwright.server.errors import CellwrightError
from cellwright.server.events import ArtifactReady, FileUploaded, KernelChanged, Record, VariablesChanged
from cellwright.server.kernel_life import workspace_of
from cellwright.server.snapshots import Snapshots
from cellwright.server.store.ways import Way, Ways, covers
from cellwright.server.workbench import Tools
from pydantic import Field

COMPARED_S = 120.0
TOLD_WHOLE = ("bool", "int", "float", "complex", "NoneType")
"""Types of values whose descriptions say all of them."""

Hows = Mapping[str, str | None]
"""How variables differ, by name: empty for those that hold the same, None for unknown."""

log = structlog.get_logger(__name__)


class Named(Frozen):
    """Names that only one of two points has, and those that are not the same in both."""

    added: list[str] = []
    changed: list[str] = []
    deleted: list[str] = []


class VariableDifference(Frozen):
    """A variable that is not the same at both points."""

    name: str
    what: Literal["added", "changed", "deleted"]
    before: str = Field("", description="Its type, shape and how it begins, at the first point")
    after: str = ""
    how: str = Field("", description="In what it differs, where the contents were compared")


class SettingDifference(Frozen):
    """Something other than a variable that cells changed: an option of a library, the search path, the environment."""

    name: str
    before: str = Field(description="How it was at the first point; of the environment, only whether there was a value")
    after: str


Settings = list[SettingDifference] | None


class Comparison(Frozen):
    """What a second point has otherwise than a first."""

    turns: Named
    cells: list[CellDifference]
    files: Named
    variables: list[VariableDifference]
    not_compared: list[str] = Field(
        [], description="Variables that look the same, and whose contents could not be compared"
    )
    settings: Settings = Field([], description="Settings that are not the same; null where they could not be compared")
    artifacts: Named


class Comparisons:
    """Compares. Variables by what they hold, where both points have them stored: in a kernel of its own."""

    def __init__(
        self,
        tools: Tools,
        snapshots: Snapshots,
        checkpoints: Checkpoints,
        ways: Ways,
    ) -> None:
        self._t, self._snapshots, self._checkpoints, self._ways = tools, snapshots, checkpoints, ways

    async def between(self, one: tuple[Session, Way], other: tuple[Session, Way]) -> Comparison:
        """What `other` has otherwise than `one`."""
        before, after = await self._at(*one), await self._at(*other)
        cells = await asyncio.to_thread(differences, before.document, after.document)
        parts = {name: named(held, after.named[name]) for name, held in before.named.items()}
        hows, settings = await self._contents(one, other)
        found, unsure = variables_apart(before.variables, after.variables, hows)
        return Comparison(cells=cells, variables=found, not_compared=unsure, settings=settings, **parts)

    async def _contents(self, one: tuple[Session, Way], other: tuple[Session, Way]) -> tuple[Hows, Settings]:
        """How variables differ that both points have stored, and settings."""
        if one[0].owner != other[0].owner:
            return {}, None  # What one user's objects do when they are loaded must not happen beside another's.
        points = [await self._stored(*point) for point in (one, other)]
        if points[0] is None or points[1] is None:
            return {}, None
        if points[0].id == points[1].id:
            return dict.fromkeys(points[0].kept, ""), []
        name = SessionId(new_id())
        workspace = workspace_of(self._t.root, one[0])
        try:
            await self._t.life.make_room(name)
            await asyncio.to_thread(workspace.make)
            kernel = await self._t.kernels.start(name, one[0].kernel_name, workspace.folder)
            await self._checkpoints.restore(kernel, points[0])
            both = sorted({*points[0].kept} & {*points[1].kept})
            await kernel.evaluate(injected.call("contrast", f"set_aside({both!r})"), COMPARED_S)
            await kernel.evaluate(injected.call("surroundings", "set_aside()"), COMPARED_S)
            await self._checkpoints.restore(kernel, points[1])
            hows = dict(await kernel.evaluate(injected.call("contrast", "told()"), COMPARED_S))
            return hows, await self._settings(kernel)
        except (KernelError, CellwrightError) as error:
            log.info("variables_not_compared", session_id=one[0].id, error=str(error))
            return {}, None
        finally:
            await asyncio.shield(self._t.kernels.end(name))

    async def _settings(self, kernel: KernelConnection) -> Settings:
        try:
            told = await kernel.evaluate(injected.call("surroundings", "told()"), COMPARED_S)
        except KernelError as error:
            log.info("settings_not_compared", error=str(error))
            return None
        return [SettingDifference(**setting) for setting in told]

    async def _stored(self, session: Session, way: Way) -> Checkpoint | None:
        """The variables that were stored at just that point."""
        found = await self._ways.checkpoints(way, await self._ways.lives(way))
        if not found or found[0][1] != way.n:
            return None
        row, _ = found[0]
        point = self._checkpoints.of_row(row)
        # Some are of what the user did by themselves after the turn.
        return point if point.kind in ("turn", "named") or covers(way.line, row["seq"]) else None

    async def _at(self, session: Session, way: Way) -> _Point:
        records = await self._t.log.on_way(session.id, way.line, way.ids)
        files = await self._snapshots.load(session.id, way.workspace_version)
        return _Point(
            await self._t.notebooks.document(session, way.revision),
            {
                "turns": {f"{turn.n}: {turn.query.splitlines()[0][:80]}": turn.query for turn in way.turns},
                "files": {file.name: file.sha256 for file in files.files.values()},
                "artifacts": _artifacts(records),
            },
            _variables(records),
        )


@dataclass(frozen=True)
class _Point:
    """What there is at a point: the notebook, and all else by name."""

    document: Document
    named: dict[str, Mapping[str, Any]]
    variables: Mapping[str, Variable]


def variables_apart(
    before: Mapping[str, Variable], after: Mapping[str, Variable], hows: Hows
) -> tuple[list[VariableDifference], list[str]]:
    """Variables that are not the same, and names of those that seem to be; `hows` tells of contents, by name."""
    found, unsure = [], []
    for name in sorted({*before, *after}):
        texts = {side: _brief(held[name]) for side, held in (("before", before), ("after", after)) if name in held}
        how = hows.get(name)
        if len(texts) == 1:
            what: Literal["added", "deleted"] = "added" if name in after else "deleted"
            found.append(VariableDifference(name=name, what=what, **texts))
        elif how or (how is None and before[name] != after[name]):
            found.append(VariableDifference(name=name, what="changed", how=how or "", **texts))
        elif how is None and before[name].type not in TOLD_WHOLE:
            unsure.append(name)
    return found, unsure


def _brief(variable: Variable) -> str:
    shape = f" ({', '.join(map(str, variable.shape))})" if variable.shape else ""
    return f"{variable.type}{shape} {variable.preview}".strip()


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
