"""Uploads: multipart bodies whose files go to disk as they come, never whole into memory."""

from __future__ import annotations

import asyncio
import hashlib
import re
from dataclasses import dataclass
from typing import Any

from cellwright.extension.endpoint import Body, Endpoint
from cellwright.server.errors import Invalid
from cellwright.server.store.objects import Spooled
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

FLUSH_BYTES = 1 << 20


@dataclass
class Part:
    """One file of a body: the field it came in, its name and type as the client says, and its bytes."""

    field: str
    name: str
    mime: str | None
    spooled: Spooled


class Uploads(Body):
    """A multipart body whose files go to disk as they come."""

    most = 200
    """Files that are taken; what is beyond is an error, or let pass where only one is."""

    form: dict[str, Any] = {
        "type": "object",
        "properties": {
            "notebook": {"type": "string", "format": "binary", "description": "The .ipynb"},
            "file": {"type": "array", "items": {"type": "string", "format": "binary"}},
        },
        "required": ["notebook"],
    }
    """The parts as JSON schema: what the surface's description says."""

    def __init__(self, handler: Endpoint) -> None:
        super().__init__(handler)
        self.limit_bytes = handler.app.settings.upload_limit_bytes
        kind, options = parse_options_header(handler.request.headers.get("Content-Type", ""))
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise Invalid("Send the file as multipart/form-data, in a part with a file name.")
        self.parts: list[Part] = []
        self._taking = self._whole = False
        self._headers: dict[str, str] = {}
        self._field = self._value = b""
        self._waiting: list[tuple[Spooled, bytes]] = []
        self._waiting_bytes = 0
        callbacks: dict[str, Any] = {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._add_field(data[start:end]),
            "on_header_value": lambda data, start, end: self._add_value(data[start:end]),
            "on_header_end": self._header,
            "on_headers_finished": self._start,
            "on_part_data": lambda data, start, end: self._data(data[start:end]),
            "on_part_end": self._end_part,
            "on_end": self._end,
        }
        try:
            self._parser = MultipartParser(boundary, callbacks)  # type: ignore[arg-type]
        except FormParserError as error:
            raise Invalid(f"The multipart boundary is not one: {error}") from error

    def _begin(self) -> None:
        self._headers = {}
        self._taking = False

    def _add_field(self, data: bytes) -> None:
        self._field += data

    def _add_value(self, data: bytes) -> None:
        self._value += data

    def _header(self) -> None:
        self._headers[self._field.decode("latin-1").lower()] = self._value.decode("utf-8", "replace")
        self._field = self._value = b""

    def _start(self) -> None:
        about = self._headers.get("content-disposition", "")
        name = file_name(about)
        if name and len(self.parts) < self.most:
            field = re.search(r'\bname="([^"]*)"', about)
            self.parts.append(Part(field[1] if field else "", name, self._headers.get("content-type"), Spooled()))
            self._taking = True
        elif name and self.most > 1:
            raise Invalid(f"More than {self.most:,} files came at once.")

    def _data(self, data: bytes) -> None:
        if self._taking:
            self._waiting.append((self.parts[-1].spooled, data))
            self._waiting_bytes += len(data)

    def _end_part(self) -> None:
        self._taking = False

    def _end(self) -> None:
        self._whole = True

    async def receive(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            self.discard()
            raise Invalid(f"The multipart body is broken: {error}") from error
        if self._waiting_bytes >= FLUSH_BYTES:
            await self._flush()

    async def _flush(self) -> None:
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if waiting:
            await asyncio.to_thread(_write, waiting)

    async def finish(self) -> list[Part]:
        """The files on disk; raises Invalid without one."""
        await self._flush()
        if not self.parts:
            raise Invalid("The body holds no file: send one in a part with a file name.")
        if not self._whole:
            self.discard()
            raise Invalid("The multipart body ends before its last boundary: part of the file is missing.")
        return self.parts

    async def digest(self) -> bytes:
        named = [(part.field, part.name, part.spooled.finish()) for part in await self.finish()]
        return hashlib.sha256(repr(named).encode()).digest()

    def discard(self) -> None:
        self._waiting.clear()
        for part in self.parts:
            part.spooled.remove()


class Upload(Uploads):
    """The first file of a multipart body; others are let pass."""

    most = 1
    form = {
        "type": "object",
        "properties": {"file": {"type": "string", "format": "binary"}},
        "required": ["file"],
    }

    async def file(self) -> Part:
        """The file on disk; raises Invalid without one."""
        return (await self.finish())[0]


def _write(waiting: list[tuple[Spooled, bytes]]) -> None:
    for spooled, data in waiting:
        spooled.write(data)


def file_name(header: str) -> str | None:
    """The file name of a part, also where a client wrote it in UTF-8 or with quotes in it."""
    extended = re.search(r"filename\*=UTF-8''([^;]+)", header, re.IGNORECASE)
    if extended is not None:
        from urllib.parse import unquote

        return unquote(extended[1])
    found = re.search(r'filename="((?:[^"\\]|\\.)*)"|filename=([^;\s]+)', header)
    if found is None:
        return None
    return re.sub(r"\\(.)", r"\1", found[1]) if found[1] is not None else found[2]
