"""`cellwright undo`, `redo`, `branch`, `recover`, `checkpoints`, `diff` and `log`."""

from __future__ import annotations

import json
from typing import Any

import click
from cellwright.server.cli.client import Server, connect, quoted
from cellwright.server.cli.sessions import JSON, ago, complete_session
from cellwright.server.cli.view import size, took
from rich.console import Console
from rich.table import Table
from rich.text import Text

SESSION = click.argument("session", shell_complete=complete_session)
RERUN = click.option(
    "--rerun",
    type=click.Choice(["never", "safe", "all"]),
    default="safe",
    show_default=True,
    help="Which cells may run again to make what is not stored.",
)
MEANS = {
    "none": "there was none",
    "fork": "a live copy of the kernel",
    "stored": "stored variables",
    "rerun": "cells that run again",
}
SHOWN = 6
MOST_SESSIONS = 2_000
"""Among how many sessions branches are looked for."""


def _named(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _turns(numbers: list[int]) -> str:
    return f"turn{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def tell(console: Console, told: dict[str, Any], *, foretold: bool) -> None:
    """What a move did, or would do, in a few lines."""
    place = f"after turn {told['to_turn']}" if told["to_turn"] else "before the first turn"
    console.print(Text(f"{'Would be' if foretold else 'Now'} {place}", style="bold"))
    rows: list[tuple[str, str]] = []
    if told["left_turns"]:
        rows.append(("left behind", f"{_turns(told['left_turns'])} (in the log, and can be gone back to)"))
    if told["back_turns"]:
        rows.append(("back again", _turns(told["back_turns"])))
    cells = [f"{len(ids)} {kind}" for kind, ids in told["cells"].items() if ids]
    if cells:
        rows.append(("cells", ", ".join(cells)))
    files, variables = told["files"], told["variables"]
    for kind, names in (("written", files["written"]), ("removed", files["removed"])):
        if names:
            rows.append((f"files {kind}", _named(names)))
    _tell_rows(console, rows)
    tell_variables(console, variables, foretold=foretold)
    for left in files["left"]:
        console.print(Text(f"  ! {left['name']} stays as it is: {left['reason']}", style="yellow"))
    for outside in told["not_rewound"]:
        console.print(Text(f"  ! {outside}", style="yellow"))


def _tell_rows(console: Console, rows: list[tuple[str, str]]) -> None:
    for name, text in rows:
        console.print(f"  [dim]{name:<14}[/dim] {text}", highlight=False, soft_wrap=True)


def tell_variables(console: Console, variables: dict[str, Any], *, foretold: bool) -> None:
    """How variables came back, or would: by what, which cells ran again, and what is not as it was."""
    means = [MEANS[name] for name in variables["means"] if name != "none"]
    if means:
        runs_ms = sum(again["duration_ms"] for again in variables["ran_again"] if again["verdict"] != "skipped")
        taken = f", which took {took(runs_ms)}" if foretold and runs_ms else ""
        seconds = f", in {variables['seconds']:.2g} s" if not foretold and variables["seconds"] else taken
        _tell_rows(console, [("variables", f"by {' and '.join(means)}{seconds}")])
    for again in variables["ran_again"]:
        first = next((line for line in again["source"].splitlines() if line.strip()), "")
        ran = again["verdict"] != "skipped"
        told = f"{again['verdict']}, {took(again['duration_ms'])}" if ran else again["verdict"]
        why = again["reason"].split("\n")[0].removesuffix(": --- recorded")
        line = f"    {'↻' if ran else '·'} turn {again['turn']}: {first[:60]}  {told}  {why}"
        console.print(Text(line.rstrip()), soft_wrap=True)
    lost: dict[str, list[str]] = {}
    for told_lost in variables["missing"]:
        lost.setdefault(told_lost["reason"], []).append(told_lost["name"])
    for reason, names in lost.items():
        console.print(Text(f"  ! not as before: {_named(names)} ({reason})", style="yellow"))


def _move(ctx: click.Context, why: str, session: str, to: str | None, dry: bool, rerun: str, as_json: bool) -> None:
    body: dict[str, Any] = {"dry_run": dry, "rerun": rerun}
    if to is not None:
        body["to_turn"] = int(to) if to.isdecimal() else to
    told = connect(ctx).call("POST", f"/sessions/{quoted(session)}/{why}", json=body)
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    console = Console()
    tell(console, told, foretold=dry)
    if not dry and why == "undo":
        console.print(f"[dim]back again:[/dim] cellwright redo {session}", highlight=False)


@click.command()
@SESSION
@click.option("--to", "to", metavar="TURN", help="The turn to go back to; 0: before the first. One back by default.")
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would happen.")
@RERUN
@JSON
@click.pass_context
def undo(ctx: click.Context, session: str, to: str | None, dry_run: bool, rerun: str, as_json: bool) -> None:
    """Take a SESSION's last turn back: conversation, notebook, files and variables. Nothing is deleted."""
    _move(ctx, "undo", session, to, dry_run, rerun, as_json)


@click.command()
@SESSION
@click.option("--to", "to", metavar="TURN", help="Any turn of the session's, also one that was left behind.")
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would happen.")
@RERUN
@JSON
@click.pass_context
def redo(ctx: click.Context, session: str, to: str | None, dry_run: bool, rerun: str, as_json: bool) -> None:
    """Go forth again in a SESSION, to where it was before an undo."""
    _move(ctx, "redo", session, to, dry_run, rerun, as_json)


@click.command()
@SESSION
@click.option("--from", "from_turn", metavar="TURN", help="The turn that it begins behind; the last by default.")
@click.option("-t", "--title")
@click.option("-k", "--key", help="Your own name for the branch.")
@JSON
@click.pass_context
def branch(
    ctx: click.Context, session: str, from_turn: str | None, title: str | None, key: str | None, as_json: bool
) -> None:
    """Make a new session that begins with what SESSION had: try something else, and keep both."""
    body = {name: value for name, value in (("title", title), ("key", key)) if value}
    if from_turn is not None:
        body["from_turn"] = int(from_turn) if from_turn.isdecimal() else from_turn  # type: ignore[assignment]
    made = connect(ctx).call("POST", f"/sessions/{quoted(session)}/branch", json=body)
    if as_json:
        click.echo(json.dumps(made, indent=2))
        return
    click.echo(f"Made {made['title']!r}: {made['notebook_path']}")
    click.echo(f'Go on with: cellwright ask --session {made["key"] or made["id"]} "…"')


@click.command()
@SESSION
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would happen.")
@RERUN
@JSON
@click.pass_context
def recover(ctx: click.Context, session: str, dry_run: bool, rerun: str, as_json: bool) -> None:
    """Bring back what a SESSION's kernel held that died: stored variables, and the cells since run again."""
    body = {"dry_run": dry_run, "rerun": rerun}
    told = connect(ctx).call("POST", f"/sessions/{quoted(session)}/kernel/recover", json=body)
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    console = Console()
    console.print(Text("Would be back" if dry_run else "Back", style="bold"))
    tell_variables(console, told, foretold=dry_run)
    left_out = [again for again in told["ran_again"] if again["verdict"] == "skipped"]
    if left_out and rerun == "safe":
        console.print(f"[dim]run those that were left out as well:[/dim] cellwright recover {session} --rerun all")


@click.command()
@SESSION
@click.option("-a", "--add", "label", help="Name the point where the session is now.")
@click.option("-r", "--restore", "restored", metavar="LABEL", help="Go back to the point of that name, or id.")
@click.option("-n", "--dry-run", is_flag=True, help="With --restore: only say what would happen.")
@JSON
@click.pass_context
def checkpoints(
    ctx: click.Context, session: str, label: str | None, restored: str | None, dry_run: bool, as_json: bool
) -> None:
    """List the named points of a SESSION, add one, or go back to one."""
    server, path = connect(ctx), f"/sessions/{quoted(session)}/checkpoints"
    if label is not None:
        told = server.call("POST", path, json={"label": label})
    else:
        told = server.call("GET", path, params={"limit": 100})
    if restored is not None:
        told = server.call("GET", path, params={"limit": 100})
        found = next((c for c in told["checkpoints"] if restored in (c["label"], c["id"])), None)
        if found is None:
            raise click.ClickException(f"There is no checkpoint {restored!r} in this session.")
        told = server.call("POST", f"/checkpoints/{found['id']}/restore", json={"dry_run": dry_run})["rewound"]
    if as_json:
        click.echo(json.dumps(told, indent=2))
    elif restored is not None:
        tell(Console(), told, foretold=dry_run)
    elif label is not None:
        click.echo(f"{label} stands after turn {told['turn']}, with {len(told['variables'])} variables.")
    else:
        _list(told["checkpoints"])


def _list(found: list[dict[str, Any]]) -> None:
    console = Console()
    if not found:
        console.print("No checkpoints yet. Add one: [cyan]cellwright checkpoints SESSION --add NAME[/cyan]")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("checkpoint", "after turn", "variables", "size", "made"):
        table.add_column(name)
    for point in found:
        told = (str(point["turn"]), str(len(point["variables"])), size(point["size_bytes"]), ago(point["created_at"]))
        table.add_row(point["label"], *told)
    console.print(table)


def _place(name: str) -> tuple[str, str | None]:
    """`SESSION` or `SESSION@TURN`, taken apart."""
    session, at, turn = name.rpartition("@")
    return (session, turn) if at and session else (name, None)


@click.command()
@click.argument("one", shell_complete=complete_session)
@click.argument("other", shell_complete=complete_session)
@JSON
@click.pass_context
def diff(ctx: click.Context, one: str, other: str, as_json: bool) -> None:
    """Compare two points: each a SESSION, or SESSION@TURN.

    \b
    cellwright diff sales@2 sales@3       what a turn changed
    cellwright diff sales other-way       a session and its branch
    """
    (session, turn), (second, second_turn) = _place(one), _place(other)
    asked = {"turn": turn, "other": second, "other_turn": second_turn}
    query = {name: value for name, value in asked.items() if value is not None}
    told = connect(ctx).call("GET", f"/sessions/{quoted(session)}/diff", params=query)
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    console = Console()
    signs = {"added": ("+", "green"), "changed": ("~", "yellow"), "deleted": ("-", "red")}
    console.print(f"[red]- {one}[/red]  [green]+ {other}[/green]", highlight=False)
    for kind in ("turns", "files", "artifacts"):
        lines = [(*sign, name) for what, sign in signs.items() for name in told[kind][what]]
        if lines:
            console.print(Text(kind, style="bold"))
            for sign, style, name in lines:
                console.print(Text(f"  {sign} {name}", style=style))
    if told["variables"] or told["not_compared"]:
        console.print(Text("variables", style="bold"))
    for found in told["variables"]:
        sign, style = signs[found["what"]]
        about = found["how"] or " → ".join(text for text in (found["before"], found["after"]) if text)
        console.print(Text.assemble((f"  {sign} {found['name']}", style), (f"  {about}", "dim")), soft_wrap=True)
    if told["not_compared"]:
        names = ", ".join(told["not_compared"])
        console.print(Text(f"  contents not compared: {names}", style="dim"), soft_wrap=True)
    if told["settings"]:
        console.print(Text("settings", style="bold"))
    for setting in told["settings"] or []:
        about = f"  {setting['before']} → {setting['after']}"
        console.print(Text.assemble((f"  ~ {setting['name']}", "yellow"), (about, "dim")), soft_wrap=True)
    if told["cells"]:
        console.print(Text("cells", style="bold"))
    for cell in told["cells"]:
        _show_cell(console, cell)
    lists = any(any(told[kind].values()) for kind in ("turns", "files", "artifacts"))
    if not (told["cells"] or told["variables"] or told["not_compared"] or told["settings"] or lists):
        console.print("The same." if told["settings"] is not None else "The same; settings could not be compared.")


def _show_cell(console: Console, cell: dict[str, Any]) -> None:
    sign, style = {"added": ("+", "green"), "deleted": ("-", "red"), "moved": ("↕", "dim")}.get(
        cell["what"], ("~", "yellow")
    )
    lines = cell["source"].splitlines() or [""]
    if cell["what"] in ("added", "deleted"):
        for line in lines[:SHOWN]:
            console.print(Text(f"  {sign} {line}", style=style), soft_wrap=True)
        if len(lines) > SHOWN:
            console.print(Text(f"    … {len(lines) - SHOWN} more lines", style="dim"))
        return
    console.print(Text(f"  {sign} {lines[0][:80]}", style=style))
    parts = [cell["source_diff"], *(f"{found['about']}:\n{found['text']}" for found in cell["outputs"])]
    for line in "\n".join(part for part in parts if part).splitlines():
        if not line.startswith(("---", "+++")):
            colour = "green" if line.startswith("+") else "red" if line.startswith("-") else "dim"
            console.print(Text(f"      {line}", style=colour), soft_wrap=True)


@click.command()
@SESSION
@click.option("--all/--head", "every", default=True, help="Also what rewinds left behind, or only the way to here.")
@JSON
@click.pass_context
def log(ctx: click.Context, session: str, every: bool, as_json: bool) -> None:
    """Show what happened in a SESSION, turn by turn, the newest first, with its branches."""
    server = connect(ctx)
    held = server.call("GET", f"/sessions/{quoted(session)}")
    turns = _all_turns(server, held["id"])
    if not every:
        turns = [turn for turn in turns if not turn["limb"]]
    if as_json:
        click.echo(json.dumps(turns, indent=2))
        return
    console = Console()
    console.print(f"[bold]{held['title']}[/bold]  [dim]{held['id']}[/dim]", highlight=False)
    grown = _branches(server, held["id"])
    for rail, turn in graph(turns, held["head_turn"]):
        if turn is None:
            console.print(Text(rail, style="dim"))
            continue
        here = turn["n"] == held["head_turn"]
        first = next((line for line in turn["query"].splitlines() if line.strip()), "")
        sign = {"ask": "", "execute": "cell: ", "edit": ""}[turn["kind"]]
        line = Text.assemble((f"{rail} ", "dim"), (f"{turn['n']:>3} ", "bold magenta" if here else "magenta"))
        line.append(f"{sign}{first[:70]}", "dim" if turn["limb"] else "bold" if here else "")
        if turn["status"] != "completed":
            line.append(f"  {turn['status']}", "yellow")
        line.append(f"  {ago(turn['created_at'])}", "dim")
        if here:
            line.append("  ← here", "green")
        for made in (branch for branch in grown if branch["parent"]["turn"] == turn["n"]):
            more = Text(
                f"{rail.replace('●', '│')}     ⑂ {made['title'][:60]}  {made['key'] or made['id']}", style="cyan"
            )
            console.print(more, soft_wrap=True)
        console.print(line, soft_wrap=True)
    if held["parent"] is not None:
        parent = held["parent"]
        console.print(f"[dim]a branch of {parent['session_id']}, from turn {parent['turn']}[/dim]", highlight=False)


def _branches(server: Server, session_id: str) -> list[dict[str, Any]]:
    """Sessions that are branches of one, as their own user sees them."""
    found: list[dict[str, Any]] = []
    for offset in range(0, MOST_SESSIONS, 100):
        page = server.call("GET", "/sessions", params={"limit": 100, "offset": offset})
        found += [row for row in page["sessions"] if (row["parent"] or {}).get("session_id") == session_id]
        if offset + 100 >= page["total"]:
            break
    return found


def _all_turns(server: Server, session_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        asked = {"limit": 100, "offset": len(found)}
        page = server.call("GET", f"/sessions/{session_id}/turns", params=asked)
        found += page["turns"]
        if len(found) >= page["total"] or not page["turns"]:
            return found


def graph(turns: list[dict[str, Any]], head: int) -> list[tuple[str, dict[str, Any] | None]]:
    """Turns, the newest first, each behind its rails; a line without one where limbs join. The head's is the first."""
    by_id = {turn["id"]: turn for turn in turns}
    way = set()
    turn = next((turn for turn in turns if turn["n"] == head), None)
    while turn is not None:
        way.add(turn["id"])
        turn = by_id.get(turn["parent_id"])
    rails: list[str | None] = [None]  # The turn that each rail waits for; the first is that of the head's way.
    lines: list[tuple[str, dict[str, Any] | None]] = []
    for turn in sorted(turns, key=lambda turn: -turn["n"]):
        waiting = [place for place, wanted in enumerate(rails) if wanted == turn["id"]]
        place = 0 if turn["id"] in way else waiting[0] if waiting else len(rails)
        joined = [other for other in waiting if other != place]
        if joined:
            lines.append((" ".join("│" if p not in joined else "╯" for p in range(len(rails))), None))
            rails = [wanted for p, wanted in enumerate(rails) if p not in joined]
        if place >= len(rails):
            rails.append(None)
        signs = ["●" if p == place else "│" if wanted is not None else " " for p, wanted in enumerate(rails)]
        lines.append((" ".join(signs), turn))
        rails[place] = turn["parent_id"]
        while len(rails) > 1 and rails[-1] is None:
            rails.pop()
    return lines
