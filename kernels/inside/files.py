"""Files in folders that a kernel may write: no link is followed, wherever in the path it lies."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@contextmanager
def _holding(folder: Path, parts: tuple[str, ...], *, make: bool = False) -> Iterator[int]:
    """A descriptor of the folder `parts` below `folder`; raises OSError where one of them is none, or a link.

    With `make` the folders that are missing are made.
    """
    handle = os.open(folder, FOLDER)
    try:
        for part in parts:
            if not _is_plain(part):
                raise OSError(errno.EINVAL, "no plain path", str(folder / Path(*parts)))
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, dir_fd=handle)
            following = os.open(part, FOLDER, dir_fd=handle)
            os.close(handle)
            handle = following
        yield handle
    finally:
        os.close(handle)


def _is_plain(part: str) -> bool:
    return part not in ("", ".", "..") and "/" not in part and "\x00" not in part


def _parts(folder: Path, name: str) -> tuple[str, ...]:
    """The parts of a path below a folder; raises OSError for what leads elsewhere."""
    parts = Path(name).parts
    if not parts or not all(map(_is_plain, parts)):
        raise OSError(errno.EINVAL, "no plain path", str(folder / name))
    return parts


def plain_file(folder: Path, name: str) -> BinaryIO:
    """Opens the file `name`, a path below `folder`, for reading; raises OSError for what is no plain file.

    A kernel wrote what is there: a link may lead to what it may not read itself, a pipe would wait for ever.
    """
    *parents, last = _parts(folder, name)
    with _holding(folder, tuple(parents)) as parent:
        file = os.fdopen(os.open(last, FILE, dir_fd=parent), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a plain file", str(folder / name))
    return file


def replace_file(
    folder: Path, name: str, data: bytes | BinaryIO, *, mode: int = 0o644, make: bool = False
) -> os.stat_result:
    """Puts `data` in the place of the file `name` below `folder`, whole or not at all; a link there is replaced.

    With `make` the folders that are missing are made.
    """
    *parents, last = _parts(folder, name)
    with _holding(folder, tuple(parents), make=make) as parent:
        temporary = f".{secrets.token_hex(8)}.tmp"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with contextlib.suppress(OSError):
            mode &= os.stat(last, dir_fd=parent, follow_symlinks=False).st_mode | 0o111  # No wider than it was.
        handle = os.open(temporary, flags, mode, dir_fd=parent)
        try:
            with os.fdopen(handle, "wb") as file:
                if isinstance(data, bytes):
                    file.write(data)
                else:
                    shutil.copyfileobj(data, file, 1 << 20)
                file.flush()
                os.fsync(file.fileno())
                written = os.fstat(file.fileno())
            os.rename(temporary, last, src_dir_fd=parent, dst_dir_fd=parent)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=parent)
            raise
    return written


def overwrite_file(folder: Path, name: str, data: BinaryIO, *, executable: bool = False) -> None:
    """Writes `data` into the plain file `name` below `folder`, which others may hold; raises OSError where it cannot.

    It never becomes shorter: whoever has mapped it would end.
    """
    *parents, last = _parts(folder, name)
    with _holding(folder, tuple(parents)) as parent:
        handle = os.open(last, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
    with os.fdopen(handle, "wb") as file:
        there = os.fstat(handle)
        size = data.seek(0, os.SEEK_END)
        data.seek(0)
        other = bool(there.st_mode & 0o100) != executable or there.st_nlink > 1 or there.st_size > size
        if other or not stat.S_ISREG(there.st_mode):
            raise OSError(errno.EINVAL, "not to be written into", str(folder / name))
        shutil.copyfileobj(data, file, 1 << 20)


def remove_file(folder: Path, name: str) -> None:
    """Removes the file `name` below `folder`, and the folders that are empty without it; one that is gone is none."""
    *parents, last = _parts(folder, name)
    with contextlib.suppress(FileNotFoundError):
        with _holding(folder, tuple(parents)) as parent:
            os.unlink(last, dir_fd=parent)
        while parents:
            empty = parents.pop()
            with _holding(folder, tuple(parents)) as parent, contextlib.suppress(OSError):
                os.rmdir(empty, dir_fd=parent)
