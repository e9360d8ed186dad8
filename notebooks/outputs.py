"""What a cell shows: how outputs accumulate, and how large ones are stored once by their content."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cellwright.notebooks.document import Output

OBJECT = "cellwright/object"
"""Key of a stored value: `{"cellwright/object": sha256, "size_bytes": n, "encoding": "base64"|"json"|"text"}`."""

REFERENCE_ABOVE_BYTES = 64 * 1024

TABLE_MIME = "application/vnd.cellwright.table+json"
"""Columns, types and first rows of a shown table: sent by our kernel beside the HTML, kept in the output's metadata."""

TEXT_MIMES = ("text/", "image/svg+xml", "application/javascript")


@dataclass(frozen=True)
class Show:
    """One more output, as nbformat has it; `display_id` lets later messages change it."""

    output: Output
    display_id: str | None = None


@dataclass(frozen=True)
class Update:
    """Other data for every output that was shown under `display_id`."""

    display_id: str
    data: Mapping[str, Any]
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Clear:
    """All outputs so far go: at once, or when the next one comes (`wait`)."""

    wait: bool = False


Change = Show | Update | Clear


class Console:
    """Terminal text as JupyterLab shows it: carriage returns and backspaces write over the current line."""

    def __init__(self) -> None:
        self._done: list[str] = []
        self._line = ""
        self._cursor = 0

    def write(self, text: str) -> None:
        if "\r" not in text and "\b" not in text and self._cursor == len(self._line):
            head, newline, tail = text.rpartition("\n")
            if newline:
                self._done.append(self._line + head + newline)
                self._line = ""
            self._line += tail
            self._cursor = len(self._line)
            return
        for i, line in enumerate(text.replace("\r\n", "\n").split("\n")):
            if i:
                self._done.append(self._line + "\n")
                self._line, self._cursor = "", 0
            self._write_line(line)

    def _write_line(self, text: str) -> None:
        run = ""
        for char in text:
            if char in "\r\b":
                self._put(run)
                run = ""
                self._cursor = 0 if char == "\r" else max(0, self._cursor - 1)
            else:
                run += char
        self._put(run)

    def _put(self, run: str) -> None:
        end = self._cursor + len(run)
        self._line = self._line[: self._cursor] + run + self._line[end:]
        self._cursor = end

    @property
    def text(self) -> str:
        return "".join(self._done) + self._line


class OutputArea:
    """Folds changes into the outputs that a notebook would hold."""

    def __init__(self) -> None:
        self._outputs: list[Output] = []
        self._consoles: dict[int, Console] = {}
        self._displays: dict[str, list[int]] = {}
        self._clear_pending = False

    def apply(self, change: Change) -> None:
        match change:
            case Clear(wait=True):
                self._clear_pending = True
            case Clear():
                self._clear()
            case Update(display_id, data, metadata):
                for place in self._displays.get(display_id, ()):
                    self._outputs[place] |= {"data": dict(data), "metadata": dict(metadata)}
            case Show(output, display_id):
                if self._clear_pending:
                    self._clear()
                self._show(output, display_id)

    def _clear(self) -> None:
        self._outputs.clear()
        self._consoles.clear()
        self._displays.clear()
        self._clear_pending = False

    def _show(self, output: Output, display_id: str | None) -> None:
        last = self._outputs[-1] if self._outputs else None
        if output["output_type"] == "stream":
            same = last is not None and last["output_type"] == "stream" and last["name"] == output["name"]
            if not same:
                self._outputs.append({"output_type": "stream", "name": output["name"], "text": ""})
                self._consoles[len(self._outputs) - 1] = Console()
            self._consoles[len(self._outputs) - 1].write(as_text(output["text"]))
            return
        self._outputs.append(dict(output))
        if display_id is not None:
            self._displays.setdefault(display_id, []).append(len(self._outputs) - 1)

    @property
    def outputs(self) -> list[Output]:
        """The outputs so far, complete by themselves."""
        shown = []
        for place, output in enumerate(self._outputs):
            if place in self._consoles:
                shown.append({**output, "text": self._consoles[place].text})
            else:
                shown.append(dict(output))
        return shown


def as_text(value: str | Sequence[str]) -> str:
    """nbformat's multi-line string as one string."""
    return value if isinstance(value, str) else "".join(value)


def is_text_mime(mime: str) -> bool:
    """Whether values of this type are text; others are base64."""
    return mime.startswith(TEXT_MIMES) or mime == "application/json" or mime.endswith("+json")


def raw_bytes(mime: str, value: Any) -> bytes:
    """The bytes that a MIME bundle's value stands for."""
    if isinstance(value, (str, list)) and not (mime.endswith("json") and not isinstance(value, str)):
        text = as_text(value)
        return text.encode("utf-8", "surrogatepass") if _encoding(mime, value) == "text" else base64.b64decode(text)
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _encoding(mime: str, value: Any) -> str:
    if not isinstance(value, (str, list)) or (mime.endswith("json") and isinstance(value, list)):
        return "json"
    if is_text_mime(mime):
        return "text"
    text = as_text(value)
    try:  # A type that we do not know may be text or bytes: only what is base64 to the letter comes back as it was.
        same = base64.b64encode(base64.b64decode("".join(text.split()), validate=True)).decode() == "".join(
            text.split()
        )
    except ValueError:
        same = False
    return "base64" if same else "text"


def reference(encoding: str, data: bytes) -> dict[str, Any]:
    """What stands in the place of `data`."""
    return {OBJECT: hashlib.sha256(data).hexdigest(), "size_bytes": len(data), "encoding": encoding}


def is_reference(value: Any) -> bool:
    """Whether a value stands elsewhere."""
    return isinstance(value, dict) and OBJECT in value


def externalise(
    outputs: Iterable[Output], above_bytes: int = REFERENCE_ABOVE_BYTES
) -> tuple[list[Output], dict[str, bytes]]:
    """Outputs with every value over `above_bytes` replaced by a reference, and those values by sha256."""
    objects: dict[str, bytes] = {}

    def put(encoding: str, data: bytes) -> dict[str, Any]:
        ref = reference(encoding, data)
        objects[ref[OBJECT]] = data
        return ref

    slim: list[Output] = []
    for output in outputs:
        if output["output_type"] == "stream":
            data = as_text(output["text"]).encode("utf-8", "surrogatepass")
            slim.append({**output, "text": put("text", data)} if len(data) > above_bytes else output)
        elif "data" in output:
            bundle = {}
            for mime, value in output["data"].items():
                if is_reference(value) or len(value if isinstance(value, str) else json.dumps(value)) <= above_bytes:
                    bundle[mime] = value
                else:
                    bundle[mime] = put(_encoding(mime, value), raw_bytes(mime, value))
            slim.append({**output, "data": bundle})
        else:
            slim.append(output)
    return slim, objects


def sound(outputs: Iterable[Output]) -> list[Output]:
    """Outputs as a program gave them, without what only we may say: a reference that it made up is plain JSON text."""
    return [
        {**output, "data": {m: json.dumps(v) if is_reference(v) else v for m, v in output["data"].items()}}
        if "data" in output
        else output
        for output in outputs
    ]


def references(outputs: Iterable[Output]) -> list[str]:
    """The sha256 of every value that stands elsewhere."""
    found = []
    for output in outputs:
        values = [output.get("text"), *output.get("data", {}).values()]
        found += [value[OBJECT] for value in values if is_reference(value)]
    return found


def inline(outputs: Iterable[Output], fetch: Callable[[str], bytes]) -> list[Output]:
    """Outputs with every reference replaced by what it names; the inverse of `externalise`."""

    def value_of(value: Any) -> Any:
        if not is_reference(value):
            return value
        data = fetch(value[OBJECT])
        match value["encoding"]:
            case "base64":
                return base64.b64encode(data).decode("ascii")
            case "json":
                return json.loads(data)
            case _:
                return data.decode("utf-8", "surrogatepass")

    whole: list[Output] = []
    for output in outputs:
        filled = dict(output)
        if "text" in filled:
            filled["text"] = value_of(filled["text"])
        if "data" in filled:
            filled["data"] = {mime: value_of(value) for mime, value in filled["data"].items()}
        whole.append(filled)
    return whole
