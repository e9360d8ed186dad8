"""What cells read, change and draw from by way of code that earlier cells defined: functions, classes, generators."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from cellwright.notebooks.dependencies import Names, names, root, statements

GENERATORS_OF_CHANCE = ("default_rng", "RandomState", "Random")
DEFERRED = (ast.Lambda, ast.GeneratorExp)
Code = tuple[ast.stmt, ...]


@dataclass(frozen=True)
class Reached:
    """A cell's names, those of the code that it runs among them; and that code, by the name that leads to it."""

    names: Names
    code: Mapping[str, Code] = field(default_factory=dict)


class Reach:
    """Goes along a notebook's cells in the order in which they ran."""

    def __init__(self) -> None:
        self._code: dict[str, tuple[ast.stmt, Names]] = {}
        """Statements that define something which runs later, by its name."""
        self._classes: set[str] = set()
        self._own: dict[str, str] = {}
        """Objects that any call of a method may change, with their classes: of the notebook's own, and of chance."""

    def of(self, source: str) -> Reached:
        """What a cell comes to; later cells are looked at with what it defines."""
        looked = names(source)
        found: dict[str, Code] = {}
        for statement, held in statements(source):
            changed = self._called_on(statement)
            looked = replace(looked, changes=looked.changes | (changed - looked.makes), reads=looked.reads | changed)
            for name in sorted(_mentioned(statement)):
                reached = self._reached(self._own[name] if name in changed else name)
                for defined, given in reached.values():
                    touched = given.changes | (given.makes - set(_defined(defined)))
                    looked = replace(
                        looked,
                        reads=looked.reads | (given.reads - looked.makes),
                        changes=looked.changes | (touched - looked.makes),
                    )
                if reached:
                    found[name] = tuple(defined for defined, _ in reached.values())
            self._learn(statement, held)
        return Reached(looked, found)

    def _reached(self, mentioned: str) -> dict[str, tuple[ast.stmt, Names]]:
        """The definition of a name, and of those that it mentions."""
        found: dict[str, tuple[ast.stmt, Names]] = {}
        pending = [mentioned]
        while pending:
            name = pending.pop()
            if name in self._code and name not in found:
                found[name] = self._code[name]
                pending += sorted(self._code[name][1].reads)
        return found

    def _called_on(self, statement: ast.stmt) -> set[str]:
        calls = (node.func for node in ast.walk(statement) if isinstance(node, ast.Call))
        roots = (root(called) for called in calls if isinstance(called, ast.Attribute))
        return {name for name in roots if name in self._own}

    def _learn(self, statement: ast.stmt, held: Names) -> None:
        for name in held.makes:
            self._code.pop(name, None)
            self._classes.discard(name)
            self._own.pop(name, None)
        for inner in _inner(statement):
            given = held if inner is statement else names(ast.unparse(inner))
            self._code |= dict.fromkeys(_defined(inner), (inner, given))
            match inner:
                case ast.ClassDef(name=name):
                    self._classes.add(name)
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Name(id=other)) if other in self._code:
                    self._code[name] = self._code[other]
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=called, args=args)):
                    made = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
                    if made in self._classes or made in GENERATORS_OF_CHANCE:
                        self._own[name] = made
                    elif made == "partial" and args and isinstance(args[0], ast.Name) and args[0].id in self._code:
                        self._code[name] = self._code[args[0].id]


def _mentioned(statement: ast.stmt) -> set[str]:
    return {n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


def _inner(statement: ast.stmt) -> Iterator[ast.stmt]:
    """A statement, and those that run within it; not those of functions and classes, which run later."""
    yield statement
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return
    for part in ("body", "orelse", "finalbody", "handlers"):
        for inner in getattr(statement, part, ()):
            if isinstance(inner, ast.ExceptHandler):
                for handled in inner.body:
                    yield from _inner(handled)
            else:
                yield from _inner(inner)


def _defined(statement: ast.stmt) -> list[str]:
    """Names that a statement gives to code which runs later."""
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.Assign(targets=[ast.Name(id=name)], value=value) if isinstance(value, DEFERRED):
            return [name]
    return []
