"""`Cellwright`, the one place where everything is put together: stores, kernels, models, and what uses them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import structlog
from cellwright.kernels import users
from cellwright.kernels.errors import KernelError, KernelUnreachable
from cellwright.kernels.execution import Execution, Finished
from cellwright.kernels.inside.confine import hide_process
from cellwright.kernels.inside.keeping import Keeping
from cellwright.kernels.sessions import SessionKernels
from cellwright.server import metrics
from cellwright.server.agent.profiles import profiles
from cellwright.server.artifacts import Artifacts
from cellwright.server.branches import Branches
from cellwright.server.checkpoints import Checkpoints
from cellwright.server.cleaning import Cleaner
from cellwright.server.comparison import Comparisons
from cellwright.server.domain import Frozen, Session, Turn, new_id
from cellwright.server.errors import CellwrightError, Invalid, StoreUnavailable
from cellwright.server.events import Event, TurnCompleted
from cellwright.server.exports import Exports
from cellwright.server.harvest import Harvest
from cellwright.server.kernel_life import KernelLife
from cellwright.server.memory import Memory
from cellwright.server.messages import Messages
from cellwright.server.models.catalog import Models
from cellwright.server.models.litellm import library
from cellwright.server.models.protocol import ChatMessage, ModelRequest, said
from cellwright.server.named import NamedCheckpoints
from cellwright.server.notebook_files import Contents, NotebookFiles
from cellwright.server.preferences import PreferenceRows
from cellwright.server.provenance import Provenance
from cellwright.server.replay import Replays
from cellwright.server.revival import Revival
from cellwright.server.rewind import Rewind
from cellwright.server.search import Search
from cellwright.server.sessions import Sessions
from cellwright.server.settings import Settings
from cellwright.server.sharing import Sharing
from cellwright.server.snapshots import Snapshots
from cellwright.server.store import migrate, postgres
from cellwright.server.store.cells import Cells
from cellwright.server.store.embedded import EmbeddedPostgres
from cellwright.server.store.folder import DataFolder
from cellwright.server.store.hot import Hot, open_redis
from cellwright.server.store.leases import Leases
from cellwright.server.store.log import Log
from cellwright.server.store.objects import FileObjects, Objects, S3Objects
from cellwright.server.store.projection import project
from cellwright.server.store.recent import Recent
from cellwright.server.store.repeats import Repeats
from cellwright.server.store.sessions import SessionRows
from cellwright.server.store.wake import Wakeups
from cellwright.server.store.ways import Ways
from cellwright.server.titles import Titles
from cellwright.server.turn_points import TurnPoints
from cellwright.server.turns import Turns
from cellwright.server.usage import By, UsageRow, used
from cellwright.server.version import package_version
from cellwright.server.workbench import Tools

WARM_AFTER_S = 1.0

log = structlog.get_logger(__name__)


class Check(Frozen):
    """How using one part went."""

    name: str
    ok: bool
    detail: str
    ms: float


class Cellwright:
    """Opens everything in `open`, owns every background task, and closes it all in `close`."""

    settings: Settings
    rows: SessionRows
    sessions: Sessions
    turns: Turns
    artifacts: Artifacts
    log: Log
    hot: Hot
    models: Models
    kernels: SessionKernels
    life: KernelLife
    notebooks: NotebookFiles
    tools: Tools
    preferences: PreferenceRows
    memory: Memory
    messages: Messages
    sharing: Sharing
    search: Search
    titles: Titles
    exports: Exports
    rewind: Rewind
    snapshots: Snapshots
    points: NamedCheckpoints
    branches: Branches
    comparisons: Comparisons
    ways: Ways
    replays: Replays
    repeats: Repeats
    cleaner: Cleaner

    def __init__(
        self,
        settings: Settings,
        kernel_manager: Any,
        contents: Contents,
        root: Path,
        url: str | None = None,
        jupyter_sessions: Any = None,
    ) -> None:
        self.settings, self.root, self._url = settings, root, url
        self._jupyter_sessions = jupyter_sessions
        self._kernel_manager, self._contents = kernel_manager, contents
        self.folder = DataFolder(settings.data_dir)
        self._postgres: EmbeddedPostgres | None = None
        self._pool: postgres.Pool | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._objects: Objects | None = None

    async def open(self, wait_s: float = 0.0) -> None:
        """Opens stores, applies migrations, takes kernels and turns of a former server back.

        Raises StoreUnavailable or DataFolderInUse, and then holds nothing.
        """
        try:
            await self._open(wait_s)
        except BaseException:
            await self.close()
            raise

    async def _open(self, wait_s: float) -> None:
        settings = self.settings
        hide_process()
        await asyncio.to_thread(profiles)
        await asyncio.to_thread(self.folder.open, {"url": self._url, "version": package_version()}, wait_s)
        dsn = settings.database_url
        if dsn is None:
            self._postgres = EmbeddedPostgres(self.folder)
            dsn = await asyncio.to_thread(self._postgres.start)
        self._pool = await postgres.open_pool(dsn)
        async with postgres.acquired(self._pool) as connection:
            await migrate.migrate(connection)  # type: ignore[arg-type]
        wakeups = Wakeups(dsn)
        recent = Recent()
        self.log = Log(self._pool, wakeups, project, recent)
        self.hot = Hot(await asyncio.to_thread(open_redis, settings.redis_url))
        self._objects = await self._open_objects()
        ttl = timedelta(days=settings.artifact_ttl_days)
        self.artifacts = Artifacts(self._pool, self.log, self._objects, self.folder.secret("links"), ttl)
        self.rows = SessionRows(self._pool, recent)
        self.preferences = PreferenceRows(self._pool)
        self.repeats = Repeats(self._pool)
        self.sharing = Sharing(self._pool, self.log)
        self.messages = Messages(self.log, self.rows)
        self.search = Search(self._pool)
        self.cells = cells = Cells(self._pool)
        if settings.kernel_user is not None:
            await asyncio.to_thread(_check_user, settings.kernel_user)
        self.kernels = SessionKernels(
            self._kernel_manager,
            self._keeping(),
            settings.kernel_name,
            settings.warm_kernels,
            settings.live_copies,
            self._jupyter_sessions,
        )
        self._checkpoints = Checkpoints(
            self._pool, self.artifacts, settings.data_dir / "exchange", settings.checkpoint_limit_bytes
        )
        await asyncio.to_thread(self._checkpoints.prepare)
        ways = Ways(self._pool)
        self.snapshots = Snapshots(self._pool, self.artifacts, settings)
        revival = Revival(settings, self.kernels, self._checkpoints, self.artifacts, self.snapshots, ways)
        self.life = KernelLife(settings, self.log, self.rows, self.kernels, self._checkpoints, revival, ways, self.root)
        self.models = Models(settings, self.root)
        self.memory = Memory(settings, self.log, self.rows, self.models)
        self.titles = Titles(settings, self.log, self.rows, self.models)
        self.notebooks = NotebookFiles(
            self._contents, cells, self.artifacts, self.log, self.root if self._apart else None
        )
        self.tools = Tools(
            settings,
            self.log,
            self.rows,
            cells,
            self.artifacts,
            Harvest(self.artifacts, self.kernels.folder),
            self.hot,
            self.kernels,
            self.life,
            self.notebooks,
            self.preferences,
            self.memory,
            self.root,
        )
        leases = Leases(self._pool, f"{socket.gethostname()}:{os.getpid()}:{new_id()[:8]}", settings.lease_s)
        turn_points = TurnPoints(self.tools, self._checkpoints, self.snapshots, ways)
        self.rewind = Rewind(self.tools, turn_points, self.snapshots, revival, ways, self._pool)
        self.points = NamedCheckpoints(self.tools, self._checkpoints, self.rewind, ways, self.memory, self._pool)
        self.turns = Turns(self.tools, leases, self.models, self.rewind, self.points, self._pool)
        self.comparisons = Comparisons(self.tools, self.snapshots, self._checkpoints, ways)
        self.ways = ways
        self.branches = Branches(self.tools, self._checkpoints, self.snapshots, self.rewind, ways, self._pool)
        self.turns.when_ended(self._after_turn)
        self.sessions = Sessions(self.tools, self.turns, self.models, self._pool)
        provenance = Provenance(self.log, self.rows, self.artifacts, self.kernels)
        self.exports = Exports(self.tools, self.sessions, provenance)
        self.replays = Replays(settings, self.kernels, self.life, self.artifacts, self.root)
        await asyncio.to_thread(self.replays.sweep)
        self.cleaner = Cleaner(
            settings, self.rows, self.sessions, self.artifacts, self.life, self.repeats, self._objects
        )
        metrics.KERNELS.labels("live").set_function(lambda: self.kernels.live)
        metrics.KERNELS.labels("spare").set_function(lambda: self.kernels.spares)
        wakeups.watch(self.turns.heard)
        if settings.database_url is None:
            # The data folder is ours alone: every other owner of a lease in it is dead.
            await leases.expire_others()
        await self.life.adopt_all(alone=settings.database_url is None)
        self._tasks = [
            asyncio.create_task(wakeups.run(), name="wakeups"),
            asyncio.create_task(self.hot.run(), name="hot"),
            asyncio.create_task(self.turns.run(), name="turns"),
            asyncio.create_task(self.life.run(), name="kernels"),
            asyncio.create_task(self.rewind.run(), name="points"),
            asyncio.create_task(self.cleaner.run(), name="cleaning"),
            asyncio.create_task(self._warm(), name="warm"),
        ]

    def _after_turn(self, session: Session, turn: Turn, end: Event) -> None:
        metrics.turn_ended(turn, end)
        if session.title_by == "default" and turn.request.kind == "ask" and isinstance(end, TurnCompleted):
            self.titles.after(session.id)

    async def used(self, owner: str, by: By, since: datetime | None, until: datetime | None) -> list[UsageRow]:
        """What a user's model calls cost, by session, model or day."""
        assert self._pool is not None
        return await used(self._pool, owner, by, since, until)

    async def _warm(self) -> None:
        """Imports LiteLLM, which takes seconds, before the first question does; not in the way of the start."""
        name = self.settings.model
        if name is not None and not name.startswith("rehearsal:"):
            await asyncio.sleep(WARM_AFTER_S)
            await asyncio.to_thread(library)

    async def _open_objects(self) -> Objects:
        settings = self.settings
        if settings.s3_endpoint is None:
            return FileObjects(settings.data_dir / "objects")
        objects = await asyncio.to_thread(
            S3Objects.connect,
            settings.s3_endpoint,
            settings.s3_access_key,
            settings.s3_secret_key,
            settings.s3_bucket,
            settings.s3_region,
            settings.s3_secure,
            settings.data_dir / "near",
        )
        await objects.prepare()
        return objects

    @property
    def _apart(self) -> bool:
        return self.settings.kernel_user is not None or self.settings.isolation != "none"

    def _keeping(self) -> Keeping | None:
        if not hasattr(os, "pidfd_open"):  # Elsewhere than on Linux a kernel cannot be watched without being a parent.
            return None
        return Keeping(
            folder=str(self.folder.runtime),
            lock_file=str(self.folder.lock_file if self.settings.kernel_user is None else self.folder.share()),
            grace_s=self.settings.kernel_grace_s,
            inline_bytes=self.settings.output_inline_bytes,
            limit_bytes=self.settings.output_limit_bytes,
            limits=self.settings.limits,
            allowed_imports=self.settings.imports,
            isolation=self.settings.isolation,
            user=self.settings.kernel_user,
        )

    async def close(self) -> None:
        """Interrupts turns, ends kernels, closes stores."""
        if hasattr(self, "turns"):
            await self.turns.close()
            await self.titles.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if hasattr(self, "life"):
            await self.life.close()
        if hasattr(self, "hot"):
            await self.hot.close()
        if self._pool is not None:
            try:
                async with asyncio.timeout(5):
                    await self._pool.close()
            except TimeoutError:
                self._pool.terminate()
            self._pool = None
        if self._postgres is not None:
            await asyncio.to_thread(self._postgres.stop)
            self._postgres = None
        self.folder.close()

    async def health(self) -> dict[str, Any]:
        """What answers, by real round trips."""
        stores = {}
        checks = {"postgres": self._check_postgres, "redis": self.hot.check, "objects": self._check_objects}
        for name, check in checks.items():
            began = time.perf_counter()
            try:
                async with asyncio.timeout(5):
                    await check()
                stores[name] = {"status": "ok", "ms": round((time.perf_counter() - began) * 1000, 2)}
            except (CellwrightError, TimeoutError) as error:
                stores[name] = {"status": "unavailable", "detail": str(error) or "no answer within 5 s"}
        hibernated = 0
        with contextlib.suppress(StoreUnavailable):
            hibernated = await self.rows.hibernated()
        well = stores["postgres"]["status"] == stores["objects"]["status"] == "ok"
        return {
            "status": "ok" if well and stores["redis"]["status"] == "ok" else "degraded" if well else "unavailable",
            "version": package_version(),
            "stores": stores,
            "kernels": {"live": self.kernels.live, "spare": self.kernels.spares, "hibernated": hibernated},
            "model": self.models.default(),
            "agents": list(profiles()),
        }

    async def examine(self) -> list[Check]:
        """Uses each part once, as a turn would: the stores, a kernel that comes and goes, the model."""

        async def kernel() -> str:
            name = new_id()
            connection = await self.kernels.start(name, None, self.root)
            try:
                run = Execution(connection, new_id(), "1 + 1").run()
                ended = [event async for event in run][-1]
                if not isinstance(ended, Finished) or ended.status != "ok":
                    raise KernelUnreachable(f"It could not add: {ended}")
            finally:
                await self.kernels.end(name)
            return self.settings.kernel_name

        async def model() -> str:
            chosen = await self.models.get(None)
            if chosen.name.startswith("rehearsal:"):
                return f"{chosen.name} (recorded replies, nothing to reach)"
            request = ModelRequest([ChatMessage("user", "Answer with the single word: ready")])
            reply = await said(chosen, request, self.settings.first_token_s, self.settings.between_tokens_s)
            return f"{chosen.name} answered {reply.content.strip()[:40]!r}"

        async def postgres_() -> str:
            await self._check_postgres()
            return "embedded PostgreSQL" if self.settings.database_url is None else "PostgreSQL"

        async def redis() -> str:
            await self.hot.check()
            return "in process" if self.settings.redis_url is None else "Redis"

        async def objects() -> str:
            await self._check_objects()
            return (
                "files in the data folder"
                if self.settings.s3_endpoint is None
                else f"S3 at {self.settings.s3_endpoint}"
            )

        parts = {"postgres": postgres_, "redis": redis, "objects": objects, "kernel": kernel, "model": model}
        return [await _examined(name, part) for name, part in parts.items()]

    async def _check_postgres(self) -> None:
        if self._pool is None:
            raise StoreUnavailable("The pool is closed.")
        async with postgres.acquired(self._pool) as connection:
            await connection.fetchval("SELECT 1")

    async def _check_objects(self) -> None:
        assert self._objects is not None
        await self._objects.check()


async def _examined(name: str, use: Callable[[], Awaitable[str]]) -> Check:
    began = time.perf_counter()
    try:
        detail, ok = await use(), True
    except (CellwrightError, KernelError) as error:
        detail, ok = str(error), False
    return Check(name=name, ok=ok, detail=detail, ms=round((time.perf_counter() - began) * 1000, 1))


@asynccontextmanager
async def standalone(settings: Settings, root: Path) -> AsyncIterator[Cellwright]:
    """Cellwright without a Jupyter Server, on kernel and contents managers of its own."""
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager
    from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager

    kernel_manager = AsyncMappingKernelManager(kernel_spec_manager=KernelSpecManager(), root_dir=str(root))
    contents = AsyncLargeFileManager(root_dir=str(root))
    app = Cellwright(settings, kernel_manager, contents, root)
    try:
        await app.open()
        try:
            yield app
        finally:
            await app.close()
    finally:
        # Left to the garbage collector, it waits for ever on sockets that nobody reads any more.
        kernel_manager.context.destroy(linger=0)


def _check_user(name: str) -> None:
    try:
        users.check(name)
    except users.KernelUserRefused as error:
        raise Invalid(str(error)) from error
