"""What cells come to by way of what earlier ones defined."""

from __future__ import annotations

import pytest
from cellwright.notebooks.chance import drawn, imported, reads_the_clock
from cellwright.notebooks.reach import Reach, Reached

DEFINES = """import random, time
def bump():
    global n
    n += 1
    rows.append(n)
def twice():
    bump(); bump()
def noise(): return random.random()
def now(): return time.time()
class Counter:
    def go(self): self.n = 1
later = (bump() for _ in range(3))
other = bump
if True:
    def inner(): bump()
def seed(): random.seed(0)
class Dice:
    def throw(self): return random.random()
dice = Dice()
mine = Counter()
"""


def after(*sources: str) -> Reached:
    reach = Reach()
    return [reach.of(source) for source in sources][-1]


@pytest.mark.parametrize(
    "source", ["x = bump()", "x = [bump() for _ in y]", "twice()", "x = next(later)", "f = bump", "other()", "inner()"]
)
def test_what_a_function_changes(source: str) -> None:
    """Whoever mentions it may change that, by way of others too."""
    found = after(DEFINES, source).names
    assert {"n", "rows"} <= found.changes
    assert {"n", "rows"} <= found.reads


def test_an_object_of_ones_own() -> None:
    """Any method of it may change it; of a library's object only those that say so."""
    assert "mine" in after(DEFINES, "x = mine.go()").names.changes
    assert "rng" in after("import numpy as np\nrng = np.random.default_rng(1)", "x = rng.random()").names.changes
    assert "df" not in after("import pandas as pd\ndf = pd.DataFrame()", "x = df.mean()").names.changes


def test_a_name_that_means_something_else_by_now() -> None:
    """What was defined before counts no more."""
    assert "n" not in after(DEFINES, "bump = print", "bump()").names.touches
    assert "mine" not in after(DEFINES, "mine = [1]", "x = mine.count(1)").names.changes


def test_where_a_value_comes_from() -> None:
    """Chance and the clock are seen in functions, too, and only where one is called."""
    known = imported(DEFINES)
    for source, names in (
        ("x = noise()\ny = twice()", {"x": "shared"}),
        ("t = now()", {"t": "the clock"}),
        ("z = 1", {}),
        ("x = dice.throw()", {"x": "shared", "dice": "shared"}),
        ("x = noise()\nseed()\ny = noise()", {"x": "shared"}),
    ):
        assert drawn(source, known, after(DEFINES, source).code).names == names
    assert reads_the_clock("now()", known, after(DEFINES, "now()").code)
    assert not reads_the_clock("noise()", known, after(DEFINES, "noise()").code)
