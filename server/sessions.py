"""Sessions: created, changed, deleted, and given files."""

from __future__ import annotations

import asyncio
import contextlib
import os
import posixpath
import shutil
from pathlib import Path
from typing import Any

from cellwright.kernels.client import KernelConnection
from cellwright.kernels.errors import KernelNotStarted, KernelUnreachable
from cellwright.notebooks.document import Document
from cellwright.notebooks.errors import InvalidNotebook
from cellwright.server import events as e
from cellwright.server import variables
from cellwright.server.agent.profiles import DEFAULT, profile
from cellwright.server.artifacts import slug
from cellwright.server.domain import Artifact, Image, Session, SessionId, Turn, TurnRequest, Variable, new_id
from cellwright.server.errors import Conflict, Invalid, NotFound
from cellwright.server.kernel_life import workspace_of
from cellwright.server.models import rehearsal
from cellwright.server.models.catalog import Models
from cellwright.server.store import postgres, queries
from cellwright.server.store.objects import Spooled
from cellwright.server.turns import Turns
from cellwright.server.workbench import Tools
from cellwright.server.workspace import Workspace
from tornado.web import HTTPError

SQL = queries.load("sessions")
FOLDER = "cellwright"
DEFAULT_TITLE = "New chat"


class Sessions:
    """What users do with sessions, beyond asking."""

    def __init__(self, tools: Tools, turns: Turns, models: Models, pool: postgres.Pool) -> None:
        self._t, self._turns, self._models, self._pool = tools, turns, models, pool

    async def create(
        self,
        owner: str,
        *,
        title: str | None = None,
        key: str | None = None,
        agent: str | None = None,
        model: str | None = None,
        kernel: str | None = None,
        metadata: dict[str, Any] | None = None,
        preferences: dict[str, Any] | None = None,
        adopt: str | None = None,
    ) -> Session:
        """A new session, with its folder and no kernel yet; raises Invalid, or Conflict for a key in use.

        `adopt` is the path of an existing notebook of the server's tree: it becomes the session's, in its own folder.
        """
        theirs = await self._t.preferences.of(owner)
        chosen = profile(agent or theirs.default_agent or DEFAULT)
        model = model or theirs.default_model
        if adopt is not None:
            adopt = await self._adoptable(adopt)
            title = title or adopt.rpartition("/")[2].removesuffix(".ipynb")[:200]
        if kernel is not None and kernel not in await self._t.kernels.names():
            raise Invalid(f"There is no kernelspec {kernel!r} on this server.")
        if model is not None:
            await self._models.check(model)
        session_id = SessionId(new_id())
        name = slug(title or DEFAULT_TITLE, 32)
        workspace = f"{FOLDER}/{name}-{session_id[:6]}"
        notebook_path = f"{workspace}/{name}.ipynb"
        if adopt is not None:
            workspace, _, name = adopt.removesuffix(".ipynb").rpartition("/")
            notebook_path = adopt
        async with self._t.log.transaction(session_id) as connection:
            made = await connection.fetchval(
                SQL.insert_session,
                session_id,
                owner,
                key,
                title or DEFAULT_TITLE,
                "user" if title else "default",
                chosen.name,
                model,
                kernel,
                notebook_path,
                workspace,
                metadata or {},
                preferences or {},
            )
            if made is None:
                raise Conflict(f"There is a session with the key {key!r} already.")
            await asyncio.to_thread(Workspace(self._t.root / workspace, f"{name}.ipynb").make)
            created = e.SessionCreated(
                title=title or DEFAULT_TITLE, agent=chosen.name, workspace=workspace, notebook_path=notebook_path
            )
            await self._t.log.append(session_id, [created], within=connection)
        session = await self._t.rows.get(session_id)
        if adopt is not None:
            await self._t.notebooks.pull(session)
            session = await self._t.rows.get(session_id)
        return session

    async def _adoptable(self, path: str) -> str:
        """The path of a notebook that a session may take as its own; raises Invalid, or Conflict when one has it."""
        plain = posixpath.normpath(path.strip().lstrip("/"))
        if not plain.endswith(".ipynb") or plain.startswith("..") or any(p.startswith(".") for p in plain.split("/")):
            raise Invalid(f"{path!r} is not the path of a notebook below the server's root folder.")
        try:
            await self._t.notebooks.look(plain)
        except (InvalidNotebook, HTTPError, OSError, ValueError) as error:
            raise Invalid(f"There is no notebook that can be read at {plain!r}.") from error
        async with postgres.acquired(self._pool) as connection:
            if await connection.fetchval(SQL.session_of_notebook, plain) is not None:
                raise Conflict(f"{plain} is the notebook of another session already.")
        return plain

    async def change(self, session: Session, changes: dict[str, Any], by: str) -> Session:
        """Changes title, agent, model, metadata or preferences; raises Invalid."""
        events: list[e.Event] = []
        if changes.get("agent") is not None:
            profile(changes["agent"])
        if changes.get("model") is not None:
            await self._models.check(changes["model"])
        title = changes.pop("title", None)
        if title is not None:
            events.append(e.TitleChanged(title=title, by="user"))
        if changes:
            events.append(e.SessionChanged(changes=changes, by=by))
        if events:
            await self._t.log.append(session.id, events)
        return (await self._t.rows.get(session.id)).model_copy(update={"access": session.access})

    async def delete(self, session: Session) -> None:
        """Removes kernel, rows and live state, and every object that nothing else refers to. Files stay the user's."""
        await self._turns.forget(session.id)
        await self._t.kernels.end(session.id)
        objects = await self._t.artifacts.objects_of(session.id)
        await self._t.rows.delete(session.id)
        await self._t.hot.settle(session.id)
        await self._t.artifacts.release(objects)

    # -- files --------------------------------------------------------------------------------------------------

    async def show(self, session: Session, data: bytes, name: str, mime_type: str) -> Image:
        """Keeps a picture that the user shows with a question."""
        more: dict[str, Any] = {"created_by": "upload", "kind": "context", "mime_type": mime_type}
        artifact = await self._t.artifacts.add_bytes(session.id, data, name, **more)
        return Image(sha256=artifact.sha256, mime_type=mime_type, name=artifact.name)

    async def write(self, session: Session, name: str, text: str) -> Artifact:
        """Takes a text into the workspace, as an upload."""
        spooled = await asyncio.to_thread(Spooled)
        try:
            await asyncio.to_thread(spooled.write, text.encode("utf-8", "replace"))
            return await self.upload(session, spooled, name)
        finally:
            await asyncio.to_thread(spooled.remove)

    async def upload(
        self, session: Session, spooled: Spooled, name: str, mime_type: str | None = None, *, nested: bool = False
    ) -> Artifact:
        """Takes a file into the workspace and the store: it opens by its name in the next cell.

        A name that is there with other content gets a number; raises Invalid for an empty file. The folders of a
        `nested` name are made; otherwise its last part alone counts.
        """
        if spooled.size_bytes == 0:
            raise Invalid(f"The file {name!r} is empty.")
        workspace = workspace_of(self._t.root, session)
        spooled.finish()
        await asyncio.to_thread(workspace.make)
        wanted = await asyncio.to_thread(workspace.inside if nested else workspace.place, name)
        async with self._turns.still(session.id):
            place = await asyncio.to_thread(_placed, wanted, spooled.path)
            name = place.relative_to(workspace.folder).as_posix()
            return await self._t.artifacts.add(
                session.id, spooled, name, created_by="upload", kind="data", mime_type=mime_type
            )

    # -- the kernel ---------------------------------------------------------------------------------------------

    def kernel(self, session: Session) -> KernelConnection | None:
        return self._t.kernels.get(session.id)

    def kernel_status(self, session: Session) -> str | None:
        """`starting`, `idle` or `busy`; None without a kernel here."""
        return self._t.life.status(session.id)

    async def interrupt(self, session: Session) -> None:
        """Interrupts the running cell; raises Conflict without a kernel."""
        connection = self._t.kernels.get(session.id)
        if connection is None:
            raise Conflict("The session has no running kernel.")
        await connection.interrupt()

    async def restart(self, session: Session) -> Session:
        """Ends the kernel; the next cell starts another. Raises Conflict while a turn runs."""
        await self._t.life.restart(session)
        return await self._t.rows.get(session.id)

    async def variables(self, session: Session) -> list[Variable]:
        """The variables in the kernel, as its last cell told them."""
        connection = self._t.kernels.get(session.id)
        return [] if connection is None else [variables.known(told) for told in connection.last_variables]

    async def variable(self, session: Session, name: str) -> Variable:
        """One variable in detail; raises NotFound, or Conflict while the kernel is busy."""
        connection = self._t.kernels.get(session.id)
        try:
            found = None if connection is None else await variables.look_at(connection, name)
        except KernelUnreachable as error:
            raise Conflict(str(error)) from error
        if found is None:
            raise NotFound("variable", name)
        return found

    async def hibernate(self, session: Session) -> None:
        """Stores the variables and ends the kernel; raises Conflict while it is busy, or without one."""
        try:
            if not await self._t.life.hibernate(session.id):
                raise Conflict("The kernel is busy, or there is none.")
        except KernelUnreachable as error:
            raise Conflict(str(error)) from error

    async def wake(self, session: Session) -> None:
        """Sees that the session has a kernel, with the variables of a hibernated one; raises Conflict."""
        try:
            await self._t.life.obtain(session.id)
        except KernelNotStarted as error:
            raise Conflict(str(error)) from error

    # -- leaving ------------------------------------------------------------------------------------------------

    async def document(self, session: Session) -> Document:
        """The notebook, self-contained."""
        with contextlib.suppress(OSError):
            if await self._t.notebooks.pull(session):
                session = await self._t.rows.get(session.id)
        return await self._t.rows.recent(
            session.id,
            "document",
            lambda: self._t.notebooks.document(session),
            lambda document: sum(len(cell.source) + len(str(cell.outputs)) for cell in document),
        )

    async def recording(self, session: Session) -> rehearsal.Recording:
        """The session's model replies, to be played back."""
        conversation = await self._t.rows.conversation(session.id, 10_000)
        asked = [(turn, messages) for turn, messages in conversation if turn.request.kind == "ask"]
        return rehearsal.record(session.title, session.model or self._models.default() or "", asked)

    async def execute(self, session: Session, source: str, asked_by: str) -> Turn:
        """Queues one cell of the user's."""
        return await self._turns.ask(session, source, TurnRequest(kind="execute", asked_by=asked_by))


def _placed(place: Path, source: Path) -> Path:
    """Copies `source` to `place`, or beside it under a numbered name when other content is there."""
    stem, ending = os.path.splitext(place.name)
    for number in range(2, 10_000):
        try:
            with place.open("xb") as target, source.open("rb") as data:
                shutil.copyfileobj(data, target)
            return place
        except FileExistsError:
            if place.is_file() and not place.is_symlink() and _same(place, source):
                return place
            place = place.with_name(f"{stem} ({number}){ending}")
        except OSError:
            place.unlink(missing_ok=True)
            raise
    raise Conflict(f"There are too many files named {place.name}.")


def _same(a: Path, b: Path) -> bool:
    import filecmp

    return filecmp.cmp(a, b, shallow=False)
