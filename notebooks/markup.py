"""HTML of others: without what could run or reach out, and as the lines that a reader sees, a table's row in one."""

from __future__ import annotations

import re
from html.parser import HTMLParser

MOST_CHARACTERS = 200_000
"""What is longer is not looked into: tags in tags in tags take time that grows with its square."""

INLINE = {"a", "b", "code", "em", "i", "small", "span", "strong", "sub", "sup", "u"}
CELLS = {"td", "th"}
BLOCKS = {
    *("article", "blockquote", "br", "caption", "col", "colgroup", "dd", "details", "div", "dl", "dt", "figcaption"),
    *(
        "figure",
        "footer",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "header",
        "hr",
        "li",
        "main",
        "ol",
        "p",
        "pre",
        "section",
    ),
    *("summary", "table", "tbody", "tfoot", "thead", "tr", "ul"),
}
"""What begins a line."""

UNSEEN = re.compile(r"(?is)<(script|style)\b.*?(</\1\s*>|\Z)")

SCRIPT = re.compile(r"(?i)<script\b")
BY_SCRIPT = "<p><em>This is drawn by a script, which does not run here.</em></p>"

DRESSED = {"del", "img", "ins", "kbd", "mark", "q", "s", "samp", "var", "wbr"}
LOOKS = {
    *("align", "alt", "class", "colspan", "height", "id", "open", "rowspan", "scope", "start", "style", "title"),
    "width",
}

MOST_DRESSED = 5_000_000
CELL_WIDTH = 60
"""Characters of a table's cell that are shown, and to which it is aligned."""

SPAN, MOST_COLUMNS = 100, 500
"""Rows or columns that a cell may take, and columns of a table that are read."""

Line = list[str]
"""The cells of a row; one, of any other line."""


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[Line] = []
        self.head: Line | None = None
        self._text = ""
        self._row: Line | None = None
        self._in_cell = False
        self._at = 0
        self._below: dict[int, int] = {}
        """In how many more rows a column is taken by a cell from above."""
        self._written = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in CELLS:
            self._begin_cell(dict(attrs))
        elif self._in_cell and tag != "tr":
            self._text += " " if tag in BLOCKS else ""
        elif tag in BLOCKS:
            self._end_line()
            self._written += tag == "pre"

    def handle_endtag(self, tag: str) -> None:
        if tag in CELLS:
            self._end_cell()
        elif self._in_cell and tag not in ("tr", "table"):
            self._text += " " if tag in BLOCKS else ""
        elif tag in BLOCKS:
            self._end_line()
            self._written = max(0, self._written - (tag == "pre"))
            if tag == "table":
                self._below = {}
        if tag == "thead" and self.lines and self.head is None:
            self.head = self.lines[-1]

    def handle_data(self, data: str) -> None:
        if self._written and not self._in_cell:
            *lines, data = data.split("\n")
            for line in lines:
                self._text += line
                self._end_line()
        self._text += data

    def close(self) -> None:
        super().close()
        self._end_line()

    def _begin_cell(self, attributes: dict[str, str | None]) -> None:
        if self._row is None:
            self._end_line()
            self._row = []
        self._end_cell()
        self._from_above(self._row)
        place, deep = len(self._row), _span(attributes, "rowspan")
        if place >= MOST_COLUMNS:
            self._text = ""
            return
        wide = min(_span(attributes, "colspan"), MOST_COLUMNS - place)
        self._row += [""] * wide
        if deep > 1:
            self._below |= dict.fromkeys(range(place, place + wide), deep)
        self._in_cell = True
        self._at = place

    def _from_above(self, row: Line) -> None:
        while self._below.get(len(row), 0):
            row.append("")

    def _end_cell(self) -> None:
        if self._in_cell and self._row is not None:
            self._row[self._at] = " ".join(self._text.split())
            self._text = ""
        self._in_cell = False

    def _end_line(self) -> None:
        self._end_cell()
        if self._row is not None:
            self._from_above(self._row)
            self._below = {place: rows - 1 for place, rows in self._below.items() if rows > 1}
        line = self._row if self._row is not None else [" ".join(self._text.split())]
        if any(line):
            self.lines.append(line)
        self._row, self._text = None, ""


def _span(attributes: dict[str, str | None], name: str) -> int:
    value = attributes.get(name) or ""
    return min(max(int(value), 1), SPAN) if value.isascii() and value.isdigit() else 1


def cleaned(markup: str) -> str:
    """A piece of HTML, well formed, in which nothing can run, load or be styled."""
    import bleach

    without = UNSEEN.sub("", markup)
    attributes = {"*": ["colspan", "rowspan", "align"]}
    return str(bleach.clean(without, tags=INLINE | CELLS | BLOCKS, attributes=attributes, strip=True))


def dressed(markup: str) -> str:
    """A piece of HTML in which nothing can run or load, with its looks, its links, and the pictures that it holds."""
    import bleach
    from bleach.css_sanitizer import ALLOWED_CSS_PROPERTIES, CSSSanitizer

    if len(markup) > MOST_DRESSED:
        return f"<p>{len(markup):,} characters of HTML are not shown.</p>"
    return str(
        bleach.clean(
            still(markup),
            tags=INLINE | CELLS | BLOCKS | DRESSED,
            attributes=_dressing,
            protocols={"data", "http", "https", "mailto"},
            css_sanitizer=CSSSanitizer(allowed_css_properties=ALLOWED_CSS_PROPERTIES - {"cursor"}),
            strip=True,
        )
    )


def still(markup: str) -> str:
    """A piece of HTML without its scripts and styles; where scripts alone would show something, with a word of that."""
    left = UNSEEN.sub("", markup)
    nothing = left != markup and "<img" not in left and not re.sub(r"<[^>]*>", "", left).strip()
    return BY_SCRIPT if nothing and SCRIPT.search(markup) else left


def _dressing(tag: str, name: str, value: str) -> bool:
    if name == "src":
        return tag == "img" and value.startswith("data:image/")
    if name == "href":
        return tag == "a" and re.match(r"(https?:|mailto:|#)", value, re.IGNORECASE) is not None
    return name in LOOKS


def read(markup: str) -> tuple[list[Line], Line | None]:
    """The lines of a piece of HTML, and the last row of its first table's head, if there is one."""
    reader = _Reader()
    reader.feed(cleaned(markup))
    reader.close()
    return reader.lines, reader.head


def aligned(*pages: list[Line]) -> list[list[str]]:
    """The pages' lines as text, their columns as wide as the widest cell of any of them."""
    widths: list[int] = []
    for line in (line for page in pages for line in page if len(line) > 1):
        widths += [0] * (len(line) - len(widths))
        for place, cell in enumerate(line):
            widths[place] = max(widths[place], min(CELL_WIDTH, len(cell)))
    return [[_line(line, widths) for line in page] for page in pages]


def _line(line: Line, widths: list[int]) -> str:
    if len(line) == 1:
        return line[0]
    cells = (cell if len(cell) <= CELL_WIDTH else cell[: CELL_WIDTH - 1] + "…" for cell in line)
    return "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=False)).rstrip()
