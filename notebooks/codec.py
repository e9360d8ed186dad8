"""Documents to and from nbformat 4.5."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import nbformat
from cellwright.notebooks.document import Cell, CellId, Document
from cellwright.notebooks.errors import InvalidNotebook
from cellwright.notebooks.outputs import as_text

ATTACHMENTS = "cellwright/attachments"
"""Where a cell's metadata keeps the images that were pasted into its text."""


def decode(notebook: str | bytes | dict[str, Any]) -> Document:
    """The document in a notebook of any nbformat version; raises InvalidNotebook.

    Cells that have no id, or one that came before, get one; and what a cell may be without gets empty.
    """
    try:
        raw = json.loads(notebook) if isinstance(notebook, (str, bytes)) else json.loads(json.dumps(notebook))
        if not isinstance(raw, dict) or "nbformat" not in raw:
            raise InvalidNotebook("This is not a notebook: it has no nbformat version.")
        # A private copy of the JSON: `convert` and `normalize` change what they are given.
        # Older versions keep text in lines, which their own reader joins.
        if isinstance(raw["nbformat"], int) and raw["nbformat"] > 4:
            raise InvalidNotebook(f"This is a notebook of format {raw['nbformat']}; up to 4 can be read.")
        old = isinstance(raw["nbformat"], int) and raw["nbformat"] < 4
        node = nbformat.reads(json.dumps(raw), as_version=4) if old else nbformat.from_dict(raw)
        node = nbformat.convert(node, 4)
        node.nbformat_minor = max(node.nbformat_minor, 5)
        _fill_in(node.cells)
        nbformat.validate(node)
    except InvalidNotebook:
        raise
    except json.JSONDecodeError as error:
        raise InvalidNotebook(f"This is not a valid notebook: it is no JSON ({error}).") from error
    except Exception as error:
        raise InvalidNotebook(f"This is not a valid notebook: {error}") from error
    return Document(tuple(decode_cell(cell) for cell in node.cells), dict(node.metadata))


def _fill_in(cells: list[Any]) -> None:
    seen: set[str] = set()
    for cell in cells:
        cell.setdefault("metadata", nbformat.NotebookNode())
        if cell.get("cell_type") == "code":
            cell.setdefault("outputs", [])
            cell.setdefault("execution_count", None)
        if cell.get("id") is None or cell["id"] in seen:
            cell["id"] = uuid4().hex[:12]
        seen.add(cell["id"])


def decode_cell(node: Any) -> Cell:
    """One cell of nbformat 4.5 JSON, which must be valid."""
    plain = json.loads(json.dumps(node))
    kept = {ATTACHMENTS: plain["attachments"]} if plain.get("attachments") else {}
    return Cell(
        id=CellId(plain["id"]),
        kind=plain["cell_type"],
        source=as_text(plain["source"]),
        outputs=tuple(_decode_output(output) for output in plain.get("outputs", ())),
        execution_count=plain.get("execution_count"),
        # Whether a notebook is trusted is each Jupyter server's own knowledge, and stands in no file.
        metadata={n: value for n, value in plain.get("metadata", {}).items() if n != "trusted"} | kept,
    )


def _decode_output(output: dict[str, Any]) -> dict[str, Any]:
    if "text" in output:
        output = {**output, "text": as_text(output["text"])}
    if "data" in output:
        data = {
            mime: as_text(value) if isinstance(value, list) and not mime.endswith("json") else value
            for mime, value in output["data"].items()
        }
        output = {**output, "data": data}
    return output


def encode(document: Document) -> dict[str, Any]:
    """The document as nbformat 4.5 JSON. References must have been replaced before (`outputs.inline`)."""
    return {
        "cells": [encode_cell(cell) for cell in document],
        "metadata": dict(document.metadata),
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def encode_cell(cell: Cell) -> dict[str, Any]:
    """One cell as nbformat 4.5 JSON."""
    node: dict[str, Any] = {
        "cell_type": cell.kind,
        "id": cell.id,
        "metadata": dict(cell.metadata),
        "source": cell.source,
    }
    if ATTACHMENTS in cell.metadata:
        node["attachments"] = node["metadata"].pop(ATTACHMENTS)
    if cell.kind == "code":
        node |= {"execution_count": cell.execution_count, "outputs": [dict(output) for output in cell.outputs]}
    return node


def write(document: Document) -> bytes:
    """The bytes of an `.ipynb` file, as Jupyter writes them."""
    return (json.dumps(encode(document), indent=1, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")
