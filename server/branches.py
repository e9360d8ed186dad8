"""Branches: sessions that begin with what another had at some point, and go on by themselves."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import shutil
from collections.abc import Sequence
from typing import Any

from cellwright.server import events as e
from cellwright.server.artifacts import slug
from cellwright.server.checkpoints import Checkpoints
from cellwright.server.domain import Artifact, LeftOut, Session, SessionId, Usage, new_id
from cellwright.server.errors import Conflict, Invalid, NotFound
from cellwright.server.kernel_life import workspace_of
from cellwright.server.rewind import Rewind
from cellwright.server.sessions import FOLDER
from cellwright.server.snapshots import EMPTY, Snapshots
from cellwright.server.store import postgres, queries
from cellwright.server.store.ways import Way, Ways, covers
from cellwright.server.workbench import Tools
from cellwright.server.workspace import Workspace

SQL, ARTIFACTS, POINTS = queries.load("sessions"), queries.load("artifacts"), queries.load("checkpoints")
LEFT_OUT = (
    *("session.created", "session.changed", "title.changed", "session.shared", "session.branched"),
    *("head.moving", "head.stayed", "head.moved"),
    *("kernel.changed", "checkpoint.created", "notebook.saved", "notebook.failed", "usage"),
)
"""What is about the parent alone."""

UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
BRANCH = re.compile(r" \(branch(?: \d+)?\)$")
GONE = -1
"""The incarnation of cells whose variables were lost in the parent: a branch cannot bring them back either."""


class Branches:
    """Makes them. Parent and branch share what is stored, and change independently."""

    def __init__(
        self, tools: Tools, checkpoints: Checkpoints, snapshots: Snapshots, rewind: Rewind, ways: Ways,
        pool: postgres.Pool,
    ) -> None:  # fmt: skip
        self._t, self._checkpoints, self._snapshots = tools, checkpoints, snapshots
        self._rewind, self._ways, self._pool = rewind, ways, pool

    async def make(
        self,
        session: Session,
        owner: str,
        by: str,
        generation: int,
        *,
        from_turn: int | str | None = None,
        title: str | None = None,
        key: str | None = None,
    ) -> Session:
        """A new session with all that there was after a turn, or that there is now; its kernel starts when it is used.

        Raises NotFound, Busy, or Conflict for a key in use.
        """
        async with self._rewind.exclusively(session.id):
            session = await self._rewind.kept(await self._t.rows.get(session.id), by, generation)
            way = await self._way(session, from_turn, generation)
            return await self._made(session, way, owner, by, title, key)

    async def _way(self, session: Session, from_turn: int | str | None, generation: int) -> Way:
        if from_turn is not None and str(from_turn) != "0":
            turn = await self._rewind.turn(session, from_turn)
            if turn.id != session.head_turn_id:
                return await self._ways.to(session.id, turn.id)
            from_turn = None
        if from_turn is None:
            if session.head_turn_id is not None:
                await self._see_variables(session, generation)
            return await self._ways.now(session)
        way = await self._ways.to(session.id, session.head_turn_id)
        return await self._ways.before(session.id, way.ids[0]) if way.turns else await self._ways.now(session)

    async def _see_variables(self, session: Session, generation: int) -> None:
        """Stores the variables as they are now, where not all were after the turn: they were too many for that."""
        connection = self._t.kernels.get(session.id)
        assert session.head_turn_id is not None
        async with postgres.acquired(self._pool) as database:
            known = await database.fetch(POINTS.of_turns, [session.head_turn_id], session.kernel_incarnation, None, [])
        whole = any(not row["variables"]["manifest"].get("partial") for row in known)
        if connection is not None and not whole:
            turn_id = session.head_turn_id
            saved = await self._checkpoints.save(session, connection, "turn", of_turn=turn_id)
            await self._t.log.append(session.id, [saved], generation=generation)

    async def _made(
        self, parent: Session, way: Way, owner: str, by: str, title: str | None, key: str | None
    ) -> Session:
        child = SessionId(new_id())
        title = title or await self._named(parent, owner)
        name = slug(title, 32)
        workspace = f"{FOLDER}/{name}-{child[:6]}"
        notebook_path = f"{workspace}/{name}.ipynb"
        past = await self._past(parent, child, way)
        there = Workspace(self._t.root / workspace, f"{name}.ipynb")
        try:
            # Its files first: a branch that is there has them.
            files = await self._snapshots.load(parent.id, way.workspace_version)
            moves = self._snapshots.moves(parent, there, EMPTY, files)
            moved = await self._snapshots.put_back(there, moves, files)
            beside = await asyncio.to_thread(self._beside, parent, there, await self._ways.sources(way))
            fields = (child, owner, key, title, "user", parent.agent, parent.model, parent.kernel_name)
            places = (notebook_path, workspace, parent.metadata, parent.preferences)
            await self._commit(parent, way, by, past, (*fields, *places))
        except BaseException:
            await asyncio.to_thread(shutil.rmtree, there.folder, ignore_errors=True)
            raise
        if moved.left or beside:
            without = [
                e.ArtifactFailed(name=left.name, reason=f"not in the branch: {left.reason}")
                for left in (*moved.left, *beside)
            ]
            await self._t.log.append(child, without)
        session = await self._t.rows.get(child)
        await self._t.notebooks.save(session)
        return await self._t.rows.get(child)

    async def _named(self, parent: Session, owner: str) -> str:
        """A title that none of the owner's branches has, without a word more for each generation."""
        async with postgres.acquired(self._pool) as database:
            known = {row["title"] for row in await database.fetch(SQL.titles_of_branches, owner)}
        stem = BRANCH.sub("", parent.title)[:180]
        numbered = (f"{stem} (branch {number})" for number in itertools.count(2))
        return next(title for title in itertools.chain([f"{stem} (branch)"], numbered) if title not in known)

    def _beside(self, parent: Session, there: Workspace, ran: Sequence[tuple[int, str]]) -> list[LeftOut]:
        """A folder that was there before the session is no snapshot's: what its cells name comes along as it is now.

        Names what is too large. Blocking.
        """
        if parent.workspace.startswith(f"{FOLDER}/"):
            return []
        left = []
        folder = workspace_of(self._t.root, parent)
        for file in folder.files():
            named = re.compile(rf"[\"'/]{re.escape(os.path.basename(file.name))}[\"']")
            if os.path.lexists(there.folder / file.name) or not any(named.search(source) for _, source in ran):
                continue
            if file.size_bytes > self._t.settings.snapshot_file_bytes:
                reason = f"larger than {self._t.settings.snapshot_file_bytes:,} bytes"
                left.append(LeftOut(name=file.name, size_bytes=file.size_bytes, reason=reason))
                continue
            try:
                found = folder.open(file.name)
                if found is not None:
                    with found, there.inside(file.name).open("xb") as made:
                        shutil.copyfileobj(found, made)
            except (Invalid, OSError) as error:
                left.append(LeftOut(name=file.name, size_bytes=file.size_bytes, reason=str(error)))
        return left

    async def _commit(
        self, parent: Session, way: Way, by: str, past: list[tuple[Any, e.Event]], fields: tuple[Any, ...]
    ) -> None:
        child, _, key, title, *_, notebook_path, workspace, _, _ = fields
        async with self._t.log.transaction(child) as connection:
            # What both refer to stays as long as the parent's row does.
            if await connection.fetchrow(SQL.lock_session, parent.id) is None:
                raise NotFound("session", parent.id)
            if await connection.fetchval(SQL.insert_session, *fields) is None:
                raise Conflict(f"There is a session with the key {key!r} already.")
            created = e.SessionCreated(
                title=title, agent=parent.agent, workspace=workspace, notebook_path=notebook_path
            )
            origin = e.SessionBranched(direction="from", session_id=parent.id, turn=way.n, by=by)
            await self._t.log.append(child, [created, origin], within=connection)
            for _, event in past:
                if isinstance(event, e.ArtifactReady | e.FileUploaded):
                    await self._insert(connection, event.artifact)
            await self._t.log.append_past(child, past, connection)
            await connection.execute(SQL.set_parent, child, parent.id, way.n)
            branched = e.SessionBranched(direction="to", session_id=child, turn=way.n, by=by)
            await self._t.log.append(parent.id, [branched], within=connection)

    async def _past(self, parent: Session, child: SessionId, way: Way) -> list[tuple[Any, e.Event]]:
        """The parent's events up to the point, as the branch's own, with the variables that are stored on the way."""
        lives = await self._ways.lives(way)
        records = [
            record
            for record in await self._t.log.on_way(parent.id, way.line, way.ids)
            if record.event.type not in LEFT_OUT and not _of_rewind(record.event)
        ]
        async with postgres.acquired(self._pool) as database:
            rows = await database.fetch(
                POINTS.of_turns, way.ids, lives.first, parent.id, [list(part) for part in way.line]
            )
            there = {row["id"] for row in await database.fetch(ARTIFACTS.ready_ids, parent.id)}
        records = [record for record in records if _artifact(record.event) in (None, *there)]
        events: list[tuple[Any, e.Event]] = [(record.at, _inherited(record.event, lives.first)) for record in records]
        if way.turn is not None and not covers(way.line, (way.turn.line or [(0, 0)])[-1][1]):
            # The session was taken back into the middle of its last turn: with that, the turn ends here.
            events.append((records[-1].at, e.TurnStopped(turn_id=way.turn.id, cause="it was taken back to here")))
        whole = [row for row in rows if lives.whole(row["metadata"]["incarnation"])]
        events += [(row["created_at"], _stored(row)) for row in whole]
        return await asyncio.to_thread(_renamed, events, parent.id, child)

    async def _insert(self, connection: postgres.Connection, artifact: Artifact) -> None:
        await connection.execute(
            ARTIFACTS.insert_artifact,
            *(artifact.id, artifact.session_id, artifact.turn_id, artifact.message_id, artifact.cell_id),
            *(artifact.name, artifact.file_type, artifact.kind, artifact.mime_type, artifact.description),
            *(artifact.tags, list(artifact.parents), artifact.derived_from, artifact.created_by),
            *(artifact.metadata, artifact.expires_at),
        )
        await connection.execute(ARTIFACTS.set_created, artifact.id, artifact.created_at)


def _artifact(event: e.Event) -> str | None:
    """The artifact that an event brought, if it did."""
    return event.artifact.id if isinstance(event, e.ArtifactReady | e.FileUploaded) else None


def _of_rewind(event: e.Event) -> bool:
    """Whether an event only repeats what the way holds anyway: the cells that a head's move put back."""
    return isinstance(event, e.CellsEdited) and event.turn_id is None and event.author == "cellwright"


def _inherited(event: e.Event, floor: int) -> e.Event:
    """An event as a branch has it: paid for in the parent, and of a kernel before its first."""
    match event:
        case e.MessageCompleted():
            return event.model_copy(update={"usage": Usage()})
        case e.CellStarted(kernel_incarnation=incarnation):
            return event.model_copy(
                update={"kernel_id": None, "kernel_incarnation": 0 if incarnation >= floor else GONE}
            )
    return event


def _stored(row: Any) -> e.CheckpointCreated:
    """A checkpoint of the parent's as the branch's: a working directory that is not told for others is the parent's."""
    told = row["variables"]
    cwd = told["manifest"]["cwd"]
    return e.CheckpointCreated(
        of_turn=row["turn_id"],
        checkpoint_id=str(row["id"]),
        kind="turn",
        label=None,
        incarnation=0,
        kept=told["kept"],
        skipped=told["skipped"],
        size_bytes=row["size_bytes"],
        new_bytes=0,
        seconds=0.0,
        manifest={**told["manifest"], "cwd": None if isinstance(cwd, str) else cwd},
    )


def _renamed(events: Sequence[tuple[Any, e.Event]], parent: SessionId, child: SessionId) -> list[tuple[Any, e.Event]]:
    """Events with new ids for all that has a row of its own: turns, messages, runs of cells, artifacts."""
    names: dict[str, str] = {parent: child}
    for _, event in events:
        match event:
            case e.TurnQueued():
                names |= {event.turn_id: new_id(), event.message.id: new_id()}
            case e.MessageCompleted():
                names[event.message.id] = new_id()
            case e.CellStarted():
                names[event.execution_id] = new_id()
            case e.ArtifactReady() | e.FileUploaded():
                names[event.artifact.id] = new_id()
            case e.CheckpointCreated():
                names[event.checkpoint_id] = new_id()

    def renamed(event: e.Event) -> e.Event:
        text = UUID.sub(lambda found: names.get(found[0], found[0]), event.model_dump_json())
        return e.EVENT.validate_python(json.loads(text))

    return [(at, renamed(event)) for at, event in events]
