"""Points behind a session's turns: what an undo goes back to. A turn that has ended is one that can be gone back to."""

from __future__ import annotations

import time
import weakref
from datetime import UTC, datetime
from typing import Literal

import structlog
from cellwright.kernels.client import KernelConnection
from cellwright.kernels.copies import SleepingCopy
from cellwright.kernels.errors import KernelError
from cellwright.server import events as e
from cellwright.server import variables
from cellwright.server.checkpoints import Checkpoints
from cellwright.server.domain import Message, MessageId, Session, SessionId, TurnId, TurnRequest, new_id
from cellwright.server.errors import CellwrightError, NotFound
from cellwright.server.kernel_life import rests, workspace_of
from cellwright.server.snapshots import Snapshot, Snapshots
from cellwright.server.store import queries
from cellwright.server.store.ways import Ways
from cellwright.server.workbench import Tools

SQL = queries.load("sessions")
KEPT_TURNS = 50
"""Turns of a session whose variables stay stored; older ones come back by running cells again."""

Runs = weakref.WeakKeyDictionary[KernelConnection, int]
"""How often others had run something in a kernel at some time."""

log = structlog.get_logger(__name__)


class TurnPoints:
    """Keeps files and variables as they are after a turn, and makes a turn of what the user did by themselves."""

    def __init__(self, tools: Tools, checkpoints: Checkpoints, snapshots: Snapshots, ways: Ways) -> None:
        self._t, self._checkpoints, self._snapshots, self._ways = tools, checkpoints, snapshots, ways
        self._copies: dict[SessionId, dict[TurnId, SleepingCopy]] = {}
        self._of_turn: Runs = weakref.WeakKeyDictionary()
        self._stored: Runs = weakref.WeakKeyDictionary()
        self._seconds: weakref.WeakKeyDictionary[KernelConnection, float] = weakref.WeakKeyDictionary()

    async def files(self, session: Session) -> list[e.WorkspaceSaved]:
        """What there is to say of the workspace where it is another than was known: its files are stored then."""
        try:
            _, saved = await self._snapshots.take(session, workspace_of(self._t.root, session))
        except (OSError, CellwrightError) as error:
            log.warning("files_not_kept", session_id=session.id, error=str(error))
            return []
        return [] if saved is None else [saved]

    async def variables(self, session_id: SessionId, turn_id: TurnId, generation: int | None) -> None:
        """Stores the variables as they are after a turn, and copies the kernel; a fault costs no more than that."""
        connection = self._t.kernels.get(session_id)
        if connection is None or not await rests(connection):
            return
        self._of_turn[connection] = connection.runs_of_others
        async with self._t.life.keeping(session_id, connection):
            if self._t.settings.turn_checkpoint_bytes:
                await self._store(session_id, turn_id, connection, generation)
            if self._t.settings.live_copies:
                await self._take_copy(session_id, turn_id)

    def unkept(self, connection: KernelConnection) -> bool:
        """Whether the user has run something in a kernel that no stored point holds yet."""
        return connection.runs_of_others > self._stored.get(connection, 0)

    def cost_s(self, connection: KernelConnection) -> float:
        """How long storing a kernel's variables took the last time, in seconds."""
        return self._seconds.get(connection, 0.0)

    async def own_variables(self, session: Session, generation: int | None = None) -> None:
        """Stores what the user has run in the kernel since the last point, if they have."""
        connection = self._t.kernels.get(session.id)
        if connection is None or not self.unkept(connection) or not await rests(connection):
            return
        if not self._t.settings.turn_checkpoint_bytes:
            self._stored[connection] = connection.runs_of_others
            return
        async with self._t.life.keeping(session.id, connection):
            await self._store(session.id, session.head_turn_id, connection, generation, "begin")

    async def _store(
        self,
        session_id: SessionId,
        turn_id: TurnId | None,
        connection: KernelConnection,
        generation: int | None,
        kind: Literal["turn", "begin"] = "turn",
    ) -> None:
        self._stored[connection] = connection.runs_of_others
        try:
            async with self._t.kernels.lock(session_id):
                session = await self._t.rows.get(session_id)
                budget = self._t.settings.turn_checkpoint_bytes
                began = time.monotonic()
                saved = await self._checkpoints.save(session, connection, kind, of_turn=turn_id, budget=budget)
                self._seconds[connection] = time.monotonic() - began
                changed = await variables.news(connection)
                await self._t.log.append(session_id, [saved, *changed], generation=generation)
            await self._checkpoints.prune_turns(session_id, KEPT_TURNS)
        except (KernelError, CellwrightError) as error:
            log.info("variables_not_kept", session_id=session_id, error=str(error))

    async def _take_copy(self, session_id: SessionId, turn_id: TurnId) -> None:
        try:
            copy = await self._t.kernels.copy(session_id)
        except KernelError as error:
            log.debug("kernel_not_copied", session_id=session_id, why=str(error))
            return
        living = set(map(id, self._t.kernels.copies(session_id)))
        known = self._copies.get(session_id, {})
        kept = {turn: former for turn, former in known.items() if id(former) in living}
        self._copies[session_id] = {**kept, turn_id: copy}

    def copy(self, session_id: SessionId, turn_id: TurnId | None) -> SleepingCopy | None:
        found = self._copies.get(session_id, {}).get(turn_id) if turn_id is not None else None
        return found if found is not None and found in self._t.kernels.copies(session_id) else None

    async def own_doings(self, session: Session, by: str, generation: int) -> Session:
        """Records what the user did since the last turn as a turn of theirs, if there is anything."""
        await self._t.notebooks.pull(session, generation)
        session = await self._t.rows.get(session.id)
        way = await self._ways.to(session.id, session.head_turn_id)
        news = await self._ways.news(way)
        now, saved = await self._snapshots.take(session, workspace_of(self._t.root, session))
        files = [] if saved is None else [saved]
        ran = await self._ran_since(session.id) or any(kind == "checkpoint.created" for kind, _ in news)
        known = await self._snapshots.load(session.id, session.workspace_version)
        told = _in_words(news, _others(known, now) if files else [], ran)
        if not told:
            return session
        turn_id = TurnId(new_id())
        message = Message(
            id=MessageId(new_id()),
            session_id=session.id,
            turn_id=turn_id,
            role="user",
            content=told,
            created_at=datetime.now(UTC),
        )
        async with self._t.log.transaction(session.id) as connection:
            row = await connection.fetchrow(SQL.lock_session, session.id)
            if row is None:
                raise NotFound("session", session.id)
            of = {"turn_id": turn_id, "n": row["turn_count"] + 1, "query": told}
            events: list[e.Event] = [
                e.TurnQueued(**of, request=TurnRequest(kind="edit", asked_by=by), message=message),
                e.TurnStarted(**of, agent=session.agent, model="", max_iterations=0),
                *(file.model_copy(update={"turn_id": turn_id}) for file in files),
                e.TurnCompleted(turn_id=turn_id, answer=""),
            ]
            await self._t.log.append(session.id, events, generation=generation, within=connection)
        await self.variables(session.id, turn_id, generation)
        return await self._t.rows.get(session.id)

    async def _ran_since(self, session_id: SessionId) -> bool:
        """Whether the user ran something since the last turn: they were seen to, or variables are others."""
        connection = self._t.kernels.get(session_id)
        if connection is None or not await rests(connection):
            return False
        before = connection.last_variables
        try:
            await connection.learn_variables()
        except KernelError:
            return False
        return connection.runs_of_others > self._of_turn.get(connection, 0) or before != connection.last_variables


def _others(before: Snapshot, after: Snapshot) -> list[str]:
    """Files that are new, gone or otherwise, by their names; those that are left out of both cannot be told apart."""
    held = [{name: file.sha256 for name, file in snapshot.files.items()} for snapshot in (before, after)]
    return sorted({name for name, _ in held[0].items() ^ held[1].items()}) or ["files"]


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''}"


def _in_words(news: list[tuple[str, dict[str, object]]], files: list[str], ran: bool) -> str:
    """What the user did by themselves, in a line; empty for nothing."""
    cells = {
        str(edit["cell_id"])
        for kind, told in news
        if kind == "cells.edited" and told.get("author") == "user"
        for edit in told["edits"]  # type: ignore[attr-defined]
    }
    uploads = [str(told["artifact"]["name"]) for kind, told in news if kind == "file.uploaded"]  # type: ignore[index]
    parts = []
    if cells:
        parts.append(f"changed {len(cells)} cell{'s' if len(cells) > 1 else ''} of the notebook")
    if uploads:
        parts.append(f"uploaded {_listed(uploads)}")
    elif files:
        parts.append(f"changed {_listed(files)}")
    if ran:
        parts.append("ran code in the kernel")
    if any(kind.startswith("message.") for kind, _ in news):
        parts.append("changed messages")
    if any(kind == "context.changed" and told.get("context") is not None for kind, told in news):
        parts.append("changed what the session keeps in mind")
    return f"(I {', '.join(parts)}.)" if parts else ""
