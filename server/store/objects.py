"""Bytes named by their sha256: in files of the data folder, or in any S3-compatible store.

Neither decides who may read: callers do. Links are signed by the server (docs/decisions/0003).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import os
import re
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cellwright.server.domain import Sha256
from cellwright.server.errors import StoreUnavailable

if TYPE_CHECKING:
    from minio import Minio

CHUNK_BYTES = 256 * 1024
PAGE = 1_000
NEAR_BYTES = 4 << 30
NEAR_FROM_BYTES = 1 << 16
NAME = re.compile(r"[0-9a-f]{64}")


class Objects(Protocol):
    """A store of immutable objects."""

    async def put(self, sha256: Sha256, source: Path) -> None:
        """Stores the file `source`, whose content has that hash; again is harmless. Durable when it returns."""

    def read(self, sha256: Sha256, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """The bytes, or a range of them, in chunks; raises KeyError when there is no such object."""

    async def fetch(self, sha256: Sha256, place: Path) -> None:
        """Puts an object at `place`, read-only for whoever finds it there; raises KeyError."""

    async def delete(self, sha256: Sha256) -> None:
        """Removes an object; one that is not there is no error."""

    def names(self) -> AsyncIterator[tuple[Sha256, float]]:
        """Every object that is there, and its age in seconds."""

    async def check(self) -> None:
        """A real round trip; raises StoreUnavailable."""


async def read_all(objects: Objects, sha256: Sha256) -> bytes:
    """A whole object, for those that are known to be small."""
    return b"".join([chunk async for chunk in objects.read(sha256)])


def _check_name(sha256: str) -> None:
    """Raises KeyError for what is no hash: no path may come in by an object's name."""
    if NAME.fullmatch(sha256) is None:
        raise KeyError(sha256)


class Spooled:
    """Collects bytes of unknown length in a temporary file while hashing them. Blocking; small calls."""

    def __init__(self, folder: Path | None = None) -> None:
        handle, path = tempfile.mkstemp(prefix="cellwright-", dir=folder)
        self._file = os.fdopen(handle, "wb")
        self._hash = hashlib.sha256()
        self.path, self.size_bytes = Path(path), 0

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self.size_bytes += len(data)

    def finish(self) -> Sha256:
        """Closes the file, which then holds it all, and names its content."""
        self._file.close()
        return Sha256(self._hash.hexdigest())

    def remove(self) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)


class FileObjects:
    """Objects as files `ab/cdef…`: written beside their place, synced, then renamed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _path(self, sha256: Sha256) -> Path:
        _check_name(sha256)
        return self._folder / sha256[:2] / sha256[2:]

    async def put(self, sha256: Sha256, source: Path) -> None:
        await asyncio.to_thread(self._put, sha256, source)

    def _put(self, sha256: Sha256, source: Path) -> None:
        place = self._path(sha256)
        if place.exists():
            return
        place.parent.mkdir(exist_ok=True, mode=0o700)
        try:
            handle, name = tempfile.mkstemp(dir=place.parent)
            with os.fdopen(handle, "wb") as target, source.open("rb") as data:
                while chunk := data.read(CHUNK_BYTES):
                    target.write(chunk)
                target.flush()
                os.fsync(target.fileno())
            os.rename(name, place)
            folder = os.open(place.parent, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)
        except OSError as error:
            with contextlib.suppress(OSError, UnboundLocalError):
                os.unlink(name)
            raise StoreUnavailable(f"The object could not be stored: {error.strerror}.") from error

    async def read(self, sha256: Sha256, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        try:
            file = await asyncio.to_thread(self._path(sha256).open, "rb")
        except FileNotFoundError:
            raise KeyError(sha256) from None
        with file:
            file.seek(start)
            left = length
            while left is None or left > 0:
                chunk = await asyncio.to_thread(file.read, CHUNK_BYTES if left is None else min(left, CHUNK_BYTES))
                if not chunk:
                    return
                if left is not None:
                    left -= len(chunk)
                yield chunk

    async def fetch(self, sha256: Sha256, place: Path) -> None:
        def link() -> None:
            try:
                os.link(self._path(sha256), place)
            except FileNotFoundError:
                raise KeyError(sha256) from None
            except OSError:  # Another disk, or a file system without links.
                shutil.copyfile(self._path(sha256), place)

        await asyncio.to_thread(link)

    async def delete(self, sha256: Sha256) -> None:
        await asyncio.to_thread(self._path(sha256).unlink, missing_ok=True)

    async def names(self) -> AsyncIterator[tuple[Sha256, float]]:
        def in_folder(folder: Path) -> list[tuple[Sha256, float]]:
            now = time.time()
            with os.scandir(folder) as entries:
                # What a crash left half written has another name; it is swept by that.
                return [(Sha256(folder.name + e.name), now - e.stat().st_mtime) for e in entries if e.is_file()]

        for folder in await asyncio.to_thread(lambda: sorted(self._folder.iterdir())):
            if folder.is_dir():
                for found in await asyncio.to_thread(in_folder, folder):
                    yield found

    async def check(self) -> None:
        def probe() -> None:
            with tempfile.TemporaryFile(dir=self._folder) as file:
                file.write(b"cellwright")

        try:
            await asyncio.to_thread(probe)
        except OSError as error:
            raise StoreUnavailable(f"The folder of objects cannot be written: {error}") from error


class Near:
    """Large objects that were fetched from afar: who fetches one again has the same file.

    Kernels that map it share its pages. The longest unused go where all are more than NEAR_BYTES; who has a link to one
    keeps it. Blocking.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def link(self, sha256: Sha256, place: Path) -> bool:
        """Puts the object at `place` if it is here."""
        try:
            os.utime(self._folder / sha256)
            os.link(self._folder / sha256, place)
        except OSError:
            return False
        return True

    def keep(self, sha256: Sha256, place: Path) -> None:
        """Keeps what was fetched to `place`, read-only from now on; where that cannot be, it is fetched again."""
        if place.stat().st_size < NEAR_FROM_BYTES:
            return
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=0o700, exist_ok=True)
            place.chmod(0o444)
            os.link(place, self._folder / sha256)
            self._trim()

    def _trim(self) -> None:
        held = sorted(((file, file.stat()) for file in self._folder.iterdir()), key=lambda pair: -pair[1].st_mtime)
        total = 0
        for file, about in held:
            total += about.st_size
            if total > NEAR_BYTES:
                file.unlink(missing_ok=True)

    def drop(self, sha256: Sha256) -> None:
        (self._folder / sha256).unlink(missing_ok=True)


class S3Objects:
    """Objects in a bucket, under `objects/<sha256>`; the bucket is made if it is not there."""

    def __init__(self, client: Minio, bucket: str, near: Near) -> None:
        self._client, self._bucket, self._near = client, bucket, near

    @classmethod
    def connect(
        cls, endpoint: str, access_key: str, secret_key: str, bucket: str, region: str | None, secure: bool, near: Path
    ) -> S3Objects:
        """A store at an S3 endpoint; `near` is a folder for what was fetched lately."""
        import urllib3
        from minio import Minio

        pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=5, read=60),
            retries=urllib3.Retry(total=2, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504]),
            maxsize=16,
        )
        client = Minio(
            endpoint, access_key=access_key, secret_key=secret_key, region=region, secure=secure, http_client=pool
        )
        return cls(client, bucket, Near(near))

    @staticmethod
    def _key(sha256: Sha256) -> str:
        _check_name(sha256)
        return f"objects/{sha256}"

    async def _call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        from minio.error import MinioException, S3Error
        from urllib3.exceptions import HTTPError

        try:
            return await asyncio.to_thread(function, *args, **kwargs)
        except S3Error as error:
            if error.code in ("NoSuchKey", "NoSuchBucket"):
                raise KeyError(error.object_name or self._bucket) from error
            raise StoreUnavailable(f"The object store refuses: {error.code}.") from error
        except (MinioException, HTTPError, OSError, ValueError) as error:
            raise StoreUnavailable(f"The object store does not answer: {type(error).__name__}.") from error

    async def prepare(self) -> None:
        """Makes the bucket; raises StoreUnavailable."""
        if not await self._call(self._client.bucket_exists, self._bucket):
            await self._call(self._client.make_bucket, self._bucket)

    async def put(self, sha256: Sha256, source: Path) -> None:
        key = self._key(sha256)
        with contextlib.suppress(KeyError):
            held = await self._call(self._client.stat_object, self._bucket, key)
            if held.size == source.stat().st_size:
                return
        await self._call(self._client.fput_object, self._bucket, key, str(source))

    async def read(self, sha256: Sha256, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        if length == 0:
            return
        answer = await self._call(
            self._client.get_object, self._bucket, self._key(sha256), offset=start, length=length or 0
        )
        try:
            while chunk := await self._call(answer.read, CHUNK_BYTES):
                yield chunk
        finally:
            answer.close()
            answer.release_conn()

    async def fetch(self, sha256: Sha256, place: Path) -> None:
        key = self._key(sha256)
        if not await asyncio.to_thread(self._near.link, sha256, place):
            await self._call(self._client.fget_object, self._bucket, key, str(place))
            await asyncio.to_thread(self._near.keep, sha256, place)

    async def delete(self, sha256: Sha256) -> None:
        with contextlib.suppress(KeyError):
            await self._call(self._client.remove_object, self._bucket, self._key(sha256))
        await asyncio.to_thread(self._near.drop, sha256)

    async def names(self) -> AsyncIterator[tuple[Sha256, float]]:
        after = ""
        while True:
            page = await self._call(self._page, after)
            now = time.time()
            for found in page:
                yield Sha256(found.object_name.removeprefix("objects/")), now - found.last_modified.timestamp()
            if len(page) < PAGE:
                return
            after = page[-1].object_name

    def _page(self, after: str) -> list[Any]:
        found = self._client.list_objects(self._bucket, prefix="objects/", recursive=True, start_after=after or None)
        return list(itertools.islice(found, PAGE))

    async def check(self) -> None:
        if not await self._call(self._client.bucket_exists, self._bucket):
            raise StoreUnavailable(f"The object store has no bucket {self._bucket!r}.")
