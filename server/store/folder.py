"""The data folder: private to its user, owned by one server at a time, which a lock names."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import stat
import tempfile
import time
from pathlib import Path
from typing import Any

from cellwright.server.errors import DataFolderInUse, Unavailable


def private_folder(path: Path, *, passable: bool = False) -> Path:
    """Makes `path` if need be, for its owner alone (mode 0700); refuses one that belongs to someone else.

    Where it is `passable`, others may have been let through to what lies below (0711), and stay so.
    """
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    held = path.lstat()
    if not stat.S_ISDIR(held.st_mode) or held.st_uid != os.geteuid():
        raise Unavailable(f"{path} must be a folder of this user's.")
    if held.st_mode & (0o066 if passable else 0o077):
        path.chmod(0o700)
    return path


def runtime_folder(data_dir: Path) -> Path:
    """A short private folder for sockets (a Unix socket's path holds 107 bytes), the same for one data folder."""
    base = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    if len(str(base)) > 40 or not os.access(base, os.W_OK):
        base = Path("/tmp")  # noqa: S108 (private folders below it, checked)
    name = hashlib.sha256(str(data_dir.resolve()).encode()).hexdigest()[:8]
    return private_folder(private_folder(base / f"cellwright-{os.geteuid()}", passable=True) / name, passable=True)


class DataFolder:
    """Holds the folder's lock from `open` until `close`; a crash releases it too."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runtime = path
        self._lock: int | None = None
        self._shared_lock: int | None = None

    @property
    def lock_file(self) -> Path:
        return self.path / "owner.lock"

    def open(self, about: dict[str, Any], wait_s: float = 0.0) -> None:
        """Takes the folder; raises DataFolderInUse, naming the owner, when it is not free within `wait_s`."""
        private_folder(self.path)
        self.runtime = runtime_folder(self.path)
        lock = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        give_up = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() < give_up:
                    time.sleep(0.05)
                    continue
                os.close(lock)
                owner = self.owner() or {}
                raise DataFolderInUse(
                    f"The data folder {self.path} is in use by process {owner.get('pid', 'unknown')}"
                    f"{' at ' + owner['url'] if owner.get('url') else ''}. Stop that server, or give this one "
                    "a folder of its own with CELLWRIGHT_DATA_DIR."
                ) from error
        self._lock = lock
        self.describe(about)

    def share(self) -> Path:
        """Lets another user's kernels reach their own folders in `runtime`; returns a lock that they can look at.

        It is new for every owner: whoever may open a lock file may hold it, too.
        """
        for path in (self.runtime, self.runtime.parent):
            path.chmod(0o711)
        place = self.runtime / "owner.lock"
        place.unlink(missing_ok=True)
        self._shared_lock = os.open(place, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._shared_lock, fcntl.LOCK_EX)
        place.chmod(0o644)
        return place

    def describe(self, about: dict[str, Any]) -> None:
        """Writes who owns the folder, for others to read."""
        if self._lock is None:
            return
        text = json.dumps({"pid": os.getpid(), **about}).encode()
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, text, 0)

    def owner(self) -> dict[str, Any] | None:
        """What the present or last owner wrote of itself."""
        with contextlib.suppress(OSError, ValueError):
            found = json.loads(self.lock_file.read_text())
            return found if isinstance(found, dict) else None
        return None

    def in_use(self) -> bool:
        """Whether a living process owns the folder."""
        try:
            lock = os.open(self.lock_file, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    def secret(self, name: str) -> str:
        """A random secret that stays the same for this folder, in a file of mode 0600."""
        path = self.path / f"{name}.secret"
        with contextlib.suppress(FileExistsError):
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w") as file:
                file.write(secrets.token_urlsafe(32))
        return path.read_text().strip()

    def close(self) -> None:
        """Gives the folder up."""
        for lock in (self._lock, self._shared_lock):
            if lock is not None:
                os.close(lock)
        self._lock = self._shared_lock = None
