"""In what variables differ, by what they hold: in a kernel that has first the ones, then the others.

Stands alone: it is sent to kernels where Cellwright is not installed. Of users' classes it calls no `__eq__`,
but for keys and members of sets.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import enum
import gc
import json
import logging
import math
import time
import types
from collections.abc import Callable
from typing import Any

WITHIN_S = 20.0
DEPTH = 40
LISTED = 3
SHOWN = 60
MOST_HELD = 100_000
UNCHANGING = (
    *(bool, bytes, complex, float, int, range, str, type(None), type(...), types.BuiltinFunctionType, types.CodeType),
    types.ModuleType,
)
BY_NAME = (dt.tzinfo, enum.Enum, logging.Logger)
"""Types of what is the same one wherever it is."""

COMPARED_PLAINLY = ("datetime", "decimal", "fractions", "pathlib", "uuid", "zoneinfo", "ipaddress", "re")
"""Modules of plain values, whose own word for equality is taken."""


class _Late(Exception):
    pass


def _shell() -> Any:
    from IPython import get_ipython

    return get_ipython()


def set_aside(names: list[str]) -> str:
    """Takes variables out of the namespace, to be compared with those that come next."""
    shell = _shell()
    with contextlib.suppress(ImportError):  # It would take a class that comes again for the one that is there.
        from cloudpickle import cloudpickle

        for known in ("_DYNAMIC_CLASS_TRACKER_BY_ID", "_DYNAMIC_CLASS_TRACKER_BY_CLASS"):
            getattr(cloudpickle, known, {}).clear()
    shell.cellwright_aside = {name: shell.user_ns.pop(name) for name in names if name in shell.user_ns}
    return json.dumps(sorted(shell.cellwright_aside))


def told() -> str:
    """JSON: `{name: how it differs}` of those that came again; empty text for the same, null where none can say."""
    shell = _shell()
    before, after = shell.cellwright_aside, shell.user_ns
    until = time.monotonic() + WITHIN_S
    found: dict[str, str | None] = {}
    for name in before.keys() & after.keys():
        if type(before[name]).__name__ == "memmap":
            found[name] = None  # Both show what stands in their file now.
            continue
        try:
            found[name] = _apart(before[name], after[name], until)
        except (Exception, RecursionError):  # A library may raise anything about what it made.
            found[name] = None
    return json.dumps(found)


def settle(groups: list[list[str]], made: list[str]) -> str:
    """Puts those that were set aside back where they are as those that came again: they are what others refer to.

    Those in one group hold something in common, and stay or go together. JSON: `{name: [others]}`, which of the `made`
    variables hold something of others that they are not the same as any more.
    """
    shell = _shell()
    aside, names = shell.cellwright_aside, shell.user_ns
    until = time.monotonic() + WITHIN_S
    gone: list[str] = []
    for whole in groups:
        group = [name for name in whole if name in aside]
        alike = len(group) == len(whole) and all(
            name in names and _same(aside[name], names[name], until) for name in group
        )
        if alike and _shared(group, aside, names) == _shared(group, names, names):
            names.update({name: aside[name] for name in group})
        else:
            gone += group
    for name in gone:
        if (
            isinstance(aside[name], type)
            and isinstance(names.get(name), type)
            and _coded_alike(aside[name], names[name])
        ):
            _of_another_class(aside[name], names[name])
    of = {id(held): name for name in gone for held in _held(aside[name], names)}
    found = {name: sorted({of[id(held)] for held in _held(names[name], names) if id(held) in of}) for name in made}
    del shell.cellwright_aside
    return json.dumps({name: others for name, others in found.items() if others})


def _of_another_class(one: type, other: type) -> None:
    """Objects and classes that were made again of a class are of the stored one, which is what its name means."""
    for held in gc.get_referrers(one):
        with contextlib.suppress(Exception):  # Classes may forbid anything.
            if type(held) is one:
                object.__setattr__(held, "__class__", other)
            elif issubclass(type(held), type) and one in held.__bases__:
                held.__bases__ = tuple(other if base is one else base for base in held.__bases__)


def _coded_alike(one: type, other: type) -> bool:
    """Whether two classes differ in nothing but what they hold: one of other code is another class of the same name."""
    codes = [
        {name: _code(held.__code__) for name, held in vars(kind).items() if isinstance(held, types.FunctionType)}
        for kind in (one, other)
    ]
    return codes[0] == codes[1]


def _same(one: Any, other: Any, until: float) -> bool:
    try:
        return not Contrast(until).of(one, other)
    except (Exception, RecursionError):
        return False


def _shared(group: list[str], of: dict[str, Any], names: dict[str, Any]) -> list[tuple[str, str]]:
    """Which of a group's variables hold something in common."""
    held = {name: {*map(id, _held(of[name], names))} for name in group} if len(group) > 1 else {}
    return [(one, other) for one in held for other in held if one < other and not held[one].isdisjoint(held[other])]


def _held(value: Any, names: dict[str, Any]) -> list[Any]:
    """What a value holds and can change, itself among it, as far as Python's own collector can tell."""
    found: dict[int, Any] = {}
    pending = [value]
    while pending and len(found) < MOST_HELD:
        held = pending.pop()
        kind = type(held)
        if id(held) in found or held is names or kind in UNCHANGING or issubclass(kind, (type, *BY_NAME)):
            continue
        if kind is types.FunctionType and held.__module__ != "__main__":
            continue
        if (kind.__module__ == "numpy" and kind.__name__ == "ufunc") or kind.__module__ == "numpy.dtypes":
            continue
        found[id(held)] = held
        pending += gc.get_referents(held)
    return [held for held in found.values() if type(held) not in (tuple, frozenset)]


def _apart(one: Any, other: Any, until: float) -> str | None:
    """How two variables differ; None where even a copy of the one would: its state says where it is, not what it is."""
    contrast = Contrast(until)
    how = contrast.of(one, other)
    if how and contrast.by_state and Contrast(until).of(one, _copied(one)):
        return None
    return how


def _copied(value: Any) -> Any:
    try:
        import cloudpickle as pickler
    except ImportError:
        import pickle as pickler
    return pickler.loads(pickler.dumps(value))  # noqa: S301 (just made here)


class Contrast:
    """Compares two values, down to what they hold; a pair that is met again within itself counts as the same."""

    def __init__(self, until: float = math.inf) -> None:
        self._until, self._depth = until, 0
        self.by_state = False
        """Whether something was compared by what it is pickled from."""
        self._met: set[tuple[int, int]] = set()
        self._alive: list[Any] = []

    def of(self, one: Any, other: Any) -> str:
        """How the other differs from the one, in a few words; empty if it does not."""
        if one is other:
            return ""
        if time.monotonic() > self._until or self._depth > DEPTH:
            raise _Late
        if _kind(one) != _kind(other):
            return f"{_shown(one)} → {_shown(other)}"
        if (id(one), id(other)) in self._met:
            return ""
        self._met.add((id(one), id(other)))
        self._alive += (one, other)  # What a value makes up to be compared would else give its identity to the next.
        self._depth += 1
        try:
            return self._way(one)(one, other)
        finally:
            self._depth -= 1

    def _way(self, value: Any) -> Callable[[Any, Any], str]:
        kind, package = type(value), type(value).__module__.split(".")[0]
        if kind in (int, bool, complex, type(None), str, bytes, bytearray, range, slice, type(...)):
            return _plainly
        if kind is float:
            return _floats
        if kind in (list, tuple):
            return self._sequences
        if kind is dict:
            return self._mappings
        if kind in (set, frozenset):
            return _sets
        if package == "numpy" and hasattr(value, "dtype") and hasattr(value, "shape"):
            return self._arrays
        if package == "pandas" and kind.__name__ in ("DataFrame", "Series"):
            return self._tables
        if package == "pandas" and hasattr(value, "equals"):
            return lambda a, b: "" if a.equals(b) else f"{_shown(a)} → {_shown(b)}"
        if kind is types.FunctionType:
            return self._functions
        if isinstance(value, type):
            return self._classes
        if package in COMPARED_PLAINLY or package == "pandas":
            return _plainly
        return self._states

    def _sequences(self, one: Any, other: Any) -> str:
        if len(one) != len(other):
            return f"{len(one):,} → {len(other):,} items"
        found = [(place, how) for place, pair in enumerate(zip(one, other, strict=True)) if (how := self.of(*pair))]
        if not found:
            return ""
        place, how = found[0]
        more = f"{len(found):,} of {len(one):,} items differ, the first at " if len(one) > 1 else ""
        return _cut(f"{more}[{place}]: {how}")

    def _mappings(self, one: dict[Any, Any], other: dict[Any, Any]) -> str:
        parts = [
            _listed("without", [key for key in one if key not in other]),
            _listed("with", [key for key in other if key not in one]),
        ]
        changed = [(key, how) for key in one if key in other and (how := self.of(one[key], other[key]))]
        parts += [f"{_shown(key)}: {how}" for key, how in changed[:LISTED]]
        parts += [f"{len(changed) - LISTED} more keys"] if len(changed) > LISTED else []
        if not any(parts) and list(one) != list(other):
            parts.append("its keys are in another order")
        return "; ".join(part for part in parts if part)

    def _arrays(self, one: Any, other: Any) -> str:
        import numpy as np

        if one.dtype != other.dtype:
            return f"{one.dtype} → {other.dtype}"
        if one.shape != other.shape:
            return f"shape {one.shape} → {other.shape}"
        if one.dtype.kind == "O":
            return self._sequences(one.ravel().tolist(), other.ravel().tolist())
        a, b = np.asarray(one), np.asarray(other)
        differ = a != b
        if a.dtype.kind in "fcmM":
            differ &= ~(np.isnan(a) & np.isnan(b)) if a.dtype.kind in "fc" else ~(np.isnat(a) & np.isnat(b))
        count = int(differ.sum())
        if not count:
            masks = [getattr(value, "mask", None) for value in (one, other)]
            return self._arrays(*map(np.asarray, masks)) if masks[0] is not None else ""
        if a.shape == ():
            return f"{_shown(a.item())} → {_shown(b.item())}"
        most = ""
        if a.dtype.kind in "iuf":
            apart = np.abs(a[differ].astype(float) - b[differ].astype(float))
            most = f", by up to {np.nanmax(apart):.4g}" if np.isfinite(apart).any() else ""
        return f"{count:,} of {a.size:,} values differ{most}"

    def _tables(self, one: Any, other: Any) -> str:
        import pandas as pd

        names = {"the index's name": (one.index.name, other.index.name)}
        if isinstance(one, pd.Series):
            names["its name"] = one.name, other.name
        around = [f"{about}: {_shown(a)} → {_shown(b)}" for about, (a, b) in names.items() if a != b]
        around += [f"attrs: {how}"] if (how := self._mappings(one.attrs, other.attrs)) else []
        if isinstance(one, pd.Series):
            one, other = one.to_frame("values"), other.to_frame("values")
        parts = [f"{len(one):,} → {len(other):,} rows"] if len(one) != len(other) else []
        columns = list(one.columns), list(other.columns)
        parts.append(_listed("without", [c for c in columns[0] if c not in columns[1]]))
        parts.append(_listed("with", [c for c in columns[1] if c not in columns[0]]))
        if not any(parts) and columns[0] != columns[1]:
            parts.append("its columns are in another order")
        if not parts or not any(parts):
            for place, column in enumerate(columns[0]):
                if how := self._column(one.iloc[:, place], other.iloc[:, place]):
                    parts.append(f"{column}: {how}")
            parts = [*parts[: LISTED + 2], f"{len(parts) - LISTED - 2} more columns"] if len(parts) > 5 else parts
            if not any(parts) and not one.index.equals(other.index):
                parts.append("its index is another")
        return "; ".join(part for part in [*parts, *around] if part)

    def _column(self, one: Any, other: Any) -> str:
        if str(one.dtype) != str(other.dtype):
            return f"{one.dtype} → {other.dtype}"
        a, b = one.reset_index(drop=True), other.reset_index(drop=True)
        if a.equals(b):
            return ""
        if a.dtype.kind == "O":
            return self._sequences(a.tolist(), b.tolist())
        count = int(((a != b).fillna(False) & ~(a.isna() & b.isna()) | (a.isna() != b.isna())).sum())
        return f"{count:,} of {len(a):,} values differ" if count else ""

    def _functions(self, one: Any, other: Any) -> str:
        if _code(one.__code__) != _code(other.__code__):
            return "its code is another"
        cells = [[_content(cell) for cell in f.__closure__ or ()] for f in (one, other)]
        about = [(f.__defaults__, f.__kwdefaults__, dict(f.__dict__)) for f in (one, other)]
        return self.of(*about) or self.of(*cells)

    def _classes(self, one: type, other: type) -> str:
        if one.__module__ != "__main__":
            return "" if _named(one) == _named(other) else f"{_named(one)} → {_named(other)}"
        own = [{k: v for k, v in sorted(vars(c).items()) if k not in _OF_CLASSES} for c in (one, other)]
        how = self._mappings(*own) or self._sequences(*([*map(_named, c.__mro__)] for c in (one, other)))
        return f"the class: {how}" if how else ""

    def _states(self, one: Any, other: Any) -> str:
        """By what a value is pickled from."""
        self.by_state = True
        (make, *held), (make_other, *held_other) = (_reduced(value) for value in (one, other))
        if _named(make) != _named(make_other) or len(held) != len(held_other):
            return f"{_shown(one)} → {_shown(other)}"
        # The first of what makes an object anew is its class, which is compared as such already.
        pairs = zip(map(_plain_part, held), map(_plain_part, held_other), strict=True)
        how = next((how for pair in pairs if (how := self.of(*pair))), "")
        inner = how.startswith("'_") and type(one).__module__ != "__main__"
        return f"another {type(one).__name__}" if inner else how


_OF_CLASSES = ("__dict__", "__weakref__", "__module__", "__firstlineno__", "__static_attributes__", "__doc__")


def _reduced(value: Any) -> tuple[Any, ...]:
    made = value.__reduce_ex__(4)
    return made if isinstance(made, tuple) else (made,)


def _plain_part(part: Any) -> Any:
    """Classes by their names; what comes one by one, as a list."""
    if isinstance(part, tuple):
        return tuple(_named(p) if isinstance(p, type) and p.__module__ == "__main__" else p for p in part)
    return list(part) if hasattr(part, "__next__") else part


def _code(code: types.CodeType) -> tuple[Any, ...]:
    constants = [_code(c) if isinstance(c, types.CodeType) else (type(c), c) for c in code.co_consts]
    return code.co_code, code.co_names, code.co_varnames, code.co_freevars, repr(constants)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _plainly(one: Any, other: Any) -> str:
    return "" if one == other else f"{_shown(one)} → {_shown(other)}"


def _floats(one: float, other: float) -> str:
    return "" if one == other or (math.isnan(one) and math.isnan(other)) else f"{one!r} → {other!r}"


def _sets(one: Any, other: Any) -> str:
    parts = [_listed("without", list(one - other)), _listed("with", list(other - one))]
    return "; ".join(part for part in parts if part)


def _listed(word: str, members: list[Any]) -> str:
    if not members:
        return ""
    more = f" and {len(members) - LISTED} more" if len(members) > LISTED else ""
    return f"{word} {', '.join(map(_shown, members[:LISTED]))}{more}"


def _kind(value: Any) -> str:
    return _named(type(value))


def _named(value: Any) -> str:
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__name__)}"


def _shown(value: Any) -> str:
    """A value in a few characters; of what is no plain one, its type."""
    kind = type(value)
    if kind in (list, tuple, set, frozenset, dict):
        return f"{kind.__name__} of {len(value):,}"
    if kind in (str, bytes):
        return _cut(repr(value[: SHOWN + 1]))
    if kind in (int, float, complex, bool, type(None)) or kind.__module__.split(".")[0] in COMPARED_PLAINLY:
        return _cut(repr(value) if kind is not int or value.bit_length() < 400 else "a large integer")
    shape = getattr(value, "shape", None)
    return f"{kind.__name__} {shape}" if type(shape) is tuple else kind.__name__


def _cut(text: str) -> str:
    return text if len(text) <= 3 * SHOWN else text[: 3 * SHOWN - 1] + "…"
