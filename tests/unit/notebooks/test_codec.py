"""Notebooks in and out."""

from __future__ import annotations

import json

import nbformat
import pytest
from cellwright.notebooks import codec
from cellwright.notebooks.document import Cell, CellId, Document
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
