"""The text of one string member of a JSON object that is still being written."""

from __future__ import annotations

import json
import re

TOKEN = re.compile(r'[^"\\]|\\u[0-9a-fA-F]{4}|\\[^u]', re.DOTALL)
HIGH_SURROGATE = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}")


def partial_string(arguments: str, name: str) -> str:
    """The value of member `name` so far; empty before it begins."""
    found = re.search(rf'"{re.escape(name)}"\s*:\s*"', arguments)
    if found is None:
        return ""
    place, end = found.end(), found.end()
    last = ""
    while (token := TOKEN.match(arguments, place)) is not None:
        place = token.end()
        # The first half of a pair of surrogates says nothing before the second has come.
        if HIGH_SURROGATE.fullmatch(token[0]) is None or HIGH_SURROGATE.fullmatch(last) is not None:
            end = place
        last = token[0]
    try:
        return str(json.loads(f'"{arguments[found.end() : end]}"', strict=False))
    except ValueError:
        return ""
