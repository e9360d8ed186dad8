"""A process that is not our child, or not directly: watched and signalled through a pidfd."""

from __future__ import annotations

import contextlib
import os
import select
import signal


class WatchedProcess:
    """What `LocalProvisioner` uses of `Popen`, for a process that is not our child."""

    stdin = stdout = stderr = None

    returncode: int | None = None

    def __init__(self, pid: int, handle: int | None = None) -> None:
        self.pid = pid
        self._handle = os.pidfd_open(pid) if handle is None else handle

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
