"""The OpenAPI 3.1 document of the route table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from cellwright.extension.endpoint import Route
from cellwright.extension.problems import Problem
from cellwright.server.app import package_version
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

REF = "#/components/schemas/{model}"
TITLES = {
    400: "Not JSON",
    403: "Not allowed, or not logged in",
    404: "No such thing, or not yours",
    409: "The state of the thing does not allow this now",
    413: "Too large",
    416: "No such range",
    422: "Does not validate",
    502: "The model failed",
    503: "A store does not answer",
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
        "info": {"title": "Cellwright", "version": package_version()},
        "servers": [{"url": f"{base_url}cellwright/api/v1"}],
        "paths": paths,
        "components": {
            "schemas": schema.get("$defs", {}),
            "securitySchemes": {"token": {"type": "apiKey", "in": "header", "name": "Authorization"}},
        },
        "security": [{"token": []}],
    }


def _operation(route: Route, names: Any) -> dict[str, Any]:
    said: dict[str, Any] = {
        "operationId": f"{route.method.lower()}{re.sub(r'[^A-Za-z0-9]+', '_', route.path)}".rstrip("_"),
        "summary": route.summary,
        "parameters": _parameters(route),
        "responses": {str(route.status): _answer(route, names)},
    }
    if route.public:
        said["security"] = []
    if route.body is not None:
        said["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": names[(route.body, "validation")]}},
        }
    elif route.takes == "multipart/form-data":
        file = {"type": "object", "properties": {"file": {"type": "string", "format": "binary"}}, "required": ["file"]}
        said["requestBody"] = {"required": True, "content": {route.takes: {"schema": file}}}
    errors = {403, 503, *route.errors}
    if route.body is not None:
        errors |= {400, 413, 422}
    if route.query is not None or route.receiver is not None:
        errors.add(422)
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
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)\}", route.path)
    ]
    if route.query is not None:
        schema = route.query.model_json_schema()
        for name, member in schema.get("properties", {}).items():
            if "$ref" in str(member):
                member = {"type": "string"}
            found.append({"name": name, "in": "query", "required": False, "schema": member})
    return found
