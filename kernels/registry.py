"""Which kernels run detached: one small file a kernel, enough to find it again after a crash of the server."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Entry:
    """A running kernel: `started` is the process's start time, so that a number used again is not mistaken for it."""

    kernel_id: str
    kernel_name: str
    pid: int
    started: str
    connection_file: str
    cwd: str


def start_time(pid: int) -> str | None:
    """When a process started, in the system's own words; None when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        pass
    try:  # No /proc: ask for the number alone.
        os.kill(pid, 0)
    except OSError:
        return None
    return "running"


class Registry:
    """The kernels of one data folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _path(self, kernel_id: str) -> Path:
        return self.folder / f"{kernel_id}.registered"

    def connection_file(self, kernel_id: str) -> Path:
        return self.folder / f"kernel-{kernel_id}.json"

    def add(self, entry: Entry) -> None:
        temporary = self._path(entry.kernel_id).with_suffix(".adding")
        temporary.write_text(json.dumps(asdict(entry)))
        temporary.rename(self._path(entry.kernel_id))

    def find(self, kernel_id: str) -> Entry | None:
        """The entry, if its kernel still runs."""
        try:
            entry = Entry(**json.loads(self._path(kernel_id).read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return entry if start_time(entry.pid) == entry.started else None

    def living(self) -> list[Entry]:
        """Kernels that run; what others left behind is removed."""
        found = []
        for path in sorted(self.folder.glob("*.registered")):
            entry = self.find(path.stem)
            if entry is None:
                self.remove(path.stem)
            else:
                found.append(entry)
        return found

    def remove(self, kernel_id: str) -> None:
        """Removes the entry, the sockets and all other files of a kernel."""
        if not self.folder.is_dir():
            return
        for name in os.listdir(self.folder):
            if kernel_id in name or name.startswith(f"{kernel_id[:8]}-"):
                with contextlib.suppress(OSError):
                    os.unlink(self.folder / name)

    def connection(self, entry: Entry) -> dict[str, Any]:
        """What the kernel's connection file holds."""
        return dict(json.loads(Path(entry.connection_file).read_text()))
