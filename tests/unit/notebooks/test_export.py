"""A notebook as a page and as Markdown: what a reader sees of it."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from cellwright.notebooks.codec import ATTACHMENTS
from cellwright.notebooks.document import Cell, CellId, Document
from cellwright.notebooks.export import export

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SVG = '<svg xmlns="http://www.w3.org/2000/svg"><circle r="2"/></svg>'


def shown(**data: str) -> dict[str, object]:
    named = {name.replace("_", "/", 1).replace("_", "+"): value for name, value in data.items()}
    return {"output_type": "display_data", "data": named, "metadata": {}}


def page(*cells: Cell, form: str = "html", files: dict[str, bytes] | None = None) -> str:
    return export(Document(cells), form, "A page", (files or {}).get).decode()  # type: ignore[arg-type]


class Words(HTMLParser):
    """What stands in the body, and the tags around it."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.words = ""
        self.feed(markup[markup.index("<body") :])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.words += data


def test_a_page_shows_texts_and_outputs_as_a_notebook_does() -> None:
    """Paragraphs, quotes, tables, lists, code and figures, and none of their tags as text."""
    frame = pd.DataFrame({"mass": [1.5]}, index=["owl"])._repr_html_()  # type: ignore[operator]
    seen = Words(
        page(
            Cell(CellId("a"), "markdown", "> A question, if 1 < 2\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n---\n\n- one"),
            Cell(CellId("b"), "code", "x < 3", (shown(text_html=frame), shown(image_svg_xml=SVG, text_plain="no"))),
        )
    )
    assert {"p", "blockquote", "table", "th", "td", "hr", "li", "thead", "tbody", "img", "pre"} <= {*seen.tags}
    assert not re.search(r"</?\w+[^<>]*>", seen.words)
    for words in ("A question, if 1 < 2", "mass", "owl", "x < 3"):
        assert words in " ".join(seen.words.split())
    assert "dataframe" not in seen.words.replace("\n", " ")


def test_what_is_nothing_without_its_style_or_script() -> None:
    """Scikit-learn's diagram is shown as text; a library's loader, and what it draws, is told of once."""
    diagram = "<style>x</style><div class='sk-top-container'><b>please rerun this cell</b></div>"
    drawn = [shown(text_html="<script>load()</script>"), shown(text_html="<script>draw()</script>")]
    told = page(
        Cell(CellId("a"), "code", "1", (shown(text_html=diagram, text_plain="Pipeline(steps=[])"),)),
        Cell(CellId("b"), "code", "2", tuple(drawn)),
    )
    assert "Pipeline(steps=[])" in told
    assert "rerun" not in told
    assert told.count("drawn by a script") == 1


@pytest.mark.parametrize("form", ["html", "md"])
def test_what_scripts_draw_is_said(form: str) -> None:
    """A figure that only a script can draw is named in its place; its picture, where there is one, is shown."""
    drawn = "<div id='f'></div><script>draw('secret')</script>"
    written = page(
        Cell(CellId("a"), "code", "1", (shown(text_html=drawn),)),
        Cell(CellId("b"), "code", "2", (shown(text_html=drawn, image_svg_xml=SVG),)),
        Cell(CellId("c"), "code", "3", ({**shown(), "data": {"application/vnd.plotly.v1+json": {"data": []}}},)),
        form=form,
    )
    assert written.count("drawn by a script") == 1
    assert "secret" not in written
    assert "vnd.plotly.v1+json: not shown here" in written


@pytest.mark.parametrize("form", ["html", "md"])
def test_pictures_come_along(form: str) -> None:
    """Attached ones, and those that stand beside the notebook; of what is no picture not a byte."""
    attached = {ATTACHMENTS: {"a.png": {"image/png": base64.b64encode(PNG).decode()}}}
    code = "`![code](chart.png)`\n```\n![code](chart.png)\n```\n"
    text = "![one](chart.png) ![two](my%20chart.png) ![three](attachment:a.png) ![no](secret.txt) ![none](gone.png)"
    cell = Cell(CellId("a"), "markdown", code + text, metadata=attached)
    made = page(cell, form=form, files={"chart.png": PNG, "my chart.png": PNG, "secret.txt": b"not yours"})
    assert made.count(base64.b64encode(PNG).decode()) == 3
    assert base64.b64encode(b"not yours").decode() not in made


def test_nothing_else_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's own folder is not the notebook's."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "beside.png").write_bytes(PNG)
    made = page(Cell(CellId("a"), "markdown", f"![one](beside.png) ![two]({tmp_path / 'beside.png'})"))
    assert base64.b64encode(PNG).decode() not in made


def test_a_script_is_python() -> None:
    """Shell lines and magics are comments, and a block that holds nothing else stays one; a text keeps its letters."""
    source = "for name in 'ab':\n    !ls {name} \\\n        -l\nif True:\n    %time x = 1\ntext = 'a\u2028b'"
    script = page(Cell(CellId("a"), "code", source), Cell(CellId("b"), "markdown", "One\u2028two\rprint(1)"), form="py")
    compile(script, "<script>", "exec")
    assert "    pass  # !ls {name}" in script
    assert "    x = 1  # %time" in script
    assert "# %%time\ny = 2" in page(Cell(CellId("c"), "code", "%%time\ny = 2"), form="py")
    assert "# print(1)" in script
    assert "text = 'a\u2028b'" in script
