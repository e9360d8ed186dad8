"""Named checkpoints: points of a session that its user, or its agent, wants to find again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from cellwright.kernels.errors import KernelError
from cellwright.notebooks.document import SKIP_TAG, Cell
from cellwright.server import events as e
from cellwright.server.checkpoints import Checkpoints
from cellwright.server.domain import (
    FilesMoved,
    Frozen,
    Rewound,
    Session,
    SessionId,
    Skipped,
    VariablesBack,
    new_id,
)
from cellwright.server.errors import Invalid, NotFound
from cellwright.server.kernel_life import workspace_of
from cellwright.server.memory import Memory
from cellwright.server.notebook_files import content
from cellwright.server.revival import Again
from cellwright.server.rewind import Rewind, outside
from cellwright.server.store import postgres, queries
from cellwright.server.store.sessions import is_uuid
from cellwright.server.store.ways import Ways
from cellwright.server.workbench import Tools

SQL = queries.load("checkpoints")
Merge = Literal["replace", "merge", "selective"]
NO_KERNEL = -1
"""The incarnation of a checkpoint that was made without a kernel: it holds no variables of its own."""


class NamedCheckpoint(Frozen):
    """A point with a name: the turn behind which it stands, and what it holds."""

    id: str
    session_id: SessionId
    label: str
    turn: int
    revision: int
    variables: list[str]
    skipped: list[Skipped]
    size_bytes: int
    created_at: datetime


@dataclass(frozen=True)
class TakenBack:
    """What became of files and variables, what is not taken back, and what there is to say of it in the log."""

    files: FilesMoved
    variables: VariablesBack
    not_rewound: list[str]
    seconds: float
    events: list[e.Event]


class NamedCheckpoints:
    """Makes, lists and restores them."""

    def __init__(
        self, tools: Tools, checkpoints: Checkpoints, rewind: Rewind, ways: Ways, memory: Memory, pool: postgres.Pool
    ) -> None:
        self._t, self._checkpoints, self._rewind, self._ways = tools, checkpoints, rewind, ways
        self._memory, self._pool = memory, pool

    async def make(self, session: Session, label: str, by: str, generation: int) -> NamedCheckpoint:
        """Names the point where the session is; raises Busy, KernelUnreachable or StoreUnavailable."""
        async with self._rewind.exclusively(session.id):
            session = await self._rewind.kept(await self._t.rows.get(session.id), by, generation)
            created = await self.event(session, label)
            await self._t.log.append(session.id, [created], generation=generation)
        return (await self.find(created.checkpoint_id))[0]

    async def event(self, session: Session, label: str) -> e.CheckpointCreated:
        """What is to be appended so that the session's present point has a name."""
        connection = self._t.kernels.get(session.id)
        if connection is not None:
            try:
                saved = await self._checkpoints.save(
                    session, connection, "named", label=label, of_turn=session.head_turn_id
                )
            except KernelError:
                if connection.execution_state != "busy":
                    raise
            else:
                return saved
        return e.CheckpointCreated(
            of_turn=session.head_turn_id,
            checkpoint_id=new_id(),
            kind="named",
            label=label,
            incarnation=NO_KERNEL,
            kept=[],
            skipped=[],
            size_bytes=0,
            new_bytes=0,
            seconds=0.0,
            manifest={"sizes": {}},
        )

    async def within(self, session: Session, label: str) -> list[e.Event]:
        """What a turn has to say so that the point where it is has a name; raises KernelError or StoreUnavailable."""
        files = await self._rewind.points.files(session)
        return [*files, await self.event(session, label)]

    async def labelled(self, session: Session, label: str) -> Any:
        """The row of the last point of that name which leads to where the session is; raises NotFound."""
        async with postgres.acquired(self._pool) as connection:
            row = await connection.fetchrow(SQL.by_label, session.id, label)
            if row is None:
                known = [found["label"] for found in await connection.fetch(SQL.labels, session.id)]
                raise NotFound("checkpoint", f"{label}; there are: {', '.join(known) or 'none'}")
        return row

    async def files(self, session: Session) -> list[e.WorkspaceSaved]:
        """What a turn has to say of the files as they are, before it changes them."""
        return await self._rewind.points.files(session)

    async def take_back(self, session: Session, label: str) -> TakenBack:
        """Within a turn: variables and files as they were at a point, and the cells since then marked as taken back.

        The conversation stays: whoever tried something is to know that they did. Raises NotFound or KernelError.
        """
        began = time.monotonic()
        row = await self.labelled(session, label)
        way = await self._ways.at(row)
        files, back, told = await self._rewind.within(session, way)
        before = await self._t.cells.document(session.id, way.revision)
        cells = [cell for cell in await self._t.cells.document(session.id) if cell.kind == "code"]
        since = {cell.id for cell in cells if cell.id not in before and SKIP_TAG not in cell.tags}
        tried = [replace(cell.tagged(SKIP_TAG), metadata=_taken_back(cell)) for cell in cells if cell.id in since]
        folder = str(workspace_of(self._t.root, session).folder)
        reached = await asyncio.to_thread(outside, [(0, cell.source, cell.id in since) for cell in cells], folder)
        told = [
            event.model_copy(update={"back_to": row["seq"]}) if isinstance(event, e.KernelChanged) else event
            for event in told
        ]
        edits = [e.CellEdit(op="replace", cell_id=cell.id, cell=content(cell)) for cell in tried]
        events = [*told, *([e.CellsEdited(author="agent", edits=edits)] if edits else [])]
        return TakenBack(files, back, [reason for _, reason in reached], time.monotonic() - began, events)

    async def page(self, session: Session, limit: int, offset: int) -> tuple[list[NamedCheckpoint], int]:
        """A page of a session's, the newest first, and how many there are."""
        async with postgres.acquired(self._pool) as connection:
            rows = await connection.fetch(SQL.named, session.id, limit, offset)
            total = await connection.fetchval(SQL.count_named, session.id)
        return [_named(row) for row in rows], total

    async def find(self, checkpoint_id: str) -> tuple[NamedCheckpoint, Any]:
        """One by its id, and its row; raises NotFound."""
        row = None
        if is_uuid(checkpoint_id):
            async with postgres.acquired(self._pool) as connection:
                row = await connection.fetchrow(SQL.any_checkpoint, checkpoint_id)
        if row is None:
            raise NotFound("checkpoint", checkpoint_id)
        return _named(row), row

    async def restore(
        self,
        session: Session,
        checkpoint_id: str,
        merge: Merge,
        keys: Sequence[str],
        by: str,
        generation: int,
        again: Again = "safe",
        *,
        dry_run: bool = False,
    ) -> Rewound:
        """Goes back to a checkpoint; raises what a rewind does, or NotFound for a key.

        The session's facts are then those of that point (`replace`), or they are joined to what it knows now: all of
        them (`merge`), or these `keys` alone (`selective`).
        """
        _, row = await self.find(checkpoint_id)
        way = await self._ways.at(row)
        then, _ = await self._ways.context(way)
        for key in keys:
            if key not in then:
                raise NotFound("fact", key)
        if dry_run:
            return await self._rewind.preview(session, "restore", way, again, generation)
        before = dict((await self._t.rows.get(session.id)).context)
        rewound = await self._rewind.go(session, "restore", way, by, generation, again)
        if merge != "replace":
            taken = then if merge == "merge" else {key: then[key] for key in keys}
            await self._memory.change(session, {**before, **taken}, "replace", by)
        return rewound

    async def into(self, checkpoint_id: str, other: Session, merge: Merge, keys: Sequence[str], by: str) -> None:
        """Takes the facts of a checkpoint over into another session; raises NotFound for a key, or Invalid."""
        _, row = await self.find(checkpoint_id)
        then, _ = await self._ways.context(await self._ways.at(row))
        if merge == "selective":
            if not keys:
                raise Invalid("Say which keys are to be taken over.")
            for key in keys:
                if key not in then:
                    raise NotFound("fact", key)
            then = {key: then[key] for key in keys}
        await self._memory.change(other, then, "replace" if merge == "replace" else "merge", by)


def _taken_back(cell: Cell) -> dict[str, Any]:
    tagged = cell.tagged(SKIP_TAG).metadata
    return {**tagged, "cellwright": {**tagged.get("cellwright", {}), "taken_back": True}}


def _named(row: Any) -> NamedCheckpoint:
    told = row["variables"]
    return NamedCheckpoint(
        id=row["id"],
        session_id=row["session_id"],
        label=row["label"],
        turn=row["n"] or 0,
        revision=row["revision"],
        variables=told["kept"],
        skipped=told["skipped"],
        size_bytes=row["size_bytes"],
        created_at=row["created_at"],
    )
