"""The text of one string member of a JSON object that is still being written."""

from __future__ import annotations

import json
import re


def partial_string(arguments: str, name: str) -> str:
    """The value of member `name` so far; empty before it begins."""
    found = re.search(rf'"{re.escape(name)}"\s*:\s*"', arguments)
    if found is None:
        return ""
    text = arguments[found.end() :]
    end = re.match(r'(?:[^"\\]|\\.)*', text, re.DOTALL)
    value = end.group(0) if end is not None else ""
    # A \uD83D whose other half has not come yet would be a broken surrogate.
    value = re.sub(r"\\u[dD][89abAB][0-9a-fA-F]{2}$", "", re.sub(r"\\(u[0-9a-fA-F]{0,3})?$", "", value))
    try:
        return str(json.loads(f'"{value}"', strict=False))
    except ValueError:
        return ""
