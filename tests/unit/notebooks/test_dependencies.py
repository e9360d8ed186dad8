"""Names that cells read, make and change."""

from __future__ import annotations

import pytest
from cellwright.notebooks.dependencies import made_from, names, slice_for


@pytest.mark.parametrize(
    ("source", "reads", "makes", "changes"),
    [
        ("import pandas as pd\ndf = pd.read_csv('a')", "", "df pd", ""),
        ("df['x'] = df.a + 1", "df", "", "df"),
        ("def f(y):\n    return y * k", "k", "f", ""),
        ("z = f(df)", "df f", "z", ""),
        ("xs.append(1)", "xs", "", "xs"),
        ("x += 1", "x", "x", ""),
        ("df.head()", "df", "", ""),
        ("df.sort_values('a', inplace=True)\ndf.head()", "df", "", "df"),
        ("%time q = w", "w", "q", ""),
        ("%%time\nq = w", "w", "q", ""),
        ("!ls\nq = 1", "", "q", ""),
        ("for i in range(3):\n    tot += i", "tot", "i tot", ""),
        ("with open('f') as fh:\n    data = fh.read()", "", "data fh", ""),
        ("try:\n    a = b\nexcept E as e:\n    a = c", "E b c", "a e", ""),
        ("gen = (i for i in range(x))", "x", "gen", ""),
        ("value = next(gen)", "gen", "value", "gen"),
        ("y = y2 = x\nx = 3", "x", "x y y2", ""),
        ("def g():\n    global k\n    k = 1", "", "g k", ""),
        ("this is no Python", "", "", ""),
        ("x = !ls\ny = len(x)", "", "x y", ""),
        ("if a:\n    %time y = 3", "a", "y", ""),
        ("process(y)", "process y", "", "y"),
        ("df.head?\nz = 1", "", "z", ""),
        ("del big\nnext(gen)\nlast = 1", "big gen", "big last", "gen"),
    ],
)
def test_names(source: str, reads: str, makes: str, changes: str) -> None:
    """What a cell takes from before it, what it assigns, and what it changes in place."""
    found = names(source)
    assert (found.reads, found.makes, found.changes) == tuple(frozenset(t.split()) for t in (reads, makes, changes))


def test_what_is_made_from_a_name() -> None:
    """Statement by statement: what a cell makes from others is not in doubt, nor what it makes anew."""
    source = "y = x + 1\nsure = k\nz = [y]\nlate = w\nw = 1\nz2 = w\nx += 1"
    assert made_from(source, {"x", "w"}) == {"y": "x", "z": "x", "late": "w", "x": "x"}
    assert made_from("np.random.shuffle(x)\nk = np.ones(3)", {"x"}) == {"x": "x"}  # The module is what it was.


def test_imports() -> None:
    """Modules by their top-level name."""
    assert names("import a.b as c\nfrom d.e import f\nfrom . import g").imports == {"a", "d"}


@pytest.mark.parametrize(
    ("cells", "wanted", "held", "chosen"),
    [
        (["x = 1", "g = make(x)", "y = 3"], "g", "x y make", [1]),
        (["x = 1", "g = make(x)", "y = 3"], "g", "y", [0, 1]),
        (["x = 1", "g = make(x)", "x = 5"], "g", "x make", [0, 1]),
        (["g = a()", "next(g)", "h = 1", "next(g)"], "g", "h a", [0, 1, 3]),
        (["g = 1", "g = 2"], "g", "", [1]),
        (["x = []", "x.append(1)\ng = iter(x)"], "g", "x", [0, 1]),
        (["x = 1", "x = x + 1\ng = iter([x])"], "g", "x", [0, 1]),
        (["g = a()", "b = 1", "del b\nnext(g)\nz = 1"], "g", "a", [0, 1, 2]),
        (["g = a()", "rest = list(g)", "h = 1"], "g", "a rest", [0, 1]),
        (["x = 1"], "unknown", "x", []),
    ],
)
def test_what_must_run_again(cells: list[str], wanted: str, held: str, chosen: list[int]) -> None:
    """The cells that made a name and what they read, but not what is there as it was."""
    assert slice_for([names(cell) for cell in cells], set(wanted.split()), set(held.split())) == chosen


@pytest.mark.parametrize(
    ("source", "makes"),
    [
        ("big = clean(big, 'c_%s'\n    % k)", {"big"}),
        ("%matplotlib inline\nx = (1\n% 2)\n!ls", {"x"}),
        ("x = 7 \\\n  % 4\n%time y = 2", {"x", "y"}),
        ("for i in y:\n    %time z = f(i)", {"i", "z"}),
    ],
)
def test_a_line_that_goes_on_is_no_magic(source: str, makes: set[str]) -> None:
    """A `%` that begins a line in the middle of an expression is an operator."""
    assert names(source).makes == makes
