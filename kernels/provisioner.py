"""Starts kernels that outlive the server, and adopts those that a former server left.

Works for any `MappingKernelManager` by kernelspec metadata alone; without a keeping (no Cellwright server in
this process) it starts kernels the ordinary way.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, cast

import structlog
from cellwright.kernels import copies, sandbox, users
from cellwright.kernels.copies import SleepingCopy
from cellwright.kernels.errors import KernelNotStarted
from cellwright.kernels.forker import ForkedProcess
from cellwright.kernels.inside.keeping import Keeping
from cellwright.kernels.isolation import kernel_environment
from cellwright.kernels.outer import private_folder
from cellwright.kernels.process import WatchedProcess
from cellwright.kernels.registry import Entry, Registry, start_time
from cellwright.kernels.zygote import Spare, Zygote
from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.ioloop.restarter import AsyncIOLoopKernelRestarter
from jupyter_client.provisioning import LocalProvisioner

ENDS_WITHIN_S = 5.0

log = structlog.get_logger(__name__)


class ReportingRestarter(AsyncIOLoopKernelRestarter):
    """Tells front ends that a kernel died, and never starts another in its place: variables would vanish unsaid."""

    async def poll(self) -> None:
        if self.kernel_manager.shutting_down or await self.kernel_manager.is_alive():
            return
        if self._pcallback is None:
            return  # Stopped meanwhile: another process takes the place of the one that was looked at.
        self._fire_callbacks("dead")
        self.stop()


class CellwrightProvisioner(LocalProvisioner):
    """Detached kernels over `ipc` sockets in a private folder, noted in a registry."""

    keeping: ClassVar[Keeping | None] = None
    """Set by the server that keeps kernels in this process."""

    zygote: ClassVar[Zygote | None] = None
    """Forks kernels, where there is one."""

    for_sessions: ClassVar[set[str]] = set()
    """Kernels that sessions of ours ask for, by id."""

    _entry: Entry | None = None
    _spare: Spare | None = None
    _ending: asyncio.Task[Any] | None = None
    _files: str | None = None
    """What names sockets and connection file: the kernel's id, or that of the spare that it was."""

    connection_info: KernelConnectionInfo
    process: subprocess.Popen[bytes] | WatchedProcess | None

    @property
    def _registry(self) -> Registry:
        assert self.keeping is not None
        return Registry(Path(self.keeping.folder))

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        manager = self.parent
        if self.keeping is None or manager is None:
            return dict(await super().pre_launch(**kwargs))
        manager.restarter_class = ReportingRestarter
        assert self.kernel_id is not None
        # One that was started here before is being restarted: its old process is not to be taken back.
        self._entry = self._registry.find(self.kernel_id) if self._files is None else None
        if self._entry is not None:
            connection = self._registry.connection(self._entry)
            manager.load_connection_info(connection)
            manager.connection_file = str(self._registry.connection_file(self._entry.files))
            self._files = self._entry.files
            self.connection_info = manager.get_connection_info()
            return {**kwargs, "cmd": [], "env": kwargs.get("env", {})}
        environment = kernel_environment(kwargs.get("env") or os.environ, self.keeping.to_environment())
        kwargs["env"] = environment
        cwd = os.fspath(kwargs.get("cwd") or os.getcwd())
        # A restart keeps its sockets: clients are connected to them.
        if (
            self._files is None
            and self.zygote is not None
            and self._may_fork(manager.kernel_spec.argv, environment, cwd)
        ):
            self._spare = await self.zygote.take(environment, cwd)
        self._files = self._spare.files if self._spare is not None else self._files or self.kernel_id
        connection_file = self._registry.connection_file(self._files)
        manager.cache_ports = False
        manager.connection_file = str(connection_file)
        if self._spare is not None:
            manager.load_connection_info(json.loads(connection_file.read_text()))
            self.connection_info = manager.get_connection_info()
            return {**kwargs, "cmd": []}
        manager.transport = "ipc"
        if self.keeping.apart:
            private = private_folder(self._registry.folder, str(self._files))
            # Made anew: what a former kernel laid there, a link among it, must not be written through.
            shutil.rmtree(private, ignore_errors=True)
            private.mkdir(mode=0o700)
            manager.ip = str(private / str(self._files)[:8])
        else:
            manager.ip = str(self._registry.folder / str(self._files)[:8])
        return dict(await super().pre_launch(**kwargs))

    def _start_apart(self, cmd: list[str], environment: dict[str, str], cwd: str) -> WatchedProcess:
        """Starts the kernel with a private folder: as another user, or in a sandbox that shows it in place of ours."""
        assert self.keeping is not None
        files, folder = str(self._files), self._registry.folder
        place = self._registry.connection_file(files)
        private = private_folder(folder, files)
        seen = private if self.keeping.user is not None else folder
        inside = private / place.name
        told = json.dumps(json.loads(place.read_text()) | {"ip": str(seen / files[:8])})
        handle = os.open(inside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(told)
        if self.keeping.user is not None:
            command = [str(inside) if part == str(place) else part for part in cmd]
            environment = environment | replace(self.keeping, folder=str(private)).to_environment()
            return users.start(command, environment, cwd, folder, files, self.keeping.user)
        isolation = cast("sandbox.Isolation", self.keeping.isolation)
        return sandbox.start(cmd, environment, cwd, folder, files, self.keeping.lock_file, isolation)

    def _may_fork(self, command: list[str], environment: dict[str, str], cwd: str) -> bool:
        return self.zygote is not None and self.zygote.fits(command, environment, cwd)

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        if self.keeping is None:
            return await super().launch_kernel(cmd, **kwargs)
        if self._entry is not None:
            self.process = WatchedProcess(self._entry.pid)
            self.pid = self.pgid = self._entry.pid
            self.cwd = self._entry.cwd
            return self.connection_info
        cwd = os.fspath(kwargs.get("cwd") or os.getcwd())
        if self._spare is not None:
            self.process, self._spare = self._spare.process, None
        elif self.keeping.apart:
            self.process = await asyncio.to_thread(self._start_apart, cmd, kwargs["env"], cwd)
        else:
            self.process = await self._forked(cmd, kwargs["env"], cwd) or _spawned(cmd, kwargs["env"], cwd)
        self.pid = self.pgid = self.process.pid
        self.cwd = cwd
        self._register()
        return self.connection_info

    def _register(self) -> None:
        assert self.kernel_id is not None
        assert self.pid is not None
        started = start_time(self.pid)
        if started is not None:
            self._registry.add(
                Entry(
                    kernel_id=self.kernel_id,
                    kernel_name=getattr(self.parent, "kernel_name", ""),
                    pid=self.pid,
                    started=started,
                    files=self._files or self.kernel_id,
                    of_session=self.kernel_id in self.for_sessions,
                    cwd=os.fspath(self.cwd or "/"),
                )
            )

    async def wake(self, copy: SleepingCopy) -> tuple[ForkedProcess, str]:
        """A process that may take this kernel's place, and the name of its files; raises KernelNotStarted."""
        return await copies.wake(copy, self._registry, str(self._files), dict(self.connection_info))

    def give_way(self, process: ForkedProcess, name: str) -> None:
        """Ends the kernel's process and puts a woken one in its place: same id, same sockets."""
        former, self.process = self.process, process
        self.pid = self.pgid = process.pid
        copies.move_in(self._registry, name, str(self._files), dict(self.connection_info))
        self._register()
        if former is not None:
            if former.poll() is None:  # Else its number may be another's by now.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(former.pid, signal.SIGKILL)
            # To free much memory takes the system longer than all of the rest: nobody has to wait for it.
            self._ending = asyncio.create_task(asyncio.to_thread(former.wait, ENDS_WITHIN_S), name="former kernel")

    async def _forked(self, cmd: list[str], environment: dict[str, str], cwd: str) -> WatchedProcess | None:
        if self.zygote is None or not self._may_fork(cmd, environment, cwd):
            return None
        try:
            return await self.zygote.fork(cmd[3:], environment, cwd)
        except KernelNotStarted as error:
            log.warning("kernel_not_forked", error=str(error), instead="it starts the ordinary way")
            return None

    async def cleanup(self, restart: bool = False) -> None:
        await super().cleanup(restart=restart)
        if self.keeping is not None and not restart and self.kernel_id is not None:
            self._registry.remove(self.kernel_id)
            self.for_sessions.discard(self.kernel_id)


def _spawned(cmd: list[str], environment: dict[str, str], cwd: str) -> subprocess.Popen[bytes]:
    # Everything the kernel has to say goes over its sockets; what it inherits must not be the server's terminal.
    return subprocess.Popen(
        cmd,
        env=environment,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
