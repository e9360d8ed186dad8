"""Jupyter messages in the notebook's words. Pure."""

from __future__ import annotations

from typing import Any

from cellwright.notebooks.outputs import Change, Clear, Show, Update


def change(message: dict[str, Any]) -> Change | None:
    """What an iopub message does to a cell's outputs; None for one that does nothing."""
    content = message["content"]
    match message["header"]["msg_type"]:
        case "stream":
            return Show({"output_type": "stream", "name": content["name"], "text": content["text"]})
        case "display_data":
            output = {"output_type": "display_data", "data": content["data"], "metadata": content.get("metadata", {})}
            return Show(output, display_id(content))
        case "execute_result":
            output = {
                "output_type": "execute_result",
                "data": content["data"],
                "metadata": content.get("metadata", {}),
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


def display_id(content: dict[str, Any]) -> str | None:
    found = (content.get("transient") or {}).get("display_id")
    return None if found is None else str(found)
