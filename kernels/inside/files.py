"""Files in folders that a kernel may write: no link is followed, wherever in the path it lies."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@contextmanager
def _holding(folder: Path, parts: tuple[str, ...]) -> Iterator[int]:
    """A descriptor of the folder `parts` below `folder`; raises OSError where one of them is none, or a link."""
    handle = os.open(folder, FOLDER)
    try:
        for part in parts:
            if part in ("", ".", ".."):
                raise OSError(errno.EINVAL, "no plain path", str(folder / Path(*parts)))
            following = os.open(part, FOLDER, dir_fd=handle)
            os.close(handle)
            handle = following
        yield handle
    finally:
        os.close(handle)


def plain_file(folder: Path, name: str) -> BinaryIO:
    """Opens the file `name`, a path below `folder`, for reading; raises OSError for what is no plain file.

    A kernel wrote what is there: a link may lead to what it may not read itself, a pipe would wait for ever.
    """
    *parents, last = Path(name).parts or ("",)
    with _holding(folder, tuple(parents)) as parent:
        file = os.fdopen(os.open(last, FILE, dir_fd=parent), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a plain file", str(folder / name))
    return file


def replace_file(folder: Path, name: str, data: bytes) -> os.stat_result:
    """Puts `data` in the place of the file `name` below `folder`, whole or not at all; a link there is replaced."""
    *parents, last = Path(name).parts
    with _holding(folder, tuple(parents)) as parent:
        temporary = f".{secrets.token_hex(8)}.tmp"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(temporary, flags, 0o644, dir_fd=parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                written = os.fstat(file.fileno())
            os.rename(temporary, last, src_dir_fd=parent, dst_dir_fd=parent)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=parent)
            raise
    return written
