"""Jupyter messages in the notebook's words. Pure."""

from __future__ import annotations

import json
from typing import Any

from cellwright.notebooks.outputs import TABLE_MIME, Change, Clear, Show, Update

MAX_ERROR_CHARACTERS = 50_000
MAX_FRAMES = 200
MAX_DEPTH = 100


def change(message: dict[str, Any]) -> Change | None:
    """What an iopub message does to a cell's outputs; None for one that does nothing, or is not as it should be."""
    try:
        return _change(message)
    except (KeyError, TypeError, ValueError, AttributeError):  # Any cell may send what it likes.
        return None


def _change(message: dict[str, Any]) -> Change | None:
    content = message["content"]
    match message["header"]["msg_type"]:
        case "stream":
            return Show({"output_type": "stream", "name": str(content["name"]), "text": str(content["text"])})
        case "display_data":
            output = {"output_type": "display_data", **_bundle(content)}
            return Show(output, display_id(content))
        case "execute_result":
            output = {
                "output_type": "execute_result",
                **_bundle(content),
                "execution_count": count(content),
            }
            return Show(output, display_id(content))
        case "error":
            output = {
                "output_type": "error",
                "ename": _cut(content.get("ename", "")),
                "evalue": _cut(content.get("evalue", "")),
                "traceback": [_cut(line) for line in list(content.get("traceback") or ())[:MAX_FRAMES]],
            }
            return Show(output)
        case "update_display_data":
            found = display_id(content)
            return None if found is None else Update(found, content["data"], content.get("metadata", {}))
        case "clear_output":
            return Clear(bool(content.get("wait", False)))
        case _:
            return None


def _bundle(content: dict[str, Any]) -> dict[str, Any]:
    """Data and metadata, with what only we read of a table moved to the metadata, where notebooks keep it quietly."""
    given = content["data"] if isinstance(content["data"], dict) else {}
    data = {str(mime): _value(str(mime), value) for mime, value in given.items()}
    metadata = _bounded(dict(content.get("metadata") or {})) or {}
    if TABLE_MIME in data:
        metadata[TABLE_MIME] = data.pop(TABLE_MIME)
    return {"data": data, "metadata": metadata}


def _value(mime: str, value: Any) -> Any:
    """A MIME value of the kind that nbformat wants: text for text, whatever a program put there."""
    if isinstance(value, str):
        return value
    if mime.endswith("json"):
        return _bounded(value)
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return "".join(value)
    return json.dumps(value, default=str)


def _bounded(value: Any) -> Any:
    """JSON of a depth that every store and reader can take; deeper than that it is told as text."""
    level, depth = [value], 0
    while level and depth <= MAX_DEPTH:
        below: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                below.extend(one.values())
            elif isinstance(one, list):
                below.extend(one)
        level, depth = below, depth + 1
    return value if not level else f"(JSON of more than {MAX_DEPTH} levels)"


def count(content: dict[str, Any]) -> int | None:
    """The execution count of a message, where it is one."""
    found = content.get("execution_count")
    return found if type(found) is int and 0 <= found < 2**31 else None


def _cut(text: Any) -> str:
    said = str(text)
    return said if len(said) <= MAX_ERROR_CHARACTERS else said[:MAX_ERROR_CHARACTERS] + " […]"


def display_id(content: dict[str, Any]) -> str | None:
    """The id under which later messages change this output, if it has one."""
    found = (content.get("transient") or {}).get("display_id")
    return None if found is None else str(found)
