"""Which names a cell's source reads, makes and changes, by its syntax: what a re-run of some cells goes by."""

from __future__ import annotations

import ast
import builtins
import io
import re
import symtable
import tokenize
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

CHANGING = {
    *("append", "extend", "insert", "pop", "popleft", "appendleft", "remove", "clear", "update", "add", "discard"),
    *("sort", "reverse", "setdefault", "fill", "put", "resize", "fit", "fit_transform", "partial_fit", "train"),
    *("seed", "shuffle", "write", "writelines", "send", "throw", "close", "execute", "executemany", "commit", "step"),
    *("load_state_dict", "register", "next", "read", "readline", "readlines"),
}
"""Methods that change what they are called on, wherever their result goes."""

CHANGING_THEIR_FIRST = {
    *("next", "setattr", "delattr", "heappush", "heappop", "heapify", "heapreplace", "heappushpop", "insort"),
    *("insort_left", "insort_right", "islice", "putmask", "copyto"),
}
"""Functions that change what they are given first."""

WRAPPING = re.compile(r"^%%(time|timeit|capture|prun|memit)\b.*")
BUILTIN = set(dir(builtins))
USUAL = {"np": "numpy", "pd": "pandas", "plt": "matplotlib.pyplot", "sns": "seaborn"}
"""What modules are mostly called, where an earlier cell has imported them."""

T = TypeVar("T")


@dataclass(frozen=True)
class Names:
    """A cell's names: those it `reads` from before it, those it `makes` (assigns), those it `changes` in place."""

    reads: frozenset[str] = frozenset()
    makes: frozenset[str] = frozenset()
    changes: frozenset[str] = frozenset()
    imports: frozenset[str] = frozenset()
    """Top-level modules."""

    def unsure(self) -> Names:
        """The same of a cell that did not come to its end: what it makes, it may not have made."""
        return Names(self.reads, frozenset(), self.touches, self.imports)

    @property
    def touches(self) -> frozenset[str]:
        """Names that are another value after the cell, perhaps."""
        return self.makes | self.changes


def names(source: str) -> Names:
    """A cell's names; none where it is not Python. Magics and shell lines count for nothing."""
    text = plain(source)
    try:
        tree = ast.parse(text)
        table = symtable.symtable(text, "<cell>", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return Names()
    looked = _Look(tree)
    makes = {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported()}
    makes |= _global(table)
    reads = ((_read(table) | looked.changed) - makes - BUILTIN) | (looked.before & makes)
    return Names(
        frozenset(reads),
        frozenset(makes),
        frozenset(looked.changed - makes),
        frozenset(looked.modules),
    )


def statements(source: str) -> list[tuple[ast.stmt, Names]]:
    """A cell's statements with the names of each, in order; none where it is not Python."""
    try:
        return [(statement, names(ast.unparse(statement))) for statement in ast.parse(plain(source)).body]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def flow(
    cell: Sequence[tuple[ast.stmt, Names]], given: Mapping[str, T], brings: Callable[[ast.stmt], T | None]
) -> dict[str, T]:
    """What the names that a cell touches come from, by way of others or not; only those that come from something.

    `given` says it of names before the cell, `brings` of a statement itself. Modules come from nothing.
    """
    modules = set(USUAL)
    for statement, _ in cell:
        for node in ast.walk(statement):
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    found, touched = dict(given), set()
    for statement, looked in cell:
        brought = brings(statement)
        sources = [] if brought is None else [brought]
        sources += [found[name] for name in sorted(looked.reads) if name in found]
        for name in looked.touches - modules:
            touched.add(name)
            if sources:
                found[name] = sources[0]
            elif name in looked.makes:
                found.pop(name, None)
    return {name: source for name, source in found.items() if name in touched}


def made_from(source: str, given: Collection[str]) -> dict[str, str]:
    """Names that a cell makes from the `given` ones, each with one of these."""
    return flow(statements(source), {name: name for name in given}, lambda _: None)


def plain(source: str) -> str:
    """A cell as Python, without magics and shell lines."""
    body = WRAPPING.sub("", source)
    magic = magic_lines(body)
    return "\n".join(_plain_line(line) if n in magic else line for n, line in enumerate(body.split("\n")))


def magic_lines(source: str) -> set[int]:
    """Lines, counted from 0, in IPython's own syntax: magics, shell lines, questions.

    One that goes on with what the line before began is none, though it may begin like one: `% x`.
    """
    lines = source.split("\n")
    if not any(line != _plain_line(line) for line in lines) or _is_python(source):
        return set()
    found: set[int] = set()
    kept: list[str] = []
    for number, line in enumerate(lines):
        told = _plain_line(line)
        if told != line and not _begun("\n".join(kept), lines[number - 1] if number else ""):
            found.add(number)
        kept.append(told if number in found else line)
    return found


def _is_python(source: str) -> bool:
    try:
        ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _begun(before: str, last: str) -> bool:
    """Whether what stands before a line is a statement that goes on in it: a bracket is open, or the line says so."""
    if last.endswith("\\"):
        return True
    tokens = tokenize.generate_tokens(io.StringIO(before + "\n").readline)
    depth = 0
    try:
        for token in tokens:
            if token.type == tokenize.OP:
                depth += (token.string in "([{") - (token.string in ")]}")
    except (tokenize.TokenError, IndentationError, SyntaxError):
        pass
    return depth > 0


def _plain_line(line: str) -> str:
    """A line without IPython's own syntax: what a magic gives is some value."""
    line = re.sub(r"^(\s*)%time\s+", r"\1", line)
    line = re.sub(r"^(\s*[\w.,\s\[\]'\"]+=\s*)[%!].*", r"\1None", line)
    line = re.sub(r"^(\s*)[%!].*", r"\1pass", line)
    return re.sub(r"^(\s*)\??[\w.]+\?{1,2}\s*$", r"\1pass", line) if "?" in line else line


def _read(table: symtable.SymbolTable) -> set[str]:
    """Names of the notebook that are read in a scope, or in a function or class below it."""
    inner = table.get_type() != "module"
    found = {s.get_name() for s in table.get_symbols() if s.is_referenced() and (s.is_global() or not inner)}
    for child in table.get_children():
        found |= _read(child)
    return found


def _global(table: symtable.SymbolTable) -> set[str]:
    """Names that functions declare `global` and assign."""
    found: set[str] = set()
    for child in table.get_children():
        found |= {s.get_name() for s in child.get_symbols() if s.is_declared_global() and s.is_assigned()}
        found |= _global(child)
    return found


class _Look:
    """What the symbol table does not tell: changes in place, modules, names that are read before they are made."""

    def __init__(self, tree: ast.Module) -> None:
        self.changed: set[str] = set()
        self.modules: set[str] = set()
        self.before: set[str] = set()
        for place, statement in enumerate(tree.body):
            last = place == len(tree.body) - 1
            self._look(statement, discarded=isinstance(statement, ast.Expr) and not last)
        self._flow(tree.body, set())

    def _flow(self, statements: Sequence[ast.stmt], made: set[str]) -> None:
        """Goes through statements in the order in which they run."""
        for statement in statements:
            match statement:
                case ast.For(target=target, iter=first) | ast.AsyncFor(target=target, iter=first):
                    self._use([first], made)
                    made |= _stored(target)
                case ast.With(items=items) | ast.AsyncWith(items=items):
                    for item in items:
                        self._use([item.context_expr], made)
                        made |= _stored(item.optional_vars) if item.optional_vars is not None else set()
                case ast.If(test=test) | ast.While(test=test):
                    self._use([test], made)
                case ast.Try():
                    pass
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                    self._use([statement], made)
                    made.add(name)
                    continue
                case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                    made |= {(alias.asname or alias.name).partition(".")[0] for alias in aliases}
                    continue
                case _:
                    self._use([statement], made)
                    made |= _stored(statement)
                    continue
            for part in ("body", "handlers", "orelse", "finalbody"):
                inner = getattr(statement, part, [])
                for handler in [h for h in inner if isinstance(h, ast.ExceptHandler)]:
                    self._flow(handler.body, made)
                self._flow([s for s in inner if isinstance(s, ast.stmt)], made)

    def _use(self, nodes: Sequence[ast.AST], made: set[str]) -> None:
        for node in nodes:
            # What is deleted must be there, as what is read.
            used = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load | ast.Del)}
            if isinstance(node, ast.AugAssign) and (begins := root(node.target)):
                used.add(begins)
            self.before |= used - made

    def _look(self, statement: ast.stmt, *, discarded: bool) -> None:
        for node in ast.walk(statement):
            match node:
                case ast.Import(names=aliases):
                    self.modules |= {alias.name.partition(".")[0] for alias in aliases}
                case ast.ImportFrom(module=str(module), level=0):
                    self.modules.add(module.partition(".")[0])
                case ast.Attribute(ctx=ast.Store() | ast.Del()) | ast.Subscript(ctx=ast.Store() | ast.Del()):
                    self._add(node)
                case ast.Call(func=ast.Attribute(value=receiver, attr=method), keywords=keywords):
                    inplace = any(k.arg == "inplace" for k in keywords)
                    if method in CHANGING or method.startswith(("set_", "add_")) or inplace:
                        self._add(receiver)
                case ast.Call(func=ast.Name(id=function) | ast.Attribute(attr=function), args=[first, *_]) if (
                    function in CHANGING_THEIR_FIRST
                ):
                    self._add(first)
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            # Called for its effect: on what it is called on, or on what it is given.
            call = statement.value
            if isinstance(call.func, ast.Attribute):
                if discarded:
                    self._add(call.func)
                if call.func.attr == "shuffle":
                    for argument in call.args:
                        self._add(argument)
            elif not (isinstance(call.func, ast.Name) and call.func.id in ("print", "display")):
                for argument in call.args:
                    self._add(argument)

    def _add(self, node: ast.AST) -> None:
        name = root(node)
        if name is not None and name not in BUILTIN:
            self.changed.add(name)


def _stored(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store | ast.Del)}


def root(node: ast.AST) -> str | None:
    """The name at the beginning of `a.b[c].d`."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Starred):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def slice_for(
    cells: Sequence[Names],
    wanted: Collection[str],
    held: Collection[str],
    unchanged: Callable[[int], Collection[str]] = lambda _place: (),
) -> list[int]:
    """Which of the cells that ran, in order, must run again to make the `wanted` names, by their places.

    A cell that only mentions one may have changed it: a function that it was given to, a generator that was read from.
    `held` are names that are there already, as they were at the end. One that a cell itself touches, or a later one
    did, was another value when the cell read it, and is made again as well; but for those that are known to be
    `unchanged` since before the cell at some place.
    """
    chosen: list[int] = []
    needed = set(wanted)
    later: set[str] = set()
    for place in reversed(range(len(cells))):
        cell = cells[place]
        if (cell.touches | cell.reads) & needed:
            chosen.append(place)
            needed -= cell.makes - cell.changes - cell.reads
            needed |= {name for name in cell.reads if name not in held or name in later | cell.touches} - {
                name for name in unchanged(place) if name in held
            }
        later |= cell.touches
    return chosen[::-1]
