"""The working copy: a session's notebook as a file in the server's tree, written through the contents manager.

What the user typed into the file is merged into the log before anything of ours is written over it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import structlog
from cellwright.kernels.inside.files import plain_file, replace_file
from cellwright.notebooks import codec
from cellwright.notebooks.document import Cell, Document, digest
from cellwright.notebooks.edits import Delete, Insert, Move, Replace, difference, merge
from cellwright.notebooks.errors import InvalidNotebook
from cellwright.notebooks.outputs import inline, references
from cellwright.server.artifacts import Artifacts
from cellwright.server.domain import Session, SessionId
from cellwright.server.errors import NotebookMoved
from cellwright.server.events import CellContent, CellEdit, CellsEdited, NotebookSaved
from cellwright.server.store.cells import Cells
from cellwright.server.store.log import Log
from jupyter_core.utils import ensure_async
from tornado.web import HTTPError

log = structlog.get_logger(__name__)
KEY = "cellwright"
READERS = 256
"""Of how many readers we keep what they saved last."""

OURS = "cellwright"
"""The name of our own kernelspec, which no notebook needs to know."""

Write = Callable[[dict[str, Any]], Awaitable[Any]]


class Contents(Protocol):
    """What we use of a Jupyter contents manager."""

    def get(self, path: str, content: bool = True, type: str | None = None) -> Any: ...
    def save(self, model: dict[str, Any], path: str = "") -> Any: ...
    def exists(self, path: str) -> Any: ...


class NotebookFiles:
    """Reads and writes working copies."""

    def __init__(
        self, contents: Contents, cells: Cells, artifacts: Artifacts, events: Log, apart: Path | None = None
    ) -> None:
        """`apart` is the contents' folder where kernels are kept apart: see `_KernelsFolder`."""
        self._contents: Contents = contents if apart is None else _KernelsFolder(contents, apart)
        self._cells, self._artifacts, self._log = cells, artifacts, events
        self._saved: dict[str, tuple[int, Any]] = {}
        self._read: dict[tuple[str, str], tuple[int, Document]] = {}
        self.open_elsewhere: Callable[[SessionId], Awaitable[bool]] = _never
        """Whether somebody has the notebook open and writes it; the log is ahead of the file then."""

        self.shared: Callable[[SessionId], Awaitable[dict[str, Any] | None]] = _not_shared
        """The notebook as users share it at this moment, where they do."""

        self.on_taken: Callable[[SessionId, str, list[Cell]], None] = _nobody
        """Told of what a reader typed that the log is about to have: session, the reader's tab, and the cells."""

        self._written: dict[str, str] = {}
        self._metadata: dict[str, dict[str, Any]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def document(self, session: Session, revision: int | None = None) -> Document:
        """The session's notebook, self-contained, with its metadata."""
        slim = await self._cells.document(session.id, revision)
        names = [name for cell in slim for name in references(cell.outputs)]
        held = await self._artifacts.fetch_all(names)
        cells = tuple(replace(cell, outputs=tuple(inline(cell.outputs, held.__getitem__))) for cell in slim)
        return Document(
            cells,
            {
                "kernelspec": _kernelspec(session.kernel_name),
                "language_info": {"name": "python", "version": ".".join(map(str, sys.version_info[:3]))},
                **self._metadata.get(session.id, {}),
                KEY: {
                    "session_id": session.id,
                    "title": session.title,
                    "revision": session.revision if revision is None else revision,
                },
            },
        )

    async def look(self, path: str) -> None:
        """Reads a notebook of the tree; raises what the contents manager does, or InvalidNotebook."""
        model = await ensure_async(self._contents.get(path, content=True, type="notebook"))
        codec.decode(model["content"])

    async def save(self, session: Session, generation: int | None = None) -> bool:
        """Writes the working copy if the log is ahead of it; what the user changed meanwhile is taken in first."""
        async with self._locks.setdefault(session.id, asyncio.Lock()):
            if await self.open_elsewhere(session.id):
                return False
            if await self._pull(session, generation):
                # The revision is now that of the edits taken in, or later.
                session = session.model_copy(update={"revision": await self._revision(session)})
            if self._saved.get(session.id, (-1, None))[0] == session.revision:
                return False
            document = await self.document(session, session.revision)
            model = {"type": "notebook", "format": "json", "content": codec.encode(document)}
            await self._make_folder(session.notebook_path.rpartition("/")[0])
            told = await ensure_async(self._contents.save(model, session.notebook_path))
            self._saved[session.id] = (session.revision, told["last_modified"])
            event = NotebookSaved(path=session.notebook_path, revision=session.revision)
            await self._log.append(session.id, [event], generation=generation)
            return True

    async def _make_folder(self, path: str) -> None:
        """Makes a folder that is not there: the user may have deleted it."""
        if path and not await ensure_async(self._contents.exists(path)):
            await self._make_folder(path.rpartition("/")[0])
            await ensure_async(self._contents.save({"type": "directory"}, path))

    async def _revision(self, session: Session) -> int:
        return await self._cells.revision(session.id)

    async def pull(self, session: Session, generation: int | None = None) -> bool:
        """Takes what the user did to the file into the log; returns whether there was anything.

        A file that cannot be taken in (half written, no notebook) is left alone, and not written over either.
        """
        async with self._locks.setdefault(session.id, asyncio.Lock()):
            try:
                shared = await self.shared(session.id)
                if shared is not None:
                    return await self._taken(session, shared, generation)
                return await self._pull(session, generation)
            except (InvalidNotebook, HTTPError, OSError, ValueError) as error:
                log.warning("notebook_not_taken_in", path=session.notebook_path, error=str(error))
                return False

    async def put(self, session: Session, document: Document) -> None:
        """Gives a session a whole notebook, as if its user had saved that, and writes the working copy."""
        async with self._locks.setdefault(session.id, asyncio.Lock()):
            await self._taken(session, codec.encode(document), None)
        await self.save(session.model_copy(update={"revision": await self._revision(session)}))

    async def _pull(self, session: Session, generation: int | None) -> bool:
        if not await ensure_async(self._contents.exists(session.notebook_path)):
            return False
        known = self._saved.get(session.id)
        here = await ensure_async(self._contents.get(session.notebook_path, content=False))
        if known is not None and here["last_modified"] == known[1]:
            return False
        model = await ensure_async(self._contents.get(session.notebook_path, content=True, type="notebook"))
        taken = await self._taken(session, model["content"], generation)
        self._saved[session.id] = (-1, here["last_modified"])
        return taken

    async def _taken(self, session: Session, content: dict[str, Any], generation: int | None) -> bool:
        """Takes what a notebook of the user's holds into the log; whether there was anything."""
        while True:
            try:
                return await self._taken_at(await self._revision(session), session, content, generation)
            except NotebookMoved:
                continue

    async def _taken_at(self, revision: int, session: Session, content: dict[str, Any], generation: int | None) -> bool:
        """The same, for the log's notebook at `revision`; raises NotebookMoved where that is not the last one."""
        theirs = codec.decode(content)
        metadata = json.loads(json.dumps(content["metadata"]))
        about = metadata.pop(KEY, None)
        base_revision, reader = _revision(about), _tab(about)
        read = self._read.get((session.id, reader))
        ours = await self._cells.document(session.id, revision)
        # What was taken in before from the same revision is the base of what was typed since.
        if read is not None and read[0] == base_revision:
            base = read[1]
        else:
            base = await self._cells.document(session.id, base_revision)
            if read is not None and reader:
                base = _with_own(base, read[1], ours)
        running = await self._cells.running(session.id)
        cells = []
        for cell in theirs:
            if cell.id in running and cell.id in ours:
                # What a tab shows of a cell that runs is part of it; the log will have the whole.
                now = ours[cell.id]
                cell = replace(cell, outputs=now.outputs, execution_count=now.execution_count)
            slim = tuple(await self._artifacts.keep_outputs(cell.outputs))
            # JavaScript tells no 1.0 from 1: what is equal is the same.
            known = base[cell.id].outputs if cell.id in base else ()
            cells.append(replace(cell, outputs=known if slim == known else slim))
        theirs = Document(tuple(cells))
        changes = difference(ours, merge(base, ours, theirs))
        edits = [told for change in changes for told in told_edits(change)]
        if metadata.get("kernelspec", {}).get("name") == OURS:
            del metadata["kernelspec"]
        typed = [change.cell for change in changes if isinstance(change, Insert | Replace)]
        self.on_taken(
            session.id, reader, [c for c in typed if c.id in theirs and theirs[c.id].content_hash == c.content_hash]
        )
        if edits:
            event = CellsEdited(author="user", edits=edits)
            await self._log.append(session.id, [event], generation=generation, at_revision=revision)
            log.info("notebook_edits_taken", session_id=session.id, edits=len(edits))
        self._metadata[session.id] = metadata
        self._read.pop((session.id, reader), None)
        self._read[session.id, reader] = (base_revision, theirs)
        while len(self._read) > READERS:
            del self._read[next(iter(self._read))]
        return bool(edits)

    async def take(self, session: Session, model: dict[str, Any], write: Write) -> Any:
        """A save by somebody else: what they typed goes into the log, and what `write` gets is both sides joined.

        Raises InvalidNotebook, or what the stores raise, before anything is written.
        """
        async with self._locks.setdefault(session.id, asyncio.Lock()):
            # Codec, log and merge see one state: what changed on the disk meanwhile is the user's as well.
            with contextlib.suppress(InvalidNotebook, HTTPError, OSError, ValueError):
                await self._pull(session, None)
            await self._taken(session, await self._whole(session.id, model["content"]), None)
            session = session.model_copy(update={"revision": await self._revision(session)})
            encoded = codec.encode(await self.document(session, session.revision))
            told = await write({**model, "content": encoded})
            here = await ensure_async(self._contents.get(session.notebook_path, content=False))
            self._saved[session.id] = (session.revision, here["last_modified"])
            named = digest(encoded)
            if self._written.get(session.id) != named:
                # Whoever else has it open must know, or is told that the file changed.
                self._written[session.id] = named
                await self._log.append(
                    session.id, [NotebookSaved(path=session.notebook_path, revision=session.revision)]
                )
            return told

    async def _whole(self, session_id: SessionId, saved: dict[str, Any]) -> dict[str, Any]:
        """What was saved; where users share it, as it stands now: a save of that may have been read piece by piece."""
        shared = await self.shared(session_id)
        same = shared is not None and _tab(shared["metadata"].get(KEY)) == _tab(saved["metadata"].get(KEY)) != ""
        return shared if shared is not None and same else saved

    def forget(self, session_id: SessionId, tab: str) -> None:
        """A tab was closed: what it saved last is no base of anything any more."""
        self._read.pop((session_id, tab), None)


def _with_own(base: Document, saved: Document, ours: Document) -> Document:
    """`base`, but with what one reader saved where the log still holds that: their own words are no change of ours."""
    own = {c.id: c for c in saved if c.id in ours and ours[c.id].source == c.source}
    known = {cell.id for cell in base}
    return Document(
        (*(own.get(cell.id, cell) for cell in base), *(cell for cell in own.values() if cell.id not in known))
    )


async def _never(session_id: SessionId) -> bool:
    return False


async def _not_shared(session_id: SessionId) -> None:
    return None


def _nobody(session_id: SessionId, reader: str, cells: list[Cell]) -> None:
    return None


def _tab(about: Any) -> str:
    """The browser tab that a notebook was saved from; empty for a file that anybody may have written."""
    found = about.get("tab") if isinstance(about, dict) else None
    return found[:100] if isinstance(found, str) else ""


class _KernelsFolder:
    """Notebooks in folders that belong to kernels with fewer rights than the server: no link there is followed."""

    def __init__(self, contents: Contents, root: Path) -> None:
        self._contents, self._root = contents, root

    def get(self, path: str, content: bool = True, type: str | None = None) -> Any:
        with plain_file(self._root, path) as file:
            at = os.fstat(file.fileno()).st_mtime_ns
            return {"last_modified": at, "content": json.load(file) if content else None}

    def save(self, model: dict[str, Any], path: str = "") -> Any:
        if model["type"] == "directory":
            return self._contents.save(model, path)
        data = json.dumps(model["content"], ensure_ascii=False, indent=1).encode("utf-8", "replace")
        return {"last_modified": replace_file(self._root, path, data).st_mtime_ns}

    def exists(self, path: str) -> Any:
        return os.path.lexists(self._root / path)


def _kernelspec(name: str | None) -> dict[str, str]:
    """Ours runs the server's Python, which every Jupyter knows as python3: the notebook shall run anywhere."""
    if name in (None, OURS, "python3"):
        return {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    return {"name": str(name), "display_name": str(name), "language": "python"}


def _revision(ours: Any) -> int:
    """The revision that a file says it was written at; 0 for one that says nothing that can be."""
    found = ours.get("revision") if isinstance(ours, dict) else None
    return found if isinstance(found, int) and 0 <= found < 2**62 else 0


def told_edits(edit: Any) -> list[CellEdit]:
    """A change of a document as an event holds it."""
    match edit:
        case Insert(cell, after):
            return [CellEdit(op="insert", cell_id=cell.id, cell=content(cell), after=after)]
        case Replace(cell):
            return [CellEdit(op="replace", cell_id=cell.id, cell=content(cell))]
        case Delete(cell_id):
            return [CellEdit(op="delete", cell_id=cell_id)]
        case Move(cell_id, after):
            return [CellEdit(op="move", cell_id=cell_id, after=after)]
    return []


def content(cell: Any) -> CellContent:
    """A notebook's cell as an event holds it."""
    return CellContent(
        id=cell.id,
        kind=cell.kind,
        source=cell.source,
        outputs=list(cell.outputs),
        execution_count=cell.execution_count,
        metadata=dict(cell.metadata),
    )
