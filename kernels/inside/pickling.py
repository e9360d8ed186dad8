"""How variables become pickles: by value what the notebook made, and shared what two of them hold in common.

Stands alone, as `checkpoint` does, with which it is sent.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import enum
import functools
import logging
import mmap
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

try:
    from cloudpickle import Pickler as _BasePickler
except ImportError:  # Functions and classes of the notebook are then skipped, and named.
    from pickle import Pickler as _BasePickler

FRAME_BYTES = 1 << 20
"""Tables of at least this size become pickles of their own, so that they are shared between checkpoints."""

SHELL = "__import__('IPython').get_ipython()"


_CACHING = type(functools.lru_cache(len))


class _Reference:
    """Pickles as an expression that is evaluated in the kernel that reads it."""

    def __init__(self, expression: str) -> None:
        self._expression = expression

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (self._expression,)


Views = dict[int, tuple[Any, ...]]
"""Arrays by their ids, and what makes them anew as views of shared memory: shape, type, memory, place in it, steps."""


class Pickler(_BasePickler):
    """Keeps the notebook's functions bound to its namespace, and large tables as parts of their own.

    `buffer` takes a large buffer, or says that it is to stay; `part` gives the number of the part that holds a large
    table, but for the `whole` that this one is; `portable` tells a path as `cellwright_place` reads it elsewhere.
    """

    def __init__(
        self,
        file: Any,
        names: dict[str, Any],
        buffer: Callable[[Any], bool],
        part: Callable[[Any], int] | None = None,
        whole: Any = None,
        views: Views | None = None,
        *,
        portable: Callable[[str], Any],
    ) -> None:
        super().__init__(file, protocol=5, buffer_callback=buffer)
        self._names, self._part, self._whole, self._views = names, part, whole, views or {}
        self._portable = portable
        self._cells: dict[int, types.CellType] = {}

    def reducer_override(self, value: Any) -> Any:
        if self._part is not None and value is not self._whole and _is_large_frame(value):
            return eval, (f"{SHELL}.cellwright_part({self._part(value)})",)
        if id(value) in self._views:
            return type(value), self._views[id(value)]
        if type(value) is _CACHING and not _is_library(value):
            # By its name it would be looked for where it is not yet. What it remembers is not kept.
            about = value.cache_parameters()
            return _CACHING, (value.__wrapped__, about["maxsize"], about["typed"], functools._CacheInfo), vars(value)
        if type(value) is functools.cached_property:  # Python 3.11's holds a lock, and no class with one would pickle.
            return functools.cached_property, (value.func,), {"attrname": value.attrname, "__doc__": value.__doc__}
        numpy = sys.modules.get("numpy")
        if numpy is not None and type(value) is numpy.memmap and type(value.base) is mmap.mmap and value.filename:
            mode = "r+" if value.mode == "w+" else value.mode
            order = "C" if value.flags.c_contiguous else "F"
            path, opened = self._mapped(str(value.filename), mode)
            return numpy.memmap, (path, value.dtype, opened, value.offset, value.shape, order)
        if value is sys.stdout or value is sys.stderr:
            return eval, (f"__import__('sys').{'stdout' if value is sys.stdout else 'stderr'}",)
        if type(value) in (logging.FileHandler, logging.StreamHandler):
            how = {name: held for name, held in vars(value).items() if name in ("level", "formatter", "filters")}
            if type(value) is logging.StreamHandler:
                return logging.StreamHandler, (value.stream,), how
            # What it wrote stands in the file: it goes on behind that.
            return logging.FileHandler, (self._path(value.baseFilename), "a", value.encoding, True), how
        inherited = getattr(super(), "reducer_override", None)
        reduced = NotImplemented if inherited is None else inherited(value)
        if type(value) is types.FunctionType and isinstance(reduced, tuple):
            return self._rebound(value, self._closed(value, reduced))
        return reduced

    def _mapped(self, path: str, mode: str) -> tuple[_Reference, _Reference]:
        """A file that is mapped, and how: one that was too large to come along is read where it is, and not written."""
        told = self._portable(path)
        here = f"{SHELL}.cellwright_place({told!r})"
        there = f"__import__('os').path.exists({here})"
        return _Reference(f"{here} if {there} else {path!r}"), _Reference(f"{mode!r} if {there} else 'c'")

    def _path(self, path: Any) -> _Reference:
        """A file's path, which is another in another session's folder."""
        return _Reference(f"{SHELL}.cellwright_place({self._portable(str(path))!r})")

    def _closed(self, function: types.FunctionType, reduced: tuple[Any, ...]) -> tuple[Any, ...]:
        """cloudpickle gives each function cells of its own; those over one variable are meant to share it."""
        if not function.__closure__ or len(reduced) < 2:
            return reduced
        make, (*arguments, _), *rest = reduced
        cells = tuple(self._cells.setdefault(id(cell), types.CellType()) for cell in function.__closure__)
        return (make, (*arguments, cells), *rest)

    def _rebound(self, function: types.FunctionType, reduced: tuple[Any, ...]) -> tuple[Any, ...]:
        """cloudpickle gives a function a private copy of its globals; the notebook's own are meant to be shared."""
        if function.__globals__ is not self._names or len(reduced) < 3 or not isinstance(reduced[2], tuple):
            return reduced
        make, arguments, (state, slots), *rest = reduced
        arguments = tuple(
            _Reference(f"{SHELL}.user_ns") if type(argument) is dict and position == 1 else argument
            for position, argument in enumerate(arguments)
        )
        return (make, arguments, (state, {**slots, "__globals__": {}}), *rest)


def _is_library(function: Any) -> bool:
    """Whether a function is there by its name wherever its module is."""
    module = sys.modules.get(getattr(function, "__module__", "") or "")
    name = getattr(function, "__name__", "")
    return module is not sys.modules["__main__"] and getattr(module, name, None) is function


def _is_frame(value: Any) -> bool:
    kind = type(value)
    return kind.__name__ in ("DataFrame", "Series") and kind.__module__.split(".")[0] == "pandas"


def _is_large_frame(value: Any) -> bool:
    return _is_frame(value) and estimate(value) >= FRAME_BYTES


def estimate(value: Any) -> int:
    """About how many bytes of data a value holds, without a look into it."""
    try:
        if _is_frame(value):
            used = value.memory_usage(index=True, deep=False)
            return int(used.sum() if hasattr(used, "sum") else used)
        size = getattr(value, "nbytes", None)
        return size if type(size) is int else sys.getsizeof(value, 0)
    except Exception:  # A user's class may raise anything when it is asked.
        return 0


def root_of(value: Any) -> Any:
    """The array whose memory an array is a view of, itself or another; None for what is none, or is no plain one.

    What pandas holds is not looked at: its tables copy what they share, when one of them is written to.
    """
    numpy = sys.modules.get("numpy")
    if numpy is None or type(value) is not numpy.ndarray or value.dtype.hasobject or not value.flags.writeable:
        return None
    while type(value.base) is numpy.ndarray:
        value = value.base
    plain = value.flags.c_contiguous or value.flags.f_contiguous
    return value if plain and value.flags.writeable and not value.dtype.hasobject else None


def views_of(values: Iterable[Any]) -> Views:
    """Those arrays that share their memory with others of these."""
    of: dict[int, tuple[Any, dict[int, Any]]] = {}
    for value in values:
        if (root := root_of(value)) is not None:
            of.setdefault(id(root), (root, {}))[1][id(value)] = value
    found: Views = {}
    for root, arrays in of.values():
        # Not a large array for two of its rows: together they take as much as it does.
        if len(arrays) > 1 and (id(root) in arrays or sum(a.nbytes for a in arrays.values()) >= root.nbytes):
            memory = root.ravel(order="K").view("u1")
            begin = memory.ctypes.data
            for array in arrays.values():
                place = array.ctypes.data - begin
                found[id(array)] = (array.shape, array.dtype, memory, place, array.strides)
    return found


TRACKERS = ("_DYNAMIC_CLASS_TRACKER_BY_ID", "_DYNAMIC_CLASS_TRACKER_BY_CLASS")
"""Where cloudpickle notes classes that it has pickled or made."""

NEVER_SHARED = {
    *(bool, bytes, complex, float, frozenset, int, str, tuple, type(None), types.BuiltinFunctionType, types.CodeType),
    types.ModuleType,
    _Reference,
}


def shareable(memo: dict[int, tuple[int, Any]]) -> list[Any]:
    """What of the pickled objects two variables would notice if each had one of its own."""
    by_name: tuple[type, ...] = (dt.tzinfo, enum.Enum, logging.Logger)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        by_name += (numpy.dtype, numpy.ufunc)
    held = [one for _, one in memo.values()]
    kinds = {*map(type, held)}
    never = {kind for kind in kinds if kind in NEVER_SHARED or issubclass(kind, by_name)}
    named = {kind for kind in kinds if kind is types.FunctionType or issubclass(kind, type)}  # If they are a module's.
    return [
        one for one in held if (kind := type(one)) not in never and (kind not in named or one.__module__ == "__main__")
    ]


@contextlib.contextmanager
def classes_of_its_own() -> Iterator[None]:
    """What is read within makes its classes anew: cloudpickle would take, and change, those that are alive."""
    try:
        from cloudpickle import cloudpickle
    except ImportError:
        yield
        return
    alive = {name: getattr(cloudpickle, name) for name in TRACKERS if hasattr(cloudpickle, name)}
    try:
        for name, tracker in alive.items():
            setattr(cloudpickle, name, type(tracker)())
        yield
    finally:
        for name, tracker in alive.items():
            setattr(cloudpickle, name, tracker)
