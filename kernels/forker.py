"""The server's side of a process that forks kernels: asks for one, and follows it to its end."""

from __future__ import annotations

import array
import asyncio
import contextlib
import json
import os
import select
import signal
import socket
from typing import Any

from cellwright.kernels.errors import KernelNotStarted
from cellwright.kernels.process import WatchedProcess

LAUNCH_S = 15.0
DIES_WITHIN_MS = 1_000


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
                if self._passed is None:
                    self._passed = handle
                else:
                    os.close(handle)
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
        if self._passed is None and self._socket is not None:
            # It may be forked at this moment: unknown, nobody else would end it.
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            poll.poll(DIES_WITHIN_MS)
            self._listen()
        if self._passed is not None:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self._passed, signal.SIGKILL)
            # Until it is gone it may still make files.
            poll = select.poll()
            poll.register(self._passed, select.POLLIN)
            poll.poll(DIES_WITHIN_MS)
            if not hasattr(self, "_handle"):
                os.close(self._passed)
                self._passed = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class Forker:
    """A process that forks kernels from itself, at the other end of `channel`. It ends when that is closed."""

    def __init__(self, channel: socket.socket) -> None:
        channel.setblocking(False)
        self._channel = channel
        self._sending = asyncio.Lock()
        self.handle: int | None = None
        """A pidfd of the forker's, if it passed one."""

    async def hear(self) -> dict[str, Any] | None:
        """A line that the forker says; None at its end."""
        await _readable(self._channel)
        data, passed, _, _ = socket.recv_fds(self._channel, 1 << 12, 1)
        for handle in passed:
            os.set_inheritable(handle, False)
            if self.handle is not None:
                os.close(self.handle)
            self.handle = handle
        return dict(json.loads(data)) if data else None

    async def fork(self, spec: dict[str, Any]) -> ForkedProcess:
        """A kernel that is ready; raises KernelNotStarted, or OSError when the forker is gone."""
        ours, theirs = socket.socketpair()
        process = ForkedProcess(ours)
        try:
            with theirs:
                data = json.dumps(spec).encode() + b"\n"
                async with self._sending:
                    sent = socket.send_fds(self._channel, [data], [theirs.fileno()])
                    await asyncio.get_running_loop().sock_sendall(self._channel, data[sent:])
        except OSError:
            process.discard()
            raise
        await process.started()
        return process

    def close(self) -> None:
        self._channel.close()
        if self.handle is not None:
            os.close(self.handle)
            self.handle = None


async def _readable(told: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    descriptor = told.fileno()
    loop.add_reader(descriptor, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(descriptor)
