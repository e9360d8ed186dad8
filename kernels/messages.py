"""Jupyter messages in the notebook's words. Pure."""

from __future__ import annotations

from typing import Any

from cellwright.notebooks.outputs import TABLE_MIME, Change, Clear, Show, Update


def change(message: dict[str, Any]) -> Change | None:
    """What an iopub message does to a cell's outputs; None for one that does nothing."""
    content = message["content"]
    match message["header"]["msg_type"]:
        case "stream":
            return Show({"output_type": "stream", "name": content["name"], "text": content["text"]})
        case "display_data":
            output = {"output_type": "display_data", **_bundle(content)}
            return Show(output, display_id(content))
        case "execute_result":
            output = {
                "output_type": "execute_result",
                **_bundle(content),
                "execution_count": content.get("execution_count"),
            }
            return Show(output, display_id(content))
        case "error":
            output = {
                "output_type": "error",
                "ename": str(content.get("ename", "")),
                "evalue": str(content.get("evalue", "")),
                "traceback": [str(line) for line in content.get("traceback", ())],
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
    data, metadata = dict(content["data"]), dict(content.get("metadata") or {})
    if TABLE_MIME in data:
        metadata[TABLE_MIME] = data.pop(TABLE_MIME)
    return {"data": data, "metadata": metadata}


def display_id(content: dict[str, Any]) -> str | None:
    """The id under which later messages change this output, if it has one."""
    found = (content.get("transient") or {}).get("display_id")
    return None if found is None else str(found)
