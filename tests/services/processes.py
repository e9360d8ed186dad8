"""Child processes that answer on a private port and never outlive the one who started them."""

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

LOOPBACK = "127.0.0.1"
START_SECONDS = 60.0
GRACE_SECONDS = 10.0

_PORTS = range(20000, 30000)
_ENVIRONMENT = {"PATH": os.defpath, "LANG": "C.UTF-8", "TZ": "UTC"}

# Linux signals a child when the thread that started it ends, so one lasting thread starts them all.
_STARTER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="services-starter")


class ServiceError(RuntimeError):
    """A service did not start, or a step of its preparation failed."""


def free_port() -> int:
    """Return a loopback port that is free and stays out of others' reach for a minute.

    The port is left in TIME_WAIT: a server that sets SO_REUSEADDR may bind it, a plain bind may not.
    """
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        with socket.socket() as server, socket.socket() as client:
            try:
                server.bind((LOOPBACK, port))
            except OSError:
                continue
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.listen(1)
            client.connect((LOOPBACK, port))
            server.accept()[0].close()
            return port
    raise ServiceError("no free port")


def listens(port: int) -> bool:
    """Tell whether a loopback port accepts connections."""
    with suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1):
        return True
    return False


@dataclass
class Process:
    """One child process: its command, its log file and how it is asked to stop."""

    name: str
    command: Sequence[str]
    log: Path
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    _child: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    @property
    def pid(self) -> int | None:
        """The process id while the child runs."""
        return self._child.pid if self._child is not None and self._child.poll() is None else None

    def start(self) -> None:
        """Start the child in a session of its own."""
        if self.pid is not None:
            raise ServiceError(f"{self.name} already runs")
        self._child = _STARTER.submit(self._spawn, subprocess.DEVNULL).result()

    def wait_until(self, answers: Callable[[], bool], seconds: float = START_SECONDS) -> None:
        """Wait until the child answers; fail when it ends first or takes too long."""
        deadline = time.monotonic() + seconds
        while self.pid is not None:
            if answers():
                return
            if time.monotonic() > deadline:
                raise ServiceError(f"{self.name} did not answer in {seconds:g} s\n{self._log_tail()}")
            time.sleep(0.05)
        raise ServiceError(f"{self.name} ended before it answered\n{self._log_tail()}")

    def run(self, text: str = "", seconds: float = START_SECONDS) -> None:
        """Run the child to its end with this text on its standard input; fail unless it succeeds."""
        self._child = _STARTER.submit(self._spawn, subprocess.PIPE).result()
        try:
            self._child.communicate(text.encode(), timeout=seconds)
        except subprocess.TimeoutExpired as error:
            raise ServiceError(f"{self.name} took over {seconds:g} s\n{self._log_tail()}") from error
        finally:
            self.stop(grace=1)
        if self._child.returncode != 0:
            raise ServiceError(f"{self.name} exited with {self._child.returncode}\n{self._log_tail()}")

    def ask(self, what: signal.Signals) -> None:
        """Send a signal to the child if it still runs."""
        if self._child is not None:
            self._child.send_signal(what)

    def stop(self, what: signal.Signals | None = None, grace: float = GRACE_SECONDS) -> None:
        """Ask the child to stop, wait for the grace time, then kill its whole process group."""
        if self._child is None or self._child.poll() is not None:
            return
        self.ask(what or self.stop_signal)
        try:
            self._child.wait(grace)
        except subprocess.TimeoutExpired:
            os.killpg(self._child.pid, signal.SIGKILL)
            self._child.wait()

    def _spawn(self, stdin: int) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*self._dying_with_parent(), *self.command],
                stdin=stdin,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_ENVIRONMENT,
                cwd="/",
                user=self.user,
                group=self.user,
                extra_groups=None if self.user is None else [],
                start_new_session=True,
            )

    def _dying_with_parent(self) -> list[str]:
        setpriv = shutil.which("setpriv")
        return [] if setpriv is None else [setpriv, "--pdeathsig", self.stop_signal.name[3:]]

    def _log_tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])
