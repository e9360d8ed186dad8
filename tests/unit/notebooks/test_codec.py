"""Notebooks in and out."""

from __future__ import annotations

import json

import nbformat
import pytest
from cellwright.notebooks import codec
from cellwright.notebooks.document import SKIP_TAG, Cell, CellId, Document
from cellwright.notebooks.errors import InvalidNotebook
from cellwright.notebooks.export import export

SHOWN = {"output_type": "display_data", "data": {"image/png": "aGk=", "application/json": [1, 2]}, "metadata": {}}
DOCUMENT = Document(
    (
        Cell(CellId("m1"), "markdown", "# Title\n\ntext"),
        Cell(CellId("c1"), "code", "x = 1\nx", (SHOWN,), 3, {"tags": ["skip-execution"]}),
        Cell(CellId("c2"), "code", "%matplotlib inline\ny = 2", (), None),
    ),
    {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
)


def test_what_is_written_is_valid_and_reads_back() -> None:
    """nbformat accepts what we write, and reading it gives the same document."""
    data = codec.write(DOCUMENT)
    nbformat.validate(nbformat.reads(data.decode(), as_version=4))
    assert codec.decode(data) == DOCUMENT


def test_old_notebooks_get_cell_ids() -> None:
    """A notebook of nbformat 4.2, with multi-line strings and no ids, is read as 4.5."""
    old = {
        "nbformat": 4,
        "nbformat_minor": 2,
        "metadata": {},
        "cells": [
            {"cell_type": "code", "metadata": {}, "source": ["a\n", "b"], "outputs": [], "execution_count": None},
            {"cell_type": "markdown", "metadata": {}, "source": "m"},
        ],
    }
    document = codec.decode(old)
    assert [c.source for c in document] == ["a\nb", "m"]
    assert len({c.id for c in document}) == 2


@pytest.mark.parametrize("bad", ["", "{", "[]", "{}", '{"nbformat": 4, "cells": 3}', '{"nbformat": "x"}', "null"])
def test_what_is_no_notebook_is_refused(bad: str) -> None:
    """Anything else is InvalidNotebook, in one sentence."""
    with pytest.raises(InvalidNotebook):
        codec.decode(bad)


def test_what_a_cell_may_be_without() -> None:
    """Programs that write notebooks by hand leave out what is empty; what is unknown is said."""
    bare = {"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": [{"cell_type": "code", "source": "1"}]}
    assert [cell.source for cell in codec.decode(bare)] == ["1"]
    with pytest.raises(InvalidNotebook, match="format 5; up to 4"):
        codec.decode({**bare, "nbformat": 5})
    with pytest.raises(InvalidNotebook, match="no JSON"):
        codec.decode("<<<<<<< HEAD")


def test_exports() -> None:
    """The script runs as plain Python, and Markdown and HTML hold the text and no remote address."""
    script = export(DOCUMENT, "py", "t").decode()
    namespace: dict[str, object] = {}
    exec(compile(script, "script", "exec"), namespace)
    assert namespace["y"] == 2
    assert "x" not in namespace
    assert "# Title" in export(DOCUMENT, "md", "t").decode()
    page = export(DOCUMENT, "html", "t").decode()
    assert "Title" in page
    assert 'src="http' not in page
    assert json.loads(export(DOCUMENT, "ipynb", "t"))["nbformat_minor"] == 5


def test_forms_without_metadata_say_it_in_words() -> None:
    """Where a script, a text or a page comes from stands at its end; an attempt that was given up is named as such."""
    origin = {
        "session_id": "0f",
        "turns": [{"n": 1, "model": "m-1"}, {"n": 2, "model": None}],
        "inputs": [{"name": "in.csv", "sha256": "ab"}],
        "packages": {"pandas": "3.0"},
    }
    failed = Cell(CellId("f"), "code", "1 / 0", (), 1).tagged(SKIP_TAG)
    document = Document((failed,), {"cellwright": origin})
    for form in ("py", "md", "html"):
        text = export(document, form, "t").decode()  # type: ignore[arg-type]
        for word in ("given up", "Session: 0f", "Turns: 1, 2", "Model: m-1", "pandas 3.0", "in.csv, SHA-256 ab"):
            assert word in text, (form, word)


def test_a_line_that_goes_on_is_no_magic() -> None:
    """A script's lines that begin with `%` in the middle of an expression stay; magics become comments."""
    cell = Cell(CellId("c"), "code", "%matplotlib inline\nx = ('%s'\n    % 3)\n!ls", (), 1)
    script = export(Document((cell,)), "py", "t").decode()
    assert "# %matplotlib inline" in script
    assert "\n    % 3)" in script
    compile(script, "script", "exec")
