"""Named SQL: each `-- name: verb` block of a `.sql` file becomes a string."""

from __future__ import annotations

import re
from importlib.resources import files
from types import SimpleNamespace

NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def load(name: str) -> SimpleNamespace:
    """The statements of `sql/<name>.sql` as attributes."""
    text = (files("cellwright.server.store") / "sql" / f"{name}.sql").read_text("utf-8")
    _, *parts = NAME.split(text)
    return SimpleNamespace(**{parts[i]: parts[i + 1].strip() for i in range(0, len(parts), 2)})
