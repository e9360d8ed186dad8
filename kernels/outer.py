"""A small process around a kernel that is kept apart: it waits, and then removes what the kernel itself cannot."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from cellwright.kernels.process import WatchedProcess

DIES_WITHIN_S = 1.0
AFTERWARDS = """folder=$1 files=$2; shift 2
"$@"; code=$?
if [ -e "$folder/$files.private/left" ]; then rm -rf -- "$folder"/*"$files"*; fi
exit $code"""
"""A kernel that nobody came back for makes the file `left`: what it cannot remove from inside goes with it."""


class InnerProcess(WatchedProcess):
    """A kernel inside: its own process is what is signalled, the outer one says how it ended."""

    def __init__(self, outer: subprocess.Popen[bytes], pid: int) -> None:
        super().__init__(pid)
        self._outer = outer

    def _exit_code(self) -> int:
        try:
            code = self._outer.wait(DIES_WITHIN_S)
        except subprocess.TimeoutExpired:
            return super()._exit_code()
        return 128 - code if code > 128 else code


def private_folder(folder: Path, files: str) -> Path:
    """What a kernel that is kept apart has in place of the server's `folder`."""
    return folder / f"{files}.private"


def start(
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    files: str,
    *,
    stdout: int = subprocess.DEVNULL,
    keep: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Runs `command` within the outer process, which leads a session of its own; what it complains of can be read."""
    return subprocess.Popen(
        ["/bin/sh", "-c", AFTERWARDS, "sh", str(folder), files, *command],
        env=dict(environment),
        cwd="/",
        pass_fds=keep,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
