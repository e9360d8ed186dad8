"""Which names a cell makes otherwise each time it runs, by its syntax: from the clock, or from chance."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from cellwright.notebooks.dependencies import USUAL, flow, statements

Source = Literal["the clock", "chance", "shared"]
"""Where a value comes from. `shared`: chance from the generators that a whole program shares, which can be seeded."""

CLOCK = {
    *("time.time", "time.time_ns", "time.perf_counter", "time.monotonic", "time.process_time", "time.ctime"),
    *("datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today", "datetime.date.today"),
    *(
        "datetime.now",
        "datetime.utcnow",
        "datetime.today",
        "date.today",
        "pandas.Timestamp.now",
        "pandas.Timestamp.today",
    ),
}
CLOCK_WITHOUT = {"time.localtime": 1, "time.gmtime": 1, "time.strftime": 2}
"""What asks the clock where it is given fewer arguments."""

CHANCE = {"uuid.uuid1", "uuid.uuid4", "os.urandom", "random.SystemRandom", "tempfile.mkdtemp", "tempfile.mkstemp"}
OWN = {"numpy.random.default_rng", "numpy.random.RandomState", "random.Random", "numpy.random.SeedSequence"}
"""Generators of one's own: from chance where they are given no seed."""

SEEDS = {"random.seed", "numpy.random.seed", "random.setstate", "numpy.random.set_state"}
STEADY = {"getstate", "get_state", "Generator", "PCG64", "MT19937", "Philox", "SFC64", "BitGenerator"}
DRAWING = {"sample", "train_test_split", "shuffle", "resample", "permutation_importance"}
"""Called without `random_state` they draw from the shared generators."""


DEFINES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
EMPTY: Mapping[str, str] = MappingProxyType({})
EMPTY_CODE: Mapping[str, Sequence[ast.stmt]] = MappingProxyType({})


@dataclass(frozen=True)
class Drawn:
    """Names that a cell makes otherwise each time, and from what; and whether it `seeds` what is shared."""

    names: dict[str, Source] = field(default_factory=dict)
    seeds: bool = False


def imported(source: str) -> dict[str, str]:
    """What the names that a cell imports stand for: `np` for `numpy`, `now` for `time.time`."""
    known: dict[str, str] = {}
    for statement, _ in statements(source):
        for node in ast.walk(statement):
            match node:
                case ast.Import(names=aliases):
                    known |= {alias.asname: alias.name for alias in aliases if alias.asname}
                case ast.ImportFrom(module=str(module), names=aliases):
                    known |= {alias.asname or alias.name: f"{module}.{alias.name}" for alias in aliases}
    return known


def reads_the_clock(source: str, known: Mapping[str, str], code: Mapping[str, Sequence[ast.stmt]] = EMPTY_CODE) -> bool:
    """Whether a cell asks what time it is; `known` is what earlier cells imported, `code` what it calls of theirs."""
    known = {**USUAL, **known, **imported(source)}
    runs = [*(statement for statement, _ in statements(source)), *(part for parts in code.values() for part in parts)]
    calls = [node for statement in runs for node in ast.walk(statement) if isinstance(node, ast.Call)]
    return any(_asks_the_clock(call, _called(call.func, known)) for call in calls)


def _asks_the_clock(call: ast.Call, name: str) -> bool:
    return name in CLOCK or len(call.args) < CLOCK_WITHOUT.get(name, 0)


def drawn(source: str, known: Mapping[str, str] = EMPTY, code: Mapping[str, Sequence[ast.stmt]] = EMPTY_CODE) -> Drawn:
    """What of a cell comes from the clock or from chance; nothing where it is not Python.

    `known` is what earlier cells have imported, `code` what they have defined and this one calls, by name.
    """
    cell = statements(source)
    known = {**USUAL, **known, **imported(source)}
    seeded = False

    def brings(statement: ast.stmt) -> Source | None:
        nonlocal seeded
        mentioned = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
        runs = (statement, *(part for name in sorted(mentioned & code.keys()) for part in code[name]))
        calls = [node for run in runs for node in ast.walk(run) if isinstance(node, ast.Call)]
        seeded = seeded or any(_called(call.func, known) in SEEDS for call in calls)
        found = (told for call in calls for told in _sources(call, known))
        return next((told for told in found if not (told == "shared" and seeded)), None)

    found: dict[str, Source] = flow(cell, {}, brings)
    # What draws when it is called is not drawn itself.
    defined = {node.name for node, _ in cell if isinstance(node, DEFINES) and not node.decorator_list}
    made = {name for node, looked in cell if not isinstance(node, DEFINES) for name in looked.touches}
    return Drawn({name: whence for name, whence in found.items() if name not in defined - made}, seeded)


def _sources(call: ast.Call, known: Mapping[str, str]) -> Iterator[Source]:
    name = _called(call.func, known)
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    unseeded = not given or all(isinstance(value, ast.Constant) and value.value is None for value in given)
    method = name.rpartition(".")[2]
    if _asks_the_clock(call, name):
        yield "the clock"
    elif name in CHANCE or name.startswith("secrets.") or (name in OWN and unseeded):
        yield "chance"
    elif name.startswith(("random.", "numpy.random.")):
        if name not in OWN | SEEDS and method not in STEADY:
            yield "shared"
    elif method in DRAWING and not any(keyword.arg == "random_state" for keyword in call.keywords):
        yield "shared"


def _called(node: ast.AST, known: Mapping[str, str]) -> str:
    """`numpy.random.rand` for `np.random.rand`; what is called on a value begins with a point."""
    match node:
        case ast.Name(id=name):
            return known.get(name, name)
        case ast.Attribute(value=value, attr=attribute):
            return f"{_called(value, known)}.{attribute}"
    return ""
