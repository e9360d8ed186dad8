"""Where a notebook comes from: session, turns, models, and the files and packages that it was made with."""

from __future__ import annotations

import asyncio
import json
import os
from datetime import UTC, datetime
from typing import Any

from cellwright.kernels import injected
from cellwright.kernels.errors import KernelError
from cellwright.kernels.inside import packages
from cellwright.kernels.sessions import SessionKernels
from cellwright.notebooks.dependencies import names
from cellwright.notebooks.document import Document
from cellwright.server.artifacts import Artifacts
from cellwright.server.domain import Session
from cellwright.server.events import TurnStarted
from cellwright.server.store.log import Log
from cellwright.server.store.sessions import SessionRows
from cellwright.server.version import package_version
from cellwright.server.workspace import File, Workspace

HASHED_BYTES = 1 << 30
"""Files beyond so much in all are named without their hash."""

PACKAGES_S = 10.0


class Provenance:
    """Says of a session's notebook how it came to be."""

    def __init__(self, log: Log, rows: SessionRows, artifacts: Artifacts, kernels: SessionKernels) -> None:
        self._log, self._rows, self._artifacts, self._kernels = log, rows, artifacts, kernels

    async def of(self, session: Session, document: Document, workspace: Workspace) -> dict[str, Any]:
        """What an exported notebook's metadata holds beside session, title and revision, as JSON."""
        turns, _ = await self._rows.turns(session.id, 100_000)
        started = {
            event.turn_id: event
            for event in await self._log.of_type(session.id, "turn.started")
            if isinstance(event, TurnStarted)
        }
        known = await self._artifacts.files(session.id)
        files = await asyncio.to_thread(workspace.files)
        sources = [cell.source for cell in document if cell.kind == "code"]
        made = [artifact for artifact in known.values() if artifact.created_by == "file"]
        given = await self._artifacts.files(session.id, ("upload",))
        written = {artifact.name for artifact in made}
        inputs = [
            file
            for file in files
            if (file.name in given or any(os.path.basename(file.name) in source for source in sources))
            and file.name not in written
        ]
        # What a cell has written over was given otherwise.
        over = [given[name] for name in sorted(given.keys() & written)]
        return {
            "version": package_version(),
            "exported_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "agent": session.agent,
            "turns": [
                {
                    "n": turn.n,
                    "id": turn.id,
                    "kind": turn.request.kind,
                    "status": turn.status.value,
                    "model": (started[turn.id].model or None) if turn.id in started else None,
                    "asked_at": turn.created_at.isoformat(timespec="seconds"),
                }
                for turn in turns
                if not turn.limb
            ],
            "inputs": [
                *await asyncio.to_thread(_hashed, workspace, inputs),
                *({"name": a.name, "sha256": a.sha256, "size_bytes": a.size_bytes} for a in over),
            ],
            "artifacts": [
                {"name": a.name, "sha256": a.sha256, "size_bytes": a.size_bytes, "cell_id": a.cell_id} for a in made
            ],
            **await self._packages(session, sources),
        }

    async def _packages(self, session: Session, sources: list[str]) -> dict[str, Any]:
        """Versions of Python and of what the cells import: in the kernel, or as it would have them."""
        modules = sorted({module for source in sources for module in names(source).imports})
        connection = self._kernels.get(session.id)
        if connection is not None and connection.execution_state != "busy":
            try:
                told = await connection.evaluate(injected.call("packages", f"of_modules({modules!r})"), PACKAGES_S)
                return dict(told)
            except KernelError:
                pass
        if session.kernel_name not in (None, "cellwright", "python3") or self._kernels.remote:
            return {}  # What another kernel has is known only while it lives.
        return dict(json.loads(await asyncio.to_thread(packages.of_modules, modules)))


def _hashed(workspace: Workspace, files: list[File]) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    left = HASHED_BYTES
    for file in files:
        sha256 = None
        if file.size_bytes <= left:
            left -= file.size_bytes
            sha256 = workspace.sha256(file.name)
        told.append({"name": file.name, "sha256": sha256, "size_bytes": file.size_bytes})
    return told
