"""The table: every route there is. It registers the handlers and generates the OpenAPI document."""

from __future__ import annotations

import re
from typing import Any

from cellwright.extension.endpoint import Endpoint, Route, Unknown
from cellwright.extension.handlers import artifacts, kernel, messages, notebook, service, sessions, turns

PREFIX = "cellwright/api/v1"

ROUTES: list[Route] = [
    *sessions.ROUTES,
    *turns.ROUTES,
    *messages.ROUTES,
    *kernel.ROUTES,
    *notebook.ROUTES,
    *artifacts.ROUTES,
    *service.ROUTES,
]


def handlers(name: str) -> list[tuple[str, type[Endpoint], dict[str, Any]]]:
    """Tornado's handlers for the table, one for each path."""
    paths: dict[str, dict[str, Route]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method] = route
    made: list[tuple[str, type[Endpoint], dict[str, Any]]] = [
        (f"/{PREFIX}{pattern(path)}", Endpoint, {"name": name, "routes": methods}) for path, methods in paths.items()
    ]
    return [*made, (rf"/{PREFIX}(?:/.*)?", Unknown, {"name": name})]


def pattern(path: str) -> str:
    """A path's regular expression: `{name}` is anything but a slash."""
    return re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path.replace(".", r"\."))
