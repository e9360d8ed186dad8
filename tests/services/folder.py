"""A temporary folder that disappears with the process that made it, however that process ends."""

import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

_KEEPER = """
read -r _ || sleep 2
for _ in $(seq 100); do
    rm -rf -- "$1"
    [ -e "$1" ] || exit 0
    sleep 0.1
done
exit 1
"""


class TemporaryFolder:
    """A folder other users may pass through, watched by a keeper that removes it."""

    def __init__(self, prefix: str) -> None:
        """Make the folder and start its keeper."""
        self.path = Path(tempfile.mkdtemp(prefix=prefix))
        try:
            self.path.chmod(0o711)
            self._keeper = subprocess.Popen(
                ["/bin/sh", "-c", _KEEPER, "keeper", str(self.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        except BaseException:
            self.path.rmdir()
            raise

    def remove(self) -> None:
        """Have the keeper remove the folder and wait for it."""
        stdin = self._keeper.stdin
        if stdin is not None and not stdin.closed:
            with suppress(BrokenPipeError), stdin:
                stdin.write(b"\n")
        self._keeper.wait()
        if self.path.exists():
            raise OSError(f"could not remove {self.path}")
