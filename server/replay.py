"""Runs a notebook again, in a fresh kernel and a folder of its own, and says cell by cell how that went."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cellwright.kernels import injected, users
from cellwright.kernels.client import KernelConnection
from cellwright.kernels.errors import KernelError
from cellwright.kernels.execution import run_whole
from cellwright.kernels.sessions import SessionKernels
from cellwright.notebooks.document import Document
from cellwright.notebooks.replay import (
    Replay,
    ReplayedCell,
    ReplayedInput,
    ReplayedPackage,
    counted,
    is_skipped,
    judge,
    skipped,
)
from cellwright.server.artifacts import Artifacts
from cellwright.server.domain import SessionId, Sha256, new_id
from cellwright.server.errors import Invalid
from cellwright.server.kernel_life import KernelLife
from cellwright.server.notebook_files import KEY
from cellwright.server.settings import Settings
from cellwright.server.workspace import Workspace

FOLDER = "cellwright"
PREFIX = ".replay-"
LEFT_S = 86_400.0
PACKAGES_S = 10.0
OURS = ("python3", "cellwright")


@dataclass(frozen=True)
class Begun:
    """A kernel is there, and the first cell is about to run."""

    cells: int
    kernel: str


@dataclass(frozen=True)
class Running:
    """A cell runs: the `number`th of the notebook, the `done`th of those that replay."""

    number: int
    done: int


Progress = Begun | Running | ReplayedCell | Replay


class Replays:
    """Replays notebooks. Each has a kernel of its own that is gone at the end."""

    def __init__(
        self, settings: Settings, kernels: SessionKernels, life: KernelLife, artifacts: Artifacts, root: Path
    ) -> None:
        self._settings, self._kernels, self._life, self._root = settings, kernels, life, root
        self._artifacts = artifacts

    def sweep(self) -> None:
        """Removes folders that a server left which ended in the middle. Blocking."""
        for left in (self._root / FOLDER).glob(f"{PREFIX}*"):
            with contextlib.suppress(OSError):
                if time.time() - left.stat().st_mtime > LEFT_S:
                    shutil.rmtree(left, ignore_errors=True)

    def folder(self) -> Workspace:
        """A fresh folder below the server's root, for the notebook's files; `run` removes it. Blocking."""
        folder = Workspace(self._root / FOLDER / f"{PREFIX}{new_id()[:8]}", "")
        folder.make()
        return folder

    async def run(
        self, document: Document, title: str, folder: Workspace, *, keep_going: bool = False
    ) -> AsyncGenerator[Progress, None]:
        """Runs the code cells in order; ends with the report. Raises Invalid, TooManyKernels or KernelNotStarted.

        After a cell that failed, where its record did not, the rest is skipped, unless it is to `keep_going`.
        """
        # A session's name, for the kernel alone: no session has it.
        name = SessionId(new_id())
        began, started_at = time.monotonic(), datetime.now(UTC)
        try:
            spec = await self._kernelspec(document)
            if self._settings.kernel_user is not None:
                await asyncio.to_thread(users.give, folder.folder, self._settings.kernel_user)
            inputs = await asyncio.to_thread(_inputs, document, folder)
            await self._life.make_room(name)
            kernel = await self._kernels.start(name, spec, folder.folder)
            cells = [(n, c) for n, c in enumerate(document, 1) if c.kind == "code" and c.source.strip()]
            yield Begun(len(cells), spec or self._settings.kernel_name)
            ran: list[ReplayedCell] = []
            stopped = ""
            for number, cell in cells:
                if is_skipped(cell):
                    found = skipped(number, cell, "tagged skip-execution")
                elif stopped:
                    found = skipped(number, cell, stopped)
                else:
                    yield Running(number, len(ran))
                    outputs, ended = await run_whole(
                        kernel, cell.source, self._kernels.folder, self._settings.cell_timeout_s
                    )
                    found = await asyncio.to_thread(
                        judge, number, cell, outputs, ended.status, round(ended.duration_s * 1000)
                    )
                    if kernel.died.done():
                        stopped = f"not run: the kernel had died ({kernel.died.result()})"
                    elif found.verdict == "failed" and not keep_going:
                        stopped = "not run: an earlier cell failed"
                ran.append(found)
                yield found
            python, packages = await _versions(kernel, document)
            verdict, counts = counted(ran)
            yield Replay(
                title=title,
                kernel=spec or self._settings.kernel_name,
                python=python,
                started_at=started_at,
                duration_s=round(time.monotonic() - began, 3),
                cells=ran,
                inputs=inputs,
                packages=packages,
                verdict=verdict,
                counts=counts,
            )
        finally:
            await asyncio.shield(self._end(name, folder))

    async def _end(self, name: SessionId, folder: Workspace) -> None:
        await self._kernels.end(name)
        await asyncio.to_thread(shutil.rmtree, folder.folder, ignore_errors=True)

    async def _kernelspec(self, document: Document) -> str | None:
        """The kernelspec to start; None for our own, which runs what any Python 3 kernel does."""
        wanted = (document.metadata.get("kernelspec") or {}).get("name")
        if wanted is not None and wanted not in OURS and wanted in await self._kernels.names():
            return str(wanted)
        if document.language != "python":
            raise Invalid(f"The notebook is for the kernelspec {wanted!r}, and this server has none of that name.")
        return None

    async def supply(self, document: Document, folder: Workspace, session_id: SessionId) -> None:
        """Puts the files that a notebook names, and that are not in the folder, there from its session's artifacts."""
        for name, sha256 in wanted_inputs(document):
            file = await asyncio.to_thread(folder.open, name)
            if file is not None:
                file.close()
            elif sha256 is not None and await self._artifacts.has(session_id, sha256, name):
                with contextlib.suppress(OSError, KeyError):
                    await self._artifacts.put_file(Sha256(sha256), folder.folder, name)


def provenance(document: Document) -> dict[str, Any]:
    """What a notebook that we exported says of its origin; empty for any other."""
    found = document.metadata.get(KEY)
    return dict(found) if isinstance(found, dict) else {}


def wanted_inputs(document: Document) -> list[tuple[str, str | None]]:
    """Names and hashes of the files that a notebook says it was made with."""
    told = provenance(document).get("inputs")
    rows: Sequence[Any] = told if isinstance(told, list) else ()
    return [
        (row["name"], row.get("sha256") if isinstance(row.get("sha256"), str) else None)
        for row in rows
        if isinstance(row, dict) and isinstance(row.get("name"), str)
    ]


def _inputs(document: Document, folder: Workspace) -> list[ReplayedInput]:
    found = []
    for name, sha256 in wanted_inputs(document):
        here = folder.sha256(name)
        same = here is not None and sha256 in (None, here)
        found.append(ReplayedInput(name=name, status="missing" if here is None else "same" if same else "changed"))
    return found


async def _versions(kernel: KernelConnection, document: Document) -> tuple[str, list[ReplayedPackage]]:
    """The kernel's Python, and the packages that have another version there than is recorded."""
    told = provenance(document).get("packages")
    recorded = {str(name): version for name, version in (told if isinstance(told, dict) else {}).items()}
    with contextlib.suppress(KernelError):
        asked = injected.call("packages", f"of_packages({sorted(recorded)!r})")
        now = dict(await kernel.evaluate(asked, PACKAGES_S))
        changed = [
            ReplayedPackage(name=name, recorded=None if version is None else str(version), now=now["packages"][name])
            for name, version in sorted(recorded.items())
            if now["packages"][name] != version
        ]
        return str(now["python"]), changed
    return "unknown", []
