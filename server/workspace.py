"""A session's folder: what stands in it, and what a cell added or changed. Blocking: call it in a thread."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from cellwright.kernels.inside.files import plain_file
from cellwright.server.errors import Conflict, Invalid

MAX_FILES = 2_000
MAX_TRACKED_BYTES = 1 << 30
HIDDEN = ("__pycache__", "node_modules")


@dataclass(frozen=True)
class File:
    """A file below the workspace; `name` is its path from there, with slashes."""

    name: str
    size_bytes: int
    modified_ns: int
    executable: bool = False


class Workspace:
    """The files of one folder; hidden ones, links and the notebook itself are left out."""

    def __init__(self, folder: Path, notebook: str) -> None:
        self.folder, self._notebook = folder, notebook

    def make(self) -> None:
        """Makes the folder; raises Conflict when something else stands in its place, or it may not be made."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise Conflict(f"There is a file where the session's folder belongs: {self.folder}.") from None
        except OSError as error:
            raise Conflict(f"The session's folder {self.folder} cannot be made: {error.strerror}.") from error

    def files(self) -> list[File]:
        """Up to MAX_FILES files, by name."""
        found = []
        for file in self._walk(self.folder, ""):
            found.append(file)
            if len(found) >= MAX_FILES:
                break
        return sorted(found, key=lambda file: file.name)

    def _walk(self, folder: Path, prefix: str) -> Iterator[File]:
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            return
        for entry in entries:
            if entry.name.startswith(".") or entry.name in HIDDEN or entry.name == self._notebook:
                continue
            try:
                info = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if stat.S_ISDIR(info.st_mode):
                yield from self._walk(Path(entry.path), f"{prefix}{entry.name}/")
            elif stat.S_ISREG(info.st_mode):
                yield File(prefix + entry.name, info.st_size, info.st_mtime_ns, bool(info.st_mode & stat.S_IXUSR))

    def changed(self, before: list[File]) -> list[File]:
        """Files that are not as they were."""
        known = set(before)
        return [file for file in self.files() if file not in known and file.size_bytes <= MAX_TRACKED_BYTES]

    def open(self, name: str) -> BinaryIO | None:
        """The file of that name, for reading, or None when there is none, or it lies outside or behind a link."""
        try:
            return plain_file(self.folder, name.removeprefix("./"))
        except (OSError, ValueError):  # Too long, or with a NUL in it: no file has such a name.
            return None

    def sha256(self, name: str) -> str | None:
        """The hash of a file's content; None when there is none that could be opened."""
        file = self.open(name)
        if file is None:
            return None
        digest = hashlib.sha256()
        with file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
        return digest.hexdigest()

    def inside(self, name: str) -> Path:
        """The place of a file by its path below the folder, whose folders are made; raises Invalid for one outside."""
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if not parts or any(part in ("..", "/") or "\x00" in part for part in parts) or ":" in parts[0]:
            raise Invalid(f"{name!r} is no path of a file below a folder.")
        place = self.folder.joinpath(*parts)
        if not place.parent.resolve().is_relative_to(self.folder.resolve()):
            raise Invalid(f"{name!r} lies behind a link.")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Invalid(f"There can be no file {name!r}: {error.strerror}.") from error
        return place

    def place(self, name: str) -> Path:
        """Where an upload of that name belongs: its last part alone, in the folder itself."""
        plain = os.path.basename(name.replace("\\", "/")).replace("\x00", "").strip().lstrip(".")
        while len(plain.encode()) > 200:
            stem, ending = os.path.splitext(plain)
            plain = stem[:-1] + ending if len(stem) > 1 else plain[:-1]
        return self.folder / (plain or "upload")
