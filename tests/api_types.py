"""The models of the OpenAPI document, which the front end's types are made of: `python -m tests.api_types FILE`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from cellwright.extension.openapi import document
from cellwright.extension.routes import ROUTES


def models() -> dict[str, Any]:
    """An OpenAPI document without routes."""
    whole = document(ROUTES, "/")
    return {**whole, "info": {"title": "Cellwright", "version": "1"}, "paths": {}, "tags": [], "servers": []}


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(models(), indent=1))
