"""`cellwright ask`."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import click
import httpx
from cellwright.server.cli.approve import cells_that_wait, prompted
from cellwright.server.cli.client import ClientError, Server, connect, quoted
from cellwright.server.cli.view import TurnView, size
from cellwright.server.store.sessions import is_uuid
from rich.console import Console

ENDS = ("turn.completed", "turn.failed", "turn.stopped", "turn.interrupted")
MAX_LOSSES = 20


@click.command()
@click.argument("question")
@click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file to upload first; may be given again.",
)
@click.option("-s", "--session", help="Id or key of a session to go on with; a key that is not there makes one.")
@click.option("-t", "--title", help="Title of a session that is made.")
@click.option("-a", "--agent", help="data_analysis (the default), coding or chat.")
@click.option("-m", "--model", help="A LiteLLM model name; the server's CELLWRIGHT_MODEL otherwise.")
@click.option(
    "--approval",
    type=click.Choice(["auto", "ask", "ask-risky"]),
    help="Which cells wait for your word: none, all, or those that look risky.",
)
@click.option(
    "--record",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Save the model's replies as a rehearsal.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the turn's events as JSON lines.")
@click.pass_context
def ask(
    ctx: click.Context,
    question: str,
    files: tuple[Path, ...],
    session: str | None,
    title: str | None,
    agent: str | None,
    model: str | None,
    approval: str | None,
    record: Path | None,
    as_json: bool,
) -> None:
    """Ask the agent QUESTION, and watch it work.

    \b
    cellwright ask -f sales.csv "Which region grew most?"
    cellwright ask --session a1b2… "Now as a chart"
    """
    if not question.strip():
        raise ClientError("Ask something: the question is empty.")
    for path in files:
        check_file(path)
    server = connect(ctx)
    console = Console(stderr=as_json)
    held, made = open_session(server, session, title or question[:60], agent, model)
    for path in files:
        try:
            uploaded = put(server, held["id"], path)
        except BaseException:
            if made:
                server.call("DELETE", f"/sessions/{held['id']}")
            raise
        console.print(f"[dim]uploaded[/dim] {uploaded['file_name']} [dim]{size(uploaded['size_bytes'])}[/dim]")
        if "problem" in uploaded["metadata"]:
            console.print(f"[yellow]{uploaded['file_name']}: {uploaded['metadata']['problem']}[/yellow]")
    body: dict[str, Any] = {"query": question}
    if agent and session:
        body["agent"] = agent
    if model and session:
        body["model"] = model
    if approval:
        body["approval"] = approval
    try:
        ended = run_turn(server, held["id"], body, console, as_json=as_json)
    except ClientError as error:
        if made and error.status is not None:  # The question was refused: nothing of it stays.
            server.call("DELETE", f"/sessions/{held['id']}")
        if "No model is set up" in str(error) and server.pid is not None and os.environ.get("CELLWRIGHT_MODEL"):
            told = "The server that runs was started without your CELLWRIGHT_MODEL: cellwright stop, then ask again."
            raise ClientError(f"{error}\n{told}", error.status) from error
        raise
    if record is not None:
        record.write_bytes(server.bytes(f"/sessions/{held['id']}/export", params={"format": "rehearsal"}))
        console.print(f"[dim]recorded to[/dim] {record}")
    if not as_json:
        console.print(
            f'[dim]go on with:[/dim] cellwright ask --session {held["key"] or held["id"]} "…"', highlight=False
        )
    if ended != "turn.completed":
        ctx.exit(2)


def check_file(path: Path) -> None:
    """Raises ClientError for what cannot be uploaded, before anything is made for it."""
    if not path.is_file():
        raise ClientError(f"{path} is no regular file.")
    if path.stat().st_size == 0:
        raise ClientError(f"The file {path} is empty.")


def open_session(
    server: Server, name: str | None, title: str, agent: str | None, model: str | None
) -> tuple[dict[str, Any], bool]:
    """The session of that name or a new one, and whether it is new."""
    made: dict[str, Any] = {"title": title}
    if agent:
        made["agent"] = agent
    if model:
        made["model"] = model
    if name is not None:
        try:
            found: dict[str, Any] = server.call("GET", f"/sessions/{quoted(name)}")
            return found, False
        except ClientError as error:
            if error.status != 404 or is_uuid(name):
                raise
        made["key"] = name
    created: dict[str, Any] = server.call("POST", "/sessions", json=made)
    return created, True


def put(server: Server, session_id: str, path: Path) -> dict[str, Any]:
    """Uploads a file, streamed."""
    with path.open("rb") as file:
        told: dict[str, Any] = server.call("POST", f"/sessions/{session_id}/upload", files={"file": (path.name, file)})
    return told


def run_turn(
    server: Server, session_id: str, body: dict[str, Any], console: Console, *, as_json: bool = False
) -> str | None:
    """Asks, shows the turn, and returns how it ended.

    Ctrl-C stops the turn, not the watching. A connection that breaks is taken up where it was: the turn goes on.
    """
    if cells_that_wait(server, session_id):
        console.print(
            f"[yellow]A cell of an earlier turn waits for your word; this question comes after it:[/yellow] "
            f"cellwright approve {session_id}",
            highlight=False,
            soft_wrap=True,
        )
    turn_id: str | None = None
    seen, losses = 0, 0
    stopping = False
    asked: tuple[str, str, dict[str, Any]] = ("POST", f"/sessions/{session_id}/query", {"json": body})
    with TurnView(console) as view:
        while True:
            method, path, more = asked
            try:
                with server.events(method, path, **more) as events:
                    for kind, data, number in events:
                        turn_id = turn_id or data.get("turn_id")
                        seen = max(seen, number)
                        if data.get("turn_id") != turn_id:
                            continue
                        if as_json:
                            click.echo(json.dumps({"type": kind, **data}))
                        else:
                            view.event(kind, data)
                        if kind == "approval.requested":
                            decide(server, view, data, session_id, ask=not as_json)
                        if kind in ENDS:
                            return kind
            except KeyboardInterrupt:
                if stopping or turn_id is None:
                    raise
                stopping = True
                server.call("POST", f"/turns/{turn_id}/stop")
            except httpx.TransportError as error:
                losses += 1
                if turn_id is None or losses > MAX_LOSSES:
                    raise ClientError(f"The connection to {server.url} was lost: {error}") from error
                time.sleep(1)
            asked = ("GET", f"/sessions/{session_id}/events", {"params": {"after": seen}})


def decide(server: Server, view: TurnView, asked: dict[str, Any], session: str, *, ask: bool) -> None:
    """Asks the user whether a cell may run; where nobody can be asked, says how to answer."""
    if not (ask and view.console.is_terminal and sys.stdin.isatty()):
        view.console.print(
            f"[yellow]The cell waits for your word:[/yellow] cellwright approve {session}",
            highlight=False,
            soft_wrap=True,
        )
        return
    with view.paused():
        try:
            body = prompted()
        except click.Abort:  # Ctrl-C stops the turn, here too.
            raise KeyboardInterrupt from None
    try:
        server.call("POST", f"/turns/{asked['turn_id']}/approvals/{asked['call_id']}", json=body)
    except ClientError as error:
        if error.status != 409:  # Somebody else was faster.
            raise
