"""Artifacts: what a session made or was given, kept by content. A visible artifact always resolves to its bytes."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import mimetypes
import re
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import asyncpg
import structlog
from cellwright.kernels.inside.files import overwrite_file, plain_file, replace_file
from cellwright.notebooks.document import Output
from cellwright.notebooks.outputs import OBJECT, TABLE_MIME, externalise, is_reference, raw_bytes, sound
from cellwright.server.describe import describe, is_tabular, thumbnail
from cellwright.server.domain import Artifact, ArtifactId, ArtifactKind, SessionId, Sha256, TurnId, new_id
from cellwright.server.errors import Invalid, NotFound
from cellwright.server.events import ArtifactChanged, ArtifactDeleted, ArtifactFailed, ArtifactReady, FileUploaded
from cellwright.server.store import postgres, queries
from cellwright.server.store.log import Log
from cellwright.server.store.objects import Objects, Spooled, read_all
from cellwright.server.store.sessions import is_uuid

SQL, SESSIONS = queries.load("artifacts"), queries.load("sessions")
ATTEMPTS = 3
INLINE_BYTES = 8 << 20
"""What a cell's outputs may hold in the database itself."""

SHOWN: dict[str, tuple[str, str]] = {
    "image/png": ("png", "image/png"),
    "image/jpeg": ("jpg", "image/jpeg"),
    "image/svg+xml": ("svg", "image/svg+xml"),
    "application/vnd.plotly.v1+json": ("plotly.json", "application/json"),
    "application/pdf": ("pdf", "application/pdf"),
    "application/geo+json": ("geojson", "application/geo+json"),
    "application/json": ("json", "application/json"),
    "text/latex": ("tex", "text/x-tex"),
    "text/html": ("html", "text/html"),
}
"""MIME types of display data that become artifacts: of one bundle the first that it holds."""

SHORT_LIVED = ("intermediate", "debug", "context")
Source = Literal["upload", "file", "display", "text", "api"]
log = structlog.get_logger(__name__)

mimetypes.add_type("application/vnd.apache.parquet", ".parquet")
mimetypes.add_type("application/x-ipynb+json", ".ipynb")


def file_type(name: str) -> str:
    """A file's type by its ending: `csv`, `png`, …"""
    return Path(name).suffix.lstrip(".").lower() or "bin"


def slug(text: str, limit: int = 48) -> str:
    """A file name's worth of a sentence."""
    words = re.sub(r"[^\w]+", "-", text.lower(), flags=re.UNICODE).strip("-_")
    return words[:limit].rstrip("-") or "untitled"


class Artifacts:
    """Stores, lists and hands out artifacts, and the large outputs that cells refer to."""

    def __init__(self, pool: postgres.Pool, events: Log, objects: Objects, secret: str, ttl: timedelta) -> None:
        """`ttl` is how long what is of passing interest (SHORT_LIVED) is kept."""
        self._pool, self._log, self.objects, self._secret = pool, events, objects, secret.encode()
        self._ttl = ttl

    async def keep(self, sha256: Sha256, path: Path, size_bytes: int) -> None:
        """Stores an object's bytes; a reference must follow, else a sweep takes it away."""
        async with postgres.acquired(self._pool) as connection:
            await connection.execute(SQL.add_object, sha256, size_bytes)
        await self.objects.put(sha256, path)

    async def keep_file(self, folder: Path, name: str) -> tuple[Sha256, int]:
        """Stores the content of the file `name` below `folder`; raises OSError. A reference must follow."""
        async with _spooled() as spooled:
            await asyncio.to_thread(_copy, folder, name, spooled)
            sha256 = spooled.finish()
            await self.keep(sha256, spooled.path, spooled.size_bytes)
        return sha256, spooled.size_bytes

    async def put_file(
        self, sha256: Sha256, folder: Path, name: str, *, executable: bool = False, held: bool = False
    ) -> None:
        """Makes the file `name` below `folder` a copy of an object; raises OSError, or KeyError for one that is gone.

        A copy, not a link: whoever writes into the file must not write into the store. One that is `held` open by a
        kernel stays the same file, where it can.
        """
        with tempfile.TemporaryDirectory(prefix="cellwright-") as between:
            fetched = Path(between) / "object"
            await self.objects.fetch(sha256, fetched)

            def put() -> None:
                with fetched.open("rb") as data:
                    try:
                        if held:
                            overwrite_file(folder, name, data, executable=executable)
                            return
                    except OSError:
                        data.seek(0)
                    replace_file(folder, name, data, mode=0o755 if executable else 0o644, make=True)

            await asyncio.to_thread(put)

    async def keep_bytes(self, data: bytes) -> Sha256:
        async with _spooled() as spooled:
            await asyncio.to_thread(spooled.write, data)
            sha256 = spooled.finish()
            await self.keep(sha256, spooled.path, spooled.size_bytes)
        return sha256

    async def keep_outputs(self, outputs: Sequence[Output]) -> list[Output]:
        """A program's outputs with large values replaced by references to objects that are stored."""
        slim, large = externalise(sound(outputs))
        if len(json.dumps(slim)) > INLINE_BYTES:  # Thousands of small ones add up.
            slim, large = externalise(sound(outputs), above_bytes=1_000)
        for data in large.values():
            await self.keep_bytes(data)
        return slim

    async def fetch_all(self, sha256s: Sequence[str]) -> dict[str, bytes]:
        """Whole objects by name, for outputs that are to be inlined."""
        return {name: await read_all(self.objects, Sha256(name)) for name in dict.fromkeys(sha256s)}

    async def shown(self, session_id: SessionId, sha256: str) -> bytes:
        """A large value of a session's outputs, whole; raises NotFound for what the session does not show."""
        async with postgres.acquired(self._pool) as connection:
            if await connection.fetchval(SQL.shown_object, sha256, session_id) is None:
                raise NotFound("object", sha256)
        try:
            return await read_all(self.objects, Sha256(sha256))
        except KeyError:
            raise NotFound("object", sha256) from None

    async def add(
        self,
        session_id: SessionId,
        source: Spooled,
        name: str,
        *,
        created_by: Source,
        kind: ArtifactKind = "result",
        mime_type: str | None = None,
        turn_id: TurnId | None = None,
        message_id: str | None = None,
        cell_id: str | None = None,
        description: str = "",
        metadata: dict[str, Any] | None = None,
        tags: dict[str, str] | None = None,
        parents: Sequence[ArtifactId] = (),
        derived_from: str | None = None,
        expires_at: datetime | None = None,
        generation: int | None = None,
    ) -> Artifact:
        """Stores a file under `name`; raises StoreUnavailable, and then nothing of it is visible.

        A pending row first, then the bytes, then row and event together: whatever happens between, what can be
        seen resolves.
        """
        sha256 = source.finish()
        artifact_id = ArtifactId(new_id())
        mime = mime_type or mimetypes.guess_type(name)[0] or "application/octet-stream"
        metadata = dict(metadata or {})
        if is_tabular(name) and created_by in ("upload", "file"):
            metadata |= await describe(source.path, name)
        if expires_at is None and kind in SHORT_LIVED:
            expires_at = datetime.now(UTC) + self._ttl
        async with postgres.acquired(self._pool) as connection:
            created_at = await connection.fetchval(
                SQL.insert_artifact,
                artifact_id,
                session_id,
                turn_id,
                message_id,
                cell_id,
                name,
                file_type(name),
                kind,
                mime,
                description,
                tags or {},
                list(parents),
                derived_from,
                created_by,
                metadata,
                expires_at,
            )
        artifact = Artifact(
            id=artifact_id,
            session_id=session_id,
            turn_id=turn_id,
            message_id=message_id,
            cell_id=cell_id,
            name=name,
            file_type=file_type(name),
            kind=kind,
            mime_type=mime,
            size_bytes=source.size_bytes,
            sha256=sha256,
            status="ready",
            description=description,
            tags=tags or {},
            parents=list(parents),
            derived_from=derived_from,
            created_by=created_by,
            created_at=created_at,
            expires_at=expires_at,
            metadata=metadata,
        )
        event = (
            FileUploaded(turn_id=turn_id, artifact=artifact)
            if created_by == "upload"
            else ArtifactReady(turn_id=turn_id, artifact=artifact)
        )
        try:
            for attempt in range(ATTEMPTS):
                await self.keep(sha256, source.path, source.size_bytes)
                try:
                    await self._log.append(session_id, [event], generation=generation)
                    break
                except asyncpg.ForeignKeyViolationError:
                    # A deletion of the last other reference took the object between the two steps.
                    if attempt + 1 == ATTEMPTS:
                        raise
        except BaseException:
            await asyncio.shield(self._forget(artifact_id))
            raise
        return artifact

    async def _forget(self, artifact_id: ArtifactId) -> None:
        try:
            async with postgres.acquired(self._pool) as connection:
                await connection.execute(SQL.forget_pending, artifact_id)
        except Exception:
            log.warning("artifact_left_pending", artifact_id=artifact_id, exc_info=True)

    async def add_bytes(self, session_id: SessionId, data: bytes, name: str, **more: Any) -> Artifact:
        async with _spooled() as spooled:
            await asyncio.to_thread(spooled.write, data)
            return await self.add(session_id, spooled, name, **more)

    async def add_shown(
        self, session_id: SessionId, outputs: Sequence[Output], purpose: str, **lineage: Any
    ) -> list[Artifact]:
        """Makes artifacts of what a cell displayed: each bundle's best form, each content once a session."""
        made = []
        number = 0
        for output in outputs:
            data = output.get("data", {})
            mime = next((m for m in SHOWN if m in data), None) or next((m for m in data if "vega" in m), None)
            if mime is None:
                continue
            own_page = mime == "text/html" and str(data.get("text/plain", "")).startswith("<")
            if own_page and TABLE_MIME not in output.get("metadata", {}):
                continue  # How a widget or an object shows itself, not a result.
            number += 1
            ending, plain_mime = SHOWN.get(mime, ("vega.json", "application/json"))
            name = f"{slug(purpose or 'output')}{'' if number == 1 else f'-{number}'}.{ending}"
            content = await self._content(mime, data[mime])
            if await self.has(session_id, hashlib.sha256(content).hexdigest(), name):
                continue
            metadata = {}
            table = output.get("metadata", {}).get(TABLE_MIME)
            if table is not None:
                metadata = dict(table)
            try:
                made.append(
                    await self.add_bytes(
                        session_id,
                        content,
                        name,
                        created_by="display",
                        mime_type=plain_mime,
                        description=purpose,
                        metadata=metadata,
                        **lineage,
                    )
                )
            except OSError as error:
                await self._failed(session_id, name, error, lineage)
        return made

    async def _content(self, mime: str, value: Any) -> bytes:
        if is_reference(value):
            return await read_all(self.objects, value[OBJECT])
        return raw_bytes(mime, value)

    async def has(self, session_id: SessionId, sha256: str, name: str) -> bool:
        """Whether a session has an artifact of that name and content."""
        async with postgres.acquired(self._pool) as connection:
            return await connection.fetchrow(SQL.same_artifact, session_id, sha256, name) is not None

    async def add_file(self, session_id: SessionId, folder: Path, file: str, name: str, **more: Any) -> Artifact | None:
        """Makes an artifact of `file`, below `folder`; None when the same content stands under that name."""
        try:
            async with _spooled() as spooled:
                await asyncio.to_thread(_copy, folder, file, spooled)
                async with postgres.acquired(self._pool) as connection:
                    same = await connection.fetchrow(SQL.same_artifact, session_id, spooled.finish(), name)
                if same is not None:
                    return None
                return await self.add(session_id, spooled, name, **more)
        except OSError as error:
            await self._failed(session_id, name, error, more)
            return None

    async def _failed(self, session_id: SessionId, name: str, error: Exception, lineage: dict[str, Any]) -> None:
        event = ArtifactFailed(turn_id=lineage.get("turn_id"), name=name, reason=str(error))
        await self._log.append(session_id, [event], generation=lineage.get("generation"))

    async def get(self, artifact_id: str) -> Artifact:
        """One artifact; raises NotFound."""
        row = None
        if is_uuid(artifact_id):
            async with postgres.acquired(self._pool) as connection:
                row = await connection.fetchrow(SQL.artifact, artifact_id)
        if row is None:
            raise NotFound("artifact", artifact_id)
        return _artifact(row)

    async def some(self, session_id: SessionId, artifact_ids: Sequence[str]) -> list[Artifact]:
        """Artifacts of a session by id, in that order; raises NotFound for the first that is not there."""
        async with postgres.acquired(self._pool) as connection:
            known = [i for i in artifact_ids if is_uuid(i)]
            rows = await connection.fetch(SQL.artifacts_by_id, session_id, known)
        found = {row["id"]: _artifact(row) for row in rows}
        for artifact_id in artifact_ids:
            if artifact_id not in found:
                raise NotFound("file", artifact_id)
        return [found[artifact_id] for artifact_id in artifact_ids]

    async def files(
        self, session_id: SessionId, by: Sequence[Literal["upload", "file"]] = ("upload", "file")
    ) -> dict[str, Artifact]:
        """The latest artifact of each file that was uploaded or written, or only of one kind, by name."""
        async with postgres.acquired(self._pool) as connection:
            rows = await connection.fetch(SQL.latest_named, session_id, list(by))
        return {row["name"]: _artifact(row) for row in rows}

    async def page(
        self,
        session_id: SessionId,
        *,
        kind: str | None = None,
        file_type: str | None = None,
        cell_id: str | None = None,
        message_id: str | None = None,
        tags: dict[str, str] | None = None,
        tag: str | None = None,
        limit: int = 50,
        offset: int = 0,
    ) -> tuple[list[Artifact], int]:
        """A page of a session's artifacts, newest first, and how many there are.

        Each of `tags` must be there with its value, `tag` with any.
        """
        chosen = (session_id, kind, file_type, cell_id, message_id, tags, tag)
        async with postgres.acquired(self._pool) as connection:
            rows = await connection.fetch(SQL.list_artifacts, *chosen, limit, offset)
            total = await connection.fetchval(SQL.count_artifacts, *chosen)
        return [_artifact(row) for row in rows], total

    async def thumbnail(self, artifact: Artifact, size: int) -> bytes | None:
        """A PNG of an image, no larger than `size` pixels each way; None for one that cannot be read."""
        async with _spooled() as spooled:
            try:
                async for chunk in self.objects.read(artifact.sha256):
                    await asyncio.to_thread(spooled.write, chunk)
            except KeyError:
                return None
            spooled.finish()
            return await thumbnail(spooled.path, size)

    async def read(self, artifact: Artifact, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """The bytes, or a range; counts the access."""
        async with postgres.acquired(self._pool) as connection:
            await connection.execute(SQL.count_access, artifact.id)
        async for chunk in self.objects.read(artifact.sha256, start, length):
            yield chunk

    async def change(self, artifact: Artifact, changes: dict[str, Any], by: str) -> Artifact:
        """Changes tags, kind, description, expiry or parents."""
        await self._log.append(artifact.session_id, [ArtifactChanged(artifact_id=artifact.id, changes=changes, by=by)])
        return await self.get(artifact.id)

    async def add_parents(self, artifact: Artifact, parents: Sequence[Artifact], by: str) -> Artifact:
        """Records what an artifact was made from; raises Invalid for what would be its own ancestor."""
        for parent in parents:
            if artifact.id == parent.id or artifact.id in {a.id for a in await self.ancestors(parent)}:
                raise Invalid(f"{artifact.name} would be its own ancestor.")
        known = dict.fromkeys([*artifact.parents, *(parent.id for parent in parents)])
        return await self.change(artifact, {"parents": list(known)}, by)

    async def ancestors(self, artifact: Artifact) -> list[Artifact]:
        """Everything that an artifact was made from, the nearest first."""
        async with postgres.acquired(self._pool) as connection:
            return [_artifact(row) for row in await connection.fetch(SQL.ancestors, list(artifact.parents))]

    async def children(self, artifact: Artifact) -> list[Artifact]:
        """What was made from an artifact, in its session and where it was shared."""
        async with postgres.acquired(self._pool) as connection:
            return [_artifact(row) for row in await connection.fetch(SQL.children, artifact.id)]

    async def share(self, artifact: Artifact, session_id: SessionId) -> Artifact:
        """Puts an artifact into another session: the same object, no copy, which lives while either refers to it."""
        shared = artifact.model_copy(
            update={
                "id": ArtifactId(new_id()),
                "session_id": session_id,
                "turn_id": None,
                "message_id": None,
                "cell_id": None,
                "parents": [],
                "derived_from": artifact.id,
                "access_count": 0,
                "last_accessed": None,
                "created_at": datetime.now(UTC),
                "created_by": "share",
            }
        )
        async with self._log.transaction(session_id) as connection:
            await connection.fetchrow(SESSIONS.lock_session, session_id)
            # The original's row keeps the object while this refers to it.
            if await connection.fetchrow(SQL.lock_artifact, artifact.id) is None:
                raise NotFound("artifact", artifact.id)
            await connection.execute(
                SQL.insert_artifact,
                *(shared.id, session_id, None, None, None, shared.name, shared.file_type, shared.kind),
                *(shared.mime_type, shared.description, shared.tags, [], shared.derived_from, shared.created_by),
                *(shared.metadata, shared.expires_at),
            )
            await self._log.append(session_id, [ArtifactReady(artifact=shared)], within=connection)
        return await self.get(shared.id)

    async def delete(self, artifact: Artifact, by: str) -> None:
        """Removes an artifact, and its bytes when nothing else refers to them."""
        gone = ArtifactDeleted(artifact_id=artifact.id, name=artifact.name, by=by)
        await self._log.append(artifact.session_id, [gone])
        await self.release([artifact.sha256])

    async def expired(self) -> list[Artifact]:
        """Artifacts whose time is over."""
        async with postgres.acquired(self._pool) as connection:
            return [_artifact(row) for row in await connection.fetch(SQL.expired)]

    async def drop_pending(self, older_than_s: float, *, dry_run: bool) -> int:
        """Removes rows of uploads that were cut short; returns how many there were."""
        async with postgres.acquired(self._pool) as connection:
            statement = SQL.count_pending if dry_run else SQL.drop_pending
            return int(await connection.fetchval(statement, older_than_s))

    async def unreferenced(self, older_than_s: float) -> list[Sha256]:
        """Objects whose rows say that nothing refers to them any more."""
        async with postgres.acquired(self._pool) as connection:
            return [row["sha256"] for row in await connection.fetch(SQL.unreferenced, older_than_s)]

    async def known(self, sha256s: Sequence[str]) -> set[str]:
        """Which of these objects have a row."""
        async with postgres.acquired(self._pool) as connection:
            return {row["sha256"] for row in await connection.fetch(SQL.known_objects, list(sha256s))}

    async def referenced(self, after: str = "", limit: int = 1_000) -> list[Sha256]:
        """A page of the objects that something refers to, by name."""
        async with postgres.acquired(self._pool) as connection:
            return [row["sha256"] for row in await connection.fetch(SQL.referenced_objects, after, limit)]

    async def objects_of(self, session_id: SessionId) -> list[Sha256]:
        """Every object that a session refers to."""
        async with postgres.acquired(self._pool) as connection:
            return [row["sha256"] for row in await connection.fetch(SQL.objects_of_session, session_id)]

    async def add_found(self, sha256s: Sequence[Sha256], age_s: float) -> None:
        """Gives rows to objects that were found without one, so that `release` may take them, locked."""
        async with postgres.acquired(self._pool) as connection:
            await connection.executemany(SQL.add_found, [(sha256, age_s) for sha256 in sha256s])

    async def release(self, sha256s: Sequence[Sha256], older_than_s: float = 0.0) -> int:
        """Deletes those objects that nothing refers to, and that nobody stored lately; returns how many."""
        gone = 0
        for sha256 in sha256s:
            # The bytes go while the row is locked: a writer that wants the same content waits, then stores it anew.
            async with postgres.acquired(self._pool) as connection, connection.transaction():
                if await connection.fetchval(SQL.take_unreferenced, sha256, older_than_s) is not None:
                    await self.objects.delete(sha256)
                    gone += 1
        return gone

    def sign(self, artifact: Artifact, expires_s: int) -> str:
        """A token that lets its bearer read one artifact until it expires."""
        until = int(time.time()) + expires_s
        body = base64.urlsafe_b64encode(json.dumps([artifact.id, until]).encode()).rstrip(b"=")
        return f"{body.decode()}.{self._seal(body)}"

    def _seal(self, body: bytes) -> str:
        seal = hmac.new(self._secret, body, hashlib.sha256).digest()
        return base64.urlsafe_b64encode(seal).rstrip(b"=").decode()

    async def by_token(self, token: str) -> Artifact:
        """The artifact of a token that is genuine and still holds; raises NotFound."""
        body, _, seal = token.partition(".")
        if not hmac.compare_digest(seal.encode(), self._seal(body.encode()).encode()):
            raise NotFound("link", token[:12])
        artifact_id, until = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        if until < time.time():
            raise NotFound("link", token[:12])
        return await self.get(artifact_id)


def disposition(name: str, *, inline: bool) -> str:
    """A Content-Disposition that no file name can break."""
    plain = re.sub(r"[^\w. -]", "_", name, flags=re.ASCII)
    return f"{'inline' if inline else 'attachment'}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


@asynccontextmanager
async def _spooled() -> AsyncIterator[Spooled]:
    """A temporary file that is gone at the end."""
    spooled = await asyncio.to_thread(Spooled)
    try:
        yield spooled
    finally:
        await asyncio.to_thread(spooled.remove)


def _copy(folder: Path, name: str, target: Spooled) -> None:
    with plain_file(folder, name) as file:
        while chunk := file.read(1 << 20):
            target.write(chunk)


def _artifact(row: Any) -> Artifact:
    return Artifact(**{name: row[name] for name in Artifact.model_fields})
