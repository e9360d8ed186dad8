"""This API in Swagger UI, from the package: nothing is asked of any other host."""

from __future__ import annotations

import asyncio
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from cellwright.extension.endpoint import Call, Route, Streamed
from cellwright.server.errors import NotFound

FILES = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'self'; base-uri 'none'; form-action 'self'"
)
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Cellwright: the HTTP surface</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
START = """const cookie = name => (document.cookie.match(`(?:^|; )${name}=([^;]*)`) || [])[1];
SwaggerUIBundle({
  url: 'openapi.json', dom_id: '#swagger', deepLinking: true, docExpansion: 'list', tryItOutEnabled: true,
  defaultModelsExpandDepth: 1, validatorUrl: null,
  requestInterceptor: request => {
    const token = cookie('_xsrf');
    if (token) request.headers['X-XSRFToken'] = decodeURIComponent(token);
    return request;
  },
});
"""


@cache
def _folder() -> Path | None:
    found = find_spec("swagger_ui")
    return None if found is None or found.origin is None else Path(found.origin).parent / "static"


def _finish(call: Call, mime: str, data: str | bytes) -> Streamed:
    call.handler.set_header("Content-Type", f"{mime}; charset=utf-8")
    call.handler.set_header("Content-Security-Policy", POLICY)
    call.handler.finish(data)
    return Streamed()


async def page(call: Call) -> Streamed:
    return _finish(call, "text/html", PAGE)


async def file(call: Call) -> Streamed:
    name, folder = call.path["file"], _folder()
    if name == "start.js":
        return _finish(call, "text/javascript", START)
    if name not in FILES or folder is None:
        raise NotFound("file", name)
    call.handler.set_header("Cache-Control", "max-age=86400")
    return _finish(call, FILES[name], await asyncio.to_thread((folder / name).read_bytes))


ROUTES = [
    Route("GET", "/docs", page, "This API, to look at and try", media=("text/html",)),
    Route(
        "GET", "/docs/{file}", file, "What that page is made of", errors=(404,), media=("text/css", "text/javascript")
    ),
]
