"""Uploads: a multipart body whose first file goes to disk as it comes, never whole into memory."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from cellwright.extension.endpoint import Body, Endpoint
from cellwright.server.errors import Invalid
from cellwright.server.store.objects import Spooled
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

FLUSH_BYTES = 1 << 20


class Upload(Body):
    """A multipart body whose first file goes to disk as it comes."""

    def __init__(self, handler: Endpoint) -> None:
        super().__init__()
        self.limit_bytes = handler.app.settings.upload_limit_bytes
        kind, options = parse_options_header(handler.request.headers.get("Content-Type", ""))
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise Invalid("Send the file as multipart/form-data, in a part with a file name.")
        self.name: str | None = None
        self.mime: str | None = None
        self.spooled: Spooled | None = None
        self._taking = self._whole = False
        self._headers: dict[str, str] = {}
        self._field = self._value = b""
        self._waiting = bytearray()
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
        name = file_name(self._headers.get("content-disposition", ""))
        if name and self.spooled is None:
            self.name, self.mime = name, self._headers.get("content-type")
            self.spooled = Spooled()
            self._taking = True

    def _data(self, data: bytes) -> None:
        if self._taking:
            self._waiting += data

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
        if len(self._waiting) >= FLUSH_BYTES:
            await self._flush()

    async def _flush(self) -> None:
        if self.spooled is not None and self._waiting:
            data, self._waiting = bytes(self._waiting), bytearray()
            await asyncio.to_thread(self.spooled.write, data)

    async def finish(self) -> Spooled:
        """The file on disk; raises Invalid without one."""
        await self._flush()
        if self.spooled is None:
            raise Invalid("The body holds no file: send one in a part with a file name.")
        if not self._whole:
            self.discard()
            raise Invalid("The multipart body ends before its last boundary: part of the file is missing.")
        return self.spooled

    async def digest(self) -> bytes:
        return (await self.finish()).finish().encode()

    def discard(self) -> None:
        self._waiting.clear()
        if self.spooled is not None:
            self.spooled.remove()


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
