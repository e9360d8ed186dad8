"""A notebook as a file for people and programs that have no notebook: percent script, Markdown, HTML."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal
from urllib.parse import unquote

from cellwright.notebooks.codec import ATTACHMENTS, encode, write
from cellwright.notebooks.dependencies import magic_lines
from cellwright.notebooks.document import SKIP_TAG, Cell, CellId, Document
from cellwright.notebooks.formulas import STYLE, Formulas
from cellwright.notebooks.markup import BY_SCRIPT, dressed, still
from cellwright.notebooks.outputs import as_text
from cellwright.notebooks.report import POLICY

Format = Literal["ipynb", "py", "md", "html"]
MIMES: dict[Format, str] = {
    "ipynb": "application/x-ipynb+json",
    "py": "text/x-python",
    "md": "text/markdown",
    "html": "text/html",
}


SHOWN = {
    *("application/json", "image/jpeg", "image/png", "image/svg+xml", "text/html", "text/latex", "text/markdown"),
    "text/plain",
}
"""What a page shows of outputs."""

STYLED_ONLY = "sk-top-container"
"""Scikit-learn's diagrams, which are nothing without their styles."""

PAGE = """<style type="text/css">
.jp-RenderedText pre, .jp-InputArea-editor .highlight pre { white-space: pre; overflow-x: auto; }
@media screen { .jp-RenderedText pre { max-height: 40em; overflow: auto; } }
</style>"""
"""Lines are as long as they are; what was printed at length is scrolled through, but on paper."""

FIGURES = ".jp-RenderedImage img, .jp-RenderedSVG { background: white }"
"""On a dark page: what is drawn in black on nothing is to be seen there as well."""

LINE_END = re.compile(r"\r\n|\r|\n")
TIMED = re.compile(r"(\s*)%(%?)time\b[ \t]*(.*)")
"""What runs as it would without it."""

PICTURE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|(!\[[^\]\[\n]{0,300}\]\()([^)\s]+)", re.DOTALL)
"""Pictures in Markdown, and code, in which there are none."""

PICTURES = {b"\x89PNG\r\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}
"""How files of pictures begin."""

Read = Callable[[str], bytes | None]
"""The content of a file that stands beside the notebook, by its name; None where there is none."""


def export(document: Document, form: Format, title: str, read: Read = lambda _: None) -> bytes:
    """The whole notebook in one of four forms; blocking (nbconvert) for `md` and `html`, which hold their pictures."""
    match form:
        case "ipynb":
            return write(document)
        case "py":
            return _percent(_told(document)).encode()
        case _:
            return _converted(_pictured(_told(document), read), form, title).encode()


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
        lines = LINE_END.split(cell.source)
        # Magics, shell lines and attempts that failed would stop a plain script.
        timed = not skipped and TIMED.match(lines[0])
        if timed and timed[2] == "%":
            lines[0] = f"# {lines[0]}"
        whole = skipped or lines[0].startswith("%%")
        magic = set() if whole else magic_lines("\n".join(lines))
        body = []
        goes_on = False  # Of a shell line the next may be the rest.
        for number, line in enumerate(lines):
            ours = goes_on or whole or number in magic
            body.append((f"# {line}" if goes_on else _commented(line, whole)) if ours else line)
            goes_on = ours and not whole and line.endswith("\\")
        return "\n".join([f"# %%{tags}", *body, ""])
    body = [f"# {line}".rstrip() for line in LINE_END.split(cell.source)]
    return "\n".join([f"# %% [{cell.kind}]{tags}", *body, ""])


def _commented(line: str, whole: bool) -> str:
    """A line as a comment; in a block that is Python a statement stays where it stood."""
    inner = line.lstrip()
    if not whole and (timed := TIMED.match(line)) and timed[3]:
        return f"{timed[1]}{timed[3]}  # %{timed[2]}time"
    return f"# {line}" if whole or inner == line else f"{line[: -len(inner)]}pass  # {inner}"


def _pictured(document: Document, read: Read) -> Document:
    """The notebook with the pictures that its texts name, attached or beside it, in these texts."""

    def put(cell: Cell) -> Cell:
        attached = cell.metadata.get(ATTACHMENTS) or {}

        def inside(found: re.Match[str]) -> str:
            if found[2] is None:
                return found[0]
            name = unquote(found[2])
            if name.startswith("attachment:"):
                bundle = attached.get(name.removeprefix("attachment:")) or {}
                mime, text = next(((m, as_text(t)) for m, t in bundle.items() if m in PICTURES.values()), ("", ""))
            else:
                data = read(name) or b""
                mime = next((mime for begin, mime in PICTURES.items() if data.startswith(begin)), "")
                text = base64.b64encode(data).decode()
            return f"{found[1]}data:{mime};base64,{text}" if mime else found[0]

        return replace(cell, source=PICTURE.sub(inside, cell.source)) if cell.kind == "markdown" else cell

    return replace(document, cells=tuple(map(put, document)))


def _sizes(about: Any) -> dict[str, Any]:
    """Of what is said of an output, how large it is to be shown."""
    told = about.items() if isinstance(about, dict) else ()
    return {name: value for name, value in told if name in ("width", "height") and type(value) in (int, float)}


def _show(output: Any, form: str) -> None:
    """Leaves of an output what a page shows of it."""
    shown = {mime: value for mime, value in output.data.items() if mime in SHOWN}
    output.data = shown or {"text/plain": f"({', '.join(output.data) or 'nothing'}: not shown here)"}
    if "text/html" not in output.data:
        return
    markup = still(as_text(output.data["text/html"]))
    pictured = any(mime.startswith("image/") for mime in output.data)
    if (markup == BY_SCRIPT and pictured) or (STYLED_ONLY in markup and "text/plain" in output.data):
        del output.data["text/html"]
    elif form == "md" or markup == BY_SCRIPT:
        output.data["text/html"] = markup


def _converted(document: Document, form: str, title: str) -> str:
    import nbformat
    from nbconvert import HTMLExporter, MarkdownExporter
    from traitlets.config import Config

    node = nbformat.from_dict(encode(document))
    for cell in node.cells:
        said: set[str] = set()
        for output in [output for output in cell.get("outputs", ()) if "data" in output]:
            _show(output, form)
            if output.data.get("text/html") == BY_SCRIPT:
                if said:
                    cell.outputs.remove(output)  # A library's loader, and what it draws: once is enough.
                said.add(BY_SCRIPT)
    if form == "md":
        # One file: figures stay in it.
        exporter = MarkdownExporter(config=Config({"ExtractOutputPreprocessor": {"enabled": False}}))
    else:
        # Its own cleaning knows hardly any tag, and takes Markdown for HTML.
        exporter = HTMLExporter(
            sanitize_html=True, mathjax_url="", require_js_url="", config=Config({"SanitizeHTML": {"enabled": False}})
        )
        formulas = Formulas()
        exporter.register_filter("markdown2html", formulas.markdown)
        exporter.register_filter("clean_html", lambda markup: formulas.put(dressed(markup)))
        for output in (output for cell in node.cells for output in cell.get("outputs", ()) if "data" in output):
            if "text/latex" in output.data and "text/html" not in output.data:
                written = formulas.in_text(as_text(output.data["text/latex"]))
                if "⟦" in written or "text/plain" not in output.data:
                    output.data["text/html"] = written
                else:
                    del output.data["text/latex"]  # Nothing that a page without scripts can show.
            output.metadata = {mime: _sizes(about) for mime, about in output.get("metadata", {}).items()}
    body, _ = exporter.from_notebook_node(node, resources={"metadata": {"name": title}})
    if form == "html":
        # What the cleaning lets pass cannot run either, nor reach any address.
        policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        dark = exporter.environment.loader.get_source(exporter.environment, "static/theme-dark.css")[0]
        at_night = (
            f'<style type="text/css">@media screen and (prefers-color-scheme: dark) {{ {dark} {FIGURES} }}</style>'
        )
        body = (
            str(body).replace("<head>", f"<head>{policy}", 1).replace("</head>", f"{STYLE}{PAGE}{at_night}</head>", 1)
        )
    return str(body)
