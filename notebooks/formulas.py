"""Formulas of a page without scripts: their TeX becomes MathML, which browsers draw by themselves."""

from __future__ import annotations

import html
import re
import secrets
from collections.abc import Iterator
from typing import Any

MOST_CHARACTERS = 5_000
"""Of a formula; a longer one stays TeX."""

MACROS = re.compile(r"\\(def|gdef|edef|let|newcommand|renewcommand|providecommand|newenvironment|require)\b")
"""What defines commands may grow without end: it stays TeX."""

ENVIRONMENTS = {
    **dict.fromkeys(
        ("align", "aligned", "alignedat", "split", "eqnarray", "eqnarray*", "flalign", "multline"), "align*"
    ),
    **dict.fromkeys(("gather", "gather*", "gathered"), "matrix"),
    "equation*": "equation",
}
DRAWN = {
    *("align*", "equation", "matrix", "matrix*", "pmatrix", "bmatrix", "Bmatrix", "vmatrix", "Vmatrix", "smallmatrix"),
    *("cases", "dcases", "array", "substack"),
}
ENVIRONMENT = re.compile(r"\\(begin|end)\{([A-Za-z]+\*?)\}")
AMOUNT = re.compile(r"[^\\^_={}]*\s|[\d.,]+\w?\s*[-–—/]|[\d.,]+\w?\b[^\\^_={}]*[A-Za-z]{2,}")
"""Not a formula, but what stands between two sums of money: `$5 or $`, `$5-$`, `US$5, US$`."""

PARTS = re.compile(
    r"\$\$(?P<block>.{1,2000}?)\$\$|\\\[(?P<display>.{1,2000}?)\\\]|(?P<whole>\\begin\{(?P<name>[A-Za-z]+\*?)\}.{1,2000}?\\end\{(?P=name)\})"
    r"|(?<!\\)\$(?P<inline>[^$]{1,2000}?)(?<!\\)\$|\\\((?P<small>.{1,2000}?)\\\)",
    re.DOTALL,
)
"""Where formulas stand in a text."""

TAGS = {
    *("math", "mrow", "mi", "mn", "mo", "mtext", "mspace", "ms", "msup", "msub", "msubsup", "mfrac", "msqrt", "mroot"),
    *("munder", "mover", "munderover", "mtable", "mtr", "mtd", "mstyle", "mpadded", "mphantom", "menclose"),
    *("mmultiscripts", "mprescripts", "none"),
}
ATTRIBUTES = {
    *("accent", "accentunder", "columnalign", "columnlines", "columnspacing", "depth", "display", "displaystyle"),
    *("fence", "form", "height", "largeop", "linebreak", "linethickness", "lspace", "mathsize", "mathvariant"),
    *("maxsize", "minsize", "movablelimits", "notation", "rowlines", "rowspacing", "rspace", "scriptlevel"),
    *("separator", "stretchy", "symmetric", "voffset", "width"),
}
STYLE = (
    '<style type="text/css">math[display="block"] { margin: 0.6em 0; } math mtd[columnalign="right"] '
    '{ text-align: right; } math mtd[columnalign="left"] { text-align: left; }</style>'
)


def mathml(tex: str, *, block: bool = False) -> str | None:
    """A formula as MathML; None for one that is not understood, or had better not be tried."""
    from latex2mathml.converter import Converter

    if len(tex) > MOST_CHARACTERS or MACROS.search(tex):
        return None
    if any(ENVIRONMENTS.get(name, name) not in DRAWN for _, name in ENVIRONMENT.findall(tex)):
        return None
    known = ENVIRONMENT.sub(lambda found: rf"\{found[1]}{{{ENVIRONMENTS.get(found[2], found[2])}}}", tex)
    try:
        element = Converter(display="block" if block else "inline").convert_to_element(known)
        return "".join(_written(element))
    except (Exception, RecursionError):  # Whatever stands there may be no TeX at all.
        return None


def _written(element: Any) -> Iterator[str]:
    """An element as markup in which nothing is but a formula: the library's own writing would let markup be."""
    tag = element.tag if element.tag in TAGS else "mrow"
    about = [f' {name}="{html.escape(value)}"' for name, value in element.attrib.items() if name in ATTRIBUTES]
    yield f"<{tag}{''.join(about)}>"
    yield html.escape(html.unescape(element.text or ""))
    for child in element:
        yield from _written(child)
        yield html.escape(html.unescape(child.tail or ""))
    yield f"</{tag}>"


class Formulas:
    """Stand-ins for formulas in a page that is yet to be cleaned, and the formulas that come in their places then."""

    def __init__(self) -> None:
        self._made: list[str] = []
        self._name = secrets.token_hex(8)

    def stand_in(self, tex: str, source: str, *, block: bool = False) -> str:
        """What stands for a formula: text, in which `source` is written for one that stays as it is."""
        made = mathml(tex, block=block)
        if made is None:
            return html.escape(source)
        self._made.append(made)
        return f"⟦{self._name}:{len(self._made) - 1}⟧"

    def in_text(self, text: str) -> str:
        """A text with formulas, as HTML with stand-ins: what `text/latex` says."""
        if len(text) > 4 * MOST_CHARACTERS:
            return html.escape(text)
        parts, at = [], 0
        for found in PARTS.finditer(text):
            block = found.lastgroup not in ("inline", "small")
            tex = found["block"] or found["display"] or found["whole"] or found["inline"] or found["small"]
            amount = not block and AMOUNT.fullmatch(tex)
            formula = html.escape(found[0]) if amount else self.stand_in(tex, found[0], block=block)
            parts += [html.escape(text[at : found.start()]), formula]
            at = found.end()
        return "".join([*parts, html.escape(text[at:])])

    def put(self, markup: str) -> str:
        """Markup with the formulas in their places."""
        return re.sub(rf"⟦{self._name}:(\d+)⟧", lambda found: self._made[int(found[1])], markup)

    def markdown(self, source: str) -> str:
        """Markdown as HTML, with stand-ins for its formulas."""
        from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

        formulas = self

        class Renderer(IPythonRenderer):  # type: ignore[misc]
            def block_math(self, body: str) -> str:
                return formulas.stand_in(body, f"$${body}$$", block=True)

            def inline_math(self, body: str) -> str:
                return html.escape(f"${body}$") if AMOUNT.fullmatch(body) else formulas.stand_in(body, f"${body}$")

            def latex_environment(self, name: str, body: str) -> str:
                tex = rf"\begin{{{name}}}{body}\end{{{name}}}"
                return formulas.stand_in(tex, tex, block=True)

        return str(MarkdownWithMath(renderer=Renderer(escape=False)).render(source))
