"""Which kernels run detached: one small file a kernel, enough to find it again after a crash of the server."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Entry:
    """A running kernel: `started` is the process's start time, so that a number used again is not mistaken for it.

    `files` names its connection file and sockets: the kernel's own id, or that of the spare that it was.
    """

    kernel_id: str
    kernel_name: str
    pid: int
    started: str
    files: str
    cwd: str
    of_session: bool = True
    """Whether a session of ours asked for it, and not a user in Jupyter's launcher."""


def start_time(pid: int) -> str | None:
    """When a process started, in the system's own words; None when there is none, or only what is left of it."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state in "ZX" else fields[18]
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

    def _path(self, kernel_id: str) -> Path | None:
        return next(iter(self.folder.glob(f"{kernel_id}.*.registered")), None)

    def connection_file(self, kernel_id: str) -> Path:
        return self.folder / f"kernel-{kernel_id}.json"

    def add(self, entry: Entry) -> None:
        # Both names stand in the file's: the kernel removes what holds the name of its files, we what holds its id.
        place = self.folder / f"{entry.kernel_id}.{entry.files}.registered"
        temporary = place.with_suffix(".adding")
        temporary.write_text(json.dumps(asdict(entry)))
        temporary.rename(place)

    def find(self, kernel_id: str) -> Entry | None:
        """The entry, if its kernel still runs."""
        try:
            path = self._path(kernel_id)
            entry = None if path is None else Entry(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return entry if entry is not None and start_time(entry.pid) == entry.started else None

    def living(self) -> list[Entry]:
        """Kernels that run; what others left behind is removed."""
        found = []
        for path in sorted(self.folder.glob("*.registered")):
            kernel_id = path.name.partition(".")[0]
            entry = self.find(kernel_id)
            if entry is None:
                self.remove(kernel_id)
            else:
                found.append(entry)
        return found

    def remove(self, kernel_id: str) -> None:
        """Removes the entry, the sockets and all other files of a kernel."""
        path = self._path(kernel_id) if self.folder.is_dir() else None
        if path is not None:
            self.remove_files(path.name.split(".")[1])
        self.remove_files(kernel_id)

    def remove_files(self, files: str) -> None:
        """Removes what is called by that name: connection file, sockets, entry."""
        if not self.folder.is_dir():
            return
        for name in os.listdir(self.folder):
            if files in name or name.startswith(f"{files[:8]}-"):
                if name.endswith(".private"):
                    shutil.rmtree(self.folder / name, ignore_errors=True)
                    continue
                with contextlib.suppress(OSError):
                    os.unlink(self.folder / name)

    def kept(self, execution_id: str, ending: str) -> Path:
        """Where a kernel keeps what a cell says: here, or in the private folder of a kernel in a sandbox."""
        name = f"{execution_id}.{ending}"
        return next(iter(self.folder.glob(f"*.private/{name}")), self.folder / name)

    def drop_kept(self, execution_id: str) -> None:
        """Removes what a kernel kept of a cell."""
        for ending in ("stdout", "stderr", "spool"):
            self.kept(execution_id, ending).unlink(missing_ok=True)

    def connection(self, entry: Entry) -> dict[str, Any]:
        """What the kernel's connection file holds."""
        return dict(json.loads(self.connection_file(entry.files).read_text()))
