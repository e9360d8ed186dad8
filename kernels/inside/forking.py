"""A process that forks others from itself at a server's request: the zygote, and a sleeping copy of a kernel.

On a Unix socket the server sends one line of JSON a kernel, with one end of a socket pair:

    server → forker   {"argv": […], …}                                        and the kernel's socket
    forker → kernel's socket   {"pid": n}  and a pidfd, right after the fork; {"exit": code} once it has ended
    kernel → its socket        {"ready": true} or {"error": text}
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
from typing import Any

PR_SET_DUMPABLE, PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 4, 15, 36
Spec = dict[str, Any]


def prctl(option: int, value: Any) -> None:
    """Sets one of this process's attributes, by Linux's call of that name."""
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def say(to: socket.socket, message: Spec, descriptors: tuple[int, ...] = ()) -> None:
    """Sends a line; a reader that is gone is no error."""
    with contextlib.suppress(OSError):
        socket.send_fds(to, [json.dumps(message).encode() + b"\n"], descriptors)


def serve(server: socket.socket) -> tuple[Spec, socket.socket] | None:
    """Forks at every request. Returns in each child with what it is to become, and in the forker at its end."""
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    kernels: dict[int, socket.socket] = {}
    poll = select.poll()
    poll.register(server, select.POLLIN)
    poll.register(woken, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == woken:
                with contextlib.suppress(BlockingIOError):
                    os.read(woken, 4096)
                _reap(kernels)
                continue
            asked = _receive(server)
            if asked is None:
                return None
            spec, kernel = asked
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                os.close(woken)
                os.close(wake)
                for other in kernels.values():
                    other.close()
                # The caller unwinds: a kernel does not run on this frame.
                return spec, kernel
            _tell_pid(kernel, pid)
            kernels[pid] = kernel


def _receive(server: socket.socket) -> tuple[Spec, socket.socket] | None:
    data, descriptors = b"", []
    while not data.endswith(b"\n"):
        more, passed, _, _ = socket.recv_fds(server, 1 << 16, 4)
        descriptors += passed
        if not more:
            return None
        data += more
    return json.loads(data), socket.socket(fileno=descriptors[0])


def _tell_pid(kernel: socket.socket, pid: int) -> None:
    handle = os.pidfd_open(pid)  # Before anything reaps it: the number is still this child's.
    say(kernel, {"pid": pid}, (handle,))
    os.close(handle)


def _reap(kernels: dict[int, socket.socket]) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        kernel = kernels.pop(pid, None)
        if kernel is not None:
            say(kernel, {"exit": os.waitstatus_to_exitcode(status)})
            kernel.close()
