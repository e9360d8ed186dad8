"""Console output within bounds: head and tail of a cell's text are shown, all of it stands in a file."""

from __future__ import annotations

import os
from collections import deque
from typing import IO, Any, ClassVar

from cellwright.kernels.inside.keeping import Keeping
from ipykernel.iostream import OutStream

AHEAD_CHARACTERS = 4_000_000
"""A writer this far ahead of its flushes has to wait for one: 100 MB printed at once would else be held twice."""


class Tail:
    """The last `limit` characters of what was added."""

    def __init__(self, limit: int) -> None:
        self._limit, self._held = limit, 0
        self._parts: deque[str] = deque()

    def add(self, text: str) -> None:
        self._parts.append(text[-self._limit :])
        self._held += len(self._parts[-1])
        while self._held - len(self._parts[0]) >= self._limit:
            self._held -= len(self._parts.popleft())

    @property
    def text(self) -> str:
        return "".join(self._parts)[-self._limit :]


class BoundedStream(OutStream):
    """What `sys.stdout` and `sys.stderr` are in the kernel."""

    keeping: ClassVar[Keeping | None] = None
    running: ClassVar[str] = ""
    """The execution that bounds apply to; output of others passes."""

    successor: BoundedStream | None = None
    """Who writes in its place, in a kernel that a sleeping copy made: a logging handler may still hold this one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._ahead = 0
        self._begin()
        super().__init__(*args, **kwargs)

    def _begin(self) -> None:
        self._head: list[str] = []
        self._seen = 0
        self._tail: Tail | None = None
        self._whole: IO[bytes] | None = None
        self._written = 0

    def write(self, string: str) -> int | None:
        if self.successor is not None:
            return self.successor.write(string)
        written: int | None = super().write(string)
        self._ahead += len(string)
        if self._ahead > AHEAD_CHARACTERS:
            self.flush()
        return written

    def flush(self) -> None:
        if self.successor is not None:
            self.successor.flush()
        else:
            super().flush()

    def _flush_buffers(self) -> Any:
        self._ahead = 0
        for parent, text in super()._flush_buffers():
            keeping = self.keeping
            ours = keeping is not None and self.running and parent.get("msg_id") == self.running
            if keeping is None or not ours or not self._is_master_process():
                yield parent, text
                continue
            shown = self._bound(text, keeping)
            if shown:
                yield parent, shown

    def _bound(self, text: str, keeping: Keeping) -> str:
        room = max(0, keeping.inline_bytes // 2 - self._seen)
        head, rest = text[:room], text[room:]
        self._seen += len(text)
        if not rest:
            self._head.append(head)
            return head
        if self._tail is None:
            self._tail = Tail(keeping.inline_bytes // 2)
            path = os.path.join(keeping.folder, f"{self.running}.{self.name}")
            self._whole = open(path, "ab")  # noqa: SIM115 (closed by finish)
            self._write_whole("".join(self._head), keeping)
            self._head = []
        self._write_whole(text, keeping)
        self._tail.add(rest)
        return head

    def _write_whole(self, text: str, keeping: Keeping) -> None:
        assert self._whole is not None
        data = text.encode("utf-8", "replace")[: max(0, keeping.limit_bytes - self._written)]
        try:
            self._whole.write(data)
            self._written += len(data)
        except OSError:  # A full disk: head and tail are still shown.
            self._written = keeping.limit_bytes

    def finish(self) -> str | None:
        """Ends a cell's output; returns what is left to show of it, if head was not all."""
        if self._tail is None:
            self._begin()
            return None
        assert self._whole is not None
        self._whole.close()
        tail = self._tail.text
        assert self.keeping is not None
        left_out = self._seen - self.keeping.inline_bytes // 2 - len(tail)
        self._begin()
        return f"\n[… {left_out:,} characters left out …]\n{tail}" if left_out > 0 else tail
