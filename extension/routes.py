"""The table: every route there is. It registers the handlers and generates the OpenAPI document."""

from __future__ import annotations

import re
from typing import Any

from cellwright.extension.endpoint import Endpoint, Route, Unknown
from cellwright.extension.handlers import (
    agent,
    artifacts,
    context,
    docs,
    kernel,
    messages,
    notebook,
    replay,
    rewind,
    search,
    service,
    sessions,
    shares,
    turns,
)
from cellwright.extension.socket import Socket

PREFIX = "cellwright/api/v1"

ROUTES: list[Route] = [
    *sessions.ROUTES,
    *turns.ROUTES,
    *messages.ROUTES,
    *kernel.ROUTES,
    *notebook.ROUTES,
    *rewind.ROUTES,
    *replay.ROUTES,
    *artifacts.ROUTES,
    *context.ROUTES,
    *shares.ROUTES,
    *search.ROUTES,
    *agent.ROUTES,
    *service.ROUTES,
    *docs.ROUTES,
]


def handlers(name: str) -> list[tuple[str, type[Any], dict[str, Any]]]:
    """Tornado's handlers for the table, one for each path."""
    paths: dict[str, dict[str, Route]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method] = route
    made: list[tuple[str, type[Any], dict[str, Any]]] = [
        (f"/{PREFIX}{pattern(path)}", Endpoint, {"name": name, "routes": methods}) for path, methods in paths.items()
    ]
    socket = (rf"/{PREFIX}/sessions/(?P<session>[^/]+)/ws", Socket, {"name": name})
    return [*made, socket, (rf"/{PREFIX}(?:/.*)?", Unknown, {"name": name})]


def pattern(path: str) -> str:
    """A path's regular expression: `{name}` is anything but a slash."""
    return re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path.replace(".", r"\."))
