"""Notebooks that jupyter-collaboration shares between tabs: the agent's work is put into the shared document here.

There the document is the server's, and every tab shows it: so no tab applies events, and none has the writer's role.
What users type goes into the log with the saves of jupyter-collaboration itself, as every save does, and before a
turn begins. Nothing is awaited between reading the document and changing it: what is typed meanwhile is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import structlog
from cellwright.extension import sse
from cellwright.notebooks import codec
from cellwright.notebooks.document import Cell, Document, Output
from cellwright.notebooks.edits import Delete, Edit, Insert, Move, Replace, difference, merge
from cellwright.notebooks.outputs import OutputArea, Show, as_text, externalise, inline, references
from cellwright.server.app import Cellwright
from cellwright.server.domain import SessionId
from cellwright.server.errors import CellwrightError, NotFound
from cellwright.server.live import heard
from cellwright.server.notebook_files import KEY

log = structlog.get_logger(__name__)
CHANGES = ("cell.started", "cell.completed", "cells.edited")
LIVE = ("cell.output", "cell.snapshot")
SENT = 50
"""How many of a cell's saves we remember: the log tells them back, and that is nobody else's change."""

AGAIN_S = 3.0
"""After this, what failed is tried again."""

SETTLED_S = 0.01


class SharedNotebooks:
    """The shared documents of sessions, as long as tabs have them open."""

    def __init__(self, app: Cellwright, server: Any) -> None:
        self._app, self._server = app, server
        self._open: dict[SessionId, SharedNotebook] = {}
        self._changing = asyncio.Lock()
        app.notebooks.shared = self._content
        app.notebooks.on_taken = self._taken

    async def join(self, session_id: SessionId) -> bool:
        """Follows the session into its shared document; False where there is none."""
        async with self._changing:
            session = await self._app.rows.get(session_id)
            document = await self._find(session.notebook_path)
            if document is None:
                return False
            held = self._open.get(session_id)
            if held is None or held.document is not document or held.ended:
                if held is not None:
                    await held.close()
                self._open[session_id] = SharedNotebook(self._app, session_id, document)
            return True

    async def leave(self, session_id: SessionId, back: Callable[[], bool]) -> None:
        """The last tab was closed: what was typed there is taken in. Nothing more where a tab came `back` meanwhile."""
        async with self._changing:
            held = self._open.get(session_id)
            if held is None:
                return
            try:
                await self._app.notebooks.pull(await self._app.rows.get(session_id))
            except NotFound:
                pass  # The session was deleted.
            finally:
                if not back():
                    self._open.pop(session_id, None)
                    await held.close()

    async def close(self) -> None:
        for held in list(self._open.values()):
            await held.close()
        self._open.clear()

    async def _find(self, path: str) -> Any:
        """The document that jupyter-collaboration holds for a file: a `jupyter_ydoc.YNotebook`, or None."""
        for extension in self._server.extension_manager.extension_apps.get("jupyter_server_ydoc", ()):
            return await extension.get_document(path=path, content_type="notebook", file_format="json", copy=False)
        return None

    async def _content(self, session_id: SessionId) -> dict[str, Any] | None:
        held = self._open.get(session_id)
        return None if held is None or held.ended else await held.content()

    def _taken(self, session_id: SessionId, reader: str, cells: list[Cell]) -> None:
        held = self._open.get(session_id)
        if held is not None and held.tab == reader:
            held.sent(cells)


class SharedNotebook:
    """One shared document, that follows its session's log."""

    def __init__(self, app: Cellwright, session_id: SessionId, document: Any) -> None:
        self.document = document
        self.tab = f"shared-{uuid4().hex}"
        self._app, self._session_id = app, session_id
        self._base = Document()
        self._followed = -1
        self._areas: dict[str, OutputArea] = {}
        self._live: set[str] = set()
        self._told_running: set[str] = set()
        self._places: dict[str, int] = {}
        self._objects: dict[str, bytes] = {}
        self._sent: dict[str, deque[str]] = defaultdict(lambda: deque(maxlen=SENT))
        self._changing = asyncio.Lock()
        self._reset = asyncio.Event()
        self._meta = document.ydoc["meta"]
        self._watched = self._meta.observe_deep(self._look_later)
        self._task = asyncio.create_task(self._run(), name="shared notebook")

    @property
    def ended(self) -> bool:
        return self._task.done()

    async def content(self) -> dict[str, Any]:
        """The document as nbformat JSON, as it stands at one moment."""
        await self._settled()
        found: dict[str, Any] = self.document.get()
        return found

    def sent(self, cells: list[Cell]) -> None:
        """Notes what users typed here that the log has now: it will tell it back."""
        for cell in cells:
            self._sent[cell.id].append(cell.content_hash)

    async def _settled(self) -> None:
        """Returns when nobody is in the midst of changing the document: jupyter-collaboration awaits while it does."""
        while getattr(self.document.ydoc, "_txn", None) is not None:
            await asyncio.sleep(SETTLED_S)

    async def close(self) -> None:
        if self._watched is not None:
            self._meta.unobserve(self._watched)
            self._watched = None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        """Follows for as long as there is a session; what goes wrong is tried again."""
        gone = False
        while not gone:
            try:
                after = await self._catch_up()
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._follow(after))
                    tasks.create_task(self._recover())
            except* NotFound:
                gone = True
            except* CellwrightError as errors:
                log.warning("shared_notebook_fell_behind", session_id=self._session_id, error=str(errors.exceptions[0]))
            except* Exception:
                log.exception("shared_notebook_fell_behind", session_id=self._session_id)
            await asyncio.sleep(0 if gone else AGAIN_S)

    async def _follow(self, after: int) -> None:
        async with contextlib.aclosing(sse.events(self._app, self._session_id, after)) as events:
            async for kind, data, number in events:
                if kind in LIVE:
                    self._show(kind, data)
                elif kind in CHANGES and number is not None and number > self._followed:
                    self._areas.pop(data.get("execution_id", ""), None)
                    await self._catch_up()

    async def _recover(self) -> None:
        """Puts the log's changes in again where jupyter-collaboration loaded the file over them."""
        while True:
            await self._reset.wait()
            self._reset.clear()
            if self._mark() != (self._followed, self.tab):
                await self._catch_up()

    def _look_later(self, _events: Any) -> None:
        self._reset.set()

    async def _catch_up(self) -> int:
        """Brings the document to where the log is; returns the event that this is."""
        async with self._changing:
            return await self._catch_up_alone()

    async def _catch_up_alone(self) -> int:
        cells = self._app.cells
        revision = await cells.revision(self._session_id)
        ours = await cells.document(self._session_id, revision)
        running = await cells.running(self._session_id)
        while True:
            await self._settled()
            marked, tab = self._mark()
            if tab != self.tab or marked != self._followed:
                # Loaded from the file, by us for the first time or by jupyter-collaboration when that was changed.
                self._base = await cells.document(self._session_id, marked)
                self._followed, known = marked, (marked, tab)
                self._sent.clear()
                self._live.clear()
                await self._settled()
                if self._mark() != known:
                    continue
            if float(self._meta.get("nbformat_minor", 5)) < 5:
                self._meta["nbformat_minor"] = 5  # Before that, cells had no names.
            edits = self._edits(ours, running)
            wanted = {name for edit in edits for name in _names(edit)} - self._objects.keys()
            if not wanted:
                break
            self._objects |= await self._app.artifacts.fetch_all(sorted(wanted))
        with self.document.ydoc.transaction():
            for edit in edits:
                self._apply(edit)
            self._tell_states(running)
            self._set_mark(revision)
        self._live &= running
        self._base, self._followed = ours, revision
        self._objects.clear()
        self._heard_back(ours)
        return revision

    def _edits(self, ours: Document, running: set[str]) -> list[Edit]:
        """What is to be done to the document so that it holds the log's changes and what users typed."""
        there = self._there()
        base = self._with_sent(ours)
        unsettled = running | self._live
        theirs = [
            replace(cell, outputs=base[cell.id].outputs, execution_count=base[cell.id].execution_count)
            if cell.id in unsettled and cell.id in base
            else cell
            for cell in there
        ]
        joined = merge(base, ours, Document(tuple(theirs)))
        # What a cell that runs has shown so far stays until it has ended.
        shown = [
            replace(cell, outputs=joined[cell.id].outputs, execution_count=joined[cell.id].execution_count)
            if cell.id in running and cell.id in self._live and cell.id in joined
            else cell
            for cell in there
        ]
        return difference(Document(tuple(shown)), joined)

    def _there(self) -> Document:
        """The document as the log would hold it, with large values by reference."""
        cells = []
        for node in self.document.get()["cells"]:
            cell = codec.decode_cell(node)
            known = self._base[cell.id].outputs if cell.id in self._base else ()
            slim, objects = externalise(cell.outputs)
            self._objects |= objects
            # Shared documents tell no 1.0 from 1: what is equal is the same.
            cells.append(replace(cell, outputs=known if tuple(slim) == known else tuple(slim)))
        return Document(tuple(cells))

    def _with_sent(self, ours: Document) -> Document:
        """The base, with what users typed here and the log has taken since."""
        own = {cell.id: cell for cell in ours if cell.content_hash in self._sent.get(cell.id, ())}
        known = [own.pop(cell.id, cell) for cell in self._base]
        return Document((*known, *own.values()))

    def _heard_back(self, ours: Document) -> None:
        """Forgets what was sent once the log has told it: the same words later are somebody's change."""
        for cell in ours:
            sent = self._sent.get(cell.id)
            while sent and cell.content_hash in sent:
                sent.popleft()

    # -- the document ---------------------------------------------------------------------------------------------

    @property
    def _cells(self) -> Any:
        return self.document.ycells

    def _index(self, cell_id: str) -> int:
        """The cell's place, or -1; looked for where it was last."""
        place = self._places.get(cell_id, -1)
        if not (0 <= place < len(self._cells) and self._cells[place]["id"] == cell_id):
            self._places = {cell["id"]: i for i, cell in enumerate(self._cells)}
        return self._places.get(cell_id, -1)

    def _mark(self) -> tuple[int, str]:
        """Up to which event the document says that it follows the log, and who says so."""
        about = self._about()
        revision, tab = about.get("revision"), about.get("tab")
        known = int(revision) if isinstance(revision, int | float) and 0 <= revision < 2**62 else 0
        return known, tab if isinstance(tab, str) else ""

    def _about(self) -> dict[str, Any]:
        metadata = self._meta.to_py().get("metadata")
        about = metadata.get(KEY) if isinstance(metadata, dict) else None
        return about if isinstance(about, dict) else {}

    def _set_mark(self, revision: int) -> None:
        # A float, as all numbers are in JavaScript.
        ours = {"session_id": self._session_id, "revision": float(revision), "tab": self.tab}
        self._meta["metadata"][KEY] = {**self._about(), **ours}

    def _apply(self, edit: Edit) -> None:
        match edit:
            case Insert(cell, after):
                self._cells.insert(self._index(after) + 1 if after else 0, self._made(cell))
            case Replace(cell):
                self._replace(self._index(cell.id), cell)
            case Delete(cell_id):
                del self._cells[self._index(cell_id)]
            case Move(cell_id, after):
                # Made anew: tabs do not understand the move of a shared array.
                whole = self.document.get_cell(self._index(cell_id))
                del self._cells[self._index(cell_id)]
                self._cells.insert(self._index(after) + 1 if after else 0, self.document.create_ycell(whole))

    def _made(self, cell: Cell) -> Any:
        return self.document.create_ycell(codec.encode_cell(self._whole(cell)))

    def _whole(self, cell: Cell) -> Cell:
        return replace(cell, outputs=tuple(inline(cell.outputs, self._objects.__getitem__)))

    def _replace(self, index: int, cell: Cell) -> None:
        there, whole = self._cells[index], codec.encode_cell(self._whole(cell))
        if there["cell_type"] != cell.kind or (whole.get("attachments") or None) != (
            there.to_py().get("attachments") or None
        ):
            self._cells[index] = self._made(cell)
            return
        if str(there["source"]) != cell.source:
            self.document.set_cell(index, source=cell.source)
        metadata = there["metadata"]
        for name, value in whole["metadata"].items():
            if metadata.get(name) != value:
                metadata[name] = value
        if "tags" in metadata and "tags" not in whole["metadata"]:
            del metadata["tags"]
        if cell.kind == "code":
            self._put(there["outputs"], whole["outputs"])
            if there.get("execution_count") != cell.execution_count:
                there["execution_count"] = cell.execution_count

    def _show(self, kind: str, data: dict[str, Any]) -> None:
        """Puts what a running cell shows into it, if the cell is still the one that runs, and nobody is changing it."""
        index = self._index(data["cell_id"])
        area = self._areas.get(data["execution_id"])
        if kind == "cell.snapshot" or area is None:
            area = self._areas[data["execution_id"]] = OutputArea()
        for change in map(Show, data["outputs"]) if kind == "cell.snapshot" else [heard(data)]:
            area.apply(change)
        changing = getattr(self.document.ydoc, "_txn", None) is not None
        if changing or index == -1 or self._cells[index]["cell_type"] != "code":
            return
        known = self._base[data["cell_id"]].source if data["cell_id"] in self._base else None
        if str(self._cells[index]["source"]) == known:
            with self.document.ydoc.transaction():
                self._put(self._cells[index]["outputs"], area.outputs)
            self._live.add(data["cell_id"])

    def _put(self, shown: Any, outputs: list[Output]) -> None:
        """Makes a cell's shared outputs these; those that are there already are left alone."""
        there = shown.to_py()
        keep = 0
        while keep < min(len(there), len(outputs)) and there[keep] == outputs[keep]:
            keep += 1
        if keep == len(there) - 1 and keep < len(outputs) and _goes_on(there[keep], outputs[keep]):
            more = as_text(outputs[keep]["text"])[len(there[keep]["text"]) :]
            text = shown[keep]["text"]
            text += more
            keep += 1
        del shown[keep:]
        if outputs[keep:]:
            shown.extend([_made_output(output) for output in outputs[keep:]])

    def _tell_states(self, running: set[str]) -> None:
        """Says which cells run; those that a user runs in a tab say so themselves."""
        for cell_id in running | self._told_running:
            index = self._index(cell_id)
            if index != -1 and self._cells[index]["cell_type"] == "code":
                self._cells[index]["execution_state"] = "running" if cell_id in running else "idle"
        self._told_running = set(running)


def _names(edit: Edit) -> list[str]:
    return references(edit.cell.outputs) if isinstance(edit, Insert | Replace) else []


def _made_output(output: Output) -> Any:
    """An output as shared documents hold it: the text of a console can grow."""
    from pycrdt import Map, Text

    return Map({**output, "text": Text(as_text(output["text"]))} if output["output_type"] == "stream" else output)


def _goes_on(there: Output, wanted: Output) -> bool:
    return (
        there["output_type"] == wanted["output_type"] == "stream"
        and there["name"] == wanted["name"]
        and as_text(wanted["text"]).startswith(there["text"])
    )
