"""What a model is told of a cell: bounded text, with tables, charts and figures named rather than dumped."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from dataclasses import dataclass

from cellwright.notebooks.document import Output
from cellwright.notebooks.outputs import OBJECT, as_text, is_reference

TEXT_LIMIT = 6_000
"""Characters of one output that a model sees: half from its head, half from its tail."""

CELL_LIMIT = 16_000
"""Characters of one cell's outputs together."""

ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")

DESCRIBED = {
    "image/png": "a PNG image",
    "image/jpeg": "a JPEG image",
    "image/svg+xml": "an SVG image",
    "application/vnd.plotly.v1+json": "an interactive Plotly chart",
    "application/pdf": "a PDF",
    "application/javascript": "JavaScript",
}


@dataclass(frozen=True)
class Image:
    """A figure for models that see: `data` is base64, or None where it stands in the object store as `sha256`."""

    mime: str
    data: str | None
    sha256: str | None = None


def plain(text: str) -> str:
    """Text without terminal colours."""
    return ANSI.sub("", text)


def bounded(text: str, limit: int = TEXT_LIMIT) -> str:
    """Head and tail of `text`, at most about `limit` characters, saying what is left out."""
    if len(text) <= limit:
        return text
    half = limit // 2
    head, tail = text[:half], text[-half:]
    left_out = len(text) - len(head) - len(tail)
    return f"{head}\n[… {left_out:,} characters left out …]\n{tail}"


def cell_text(status: str, outputs: Iterable[Output], limit: int = CELL_LIMIT) -> str:
    """One cell's result as a model reads it, at most about `limit` characters."""
    parts = [output_text(output) for output in outputs]
    body = bounded("\n".join(part for part in parts if part), limit)
    said = {
        "ok": "" if body else "The cell ran without output.",
        "error": "The cell failed.",
        "aborted": "The cell was not run.",
        "interrupted": "The cell was interrupted. Variables are kept.",
        "timeout": "The cell ran into its time limit and was stopped.",
        "kernel_died": "The kernel died while the cell ran: all variables are gone.",
        "outcome_unknown": "The server was restarted while the cell ran: whether it finished is not known.",
    }.get(status, status)
    return "\n".join(part for part in (said, body) if part)


def output_text(output: Output, limit: int = TEXT_LIMIT) -> str:
    """One output in words."""
    match output["output_type"]:
        case "stream":
            text = output["text"]
            if is_reference(text):
                return f"[{text['size_bytes']:,} bytes of {output['name']}]"
            return bounded(plain(as_text(text)).rstrip("\n"), limit)
        case "error":
            return bounded(_error_text(output), limit)
        case _:
            return _bundle_text(output.get("data", {}), limit)


def _error_text(output: Output) -> str:
    """Name, message, and the lines of the traceback that point into the cell."""
    trace = [plain(line) for line in output.get("traceback", ())]
    said = f"{output.get('ename', 'Error')}: {output.get('evalue', '')}"
    arrows = [
        line.strip() for frame in trace for line in frame.splitlines() if re.match(r"\s*-+>\s*\d+", line) is not None
    ]
    return "\n".join([*(f"  {line}" for line in arrows[-6:]), said])


def _bundle_text(data: dict[str, object], limit: int) -> str:
    said = [f"[shows {name}]" for mime, name in DESCRIBED.items() if mime in data]
    said += [f"[shows a {mime} chart]" for mime in data if "vega" in mime]
    text = data.get("text/plain")
    if is_reference(text):
        said.append(f"[{text['size_bytes']:,} bytes of text]")  # type: ignore[index]
    elif text is not None and not (said and re.fullmatch(r"<[^<>]*>", as_text(text).strip())):  # type: ignore[arg-type]
        said.append(bounded(plain(as_text(text)), limit))  # type: ignore[arg-type]
    elif text is None:
        for mime in ("text/markdown", "text/latex", "application/json", "text/html"):
            value = data.get(mime)
            if value is None:
                continue
            if is_reference(value):
                said.append(f"[{value['size_bytes']:,} bytes of {mime}]")  # type: ignore[index]
            else:
                words = as_text(value) if isinstance(value, (str, list)) else str(value)
                said.append(bounded(_unmarked(words) if mime == "text/html" else words, limit))
            break
    return "\n".join(said)


def _unmarked(markup: str) -> str:
    words = re.sub(r"(?is)<(script|style).*?</\1>", " ", markup)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", words)).split())


def images(outputs: Iterable[Output]) -> list[Image]:
    """The figures among outputs that a model can be shown, in order."""
    found = []
    for output in outputs:
        for mime in ("image/png", "image/jpeg"):
            value = output.get("data", {}).get(mime)
            if is_reference(value):
                found.append(Image(mime, None, value[OBJECT]))
                break
            if value is not None:
                found.append(Image(mime, as_text(value)))
                break
    return found
