"""Saves that pass by: what the user saved is written, whatever goes wrong on our side."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from cellwright.extension.documents.contents import merged

MODEL = {"type": "notebook", "content": {"cells": ["mine"]}}
JOINED = {"type": "notebook", "content": {"cells": ["ours", "mine"]}}


class Files:
    """Joins both sides, and fails before or after it wrote."""

    def __init__(self, before: Exception | None = None, after: Exception | None = None) -> None:
        self.before, self.after = before, after

    async def take(self, session: Any, model: Any, write: Any) -> Any:
        if self.before:
            raise self.before
        told = await write(JOINED)
        if self.after:
            raise self.after
        return told


class Disk:
    """What was written, or an error in place of it."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.written: list[Any] = []

    async def write(self, model: Any) -> Any:
        self.written.append(model)
        if self.error:
            raise self.error
        return {"last_modified": len(self.written)}


async def save(files: Files, disk: Disk) -> Any:
    async def get(_: str) -> Any:
        return SimpleNamespace(notebook_path="a.ipynb")

    app: Any = SimpleNamespace(rows=SimpleNamespace(get=get), notebooks=files)
    return await merged(app, "s", dict(MODEL), "/a.ipynb", disk.write)


@pytest.mark.parametrize(
    ("files", "written"),
    [
        (Files(), JOINED),
        (Files(before=RuntimeError("a fault of ours")), MODEL),
        (Files(after=RuntimeError("a fault of ours")), JOINED),
    ],
)
async def test_what_was_saved_is_written_once(files: Files, written: Any) -> None:
    """A fault in joining costs the joining, not the save."""
    disk = Disk()
    assert await save(files, disk) == {"last_modified": 1}
    assert disk.written == [written]


async def test_a_disk_that_refuses_is_the_savers_to_know() -> None:
    disk = Disk(OSError("full"))
    with pytest.raises(OSError, match="full"):
        await save(Files(), disk)
    assert disk.written == [JOINED]
