"""How outputs accumulate, and how large ones stand elsewhere."""

from __future__ import annotations

import base64
import random

from cellwright.notebooks.outputs import (
    Clear,
    Console,
    OutputArea,
    Show,
    Update,
    externalise,
    inline,
    references,
)


def stream(text: str, name: str = "stdout") -> Show:
    return Show({"output_type": "stream", "name": name, "text": text})


def display(text: str, display_id: str | None = None) -> Show:
    return Show({"output_type": "display_data", "data": {"text/plain": text}, "metadata": {}}, display_id)


def area(*changes: Show | Update | Clear) -> OutputArea:
    made = OutputArea()
    for change in changes:
        made.apply(change)
    return made


def test_carriage_returns_write_over_the_line() -> None:
    """A progress bar leaves its last state, as in JupyterLab."""
    shown = area(*(stream(f"\r{n}%") for n in range(0, 101, 10)), stream("\ndone\n")).outputs
    assert shown == [{"output_type": "stream", "name": "stdout", "text": "100%\ndone\n"}]
    assert area(stream("abcdef\rXY\n")).outputs[0]["text"] == "XYcdef\n"
    assert area(stream("ab\b\bc\r\nd")).outputs[0]["text"] == "cb\nd"


def test_console_text_does_not_depend_on_how_it_was_cut() -> None:
    """Any split of the same writes gives the same text."""
    rng = random.Random(4)
    text = "".join(rng.choice(["a", "bc", "\n", "\r", "\b", "x\ry", "\n\n"]) for _ in range(200)).replace("\r\n", "\n")
    whole = Console()
    whole.write(text)
    for _ in range(50):
        parts, place = Console(), 0
        while place < len(text):
            step = rng.randrange(1, 9)
            parts.write(text[place : place + step])
            place += step
        assert parts.text == whole.text


def test_streams_join_and_alternate() -> None:
    """Text of one stream joins; another stream or a display begins a new output."""
    kinds = [
        (o["output_type"], o.get("name"))
        for o in area(stream("a"), stream("b"), stream("e", "stderr"), display("x"), stream("c")).outputs
    ]
    assert kinds == [("stream", "stdout"), ("stream", "stderr"), ("display_data", None), ("stream", "stdout")]


def test_clear_output_waits_for_the_next() -> None:
    """With `wait` the old outputs stay until a new one comes."""
    waiting = area(stream("old"), Clear(wait=True))
    assert waiting.outputs[0]["text"] == "old"
    waiting.apply(stream("new"))
    assert [o["text"] for o in waiting.outputs] == ["new"]
    assert area(stream("old"), Clear()).outputs == []


def test_update_display_changes_every_output_of_that_id() -> None:
    """`update_display_data` reaches all outputs shown under its id, and only those."""
    shown = area(
        display("1", "d"), display("other"), display("2", "d"), Update("d", {"text/plain": "new"}), Update("zz", {})
    ).outputs
    assert [o["data"]["text/plain"] for o in shown] == ["new", "other", "new"]


def test_large_values_stand_elsewhere_and_come_back() -> None:
    """`inline` undoes `externalise` for text, base64 and JSON values."""
    png = base64.b64encode(random.Random(5).randbytes(100_000)).decode()
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": "ä" * 100_000},
        {
            "output_type": "display_data",
            "data": {"image/png": png, "text/plain": "small", "application/vnd.plotly.v1+json": {"x": ["y" * 70_000]}},
            "metadata": {},
        },
        {"output_type": "error", "ename": "E", "evalue": "v", "traceback": []},
    ]
    slim, objects = externalise(outputs)
    assert len(str(slim)) < 2_000
    assert sorted(references(slim)) == sorted(objects)
    assert objects[references(slim)[1]] == base64.b64decode(png)
    assert inline(slim, objects.__getitem__) == outputs
    assert externalise(slim) == (slim, {})
