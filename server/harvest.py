"""What a cell leaves behind becomes artifacts: what it showed, the files that it wrote, the text that was too long."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from cellwright.kernels.registry import Registry
from cellwright.notebooks.document import Output
from cellwright.server.artifacts import Artifacts, slug
from cellwright.server.domain import Artifact, SessionId, TurnId
from cellwright.server.events import CellStarted
from cellwright.server.workspace import File, Workspace


class Harvest:
    """Makes artifacts of what cells left; what is kept already is not kept again."""

    def __init__(self, artifacts: Artifacts, spools: Path | None) -> None:
        """`spools`: the folder where our kernels keep what a cell wrote, and what was too long for its notebook."""
        self._artifacts, self._spools = artifacts, spools

    async def of(
        self,
        session_id: SessionId,
        turn_id: TurnId,
        generation: int,
        started: CellStarted,
        outputs: list[Output],
        workspace: Workspace,
        before: list[File],
    ) -> list[Artifact]:
        """The artifacts of a cell that has ended; `before` are the workspace's files as it began."""
        lineage = {
            "turn_id": turn_id,
            "message_id": started.message_id,
            "cell_id": started.cell_id,
            "generation": generation,
        }
        shown = await self._artifacts.add_shown(session_id, outputs, started.purpose or "output", **lineage)
        files = await self._new_files(session_id, workspace, before, lineage)
        return [*shown, *files, *await self._whole_text(session_id, started, lineage)]

    async def _new_files(
        self, session_id: SessionId, workspace: Workspace, before: list[File], lineage: dict[str, Any]
    ) -> list[Artifact]:
        made = [
            await self._artifacts.add_file(
                session_id, workspace.folder, file.name, file.name, created_by="file", **lineage
            )
            for file in await asyncio.to_thread(workspace.changed, before)
        ]
        return [artifact for artifact in made if artifact is not None]

    async def _whole_text(self, session_id: SessionId, started: CellStarted, lineage: dict[str, Any]) -> list[Artifact]:
        """Console text that was too long for the notebook; then the cell's spools go."""
        if self._spools is None:
            return []
        registry = Registry(self._spools)
        made = []
        for name in ("stdout", "stderr"):
            path = await asyncio.to_thread(registry.kept, started.execution_id, name)
            if await asyncio.to_thread(path.exists):
                artifact = await self._artifacts.add_file(
                    session_id,
                    path.parent,
                    path.name,
                    f"{slug(started.purpose or 'output')}.{name}.txt",
                    created_by="text",
                    kind="debug",
                    mime_type="text/plain",
                    description=f"All that the cell wrote to {name}",
                    **lineage,
                )
                if artifact is not None:
                    made.append(artifact)
        await asyncio.to_thread(registry.drop_kept, started.execution_id)
        return made
