"""Reads notebooks out of the log's projection, as they are now or were at any revision."""

from __future__ import annotations

from typing import Any

from cellwright.notebooks.document import Cell, CellId, Document
from cellwright.notebooks.errors import UnknownCell
from cellwright.server.domain import SessionId
from cellwright.server.store import postgres, queries

SQL = queries.load("cells")


class Cells:
    """The notebooks of all sessions. Outputs may hold references to stored objects."""

    def __init__(self, pool: postgres.Pool) -> None:
        self._pool = pool

    async def document(self, session_id: SessionId, revision: int | None = None) -> Document:
        """The notebook now, or as it was after the event with the number `revision`."""
        async with postgres.acquired(self._pool) as connection:
            if revision is None:
                rows = await connection.fetch(SQL.cells_now, session_id)
            else:
                rows = await connection.fetch(SQL.cells_at, session_id, revision)
        return Document(tuple(_cell(row) for row in rows))

    async def cell(self, session_id: SessionId, cell_id: str) -> Cell:
        """One cell as it is now; raises UnknownCell."""
        async with postgres.acquired(self._pool) as connection:
            row = await connection.fetchrow(SQL.cell, session_id, cell_id)
        if row is None:
            raise UnknownCell(cell_id)
        return _cell(row)

    async def revision(self, session_id: SessionId) -> int:
        """The number of the event that last changed the notebook."""
        async with postgres.acquired(self._pool) as connection:
            return int(await connection.fetchval(SQL.revision, session_id) or 0)

    async def running(self, session_id: SessionId) -> set[str]:
        """The ids of cells that run now."""
        async with postgres.acquired(self._pool) as connection:
            return {row["cell_id"] for row in await connection.fetch(SQL.running_cells, session_id)}

    async def last(self, session_id: SessionId) -> str | None:
        """The id of the last cell, if there is one."""
        async with postgres.acquired(self._pool) as connection:
            found = await connection.fetchval(SQL.last_cell, session_id)
        return None if found is None else str(found)


def _cell(row: Any) -> Cell:
    return Cell(
        CellId(row["cell_id"]),
        row["kind"],
        row["source"],
        tuple(row["outputs"]),
        row["execution_count"],
        row["metadata"],
    )
