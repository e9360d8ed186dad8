"""Workspaces as they were: every file by its content, so that a turn costs what it changed."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog
from cellwright.kernels import users
from cellwright.kernels.inside.files import remove_file
from cellwright.notebooks.document import digest
from cellwright.server.artifacts import Artifacts
from cellwright.server.domain import FilesMoved, KeptFile, LeftOut, Session, SessionId, Sha256
from cellwright.server.events import WorkspaceSaved
from cellwright.server.settings import Settings
from cellwright.server.store import postgres, queries
from cellwright.server.workspace import MAX_FILES, File, Workspace

SQL = queries.load("snapshots")
SESSIONS = 256
"""Of how many sessions we remember what their files' contents are."""

MORE = "…"
"""Stands in a snapshot for files that were too many for it."""

NOT_SURE = "it may have been there before the session was"

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Snapshot:
    """The files of a workspace, by name, and those that it does not hold."""

    files: dict[str, KeptFile]
    left_out: dict[str, LeftOut]

    @property
    def version(self) -> str:
        """Names all that it holds."""
        held = [[f.name, f.sha256, f.executable] for f in sorted(self.files.values(), key=lambda file: file.name)]
        return digest([held, sorted(self.left_out)])


EMPTY = Snapshot({}, {})
Modules = dict[str, bytes]
MOST_MODULES = 200
MODULE_BYTES = 1_000_000
"""Of how many modules, and how large ones, cells are judged by what they were; others as they are now."""


class Snapshots:
    """Takes and puts back workspaces.

    A folder of the session's own is taken whole. In a folder that was there before (an adopted notebook's), only what
    cells or uploads brought is ours to put back.
    """

    def __init__(self, pool: postgres.Pool, artifacts: Artifacts, settings: Settings) -> None:
        self._pool, self._artifacts, self._settings = pool, artifacts, settings
        self._hashed: dict[SessionId, dict[File, Sha256]] = {}

    async def load(self, session_id: SessionId, version: str | None) -> Snapshot:
        """A snapshot by its version; None is the empty one."""
        if version is None:
            return EMPTY
        async with postgres.acquired(self._pool) as connection:
            row = await connection.fetchrow(SQL.workspace, session_id, version)
        if row is None:
            return EMPTY
        files = [KeptFile.model_validate(file) for file in row["files"]]
        left_out = [LeftOut.model_validate(file) for file in row["left_out"]]
        return Snapshot({file.name: file for file in files}, {file.name: file for file in left_out})

    async def modules(self, session_id: SessionId, versions: Iterable[str | None]) -> dict[str | None, Modules]:
        """The Python modules in each of these versions of a workspace, by name: cells are judged by them."""
        code: dict[Sha256, bytes] = {}
        found: dict[str | None, Modules] = {}
        for version in dict.fromkeys(versions):
            files = (await self.load(session_id, version)).files.values()
            held = {file.name: file.sha256 for file in files if _is_module(file)}
            for sha256 in [sha256 for sha256 in held.values() if sha256 not in code][: MOST_MODULES - len(code)]:
                with contextlib.suppress(KeyError):
                    code[sha256] = (await self._artifacts.fetch_all([sha256]))[sha256]
            found[version] = {name: code[sha256] for name, sha256 in held.items() if sha256 in code}
        return found

    async def take(self, session: Session, workspace: Workspace) -> tuple[Snapshot, WorkspaceSaved | None]:
        """The workspace as it is, its contents stored; and the event that says so, if it is another than was known."""
        taken = await self._taken(session, workspace, keep=True)
        if taken.version == (session.workspace_version or EMPTY.version):
            return taken, None
        return taken, WorkspaceSaved(
            version=taken.version, files=list(taken.files.values()), left_out=list(taken.left_out.values())
        )

    async def _taken(self, session: Session, workspace: Workspace, *, keep: bool) -> Snapshot:
        """`keep` stores what is new, so that it can be put back; without it contents are only hashed."""
        # Only what the log refers to is surely stored still.
        stored = {file.sha256 for file in (await self.load(session.id, session.workspace_version)).files.values()}
        known = {file: sha for file, sha in self._hashed.pop(session.id, {}).items() if sha in stored}
        self._hashed[session.id] = now = {}
        while len(self._hashed) > SESSIONS:
            del self._hashed[next(iter(self._hashed))]
        own = None if _is_own(session) else await self._brought(session.id)
        files: dict[str, KeptFile] = {}
        left_out: dict[str, LeftOut] = {}
        left = self._settings.snapshot_bytes
        found = await asyncio.to_thread(workspace.files)
        for file in found:
            if own is not None and file.name not in own:
                continue
            if not _is_text(file.name):
                shown = file.name.encode(errors="replace").decode()
                left_out[shown] = LeftOut(name=shown, size_bytes=file.size_bytes, reason="its name is not UTF-8")
                continue
            limit = min(left, self._settings.snapshot_file_bytes)
            if file.size_bytes > limit:
                reason = f"larger than {limit:,} bytes, which is what can be kept of it"
                left_out[file.name] = LeftOut(name=file.name, size_bytes=file.size_bytes, reason=reason)
                continue
            try:
                sha256 = known.get(file)
                if sha256 is None and keep:
                    sha256, _ = await self._artifacts.keep_file(workspace.folder, file.name)
                elif sha256 is None:
                    hashed = await asyncio.to_thread(workspace.sha256, file.name)
                    sha256 = None if hashed is None else Sha256(hashed)
            except OSError as error:
                log.info("file_not_kept", name=file.name, error=str(error))
                sha256 = None
            if sha256 is None:
                left_out[file.name] = LeftOut(name=file.name, size_bytes=file.size_bytes, reason="it cannot be read")
                continue
            if keep:
                now[file] = sha256
            left -= file.size_bytes
            files[file.name] = KeptFile(
                name=file.name, sha256=sha256, size_bytes=file.size_bytes, executable=file.executable
            )
        if len(found) >= MAX_FILES:
            reason = f"more than {MAX_FILES:,} files"
            left_out[MORE] = LeftOut(name=MORE, size_bytes=0, reason=reason)
        return Snapshot(files, left_out)

    async def _brought(self, session_id: SessionId) -> set[str]:
        """Names of files that cells or uploads of a session brought."""
        async with postgres.acquired(self._pool) as connection:
            return {row["name"] for row in await connection.fetch(SQL.file_names, session_id)}

    def moves(self, session: Session, workspace: Workspace, now: Snapshot, then: Snapshot) -> FilesMoved:
        """What it takes to get from one snapshot to another. What no snapshot holds stays as it is, and is named."""
        left = {**now.left_out, **then.left_out}
        removed = [name for name in sorted(now.files) if name not in then.files and name not in then.left_out]
        if not _is_own(session) or MORE in then.left_out:
            # It may have been there before anything of ours was.
            kept = [LeftOut(name=n, size_bytes=now.files[n].size_bytes, reason=NOT_SURE) for n in removed]
            left, removed = {**left, **{file.name: file for file in kept}}, []
        written = sorted(n for n, f in then.files.items() if now.files.get(n) != f and n not in now.left_out)
        emptied = {str(folder) for name in removed for folder in Path(name).parents}
        for name in [n for n in written if n not in now.files and os.path.lexists(workspace.folder / n)]:
            if name in emptied and not any(other.startswith(f"{name}/") for other in left):
                continue  # A folder by now, which goes with its files.
            written.remove(name)  # Nobody has looked at what stands there.
            left[name] = LeftOut(name=name, size_bytes=0, reason="another file stands there, which was not kept")
        return FilesMoved(
            written=written,
            removed=removed,
            left=[left[name] for name in sorted(left)],
        )

    @asynccontextmanager
    async def unchanged(
        self, session: Session, workspace: Workspace, gone: Collection[str] = ()
    ) -> AsyncIterator[list[str]]:
        """Cells run again in the block, for the variables that they make: what they write into files is taken back.

        Files that appear meanwhile may be the user's, but for those that are known to be `gone`. They stay, and are
        named in the list when the block has ended.
        """
        appeared: list[str] = []
        before, _ = await self.take(session, workspace)
        try:
            yield appeared
        finally:
            appeared += await asyncio.shield(self._unchanged(session, workspace, before, gone))

    async def _unchanged(
        self, session: Session, workspace: Workspace, before: Snapshot, gone: Collection[str]
    ) -> list[str]:
        now, _ = await self.take(session, workspace)
        known = {*before.files, *before.left_out, *gone}
        there = Snapshot({name: file for name, file in now.files.items() if name in known}, now.left_out)
        # The kernel may hold on to what its cells have opened.
        await self.put_back(workspace, self.moves(session, workspace, there, before), before, held=True)
        return sorted(now.files.keys() - known)

    async def put_back(
        self, workspace: Workspace, moves: FilesMoved, then: Snapshot, *, held: bool = False
    ) -> FilesMoved:
        """Makes these moves; names what could not be done. Files that a kernel `held` open stay the same ones."""
        left = list(moves.left)
        await asyncio.to_thread(workspace.make)
        for name in moves.removed:
            try:
                await asyncio.to_thread(remove_file, workspace.folder, name)
            except OSError as error:
                left.append(LeftOut(name=name, size_bytes=0, reason=f"it could not be removed: {error.strerror}"))
        for name in moves.written:
            file = then.files[name]
            try:
                await self._artifacts.put_file(
                    file.sha256, workspace.folder, name, executable=file.executable, held=held
                )
            except (OSError, KeyError) as error:
                why = "its content is gone" if isinstance(error, KeyError) else f"it could not be written: {error}"
                left.append(LeftOut(name=name, size_bytes=file.size_bytes, reason=why))
        if self._settings.kernel_user is not None and moves.written:
            await asyncio.to_thread(users.give, workspace.folder, self._settings.kernel_user)
        failed = {file.name for file in left}
        return FilesMoved(
            written=[name for name in moves.written if name not in failed],
            removed=[name for name in moves.removed if name not in failed],
            left=left,
        )


def _is_module(file: KeptFile) -> bool:
    return file.name.endswith(".py") and file.size_bytes <= MODULE_BYTES


def _is_text(name: str) -> bool:
    """Whether a file's name can be written down: one in another encoding holds surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_own(session: Session) -> bool:
    """Whether the workspace was made for the session."""
    return session.workspace.endswith(f"-{session.id[:6]}")
