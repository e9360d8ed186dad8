"""What can be wrong with a notebook.

NotebookError
├── UnknownCell      an edit names a cell that is not in the document
├── EditConflict     an edit expected other content than the cell now holds
└── InvalidNotebook  bytes or JSON that are no notebook
"""

from __future__ import annotations


class NotebookError(Exception):
    """Something about a notebook is wrong."""


class UnknownCell(NotebookError):
    """The notebook has no such cell."""

    def __init__(self, cell_id: str) -> None:
        super().__init__(f"The notebook has no cell {cell_id!r}.")
        self.cell_id = cell_id


class EditConflict(NotebookError):
    """The cell was changed since it was read."""

    def __init__(self, cell_id: str, expected: str, found: str) -> None:
        super().__init__(
            f"Cell {cell_id!r} was changed since it was read (expected {expected[:12]}, found {found[:12]}): "
            "read it again before you edit it."
        )
        self.cell_id, self.expected, self.found = cell_id, expected, found


class InvalidNotebook(NotebookError):
    """Not a Jupyter notebook."""
