"""`cellwright approve`."""

from __future__ import annotations

from typing import Any

import click
from cellwright.server.cli.client import ClientError, Server, connect, quoted
from cellwright.server.cli.sessions import complete_session
from cellwright.server.cli.view import TurnView
from rich.console import Console


@click.command()
@click.argument("session", shell_complete=complete_session)
@click.option("--yes", "answer", flag_value="approve", help="Let it run.")
@click.option("--no", "answer", flag_value="reject", help="Do not let it run.")
@click.option("--reason", default="", help="Why not; the agent is told.")
@click.pass_context
def approve(ctx: click.Context, session: str, answer: str | None, reason: str) -> None:
    """Look at the cells of a SESSION that wait for your word, and answer."""
    server = connect(ctx)
    waiting = cells_that_wait(server, session)
    if not waiting:
        raise ClientError(f"No cell of {session!r} waits.")
    view = TurnView(Console())
    for asked in waiting:
        view.event("approval.requested", asked)
        body = {"decision": answer, "reason": reason} if answer else prompted()
        server.call("POST", f"/turns/{asked['turn_id']}/approvals/{asked['call_id']}", json=body)
        click.echo("It runs." if body["decision"] == "approve" else "It does not run.")


def cells_that_wait(server: Server, session: str) -> list[dict[str, Any]]:
    """The cells of a session that wait, each with its turn."""
    turns = server.call("GET", f"/sessions/{quoted(session)}/turns", params={"limit": 100})
    found = []
    for row in turns["turns"]:
        if row["status"] in ("queued", "running"):
            told = server.call("GET", f"/turns/{row['id']}")
            found += [{**asked, "turn_id": row["id"]} for asked in told["approvals"]]
    return found


def prompted() -> dict[str, str]:
    """What the user answers at the terminal."""
    if click.confirm("  Run it?", default=False):
        return {"decision": "approve", "reason": ""}
    reason = click.prompt("  Why not? The agent is told (Enter: nothing)", default="", show_default=False)
    return {"decision": "reject", "reason": reason}
