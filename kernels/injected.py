"""Code of ours that runs in a kernel by `user_expressions`, whether or not Cellwright is installed where it runs."""

from __future__ import annotations

from functools import cache
from pathlib import Path

INSIDE = Path(__file__).parent / "inside"


@cache
def source(module: str) -> str:
    """The source of a module of `inside/` that stands alone."""
    return (INSIDE / f"{module}.py").read_text()


def call(module: str, expression: str) -> str:
    """An expression for the kernel: the value of `expression` with the module's names, from our own version of it."""
    made = f"__import__('types').ModuleType('cellwright_{module}')"
    return f"(lambda module: (exec({source(module)!r}, module.__dict__), module.{expression})[1])({made})"


MODULES = ("checkpoint", "contrast", "inspect", "packages")
for _module in MODULES:  # Read once, when the server starts, and not in its event loop.
    source(_module)
