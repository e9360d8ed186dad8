"""What code has said of names, and modules in the workspace: cells are judged by both."""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from cellwright.server.agent import dangers

MOST_MODULES = 200
"""Names of modules that are looked for in the workspace."""

MOST_OF_A_MODULE = 1_000_000
"""Bytes of a module; one that is larger is not looked into."""


@dataclass(frozen=True)
class Known:
    """What earlier cells have said of names: modules they mean, texts they hold, ways out they are, and what code of
    their own does.
    """

    names: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    held: dict[str, str] = field(default_factory=dict)
    does: dict[str, tuple[str, ...]] = field(default_factory=dict)
    holding: dict[str, tuple[str, ...]] = field(default_factory=dict)
    writing: dict[str, tuple[tuple[str, ...], frozenset[str]]] = field(default_factory=dict)
    unsure: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Module:
    """A module of the workspace: what is known of its names, and what it does when it is imported."""

    known: Known
    at_once: tuple[str, ...]


class Modules:
    """Modules that lie in the workspace, judged as if their code stood in a cell; by the names they are imported by."""

    def __init__(self, workspace: str, judge: Callable[[ast.Module, str], Module], files: Mapping[str, bytes]) -> None:
        """`judge` looks at code that lies in a package of that name; `files` count instead of those in the folder."""
        self._workspace, self._judge, self._files = workspace, judge, files
        self._folders = [workspace]
        self._found: dict[str, Module | None] = {}

    def look_in(self, folder: str) -> None:
        """Also finds modules in a folder that cells put on the search path."""
        full = os.path.normpath(os.path.join(self._workspace, folder))
        if full not in self._folders:
            self._folders.append(full)
            self._found = {name: module for name, module in self._found.items() if module is not None}

    def find(self, name: str) -> Module | None:
        if name not in self._found:
            self._found[name] = Module(Known(), ())  # For those that it imports and that import it.
            self._found[name] = self._read(name) if len(self._found) <= MOST_MODULES else None
        return self._found[name]

    def at_once(self, name: str) -> Iterator[str]:
        """What importing a module, and the packages it lies in, does."""
        parts = name.split(".")
        for length in range(1, len(parts) + 1):
            module = self.find(".".join(parts[:length]))
            if module is None:
                return
            yield from module.at_once

    def behind(self, name: str, hops: int = 5) -> tuple[Known, str] | None:
        """Where a dotted name leads to: what is known in that module, and the name that it has there."""
        module_name, name = self._parted(name)
        module = self.find(module_name) if module_name else None
        if module is None or not name:
            return None
        first, dot, rest = name.partition(".")
        meant = module.known.names.get(first)
        if meant is None or first in module.known.does or not hops:
            return module.known, first
        return self.behind(meant + dot + rest, hops - 1) or (module.known, first)

    def reasons(self, name: str) -> Iterator[str]:
        """What is done with what a dotted name stands for."""
        found = self.behind(name)
        if found is not None:
            known, name = found
            yield from known.does.get(name, ())
            yield from known.holding.get(name, ())
            yield from [known.held[name]] if name in known.held else []
            yield from dangers.of_module(known.names.get(name, name))

    def _parted(self, name: str) -> tuple[str, str]:
        """The longest beginning that is a module, and the rest."""
        parts, length = name.split("."), 0
        while length < len(parts) and self.find(".".join(parts[: length + 1])) is not None:
            length += 1
        return ".".join(parts[:length]), ".".join(parts[length:])

    def _read(self, name: str) -> Module | None:
        path = name.replace(".", os.sep)
        for folder in self._folders:
            for file, package in ((f"{path}.py", name.rpartition(".")[0]), (os.path.join(path, "__init__.py"), name)):
                tree = self._tree(os.path.join(folder, file))
                if tree is not None:
                    return self._judge(tree, package)
            if os.path.isdir(os.path.join(folder, path)):
                return Module(Known(), ())
        return None

    def _tree(self, path: str) -> ast.Module | None:
        full = os.path.realpath(path)
        if not full.startswith(self._workspace + os.sep):
            return None
        code = self._files.get(os.path.relpath(full, self._workspace))
        try:
            if code is None:
                with open(full, "rb") as file:
                    code = file.read(MOST_OF_A_MODULE)
            return ast.parse(code)
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
            return None
