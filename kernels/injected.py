"""Code of ours that runs in a kernel by `user_expressions`, whether or not Cellwright is installed where it runs."""

from __future__ import annotations

from functools import cache
from pathlib import Path

INSIDE = Path(__file__).parent / "inside"


@cache
def source(module: str) -> str:
    """The source of a module of `inside/` that stands alone."""
    return (INSIDE / f"{module}.py").read_text()


NEEDS = {"checkpoint": ("pickling", "surroundings")}
"""The modules that a module uses by their names."""


def call(module: str, expression: str) -> str:
    """An expression for the kernel: the value of `expression` with the module's names, from our own version of it."""
    return f"{_made(module)}.{expression}"


def _made(module: str) -> str:
    """An expression for the module, with those that it needs in it."""
    needs = ", ".join(f"{name}={_made(name)}" for name in NEEDS.get(module, ()))
    filled = f"[module.__dict__.update({needs}), exec({source(module)!r}, module.__dict__), module][2]"
    return f"(lambda module: {filled})(__import__('types').ModuleType('cellwright_{module}'))"


MODULES = ("checkpoint", "contrast", "inspect", "packages", "pickling", "surroundings")
for _module in MODULES:  # Read once, when the server starts, and not in its event loop.
    source(_module)
