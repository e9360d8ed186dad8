"""A process that is not our child, or not directly: watched and signalled through a pidfd."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True)
class Usage:
    """What a process uses: resident memory, CPU time of all its threads, and when it started."""

    memory_bytes: int
    cpu_s: float
    started_at: datetime


def usage(pid: int) -> Usage | None:
    """By `/proc`; None where there is none, or no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        boot_s = time.time() - float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, IndexError, ValueError):
        return None
    ticks = os.sysconf("SC_CLK_TCK")
    return Usage(
        memory_bytes=resident * os.sysconf("SC_PAGE_SIZE"),
        cpu_s=(int(fields[11]) + int(fields[12])) / ticks,
        started_at=datetime.fromtimestamp(boot_s + int(fields[19]) / ticks, UTC),
    )


class WatchedProcess:
    """What `LocalProvisioner` uses of `Popen`, for a process that is not our child."""

    stdin = stdout = stderr = None

    returncode: int | None = None

    def __init__(self, pid: int, handle: int | None = None) -> None:
        self.pid = pid
        self._handle = os.pidfd_open(pid) if handle is None else handle

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            os.close(self._handle)

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
        with contextlib.suppress(ProcessLookupError):  # As `Popen` does.
            signal.pidfd_send_signal(self._handle, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)
