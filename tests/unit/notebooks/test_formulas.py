"""Formulas as MathML: what a page without scripts shows of them, and that nothing else gets in that way."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from cellwright.notebooks.document import Cell, CellId, Document
from cellwright.notebooks.export import export
from cellwright.notebooks.formulas import ATTRIBUTES, TAGS, Formulas, mathml


@pytest.mark.parametrize(
    ("tex", "holds"),
    [
        (r"\frac{1}{n}", "<mfrac><mrow><mn>1</mn></mrow><mrow><mi>n</mi></mrow></mfrac>"),
        (r"\begin{aligned} a &= b \\ c &= d \end{aligned}", "<mtable"),
        (r"\begin{gather} a \\ c \end{gather}", "<mtr>"),
        (r"x_i < 3 \text{ & more}", "<mo>&lt;</mo>"),
    ],
)
def test_what_is_understood(tex: str, holds: str) -> None:
    """TeX that notebooks hold, also under names that the library does not know."""
    made = mathml(tex)
    assert made is not None
    assert holds in made
    ET.fromstring(made)


@pytest.mark.parametrize(
    "tex",
    [
        r"\text{<script>alert(1)</script>}",
        r"\text{&lt;img src=x onerror=alert(1)&gt;}",
        r"\href{javascript:alert(1)}{x}",
        r"\style{background:url(http://a)}{x}",
        r"\class{a\" onclick=\"alert(1)}{x}",
        r"\unicode{<svg onload=alert(1)>}",
        r"\mathchoice{<iframe>}{b}{c}{d}",
    ],
)
def test_nothing_else_gets_in(tex: str) -> None:
    """Only elements and attributes that draw formulas, whatever stands in the TeX."""
    made = mathml(tex)
    for element in ET.fromstring(made).iter() if made is not None else ():
        assert element.tag in TAGS
        assert not element.attrib.keys() - ATTRIBUTES


@pytest.mark.parametrize(
    "tex", [r"\def\x{\x\x}\x", r"\newcommand{\a}{b}\a", "{" * 5_000, "x" * 6_000, "{" * 2_000 + "}" * 2_000, r"\frac"]
)
def test_what_stays_tex(tex: str) -> None:
    """What grows without end, is too long, too deep, or is not TeX."""
    assert mathml(tex) is None


@pytest.mark.parametrize(
    "text",
    [
        "It fell from $10M to $8M.",
        "Between $5-$10 a piece.",
        "`$x$` and \\$x\\$",
        "$\\def\\x{x}$",
        "a $ b",
        "US$5, US$7",
    ],
)
def test_not_every_dollar_begins_one(text: str) -> None:
    """Sums of money stay what they are."""
    assert "⟦" not in Formulas().markdown(text)


def test_what_is_no_formula_is_not_made_one() -> None:
    """A table in TeX stays what it is, and long texts take no longer than their length."""
    assert mathml(r"\begin{tabular}{ll} a & b \end{tabular}") is None
    assert "⟦" not in Formulas().in_text(r"\begin{tabular}{ll} a & b \end{tabular}")
    for text in (r"\begin{a}" * 2_000, r"\[" * 9_000, "$" * 19_000):
        assert Formulas().in_text(text)


def test_a_page_shows_them() -> None:
    """In Markdown, in answers, and in what cells show; other text with the same signs is left alone."""
    document = Document(
        (
            Cell(
                CellId("a"),
                "markdown",
                "Slope $\\beta_1$, and\n\n$$\\sum_i x_i$$\n\n| $a^2$ | ⟦0⟧ |\n|---|---|\n| 1 | 2 |",
            ),
            Cell(
                CellId("b"),
                "code",
                "x  # $a$ ⟦0:0⟧",
                (
                    {
                        "output_type": "display_data",
                        "data": {"text/latex": "$\\displaystyle x^{2}$ & more", "text/plain": "x**2"},
                        "metadata": {},
                    },
                    {"output_type": "display_data", "data": {"text/markdown": "*so* $\\gamma$"}, "metadata": {}},
                ),
            ),
        )
    )
    page = export(document, "html", "Formulas").decode()
    assert page.count("<math") == 5
    assert '<math display="block">' in page
    assert "&amp; more" in page
    assert page.count("⟦0") == 2
    assert "$\\displaystyle x^{2}$" in export(document, "md", "Formulas").decode()
