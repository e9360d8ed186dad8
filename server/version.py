"""The installed version of Cellwright."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def package_version() -> str:
    """As the package's metadata say it."""
    try:
        return version("cellwright")
    except PackageNotFoundError:
        return "0+unknown"
