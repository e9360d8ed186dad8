"""Saves a namespace and brings it back: each variable is probed, then those that hold something in common are pickled
together, so that it is one thing again, and one that cannot be read there takes only these along.

Objects are files named by the SHA-256 of their content, so what did not change is written once over any number of
checkpoints. Stands alone (standard library, and cloudpickle where it is installed): its source is sent to the kernel,
so that kernels without Cellwright, and those that an older version started, can be saved too.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import gc
import hashlib
import importlib
import io
import json
import mmap
import os
import pickle
import random
import re
import shutil
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

if "surroundings" not in globals():  # Sent along with this source to kernels where Cellwright is not installed.
    from cellwright.kernels.inside import pickling, surroundings

FORMAT = 2
BUFFER_BYTES = 1 << 16
"""Buffers of at least this size become objects of their own."""

READ_BACK_BYTES = 1 << 20
ATOMS = (int, float, complex, bool, str, bytes, type(None))
PLAIN = ("builtins", "numpy", "pandas", "datetime", "collections", "decimal", "fractions", "pathlib", "types")
"""Modules whose values are trusted to be read back; one of another's is tried."""

OF_IPYTHON = re.compile(r"_(|_|__|i|ii|iii|ih|oh|dh|i?\d+|exit_code)|__\w+__|In|Out|get_ipython|exit|quit|open")
"""Names that IPython makes."""

STATE = "the random generators' state"
SETTING_BYTES = 1 << 20
"""The most that one setting may take."""


def _shell() -> Any:
    from IPython import get_ipython

    return get_ipython()


def _user_names(shell: Any) -> dict[str, Any]:
    hidden = shell.user_ns_hidden
    return {
        name: value
        for name, value in list(shell.user_ns.items())
        if not OF_IPYTHON.fullmatch(name) and not (name in hidden and hidden[name] is value)
    }


class _Objects:
    """Writes content-named files into a folder, those that are known already excepted."""

    def __init__(self, folder: str, known: set[str]) -> None:
        self._folder, self._known = folder, known
        self.sizes: dict[str, int] = {}
        self.written: set[str] = set()

    def add(self, data: Any) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        self.sizes[sha256] = memoryview(data).nbytes
        if sha256 not in self._known and sha256 not in self.written:
            with open(os.path.join(self._folder, sha256), "wb") as file:
                file.write(data)
            self.written.add(sha256)
        return sha256


class _TooLarge(Exception):
    pass


class _OverBudget(Exception):
    pass


class _Counter(io.RawIOBase):
    """Takes what is pickled; keeps the first bytes of it, and refuses more than the limit."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self.count = 0
        self.kept: list[bytes] | None = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self.take(size)
        if self.kept is not None:
            self.kept.append(bytes(data))
        return size

    def take(self, size: int) -> None:
        self.count += size
        if self.count > READ_BACK_BYTES:
            self.kept = None
        if self._limit is not None and self.count > self._limit:
            raise _TooLarge


class _Saver:
    def __init__(self, shell: Any, objects: _Objects, limit: int | None, budget: int | None) -> None:
        self.shell, self._objects, self._limit, self._left = shell, objects, limit, budget
        self._names = shell.user_ns
        self.parts: list[dict[str, Any]] = []
        self._part_of: dict[int, int] = {}
        self._alive: list[Any] = []
        self._mentioned = self._partial = False
        self._held: dict[str, list[Any]] = {}
        self._met: set[int] = set()
        """Parts that what was pickled last mentions."""

    def part(self, frame: Any) -> int:
        """The number of the part that holds a table, pickled on its first mention."""
        self._mentioned = True
        self._met.add(self._part_of.get(id(frame), len(self.parts)))
        if id(frame) not in self._part_of:
            self._spend(pickling.estimate(frame))
            self._part_of[id(frame)] = len(self.parts)
            self.parts.append({})
            self._alive.append(frame)
            self.parts[self._part_of[id(frame)]] = self._pickled(frame, whole=frame)
        return self._part_of[id(frame)]

    def _spend(self, size: int) -> None:
        if self._left is not None:
            if size > self._left:
                raise _OverBudget
            self._left -= size

    def _pickler(self, file: Any, buffer: Callable[[Any], bool], *parts: Any) -> Any:
        return pickling.Pickler(file, self._names, buffer, *parts, portable=surroundings.portable)

    def probe(self, name: str, value: Any) -> None:
        """Pickles a value into nothing, and notes what it holds; raises whatever stands in the way."""
        limits = [most for most in (self._limit, self._left) if most is not None]
        counter = _Counter(min(limits, default=None))
        buffers: list[pickle.PickleBuffer] = []

        def out_of_band(buffer: pickle.PickleBuffer) -> bool:
            if buffer.raw().nbytes < BUFFER_BYTES:
                return True
            counter.take(buffer.raw().nbytes)
            buffers.append(buffer)
            return False

        self._mentioned = False
        pickler = self._pickler(counter, out_of_band, self.part)
        try:
            pickler.dump(value)
        except _TooLarge:
            if self._limit is None or counter.count <= self._limit:
                raise _OverBudget from None
            raise
        self._spend(counter.count)
        held = pickling.shareable(pickler.memo.copy())
        kinds = {type(value), *map(type, held)}
        tried = not self._mentioned and any(kind.__module__.split(".")[0] not in PLAIN for kind in kinds)
        if tried and counter.kept is not None:
            try:
                with pickling.classes_of_its_own():
                    pickle.loads(b"".join(counter.kept), buffers=buffers)  # noqa: S301 (just made here)
            except Exception as error:
                raise pickle.PicklingError(f"it cannot be read back: {type(error).__name__}: {error}") from error
        self._held[name] = held if (root := pickling.root_of(value)) is None else [*held, root]

    def _groups(self, names: Iterable[str]) -> list[list[str]]:
        """Names of variables that hold something in common, together; those that hold nothing, in the first."""
        found: dict[str, list[str]] = {}
        of: dict[int, list[str]] = {}
        plain: list[str] = []
        for name in names:
            held = {*map(id, self._held.get(name, ()))}
            group = found[name] = [name] if held else plain
            if group is plain:
                plain.append(name)
            for common in held & of.keys():
                other = of[common]
                while other is not found[other[0]]:  # It went into another meanwhile.
                    other = found[other[0]]
                if other is not group:
                    small, group = sorted((other, group), key=len)
                    group += small
                    found.update(dict.fromkeys(small, group))
            of.update(dict.fromkeys(held, group))
        return list({id(group): group for group in (plain, *found.values()) if group}.values())

    def _pickled(self, value: Any, whole: Any = None) -> dict[str, Any]:
        file = io.BytesIO()
        buffers = self._written(file, value, whole)
        return {"pickle": self._objects.add(file.getbuffer()), "buffers": buffers}

    def _written(
        self, file: io.BytesIO, value: Any, whole: Any = None, views: pickling.Views | None = None
    ) -> list[str]:
        """Pickles a value to the end of a file; returns the names of its large buffers."""
        buffers: list[str] = []

        def out_of_band(buffer: pickle.PickleBuffer) -> bool:
            raw = buffer.raw()
            if raw.nbytes < BUFFER_BYTES:
                return True
            buffers.append(self._objects.add(raw))
            return False

        self._pickler(file, out_of_band, self.part, whole, views).dump(value)
        return buffers

    def _main(self, good: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
        """All variables in one file, a pickle for each group, and the state behind them."""
        file = io.BytesIO()
        groups = []
        for names in self._groups(good):
            at = file.tell()
            self._met = set()
            variables = {name: good[name] for name in names}
            buffers = self._written(file, {"variables": variables}, views=pickling.views_of(variables.values()))
            met = sorted(self._met)
            with file.getbuffer() as whole, whole[at:] as written:
                digest = _digest(written, buffers, [self.parts[number] for number in met])
            alone = {name: self._digest_alone(good[name]) for name in names if not self._held.get(name)}
            groups.append(
                {"at": at, "names": names, "buffers": buffers, "parts": met, "digest": digest, "alone": alone}
            )
        at = file.tell()
        buffers = self._written(file, {"state": state})
        sha256 = self._objects.add(file.getbuffer())
        return {"pickle": sha256, "groups": groups, "state": {"at": at, "buffers": buffers}}

    def _digest_alone(self, value: Any) -> str | None:
        """By what a value that holds nothing in common with others is known; None where that would cost too much."""
        if pickling.estimate(value) > BUFFER_BYTES:
            return None
        file = io.BytesIO()
        self._pickler(file, lambda _buffer: True, self.part).dump(value)
        return _digest(file.getvalue(), [], [])

    def _settings(self) -> tuple[dict[str, dict[str, bytes]], list[dict[str, str]]]:
        """Settings that cells changed, each a pickle of its own; and those that cannot be stored, with the reason."""
        found: dict[str, dict[str, bytes]] = {}
        unset = []
        for kind, values in surroundings.changed().items():
            for key, value in values.items():
                file = _Counter(SETTING_BYTES)
                try:
                    self._pickler(file, lambda _buffer: True).dump(value)
                    found.setdefault(kind, {})[key] = b"".join(file.kept or [])
                except _TooLarge:
                    reason = f"larger than {SETTING_BYTES:,} bytes"
                    unset.append({"name": surroundings.called(kind, key), "reason": reason})
                except Exception as error:
                    unset.append({"name": surroundings.called(kind, key), "reason": _reason(error)})
        return found, unset

    def save(self) -> dict[str, Any]:
        surroundings.begin()
        good: dict[str, Any] = {}
        modules: dict[str, str] = {}
        skipped: list[dict[str, str]] = []
        found = _user_names(self.shell)
        # The smallest first: what a budget cannot hold is named, and made again by its cells.
        for name, value in sorted(found.items(), key=lambda pair: pickling.estimate(pair[1])):
            if type(value) is types.ModuleType:
                modules[name] = value.__name__
                continue
            try:
                if type(value) not in ATOMS:
                    self.probe(name, value)
            except _OverBudget:
                self._partial = True
                skipped.append(_skipped(name, value, "too large to be stored after each turn"))
                continue
            except _TooLarge:
                skipped.append(_skipped(name, value, f"larger than {self._limit:,} bytes"))
                continue
            except Exception as error:
                skipped.append(_skipped(name, value, _reason(error)))
                continue
            good[name] = value
        good = {name: good[name] for name in found if name in good}
        kept = [{"name": name, "type": type(value).__name__} for name, value in good.items()]
        numpy = sys.modules.get("numpy")
        settings, unset = self._settings()
        state = {
            "execution_count": self.shell.execution_count,
            "random": random.getstate(),
            "numpy": pickle.dumps(numpy.random.get_state(legacy=False)) if numpy is not None else None,
            "settings": settings,
            "unset": unset,
        }
        main, cwd = self._main(good, state), _cwd()
        return {
            "format": FORMAT,
            "python": ".".join(map(str, sys.version_info[:2])),
            "cwd": None if cwd is None else surroundings.portable(cwd),
            "main": main,
            "parts": self.parts,
            "modules": modules,
            "kept": kept,
            "skipped": skipped,
            "partial": self._partial,
            "sizes": self._objects.sizes,
            "written": sorted(self._objects.written),
        }


def _digest(data: Any, buffers: list[str], parts: list[dict[str, Any]]) -> str:
    """What variables are known by as long as they hold the same."""
    known = hashlib.sha256(data)
    known.update(json.dumps([buffers, parts]).encode())
    return known.hexdigest()[:32]


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """While hundreds of thousands of objects are made on purpose, Python would look for garbage among them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _skipped(name: str, value: Any, reason: str) -> dict[str, str]:
    return {"name": name, "type": type(value).__name__, "reason": reason}


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]


def _cwd() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None


def save(folder: str, known: list[str], limit: int | None = None, budget: int | None = None) -> dict[str, Any]:
    """Writes what of the namespace can be saved; returns the manifest, which names every object.

    `known` are objects that need not be written; `limit` is the most that one variable may take, in bytes, `budget` all
    of them: the largest are left out where it is passed.
    """
    began = time.perf_counter()
    os.makedirs(folder, mode=0o700, exist_ok=True)
    with _without_collection():
        manifest = _Saver(_shell(), _Objects(folder, set(known)), limit, budget).save()
    manifest["seconds"] = round(time.perf_counter() - began, 4)
    return manifest


def restore(folder: str, manifest: dict[str, Any], names: list[str] | None = None, rest: bool = True) -> dict[str, Any]:
    """Puts saved variables into the namespace, all or those named; returns what was brought back and what was not.

    The `rest` is what is no variable: settings, the state of the random generators, the working directory, the cells'
    count.

    Large buffers are mapped copy-on-write: a gigabyte is there at once, and read when it is used.
    """
    shell = _shell()
    surroundings.begin()
    failed: list[dict[str, str]] = []
    parts: dict[int, Any] = {}

    def load(part: dict[str, Any], at: int = 0) -> Any:
        with open(os.path.join(folder, part["pickle"]), "rb") as file:
            file.seek(at)
            buffers = [_mapped(os.path.join(folder, sha256)) for sha256 in part["buffers"]]
            return pickle.load(file, buffers=buffers)  # noqa: S301 (in a kernel, which runs the user's code anyway)

    def cellwright_part(number: int) -> Any:
        if number not in parts:
            parts[number] = load(manifest["parts"][number])
        return parts[number]

    main = manifest["main"]
    state: dict[str, Any] = {}
    restored: list[str] = []
    shell.cellwright_part = cellwright_part
    try:
        if rest:
            about = main.get("state") or {"at": 0, "buffers": main["buffers"]}
            try:
                state = load({"pickle": main["pickle"], **about}, about["at"])["state"]
            except Exception as error:
                failed.append({"name": STATE, "reason": _reason(error)})
            _surround(shell, state, manifest.get("cwd"), surroundings.put_places)  # Modules are found by it.
        for name, module in manifest["modules"].items():
            if names is None or name in names:
                try:
                    shell.user_ns[name] = importlib.import_module(module)
                except Exception as error:
                    failed.append({"name": name, "reason": _reason(error)})
        pending = [group for group in _groups_of(manifest) if names is None or not {*names}.isdisjoint(group["names"])]
        while pending:
            lost = []
            for group in pending:
                try:
                    told = load({"pickle": main["pickle"], **group}, group["at"])
                except Exception as error:
                    lost.append((group, _reason(error)))
                    continue
                found = {name: value for name, value in told["variables"].items() if names is None or name in names}
                shell.user_ns.update(found)
                restored += found
            if len(lost) == len(pending):
                failed += [
                    {"name": name, "reason": reason}
                    for group, reason in lost
                    for name in group["names"]
                    if names is None or name in names
                ]
                break
            pending = [group for group, _ in lost]  # It may want a name that has come only now.
    finally:
        del shell.cellwright_part
    if state:
        failed += _surround(shell, state, manifest.get("cwd"), surroundings.put)
        try:
            _put_back(shell, state)
        except Exception as error:  # Another version of Python's, or of NumPy's.
            failed.append({"name": STATE, "reason": _reason(error)})
    return {"restored": restored, "failed": failed}


def _groups_of(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """The parts of the main pickle; a format 1 has one."""
    whole = {"at": 0, "names": [kept["name"] for kept in manifest["kept"]], "buffers": manifest["main"].get("buffers")}
    return list(manifest["main"].get("groups", [whole]))


def _mapped(path: str) -> mmap.mmap:
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)


def _surround(
    shell: Any, state: dict[str, Any], cwd: Any, put: Callable[[dict[str, Any]], list[dict[str, str]]]
) -> list[dict[str, str]]:
    """Goes to the working directory, and puts settings back; returns those that could not be, with the reason.

    What was read from a pickle once is not read again: a filter of warnings is over the class that is alive.
    """
    if cwd is not None:
        with contextlib.suppress(OSError):
            os.chdir(surroundings.place(cwd))
    if "settings" not in state:  # An older version stored it.
        return []
    known: dict[bytes, Any] = getattr(shell, "cellwright_settings", {})
    shell.cellwright_settings = now = {}
    told: dict[str, dict[str, Any]] = {}
    failed = list(state["unset"])
    for kind, values in state["settings"].items():
        for key, pickled in values.items():
            try:
                now[pickled] = known[pickled] if pickled in known else pickle.loads(pickled)  # noqa: S301 (as above)
                told.setdefault(kind, {})[key] = copy.deepcopy(now[pickled])
            except Exception as error:
                failed.append({"name": surroundings.called(kind, key), "reason": _reason(error)})
    return failed + put(told)


def _put_back(shell: Any, state: dict[str, Any]) -> None:
    count = state.get("execution_count", shell.execution_count)
    if count < shell.execution_count:
        with contextlib.suppress(Exception):  # IPython's history takes each line of a session once.
            shell.history_manager.writeout_cache()
            shell.history_manager.new_session()
    shell.execution_count = count
    random.setstate(state["random"])
    drawn = state["numpy"]
    if drawn is not None:
        drawn = pickle.loads(drawn) if type(drawn) is bytes else drawn  # noqa: S301 (as above)
        importlib.import_module("numpy").random.set_state(drawn)


# -- how the server asks, in JSON; `user_expressions` carry it -------------------------------------------------------


def call(request: str) -> str:
    """Does what a request says: `{"do": "save" | "restore" | "read" | "write" | "temporary" | "remove", …}`."""
    asked = json.loads(request)
    do = asked.pop("do")
    if do == "save":
        return json.dumps(save(**asked))
    if do == "restore":
        return json.dumps(restore(**asked))
    if do == "temporary":
        return json.dumps(tempfile.mkdtemp(prefix="checkpoint-"))
    if do == "remove":
        shutil.rmtree(asked["folder"], ignore_errors=True)
        return json.dumps(None)
    if do == "read":
        with open(os.path.join(asked["folder"], asked["name"]), "rb") as file:
            file.seek(asked["start"])
            return json.dumps(base64.b64encode(file.read(asked["length"])).decode())
    if do == "write":
        with open(os.path.join(asked["folder"], asked["name"]), "ab") as file:
            file.write(base64.b64decode(asked["data"]))
        return json.dumps(None)
    raise ValueError(do)
