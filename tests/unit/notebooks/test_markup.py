"""What a reader sees of HTML."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from cellwright.notebooks.markup import aligned, read


def seen(markup: str) -> list[str]:
    lines, _ = read(markup)
    return aligned(lines)[0]


def test_a_table_of_pandas() -> None:
    """Its rows are lines, the columns below each other as pandas prints them."""
    frame = pd.DataFrame({"kind": ["owl", "albatross"], "mass": [0.5, 12.25]})
    lines, head = read(frame._repr_html_())  # type: ignore[operator]
    assert head == ["", "kind", "mass"]
    assert aligned(lines) == [["        kind   mass", "0        owl   0.50", "1  albatross  12.25"]]


def test_a_cell_over_several_rows() -> None:
    """What is below it stands in its own columns."""
    index = pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)], names=["one", "two"])
    lines, head = read(pd.DataFrame({"n": [7, 8, 9]}, index=index)._repr_html_())  # type: ignore[operator]
    assert head == ["one", "two", ""]
    assert lines == [["", "", "n"], ["one", "two", ""], ["a", "1", "7"], ["", "2", "8"], ["b", "1", "9"]]


@pytest.mark.parametrize(
    ("markup", "lines"),
    [
        ("<p>one<br>two <b>three</b></p>four", ["one", "two three", "four"]),
        ("<style>p { color: red }</style><script>x()</script>seen", ["seen"]),
        ("<pre>a\n  b</pre>c", ["a", "b", "c"]),
        ("<table><tr><td>a<div>b</div>c<td>d</table>e", ["a b c  d", "e"]),
        ("<table><tr><td>a<table><tr><td>b</td></tr></table></td></tr></table>", ["a", "b"]),
        ("<table><tr><td colspan='2'>a</td><td>b</td></tr></table>", ["a    b"]),
        ("<table><td rowspan=9999999999999999999999 colspan=-1>a", ["a"]),
        ("<table><td rowspan='²'>a", ["a"]),
        ("a &lt;b&gt; &amp;c", ["a <b> &c"]),
        ("<![<a ", []),
        ("", []),
    ],
)
def test_any_markup(markup: str, lines: list[str]) -> None:
    """Also what is not well formed."""
    assert seen(markup) == lines


def test_two_pages_are_aligned_with_each_other() -> None:
    """So that a line that is the same in both reads the same."""
    row = "<table><tr><td>a</td><td>{}</td></tr><tr><td>b</td><td>1</td></tr></table>"
    old, new = (read(row.format(value))[0] for value in ("2", "long"))
    assert aligned(old, new) == [["a     2", "b     1"], ["a  long", "b     1"]]


def test_long_cells_are_cut() -> None:
    cell: Any = seen(f"<table><td>{'x' * 1_000}</td><td>y</td></table>")
    assert cell == ["x" * 59 + "…  y"]
