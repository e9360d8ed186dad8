"""Real PostgreSQL, Redis and S3 servers for tests, private to the process that starts them."""

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from . import postgres, redis, swift
from .folder import TemporaryFolder
from .postgres import Postgres
from .processes import ServiceError
from .redis import Redis
from .swift import Swift

__all__ = ["Postgres", "Redis", "ServiceError", "Services", "Swift"]


@dataclass
class Services:
    """The three servers in one temporary folder."""

    postgres: Postgres = field(init=False)
    redis: Redis = field(init=False)
    swift: Swift = field(init=False)
    _folder: TemporaryFolder | None = field(default=None, init=False, repr=False)
    _servers: list[Postgres | Redis | Swift] = field(default_factory=list, init=False, repr=False)
    _starts: list[Future[None]] = field(default_factory=list, init=False, repr=False)

    @staticmethod
    def missing() -> list[str]:
        """Name the Debian packages that are not installed."""
        return [*postgres.missing(), *redis.missing(), *swift.missing()]

    def start(self) -> None:
        """Start the servers side by side; after a failure nothing is left of them."""
        if self._folder is not None:
            raise ServiceError("the services already run")
        if missing := self.missing():
            raise ServiceError(f"not installed: {' '.join(missing)}")
        try:
            self._folder = TemporaryFolder("cellwright-services-")
            self.postgres = Postgres(self._folder.path / "postgres")
            self.redis = Redis(self._folder.path / "redis")
            self.swift = Swift(self._folder.path / "swift")
            self._servers = [self.postgres, self.redis, self.swift]
            self._starts = _each(server.start for server in self._servers)
            _finish(self._starts)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the servers and remove their folder; does nothing when they do not run."""
        try:
            while wait(self._starts, timeout=0.1).not_done:
                self._stop_servers()
            self._stop_servers()
        finally:
            if self._folder is not None:
                self._folder.remove()
        self._folder, self._servers, self._starts = None, [], []

    def _stop_servers(self) -> None:
        stops = _each(server.stop for server in self._servers)
        wait(stops)
        _finish(stops)

    def environ(self) -> dict[str, str]:
        """Return the environment variables that point Cellwright at the servers."""
        return {
            "CELLWRIGHT_DATABASE_URL": self.postgres.url,
            "CELLWRIGHT_REDIS_URL": self.redis.url,
            "CELLWRIGHT_S3_ENDPOINT": self.swift.endpoint,
            "CELLWRIGHT_S3_ACCESS_KEY": self.swift.access_key,
            "CELLWRIGHT_S3_SECRET_KEY": self.swift.secret_key,
            "CELLWRIGHT_S3_BUCKET": self.swift.bucket,
            "CELLWRIGHT_S3_SECURE": "false",
        }

    def __enter__(self) -> Self:
        """Start the servers."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the servers."""
        self.stop()


def _each(tasks: Iterable[Callable[[], None]]) -> list[Future[None]]:
    """Begin the tasks, each in a thread of its own."""
    todo = list(tasks)
    pool = ThreadPoolExecutor(max_workers=len(todo) or 1, thread_name_prefix="services")
    try:
        return [pool.submit(task) for task in todo]
    finally:
        pool.shutdown(wait=False)


def _finish(futures: list[Future[None]]) -> None:
    """Wait until all are done or the first one fails, and raise its exception."""
    for future in wait(futures, return_when=FIRST_EXCEPTION).done:
        future.result()
