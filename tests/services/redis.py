"""A private Redis server."""

import secrets
import socket
from pathlib import Path

from .processes import LOOPBACK, Process, free_port
from .programs import find, required

PACKAGES = ("redis-server",)


def missing() -> list[str]:
    """Name the Debian packages this service lacks."""
    return [] if find("redis-server") is not None else list(PACKAGES)


def installed() -> bool:
    """Tell whether the service can be started here."""
    return not missing()


class Redis:
    """Redis on a loopback port, with a password and without persistence."""

    def __init__(self, folder: Path) -> None:
        """Choose the port and the password; nothing starts yet."""
        self.port = free_port()
        self._password = secrets.token_hex(16)
        self._folder = folder
        self._configuration = folder / "redis.conf"
        self._server = Process(
            name="redis-server",
            command=[required("redis-server"), str(self._configuration)],
            log=folder / "redis.log",
        )

    @property
    def url(self) -> str:
        """The address of the first database, with the password."""
        return f"redis://:{self._password}@{LOOPBACK}:{self.port}/0"

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._server.pid

    def start(self) -> None:
        """Start the server, empty, and wait until it answers."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._configuration.write_text(
            f"bind {LOOPBACK}\n"
            f"port {self.port}\n"
            f"requirepass {self._password}\n"
            f'dir "{self._folder}"\n'
            'save ""\n'
            "appendonly no\n"
            "daemonize no\n"
        )
        self._server.start()
        self._server.wait_until(self._answers)

    def stop(self) -> None:
        """Stop the server; what it held is lost."""
        self._server.stop()

    def restart(self) -> None:
        """Stop the server and start it again, empty, on the same port."""
        self.stop()
        self.start()

    def _answers(self) -> bool:
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=5) as connection:
                connection.sendall(f"AUTH {self._password}\r\nPING\r\n".encode())
                with connection.makefile("rb") as answers:
                    return [answers.readline(), answers.readline()] == [b"+OK\r\n", b"+PONG\r\n"]
        except OSError:
            return False
