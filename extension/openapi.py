"""The OpenAPI 3.1 document of the route table."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any

from cellwright.extension.endpoint import Route
from cellwright.extension.problems import Problem
from cellwright.server.version import package_version
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

REF = "#/components/schemas/{model}"
DESCRIPTION = """
Errors are `application/problem+json`. What belongs to someone else answers as what does not exist.

Streams are server-sent events: those with an `id` are durable, numbered without a gap, and resume after any
`Last-Event-ID`; the others are live text, which a durable event repeats whole.

`/sessions/{session}/ws?after=N` is the same as a WebSocket: out come `{"event", "id", "data"}`, in go
`{"type": "query", "id", "query", …}`, `{"type": "stop", "turn_id"}` and
`{"type": "approve", "turn_id", "call_id", "decision", "source"?}`, each answered by `accepted` or `problem`. A tab that
has the session's notebook open says `{"type": "document.claim", "path", "tab_id", "revision"}` and is told
`document.joined {writer}`: it applies the events after its revision to its own copy, and the writer saves.
"""
TITLES = {
    400: "Not JSON",
    403: "Not allowed, or not logged in",
    404: "No such thing, or not yours",
    409: "The state of the thing does not allow this now",
    413: "Too large",
    416: "No such range",
    422: "Does not validate",
    429: "Too many requests; Retry-After says when again",
    502: "The model failed",
    503: "A store does not answer",
    507: "The disk is full",
}
ABOUT = {
    "session": "A session's id, or the key that you gave it",
    "turn": "A turn's id",
    "message": "A message's id",
    "artifact": "An artifact's id",
    "share": "A share's id",
    "call": "The id of the call that waits",
    "action": "interrupt, restart, hibernate, wake or recover",
    "revision": "The number of an event of the session",
    "checkpoint": "A checkpoint's id",
    "name": "A variable's name",
    "token": "What a signed link holds",
    "file": "A file's name",
    "sha256": "What the reference calls `cellwright/object`",
}


def document(routes: Sequence[Route], base_url: str) -> dict[str, Any]:
    """All routes, their models and errors."""
    wanted: list[tuple[type[BaseModel], Any]] = [(Problem, "serialization")]
    for route in routes:
        if route.body is not None:
            wanted.append((route.body, "validation"))
        if route.answer is not None:
            wanted.append((route.answer, "serialization"))
    names, schema = models_json_schema(list(dict.fromkeys(wanted)), ref_template=REF)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, names)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Cellwright", "version": package_version(), "description": DESCRIPTION},
        "tags": [{"name": name, "description": about} for name, about in dict(_group(r) for r in routes).items()],
        "servers": [{"url": f"{base_url}cellwright/api/v1"}],
        "paths": paths,
        "components": {
            "schemas": schema.get("$defs", {}),
            "securitySchemes": {"token": {"type": "apiKey", "in": "header", "name": "Authorization"}},
        },
        "security": [{"token": []}],
    }


def _group(route: Route) -> tuple[str, str]:
    """The resource that a route belongs to: its handler's module, and what that says of itself."""
    module = sys.modules[route.call.__module__]
    return route.call.__module__.rpartition(".")[2], (module.__doc__ or "").strip().splitlines()[0]


def _operation(route: Route, names: Any) -> dict[str, Any]:
    said: dict[str, Any] = {
        "operationId": f"{route.method.lower()}{re.sub(r'[^A-Za-z0-9]+', '_', route.path)}".rstrip("_"),
        "summary": route.summary,
        "tags": [_group(route)[0]],
        "parameters": _parameters(route),
        "responses": {str(route.status): _answer(route, names)},
    }
    if route.public:
        said["security"] = []
    if route.body is not None:
        said["requestBody"] = {
            "required": True,
            "content": {
                "application/json": {"schema": names[(route.body, "validation")], "example": route.example or {}}
            },
        }
    elif route.receiver is not None:
        said["requestBody"] = {"required": True, "content": {route.takes: {"schema": route.receiver.form}}}
    errors = {400, 403, 503, *route.errors}
    if route.public:
        errors -= {403}
    if route.body is not None or route.receiver is not None:
        errors |= {413, 422}
    if route.query is not None or route.example is not None:
        errors.add(422)
    if route.method != "GET":
        errors |= {409, 422, 429}
    if route.action == "execute":
        errors |= {507}
    problem = {"application/problem+json": {"schema": names[(Problem, "serialization")]}}
    for status in sorted(errors):
        said["responses"].setdefault(str(status), {"description": TITLES[status], "content": problem})
    return said


def _answer(route: Route, names: Any) -> dict[str, Any]:
    if route.status == 204:
        return {"description": "Done"}
    content: dict[str, Any] = {}
    for media in route.media:
        known = route.answer is not None and media == "application/json"
        content[media] = {"schema": names[(route.answer, "serialization")] if known else {}}
    return {"description": route.summary, "content": content}


def _parameters(route: Route) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name in re.findall(r"\{(\w+)\}", route.path):
        told = {"schema": {"type": "string"}, "description": ABOUT.get(name, "")}
        found.append({"name": name, "in": "path", "required": True, **told})
    if route.query is not None:
        schema = route.query.model_json_schema(ref_template=REF)
        for name, member in schema.get("properties", {}).items():
            for _ in schema.get("$defs", {}):
                member = _resolved(member, schema["$defs"])
            required = name in schema.get("required", ())
            told = {"schema": member, "description": member.get("description", "")}
            found.append({"name": name, "in": "query", "required": required, **told})
    if route.method != "GET" and not route.public:
        found.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "schema": {"type": "string", "maxLength": 255, "pattern": "^[ -~]+$"},
                "description": "A repeat within a day answers as the first did, and does nothing twice",
            }
        )
    if "text/event-stream" in route.media and route.method == "GET" and "{session}/events" in route.path:
        found.append(
            {
                "name": "Last-Event-ID",
                "in": "header",
                "required": False,
                "schema": {"type": "string", "pattern": "^[0-9]{1,18}$"},
                "description": "The number of the last event that you have",
            }
        )
    return found


def _resolved(member: Any, definitions: dict[str, Any]) -> Any:
    """A schema with its references written out: parameters stand alone."""
    match member:
        case {"$ref": str(ref), **rest}:
            return {**definitions[ref.rpartition("/")[2]], **rest}
        case dict():
            return {name: _resolved(part, definitions) for name, part in member.items()}
        case list():
            return [_resolved(part, definitions) for part in member]
    return member
