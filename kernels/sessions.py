"""One kernel per session, through whatever Jupyter kernel manager the server has."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import structlog
from cellwright.kernels import copies
from cellwright.kernels.client import KernelConnection
from cellwright.kernels.copies import CopyRefused, SleepingCopy
from cellwright.kernels.errors import KernelNotStarted
from cellwright.kernels.inside.keeping import Keeping
from cellwright.kernels.isolation import kernel_environment
from cellwright.kernels.provisioner import CellwrightProvisioner
from cellwright.kernels.registry import Registry
from cellwright.kernels.zygote import Zygote
from jupyter_client import protocol_version
from jupyter_core.utils import ensure_async

START_S = 60.0

log = structlog.get_logger(__name__)


def kernelspec_folder() -> str:
    """Where the `cellwright` kernelspec stands, for a kernelspec manager's `kernel_dirs`."""
    return str(Path(__file__).parent / "kernelspec")


class SessionKernels:
    """Starts, finds, adopts and ends kernels by session id. Kernels that `keeping` names outlive this process."""

    def __init__(
        self,
        manager: Any,
        keeping: Keeping | None,
        default_name: str,
        warm: int = 0,
        copies: int = 3,
        shown: Any = None,
    ) -> None:
        """`warm` kernels are started beforehand; of each kernel the newest `copies` are kept.

        `shown` is Jupyter's own session manager, which knows the notebooks that show a kernel.
        """
        self._shown = shown
        self.manager, self.keeping, self.default_name = manager, keeping, default_name
        self._most_copies = copies
        self._connections: dict[str, KernelConnection] = {}
        self._starting: dict[str, asyncio.Lock] = {}
        self._ending: set[str] = set()
        self._copies: dict[str, list[SleepingCopy]] = {}
        CellwrightProvisioner.keeping = keeping
        self.zygote: Zygote | None = None
        # A sandbox or a folder of its own is for one session, and cannot be made beforehand.
        if keeping is not None and not keeping.apart and warm > 0 and sys.platform == "linux":
            self.zygote = CellwrightProvisioner.zygote = Zygote(keeping, warm)
            self.zygote.start()
        folders = manager.kernel_spec_manager.kernel_dirs
        if kernelspec_folder() not in folders:
            manager.kernel_spec_manager.kernel_dirs = [*folders, kernelspec_folder()]

    @property
    def folder(self) -> Path | None:
        return None if self.keeping is None else Path(self.keeping.folder)

    def get(self, session_id: str) -> KernelConnection | None:
        """The session's living kernel, if it has one here."""
        connection = self._connections.get(session_id)
        return None if connection is None or connection.died.done() else connection

    @property
    def remote(self) -> bool:
        """Whether kernels run behind a gateway, which outlives us."""
        return hasattr(self.manager, "kernels_url")

    async def names(self) -> set[str]:
        """Kernelspecs that a session may ask for."""
        found = await asyncio.to_thread(self.manager.kernel_spec_manager.get_all_specs)
        return set(await ensure_async(found))

    @property
    def live(self) -> int:
        return sum(1 for connection in self._connections.values() if not connection.died.done())

    @property
    def spares(self) -> int:
        return 0 if self.zygote is None else self.zygote.spares

    def sessions(self) -> list[Any]:
        """Sessions whose kernel lives here."""
        return [name for name, connection in self._connections.items() if not connection.died.done()]

    def lock(self, session_id: str) -> asyncio.Lock:
        return self._starting.setdefault(session_id, asyncio.Lock())

    async def start(self, session_id: str, name: str | None, cwd: Path) -> KernelConnection:
        """Starts a kernel for the session; raises KernelNotStarted."""
        await self._drop(session_id)
        kernel_id = str(uuid4())
        # Whatever the kernelspec: secrets of the server's stay with the server.
        environment = kernel_environment(os.environ, {})
        try:
            if self.remote:
                kernel_id = await self._start_far(name, cwd)
            else:
                CellwrightProvisioner.for_sessions.add(kernel_id)
                await self.manager.start_kernel(
                    kernel_id=kernel_id, kernel_name=name or self.default_name, path=None, cwd=str(cwd), env=environment
                )
            connection = await self._connect(session_id, kernel_id, wait=True)
            if self.keeping is not None and self.keeping.apart and not connection.ours:
                raise KernelNotStarted(
                    "Only Cellwright's own kernels are kept apart, as ISOLATION or KERNEL_USER asks."
                )
            if self.remote:
                await self._enter(connection, cwd)
            await connection.note_begin()
            return connection
        except Exception as error:
            await self._abandon(kernel_id)
            if isinstance(error, KernelNotStarted):
                raise
            raise KernelNotStarted(f"The kernel could not be started: {error}") from error
        except asyncio.CancelledError:
            await asyncio.shield(self._abandon(kernel_id))
            raise

    async def _start_far(self, name: str | None, cwd: Path) -> str:
        """Has the gateway start a kernel, which it names itself."""
        if name is None and self.default_name in await self.names():
            name = self.default_name
        return str(
            await self.manager.start_kernel(
                kernel_name=name or self.manager.default_kernel_name, cwd=str(cwd), env={"KERNEL_WORKING_DIR": str(cwd)}
            )
        )

    async def _enter(self, connection: KernelConnection, cwd: Path) -> None:
        """Goes to the workspace where the gateway's machine has the same disk."""
        os_, json_ = "__import__('os')", "__import__('json')"
        here = repr(str(cwd))
        expression = f"{json_}.dumps({os_}.path.isdir({here}) and not {os_}.chdir({here}))"
        connection.shares_disk = bool(await connection.evaluate(expression))

    async def _abandon(self, kernel_id: str) -> None:
        """Ends a kernel whose start did not come to its end."""
        with contextlib.suppress(Exception):
            if kernel_id not in self.manager:
                await self.adopt_kernel(kernel_id)
            if kernel_id in self.manager:
                await self.manager.shutdown_kernel(kernel_id, now=True)

    async def adopt(self, session_id: str, kernel_id: str) -> KernelConnection | None:
        """The kernel that a former server left for this session, if it still runs."""
        if self.remote:
            await self.manager.start_kernel(kernel_id=kernel_id)
        elif kernel_id not in self.manager and not await self.adopt_kernel(kernel_id):
            return None
        if not await self.manager.get_kernel(kernel_id).is_alive():
            return None
        await self._drop(session_id)
        connection = await self._connect(session_id, kernel_id, wait=False)
        connection.ask_variables()
        return connection

    async def adopt_kernel(self, kernel_id: str) -> bool:
        """Takes a registered kernel into the manager under its id, marked busy so that no culler ends it."""
        if self.folder is None:
            return False
        entry = Registry(self.folder).find(kernel_id)
        if entry is None:
            return False
        try:
            await self.manager.start_kernel(kernel_id=kernel_id, kernel_name=entry.kernel_name, cwd=entry.cwd)
        except Exception as error:
            log.warning("kernel_not_adopted", kernel_id=kernel_id, pid=entry.pid, error=str(error))
            with contextlib.suppress(OSError):
                os.kill(entry.pid, signal.SIGKILL)
            Registry(self.folder).remove(kernel_id)
            return False
        kernel = self.manager.get_kernel(kernel_id)
        kernel.execution_state = "busy"
        # Asked of a busy kernel it would be answered late, and its WebSocket would open only then.
        told: Future[dict[str, str]] = Future()
        kernel._kernel_info_future = told
        told.set_result({"protocol_version": protocol_version})
        log.info("kernel_adopted", kernel_id=kernel_id, pid=entry.pid)
        return True

    async def _connect(self, session_id: str, kernel_id: str, *, wait: bool) -> KernelConnection:
        manager = self.manager.get_kernel(kernel_id)
        connection = KernelConnection(manager, kernel_id)
        connection.open()
        if wait:
            try:
                await connection.ready(START_S)
            except BaseException:
                await connection.close()
                raise
        self._connections[session_id] = connection
        return connection

    def on_death(self, session_id: str, told: Callable[[str, bool], None]) -> None:
        """Calls `told(cause, replaced)` when the session's kernel dies, unless we end it ourselves."""
        connection = self._connections[session_id]
        if connection.watched:
            return
        connection.watched = True

        def done(future: asyncio.Future[str]) -> None:
            if not future.cancelled() and connection.kernel_id not in self._ending:
                told(future.result(), connection.replaced)

        connection.died.add_done_callback(done)

    # -- copies --------------------------------------------------------------------------------------------------

    async def copy(self, session_id: str) -> SleepingCopy:
        """A sleeping copy of the session's kernel, which is not busy; the newest few are kept.

        Raises CopyRefused or KernelDied.
        """
        async with self.lock(session_id):
            connection = self.get(session_id)
            if connection is None or self.folder is None:
                raise CopyRefused("The session has no kernel that could be copied.")
            made = await copies.take(connection, self.folder)
            if self.get(session_id) is not connection:
                made.drop()
                raise CopyRefused("The kernel ended while it was copied.")
            kept = self._copies.setdefault(session_id, [])
            kept.append(made)
            while len(kept) > self._most_copies:
                kept.pop(0).drop()
            return made

    def copies(self, session_id: str) -> list[SleepingCopy]:
        """The session's copies, oldest first."""
        return list(self._copies.get(session_id, ()))

    async def go_back(self, session_id: str, copy: SleepingCopy) -> KernelConnection:
        """The session's kernel as it was when the copy was made; works too when the kernel has died since.

        Raises KernelNotStarted or CopyRefused; a kernel that lived then goes on as it was.
        """
        async with self.lock(session_id):
            former = self._connections.get(session_id)
            kept = self._copies.get(session_id, [])
            if former is None or copy not in kept:
                raise CopyRefused("The copy is not one of this session's kernel.")
            if former.kernel_id not in self.manager:
                raise CopyRefused("The kernel has died, and Jupyter has forgotten it.")
            provisioner = former.manager.provisioner
            # It may find out in this moment that the former process has died, and forget the kernel.
            former.manager.stop_restarter()
            try:
                process, name = await provisioner.wake(copy)
            except KernelNotStarted:
                former.manager.start_restarter()
                kept.remove(copy)
                copy.drop()
                raise
            self._ending.add(former.kernel_id)
            try:
                provisioner.give_way(process, name)
                await former.close()
                return await self._connect(session_id, former.kernel_id, wait=True)
            finally:
                self._ending.discard(former.kernel_id)
                former.manager.start_restarter()

    @asynccontextmanager
    async def taking_over(self, name: str, session_id: str) -> AsyncIterator[None]:
        """Gives a session the kernel that goes by `name`; the one that it had ends when the block has.

        Where the block fails, each has its own again.
        """
        former = self._connections.pop(session_id, None)
        self._connections[session_id] = self._connections.pop(name)
        try:
            yield
        except BaseException:
            self._connections[name] = self._connections.pop(session_id)
            if former is not None:
                self._connections[session_id] = former
            raise
        self._forget_copies(session_id)
        if former is not None:
            if self._shown is not None:
                await self._show(former.kernel_id, self._connections[session_id].kernel_id)
            await self._end(session_id, former)

    async def _show(self, former: str, successor: str) -> None:
        """Notebooks that show the old kernel show the new one: to them it is a change of kernel, not a death."""
        try:
            for shown in await ensure_async(self._shown.list_sessions()):
                if shown["kernel"]["id"] == former:
                    await ensure_async(self._shown.update_session(shown["id"], kernel_id=successor))
        except Exception as error:  # Jupyter's own, or another's in its place: the kernel is right all the same.
            log.warning("notebooks_not_told", kernel_id=successor, error=str(error))

    async def end(self, session_id: str) -> None:
        """Ends the session's kernel; nothing of it stays."""
        self._forget_copies(session_id)
        connection = self._connections.pop(session_id, None)
        if connection is not None:
            await self._end(session_id, connection)

    async def _end(self, session_id: str, connection: KernelConnection) -> None:
        self._ending.add(connection.kernel_id)
        try:
            await self._close(connection)
            if connection.kernel_id in self.manager:
                await self.manager.shutdown_kernel(connection.kernel_id, now=True)
        finally:
            self._ending.discard(connection.kernel_id)

    async def _drop(self, session_id: str) -> None:
        self._forget_copies(session_id)
        connection = self._connections.pop(session_id, None)
        if connection is not None:
            await self._close(connection)

    async def _close(self, connection: KernelConnection) -> None:
        dead = connection.died.done()
        await connection.close()
        if dead and not connection.replaced and connection.kernel_id in self.manager:
            with contextlib.suppress(Exception):
                await self.manager.shutdown_kernel(connection.kernel_id, now=True)

    def _forget_copies(self, session_id: str) -> None:
        for copy in self._copies.pop(session_id, ()):
            copy.drop()

    def left(self) -> set[str]:
        """Kernels that run detached in our folder and are not in the manager."""
        if self.folder is None:
            return set()
        return {entry.kernel_id for entry in Registry(self.folder).living() if entry.kernel_id not in self.manager}

    async def sweep(self, known: set[str]) -> None:
        """Ends registered kernels that no session refers to any more; those of Jupyter's own users are taken back."""
        if self.folder is None:
            return
        for entry in Registry(self.folder).living():
            if entry.kernel_id not in known and entry.kernel_id not in self.manager:
                adopted = await self.adopt_kernel(entry.kernel_id)
                if adopted and entry.of_session:
                    log.warning("kernel_unclaimed", kernel_id=entry.kernel_id, pid=entry.pid)
                    await self.manager.shutdown_kernel(entry.kernel_id, now=True)

    async def close(self, *, leave: bool = False) -> None:
        """Ends all kernels; with `leave` only the connections."""
        if self.zygote is not None:
            CellwrightProvisioner.zygote = None
            await self.zygote.close()
        if self.remote:
            # The gateway outlives us, and another server may go on with them. The manager would end what it knows.
            for kernel_id in [connection.kernel_id for connection in self._connections.values()]:
                self.manager.remove_kernel(kernel_id)
        if leave or self.remote:
            for session_id in list(self._copies):
                self._forget_copies(session_id)
            for session_id in list(self._connections):
                connection = self._connections.pop(session_id)
                await connection.close()
            return
        await asyncio.gather(*(self.end(session_id) for session_id in list(self._connections)), return_exceptions=True)
