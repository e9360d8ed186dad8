"""How two values differ, in words; and that equal ones do not, however they were made."""

from __future__ import annotations

import collections
import datetime as dt
import math
import pickle
import string
import types
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
import pytest
from cellwright.kernels.inside.contrast import Contrast, _apart
from hypothesis import given
from hypothesis import strategies as st

NUMBERS = pd.DataFrame({"a": [1, 2, 3], "b": [0.5, None, 1.5], "c": ["x", "y", None]})
LOOP: list[Any] = [1]
LOOP.append(LOOP)


def with_attrs(**attrs: str) -> pd.DataFrame:
    table = NUMBERS.copy()
    table.attrs.update(attrs)
    return table


def made(source: str) -> Any:
    """The `it` of a notebook's cell."""
    module = types.ModuleType("__main__")
    exec(source, module.__dict__)
    return module.it


@pytest.mark.parametrize(
    ("one", "other", "how"),
    [
        (1, 2, "1 → 2"),
        (1, 1.0, "1 → 1.0"),
        (True, 1, "True → 1"),
        ("a", "b", "'a' → 'b'"),
        ([1, 2, 3], [1, 2], "3 → 2 items"),
        ([1, 2, 3], [1, 5, 4], "2 of 3 items differ, the first at [1]: 2 → 5"),
        ({"a": 1, "b": 2}, {"a": 3, "c": 2}, "without 'b'; with 'c'; 'a': 1 → 3"),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, "its keys are in another order"),
        ({1, 2}, {2, 3}, "without 1; with 3"),
        (dt.date(2020, 1, 1), dt.date(2020, 1, 2), "datetime.date(2020, 1, 1) → datetime.date(2020, 1, 2)"),
        (np.zeros(4), np.array([0, 0, 0.5, 0]), "1 of 4 values differ, by up to 0.5"),
        (np.zeros(4), np.zeros(4, "f4"), "float64 → float32"),
        (np.zeros(4), np.zeros((2, 2)), "shape (4,) → (2, 2)"),
        (NUMBERS, NUMBERS.iloc[:2], "3 → 2 rows"),
        (NUMBERS, NUMBERS.drop(columns="b"), "without 'b'"),
        (NUMBERS, NUMBERS.assign(b=[0.5, 1, None]), "b: 2 of 3 values differ"),
        (NUMBERS, NUMBERS.assign(c=["x", "z", None]), "c: 1 of 3 items differ, the first at [1]: 'y' → 'z'"),
        (NUMBERS, NUMBERS.set_index(pd.Index([7, 8, 9])), "its index is another"),
        (NUMBERS, NUMBERS.rename_axis("id"), "the index's name: None → 'id'"),
        (NUMBERS.a, NUMBERS.a.rename("b"), "its name: 'a' → 'b'"),
        (NUMBERS, with_attrs(unit="kg"), "attrs: with 'unit'"),
        (NUMBERS.a, NUMBERS.a * 2, "values: 3 of 3 values differ"),
        (made("def it(x): return x + 1"), made("def it(x): return x + 2"), "its code is another"),
        (made("class it:\n a = 1"), made("class it:\n a = 2"), "the class: 'a': 1 → 2"),
        (made("class C:\n pass\nit = C(); it.n = 1"), made("class C:\n pass\nit = C(); it.n = 2"), "'n': 1 → 2"),
    ],
)
def test_in_words(one: Any, other: Any, how: str) -> None:
    assert Contrast().of(one, other) == how


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        [float("nan"), None],
        np.array([1, np.nan]),
        np.array(["2020", "NaT"], "M8[D]"),
        np.ma.masked_array([1, 2], [True, False]),
        np.random.default_rng(3),
        NUMBERS,
        NUMBERS.c.astype("category"),
        pd.DataFrame({"a": pd.array([1, None], "Int64"), "t": pd.to_datetime(["2020", None], utc=True)}),
        pd.Timestamp("2020", tz="UTC"),
        Path("a/b"),
        LOOP,
        made("class C:\n def f(self): return self\nit = C(); it.me = it; it.also = [it.f]"),
        made("def outer(k):\n def it(x=[1]): return x, k\n return it\nit = outer({2})"),
    ],
)
def test_a_copy_is_the_same(value: Any) -> None:
    """What was stored and came back in another process is no change."""
    assert Contrast().of(value, pickle.loads(cloudpickle.dumps(value))) == ""


class Placed:
    """Says in its state where it is."""

    def __getstate__(self) -> dict[str, int]:
        return {"at": id(self)}


def test_by_state() -> None:
    """Of a library's object no inner names are told; one that differs from its own copy cannot be compared."""
    one, other = np.random.default_rng(1), np.random.default_rng(2)
    assert "'state'" in str(_apart(one, other, math.inf))
    assert _apart(one, np.random.default_rng(1), math.inf) == ""
    assert _apart(Placed(), Placed(), math.inf) is None
    pairs = [collections.Counter("ab"), collections.Counter("ac")]
    assert _apart(pairs[0], pairs[1], math.inf)
    locks = [string.Formatter(), string.Formatter()]
    locks[0]._hidden, locks[1]._hidden = 1, 2  # type: ignore[attr-defined]
    assert _apart(locks[0], locks[1], math.inf) == "another Formatter"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES, VALUES)
def test_any_values(one: Any, other: Any) -> None:
    """Two that differ are told apart, both ways, and a copy is not."""
    text = pickle.dumps(one)
    assert Contrast().of(one, pickle.loads(text)) == ""
    differ = repr(one) != repr(pickle.loads(pickle.dumps(other)))
    zero = "-0.0" in repr((one, other))
    assert zero or bool(Contrast().of(one, other)) == bool(Contrast().of(other, one)) == differ
