"""A session's notebook as a file of its own, and notebooks of anybody's as sessions."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

from cellwright.notebooks import codec
from cellwright.notebooks.document import SKIP_TAG, Cell, Document
from cellwright.notebooks.export import MIMES, Format, export
from cellwright.notebooks.replay import RAISES_TAG, is_skipped
from cellwright.server.domain import Session
from cellwright.server.errors import Invalid
from cellwright.server.kernel_life import workspace_of
from cellwright.server.notebook_files import KEY
from cellwright.server.provenance import Provenance
from cellwright.server.sessions import Sessions
from cellwright.server.store.objects import Spooled
from cellwright.server.workbench import Tools

IMPORTED = "imported_from"
MAX_PICTURE_BYTES = 16 << 20


class Exports:
    """Lets notebooks out and in."""

    def __init__(self, tools: Tools, sessions: Sessions, provenance: Provenance) -> None:
        self._t, self._sessions, self._provenance = tools, sessions, provenance

    async def document(self, session: Session) -> Document:
        """The notebook, self-contained, with all that is known of how it came to be in its metadata."""
        document = await self._sessions.document(session)
        about = await self._provenance.of(session, document, workspace_of(self._t.root, session))
        fatal = await self._t.rows.fatal_runs(session.id)

        def told(cell: Cell) -> Cell:
            if is_skipped(cell):
                return cell
            if (cell.id, cell.source) in fatal:
                return cell.tagged(SKIP_TAG)  # Whoever runs the notebook would lose their kernel as well.
            # What failed, and is no attempt that was given up, fails again: whoever runs the notebook is to go on.
            return cell.tagged(RAISES_TAG) if _failed(cell) else cell

        cells = tuple(map(told, document))
        metadata = {**document.metadata, KEY: {**document.metadata[KEY], **about}}
        return replace(document, cells=cells, metadata=metadata)

    async def file(self, session: Session, form: Format) -> tuple[bytes, str]:
        """The notebook in one of its forms, and the form's MIME type."""
        document = await self.document(session)
        workspace = workspace_of(self._t.root, session)

        def read(name: str) -> bytes | None:
            file = workspace.open(name)
            if file is None:
                return None
            with file:
                data = file.read(MAX_PICTURE_BYTES + 1)
            return data if len(data) <= MAX_PICTURE_BYTES else None

        return await asyncio.to_thread(export, document, form, session.title, read), MIMES[form]

    async def bring_in(
        self, owner: str, notebook: bytes, files: list[tuple[str, Spooled]], *, named: str, **fields: Any
    ) -> Session:
        """A new session with this notebook and these files; raises Invalid, and then there is none.

        Without a title among its `fields` it has the notebook's, or is `named` as the file. What the notebook says of
        its origin stays in its metadata.
        """
        document = await asyncio.to_thread(codec.decode, notebook)
        if document.language != "python":
            raise Invalid(f"The notebook's cells are written in {document.language}; sessions run Python.")
        origin = document.metadata.get(KEY)
        title = origin.get("title") if isinstance(origin, dict) else None
        fields["title"] = fields.get("title") or (title if isinstance(title, str) and title else named)[:200]
        session = await self._sessions.create(owner, **fields)
        try:
            for name, spooled in files:
                await self._sessions.upload(session, spooled, name, nested=True)
            # The session's kernel is its own: that of the notebook may not be there, or another one.
            metadata = {name: value for name, value in document.metadata.items() if name not in (KEY, "kernelspec")}
            if isinstance(origin, dict):
                metadata[f"{KEY}/{IMPORTED}"] = json.loads(json.dumps(origin))
            await self._t.notebooks.put(session, replace(document, metadata=metadata))
        except BaseException:
            await self._sessions.delete(session)
            raise
        return await self._t.rows.get(session.id)


def _failed(cell: Cell) -> bool:
    return any(output["output_type"] == "error" for output in cell.outputs)
