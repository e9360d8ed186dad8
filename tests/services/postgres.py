"""A private PostgreSQL server."""

import os
import secrets
import shutil
import signal
import subprocess
import time
from pathlib import Path

from .processes import LOOPBACK, Process, ServiceError, free_port, listens
from .programs import postgres_folder

NAME = "cellwright"
PACKAGES = ("postgresql",)

_SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "shared_buffers": "16MB",
    "dynamic_shared_memory_type": "mmap",
    "fsync": "on",
    "password_encryption": "scram-sha-256",
}


def missing() -> list[str]:
    """Name the Debian packages this service lacks."""
    return [] if postgres_folder() is not None else list(PACKAGES)


def installed() -> bool:
    """Tell whether the service can be started here."""
    return not missing()


class Postgres:
    """PostgreSQL on a loopback port, its data in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        """Choose the port and the password; nothing starts yet."""
        programs = postgres_folder()
        if programs is None:
            raise ServiceError("PostgreSQL is not installed")
        self.port = free_port()
        self._programs = programs
        self._password = secrets.token_hex(16)
        self._folder = folder
        self._data = folder / "data"
        self._user = "postgres" if os.geteuid() == 0 else None
        settings = {"port": str(self.port), **_SETTINGS}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self._server = self._process("postgres", "-D", str(self._data), *options)

    @property
    def url(self) -> str:
        """The address of the database, with its user and password."""
        return f"postgresql://{NAME}:{self._password}@{LOOPBACK}:{self.port}/{NAME}"

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._server.pid

    def start(self) -> None:
        """Start the server, on new data the first time, and wait until its database answers."""
        if not self._data.exists():
            self._prepare()
        # After a SIGKILL the old backends hold their memory a moment longer, and the server refuses.
        attempts = 20 if (self._data / "postmaster.pid").exists() else 1
        for attempt in range(attempts):
            self._server.start()
            try:
                self._server.wait_until(self._answers)
            except ServiceError:
                if self._server.pid is not None or attempt == attempts - 1:
                    raise
                time.sleep(0.2)
            else:
                return

    def stop(self) -> None:
        """Stop the server in order; its data stays."""
        self._server.stop()

    def stop_immediate(self) -> None:
        """Stop the server as a crash would: connections break and the next start recovers."""
        self._server.stop(signal.SIGQUIT)

    def restart(self) -> None:
        """Stop the server in order and start it on the same data and port."""
        self.stop()
        self.start()

    def _prepare(self) -> None:
        self._folder.mkdir(mode=0o700)
        if self._user is not None:
            shutil.chown(self._folder, self._user, self._user)
        self._process(
            "initdb", "-D", str(self._data), "--username=postgres", "--encoding=UTF8", "--locale=C",
            "--auth-local=reject", "--auth-host=scram-sha-256", "--no-sync", "--no-instructions",
        ).run()  # fmt: skip
        self._process("postgres", "--single", "-D", str(self._data), "postgres").run(
            f"CREATE ROLE {NAME} LOGIN CREATEDB PASSWORD '{self._password}'\nCREATE DATABASE {NAME} OWNER {NAME}\n"
        )

    def _process(self, program: str, *arguments: str) -> Process:
        return Process(
            name=program,
            command=[str(self._programs / program), *arguments],
            log=self._folder / f"{program}.log",
            user=self._user,
            stop_signal=signal.SIGINT,
        )

    def _answers(self) -> bool:
        if not listens(self.port):
            return False
        answer = subprocess.run(
            [self._programs / "psql", "-XAtq", "-h", LOOPBACK, "-p", str(self.port), "-c", "SELECT 1", NAME, NAME],
            env={"PGPASSWORD": self._password, "PGCONNECT_TIMEOUT": "5", "PATH": os.defpath},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        return answer.stdout == b"1\n"
