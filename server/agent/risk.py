"""Which cells are risky: by their syntax tree, not by words in them.

A cell is risky when it installs, deletes, writes outside the workspace, starts processes, reaches the network, or runs
code that cannot be judged from here. This decides who is asked, not what is possible: a kernel is kept inside by its
isolation (docs/kernels.md).
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

from cellwright.server.agent import dangers
from cellwright.server.agent.dangers import (
    DELETES,
    DELETES_ANY,
    DELETES_OUT,
    INSTALLS,
    NETWORK,
    STARTS,
    UNKNOWN,
    UNREADABLE,
    WRITES,
)
from cellwright.server.agent.modules import Known, Module, Modules


class Reasons:
    """Judges a notebook's cells in the order in which they ran: an earlier one may have said what a name means."""

    def __init__(
        self, workspace: str = ".", *, ran: bool = False, files: Mapping[str, bytes] = MappingProxyType({})
    ) -> None:
        """`files` count before those that are in the workspace now.

        Of cells that `ran` it is asked what they did: importing what reaches outside does not do so yet, and a path of
        which nothing can be told may lead anywhere.
        """
        self._workspace, self._ran = os.path.realpath(workspace), ran
        self._known, self._modules = Known(), Modules(self._workspace, self._judged, files)

    def lie(self, files: Mapping[str, bytes]) -> None:
        """From here on, these files are in the workspace."""
        if files == self._modules.files:
            return
        former, self._modules = self._modules, Modules(self._workspace, self._judged, files)
        for folder in former.folders:
            self._modules.look_in(folder)

    def of(self, source: str) -> list[str]:
        """Why a cell is risky, each reason once with the line it stands in; empty for a harmless one."""
        tree = _parsed(source)
        if tree is None:
            # It will fail in the kernel as well, but what exactly runs before it does is not to be seen.
            return [UNREADABLE] if source.strip() else []
        found: dict[str, int] = {}
        judge = _Judge(self._workspace, self._known, self._ran, self._modules)
        try:
            for reason, line in judge.judge(tree):
                found.setdefault(reason, line)
        except (ValueError, RecursionError):  # A path with nothing in it that could be one; a chain without end.
            found.setdefault(UNKNOWN, 1)
        self._known = judge.known()
        return [f"{reason} (line {line})" for reason, line in found.items()]

    def _judged(self, tree: ast.Module, package: str, file: str) -> Module:
        known = Known(texts={"__file__": file}, names={"__file__": "__file__"})
        judge = _Judge(self._workspace, known, self._ran, self._modules, package)
        at_once = tuple(judge.at_once(tree))
        return Module(judge.known(), at_once, package=file.endswith("__init__.py"))


def reasons(source: str, workspace: str = ".", before: Iterable[str] = ()) -> list[str]:
    """Why a cell is risky, each reason once with the line it stands in; `before` are the cells that ran earlier."""
    judged = Reasons(workspace)
    for earlier in before:
        judged.of(earlier)
    return judged.of(source)


def _parsed(source: str) -> ast.Module | None:
    try:
        return ast.parse(_plain_python(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _plain_python(source: str) -> str:
    """The cell as Python: IPython's magics and shell escapes become calls."""
    return str(_transformer().transform_cell(source))


@cache
def _transformer() -> Any:
    from IPython.core.inputtransformer2 import TransformerManager

    return TransformerManager()


class _Judge:
    def __init__(self, workspace: str, known: Known, ran: bool, modules: Modules, package: str = "") -> None:
        """`package` is the one that the code lies in, for what it imports relative to that."""
        self._workspace, self._ran = workspace, ran
        self._modules, self._package = modules, package
        self._names: dict[str, str] = dict(known.names)
        """What a name stands for: `pd` for `pandas`, `rm` for `os.remove`."""
        self._texts: dict[str, str] = dict(known.texts)
        """Names that hold one piece of text."""
        self._held: dict[str, str] = dict(known.held)
        """Names that hold a way out, a connection or a process, and the reason of what is done with one."""
        self._does: dict[str, tuple[str, ...]] = dict(known.does)
        """Functions, classes and what holds such, with the reasons of what their code does when it runs."""
        self._calls: dict[str, tuple[str, ...]] = dict(known.calls)
        """The names that the code of a function or a class uses."""
        self._holding: dict[str, tuple[str, ...]] = dict(known.holding)
        """Lists and mappings that hold such; what is called of them does that."""
        self._writing = dict(known.writing)
        """Functions that write where they are told to: their parameters, and those that say where."""
        self._unsure = set(known.unsure)
        """Names that hold a path of which not even the beginning can be told."""
        self._paths: dict[str, ast.AST] = dict(known.paths)
        """Names that hold one path, and what it is made of."""
        self._imports = set(known.imported)
        """Names that were imported, and the beginnings of what they stand for."""
        self._magics: set[int] = set()
        """Calls of get_ipython that IPython itself wrote for magics."""

    def judge(self, tree: ast.AST) -> Iterator[tuple[str, int]]:
        """Why code is risky, with the line of each reason."""
        self._look(tree)
        # What ran has done what it calls, and not what it only defines.
        for node in _run(tree) if self._ran else ast.walk(tree):
            line = getattr(node, "lineno", 1)
            for reason in self._of(node):
                yield reason, line

    def at_once(self, tree: ast.AST) -> list[str]:
        """What code does by itself, apart from what it defines."""
        self._look(tree)
        kinds = ast.Call | ast.Import | ast.ImportFrom
        nodes = [node for node in _run(tree, imported=True) if isinstance(node, kinds)]
        called = [part for node in nodes if isinstance(node, ast.Call) for part in ast.walk(node.func)]
        return list(dict.fromkeys(reason for node in (*nodes, *called) for reason in self._of(node)))

    def _look(self, tree: ast.AST) -> None:
        """Notes what names mean."""
        self._names |= {"os": "os", "pathlib": "pathlib", "Path": "pathlib.Path", "shutil": "shutil", "sys": "sys"}
        assigned: dict[str, int] = {}
        for node in _at_this_level(tree):
            for name in _given_anew(node):
                for told in (
                    self._calls,
                    self._names,
                    self._texts,
                    self._held,
                    self._does,
                    self._holding,
                    self._writing,
                    self._paths,
                ):
                    told.pop(name, None)
                self._unsure.discard(name)
                self._imports.discard(name)
        for node in ast.walk(tree):
            self._look_for_modules(node)
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    head = alias.name.split(".")[0]
                    self._imports |= {alias.asname or head, head}
                    self._names[alias.asname or head] = alias.name if alias.asname else head
            elif isinstance(node, ast.ImportFrom):
                for name, called in self._imported(node):
                    self._imports |= {called, name.split(".")[0]}
                    self._names[called] = name
            elif isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
                name = node.targets[0].id
                assigned[name] = assigned.get(name, 0) + 1
                text = self._text(node.value)
                if text is not None:
                    self._texts[name] = text
                elif self._beginning(node.value) is None and self._is_built_path(node.value):
                    self._unsure.add(name)
                qualified = self._qualified(node.value)
                if qualified is not None and not isinstance(node.value, ast.Name | ast.Call):
                    self._names.setdefault(name, qualified)
                elif isinstance(node.value, ast.Name):
                    self._names.setdefault(name, qualified or node.value.id)
        for name, count in assigned.items():
            if count > 1:
                self._texts.pop(name, None)
        for node in ast.walk(tree):
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=value) if self._is_path(value):
                    if assigned[name] == 1:
                        self._paths[name] = value
                case ast.Call(func=ast.Attribute(value=ast.Call(func=ast.Name(id="get_ipython")) as asked, attr=attr)):
                    if attr in dangers.IPYTHON_CALLS:
                        self._magics.add(id(asked))
        for node in ast.walk(tree):
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self._hold(name, value)
                case ast.withitem(context_expr=value, optional_vars=ast.Name(id=name)):
                    self._hold(name, value)
        self._learn(tree)
        self._follow_calls()

    def known(self) -> Known:
        """What later cells go by."""
        return Known(
            self._names, self._texts, self._held, self._does, self._holding, self._writing, self._paths,
            frozenset(self._unsure), frozenset(self._imports), self._calls,
        )  # fmt: skip

    def _within(self) -> _Judge:
        """Another, for code that stands in this code."""
        return _Judge(self._workspace, self.known(), self._ran, self._modules, self._package)

    def _whence(self, node: ast.ImportFrom) -> str:
        """The whole name of the module that something is imported from."""
        if not node.level:
            return node.module or ""
        parts = self._package.split(".")
        return ".".join([*parts[: len(parts) - node.level + 1], *filter(None, [node.module])])

    def _imported(self, node: ast.ImportFrom) -> Iterator[tuple[str, str]]:
        """What is imported from a module, by its whole name, and what it is called from here on."""
        whence = self._whence(node)
        module = self._modules.find(whence)
        for alias in node.names:
            if alias.name == "*" and module is not None:
                told = module.known
                for name in {
                    *told.does,
                    *told.held,
                    *told.holding,
                    *told.writing,
                    *(told.imported & told.names.keys()),
                }:
                    yield self._modules.meant(f"{whence}.{name}"), name
            else:
                yield self._modules.meant(f"{whence}.{alias.name}"), alias.asname or alias.name

    def _look_for_modules(self, node: ast.AST) -> None:
        """Notes folders in which modules are found as well."""
        match node:
            case ast.Call(func=function, args=args) if self._qualified(function) in dangers.SEARCHED:
                places = args
            case ast.AugAssign(target=target, value=value) if self._qualified(target) == "sys.path":
                places = [value]
            case ast.Assign(targets=[target], value=value) if self._qualified(target) == "sys.path":
                places = [value]
            case ast.Call(func=ast.Attribute(attr="run_line_magic"), args=[ast.Constant(value="cd"), place]):
                places = [place]
            case _:
                return
        for text in (self._text(part) for place in places for part in ast.walk(place)):
            if text:
                self._modules.look_in(text)

    def _learn(self, tree: ast.AST) -> None:
        """Notes what the code does that names stand for, so that whoever calls it later is known to do that."""
        for _ in range(2):  # One may call another that stands below it.
            for node in ast.walk(tree):
                match node:
                    case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                        self._code(self._does, name, node)
                        inner = (part.id for part in ast.walk(node) if isinstance(part, ast.Name))
                        self._calls[name] = tuple({*inner} - {name})
                        if not isinstance(node, ast.ClassDef):
                            self._writes_where_told(node)
                    case ast.Assign(targets=[ast.Name(id=name)], value=value):
                        self._given_code(name, value)

    def _follow_calls(self) -> None:
        """What a function does is also what those do that it calls, wherever they were written."""
        more = True
        while more:
            more = False
            for name, called in self._calls.items():
                found = dict.fromkeys(self._does.get(name, ()))
                found |= dict.fromkeys(reason for other in called for reason in self._does.get(other, ()))
                if len(found) > len(self._does.get(name, ())):
                    self._does[name], more = tuple(found), True

    def _code(self, known: dict[str, tuple[str, ...]], name: str, node: ast.AST) -> None:
        found = dict.fromkeys(reason for inner in ast.walk(node) for reason in self._of(inner))
        if found:
            known[name] = tuple(found)

    def _given_code(self, name: str, value: ast.AST) -> None:
        match value:
            case ast.Name(id=other) if other in self._does:
                self._does[name] = self._does[other]
            case ast.Call(func=made) if _last(made)[:1].isupper() and (does := self._does_of(made)):
                self._does[name] = does
            case ast.Call(func=function) if (self._qualified(function) or "").endswith(("partial", "partialmethod")):
                self._code(self._does, name, value)
            case ast.Lambda() | ast.GeneratorExp():
                self._code(self._does, name, value)
            case ast.Dict(values=values) | ast.List(elts=values) | ast.Tuple(elts=values):
                if len(values) <= dangers.MOST_HELD and any(
                    isinstance(v, ast.Lambda | ast.Name | ast.Attribute) for v in values
                ):
                    self._code(self._holding, name, value)

    def _does_of(self, node: ast.AST) -> tuple[str, ...]:
        """What the code of a function or a class does."""
        if isinstance(node, ast.Name) and node.id in self._does:
            return self._does[node.id]
        return tuple(self._of_workspace(self._qualified(node)))

    def _of_workspace(self, name: str | None) -> Iterator[str]:
        """What the code of a module in the workspace does that a name stands for."""
        if name is not None and "." in name and self._is_imported(name):
            yield from self._modules.reasons(name)

    def _is_imported(self, name: str) -> bool:
        return name.partition(".")[0] in self._imports

    def _is_of_workspace(self, name: str) -> bool:
        """Whether a name leads into a module that lies here, whatever library is called the same."""
        return self._modules.find(name.partition(".")[0]) is not None

    def _writes_where_told(self, function: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        """Notes a function whose parameters say where it writes."""
        given = function.args
        names = [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
        told: set[str] = set()
        for node in ast.walk(function):
            if not isinstance(node, ast.Call):
                continue
            name, method = self._qualified(node.func), node.func.attr if isinstance(node.func, ast.Attribute) else None
            where: list[ast.AST] = []
            if name == "open" and self._may_write(node, "open"):
                where = _given(node, 0, "file")
            elif method in dangers.SAVING_METHODS:
                where = [*node.args[:1], *(k.value for k in node.keywords if k.arg in dangers.PATH_ARGUMENTS)]
            elif method in dangers.WRITING_METHODS and isinstance(node.func, ast.Attribute):
                where = [node.func.value]
            told |= {n.id for part in where for n in ast.walk(part) if isinstance(n, ast.Name)} & {*names}
        if told:
            self._writing[function.name] = (tuple(names), frozenset(told))

    def _told_where(self, node: ast.Call) -> Iterator[ast.AST]:
        """Arguments of a call that say where it writes."""
        writing, name = self._writing, self._qualified(node.func) or ""
        if "." in name and self._is_imported(name) and (found := self._modules.behind(name)) is not None:
            writing, name = found[0].writing, found[1]
        names, told = writing.get(name, ((), frozenset()))
        yield from (value for name, value in zip(names, node.args, strict=False) if name in told)
        yield from (keyword.value for keyword in node.keywords if keyword.arg in told)

    def _is_built_path(self, value: ast.AST) -> bool:
        """Whether a path is made of what the machine says."""
        named = (self._qualified(node) or "" for node in ast.walk(value) if isinstance(node, ast.Attribute))
        return any(name.startswith(dangers.MACHINES) for name in named)

    def _hold(self, name: str, value: ast.AST) -> None:
        """Notes a name that is given a way out."""
        reason = self._way_out(value)
        if reason is not None:
            self._held[name] = reason

    def _way_out(self, node: ast.AST) -> str | None:
        """The reason of what is done with a value that is a connection, a client, a process; None for any other."""
        match node:
            case ast.Name(id=name):
                return self._held.get(name)
            case ast.Attribute(value=value) | ast.Subscript(value=value) | ast.Await(value=value):
                return self._way_out(value)
            case ast.Call(func=function):
                last = function.attr if isinstance(function, ast.Attribute) else ""
                on = self._way_out(function.value) if isinstance(function, ast.Attribute) else None
                if on is not None:
                    return on if last in dangers.HOLDING_ON or last[:1].isupper() else None
                if isinstance(function, ast.Name) and function.id in self._held:
                    return self._held[function.id]
                called = self._qualified(function) or ""
                last = called.rpartition(".")[2]
                if called in dangers.DATABASES and any(self._leads_out(argument) for argument in node.args[:1]):
                    return WRITES
                if last[:1].isupper() or last.endswith("maker"):
                    given = (self._way_out(argument) for argument in node.args if isinstance(argument, ast.Name))
                    if (reason := next(filter(None, given), None)) is not None:
                        return reason
                if last in dangers.HOLDING or last[:1].isupper():
                    found = [*dangers.of_module(called), *self._of_engine(node, called)]
                    return next((reason for reason in found if reason in (NETWORK, STARTS)), None)
        return None

    def _root(self, node: ast.AST) -> str | None:
        """The name at the beginning of `a.b["c"].d()`."""
        match node:
            case ast.Name(id=name):
                return name
            case ast.Attribute(value=value) | ast.Subscript(value=value) | ast.Call(func=value):
                return self._root(value)
        return None

    def _of_engine(self, node: ast.Call, name: str | None) -> Iterator[str]:
        """An engine whose address is of this machine's disk or memory is none; one that cannot be told may be any."""
        if (name or "").rpartition(".")[2] == "create_engine" and node.args:
            text = self._beginning(node.args[0])
            if text is None or _is_remote(text):
                yield NETWORK

    def _of(self, node: ast.AST) -> Iterator[str]:
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield from self._modules.at_once(alias.name)
                    if not self._ran and not self._is_of_workspace(alias.name):
                        yield from dangers.of_module(alias.name)
            case ast.ImportFrom(names=names):
                module = self._whence(node)
                for alias in names:
                    yield from self._modules.at_once(f"{module}.{alias.name}")
                    if self._ran or self._is_of_workspace(module):
                        continue
                    if module in ("os", "posix", "builtins", "IPython") and alias.name == "*":
                        yield UNKNOWN
                    yield from dangers.of_module(f"{module}.{alias.name}")
                    yield from self._of_name(f"{module}.{alias.name}", mere=True)
            case ast.Call():
                yield from self._of_call(node)
            case ast.Attribute(attr=attribute):
                if attribute in dangers.DANGEROUS_ATTRIBUTES and not _is_own_dict(node):
                    yield UNKNOWN
                yield from self._of_name(self._qualified(node))
            case ast.Name(id=name, ctx=ast.Load()):
                if name in dangers.JUDGED_NAMES and name not in self._names:
                    yield dangers.JUDGED_NAMES[name]
                if name in ("__builtins__", "__loader__"):
                    yield UNKNOWN
                yield from self._of_name(self._names.get(name))
                yield from self._does.get(name, ())

    def _of_name(self, name: str | None, *, mere: bool = False) -> Iterator[str]:
        """What is done with what a name stands for; or, for a mere import, what that says by itself."""
        if name is None:
            return
        if not mere:
            yield from self._of_workspace(name)
        head, _, tail = name.partition(".")
        if head in ("os", "posix", "nt") and tail:
            first = tail.split(".")[0]
            if first in dangers.OF_OS and first not in ("rename", "renames", "replace"):
                yield dangers.OF_OS[first]
            elif first.startswith(("exec", "spawn")):
                yield STARTS
        elif tail and (head in dangers.ALWAYS or self._is_imported(head)) and not self._is_of_workspace(head):
            yield from dangers.of_module(name)

    def _of_call(self, node: ast.Call) -> Iterator[str]:
        name = self._qualified(node.func)
        method = node.func.attr if isinstance(node.func, ast.Attribute) else None
        for used in (node.func, *node.args, *(keyword.value for keyword in node.keywords)):
            if (root := self._root(used)) in self._held and not (used is node.func and isinstance(used, ast.Name)):
                yield self._held[root]
        yield from self._of_engine(node, name)
        if any(map(self._leads_out, self._told_where(node))):
            yield WRITES
        yield from self._holding.get(self._root(node.func) or "", ())
        if name in dangers.REMOVING:
            yield from self._deletes(node.args[0] if node.args else None)
        if name == "get_ipython" and id(node) not in self._magics:
            yield UNKNOWN
        if method in dangers.STARTING_METHODS and not self._is_magic(node):
            yield STARTS
        if name in ("getattr", "setattr") and len(node.args) > 1 and self._text(node.args[1]) is None:
            target = self._qualified(node.args[0])
            if target is not None and target.split(".")[0] in {
                *dangers.MODULES,
                "os",
                "shutil",
                "sys",
                "builtins",
                "posix",
            }:
                yield UNKNOWN
        elif name == "getattr" and len(node.args) > 1:
            target = self._qualified(node.args[0])
            if target is not None:
                yield from self._of_name(f"{target}.{self._text(node.args[1])}")
        if name in ("vars", "globals") and (not node.args or self._qualified(node.args[0]) in dangers.ALWAYS):
            yield UNKNOWN
        yield from self._of_magic(node, method)
        yield from self._of_paths(node, name, method)
        for argument in [*node.args, *(keyword.value for keyword in node.keywords)]:
            if _is_remote(self._beginning(argument)) and _opens(name, method):
                yield NETWORK

    def _of_magic(self, node: ast.Call, method: str | None) -> Iterator[str]:
        if not self._is_magic(node):
            return
        if method in ("system", "getoutput"):
            said = self._text(node.args[0]) if node.args else ""
            installs = re.search(r"\b(pip3?|conda|mamba|uv|apt(-get)?|npm|brew)\b.*\b(install|add|sync)\b", said or "")
            yield INSTALLS if installs else STARTS
        elif method in dangers.MAGIC_CALLS:
            magic = (self._text(node.args[0]) if node.args else None) or ""
            if magic in dangers.MAGICS:
                yield dangers.MAGICS[magic]
            elif magic in dangers.SHELL_MAGICS:
                yield STARTS
            elif magic in ("time", "timeit", "capture", "prun"):
                body = dangers.OPTIONS.sub("", self._text(node.args[-1]) or "")
                tree = _parsed(body)
                if tree is not None:
                    yield from (reason for reason, _ in self._within().judge(tree))
                elif body.strip():
                    yield UNREADABLE
            elif magic == "writefile":
                path = (self._text(node.args[1]) or "").removeprefix("-a").strip()
                if self._outside(path):
                    yield WRITES
            elif magic == "cd":
                if self._outside((self._text(node.args[1]) or "").strip() or "~"):
                    yield WRITES
            elif magic == "sql" and self._ran:
                yield NETWORK
            elif magic not in dangers.HARMLESS_MAGICS:
                yield UNKNOWN

    def _of_paths(self, node: ast.Call, name: str | None, method: str | None) -> Iterator[str]:
        short = (name or "").rpartition(".")[2]
        if name in dangers.LOGGING_FILES and any(map(self._leads_out, _given(node, 0, "filename"))):
            yield WRITES
        if name in dangers.OPENING:
            if self._may_write(node, name) and any(map(self._leads_out, _given(node, 0, "file", "filename", "path"))):
                yield WRITES
            return
        if name in ("os.rename", "os.renames", "os.replace", "os.makedirs", "os.mkdir", "os.chdir"):
            if any(self._leads_out(argument) for argument in [*node.args, *(k.value for k in node.keywords)]):
                yield WRITES
            return
        if name is not None and name.startswith("shutil.") and short in dangers.COPYING:
            if any(map(self._leads_out, _given(node, 1, "dst"))):
                yield WRITES
            return
        if name in dangers.DATABASES or short == "create_engine":
            if any(self._leads_out(argument) or self._is_outer_file(argument) for argument in node.args[:1]):
                yield WRITES
            return
        if method is None:
            return
        on = node.func.value if isinstance(node.func, ast.Attribute) else None
        if method in dangers.DELETING_METHODS and (self._is_path(on) or method in ("unlink", "rmtree")):
            yield DELETES
            yield from self._deletes(on)
        elif method in dangers.RENAMING_METHODS and self._is_path(on):
            if node.args and self._leads_out(node.args[0]):
                yield WRITES
        elif method in dangers.WRITING_METHODS or (method == "open" and self._is_path(on)):
            writes = method != "open" or self._may_write(node, "Path.open")
            if writes and on is not None and self._is_path(on) and self._leads_out(on):
                yield WRITES
        elif method in dangers.SAVING_METHODS and not (isinstance(on, ast.Attribute) and on.attr == "str"):
            told = [*node.args[:2], *(k.value for k in node.keywords if k.arg in dangers.PATH_ARGUMENTS)]
            if any(self._leads_out(argument) for argument in told):
                yield WRITES
            if method == "to_sql" and any(_is_remote(self._text(argument)) for argument in told):
                yield NETWORK

    def _deletes(self, node: ast.AST | None) -> Iterator[str]:
        """What is deleted, where it is not surely in the workspace."""
        if node is not None and self._ran:
            if self._leads_out(node):
                yield DELETES_OUT
            elif self._text(node) is None:
                yield DELETES_ANY

    def _is_outer_file(self, node: ast.AST) -> bool:
        """Whether an address names a database's file outside the workspace."""
        text = self._text(node) or ""
        return dangers.LOCAL_URL.match(text) is not None and ":///" in text and self._outside(text.partition(":///")[2])

    def _may_write(self, node: ast.Call, name: str) -> bool:
        at = 0 if name == "Path.open" else 1
        mode: ast.AST | None = node.args[at] if len(node.args) > at else None
        for keyword in node.keywords:
            if keyword.arg == "mode":
                mode = keyword.value
        if name == "os.open":
            return mode is not None and "O_RDONLY" not in ast.dump(mode)
        if mode is None:
            return False
        text = self._text(mode)
        return text is None or any(letter in text for letter in "wax+")

    def _is_path(self, node: ast.AST | None) -> bool:
        """Whether an expression is plainly a path object."""
        match node:
            case ast.Call(func=function):
                name = self._qualified(function) or ""
                if name.startswith("pathlib."):
                    return True
                return isinstance(function, ast.Attribute) and self._is_path(function.value)
            case ast.BinOp(left=left, op=ast.Div()):
                return self._is_path(left)
            case ast.Name(id=name):
                return name in self._paths
            case ast.Attribute(value=value, attr=("parent" | "parents")):
                return self._is_path(value)
            case _:
                return False

    def _is_magic(self, node: ast.Call) -> bool:
        """Whether a call is one that IPython writes for a magic."""
        return isinstance(node.func, ast.Attribute) and id(node.func.value) in self._magics

    def _beginning(self, node: ast.AST) -> str | None:
        """The text that an expression surely begins with."""
        match node:
            case ast.JoinedStr(values=[ast.Constant(value=str(text)), *_]):
                return text
            case ast.JoinedStr(values=[ast.FormattedValue(value=value), *_]):
                return self._text(value)
            case ast.Call(func=function, args=[first, *_]) if self._qualified(function) in ("os.path.join", "str"):
                return self._beginning(first)
            case ast.BinOp(left=left, op=ast.Add()) if self._text(node) is None:
                return self._beginning(left)
            case ast.Call(func=ast.Attribute(value=value, attr="format")):
                return self._beginning(value)
            case _:
                return self._text(node)

    def _leads_out(self, node: ast.AST) -> bool:
        """Whether a path leads out of the workspace; one that cannot be told does, if it is not a plain name."""
        text = self._text(node)
        if text is not None:
            return self._outside(text)
        match node:
            case ast.Name(id=held) if held in self._paths:
                return self._leads_out(self._paths[held])
            case ast.Name(id=held):
                return held in self._unsure
            case ast.Call(func=function, args=args):
                name = self._qualified(function) or ""
                if name.startswith(dangers.MACHINES):
                    return True
                if name == "os.path.basename":
                    return False
                if name.endswith(("Path.home", "expanduser", "gettempdir", "mkdtemp", "mkstemp")):
                    return not name.endswith(("gettempdir", "mkdtemp", "mkstemp"))
                if name in ("os.path.join", "pathlib.Path", "str", "os.fspath"):
                    return any(self._leads_out(argument) for argument in args)
                return isinstance(function, ast.Attribute) and self._leads_out(function.value)
            case ast.BinOp(left=left, right=right):
                return self._leads_out(left) or (self._text(right) or "").startswith(("/", "..", "~"))
            case ast.JoinedStr(values=values):
                begins = self._beginning(node)
                if begins is not None:
                    return self._outside(begins)
                rest = "".join(str(part.value) for part in values if isinstance(part, ast.Constant))
                return self._ran and "/" in rest  # It begins with a folder that is not known.
            case (
                ast.Attribute(value=value, attr="parent")
                | ast.Subscript(value=ast.Attribute(value=value, attr="parents"))
            ):
                return self._leads_out(value) or self._is_here(value)
            case ast.IfExp(body=body, orelse=other):
                return self._leads_out(body) or self._leads_out(other)
            case _:
                return False

    def _is_here(self, node: ast.AST) -> bool:
        """Whether an expression is the working directory, whose parent is outside."""
        return isinstance(node, ast.Call) and self._text(node) == "."

    def _outside(self, path: str) -> bool:
        if dangers.URL.match(path):
            return _is_remote(path) or path.startswith("file:")
        if path.startswith("~"):
            return True
        if "\0" in path:
            return True
        full = os.path.realpath(os.path.join(self._workspace, path))
        inside = full == self._workspace or full.startswith(self._workspace + os.sep)
        return not inside and full != "/dev/null" and not full.startswith("/dev/std")

    def _text(self, node: ast.AST | None) -> str | None:
        """The text that an expression surely is; None when it cannot be told."""
        match node:
            case ast.Constant(value=str(text)):
                return text
            case ast.Name(id=name) | ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name):
                return self._texts.get(name)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                a, b = self._text(left), self._text(right)
                return None if a is None or b is None else a + b
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                a, b = self._text(left), self._text(right)
                return None if a is None or b is None else os.path.join(a, b)
            case ast.Call(func=function, args=[]) if self._qualified(function) in ("os.getcwd", "pathlib.Path.cwd"):
                return "."
            case ast.Attribute(value=value, attr="parent"):
                inner = self._text(value)
                return None if inner is None else ".." if inner in ("", ".") else os.path.dirname(inner) or "."
            case ast.Call(func=ast.Attribute(value=value, attr=("resolve" | "absolute")), args=[]):
                return self._text(value)
            case ast.Call(func=function, args=[argument]) if self._qualified(function) in dangers.SAME_PLACE:
                return self._text(argument)
            case ast.Call(func=function, args=[argument]) if self._qualified(function) == "os.path.dirname":
                inner = self._text(argument)
                return None if inner is None else os.path.dirname(inner) or "."
            case ast.Call(func=function, args=[*args]) if args and (
                self._qualified(function) in ("os.path.join", "pathlib.Path", "pathlib.PurePath", "str")
            ):
                parts = [self._text(argument) for argument in args]
                return None if None in parts else os.path.join(*[part for part in parts if part is not None])
            case _:
                return None

    def _qualified(self, node: ast.AST | None) -> str | None:
        """`os.path.join` for `os.path.join` however it was imported; None for what is no chain of names."""
        match node:
            case ast.Name(id=name):
                return self._names.get(name, name)
            case ast.Attribute(value=value, attr=attribute):
                before = self._qualified(value)
                if before is None:
                    return None
                name = f"{before}.{attribute}"
                if self._is_imported(name):
                    name = self._modules.meant(name)
                    self._imports.add(name.partition(".")[0])
                return name
            case _:
                return None


def _run(tree: ast.AST, *, imported: bool = False) -> Iterator[ast.AST]:
    """All that runs when code is run: without what functions hold, but for those that something may call at once.

    A module that is `imported` leaves out what stands under `if __name__ == "__main__"`.
    """
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() if all(map(_lets_be, node.decorator_list)):
                around = [*node.args.defaults, *filter(None, node.args.kw_defaults), *node.decorator_list]
                for part in around:
                    yield part
                    yield from _run(part, imported=imported)
                continue
            case ast.Assign(targets=[ast.Name()], value=ast.Lambda()):
                continue
            case ast.If(test=ast.Compare(left=ast.Name(id="__name__"))) if imported:
                continue
        yield node
        yield from _run(node, imported=imported)


def _lets_be(decorator: ast.AST) -> bool:
    """Whether a decorator is one that does not call what it is given."""
    return _last(decorator.func if isinstance(decorator, ast.Call) else decorator) in dangers.DECORATORS


INNER = (
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda),
    *(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp),
)


def _at_this_level(tree: ast.AST) -> Iterator[ast.AST]:
    """What gives names to the code around it: nothing within functions, classes and comprehensions."""
    for node in ast.iter_child_nodes(tree):
        yield node
        if not isinstance(node, INNER):
            yield from _at_this_level(node)


def _last(node: ast.AST) -> str:
    """The last name of `a.b.c`."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _is_own_dict(node: ast.Attribute) -> bool:
    """Whether it is `self.__dict__`, a usual way to take over arguments."""
    return node.attr == "__dict__" and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def _is_remote(text: str | None) -> bool:
    """Whether a text is the address of something elsewhere."""
    return text is not None and dangers.URL.match(text) is not None and not dangers.LOCAL_URL.match(text)


def _given_anew(node: ast.AST) -> list[str]:
    """Names that mean something else from here on."""
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            return [name]
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
            return [(alias.asname or alias.name).partition(".")[0] for alias in aliases]
    return []


def _given(node: ast.Call, at: int, *names: str) -> list[ast.AST]:
    """An argument of a call, by its place or any of its names."""
    return [*node.args[at : at + 1], *(keyword.value for keyword in node.keywords if keyword.arg in names)]


def _opens(name: str | None, method: str | None) -> bool:
    """Whether a call that is given an address opens it."""
    called = method or (name or "").rpartition(".")[2]
    return called.startswith(
        ("read", "open", "get", "fetch", "load", "urlopen", "download", "scan", "connect", "to_")
    ) or (called in ("create_engine", "Image", "IFrame", "request", "post", "imread", "Dataset"))
