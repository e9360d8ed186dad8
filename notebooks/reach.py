"""What cells read, change and draw from by way of code that earlier cells defined: functions, classes, generators."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass, replace

from cellwright.notebooks.dependencies import Names, names, root, statements

GENERATORS_OF_CHANCE = ("default_rng", "RandomState", "Random")
DEFERRED = (ast.Lambda, ast.GeneratorExp)


@dataclass(frozen=True)
class Reached:
    """A cell's names, those of the code that it calls among them, and that code."""

    names: Names
    code: tuple[ast.stmt, ...] = ()


class Reach:
    """Goes along a notebook's cells in the order in which they ran."""

    def __init__(self) -> None:
        self._code: dict[str, tuple[ast.stmt, Names]] = {}
        """Statements that define something which runs later, by its name."""
        self._classes: set[str] = set()
        self._own: set[str] = set()
        """Objects that any call of a method may change: of the notebook's own classes, generators of chance."""

    def of(self, source: str) -> Reached:
        """What a cell comes to; later cells are looked at with what it defines."""
        looked, cell = names(source), statements(source)
        code = self._reached(looked.reads)
        for statement, defined in code:
            given = set(_defined(statement))
            looked = replace(
                looked,
                reads=looked.reads | (defined.reads - looked.makes),
                changes=looked.changes | ((defined.changes | defined.makes) - given - looked.makes),
            )
        changed = {name for statement, _ in cell for name in self._called_on(statement)}
        looked = replace(looked, changes=looked.changes | (changed - looked.makes), reads=looked.reads | changed)
        for statement, held in cell:
            self._learn(statement, held)
        return Reached(looked, tuple(statement for statement, _ in code))

    def _reached(self, mentioned: Iterable[str]) -> list[tuple[ast.stmt, Names]]:
        """The definitions of these names, and of those that they mention."""
        found: dict[str, tuple[ast.stmt, Names]] = {}
        pending = sorted(mentioned)
        while pending:
            name = pending.pop()
            if name in self._code and name not in found:
                found[name] = self._code[name]
                pending += self._code[name][1].reads
        return list(found.values())

    def _called_on(self, statement: ast.stmt) -> set[str]:
        calls = (node.func for node in ast.walk(statement) if isinstance(node, ast.Call))
        roots = (root(called) for called in calls if isinstance(called, ast.Attribute))
        return {name for name in roots if name in self._own}

    def _learn(self, statement: ast.stmt, held: Names) -> None:
        for name in held.makes:
            self._code.pop(name, None)
            self._classes.discard(name)
            self._own.discard(name)
        defined = _defined(statement)
        self._code |= dict.fromkeys(defined, (statement, held))
        if isinstance(statement, ast.ClassDef):
            self._classes.add(statement.name)
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=called)):
                made = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
                if made in self._classes or made in GENERATORS_OF_CHANCE:
                    self._own.add(name)


def _defined(statement: ast.stmt) -> list[str]:
    """Names that a statement gives to code which runs later."""
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.Assign(targets=[ast.Name(id=name)], value=value) if isinstance(value, DEFERRED):
            return [name]
    return []
