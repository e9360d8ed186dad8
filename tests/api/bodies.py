"""How to send a request that validates, for each route."""

from __future__ import annotations

from typing import Any


def body_of(route: Any) -> dict[str, Any]:
    """A body or query for httpx: the route's own example."""
    if route.takes == "multipart/form-data":
        return {"files": {"file": ("a.csv", b"a\n1\n")}}
    if route.body is not None:
        return {"json": route.example}
    return {"params": {"q": "q"}} if route.path == "/search" else {}
