"""A turn on the terminal, as it happens; plain lines where it is no terminal."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cellwright.notebooks.outputs import TABLE_MIME, Change, OutputArea, Show, is_reference
from cellwright.notebooks.render import plain
from cellwright.server.live import heard
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markdown import Markdown
from rich.padding import Padding
from rich.panel import Panel
from rich.spinner import Spinner
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

MAX_LINES = 16
MAX_WIDTH = 92
MAX_CELL = 24
LIVE_LINES = 10


def size(count: int) -> str:
    """Bytes for people."""
    value = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{count} B"


def took(ms: int) -> str:
    """Milliseconds for people."""
    return f"{ms} ms" if ms < 1000 else f"{ms / 1000:.1f} s" if ms < 60_000 else f"{ms // 60_000} min"


class TurnView:
    """Shows the events of one turn; `ended` is the type of its last."""

    def __init__(self, console: Console, *, folder: str = "") -> None:
        self.console, self._folder = console, folder
        self.ended: str | None = None
        self.end: dict[str, Any] = {}
        self._text: dict[str, str] = {}
        self._seen = ""
        self._running_since: float | None = None
        self._area = OutputArea()
        self._live: Live | None = None
        self._began = time.monotonic()

    def __enter__(self) -> TurnView:
        if self.console.is_terminal:
            self._live = Live(console=self.console, refresh_per_second=12, transient=True, get_renderable=self._now)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves the terminal to others for a while."""
        if self._live is not None:
            self._live.stop()
        try:
            yield
        finally:
            if self._live is not None:
                self._live.start()

    def event(self, kind: str, data: dict[str, Any]) -> None:
        """Takes one event of the stream."""
        handler = getattr(self, "_on_" + kind.replace(".", "_"), None)
        if handler is not None:
            handler(data)

    # -- live ---------------------------------------------------------------------------------------------------

    def _on_message_delta(self, data: dict[str, Any]) -> None:
        channel = data["channel"]
        self._text[channel] = self._text.get(channel, "")[: data["offset"]] + data["text"]

    def _on_message_snapshot(self, data: dict[str, Any]) -> None:
        self._text = dict(data["text"])

    def _on_cell_output(self, data: dict[str, Any]) -> None:
        change: Change = heard(data)
        self._area.apply(change)

    def _on_cell_snapshot(self, data: dict[str, Any]) -> None:
        self._area = OutputArea()
        for output in data["outputs"]:
            self._area.apply(Show(output))

    def _now(self) -> RenderableType:
        """What is under way."""
        if self._running_since is not None:
            seconds = time.monotonic() - self._running_since
            parts: list[RenderableType] = [Spinner("dots", Text(f" running… {seconds:.1f} s", style="cyan"))]
            text = "".join(o.get("text", "") for o in self._area.outputs if o["output_type"] == "stream")
            if text:
                parts.append(Padding(Text("\n".join(text.splitlines()[-LIVE_LINES:]), style="dim"), (0, 2)))
            return Group(*parts)
        shown: list[RenderableType] = []
        if self._text.get("thinking"):
            last = "\n".join(self._text["thinking"].splitlines()[-3:])
            shown.append(Text(f"  {last}", style="dim italic"))
        if self._text.get("answer"):
            shown.append(Markdown("\n".join(self._text["answer"].splitlines()[-LIVE_LINES * 2 :])))
        if self._text.get("code"):
            code = "\n".join(self._text["code"].splitlines()[-LIVE_LINES:])
            shown.append(Padding(Syntax(code, "python", theme="ansi_dark", background_color="default"), (0, 2)))
        if self.ended is None:
            shown.append(Spinner("dots", Text(" thinking…", style="cyan")))
        return Group(*shown)

    # -- durable ------------------------------------------------------------------------------------------------

    def _on_turn_started(self, data: dict[str, Any]) -> None:
        self.console.print()
        self.console.print(Text.assemble(("▌ ", "bold magenta"), (data["query"], "bold")))

    def _on_message_completed(self, data: dict[str, Any]) -> None:
        if data["role"] != "assistant":
            return
        self._text = {}
        if data.get("thoughts"):
            self.console.print(Padding(Text(data["thoughts"].strip(), style="dim italic"), (0, 0, 0, 2)))
        if data["content"] and data["tool_calls"]:
            self.console.print(Padding(Markdown(data["content"]), (0, 0, 0, 2)))

    def _on_attempt_discarded(self, data: dict[str, Any]) -> None:
        self._text = {}
        if data.get("retry_in_s") is not None:
            self.console.print(Text(f"  {data['message']}", style="yellow"))

    def _on_cell_started(self, data: dict[str, Any]) -> None:
        self._area = OutputArea()
        self._running_since = time.monotonic()
        if data["source"] == self._seen:  # It was shown when it was asked for.
            return
        title = Text(data["purpose"] or "cell", style="cyan")
        code = Syntax(data["source"], "python", theme="ansi_dark", background_color="default", word_wrap=True)
        if self.console.is_terminal:
            self.console.print(Panel(code, title=title, title_align="left", border_style="cyan", padding=(0, 1)))
        else:
            for line in [f"# {data['purpose'] or 'cell'}", *data["source"].splitlines()]:
                self.console.print(f"  > {line}", markup=False, highlight=False, soft_wrap=True)

    def _on_approval_requested(self, data: dict[str, Any]) -> None:
        title = Text(f"{data['purpose'] or 'a cell'}: {'; '.join(data['reasons'])}", style="yellow")
        code = Syntax(data["source"], "python", theme="ansi_dark", background_color="default", word_wrap=True)
        self.console.print(Panel(code, title=title, title_align="left", border_style="yellow", padding=(0, 1)))
        self._seen = data["source"]

    def _on_approval_decided(self, data: dict[str, Any]) -> None:
        if data["decision"] == "reject":
            self.console.print(Text("  ✗ not allowed", style="yellow"))

    def _on_cell_completed(self, data: dict[str, Any]) -> None:
        self._running_since = None
        self._area = OutputArea()
        for output in data["outputs"]:
            shown = render_output(output, self.console.width - 4)
            if shown is not None:
                self.console.print(Padding(shown, (0, 0, 0, 2)))
        if data["status"] != "ok":
            told = f"  ✗ {data['status'].replace('_', ' ')}{': ' + data['cause'] if data.get('cause') else ''}"
            self.console.print(Text(told, style="red"))

    def _on_artifact_ready(self, data: dict[str, Any]) -> None:
        artifact = data["artifact"]
        sign = "▣ " if artifact["file_type"] in ("png", "svg", "jpg") else "▤ "
        table = TABLE_SIGN if artifact["metadata"].get("columns") else sign
        line = Text.assemble("  ", table, (artifact["name"], "green"), (f"  {size(artifact['size_bytes'])}", "dim"))
        self.console.print(line)

    def _on_artifact_failed(self, data: dict[str, Any]) -> None:
        self.console.print(Text(f"  {data['message']}", style="red"))

    def _on_kernel_changed(self, data: dict[str, Any]) -> None:
        if data["status"] == "died":
            self.console.print(Text(f"  ✗ {data['message']}", style="red"))
        elif data["status"] == "restarted":
            told = "  A new kernel was started: earlier variables are gone. `cellwright recover` can bring them back."
            self.console.print(Text(told, style="yellow"))
        elif data["status"] == "restored" and data.get("variables_lost") and not data.get("recovered"):
            told = "  Some variables did not come back. `cellwright recover` may make them again."
            self.console.print(Text(told, style="yellow"))

    def _finish(self, kind: str, data: dict[str, Any]) -> None:
        self.ended, self.end = kind, data
        self._running_since = None
        self._text = {}
        if data.get("answer"):
            self.console.print()
            self.console.print(Padding(Markdown(data["answer"]), (0, 0, 0, 2)))
        if kind != "turn.completed":
            self.console.print(Text(f"  {data['message']}", style="yellow" if kind == "turn.stopped" else "red"))
        usage = data["usage"]
        told = [f"{time.monotonic() - self._began:.1f} s"]
        if usage["calls"]:
            told.append(f"{usage['prompt_tokens'] + usage['completion_tokens']:,} tokens")
        if usage["cost"]:
            told.append(f"${usage['cost']:.4f}")
        self.console.print(Text("  " + " · ".join(told), style="dim"))

    def _on_turn_completed(self, data: dict[str, Any]) -> None:
        self._finish("turn.completed", data)

    def _on_turn_failed(self, data: dict[str, Any]) -> None:
        self._finish("turn.failed", data)

    def _on_turn_stopped(self, data: dict[str, Any]) -> None:
        self._finish("turn.stopped", data)

    def _on_turn_interrupted(self, data: dict[str, Any]) -> None:
        self._finish("turn.interrupted", data)


TABLE_SIGN = "▦ "


def render_output(output: dict[str, Any], width: int = MAX_WIDTH) -> RenderableType | None:
    """One output of a cell for the terminal."""
    match output["output_type"]:
        case "stream":
            text = output["text"]
            if is_reference(text):
                return Text(f"[{size(text['size_bytes'])} of {output['name']}]", style="dim")
            return _cut(plain(text).rstrip("\n"), "red" if output["name"] == "stderr" else "")
        case "error":
            return Text(f"{output['ename']}: {plain(output['evalue'])}", style="red")
    table = output.get("metadata", {}).get(TABLE_MIME)
    if table is not None:
        return _table(table, width)
    text = output.get("data", {}).get("text/plain")
    if isinstance(text, str) and not re.fullmatch(r"<[^<>]*>", text.strip()) and "image/png" not in output["data"]:
        return _cut(text)
    return None


def _cut(text: str, style: str = "") -> Text:
    lines = text.splitlines()
    if len(lines) > MAX_LINES:
        half = MAX_LINES // 2
        lines = [*lines[:half], f"… {len(lines) - MAX_LINES} more lines …", *lines[-half:]]
    return Text("\n".join(lines), style=style)


def _table(told: dict[str, Any], width: int = MAX_WIDTH) -> RenderableType:
    """A table's first rows, with as many columns as fit."""
    index = [{"name": name, "dtype": "", "of_index": True} for name in told.get("index", ())]
    columns = [*index, *told["columns"]]
    names = [column["name"] for column in columns]
    labels = told.get("labels") or [[]] * len(told["preview"])
    rows = [[_value(value) for value in (*label, *row)] for label, row in zip(labels, told["preview"], strict=True)]
    wide = [min(MAX_CELL, max(len(name), *(len(row[i]) for row in rows), 1)) + 2 for i, name in enumerate(names)]
    fitting = next((n for n in range(len(wide), 1, -1) if sum(wide[:n]) <= width), 1)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns[:fitting]:
        right = column["dtype"].lower().startswith(("int", "float", "uint"))
        table.add_column(
            column["name"],
            justify="right" if right else "left",
            style="bold" if column.get("of_index") else "",
            overflow="ellipsis",
            no_wrap=True,
            max_width=MAX_CELL,
        )
    for row in rows:
        table.add_row(*row[:fitting])
    left_rows, left_columns = told["rows"] - len(rows), len(names) - fitting
    more = [
        f"{n} more {what}{'s' if n > 1 else ''}" for n, what in ((left_rows, "row"), (left_columns, "column")) if n > 0
    ]
    return Group(table, Text("… " + ", ".join(more), style="dim")) if more else table


def _value(value: Any) -> str:
    text = "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.removesuffix(" 00:00:00")  # A day, as pandas shows it.
