"""What code has said of names, and modules in the workspace: cells are judged by both."""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cellwright.kernels.inside.files import plain_file
from cellwright.server.agent import dangers

MOST_READ = 500_000
"""Bytes of all modules that are looked into, which takes 3 s at the most; others count as libraries do."""

HOPS = 5
"""How often a name may be handed on from module to module."""


@dataclass(frozen=True)
class Known:
    """What code has said of names: what they mean, texts and paths they hold, ways out they are, and what code of
    their own does.
    """

    names: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    held: dict[str, str] = field(default_factory=dict)
    does: dict[str, tuple[str, ...]] = field(default_factory=dict)
    holding: dict[str, tuple[str, ...]] = field(default_factory=dict)
    writing: dict[str, tuple[tuple[str, ...], frozenset[str]]] = field(default_factory=dict)
    paths: dict[str, ast.AST] = field(default_factory=dict)
    unsure: frozenset[str] = frozenset()
    imported: frozenset[str] = frozenset()
    calls: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def defines(self, name: str) -> bool:
        return any(name in told for told in (self.does, self.holding, self.held, self.writing))


@dataclass(frozen=True)
class Module:
    """A module of the workspace: what is known of its names, and what it does when it is imported."""

    known: Known
    at_once: tuple[str, ...]
    package: bool = False
    """Whether others may lie in it."""


READING = Module(Known(), ())
"""Stands for a module that is being read, for those that it imports and that import it."""

FOLDER = Module(Known(), (), package=True)
UNREAD = Module(Known(), (dangers.UNKNOWN,))


class Modules:
    """Modules that lie in the workspace, judged as if their code stood in a cell; by the names they are imported by."""

    def __init__(
        self, workspace: str, judge: Callable[[ast.Module, str, str], Module], files: Mapping[str, bytes]
    ) -> None:
        """`judge` looks at code, with the package and file that it lies in; `files` count before what is there."""
        self._workspace, self._judge, self.files = Path(workspace), judge, files
        self.folders = ["."]
        self._found: dict[str, Module | None] = {}
        self._reading: list[str] = []
        self._in_circles = False
        self._left = MOST_READ

    def look_in(self, folder: str) -> None:
        """Also finds modules in a folder that cells put on the search path."""
        full = os.path.relpath(os.path.join(self._workspace, folder), self._workspace)
        if full not in self.folders and not full.startswith(".."):
            self.folders.append(full)
            self._found = {name: module for name, module in self._found.items() if module is not None}

    def find(self, name: str) -> Module | None:
        if name not in self._found:
            self._found[name] = READING
            self._reading.append(name)
            self._found[name] = self._read(name)
            first, *others = self._reading
            if first == name:
                self._reading = []
                if self._in_circles:  # Now that all of them are known.
                    self._in_circles = False
                    for other in (*others, name):
                        self._found[other] = self._read(other)
        elif self._found[name] is READING:
            self._in_circles = True
        return self._found[name]

    def at_once(self, name: str) -> Iterator[str]:
        """What importing a module, and the packages it lies in, does."""
        parts = name.split(".")
        for length in range(1, len(parts) + 1):
            module = self.find(".".join(parts[:length]))
            if module is None:
                return
            yield from module.at_once

    def meant(self, name: str) -> str:
        """What a dotted name stands for, which modules of the workspace may only hand on: `helper.os.remove`."""
        for _ in range(HOPS):
            module, rest = self._parted(name)
            first, dot, more = rest.partition(".")
            if module is None or module.known.defines(first) or first not in module.known.imported:
                break
            name = module.known.names.get(first, first) + dot + more
        return name

    def behind(self, name: str) -> tuple[Known, str] | None:
        """What is known in the module that a dotted name leads to, and the name that it has there."""
        module, rest = self._parted(self.meant(name))
        return None if module is None or not rest else (module.known, rest.partition(".")[0])

    def reasons(self, name: str) -> Iterator[str]:
        """What is done with what a dotted name stands for."""
        found = self.behind(name)
        if found is not None:
            known, name = found
            yield from known.does.get(name, ())
            yield from known.holding.get(name, ())
            yield from [known.held[name]] if name in known.held else []

    def _parted(self, name: str) -> tuple[Module | None, str]:
        """The module at the beginning of a dotted name, and the rest of that."""
        parts = name.split(".")
        module = self.find(parts[0])
        length = 1 if module is not None else 0
        while module is not None and module.package and length < len(parts):
            if module.known.defines(parts[length]):
                break
            within = self.find(".".join(parts[: length + 1]))
            if within is None:
                break
            module, length = within, length + 1
        return module, ".".join(parts[length:])

    def _read(self, name: str) -> Module | None:
        if not all(part.isidentifier() for part in name.split(".")):
            return None
        for folder in self.folders:
            place = os.path.normpath(os.path.join(folder, *name.split(".")))
            for file, package in ((f"{place}.py", name.rpartition(".")[0]), (f"{place}/__init__.py", name)):
                code = self._code(os.path.normpath(file))
                if code is not None:
                    return self._judged(code, package, file)
            if self._is_folder(place):
                return FOLDER
        return None

    def _judged(self, code: bytes, package: str, file: str) -> Module | None:
        self._left -= len(code)
        if self._left < 0:
            return None
        try:
            return self._judge(ast.parse(code), package, file)
        except SyntaxError:
            return None  # It cannot be imported either.
        except (ValueError, RecursionError, MemoryError):
            return UNREAD

    def _code(self, file: str) -> bytes | None:
        if file in self.files:
            return self.files[file]
        try:
            with plain_file(self._workspace, file) as opened:
                return opened.read(MOST_READ + 1)
        except (OSError, ValueError):
            return None

    def _is_folder(self, place: str) -> bool:
        held = any(name.startswith(f"{place}{os.sep}") for name in self.files)
        return held or os.path.isdir(self._workspace / place)
