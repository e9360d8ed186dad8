"""The command line: an HTTP client of the Jupyter server that it finds, or starts in the background."""

from __future__ import annotations

from cellwright.server.cli.main import main

__all__ = ["main"]
