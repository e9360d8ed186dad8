"""Versions of installed packages. Stands alone (standard library): its source is sent to the kernel."""

from __future__ import annotations

import importlib.metadata
import json
import platform


def of_modules(modules: list[str]) -> str:
    """JSON `{"python": version, "packages": {name: version}}` of the packages that provide these modules."""
    known = importlib.metadata.packages_distributions()
    found = {package for module in modules for package in known.get(module, ())}
    return _told(sorted(found))


def of_packages(packages: list[str]) -> str:
    """The same of packages by name; null for one that is not installed."""
    return _told(packages)


def _told(packages: list[str]) -> str:
    return json.dumps({"python": platform.python_version(), "packages": {name: _version(name) for name in packages}})


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
