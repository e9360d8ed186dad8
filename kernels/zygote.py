"""Kernels that start in milliseconds: forked from a process that has imported everything, some of them beforehand."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import structlog
from cellwright.kernels.errors import KernelNotStarted
from cellwright.kernels.forker import ForkedProcess, Forker
from cellwright.kernels.inside.keeping import Keeping
from cellwright.kernels.isolation import kernel_environment
from cellwright.kernels.registry import Registry

MODULE = "cellwright.kernels.inside"
LOAD_S = 60.0
BEGIN_AFTER_S = 0.2
AGAIN_AFTER_S = (1.0, 5.0, 30.0)
READ_AT_IMPORT = (
    *("HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "LD_PRELOAD", "MPLBACKEND", "MPLCONFIGDIR"),
    *("MATPLOTLIBRC", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PYTHONHASHSEED", "PYTHONHOME"),
    *("PYTHONPATH", "PYTHONUTF8", "PYTHONWARNINGS", "VIRTUAL_ENV", "IPYTHONDIR"),
)
"""What libraries read when they are imported cannot be changed later: a kernel that needs it otherwise starts plain."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Spare:
    """A kernel that runs already and belongs to nobody; `files` names its sockets and connection file."""

    files: str
    process: ForkedProcess
    environment: Mapping[str, str]


class Zygote:
    """Starts the zygote in the background, and again when it died or site-packages changed; keeps spares."""

    def __init__(self, keeping: Keeping, warm: int) -> None:
        self._keeping, self._warm = keeping, warm
        self._registry = Registry(Path(keeping.folder))
        self._process: subprocess.Popen[bytes] | None = None
        self._forker: Forker | None = None
        self._environment: dict[str, str] = {}
        self._stamp: dict[str, float] = {}
        self._spares: list[Spare] = []
        self._again = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.ready = asyncio.Event()

    @property
    def spares(self) -> int:
        return len(self._spares)

    @property
    def pid(self) -> int | None:
        """The zygote's process, while it runs."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    def start(self) -> None:
        """Begins, in the background."""
        self._task = asyncio.create_task(self._run(), name="zygote")

    async def _run(self) -> None:
        await asyncio.sleep(BEGIN_AFTER_S)
        failures = 0
        while True:
            self._again.clear()
            try:
                if self.pid is None or self._stamp != _stamp():
                    await self._stop()
                    await self._start()
                while len(self._spares) < self._warm:
                    self._spares.append(await self._spare())
                failures = 0
            except (KernelNotStarted, OSError, ValueError) as error:
                log.warning("zygote_failed", error=str(error), instead="kernels start the ordinary way")
                await self._stop()
                await asyncio.sleep(AGAIN_AFTER_S[min(failures, len(AGAIN_AFTER_S) - 1)])
                failures += 1
                continue
            await self._again.wait()

    async def _start(self) -> None:
        ours, theirs = socket.socketpair()
        self._environment = kernel_environment(os.environ, {})
        self._stamp = _stamp()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"{MODULE}.zygote", str(theirs.fileno())],
                env=self._environment,
                cwd="/",
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._forker = Forker(ours)
        try:
            async with asyncio.timeout(LOAD_S):
                told = await self._forker.hear()
        except TimeoutError:
            told = None
        if told is None:
            raise KernelNotStarted("it ended while it imported libraries, or did not come to an end with it")
        self.ready.set()

    async def _stop(self) -> None:
        self.ready.clear()
        while self._spares:
            spare = self._spares.pop()
            spare.process.discard()
            self._registry.remove_files(spare.files)
        if self._forker is not None:
            self._forker.close()
            self._forker = None
        if self._process is not None:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
            self._process = None

    async def close(self) -> None:
        """Ends the zygote and the spares; kernels that were given away live on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._stop()

    def fits(self, command: list[str], environment: Mapping[str, str], cwd: str) -> bool:
        """Whether a kernel of this command and environment can come from the zygote, which runs."""
        if self._forker is None or not self.ready.is_set() or self.pid is None or self._stamp != _stamp():
            self._again.set()
            return False
        same = all(environment.get(name) == self._environment.get(name) for name in READ_AT_IMPORT)
        ours = command[1:3] == ["-m", MODULE] and (command[0] == sys.executable or command[0].startswith("python"))
        return ours and same and not os.path.exists(os.path.join(cwd, "matplotlibrc"))

    async def fork(self, argv: list[str], environment: Mapping[str, str], cwd: str) -> ForkedProcess:
        """A kernel of its own, ready; raises KernelNotStarted."""
        return await self._fork({"argv": argv, "env": dict(environment), "cwd": cwd, "spare": False})

    async def _fork(self, spec: dict[str, Any]) -> ForkedProcess:
        if self._forker is None:
            raise KernelNotStarted("the zygote does not run")
        try:
            return await self._forker.fork(spec)
        except OSError as error:
            self._again.set()
            raise KernelNotStarted(f"the zygote does not answer: {error}") from error

    async def _spare(self) -> Spare:
        from jupyter_client.connect import write_connection_file

        files = str(uuid4())
        path = str(self._registry.connection_file(files))
        ip = str(self._registry.folder / files[:8])
        key = os.urandom(32).hex().encode()
        try:
            await asyncio.to_thread(write_connection_file, path, ip=ip, transport="ipc", key=key)
            environment = self._environment | self._keeping.to_environment()
            spec = {"argv": ["-f", path], "env": environment, "cwd": "/", "spare": True}
            return Spare(files, await self._fork(spec), environment)
        except BaseException:
            self._registry.remove_files(files)
            raise

    async def take(self, environment: Mapping[str, str], cwd: str) -> Spare | None:
        """A spare, given to a session: it has that environment and folder when this returns. None without one."""
        while self._spares:
            spare = self._spares.pop(0)
            self._again.set()
            try:
                if spare.process.poll() is not None:
                    raise KernelNotStarted("it has ended")
                spare.process.send({"env": dict(environment), "cwd": cwd})
                await spare.process.until("assigned")
            except (KernelNotStarted, OSError) as error:
                log.warning("spare_kernel_lost", error=str(error))
                spare.process.discard()
                self._registry.remove_files(spare.files)
                continue
            return spare
        return None


def _stamp() -> dict[str, float]:
    """When what can be imported last changed."""
    found = {}
    for path in sys.path:
        if path.endswith(("site-packages", "dist-packages")):
            with contextlib.suppress(OSError):
                found[path] = os.stat(path).st_mtime
    return found
