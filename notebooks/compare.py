"""Two runs of a cell beside each other: the same, the same within tolerance, or different, and in what."""

from __future__ import annotations

import base64
import difflib
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cellwright.notebooks.document import Output
from cellwright.notebooks.markup import MOST_CHARACTERS, aligned, read
from cellwright.notebooks.outputs import as_text
from cellwright.notebooks.render import plain

Likeness = Literal["same", "tolerance", "different"]
ORDER: tuple[Likeness, ...] = ("same", "tolerance", "different")

RELATIVE = 1e-6
"""How far two numbers may be apart, as a share of the larger."""

NEAR_ZERO = 1e-12
"""What stands for zero, where the other is zero."""

NOISE = (1e-18, 1e-15)
"""What computations leave of nought, each time another."""

LAST_DIGIT_FROM = 4
"""A printed number of so many digits or more may differ by one in its last: it was rounded."""

DIFF_LINES = 60
COMPARED_LINES = 1_000
ERROR = "an error"
FIGURE_PIXELS, TILE = 512, 16
TILE_LIMIT, WHOLE_LIMIT = 0.04, 0.004
"""Mean difference of a figure's worst tile and of the whole, from 0 to 1, up to which two figures look alike."""

SIZE_LIMIT = 0.03
FIGURES = ("image/png", "image/jpeg")
SHOWN = (
    *FIGURES,
    "application/vnd.plotly.v1+json",
    "application/geo+json",
    "application/json",
    "image/svg+xml",
    "text/html",
    "text/markdown",
    "text/latex",
    "text/plain",
)
"""Of a bundle the first form that both runs have is compared."""

UNSTABLE = (
    (re.compile(r"\bat 0x[0-9a-fA-F]{6,16}\b"), "at 0x…"),
    (re.compile(r"(?<![^\s\"'(<])[^\s\"'(<]*ipykernel_\d+[/\\]\d+\.py"), "<cell>"),
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "<uuid>"),
    (re.compile(r"\bT_[0-9a-f]{5}(?=_|\b)"), "T_…"),
    (re.compile(r"\bsk-(container|estimator|global)(-id|-div-id)?-\d+"), r"sk-\1"),
    (re.compile(r"(id=\"|href=\"#|url\(#)[a-zA-Z]+(\d+_\d+_)?[0-9a-f]{10}\b"), r"\1"),
    (re.compile(r"<dc:date>[^<]*</dc:date>"), ""),
)
"""What names a thing in memory or on a page, and says nothing about its value."""

TIMED = re.compile(
    r"^(CPU times|Wall time):.*$|^[\d.]+ \S+ ± [\d.]+ \S+ per loop .*$|(?<=\s)\d+[.:]\d+\s*(ms|µs|us|ns|s/it|it/s)\b",
    re.MULTILINE,
)
"""How long something took, as IPython and progress bars print it."""

CUT = re.compile(r"\n\[… [\d,]+ characters left out …\]\n")
"""Where our kernels leave out what a cell printed."""

HUNK = re.compile(r"^@@ -(\d+)([,\d]*) \+(\d+)")
NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?(?![\w])|\bnan\b|\binf\b")


@dataclass(frozen=True)
class Difference:
    """One thing in which two runs differ, for people: `text` is a unified diff, or a sentence."""

    about: str
    text: str
    likeness: Likeness
    share: float | None = None
    """Of figures: the mean difference of the worst tile, from 0 to 1."""


def worst(found: Iterable[Likeness]) -> Likeness:
    """The least alike of several; nothing is the same as nothing."""
    return max(found, key=ORDER.index, default="same")


def compare(recorded: Sequence[Output], now: Sequence[Output]) -> tuple[Difference, ...]:
    """What differs between two runs' outputs, which must be whole (`outputs.inline`); nothing for the same."""
    return tuple(_differences(recorded, now))


def _differences(recorded: Sequence[Output], now: Sequence[Output]) -> Iterator[Difference]:
    for name, about in (("stdout", "what it prints"), ("stderr", "what it writes to stderr")):
        found = texts(about, *_cut_alike(_stream(recorded, name), _stream(now, name)))
        if found is not None:
            # Warnings and progress are no results.
            like: Likeness = "tolerance" if name == "stderr" else found.likeness
            yield Difference(found.about, found.text, like)
    before, after = _shown(recorded), _shown(now)
    if len(before) != len(after):
        yield Difference("what it shows", f"{_count(len(before))} before, {_count(len(after))} now", "different")
    for number, (old, new) in enumerate(zip(before, after, strict=False), 1):
        found = _bundles("what it shows" if len(before) == 1 else f"what it shows ({number})", old, new)
        if found is not None:
            yield found
    yield from _errors(_error(recorded), _error(now))


def _count(number: int) -> str:
    return "nothing" if number == 0 else "one output" if number == 1 else f"{number} outputs"


def _stream(outputs: Sequence[Output], name: str) -> str:
    return "".join(as_text(o["text"]) for o in outputs if o["output_type"] == "stream" and o["name"] == name)


def _cut_alike(before: str, after: str) -> tuple[str, str]:
    """Of two texts, where a kernel showed head and tail of one only, so much of the other."""
    cuts = CUT.search(before), CUT.search(after)
    if cuts[0] is not None and cuts[1] is None:
        return before, _cut_as(after, cuts[0], before)
    if cuts[1] is not None and cuts[0] is None:
        return _cut_as(before, cuts[1], after), after
    return before, after


def _cut_as(text: str, cut: re.Match[str], other: str) -> str:
    head, tail = cut.start(), len(other) - cut.end()
    left_out = len(text) - head - tail
    return (
        f"{text[:head]}\n[… {left_out:,} characters left out …]\n{text[len(text) - tail :]}" if left_out > 0 else text
    )


def _shown(outputs: Sequence[Output]) -> list[dict[str, Any]]:
    return [o["data"] for o in outputs if o["output_type"] in ("display_data", "execute_result")]


def _error(outputs: Sequence[Output]) -> str | None:
    return next((f"{o['ename']}: {o['evalue']}" for o in outputs if o["output_type"] == "error"), None)


def _errors(before: str | None, after: str | None) -> Iterator[Difference]:
    if before is None and after is not None:
        yield Difference(ERROR, plain(after), "different")
    elif before is not None and after is None:
        yield Difference(ERROR, f"it does not fail any more; before: {plain(before)}", "different")
    elif before is not None and after is not None:
        found = texts(ERROR, before, after)
        if found is not None:
            yield found


# -- texts -----------------------------------------------------------------------------------------------------------


def texts(about: str, before: str, after: str) -> Difference | None:
    """How two texts differ, what is unstable by nature and numbers that are nearly the same not counted."""
    if before == after:
        return None
    old, new = stable(before), stable(after)
    if old == new:
        return None
    like: Likeness = "tolerance" if _alike(TIMED.sub("<time>", old), TIMED.sub("<time>", new)) else "different"
    return Difference(about, _diff(old.split("\n"), new.split("\n")), like)


def stable(text: str) -> str:
    """A text without colours, addresses, and names that are made anew for each run."""
    text = plain(text).replace("\r\n", "\n")
    for pattern, instead in UNSTABLE:
        text = pattern.sub(instead, text)
    return "\n".join(line.rstrip() for line in text.split("\n")).strip("\n")


def _alike(before: str, after: str) -> bool:
    """Whether two texts are the same but for numbers that are close, and the spaces that align them."""
    words = [" ".join(NUMBER.sub("#", text).split()) for text in (before, after)]
    rules = [re.sub(r"(?:[-─═+|] ?){3,}", "--- ", text) for text in words]
    if rules[0] != rules[1]:
        return False
    return all(close(old, new) for old, new in zip(NUMBER.findall(before), NUMBER.findall(after), strict=True))


def close(before: str, after: str) -> bool:
    """Whether two printed numbers may be the same value, computed or rounded a little differently."""
    if before == after:
        return True
    old, new = float(before), float(after)
    if old == new or (math.isnan(old) and math.isnan(new)):
        return True
    if not (math.isfinite(old) and math.isfinite(new)) or not re.search(r"[.eE]", before + after):
        return False  # Counts are counts.
    if math.isclose(old, new, rel_tol=RELATIVE) or (0.0 in (old, new) and max(abs(old), abs(new)) < NEAR_ZERO):
        return True
    if all(NOISE[0] < abs(value) < NOISE[1] for value in (old, new)):
        return True
    digits = [re.sub(r"[eE].*|[^\d]", "", text).lstrip("0") for text in (before, after)]
    return min(map(len, digits)) >= LAST_DIGIT_FROM and abs(old - new) <= 1.000001 * max(_unit(before), _unit(after))


def _unit(number: str) -> float:
    """The worth of a printed number's last digit."""
    mantissa, _, exponent = number.lower().partition("e")
    decimals = len(mantissa.partition(".")[2])
    return float(10.0 ** (int(exponent or 0) - decimals))


def _diff(old: list[str], new: list[str], head: str = "") -> str:
    """A unified diff; `head`, the names of a table's columns, stands above it wherever the difference is."""
    alike = next((n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    # What lies far behind the first difference is not shown, and comparing it takes time that grows with its square.
    part = slice(max(0, alike - 2), alike + COMPARED_LINES)
    lines = list(difflib.unified_diff(old[part], new[part], "recorded", "now", lineterm="", n=2))
    lines = [
        HUNK.sub(lambda found: f"@@ -{int(found[1]) + part.start}{found[2]} +{int(found[3]) + part.start}", line)
        for line in lines
    ]
    if head and f" {head}" not in lines:
        lines.insert(2, f" {head}")
    more = len(lines) - DIFF_LINES
    return "\n".join([line[:400] for line in lines[:DIFF_LINES]] + ([f"… {more} more lines"] if more > 0 else []))


def pages(about: str, before: str, after: str) -> Difference | None:
    """How two pieces of HTML differ: in what a reader sees, or in the markup where that is the same."""
    found = texts(about, before, after)
    if found is None or max(len(before), len(after)) > MOST_CHARACTERS:
        return found
    (old, head), (new, head_now) = read(stable(before)), read(stable(after))
    if old == new:
        return found
    shown, shown_now, [named] = aligned(old, new, [head] if head and head == head_now else [[]])
    if shown == shown_now:
        return found  # They differ in what is cut.
    return Difference(about, _diff(shown, shown_now, named), found.likeness)


# -- what is shown ---------------------------------------------------------------------------------------------------


def _bundles(about: str, before: dict[str, Any], after: dict[str, Any]) -> Difference | None:
    if all(any(mime.startswith("application/vnd.jupyter.widget") for mime in side) for side in (before, after)):
        return None  # A widget's model lives in its kernel: there is nothing recorded to compare with.
    best = next((m for m in SHOWN if m in before), None)
    if best is not None and best not in after and best != "text/plain":
        return Difference(about, f"{best} before, {', '.join(sorted(after)) or 'nothing'} now", "different")
    mime = next((m for m in SHOWN if m in before and m in after), None)
    mime = mime or next((m for m in before if m in after), None)
    if mime is None:
        told = [", ".join(sorted(bundle)) or "nothing" for bundle in (before, after)]
        return Difference(about, f"{told[0]} before, {told[1]} now", "different")
    old, new = before[mime], after[mime]
    if mime in FIGURES:
        try:
            return figures(about, base64.b64decode(as_text(old)), base64.b64decode(as_text(new)))
        except ValueError:
            return Difference(about, "one of the figures cannot be read", "different")
    if mime.endswith("json"):
        old, new = (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) for value in (old, new))
    return (pages if mime == "text/html" else texts)(about, as_text(old), as_text(new))


def figures(about: str, before: bytes, after: bytes) -> Difference | None:
    """How two pictures differ to the eye: blurred a little, tile by tile, so that a missing mark counts."""
    if before == after:
        return None
    from PIL import Image

    try:
        old, new = _picture(before), _picture(after)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return Difference(about, f"one of the figures cannot be read: {error}", "different")
    told = f"{old.width}×{old.height} before, {new.width}×{new.height} now"
    if any(abs(a - b) > max(2, SIZE_LIMIT * a) for a, b in zip(old.size, new.size, strict=True)):
        return Difference(about, f"the figure has another size: {told}", "different", 1.0)
    tile, whole = _apart(old, new)
    if whole == 0.0 and old.size == new.size:
        return None
    like: Likeness = "tolerance" if tile <= TILE_LIMIT and whole <= WHOLE_LIMIT else "different"
    return Difference(
        about, f"the figures differ by {tile:.1%} where they differ most, {whole:.2%} overall", like, tile
    )


def _picture(data: bytes) -> Any:
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        shown = image.convert("RGBA")
    white = Image.new("RGBA", shown.size, "white")
    return Image.alpha_composite(white, shown).convert("RGB")


def _apart(old: Any, new: Any) -> tuple[float, float]:
    """The mean difference in the worst tile, and in all, from 0 to 1."""
    from PIL import Image, ImageChops, ImageFilter

    scale = min(1.0, FIGURE_PIXELS / max(old.size))
    size = tuple(max(1, round(side * scale)) for side in old.size)
    blurred = [p.resize(size, Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(1)) for p in (old, new)]
    apart = ImageChops.difference(*blurred).convert("L")
    tiles = apart.resize((math.ceil(size[0] / TILE), math.ceil(size[1] / TILE)), Image.Resampling.BOX)
    return max(tiles.tobytes()) / 255, sum(i * n for i, n in enumerate(apart.histogram())) / (255 * size[0] * size[1])


def overlay(before: bytes, after: bytes) -> bytes:
    """A PNG of where two pictures differ: the recorded one in grey, the differences in red."""
    from PIL import Image, ImageChops

    old, new = _picture(before), _picture(after)
    if new.size != old.size:
        new = new.resize(old.size)
    apart = ImageChops.difference(old, new).convert("L").point(lambda value: min(255, value * 4))
    faint = Image.blend(old.convert("L").convert("RGB"), Image.new("RGB", old.size, "white"), 0.7)
    red = Image.new("RGB", old.size, (214, 39, 40))
    data = io.BytesIO()
    Image.composite(red, faint, apart).save(data, "PNG")
    return data.getvalue()
