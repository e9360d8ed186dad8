"""Kernels that start in milliseconds: forked from a process that has imported everything, some of them beforehand."""

from __future__ import annotations

import array
import asyncio
import contextlib
import json
import os
import select
import signal
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
from cellwright.kernels.inside.keeping import Keeping
from cellwright.kernels.isolation import kernel_environment
from cellwright.kernels.process import WatchedProcess
from cellwright.kernels.registry import Registry

MODULE = "cellwright.kernels.inside"
LAUNCH_S = 15.0
LOAD_S = 60.0
DIES_WITHIN_MS = 1_000
BEGIN_AFTER_S = 0.2
AGAIN_AFTER_S = (1.0, 5.0, 30.0)
READ_AT_IMPORT = (
    *("HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "LD_PRELOAD", "MPLBACKEND", "MPLCONFIGDIR"),
    *("MATPLOTLIBRC", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PYTHONHASHSEED", "PYTHONHOME"),
    *("PYTHONPATH", "PYTHONUTF8", "PYTHONWARNINGS", "VIRTUAL_ENV", "IPYTHONDIR"),
)
"""What libraries read when they are imported cannot be changed later: a kernel that needs it otherwise starts plain."""

log = structlog.get_logger(__name__)


class ForkedProcess(WatchedProcess):
    """A kernel that the zygote forked. `socket` is where it and the zygote tell about it."""

    def __init__(self, told: socket.socket) -> None:
        told.setblocking(False)
        self._socket: socket.socket | None = told
        self._buffer = b""
        self._said: dict[str, Any] = {}
        self._passed: int | None = None

    async def until(self, word: str) -> None:
        """Returns when `word` was said; raises KernelNotStarted when it will not be."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAUNCH_S):
                while self._listen() and not {word, "error", "exit"} & set(self._said):
                    assert self._socket is not None
                    await _readable(self._socket)
        if word in self._said and "exit" not in self._said:
            return
        raise KernelNotStarted(str(self._said.get("error") or self._said.get("exit") or f"no {word!r} in time"))

    async def started(self) -> None:
        """Returns when the kernel has bound its sockets; raises KernelNotStarted, and then it is gone."""
        try:
            await self.until("pid")
            if self._passed is None:
                raise KernelNotStarted("the zygote passed no handle")
            super().__init__(self._said["pid"], self._passed)
            await self.until("ready")
        except BaseException:
            self.discard()
            raise

    def send(self, message: dict[str, Any]) -> None:
        """Tells the kernel something."""
        assert self._socket is not None
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def _listen(self) -> bool:
        """Reads what was said so far; False at its end."""
        while self._socket is not None:
            try:
                data, passed, _, _ = socket.recv_fds(self._socket, 1 << 14, 4)
            except BlockingIOError:
                break
            except OSError:
                data, passed = b"", array.array("i").tolist()
            for handle in passed:
                os.set_inheritable(handle, False)
                self._passed = handle
            if not data:
                self._socket.close()
                self._socket = None
            self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            self._said |= json.loads(line)
        return self._socket is not None

    def _exit_code(self) -> int:
        # The zygote is told by the same death, and says the code a moment later.
        if self._socket is not None and not self._listen_for_exit():
            return super()._exit_code()
        return int(self._said["exit"]) if "exit" in self._said else super()._exit_code()

    def _listen_for_exit(self) -> bool:
        for _ in range(10):
            if not self._listen() or "exit" in self._said:
                break
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)  # type: ignore[arg-type]
            poll.poll(50)
        return "exit" in self._said

    def discard(self) -> None:
        """Ends the kernel, if it came that far."""
        if self._passed is not None:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self._passed, signal.SIGKILL)
            # Until it is gone it may still make files.
            poll = select.poll()
            poll.register(self._passed, select.POLLIN)
            poll.poll(DIES_WITHIN_MS)
        if self._socket is not None:
            self._socket.close()
            self._socket = None


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
        self._socket: socket.socket | None = None
        self._environment: dict[str, str] = {}
        self._stamp: dict[str, float] = {}
        self._spares: list[Spare] = []
        self._again = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._sending = asyncio.Lock()
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
        self._socket = ours
        ours.setblocking(False)
        try:
            async with asyncio.timeout(LOAD_S):
                told = await asyncio.get_running_loop().sock_recv(ours, 1 << 12)
        except TimeoutError:
            told = b""
        if not told:
            raise KernelNotStarted("it ended while it imported libraries, or did not come to an end with it")
        self.ready.set()

    async def _stop(self) -> None:
        self.ready.clear()
        while self._spares:
            spare = self._spares.pop()
            spare.process.discard()
            self._registry.remove_files(spare.files)
        if self._socket is not None:
            self._socket.close()
            self._socket = None
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
        if self._socket is None or not self.ready.is_set() or self.pid is None or self._stamp != _stamp():
            self._again.set()
            return False
        same = all(environment.get(name) == self._environment.get(name) for name in READ_AT_IMPORT)
        ours = command[1:3] == ["-m", MODULE] and (command[0] == sys.executable or command[0].startswith("python"))
        return ours and same and not os.path.exists(os.path.join(cwd, "matplotlibrc"))

    async def fork(self, argv: list[str], environment: Mapping[str, str], cwd: str) -> ForkedProcess:
        """A kernel of its own, ready; raises KernelNotStarted."""
        return await self._fork({"argv": argv, "env": dict(environment), "cwd": cwd, "spare": False})

    async def _fork(self, spec: dict[str, Any]) -> ForkedProcess:
        if self._socket is None:
            raise KernelNotStarted("the zygote does not run")
        ours, theirs = socket.socketpair()
        process = ForkedProcess(ours)
        try:
            with theirs:
                data = json.dumps(spec).encode() + b"\n"
                async with self._sending:
                    sent = socket.send_fds(self._socket, [data], [theirs.fileno()])
                    await asyncio.get_running_loop().sock_sendall(self._socket, data[sent:])
        except OSError as error:
            process.discard()
            self._again.set()
            raise KernelNotStarted(f"the zygote does not answer: {error}") from error
        await process.started()
        return process

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


async def _readable(told: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    descriptor = told.fileno()
    loop.add_reader(descriptor, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(descriptor)


def _stamp() -> dict[str, float]:
    """When what can be imported last changed."""
    found = {}
    for path in sys.path:
        if path.endswith(("site-packages", "dist-packages")):
            with contextlib.suppress(OSError):
                found[path] = os.stat(path).st_mtime
    return found
