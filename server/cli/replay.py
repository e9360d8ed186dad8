"""`cellwright replay` and `import`."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from cellwright.server.cli.client import ClientError, connect
from cellwright.server.cli.sessions import JSON
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

if TYPE_CHECKING:
    from cellwright.notebooks.replay import Replay

SIGNS = {
    "same": ("✓", "green"),
    "tolerance": ("≈", "green"),
    "different": ("≠", "yellow"),
    "failed": ("✗", "red"),
    "skipped": ("–", "dim"),
}
DIFF_LINES = 12
MAX_FILES = 199

NOTEBOOK = click.argument("notebook", type=click.Path(exists=True, dir_okay=False, path_type=Path))
FILES = click.option(
    "--files",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The folder with the files that it needs; by default those beside it that its code names.",
)


def needed(notebook: Path, folder: Path | None) -> list[tuple[str, Path]]:
    """The files to send with a notebook, by their names from its folder; raises ClientError for too many."""
    if folder is not None:
        found = [
            (path.relative_to(folder).as_posix(), path)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
            and not any(part.startswith((".", "__pycache__")) for part in path.relative_to(folder).parts)
            and path.resolve() != notebook.resolve()
        ]
    else:
        found = [(name, notebook.parent / name) for name in _named(notebook) if (notebook.parent / name).is_file()]
    if len(found) > MAX_FILES:
        raise ClientError(f"{folder} holds {len(found)} files; {MAX_FILES} can be sent with a notebook.")
    return [(name, path) for name, path in found if path.stat().st_size]


def _named(notebook: Path) -> list[str]:
    """Names of files that a notebook's code writes out, and those that its provenance names."""
    import ast

    try:
        held = json.loads(notebook.read_bytes())
        cells, about = held["cells"], held.get("metadata", {}).get("cellwright", {})
        sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        names = [row["name"] for row in about.get("inputs", ())]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []  # The server says what is wrong with it.
    for source in sources:
        with contextlib.suppress(SyntaxError, ValueError, RecursionError):
            plain = "\n".join("" if line.startswith(("%", "!")) else line for line in source.split("\n"))
            for node in ast.walk(ast.parse(plain)):
                if isinstance(node, ast.Constant) and _path(node.value):
                    names.append(node.value)
                elif isinstance(node, ast.Import):
                    names += [file for alias in node.names for file in _files_of(alias.name)]
                elif isinstance(node, ast.ImportFrom) and node.module:
                    names += _files_of(node.module)
    return list(dict.fromkeys(names))


def _files_of(module: str) -> list[str]:
    """Files that a module beside the notebook would be, with the packages above it."""
    parts = module.split(".")
    above = ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
    return [name for place in above for name in (f"{place}.py", f"{place}/__init__.py")]


def _provided(notebook: Path) -> list[str]:
    """Names of the files that an export says it was made with."""
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
        held = json.loads(notebook.read_bytes())["metadata"]["cellwright"]
        return [str(row["name"]) for row in held["inputs"]]
    return []


def _path(value: object) -> bool:
    """Whether a text in code may be the name of a file beside the notebook."""
    return (
        isinstance(value, str) and 0 < len(value) < 200 and "\n" not in value and not value.startswith(("/", "..", "~"))
    )


@contextlib.contextmanager
def _parts(notebook: Path, folder: Path | None) -> Iterator[list[tuple[str, tuple[str, Any]]]]:
    with ExitStack() as stack:
        parts = [("notebook", (notebook.name, stack.enter_context(notebook.open("rb"))))]
        parts += [("file", (name, stack.enter_context(path.open("rb")))) for name, path in needed(notebook, folder)]
        yield parts


@click.command()
@NOTEBOOK
@FILES
@click.option("--report", type=click.Choice(["html", "json"]), help="Write a report, too.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Where the report goes; - prints it."
)
@click.option("--keep-going", is_flag=True, help="Run what follows a cell that fails.")
@click.pass_context
def replay(
    ctx: click.Context,
    notebook: Path,
    folder: Path | None,
    report: str | None,
    output: Path | None,
    keep_going: bool,
) -> None:
    """Run a NOTEBOOK again in a fresh kernel, and compare it cell by cell with what it holds.

    \b
    Exit code 0: it came out the same, or nearly. 2: a cell differs or fails. 1: it could not be replayed.
    """
    if output is not None and report is None:
        report = "json" if output.suffix == ".json" else "html"
    printed = report is not None and str(output) == "-"
    console = Console(stderr=printed)
    found = _replayed(ctx, notebook, folder, console, keep_going)
    from cellwright.notebooks.replay import told

    console.print(Text(told(found), style="bold"))
    for file in found.inputs:
        if file.status != "same":
            what = "is not there" if file.status == "missing" else "is another file than it was made with"
            console.print(Text(f"  {file.name} {what}", style="yellow"))
    if found.packages:
        changed = ", ".join(f"{p.name} {p.recorded or '–'} → {p.now or 'not installed'}" for p in found.packages)
        console.print(Text(f"  Other versions than it was made with: {changed}", style="dim"))
    if report is not None:
        from cellwright.notebooks.report import page

        text = page(found) if report == "html" else json.dumps(found.model_dump(mode="json"), indent=1)
        if printed:
            sys.stdout.write(text + "\n")
        else:
            place = output or notebook.with_suffix(f".replay.{report}")
            place.write_text(text, encoding="utf-8")
            console.print(f"Wrote {place}", highlight=False)
    if not found.proven:
        ctx.exit(2)


def _replayed(ctx: click.Context, notebook: Path, folder: Path | None, console: Console, keep_going: bool) -> Replay:
    from cellwright.notebooks.replay import Replay

    server = connect(ctx)
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=console, transient=True,
    )  # fmt: skip
    with _parts(notebook, folder) as parts, bar:
        task = bar.add_task("starting a kernel", total=None)
        with server.events("POST", "/replay", files=parts, params={"keep_going": keep_going}) as events:
            for kind, data, _ in events:
                if kind == "replay.started":
                    bar.update(task, description="replaying", total=data["cells"])
                elif kind == "cell.started":
                    bar.update(task, description=f"cell {data['number']}")
                elif kind == "cell.replayed":
                    bar.advance(task)
                    _show(console, data)
                elif kind == "replay.failed":
                    raise ClientError(data["detail"])
                elif kind == "replay.completed":
                    return Replay.model_validate(data)
    raise ClientError("The server ended the replay without a report.")


def _show(console: Console, cell: dict[str, Any]) -> None:
    """One cell's verdict in a line, with what differs below it."""
    sign, style = SIGNS[cell["verdict"]]
    first = next((line for line in cell["source"].splitlines() if line.strip()), "")
    line = Text.assemble((f"{sign} ", style), (f"{cell['number']:>3}  ", "dim"), first[:70])
    if cell["reason"]:
        line.append(f"  {cell['reason'][:200]}", style)
    console.print(line)
    if cell["verdict"] in ("different", "tolerance"):
        for difference in cell["differences"]:
            lines = difference["text"].split("\n")
            shown = [text for text in lines if not text.startswith(("---", "+++"))][:DIFF_LINES]
            console.print(Text(f"       {difference['about']}:", style="dim"))
            for text in shown:
                colour = "green" if text.startswith("+") else "red" if text.startswith("-") else "dim"
                console.print(Text(f"         {text[:160]}", style=colour))
            if len(lines) > DIFF_LINES + 2:
                console.print(Text(f"         … {len(lines) - DIFF_LINES - 2} more lines", style="dim"))


@click.command(name="import")
@NOTEBOOK
@FILES
@click.option("-t", "--title", help="The session's title; by default the notebook's name.")
@click.option("-k", "--key", help="Your own name for the session.")
@JSON
@click.pass_context
def import_(
    ctx: click.Context, notebook: Path, folder: Path | None, title: str | None, key: str | None, as_json: bool
) -> None:
    """Make a session of a NOTEBOOK: go on with it with the agent."""
    server = connect(ctx)
    asked = {name: value for name, value in (("title", title), ("key", key)) if value}
    with _parts(notebook, folder) as parts:
        made = server.call("POST", "/import", params=asked, files=parts)
    if as_json:
        click.echo(json.dumps(made, indent=2))
        return
    name = made["key"] or made["id"]
    click.echo(f"Made the session {made['title']!r} of it: {made['notebook_path']}")
    if missing := [file for file in _provided(notebook) if not (notebook.parent / file).exists() and folder is None]:
        click.echo(f"Not found beside it, and not brought along: {', '.join(missing)}")
    click.echo("No cell of it has run yet.")
    click.echo(f'Go on with: cellwright ask --session {name} "…"')
