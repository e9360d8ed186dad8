"""A process that has imported everything, and forks kernels from itself.

`python -m cellwright.kernels.inside.zygote FD`. On the descriptor it is asked as `forking` says, for

    {"argv": […], "env": {…}, "cwd": …, "spare": bool}

and a spare also hears and says, on its socket:

    server → kernel   {"env": {…}, "cwd": …}   gives it away; the socket's end before that ends the spare
    kernel → server   {"assigned": true}

When the server's end closes, the zygote leaves. Its kernels live on: each watches for an owner by itself.
"""

from __future__ import annotations

import builtins
import contextlib
import gc
import importlib
import io
import json
import os
import signal
import socket
import sys
import threading
import time
from types import SimpleNamespace
from typing import NoReturn

from cellwright.kernels.inside.forking import PR_SET_DUMPABLE, PR_SET_NAME, Spec, prctl, say, serve

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
    prctl(PR_SET_DUMPABLE, 1)  # The zygote's own secrecy; a kernel holds no secret, and may be debugged.
    prctl(PR_SET_NAME, b"cellwright-kern")
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
    app = kernel.prepare(spec["argv"], forked=True)
    loop = IOLoop.current()

    def given_away(_descriptor: int, _events: int) -> None:
        told = server.makefile("rb").readline()
        loop.remove_handler(server.fileno())
        if not told:  # The server is gone, and nobody knows of this kernel.
            app.leave()
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

    kernel.run(app, ready)
    sys.exit(0)


def main() -> None:
    """Serves until the server is gone; or is a kernel until that ends."""
    server = socket.socket(fileno=int(sys.argv[1]))
    prctl(PR_SET_DUMPABLE, 0)
    prctl(PR_SET_NAME, b"cellwright-zyg")
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
