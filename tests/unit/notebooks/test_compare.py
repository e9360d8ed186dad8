"""Two runs of a cell beside each other."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

import pytest
from cellwright.notebooks.compare import close, compare, figures, overlay, texts, worst
from cellwright.notebooks.document import Cell, CellId
from cellwright.notebooks.replay import counted, judge, skipped


def printed(text: str, name: str = "stdout") -> list[dict[str, Any]]:
    return [{"output_type": "stream", "name": name, "text": text}]


def shown(**data: Any) -> list[dict[str, Any]]:
    named = {name.replace("_", "/"): value for name, value in data.items()}
    return [{"output_type": "display_data", "data": named, "metadata": {}}]


def likeness(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> str:
    return worst(difference.likeness for difference in compare(before, after))


@pytest.mark.parametrize(
    ("before", "after", "wanted"),
    [
        ("a\n", "a\n", "same"),
        ("<A object at 0x7f12ab34cd56>", "<A object at 0x7fffab34cd00>", "same"),
        ("\x1b[31mred\x1b[0m", "red", "same"),
        ("id 123e4567-e89b-12d3-a456-426614174000", "id 00000000-e89b-12d3-a456-426614174000", "same"),
        ("/tmp/ipykernel_12/34.py:1: UserWarning", "/tmp/ipykernel_99/11.py:1: UserWarning", "same"),
        ("mean 0.333333333333", "mean 0.333333333334", "tolerance"),
        ("loss 1.23456", "loss 1.23457", "tolerance"),
        ("Wall time: 12 ms", "Wall time: 3.1 s", "tolerance"),
        ("1.2 ms ± 3 µs per loop (mean ± std. dev. of 7 runs)", "9 s ± 1 ms per loop (mean)", "tolerance"),
        ("   a\n0  1.00000001", "     a\n0  1.00000002", "tolerance"),
        ("mean 1.5", "mean 1.6", "different"),
        ("rows 3", "rows 4", "different"),
        ("1234", "1235", "different"),
        ("a", "b", "different"),
        ("nan", "1.0", "different"),
        ("nan 1", "nan 1", "same"),
        ("version 1.2.3", "version 1.2.4", "different"),
        ("x = 1e400", "x = 2.0", "different"),
        ("hash 0xdeadbeef", "hash 0xcafebabe", "different"),
        ("id=1234567890", "id=9876543210", "different"),
        ('<path id="C0_0_1cf5f7f268"/>', '<path id="C0_0_38575912ca"/>', "same"),
        ("x - y", "x + y", "different"),
        ("y = 3.0 x - 5.2", "y = 3.0 x + 5.2", "different"),
        ("a | b", "a b", "different"),
        ("- x\n- y\n- z", "+ x\n+ y\n+ z", "different"),
    ],
)
def test_texts(before: str, after: str, wanted: str) -> None:
    """What is printed is the same but for addresses and names, nearly the same in digits and times, or different."""
    assert likeness(printed(before), printed(after)) == wanted
    assert likeness(printed(after), printed(before)) == wanted


def test_numbers() -> None:
    """Counts are counts; a rounded value may differ in its last digit, if it has enough of them."""
    assert close("1.0", "1")
    assert not close("3", "4")
    assert close("0.12345", "0.12346")
    assert not close("0.12", "0.13")
    assert close("1.2345e-10", "1.2346e-10")
    assert not close("1.2345e-10", "1.2345e-9")


def test_a_difference_can_be_read() -> None:
    """A difference is a diff with what was recorded and what is now; a long one is cut, and says so."""
    found = texts("what it prints", "a\nb\nc", "a\nB\nc")
    assert found is not None
    assert "-b" in found.text
    assert "+B" in found.text
    long = texts("what it prints", "\n".join(map(str, range(900))), "none")
    assert long is not None
    assert long.text.endswith("more lines")


def test_small_numbers() -> None:
    """Near nothing, too, a number is compared by its own size; only beside nothing itself it may be a rounding."""
    assert not close("6.626e-34", "1.05e-34")
    assert not close("3.2e-15", "4.5e-200")
    assert close("0.0", "1.1e-16")


def test_cells_that_may_fail() -> None:
    """Jupyter has a tag for them; where nothing ran, nothing is proven."""
    failed = [{"output_type": "error", "ename": "KeyError", "evalue": "'x'", "traceback": []}]
    tagged = Cell(CellId("a"), "code", "x['x']", tuple(failed), 1, {"tags": ["raises-exception"]})
    assert judge(1, tagged, failed, "error", 1).verdict == "same"
    assert judge(1, Cell(CellId("a"), "code", "x", (), 1), failed, "error", 1).verdict == "failed"
    assert "time limit for cells, after 12 s" in judge(1, tagged, failed, "timeout", 12_000).reason
    assert counted([skipped(1, tagged, "tagged")])[0] == "skipped"
    assert counted([])[0] == "skipped"


def test_warnings_are_no_results() -> None:
    """Another warning is named, and is within tolerance."""
    [found] = compare(printed("old warning", "stderr"), printed("new warning", "stderr"))
    assert (found.likeness, found.about) == ("tolerance", "what it writes to stderr")


def test_a_tables_columns_are_named() -> None:
    """Their names stand above what differs, however far down that is."""
    row = "<tr><th>{0}</th><td>{1}</td></tr>"
    table = "<table><thead><tr><th></th><th>mass</th></tr></thead>" + "".join(row.format(n, n / 2) for n in range(50))
    [found] = compare(shown(text_html=table), shown(text_html=table.replace("<td>20.0<", "<td>21.0<")))
    assert found.text.split("\n")[2:] == [
        "     mass", "@@ -40,5 +40,5 @@", " 38  19.0", " 39  19.5", "-40  20.0", "+40  21.0", " 41  20.5", " 42  21.0"
    ]  # fmt: skip


def test_what_is_shown() -> None:
    """Each by the first form that both have: HTML by its markup, told as it is read; JSON by its values."""
    table = "<table id='T_ab12c'><td>{}</td></table>"
    assert likeness(shown(text_html=table.format(1.0)), shown(text_html=table.format(1.0))) == "same"
    assert likeness(shown(text_html=table.format(1.0)), shown(text_html=table.format(2.0))) == "different"
    [found] = compare(shown(text_html=table.format(1.0)), shown(text_html=table.format(2.0)))
    assert found.text.split("\n")[2:] == ["@@ -1 +1 @@", "-1.0", "+2.0"]
    [found] = compare(shown(text_html="<b>1</b>"), shown(text_html="<i>1</i>"))
    assert found.text.split("\n")[3:] == ["-<b>1</b>", "+<i>1</i>"]
    assert likeness(shown(application_json={"a": 1.0, "b": 2}), shown(application_json={"b": 2, "a": 1.0})) == "same"
    assert likeness(shown(application_json={"a": 1.0}), shown(application_json={"a": 1.00000001})) == "tolerance"
    assert likeness(shown(text_plain="1"), shown(text_html="1")) == "different"
    assert likeness(shown(text_plain="1"), []) == "different"
    assert likeness(shown(image_png="aGk=", text_plain="<Figure>"), shown(text_plain="<Figure>")) == "different"
    assert likeness(shown(image_png="no base64"), shown(image_png="aGk=")) == "different"
    widget = shown(**{"application_vnd.jupyter.widget-view+json": {"model_id": "a"}})
    assert likeness(widget, shown(**{"application_vnd.jupyter.widget-view+json": {"model_id": "b"}})) == "same"


def test_streams_may_come_in_pieces() -> None:
    """How a text came in pieces does not matter."""
    assert compare(printed("a\nb\n"), [*printed("a\n"), *printed("b\n")]) == ()


def test_what_was_printed_in_excess() -> None:
    """A kernel of ours shows head and tail of it: they count, and the length; what another showed is whole."""
    whole = "".join(f"row {n}\n" for n in range(10_000))
    cut = f"{whole[:500]}\n[… {len(whole) - 1_000:,} characters left out …]\n{whole[-500:]}"
    for one, other in ((whole, cut), (cut, whole), (cut, cut)):
        assert compare(printed(one), printed(other)) == ()
    for other in (whole + "more\n", whole.replace("row 3\n", "row x\n")):
        assert [d.likeness for d in compare(printed(other), printed(cut))] == ["different"]


def test_errors() -> None:
    """An error is the same by its name and message, not by its traceback."""
    error = {"output_type": "error", "ename": "E", "evalue": "x", "traceback": ["1"]}
    assert compare([error], [{**error, "traceback": ["2"]}]) == ()
    assert likeness([error], [{**error, "evalue": "y"}]) == "different"
    assert likeness([error], []) == likeness([], [error]) == "different"


Draw = Callable[[Any], object]


def figure(draw: Draw, **how: Any) -> bytes:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib.figure import Figure

    made = Figure()
    draw(made.subplots())
    data = io.BytesIO()
    made.savefig(data, format="png", **how)
    return data.getvalue()


def points(change: float = 0.0, scale: float = 1.0, without: int = 0) -> Draw:
    import numpy as np

    x, y = np.random.default_rng(0).normal(size=(2, 200))
    x[5] += change
    return lambda axes: axes.scatter(x[without:] * scale, y[without:])


def test_figures_by_what_is_seen() -> None:
    """A figure drawn again is the same, one that the eye cannot tell apart is alike; a missing point is different."""
    base = figure(points())
    assert figures("f", base, figure(points())) is None
    wanted = {"tolerance": [points(scale=1.0005)], "different": [points(0.5), points(without=1), points(scale=1.1)]}
    for like, draws in wanted.items():
        for draw in draws:
            found = figures("f", base, figure(draw))
            assert found is not None
            assert found.likeness == like
    bigger = figures("f", base, figure(points(), dpi=150))
    assert bigger is not None
    assert "another size" in bigger.text
    broken = figures("f", base, b"no figure")
    assert broken is not None
    assert broken.likeness == "different"
    assert overlay(base, figure(points(0.5))).startswith(b"\x89PNG")


def test_figures_in_cells() -> None:
    """A cell's figure is compared as what it shows, whatever text stands beside it."""
    one, other = (base64.b64encode(figure(points(change))).decode() for change in (0.0, 0.5))
    assert (
        likeness(shown(image_png=one, text_plain="<Figure 1>"), shown(image_png=one, text_plain="<Figure>")) == "same"
    )
    assert likeness(shown(image_png=one), shown(image_png=other)) == "different"


def test_a_verdict() -> None:
    """An error fails a cell, unless it is recorded; a cell without a record says so."""
    error = {"output_type": "error", "ename": "E", "evalue": "x", "traceback": []}
    plain = Cell(CellId("a"), "code", "1", tuple(printed("1")), 1)
    assert judge(1, plain, [error], "error", 0).verdict == "failed"
    assert judge(1, plain, [], "kernel_died", 0).reason == "kernel_died"
    expected = Cell(CellId("a"), "code", "1", (error,), 1)
    assert judge(1, expected, [error], "error", 0).verdict == "same"
    found = judge(1, Cell(CellId("a"), "code", "1"), printed("1"), "ok", 0)
    assert (found.verdict, found.reason) == ("different", "nothing is recorded for this cell")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a" * 200_000, "a" * 199_999 + "b"),
        ("1" * 200_000 + "x", "1" * 200_000 + "y"),
        ("\n".join(f"{n}\nsame" for n in range(20_000)), "\n".join(f"{n + 1}\nsame" for n in range(20_000))),
    ],
)
def test_large_texts_take_no_longer_than_their_length(before: str, after: str) -> None:
    """Base64, digits and logs of any length are compared; what takes time that grows with its square takes minutes."""
    found = texts("x", before, after)
    assert found is not None
    assert found.likeness == "different"


def test_a_figure_that_is_broken() -> None:
    """A picture with a chunk that makes no sense has a verdict like any other."""
    whole = figure(points())
    for place in (33, 41, len(whole) // 2):
        found = figures("it", whole, whole[:place] + b"\0\0\0\5a-b-" + whole[place + 8 :])
        assert found is not None
        assert found.likeness == "different"
