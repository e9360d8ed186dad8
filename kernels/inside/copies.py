"""A sleeping copy of a living kernel, by fork: its memory is shared until either side writes to it.

The copy holds every variable as it was, also what no pickle takes, and forks kernels from itself when it is asked
(`forking`). A copy is refused wherever a fork is known to endanger the kernel or to give a copy that hangs.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import ctypes
import os
import random
import select
import signal
import socket
import stat
import sys
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cellwright.kernels.inside.forking import Spec, say, serve

ROOM_BYTES = 256 << 20
"""What must stay free, should kernel and copy come to share nothing."""

GONE_WITHIN_S = 1.0
"""How long the system may list a thread that has ended."""

UNTRIED = ("libcuda.so", "libnvidia", "libamdhip", "libiomp5", "libomp", "libtbb")
"""Native libraries whose threads or devices do not outlive a fork."""

UNTRIED_MODULES = ("torch", "tensorflow", "jaxlib", "polars", "duckdb", "grpc", "ray")
"""Packages with native threads of their own, which hang or are not known to come back after a fork."""


def _epoll() -> int:
    with select.epoll() as made:
        return os.dup(made.fileno())


FRESH: dict[str, Callable[[], int]] = {
    "anon_inode:[eventpoll]": _epoll,
    "anon_inode:[eventfd]": lambda: os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK),
}

_kept: list[Any] = []
"""The machinery of former kernels: to finalize it would unregister descriptors that the first kernel still uses."""


class Resumed(SystemExit):
    """In the kernel that a copy made: leaves the event loop, and everything that still waits in it."""

    def __init__(self, spec: Spec, server: socket.socket, state: Any) -> None:
        self.spec, self.server, self.random_state = spec, server, state


def descriptors() -> dict[int, str]:
    """Open descriptors and what they are: a number alone may have been used again."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


@dataclass(frozen=True)
class Machinery:
    """What in this process is the kernel's own, and no user's. `before` are descriptors that were there before it."""

    app: Any
    before: dict[int, str]
    descriptors: dict[int, str] = field(init=False)
    threads: frozenset[threading.Thread] = field(init=False)
    native_threads: int = field(init=False)
    streams: tuple[Any, Any] = field(init=False)

    def __post_init__(self) -> None:
        now = descriptors()
        own = {number: what for number, what in now.items() if self.before.get(number) != what}
        object.__setattr__(self, "descriptors", own)
        object.__setattr__(self, "threads", frozenset(threading.enumerate()))
        object.__setattr__(self, "native_threads", len(_native_threads()))
        object.__setattr__(self, "streams", (sys.stdout, sys.stderr))

    def owns(self, number: int, what: str) -> bool:
        """Whether a descriptor is the kernel's: had from the start, or a client's connection."""
        return number > 2 and (self.descriptors.get(number) == what or self._accepted(number, what))

    def _accepted(self, number: int, what: str) -> bool:
        if not what.startswith("socket:"):
            return False
        try:
            with socket.socket(fileno=os.dup(number)) as found:
                name = found.getsockname()
        except OSError:
            return False
        return found.family == socket.AF_UNIX and isinstance(name, str) and name.startswith(f"{self.app.ip}-")


def _native_threads() -> set[int]:
    every = {int(name) for name in os.listdir("/proc/self/task")}
    return every - {thread.native_id for thread in threading.enumerate() if thread.native_id is not None}


# -- whether a copy may be made --------------------------------------------------------------------------------------


def _libraries() -> set[str]:
    found = set()
    for line in Path("/proc/self/maps").read_text().splitlines():
        _, _, path = line.partition("/")
        if ".so" in path:
            found.add(f"/{path}")
    return found


def _end_helpers(libraries: set[str]) -> bool:
    """Ends threads that are known to come back by themselves: GNU OpenMP's, and tqdm's monitor; whether there were."""
    ended = False
    for path in libraries:
        if "libgomp" in os.path.basename(path):
            with contextlib.suppress(OSError, AttributeError):
                ctypes.CDLL(path).omp_pause_resource_all(2)
                ended = True
    for thread in threading.enumerate():
        if type(thread).__name__ == "TMonitor" and type(thread).__module__.startswith("tqdm"):
            thread.exit()  # type: ignore[attr-defined]
            thread.tqdm_cls.monitor = None  # type: ignore[attr-defined]
            ended = True
    return ended


def _expected_native(libraries: set[str]) -> int:
    """How many native threads the libraries may keep that recover from a fork by themselves."""
    cores = len(os.sched_getaffinity(0))
    blas = sum(1 for path in libraries if "openblas" in os.path.basename(path))
    told = next((os.environ[name] for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS") if name in os.environ), "")
    expected = blas * ((int(told) if told.isdigit() else cores) - 1)
    arrow = sys.modules.get("pyarrow")
    if arrow is not None:
        expected += arrow.cpu_count() + arrow.io_thread_count() + 2
    garbage = sys.modules.get("zmq.utils.garbage")
    if garbage is not None and garbage.gc.is_alive():
        expected += 2  # Its context, since a large output was sent; it starts anew in another process.
    return expected


def _threads_of_ours(thread: threading.Thread, machinery: Machinery) -> bool:
    kind = type(thread)
    return (
        thread in machinery.threads
        or kind.__name__ == "HistorySavingThread"
        or kind.__module__.startswith("zmq.utils.garbage")
    )


def _free_bytes() -> int:
    """Memory that may still be used, by the machine and by a container's limit."""
    with open("/proc/meminfo") as lines:
        told = dict(line.split(":", 1) for line in lines)
    free = int(told["MemAvailable"].split()[0]) * 1024
    with contextlib.suppress(OSError, ValueError):
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        free = min(free, limit - int(Path("/sys/fs/cgroup/memory.current").read_text()))
    return free


def refusal(machinery: Machinery) -> str | None:
    """Why no copy may be made now; None if one may."""
    if sys.platform != "linux":
        return "copies need Linux"
    libraries = _libraries()
    untried = sorted(name for name in UNTRIED if any(name in os.path.basename(path) for path in libraries))
    untried += [name for name in UNTRIED_MODULES if name in sys.modules]
    if untried:
        return f"{untried[0]} is loaded, and was never copied safely"
    ended = _end_helpers(libraries)
    strangers = [thread.name for thread in threading.enumerate() if not _threads_of_ours(thread, machinery)]
    if strangers:
        return f"threads run in the session: {', '.join(strangers[:3])}"
    expected = _expected_native(libraries)
    native = len(_native_threads()) - machinery.native_threads
    give_up = time.monotonic() + (GONE_WITHIN_S if ended else 0)
    while native > expected and time.monotonic() < give_up:
        time.sleep(0.005)  # A thread that has ended is in the system's list for a moment more.
        native = len(_native_threads()) - machinery.native_threads
    if native > expected:
        return f"{native} native threads run that no known library explains"
    with open("/proc/self/statm") as file:
        held = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    if _free_bytes() < held + ROOM_BYTES:
        return f"the kernel holds {held:,} bytes, and memory for as much again is not free"
    return None


def _lost() -> list[str]:
    """What a copy will not have."""
    found = []
    tasks = sum(1 for task in asyncio.all_tasks() if "ipykernel_" in _file_of(task))
    if tasks:
        found.append(f"asyncio tasks: {tasks}")
    with contextlib.suppress(OSError):
        children = len(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())
        if children:
            found.append(f"child processes: {children}")
    return found


DELETED = " (deleted)"
ONCE = os.O_CREAT | os.O_EXCL | os.O_TRUNC | getattr(os, "O_TMPFILE", 0) | getattr(os, "O_NOFOLLOW", 0)
"""Flags of a file's first opening."""

BOUND = ("sqlite3.Connection", "numpy.memmap", "mmap.mmap", "h5py._hl.files.File")
"""Types of what holds on to a file itself, whatever stands in the file's place."""


def _bound() -> list[tuple[str, str]]:
    """Variables that hold on to a file, and their types."""
    from IPython import get_ipython

    names = dict(get_ipython().user_ns)
    found = [(name, f"{type(value).__module__}.{type(value).__qualname__}") for name, value in names.items()]
    return [(name, kind) for name, kind in found if kind in BOUND and not name.startswith("_")]


@dataclass(frozen=True)
class Place:
    """Where in a file a descriptor stands."""

    path: str
    """Empty where the file that is open is not the one of that name any more."""
    flags: int
    offset: int


def _places(machinery: Machinery) -> dict[int, Place]:
    """The user's open files. Kernel and copy share where they stand in them, so it is noted before there are two."""
    found = {}
    for number, what in descriptors().items():
        if number <= 2 or not what.startswith("/") or machinery.owns(number, what):
            continue
        with contextlib.suppress(OSError, ValueError):
            if stat.S_ISREG(os.fstat(number).st_mode):
                told = Path(f"/proc/self/fdinfo/{number}").read_text().split()
                flags = int(told[told.index("flags:") + 1], 8)
                path = what if _is_there(number, what) else ""
                found[number] = Place(path, flags & ~ONCE, os.lseek(number, 0, os.SEEK_CUR))
    return found


def _is_there(number: int, path: str) -> bool:
    """Whether what is open is what stands at a path."""
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(number), os.stat(path))
    return False


def _open_again(places: dict[int, Place]) -> None:
    """Opens files anew by their paths, where they stood: what is there now may have been put back meanwhile."""
    now = descriptors()
    for number, place in places.items():
        if number not in now or (place.path and now[number].removesuffix(DELETED) != place.path):
            continue  # Another thread had it for a moment.
        for path in filter(None, (place.path, f"/proc/self/fd/{number}")):
            try:
                fresh = os.open(path, place.flags)
            except OSError:
                continue
            os.lseek(fresh, place.offset, os.SEEK_SET)
            os.dup2(fresh, number, inheritable=os.get_inheritable(number))
            os.close(fresh)
            break


def _file_of(task: asyncio.Task[Any]) -> str:
    code = getattr(task.get_coro(), "cr_code", None)
    return getattr(code, "co_filename", "")


# -- making one ------------------------------------------------------------------------------------------------------


def copy(machinery: Machinery, path: str) -> dict[str, Any]:
    """Makes a copy that serves on the Unix socket at `path`; returns `{"pause_ms", "lost", "bound"}` or `{"refused"}`.

    Call it from the event loop and from nothing else that runs there: in the kernels that the copy makes, it raises
    Resumed, and what called it never goes on.
    """
    began = time.perf_counter()
    reason = refusal(machinery)
    if reason is not None:
        return {"refused": reason}
    lost, bound, places = _lost(), _bound(), _places(machinery)
    try:
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        server.connect(path)
    except OSError as error:
        return {"refused": f"the server cannot be reached: {error}"}
    state = random.getstate()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGCHLD)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks with threads: we looked.
        between = os.fork()
    if between:
        server.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(between, 0)
        return {"pause_ms": round((time.perf_counter() - began) * 1000, 2), "lost": lost, "bound": bound}
    try:
        os.setsid()  # Not in the kernel's group: an interrupt must not reach the copy.
        if os.fork():
            os._exit(0)  # The copy is no child of the kernel's, which may wait for children of its own.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _let_go(machinery, server.fileno())
        handle = os.pidfd_open(os.getpid())
        say(server, {"pid": os.getpid()}, (handle,))
        os.close(handle)
        asked = serve(server)
        if asked is None:
            os._exit(0)
        spec, kernel = asked
        os.setsid()
        server.close()
        _open_again(places)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    except BaseException:
        os._exit(70)
    raise Resumed(spec, kernel, state)


def _let_go(machinery: Machinery, kept: int) -> None:
    """Drops the kernel's sockets without unregistering them: epoll sets are shared with the living kernel."""
    for stream in machinery.streams:
        original = getattr(stream, "_original_stdstream_copy", None)
        if original is not None:
            os.dup2(original, stream._original_stdstream_fd)
    for number, what in descriptors().items():
        with contextlib.suppress(OSError):
            if number != kept and machinery.owns(number, what):
                os.close(number)
            elif what in FRESH:
                # The user's, or another thread's: shared with the living kernel, and whoever has it may close it.
                # An empty one takes its place, so that the number is nobody else's.
                fresh = FRESH[what]()
                os.dup2(fresh, number, inheritable=False)
                os.close(fresh)
    app = machinery.app
    _kept.extend((machinery, app.kernel, asyncio.get_event_loop_policy(), asyncio.get_event_loop()))
    # A file object that is finalized closes its number, whoever has that by then.
    _kept.extend(getattr(handler, "stream", None) for handler in app.log.handlers)
    for registered in (app.close, app.cleanup_connection_file, app.iopub_thread.stop):
        atexit.unregister(registered)
    sys.stdout, sys.stderr, sys.displayhook = sys.__stdout__, sys.__stderr__, sys.__displayhook__


def forget_history(shell: Any) -> None:
    """Cuts a kernel that a copy made off the history file, whose connection belongs to the first kernel."""
    from IPython.core.history import DummyDB

    history = shell.history_manager
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(history.db))  # Never closed here: closing may write.
    history.enabled = False
    history.db = DummyDB()
    history.save_thread = None
