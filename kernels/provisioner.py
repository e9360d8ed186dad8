"""Starts kernels that outlive the server, and adopts those that a former server left.

Works for any `MappingKernelManager` by kernelspec metadata alone; without a keeping (no Cellwright server in
this process) it starts kernels the ordinary way.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
from pathlib import Path
from typing import Any, ClassVar

from cellwright.kernels.inside.keeping import Keeping
from cellwright.kernels.isolation import kernel_environment
from cellwright.kernels.registry import Entry, Registry, start_time
from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.ioloop.restarter import AsyncIOLoopKernelRestarter
from jupyter_client.provisioning import LocalProvisioner


class ReportingRestarter(AsyncIOLoopKernelRestarter):
    """Tells front ends that a kernel died, and never starts another in its place: variables would vanish unsaid."""

    async def poll(self) -> None:
        if self.kernel_manager.shutting_down or await self.kernel_manager.is_alive():
            return
        self._fire_callbacks("dead")
        self.stop()


class AdoptedProcess:
    """What `LocalProvisioner` uses of `Popen`, for a process that is not our child."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._handle = os.pidfd_open(pid)

    def _ended(self, timeout_ms: int | None) -> bool:
        poll = select.poll()
        poll.register(self._handle, select.POLLIN)
        return bool(poll.poll(timeout_ms))

    def poll(self) -> int | None:
        if self.returncode is None and self._ended(0):
            self.returncode = self._exit_code()
        return self.returncode

    def _exit_code(self) -> int:
        try:  # In a container where we are process 1, orphans become ours to reap.
            found = os.waitid(os.P_PIDFD, self._handle, os.WEXITED | os.WNOHANG)
        except OSError:
            return -255
        if found is None:
            return -255
        return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status

    def wait(self, timeout: float | None = None) -> int | None:
        self._ended(None if timeout is None else int(timeout * 1000))
        return self.poll()

    def send_signal(self, number: int) -> None:
        signal.pidfd_send_signal(self._handle, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


class CellwrightProvisioner(LocalProvisioner):
    """Detached kernels over `ipc` sockets in a private folder, noted in a registry."""

    keeping: ClassVar[Keeping | None] = None
    """Set by the server that keeps kernels in this process."""

    _entry: Entry | None = None
    connection_info: KernelConnectionInfo
    process: subprocess.Popen[bytes] | AdoptedProcess | None

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
        self._entry = self._registry.find(self.kernel_id) if self.process is None else None
        if self._entry is not None:
            connection = self._registry.connection(self._entry)
            manager.load_connection_info(connection)
            manager.connection_file = self._entry.connection_file
            self.connection_info = manager.get_connection_info()
            return {**kwargs, "cmd": [], "env": kwargs.get("env", {})}
        manager.transport = "ipc"
        manager.ip = str(self._registry.folder / self.kernel_id[:8])
        manager.cache_ports = False
        manager.connection_file = str(self._registry.connection_file(self.kernel_id))
        kwargs["env"] = kernel_environment(kwargs.get("env") or os.environ, self.keeping.to_environment())
        return dict(await super().pre_launch(**kwargs))

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        if self.keeping is None:
            return await super().launch_kernel(cmd, **kwargs)
        if self._entry is not None:
            self.process = AdoptedProcess(self._entry.pid)
            self.pid = self.pgid = self._entry.pid
            self.cwd = self._entry.cwd
            return self.connection_info
        cwd = os.fspath(kwargs.get("cwd") or os.getcwd())
        # Everything the kernel has to say goes over its sockets; what it inherits must not be the server's terminal.
        self.process = subprocess.Popen(
            cmd,
            env=kwargs["env"],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.pid = self.pgid = self.process.pid
        self.cwd = cwd
        assert self.kernel_id is not None
        started = start_time(self.pid)
        if started is not None:
            self._registry.add(
                Entry(
                    kernel_id=self.kernel_id,
                    kernel_name=getattr(self.parent, "kernel_name", ""),
                    pid=self.pid,
                    started=started,
                    connection_file=str(self._registry.connection_file(self.kernel_id)),
                    cwd=cwd,
                )
            )
        return self.connection_info

    async def cleanup(self, restart: bool = False) -> None:
        await super().cleanup(restart=restart)
        if self.keeping is not None and not restart and self.kernel_id is not None:
            self._registry.remove(self.kernel_id)
