"""How the world reaches Cellwright: the Jupyter Server extension."""

from __future__ import annotations

from typing import Any


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    from cellwright.extension.app import CellwrightApp

    return [{"module": "cellwright.extension", "app": CellwrightApp}]
