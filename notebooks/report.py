"""A replay's report as one page that works offline and runs nothing."""

from __future__ import annotations

import base64
from functools import cache
from pathlib import Path
from typing import Any

from cellwright.notebooks.compare import FIGURES, overlay
from cellwright.notebooks.document import Output
from cellwright.notebooks.markup import MOST_CHARACTERS, cleaned
from cellwright.notebooks.outputs import as_text
from cellwright.notebooks.render import bounded, plain
from cellwright.notebooks.replay import VERDICTS, WORDS, Replay, ReplayedCell, told
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; font-src data:"
"""What a page of ours that is saved as a file may do: show what it holds itself."""

TEXT_CHARACTERS = 20_000


@cache
def _page() -> Any:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, undefined=StrictUndefined
    )
    environment.globals |= {"shown": shown, "where": where, "words": WORDS, "verdicts": VERDICTS, "policy": POLICY}
    return environment.get_template("replay.html")


def page(report: Replay) -> str:
    """The report as HTML. Blocking: figures are compared once more for the picture of their difference."""
    return str(_page().render(report=report, told=told(report)))


def shown(outputs: list[Output]) -> list[Markup]:
    """Outputs as HTML in which nothing can run."""
    return [Markup(text) for text in map(_shown, outputs) if text]  # noqa: S704 (escaped or cleaned below)


def _shown(output: Output) -> str:
    match output["output_type"]:
        case "stream":
            kind = "stderr" if output["name"] == "stderr" else "stdout"
            return f'<pre class="{kind}">{_text(as_text(output["text"]))}</pre>'
        case "error":
            trace = "\n".join(output.get("traceback") or [f"{output['ename']}: {output['evalue']}"])
            return f'<pre class="error">{_text(trace)}</pre>'
    data = output.get("data", {})
    for mime in FIGURES:
        if mime in data:
            return (
                f'<img alt="A figure" src="data:{mime};base64,{Markup.escape("".join(as_text(data[mime]).split()))}">'
            )
    if "image/svg+xml" in data:
        inside = base64.b64encode(as_text(data["image/svg+xml"]).encode()).decode()
        return f'<img alt="A figure" src="data:image/svg+xml;base64,{inside}">'
    if "text/html" in data and len(as_text(data["text/html"])) <= MOST_CHARACTERS:
        return f'<div class="html">{cleaned(as_text(data["text/html"]))}</div>'
    if "text/plain" in data:
        return f"<pre>{_text(as_text(data['text/plain']))}</pre>"
    return f"<pre>{_text(', '.join(data))}</pre>" if data else ""


def _text(text: str) -> str:
    return str(Markup.escape(bounded(plain(text).rstrip("\n"), TEXT_CHARACTERS)))


def where(cell: ReplayedCell) -> list[str]:
    """For each figure that differs, an address of the picture of where it does."""
    from PIL import Image

    before, after = (_figures(outputs) for outputs in (cell.recorded, cell.now))
    found = []
    for old, new in zip(before, after, strict=False):
        if old != new:
            try:
                picture = base64.b64encode(overlay(base64.b64decode(old), base64.b64decode(new))).decode()
            except (OSError, ValueError, Image.DecompressionBombError):
                continue
            found.append(f"data:image/png;base64,{picture}")
    return found


def _figures(outputs: list[Output]) -> list[str]:
    bundles = [output.get("data", {}) for output in outputs]
    return [as_text(data[mime]) for data in bundles for mime in FIGURES if mime in data]
