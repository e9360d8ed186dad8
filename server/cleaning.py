"""What goes by itself: idle kernels, artifacts and sessions whose time is over, and what crashes left in the stores."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog
from cellwright.kernels.errors import KernelError
from cellwright.server.artifacts import Artifacts
from cellwright.server.domain import Frozen, Sha256
from cellwright.server.errors import CellwrightError, NotFound
from cellwright.server.kernel_life import KernelLife
from cellwright.server.sessions import Sessions
from cellwright.server.settings import Settings
from cellwright.server.store.objects import Objects
from cellwright.server.store.repeats import Repeats
from cellwright.server.store.sessions import SessionRows
from pydantic import Field

DAY_S = 86_400.0
CUT_SHORT_S = 3_600.0
"""An upload or a cell may take so long to refer to what it stored."""

log = structlog.get_logger(__name__)


class Cleaned(Frozen):
    """What one kind of cleaning did, or would do."""

    what: str
    count: int = Field(description="How many were removed, or would be; of rows without objects: how many were found")
    problem: str | None = Field(None, description="Why it was not done to its end")


class Cleaner:
    """Does every kind of cleaning by itself: one that fails does not stop the rest."""

    def __init__(
        self,
        settings: Settings,
        rows: SessionRows,
        sessions: Sessions,
        artifacts: Artifacts,
        life: KernelLife,
        repeats: Repeats,
        objects: Objects,
    ) -> None:
        self._settings, self._rows, self._sessions, self._artifacts = settings, rows, sessions, artifacts
        self._life, self._repeats, self._objects = life, repeats, objects

    async def run(self) -> None:
        """Cleans every `clean_every_s`, until cancelled."""
        while True:
            await asyncio.sleep(self._settings.clean_every_s)
            done = await self.clean()
            log.info("cleaned", **{c.what.replace(" ", "_"): c.count for c in done if c.count or c.problem})

    async def clean(self, *, dry_run: bool = False) -> list[Cleaned]:
        """Does all of it, or with `dry_run` only counts."""
        kinds: dict[str, Callable[[bool], Awaitable[int]]] = {
            "idle kernels": self._idle_kernels,
            "expired artifacts": self._expired_artifacts,
            "expired sessions": self._expired_sessions,
            "uploads cut short": lambda dry: self._artifacts.drop_pending(CUT_SHORT_S, dry_run=dry),
            "unreferenced objects": self._unreferenced,
            "objects without rows": self._without_rows,
            "rows without objects": self._without_objects,
            "remembered answers": lambda dry: self._repeats.prune(DAY_S, dry_run=dry),
        }
        done = []
        for what, clean in kinds.items():
            try:
                done.append(Cleaned(what=what, count=await clean(dry_run)))
            except (CellwrightError, KernelError, OSError) as error:
                log.warning("not_cleaned", what=what, error=str(error))
                done.append(Cleaned(what=what, count=0, problem=str(error)))
            except Exception as error:
                log.exception("not_cleaned", what=what)
                done.append(Cleaned(what=what, count=0, problem=type(error).__name__))
        return done

    async def _idle_kernels(self, dry_run: bool) -> int:
        return await self._life.hibernate_idle(dry_run=dry_run)

    async def _expired_artifacts(self, dry_run: bool) -> int:
        count = 0
        while found := await self._artifacts.expired():
            count += len(found)
            if dry_run:
                break
            for artifact in found:
                with contextlib.suppress(NotFound):
                    await self._artifacts.delete(artifact, "cellwright")
        return count

    async def _expired_sessions(self, dry_run: bool) -> int:
        days = self._settings.session_retention_days
        if days is None:
            return 0
        found = await self._rows.unused_for(days * DAY_S)
        if dry_run:
            return len(found)
        count = 0
        for session_id in found:
            # Deleting takes its time: who came back meanwhile keeps theirs.
            if session_id in await self._rows.unused_for(days * DAY_S, session_id):
                with contextlib.suppress(NotFound):
                    await self._sessions.delete(await self._rows.get(session_id))
                    count += 1
        return count

    async def _unreferenced(self, dry_run: bool) -> int:
        found = await self._artifacts.unreferenced(CUT_SHORT_S)
        return len(found) if dry_run else await self._artifacts.release(found, CUT_SHORT_S)

    async def _without_rows(self, dry_run: bool) -> int:
        """Bytes in the object store that no row knows: a crash came between the bytes and the row, or a row's end."""
        count = 0
        page: list[Sha256] = []
        async for sha256, age_s in self._objects.names():
            if age_s > CUT_SHORT_S:
                page.append(sha256)
            if len(page) == 1_000:
                count += await self._drop_unknown(page, dry_run)
                page = []
        return count + await self._drop_unknown(page, dry_run)

    async def _drop_unknown(self, page: list[Sha256], dry_run: bool) -> int:
        known = await self._artifacts.known(page)
        unknown = [sha256 for sha256 in page if sha256 not in known]
        if dry_run:
            return len(unknown)
        await self._artifacts.add_found(unknown, CUT_SHORT_S)
        return await self._artifacts.release(unknown, CUT_SHORT_S)

    async def _without_objects(self, dry_run: bool) -> int:
        """Rows whose bytes are gone: somebody removed them behind our back. Told, not mended: nothing can."""
        there = {sha256 async for sha256, _ in self._objects.names()}
        lost: list[Sha256] = []
        after = ""
        while page := await self._artifacts.referenced(after):
            lost += [sha256 for sha256 in page if sha256 not in there]
            after = page[-1]
        if lost:
            log.error("objects_are_missing", count=len(lost), first=lost[0])
        return len(lost)
