"""How a kernel is kept: what its server tells it in the environment, and its end when no server comes back."""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from cellwright.kernels.inside.confine import Limits

VARIABLE = "CELLWRIGHT_KERNEL"
LOOK_EVERY_S = 1.0


@dataclass(frozen=True)
class Keeping:
    """The folder for spools and sockets, the lock that a living owner holds, and what the kernel may use."""

    folder: str
    lock_file: str
    grace_s: float
    inline_bytes: int
    limit_bytes: int
    limits: Limits = field(default_factory=Limits)
    allowed_imports: tuple[str, ...] | None = None
    isolation: str = "none"
    user: str | None = None

    @property
    def apart(self) -> bool:
        """Whether a kernel has a folder of its own, and does not see the server's."""
        return self.isolation != "none" or self.user is not None

    def to_environment(self) -> dict[str, str]:
        return {VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def from_environment(cls) -> Keeping | None:
        """What the server said, or None for a kernel that nobody keeps."""
        text = os.environ.get(VARIABLE)
        if not text:
            return None
        told = json.loads(text)
        told["limits"] = Limits(**told.get("limits", {}))
        if told.get("allowed_imports") is not None:
            told["allowed_imports"] = tuple(told["allowed_imports"])
        return cls(**told)


def owned(lock_file: str) -> bool:
    """Whether a living server holds the lock."""
    try:
        handle = os.open(lock_file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def watch(keeping: Keeping, leave: Callable[[], None]) -> threading.Thread:
    """Calls `leave` in a thread of its own once nobody has owned this kernel for the grace period."""

    def run() -> None:
        last_owned = time.monotonic()
        while time.monotonic() - last_owned < keeping.grace_s:
            time.sleep(LOOK_EVERY_S)
            if owned(keeping.lock_file):
                last_owned = time.monotonic()
        leave()

    thread = threading.Thread(target=run, name="cellwright-keeping", daemon=True)
    thread.start()
    return thread
