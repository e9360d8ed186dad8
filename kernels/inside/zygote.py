"""A process that has imported everything, and forks kernels from itself.

`python -m cellwright.kernels.inside.zygote FD`. On the descriptor (a Unix socket) the server sends one line of JSON a
kernel, with one end of a socket pair:

    server → zygote   {"argv": […], "env": {…}, "cwd": …, "spare": bool}          and the kernel's socket
    zygote → kernel's socket   {"pid": n}  and a pidfd, right after the fork; {"exit": code} once it has ended
    kernel → its socket        {"ready": true} or {"error": text};  a spare also {"assigned": true}
    server → kernel's socket   {"env": {…}, "cwd": …}   gives a spare away; its end before that ends the spare

When the server's end closes, the zygote leaves. Its kernels live on: each watches for an owner by itself.
"""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import gc
import importlib
import io
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any, NoReturn

IMPORTS = (
    "cellwright.kernels.inside.kernel",
    "cellwright.kernels.inside.checkpoint",
    *("ipykernel.debugger", "ipykernel.displayhook", "ipykernel.eventloops", "ipykernel.shellchannel"),
    *("ipykernel.subshell_manager", "IPython.core.magics", "IPython.core.completerlib", "IPython.core.pylabtools"),
    *("IPython.core.async_helpers", "IPython.core.tbtools", "IPython.display", "IPython.lib.pretty"),
    *("IPython.core.oinspect", "IPython.extensions.storemagic", "zmq.eventloop.zmqstream", "zmq.asyncio"),
    *("tornado.platform.asyncio", "asyncio", "sqlite3", "comm", "ssl", "decimal", "multiprocessing", "pdb"),
    *("concurrent.futures", "stack_data", "tempfile", "uuid", "secrets", "subprocess", "psutil"),
    *("numpy", "pandas", "matplotlib", "matplotlib.pyplot"),
)
INLINE = "module://matplotlib_inline.backend_inline"
PR_SET_DUMPABLE, PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 4, 15, 36
Spec = dict[str, Any]


def _prctl(option: int, value: Any) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def say(to: socket.socket, message: Spec, descriptors: tuple[int, ...] = ()) -> None:
    """Sends a line; a reader that is gone is no error."""
    with contextlib.suppress(OSError):
        socket.send_fds(to, [json.dumps(message).encode() + b"\n"], descriptors)


# -- before the fork -------------------------------------------------------------------------------------------------


def load() -> None:
    """Imports what kernels use, and uses each library once, so that what it makes lazily is shared as well."""
    os.environ.setdefault("MPLBACKEND", INLINE)
    # pandas decides by this name, when it is imported, how wide a table may be printed.
    builtins.get_ipython = lambda: SimpleNamespace(kernel=None)  # type: ignore[attr-defined]
    for name in IMPORTS:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    with contextlib.suppress(Exception):
        _use()
    del builtins.get_ipython  # type: ignore[attr-defined]
    # It ties itself to the running shell when it is imported: that must happen in the kernel.
    for name in [name for name in sys.modules if name.startswith("matplotlib_inline")]:
        del sys.modules[name]


def _use() -> None:
    import pandas as pd
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    frame = pd.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "z"]})
    for use in (frame.describe, frame.to_html, frame.groupby("b").sum, lambda: frame.merge(frame), lambda: repr(frame)):
        use()
    pd.read_csv(io.StringIO("a,b\n1,2\n"))
    figure = Figure()
    FigureCanvasAgg(figure)
    figure.add_subplot().plot([1, 2, 3])
    figure.savefig(io.BytesIO(), format="png")
    figure.clf()


def serve(server: socket.socket) -> tuple[Spec, socket.socket] | None:
    """Forks at every request. Returns in each child with what it is to become, and in the zygote at its end."""
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
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
                # Unwound to `main`: the kernel does not run on this frame.
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


# -- after the fork --------------------------------------------------------------------------------------------------


def become(spec: Spec, server: socket.socket) -> NoReturn:
    """Turns this process into the kernel that `spec` asks for. A failure is told, and leaves no process behind."""
    try:
        _forget_the_zygote(server)
        _take_on(spec)
        _run(spec, server)
    except BaseException as error:
        say(server, {"error": repr(error)[:500]})
        # Not a normal exit: what was set up half-way can hang in `atexit`.
        os._exit(1)


def _forget_the_zygote(server: socket.socket) -> None:
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    kept = server.fileno()
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.closerange(3, kept)
    os.closerange(kept + 1, 1 << 16)
    _prctl(PR_SET_DUMPABLE, 1)  # The zygote's own secrecy; a kernel holds no secret, and may be debugged.
    _prctl(PR_SET_NAME, b"cellwright-kern")
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()  # Python's own generators are seeded anew by the fork; this one is not.


def _take_on(spec: Spec) -> None:
    os.environ.clear()
    os.environ.update(spec["env"])
    time.tzset()
    os.chdir(spec["cwd"])
    if "" not in sys.path:
        sys.path.insert(0, "")


def _run(spec: Spec, server: socket.socket) -> NoReturn:
    from cellwright.kernels.inside import kernel
    from tornado.ioloop import IOLoop

    gc.enable()
    sys.argv[:] = [kernel.__file__, *spec["argv"]]
    app = kernel.prepare(["--IPKernelApp.parent_handle=0", *spec["argv"]])
    loop = IOLoop.current()

    def given_away(_descriptor: int, _events: int) -> None:
        told = server.makefile("rb").readline()
        loop.remove_handler(server.fileno())
        if not told:  # The server is gone, and nobody knows of this kernel.
            os._exit(0)
        _take_on(json.loads(told))
        app.shell.user_ns["_dh"] = [os.getcwd()]
        say(server, {"assigned": True})
        server.close()

    def ready() -> None:
        say(server, {"ready": True})
        if spec["spare"]:
            loop.add_handler(server.fileno(), given_away, IOLoop.READ)
        else:
            server.close()

    loop.add_callback(ready)
    app.start()
    sys.exit(0)


def main() -> None:
    """Serves until the server is gone; or is a kernel until that ends."""
    server = socket.socket(fileno=int(sys.argv[1]))
    _prctl(PR_SET_DUMPABLE, 0)
    _prctl(PR_SET_NAME, b"cellwright-zyg")
    sys.path[:] = [path for path in sys.path if path not in ("", os.getcwd())]
    load()
    gc.collect()
    gc.disable()
    gc.freeze()
    say(server, {"ready": True, "threads": threading.active_count()})
    asked = serve(server)
    if asked is None:
        os._exit(0)
    become(*asked)


if __name__ == "__main__":
    main()
