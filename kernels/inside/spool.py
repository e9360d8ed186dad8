"""Every message that a running cell publishes, in a file first: a server that died and came back loses none."""

from __future__ import annotations

import contextlib
import json
import os
import struct
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cellwright.kernels.inside.files import plain_file

DELIMITER = b"<IDS|MSG>"
REPLY = b"reply"


class Spool:
    """Appends the messages of one execution at a time to `<folder>/<execution id>.spool`."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._handle: int | None = None
        self._execution = b""

    def begin(self, execution_id: str) -> None:
        """From now on keeps what has that parent."""
        with self._lock:
            self._close()
            path = os.path.join(self._folder, f"{execution_id}.spool")
            self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self._execution = execution_id.encode()

    def published(self, frames: Sequence[Any]) -> None:
        """Keeps a message of the iopub channel, as it goes on the wire, if it belongs to the running cell."""
        with self._lock:
            if self._handle is None:
                return
            parts = [frame if isinstance(frame, bytes) else bytes(frame) for frame in frames]
            parent = parts[parts.index(DELIMITER) + 3] if DELIMITER in parts else b""
            if self._execution in parent:
                self._write(parts)

    def end(self, reply: dict[str, Any]) -> None:
        """Keeps the reply, the last that a cell has to say, and closes the file."""
        with self._lock:
            if self._handle is not None:
                self._write([REPLY, json.dumps(reply, default=str).encode("utf-8", "replace")])
            self._close()

    def _write(self, parts: list[bytes]) -> None:
        head = struct.pack(f"<I{len(parts)}Q", len(parts), *(len(part) for part in parts))
        record = b"".join([head, *parts])
        assert self._handle is not None
        with contextlib.suppress(OSError):  # A full disk must not stop the cell; the wire still has the message.
            while record:
                record = record[os.write(self._handle, record) :]

    def _close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
        self._handle, self._execution = None, b""


def read(path: Path, start: int = 0) -> Iterator[tuple[int, list[bytes]]]:
    """Whole records of a spool from byte `start`, each with the place behind it; a half-written tail waits."""
    with plain_file(path.parent, path.name) as file:
        file.seek(start)
        while len(head := file.read(4)) == 4:
            (count,) = struct.unpack("<I", head)
            sizes = file.read(8 * count)
            if len(sizes) < 8 * count:
                return
            parts = [file.read(size) for size in struct.unpack(f"<{count}Q", sizes)]
            if [len(part) for part in parts] != list(struct.unpack(f"<{count}Q", sizes)):
                return
            yield file.tell(), parts
