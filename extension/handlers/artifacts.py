"""Uploads and artifacts."""

from __future__ import annotations

import base64
import contextlib
import json
import re
from typing import Annotated, Any, Literal

from cellwright.extension.endpoint import Call, Route, Streamed
from cellwright.extension.handlers.models import ArtifactList, Body, Page, Query, Time
from cellwright.extension.multipart import Upload
from cellwright.server.artifacts import disposition
from cellwright.server.domain import Artifact, ArtifactId, ArtifactKind
from cellwright.server.errors import Forbidden, Invalid, NotFound
from pydantic import AfterValidator, BaseModel, Field, model_validator
from tornado import iostream

LINK_S = 3_600
PREVIEW_BYTES = 4_000
SANDBOX = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp", "image/tiff")
TEXTS = ("application/json", "application/geo+json", "application/x-ipynb+json", "application/xml")
SAFE_INLINE = {"image/png", "image/jpeg", "image/gif", "image/webp", "text/plain", "text/csv", "application/json"}
"""Types that a browser may show by themselves; everything else comes as an attachment, in a sandbox."""


class Uploaded(BaseModel):
    artifact_id: str
    file_name: str
    file_type: str
    size_bytes: int
    presigned_url: str
    metadata: dict[str, Any]


def _few(tags: dict[str, str]) -> dict[str, str]:
    if len(tags) > 50 or any(len(name) > 100 or len(value) > 500 for name, value in tags.items()):
        raise ValueError("at most 50 tags, with names up to 100 and values up to 500 characters")
    return tags


class ArtifactPage(Page):
    kind: ArtifactKind | None = None
    file_type: str | None = None
    tag: str | None = Field(None, max_length=200, description="NAME, or NAME:VALUE")
    cell: str | None = None
    message: str | None = Field(None, pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")


Tags = Annotated[dict[str, str], AfterValidator(_few)]


class NewArtifact(Body):
    """Exactly one of text, json and data."""

    name: str = Field(min_length=1, max_length=200)
    text: str | None = Field(None, max_length=8_000_000)
    value: Any | None = Field(None, alias="json")
    data: str | None = Field(None, description="Base64")
    kind: ArtifactKind = "result"
    mime_type: str | None = Field(None, max_length=200, pattern=r"^[A-Za-z0-9.+_-]+/[A-Za-z0-9.+_-]+$")
    description: str = Field("", max_length=2_000)
    tags: Tags = {}
    parents: list[ArtifactId] = Field([], max_length=100)
    expires_at: Time | None = None

    @model_validator(mode="after")
    def _one(self) -> NewArtifact:
        if len({"text", "value", "data"} & self.model_fields_set) != 1:
            raise ValueError("give exactly one of text, json and data")
        return self

    def content(self) -> bytes:
        """The bytes to be stored; raises Invalid."""
        if self.text is not None:
            return self.text.encode("utf-8", "replace")
        if "value" in self.model_fields_set:
            return json.dumps(self.value, ensure_ascii=False, indent=1).encode("utf-8", "replace")
        try:
            return base64.b64decode(self.data or "", validate=True)
        except ValueError as error:
            raise Invalid("The data is not base64.") from error


class ArtifactChanges(Body):
    kind: ArtifactKind | None = None
    description: str | None = Field(None, max_length=2_000)
    tags: Tags | None = None
    expires_at: Time | None = Field(None, description="null: never")

    @model_validator(mode="after")
    def _something(self) -> ArtifactChanges:
        if not self.model_fields_set:
            raise ValueError("say what to change")
        return self


class ShareArtifact(Body):
    session_id: str = Field(min_length=1, max_length=120, description="Of a session in which you may write")


class AddParents(Body):
    parents: list[ArtifactId] = Field(min_length=1, max_length=100)


class PreviewQuery(Query):
    size: int = Field(256, ge=16, le=1_024, description="Of a thumbnail, in pixels")


class TablePreview(BaseModel):
    """First rows of a table, or the beginning of a text; images answer with a PNG instead."""

    kind: Literal["table", "text", "none"]
    columns: list[dict[str, Any]] | None = None
    rows: list[list[Any]] | None = None
    total_rows: int | None = None
    text: str | None = None


class LineageCell(BaseModel):
    id: str
    source: str
    purpose: str


class Lineage(BaseModel):
    """Where an artifact comes from, and what was made from it."""

    artifact: Artifact
    turn_id: str | None
    prompt: str | None = Field(description="The question that led to it")
    cell: LineageCell | None
    shared_from: str | None = Field(description="The artifact that it was shared from")
    parents: list[Artifact] = Field(description="Everything that it was made from, as far as you may see it")
    children: list[Artifact]


class LinkQuery(Query):
    expires_hours: float = Field(1, gt=0, le=24 * 7)


class Link(BaseModel):
    artifact_id: str
    url: str
    expires_in_seconds: int


def link(call: Call, artifact: Artifact, expires_s: int) -> str:
    request = call.handler.request
    token = call.app.artifacts.sign(artifact, expires_s)
    return f"{request.protocol}://{request.host}{call.handler.settings['base_url']}cellwright/api/v1/links/{token}"


async def upload(call: Call) -> Uploaded:
    session = await call.session()
    received: Upload = call.body
    part = await received.file()
    artifact = await call.app.sessions.upload(session, part.spooled, part.name)
    return Uploaded(
        artifact_id=artifact.id,
        file_name=artifact.name,
        file_type=artifact.file_type,
        size_bytes=artifact.size_bytes,
        presigned_url=link(call, artifact, LINK_S),
        metadata=artifact.metadata,
    )


async def list_artifacts(call: Call) -> ArtifactList:
    session, asked = await call.session(), call.query
    found, total = await call.app.artifacts.page(
        session.id,
        kind=asked.kind,
        file_type=asked.file_type,
        cell_id=asked.cell,
        message_id=asked.message,
        tags=None if asked.tag is None or ":" not in asked.tag else dict([asked.tag.split(":", 1)]),
        tag=asked.tag if asked.tag is not None and ":" not in asked.tag else None,
        limit=asked.limit,
        offset=asked.offset,
    )
    return ArtifactList(artifacts=found, total=total, limit=asked.limit, offset=asked.offset)


async def _artifact(call: Call) -> Artifact:
    artifact = await call.app.artifacts.get(call.path["artifact"])
    await call.may_within("artifact", artifact.id, artifact.session_id)
    return artifact


async def _parents(call: Call, artifact_ids: list[ArtifactId]) -> list[Artifact]:
    """Artifacts that the one who asks may see; raises NotFound."""
    found = []
    for artifact_id in artifact_ids:
        parent = await call.app.artifacts.get(artifact_id)
        await call.may_within("artifact", artifact_id, parent.session_id, "read")
        found.append(parent)
    return found


async def add(call: Call) -> Artifact:
    session, body = await call.session(), call.body
    parents = await _parents(call, body.parents)
    return await call.app.artifacts.add_bytes(
        session.id,
        body.content(),
        body.name,
        created_by="api",
        kind=body.kind,
        mime_type=body.mime_type or ("application/json" if "value" in body.model_fields_set else None),
        description=body.description,
        tags=body.tags,
        parents=[parent.id for parent in parents],
        expires_at=body.expires_at,
    )


async def get(call: Call) -> Artifact:
    return await _artifact(call)


async def change(call: Call) -> Artifact:
    changes = call.body.model_dump(mode="json", exclude_unset=True)
    for name in ("kind", "description", "tags"):
        if name in changes and changes[name] is None:
            raise Invalid(f"{name} cannot be null.")
    return await call.app.artifacts.change(await _artifact(call), changes, call.owner)


async def delete(call: Call) -> None:
    await call.app.artifacts.delete(await _artifact(call), call.owner)


async def share(call: Call) -> Artifact:
    artifact = await call.app.artifacts.get(call.path["artifact"])
    await call.may_within("artifact", artifact.id, artifact.session_id, "read")
    return await call.app.artifacts.share(artifact, (await call.may(call.body.session_id, "write")).id)


async def add_parents(call: Call) -> Artifact:
    artifact = await _artifact(call)
    return await call.app.artifacts.add_parents(artifact, await _parents(call, call.body.parents), call.owner)


async def lineage(call: Call) -> Lineage:
    artifact = await _artifact(call)
    turn = await call.app.rows.turn(artifact.turn_id) if artifact.turn_id is not None else None
    runs = await call.app.rows.runs(turn.id) if turn is not None else []
    ran = next((run for run in reversed(runs) if run["cell_id"] == artifact.cell_id), None)
    return Lineage(
        artifact=artifact,
        turn_id=turn.id if turn is not None else None,
        prompt=turn.query if turn is not None and turn.request.kind == "ask" else None,
        cell=LineageCell(id=ran["cell_id"], source=ran["source"], purpose=ran["purpose"]) if ran is not None else None,
        shared_from=artifact.derived_from,
        parents=await _visible(call, await call.app.artifacts.ancestors(artifact)),
        children=await _visible(call, await call.app.artifacts.children(artifact)),
    )


async def _visible(call: Call, artifacts: list[Artifact]) -> list[Artifact]:
    """Those in sessions that the one who asks may see."""
    found = []
    for artifact in artifacts:
        with contextlib.suppress(NotFound, Forbidden):
            await call.may(artifact.session_id, "read")
            found.append(artifact)
    return found


async def preview(call: Call) -> TablePreview | Streamed:
    artifact = await _artifact(call)
    if artifact.mime_type in PICTURES:
        data = await call.app.artifacts.thumbnail(artifact, call.query.size)
        if data is not None:
            call.handler.set_header("Content-Type", "image/png")
            call.handler.set_header("Content-Security-Policy", SANDBOX)
            call.handler.finish(data)
            return Streamed()
    about = artifact.metadata
    if about.get("columns"):
        return TablePreview(
            kind="table", columns=about["columns"], rows=about.get("preview", []), total_rows=about.get("rows")
        )
    if artifact.mime_type.startswith("text/") or artifact.mime_type in TEXTS:
        try:
            head = b"".join([chunk async for chunk in call.app.artifacts.read(artifact, 0, PREVIEW_BYTES)])
        except KeyError:
            raise NotFound("artifact", artifact.id) from None
        return TablePreview(kind="text", text=head.decode("utf-8", "replace"))
    return TablePreview(kind="none")


async def url(call: Call) -> Link:
    artifact = await _artifact(call)
    expires_s = int(call.query.expires_hours * 3_600)
    return Link(artifact_id=artifact.id, url=link(call, artifact, expires_s), expires_in_seconds=expires_s)


async def content(call: Call) -> Streamed:
    return await _send(call, await _artifact(call))


async def by_link(call: Call) -> Streamed:
    return await _send(call, await call.app.artifacts.by_token(call.path["token"]))


async def _send(call: Call, artifact: Artifact) -> Streamed:
    """The bytes, or the one range that is asked for."""
    handler = call.handler
    start, length = 0, artifact.size_bytes
    wanted = handler.request.headers.get("Range")
    handler.set_header("Accept-Ranges", "bytes")
    handler.set_header("ETag", f'"{artifact.sha256}"')
    handler.set_header("Content-Type", artifact.mime_type)
    inline = artifact.mime_type in SAFE_INLINE
    handler.set_header("Content-Disposition", disposition(artifact.name, inline=inline))
    handler.set_header("Content-Security-Policy", SANDBOX)
    if wanted is not None and (found := _range(wanted, artifact.size_bytes)) is not None:
        start, length = found
        if length <= 0:
            handler.set_status(416)
            handler.set_header("Content-Range", f"bytes */{artifact.size_bytes}")
            handler.finish()
            return Streamed()
        handler.set_status(206)
        handler.set_header("Content-Range", f"bytes {start}-{start + length - 1}/{artifact.size_bytes}")
    handler.set_header("Content-Length", str(length))
    try:
        if handler.request.method != "HEAD":
            async for chunk in call.app.artifacts.read(artifact, start, length):
                handler.write(chunk)
                await handler.flush()
        handler.finish()
    except KeyError:
        raise NotFound("artifact", artifact.id) from None
    except iostream.StreamClosedError:
        pass
    return Streamed()


def _range(header: str, size: int) -> tuple[int, int] | None:
    """Start and length of a single range; a length of 0 or less cannot be satisfied, None is not understood."""
    found = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", header.strip())
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        length = min(int(found[2]), size)
        return size - length, length
    start = int(found[1])
    end = min(int(found[2]), size - 1) if found[2] else size - 1
    return start, (end - start + 1 if start < size else 0)


ROUTES = [
    Route(
        "POST",
        "/sessions/{session}/upload",
        upload,
        "Upload a file: it opens by its name in the next cell",
        None,
        None,
        Uploaded,
        201,
        (404, 413),
        "write",
        receiver=Upload,
        takes="multipart/form-data",
    ),
    Route(
        "GET",
        "/sessions/{session}/artifacts",
        list_artifacts,
        "The session's artifacts, newest first",
        ArtifactPage,
        None,
        ArtifactList,
        errors=(404,),
    ),
    Route(
        "POST",
        "/sessions/{session}/artifacts",
        add,
        "Store a text, JSON or bytes as an artifact",
        None,
        NewArtifact,
        Artifact,
        201,
        (404,),
        "write",
        example={"name": "limits.json", "json": {"low": 3, "high": 9}, "kind": "data", "tags": {"stage": "raw"}},
    ),
    Route(
        "PATCH",
        "/artifacts/{artifact}",
        change,
        "Change kind, description, tags or expiry",
        None,
        ArtifactChanges,
        Artifact,
        200,
        (404,),
        "write",
        example={"description": "As delivered", "tags": {"stage": "done"}},
    ),
    Route(
        "GET",
        "/artifacts/{artifact}/preview",
        preview,
        "A thumbnail of an image, a table's first rows, or the beginning of a text",
        PreviewQuery,
        None,
        TablePreview,
        errors=(404,),
        media=("application/json", "image/png"),
    ),
    Route(
        "GET",
        "/artifacts/{artifact}/lineage",
        lineage,
        "The question and cell behind an artifact, what it was made from, and what from it",
        None,
        None,
        Lineage,
        errors=(404,),
    ),
    Route(
        "POST",
        "/artifacts/{artifact}/share",
        share,
        "Put an artifact into another session: the same object, which lives while either refers to it",
        None,
        ShareArtifact,
        Artifact,
        201,
        (404,),
        "write",
        needs="read",
        example={"session_id": "sales"},
    ),
    Route(
        "POST",
        "/artifacts/{artifact}/parents",
        add_parents,
        "Record what an artifact was made from",
        None,
        AddParents,
        Artifact,
        200,
        (404,),
        "write",
        example={"parents": ["5c7f0a39-8a52-4dd2-a5ee-ff3c62cf6f4b"]},
    ),
    Route("GET", "/artifacts/{artifact}", get, "An artifact's metadata", None, None, Artifact, errors=(404,)),
    Route("DELETE", "/artifacts/{artifact}", delete, "Delete an artifact", status=204, errors=(404,), action="write"),
    Route(
        "GET",
        "/artifacts/{artifact}/content",
        content,
        "The bytes; takes Range",
        errors=(404, 416),
        media=("*/*",),
    ),
    Route(
        "GET",
        "/artifacts/{artifact}/url",
        url,
        "A link that expires, for whoever holds it",
        LinkQuery,
        None,
        Link,
        errors=(404,),
        needs="write",
    ),
    Route(
        "GET",
        "/links/{token}",
        by_link,
        "The bytes behind a signed link",
        errors=(404, 416),
        media=("*/*",),
        public=True,
    ),
]
