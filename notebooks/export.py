"""A notebook as a file for people and programs that have no notebook: percent script, Markdown, HTML."""

from __future__ import annotations

from typing import Literal

from cellwright.notebooks.codec import encode, write
from cellwright.notebooks.document import SKIP_TAG, Cell, Document
from cellwright.notebooks.report import POLICY

Format = Literal["ipynb", "py", "md", "html"]
MIMES: dict[Format, str] = {
    "ipynb": "application/x-ipynb+json",
    "py": "text/x-python",
    "md": "text/markdown",
    "html": "text/html",
}


def export(document: Document, form: Format, title: str) -> bytes:
    """The whole notebook in one of four forms; blocking (nbconvert) for `md` and `html`."""
    match form:
        case "ipynb":
            return write(document)
        case "py":
            return _percent(document).encode()
        case _:
            return _converted(document, form, title).encode()


def _percent(document: Document) -> str:
    """Cells as `# %%` blocks, the form that editors and jupytext read."""
    return "\n".join(_percent_cell(cell) for cell in document)


def _percent_cell(cell: Cell) -> str:
    tags = f" tags={list(cell.tags)}".replace("'", '"') if cell.tags else ""
    if cell.kind == "code":
        skipped = SKIP_TAG in cell.tags
        lines = cell.source.splitlines()
        # Magics, shell lines and attempts that failed would stop a plain script.
        whole_cell_magic = bool(lines) and lines[0].startswith("%%")
        body = [f"# {x}" if skipped or whole_cell_magic or x.lstrip().startswith(("%", "!")) else x for x in lines]
        return "\n".join([f"# %%{tags}", *body, ""])
    body = [f"# {line}".rstrip() for line in cell.source.splitlines()]
    return "\n".join([f"# %% [{cell.kind}]{tags}", *body, ""])


def _converted(document: Document, form: str, title: str) -> str:
    import nbformat
    from nbconvert import HTMLExporter, MarkdownExporter
    from traitlets.config import Config

    node = nbformat.from_dict(encode(document))
    if form == "md":
        # One file: figures stay in it.
        exporter = MarkdownExporter(config=Config({"ExtractOutputPreprocessor": {"enabled": False}}))
    else:
        exporter = HTMLExporter(sanitize_html=True, embed_images=True, mathjax_url="", require_js_url="")
    body, _ = exporter.from_notebook_node(node, resources={"metadata": {"name": title}})
    if form == "html":
        # What nbconvert's cleaning lets pass cannot run either, nor reach any address.
        policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        body = str(body).replace("<head>", f"<head>{policy}", 1)
    return str(body)
