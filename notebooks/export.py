"""A notebook as a file for people and programs that have no notebook: percent script, Markdown, HTML."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from cellwright.notebooks.codec import encode, write
from cellwright.notebooks.dependencies import magic_lines
from cellwright.notebooks.document import SKIP_TAG, Cell, CellId, Document
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
            return _percent(_told(document)).encode()
        case _:
            return _converted(_told(document), form, title).encode()


def _told(document: Document) -> Document:
    """The notebook with what its metadata and tags say put into words, for forms that have neither."""
    cells: list[Cell] = []
    for cell in document:
        if cell.kind == "code" and SKIP_TAG in cell.tags:
            cells.append(
                Cell(CellId(f"{cell.id}-note"), "markdown", "*An attempt that was given up; it does not run:*")
            )
        cells.append(cell)
    about = document.metadata.get("cellwright")
    lines = _about(about) if isinstance(about, dict) else []
    if lines:
        cells.append(Cell(CellId("cellwright-origin"), "markdown", "\n".join(["---", "", *lines])))
    return replace(document, cells=tuple(cells))


def _about(about: dict[str, Any]) -> list[str]:
    """Where a notebook comes from, as a list."""
    turns = about.get("turns") or []
    models = sorted({turn["model"] for turn in turns if turn.get("model")})
    packages = about.get("packages") or {}
    rows = [
        ("Session", about.get("session_id")),
        ("Turns", ", ".join(str(turn["n"]) for turn in turns)),
        ("Model", ", ".join(models)),
        ("Exported", about.get("exported_at")),
        ("Python", about.get("python")),
        ("Packages", ", ".join(f"{name} {version}" for name, version in sorted(packages.items()))),
        *(
            ("Input", f"{file['name']}, SHA-256 {file.get('sha256') or 'not known'}")
            for file in about.get("inputs") or []
        ),
        *(("Artifact", f"{made['name']}, SHA-256 {made['sha256']}") for made in about.get("artifacts") or []),
    ]
    return [f"- {name}: {value}" for name, value in rows if value]


def _percent(document: Document) -> str:
    """Cells as `# %%` blocks, the form that editors and jupytext read."""
    return "\n".join(_percent_cell(cell) for cell in document)


def _percent_cell(cell: Cell) -> str:
    tags = f" tags={list(cell.tags)}".replace("'", '"') if cell.tags else ""
    if cell.kind == "code":
        skipped = SKIP_TAG in cell.tags
        lines = cell.source.splitlines()
        # Magics, shell lines and attempts that failed would stop a plain script.
        whole = skipped or (bool(lines) and lines[0].startswith("%%"))
        magic = set() if whole else magic_lines("\n".join(lines))
        body = [f"# {line}" if whole or number in magic else line for number, line in enumerate(lines)]
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
