"""What a kernel's process gives up before the first cell runs: capabilities, room without end, other modules.

The limits hold for the kernel and each of its children by itself. What is hit is named in the cell's error.
"""

from __future__ import annotations

import builtins
import ctypes
import errno
import os
import resource
import signal
import struct
import sys
from dataclasses import asdict, dataclass
from types import FrameType
from typing import Any

PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 4, 24, 38
CAPSET, CAPABILITY_VERSION_3 = {"x86_64": 126, "aarch64": 91}, 0x20080522
STDLIB = "stdlib"
CPU_GRACE_S = 30


@dataclass(frozen=True)
class Limits:
    """Bytes, seconds and numbers; None for no limit."""

    memory_bytes: int | None = None
    cpu_s: int | None = None
    processes: int | None = None
    open_files: int | None = None
    file_bytes: int | None = None

    def to_dict(self) -> dict[str, int]:
        return {name: value for name, value in asdict(self).items() if value is not None}


class CpuLimitReached(Exception):
    """The session has used the CPU time that it is allowed."""


def hide_process() -> None:
    """Closes this process's memory and environment in `/proc` to others of the same user, root without
    capabilities included. No effect elsewhere than on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def drop_capabilities() -> bool:
    """Gives up all capabilities for good, also those that a program started as root would get.

    Returns whether there was anything to give up.
    """
    call = CAPSET.get(os.uname().machine)
    if sys.platform != "linux" or call is None or os.geteuid() != 0:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in range(64):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    header = struct.pack("Ii", CAPABILITY_VERSION_3, 0)
    if libc.syscall(call, header, struct.pack("6I", *[0] * 6)) != 0:
        raise OSError(ctypes.get_errno(), "the kernel's capabilities could not be given up")
    return True


def apply(limits: Limits) -> None:
    """Sets the limits; one above what the system allows becomes what it allows."""
    for kind, value in (
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_NPROC, limits.processes),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
    ):
        if value is not None:
            resource.setrlimit(kind, (_within(kind, value), _within(kind, value)))
    if limits.cpu_s is not None:
        _limit_cpu(limits.cpu_s)


def _within(kind: int, value: int) -> int:
    hard = resource.getrlimit(kind)[1]
    return value if hard == resource.RLIM_INFINITY else min(value, hard)


def _limit_cpu(seconds: int) -> None:
    """At the limit the running cell fails, and every later one after a second; a cell that goes on is killed."""

    def reached(_signal: int, _frame: FrameType | None) -> None:
        used = int(resource.getrusage(resource.RUSAGE_SELF).ru_utime) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (used + 1, hard))
        raise CpuLimitReached(f"the session's CPU time of {seconds:,} s (CELLWRIGHT_CPU_LIMIT_S) is used up")

    hard = _within(resource.RLIMIT_CPU, seconds + CPU_GRACE_S)
    signal.signal(signal.SIGXCPU, reached)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, hard))


def limit_hit(error: BaseException | None, limits: Limits) -> str | None:
    """Which limit an error comes from, in words; None when it comes from none of ours."""
    number = getattr(error, "errno", None)
    if isinstance(error, MemoryError) or number == errno.ENOMEM:
        hit, setting, value = "memory", "MEMORY_LIMIT_BYTES", limits.memory_bytes
    elif number == errno.EMFILE:
        hit, setting, value = "open files", "OPEN_FILES_LIMIT", limits.open_files
    elif number == errno.EFBIG:
        hit, setting, value = "file size", "FILE_LIMIT_BYTES", limits.file_bytes
    elif number == errno.EAGAIN or (isinstance(error, RuntimeError) and "start new thread" in str(error)):
        hit, setting, value = "processes and threads", "PROCESS_LIMIT", limits.processes
    else:
        return None
    return None if value is None else f"The session's limit of {hit} was hit: {value:,} (CELLWRIGHT_{setting})."


class ImportGate:
    """Refuses imports by the notebook's own code that are not on a list; what libraries import is theirs.

    A guard rail, not a wall: code that means to get around it can.
    """

    def __init__(self, namespace: dict[str, Any], allowed: tuple[str, ...] | None) -> None:
        self._namespace, self._always = namespace, allowed
        self.for_this_cell: tuple[str, ...] | None = None
        self._import = builtins.__import__
        builtins.__import__ = self  # type: ignore[assignment]

    @classmethod
    def installed(cls, namespace: dict[str, Any]) -> ImportGate | None:
        """The gate that stands already: a second kernel in this process, made by a copy, has the first one's."""
        found = builtins.__import__
        return found if isinstance(found, cls) and found._namespace is namespace else None

    def __call__(
        self,
        name: str,
        globals: dict[str, Any] | None = None,
        locals: Any = None,
        fromlist: Any = (),
        level: int = 0,
    ) -> Any:
        if globals is self._namespace and level == 0:
            top = name.partition(".")[0]
            for allowed in (self._always, self.for_this_cell):
                if allowed is not None and not _allows(allowed, top):
                    raise ImportError(f"{top} may not be imported here. Allowed: {', '.join(allowed)}.", name=name)
        return self._import(name, globals, locals, fromlist, level)


def _allows(allowed: tuple[str, ...], top: str) -> bool:
    return top in allowed or (STDLIB in allowed and top in sys.stdlib_module_names)
