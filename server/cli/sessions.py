"""`cellwright sessions`, `show`, `rm`, `stop`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import click
from cellwright.server.cli.client import ClientError, Server, connect, quoted, stop_server
from cellwright.server.store.sessions import is_uuid
from rich.console import Console
from rich.markdown import Markdown
from rich.padding import Padding
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def complete_session(ctx: click.Context, _parameter: click.Parameter, begun: str) -> list[Any]:
    """Session ids and keys, for the shell; silent when no server runs."""
    from click.shell_completion import CompletionItem

    try:
        found = connect(ctx, start=False).call("GET", "/sessions")["sessions"]
    except Exception:  # Completion must never print.
        return []
    names = [(row["key"] or row["id"], row["title"]) for row in found]
    return [CompletionItem(name, help=title) for name, title in names if name.startswith(begun)]


@click.command()
@click.option("--search", help="Only those whose title or messages hold this.")
@click.option("--limit", default=20, type=click.IntRange(1, 100), show_default=True)
@JSON
@click.pass_context
def sessions(ctx: click.Context, search: str | None, limit: int, as_json: bool) -> None:
    """List your sessions, newest activity first."""
    asked: dict[str, Any] = {"limit": limit}
    if search:
        asked["search"] = search
    found = connect(ctx).call("GET", "/sessions", params=asked)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    console = Console()
    if not found["sessions"]:
        console.print('No sessions yet. Make one: [cyan]cellwright ask -f FILE "question"[/cyan]')
        return
    table = Table(box=None, header_style="bold", pad_edge=False, expand=True)
    for name in ("session", "title", "turns", "kernel", "last", "activity"):
        # The title and the last message give way where the terminal is narrow.
        wide = name in ("title", "last")
        table.add_column(name, no_wrap=True, overflow="ellipsis" if wide else "fold", ratio=1 if wide else None)
    for row in found["sessions"]:
        table.add_row(
            row["key"] or row["id"][:8],
            row["title"],
            str(row["turn_count"]),
            row["status"] if row["status"] in ("active", "hibernated") else row["kernel_status"],
            Text(row["last_message_preview"], style="dim"),
            ago(row["last_activity"]),
        )
    console.print(table)
    if found["total"] > len(found["sessions"]):
        console.print(f"[dim]{found['total'] - len(found['sessions'])} more[/dim]")


def ago(text: str) -> str:
    """How long ago a time was, roughly."""
    seconds = (datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds()
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return "just now"


@click.command()
@click.argument("session", shell_complete=complete_session)
@JSON
@click.pass_context
def show(ctx: click.Context, session: str, as_json: bool) -> None:
    """Show a SESSION: its conversation, files and artifacts; or one turn of it, by SESSION@TURN or the turn's id."""
    server = connect(ctx)
    turn = find_turn(server, session)
    if turn is not None:
        show_turn(turn, as_json=as_json)
        return
    held = server.call("GET", f"/sessions/{quoted(session)}")
    history = server.call("GET", f"/sessions/{quoted(session)}/history", params={"max_turns": 1000, "limit": 500})[
        "history"
    ]
    artifacts = server.call("GET", f"/sessions/{quoted(session)}/artifacts", params={"limit": 100})["artifacts"]
    if as_json:
        click.echo(json.dumps({**held, "history": history, "artifacts": artifacts}, indent=2))
        return
    console = Console()
    console.print(f"[bold]{held['title']}[/bold]  [dim]{held['id']}[/dim]", highlight=False)
    console.print(f"[dim]notebook[/dim] {held['notebook_path']}", highlight=False)
    for entry in history:
        if entry["role"] == "user":
            console.print()
            console.print(Text.assemble(("▌ ", "bold magenta"), (entry["content"], "bold")))
            continue
        if entry["content"]:
            console.print(Padding(Markdown(entry["content"]), (0, 0, 0, 2)))
        if entry["code"]:
            console.print(
                Padding(
                    Syntax(entry["code"], "python", theme="ansi_dark", background_color="default", word_wrap=True),
                    (0, 0, 0, 4),
                )
            )
            if entry["runs"] != ["ok"] * max(1, len(entry["runs"])):
                console.print(f"    [yellow]✗ {', '.join(entry['runs']) or 'did not run'}[/yellow]")
    if artifacts:
        console.print()
        for artifact in reversed(artifacts):
            console.print(f"  [green]{artifact['name']}[/green]  [dim]{artifact['id']}[/dim]", highlight=False)


def find_turn(server: Server, name: str) -> dict[str, Any] | None:
    """The turn of a name like `SESSION@3`, or of its own id; None for the name of a session."""
    session, at, number = name.rpartition("@")
    if at and session and number.isdecimal():
        asked = {"limit": 1, "offset": max(0, int(number) - 1)}
        found = server.call("GET", f"/sessions/{quoted(session)}/turns", params=asked)["turns"]
        if not found or found[0]["n"] != int(number):
            raise ClientError(f"There is no turn {number} in {session}.", 404)
        name = found[0]["id"]
    elif not is_uuid(name):
        return None
    try:
        turn: dict[str, Any] = server.call("GET", f"/turns/{name}")
    except ClientError as error:
        if error.status != 404 or at:
            raise
        return None
    return turn


def show_turn(turn: dict[str, Any], *, as_json: bool) -> None:
    """One turn: the question, each cell with what it showed, the answer."""
    if as_json:
        click.echo(json.dumps(turn, indent=2))
        return
    console = Console()
    left = "  left behind by a rewind" if turn["limb"] else ""
    console.print(f"[bold]turn {turn['n']}[/bold]  [dim]{turn['id']}  {turn['status']}{left}[/dim]", highlight=False)
    console.print(Text.assemble(("▌ ", "bold magenta"), (turn["query"], "bold")))
    for cell in turn["cells"]:
        code = Syntax(cell["source"], "python", theme="ansi_dark", background_color="default", word_wrap=True)
        console.print(Padding(code, (1, 0, 0, 4)))
        style = "" if cell["status"] == "ok" else "red"
        console.print(Padding(Text(cell["text"] or cell["status"] or "", style=style), (0, 0, 0, 6)))
    if turn["answer"]:
        console.print(Padding(Markdown(turn["answer"]), (1, 0, 0, 2)))
    if turn["cause"]:
        console.print(Text(f"  {turn['cause']}", style="yellow"))


@click.command()
@click.argument("session", nargs=-1, required=True, shell_complete=complete_session)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def rm(ctx: click.Context, session: tuple[str, ...], yes: bool) -> None:
    """Delete each SESSION: conversation, notebook history, artifacts and kernel. Files in its folder stay."""
    server = connect(ctx)
    for name in session:
        held = server.call("GET", f"/sessions/{quoted(name)}")
        if not yes:
            click.confirm(f"Delete {held['title']!r} with {held['turn_count']} turns?", abort=True)
        server.call("DELETE", f"/sessions/{quoted(name)}")
        click.echo(f"Deleted {held['title']!r}. Its files are in {held['workspace']}.")


@click.command()
@click.pass_context
def stop(ctx: click.Context) -> None:
    """Stop the server that was started in the background. Sessions stay; their variables are stored, and come back."""
    server = connect(ctx, start=False)
    if server.pid is None:
        raise ClientError("The server was given by its address: stop it where it was started.")
    stop_server(server.pid)
    click.echo("Stopped.")
