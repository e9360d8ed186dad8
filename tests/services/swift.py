"""A private S3 server: OpenStack Swift with its S3 interface."""

import os
from functools import partial
from pathlib import Path

from minio import Minio

from .processes import LOOPBACK, Process, listens
from .programs import find, required
from .swift_settings import ACCOUNT, BACKENDS, REGION, SERVERS, USER, Settings

BUCKET = "cellwright"

_PYTHON = "/usr/bin/python3"
_RUNNER = Path(__file__).with_name("swift_runner.py")
_PROGRAMS = {"memcached": "memcached"} | {f"swift-{name}": f"swift-{name}-server" for name in SERVERS}


def missing() -> list[str]:
    """Name the Debian packages this service lacks."""
    return [package for package, program in _PROGRAMS.items() if find(program) is None]


def installed() -> bool:
    """Tell whether the service can be started here."""
    return not missing()


class Swift:
    """Swift's proxy, account, container and object servers and their memcached, on loopback ports."""

    access_key = f"{ACCOUNT}:{USER}"
    region = REGION
    bucket = BUCKET

    def __init__(self, folder: Path) -> None:
        """Choose the ports and the secret; nothing starts yet."""
        self._settings = Settings(folder)
        cache = [required("memcached"), "-l", LOOPBACK, "-p", str(self._settings.cache_port), "-U", "0", "-m", "16"]
        if os.geteuid() == 0:
            cache += ["-u", "root"]
        self._processes = {
            "memcached": Process("memcached", cache, folder / "memcached.log"),
            **{name: self._python(name, "serve", name) for name in SERVERS},
        }

    @property
    def endpoint(self) -> str:
        """The host and port of the S3 interface, plain HTTP."""
        return f"{LOOPBACK}:{self._settings.ports['proxy']}"

    @property
    def secret_key(self) -> str:
        """The secret that belongs to the access key."""
        return self._settings.secret_key

    @property
    def pids(self) -> dict[str, int]:
        """The process ids of the servers that run."""
        return {name: process.pid for name, process in self._processes.items() if process.pid is not None}

    def client(self) -> Minio:
        """Return a client of this server."""
        return Minio(self.endpoint, self.access_key, self.secret_key, secure=False, region=self.region)

    def start(self) -> None:
        """Start the servers, on new storage the first time, and wait until the bucket is there."""
        if not self._settings.folder.exists():
            self._prepare()
        for process in self._processes.values():
            process.start()
        ports = {"memcached": self._settings.cache_port, **self._settings.ports}
        for name, process in self._processes.items():
            process.wait_until(partial(listens, ports[name]))
        client = self.client()
        if not client.bucket_exists(self.bucket):
            client.make_bucket(self.bucket)

    def stop(self) -> None:
        """Stop the servers; what they stored stays."""
        for process in self._processes.values():
            process.ask(process.stop_signal)
        for process in self._processes.values():
            process.stop()

    def restart(self) -> None:
        """Stop the servers and start them on the same storage and ports."""
        self.stop()
        self.start()

    def _prepare(self) -> None:
        self._settings.folder.mkdir(mode=0o700)
        self._settings.write()
        ports = [str(self._settings.ports[name]) for name in BACKENDS]
        self._python("rings", "rings", *ports).run()

    def _python(self, name: str, *arguments: str) -> Process:
        return Process(
            name=f"swift {name}",
            command=[_PYTHON, "-I", str(_RUNNER), str(self._settings.folder), *arguments],
            log=self._settings.folder / f"{name}.log",
        )
