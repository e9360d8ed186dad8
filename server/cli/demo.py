"""`cellwright demo`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import webbrowser
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import click
from cellwright.server.cli.ask import put, run_turn
from cellwright.server.cli.client import ClientError, Server, connect, running, start_server, stop_server
from cellwright.server.cli.view import size
from rich.console import Console
from rich.text import Text

MODEL = "rehearsal:penguins"
TITLE = "Palmer penguins"


@click.command()
@click.option("--lab", is_flag=True, help="In JupyterLab: ask the recorded questions yourself, in the panel.")
@click.option("--browser/--no-browser", default=True, help="With --lab: whether to open a browser.")
@click.pass_context
def demo(ctx: click.Context, lab: bool, browser: bool) -> None:
    """Watch an agent work with a real data file on a real kernel. Needs no model: its replies were recorded."""
    from cellwright.server.models.rehearsal import load

    began = time.monotonic()
    console = Console()
    console.print(
        "[bold yellow]This is a rehearsal:[/bold yellow] the model's replies were recorded beforehand. "
        "The kernel, the stores, the notebook and the streaming are real."
    )
    with console.status("starting the server…"):
        server = lab_server(ctx) if lab else connect(ctx)
    package = files("cellwright.server.demo")
    with as_file(package / "penguins.rehearsal.json") as path:
        recording = load(path)
    held = fresh_session(server, [turn.query for turn in recording.turns])
    with as_file(package / "penguins.csv") as path:
        uploaded = put(server, held["id"], path)
    console.print(f"[dim]uploaded[/dim] {uploaded['file_name']} [dim]{size(uploaded['size_bytes'])}[/dim]")
    if lab:
        show_lab(server, held["id"], console, browser)
        return
    for turn in recording.turns:
        if run_turn(server, held["id"], {"query": turn.query}, console) != "turn.completed":
            ctx.exit(2)
    ok = finish(server, held["id"], console, began)
    ctx.exit(0 if ok else 1)


def lab_server(ctx: click.Context) -> Server:
    """A JupyterLab for this folder: the one that runs, or one that is started."""
    if ctx.find_root().obj["url"]:
        return connect(ctx)
    found = running()
    if found is not None:
        if found.http.get(f"{found.url}lab/api/settings").status_code == 200:
            return found
        # A server in the background holds the data folder, and shows no page.
        assert found.pid is not None
        stop_server(found.pid)
    return start_server("jupyterlab")


def show_lab(server: Server, session_id: str, console: Console, browser: bool) -> None:
    """Opens the page, and stays until the server ends, where we started it."""
    token = f"token={server.token}&" if server.token else ""
    url = f"{server.url}lab?{token}cellwright={session_id}"
    console.print(f"[bold]JupyterLab[/bold]  {url}", soft_wrap=True, highlight=False)
    if browser:
        webbrowser.open(url)
    if server.process is None:
        return
    console.print("[dim]Ctrl-C stops it.[/dim]")
    try:
        server.process.wait()
    except KeyboardInterrupt:
        server.process.terminate()
        server.process.wait()


def fresh_session(server: Server, questions: list[str]) -> dict[str, Any]:
    """A new session with a name that is easy to type: `penguins`, `penguins-2`, …"""
    fields = {"title": TITLE, "model": MODEL, "metadata": {"suggestions": questions}}
    for number in range(1, 1_000):
        key = "penguins" if number == 1 else f"penguins-{number}"
        try:
            made: dict[str, Any] = server.call("POST", "/sessions", json={**fields, "key": key})
            return made
        except ClientError as error:
            if error.status != 409:
                raise
    raise ClientError("There are a thousand demo sessions: remove some with `cellwright rm`.")


def finish(server: Server, session_id: str, console: Console, began: float) -> bool:
    """Checks what the demo left, and says where it is and how to go on."""
    held = server.call("GET", f"/sessions/{session_id}")
    root = Path(server.call("GET", "/settings")["root"])
    notebook = root / held["notebook_path"]
    artifacts = server.call("GET", f"/sessions/{session_id}/artifacts", params={"limit": 100})["artifacts"]
    messages = server.call("GET", f"/sessions/{session_id}/messages", params={"limit": 1})["total"]
    console.print()
    with console.status("running the notebook again, without us…"):
        valid, again = check(notebook)
    command = command_name()
    lab = "jupyter" if shutil.which("jupyter") else str(Path(sys.executable).with_name("jupyter"))
    rows = [("notebook", str(notebook)), ("", f"{valid}; {again[1]}")]
    for artifact in reversed(artifacts):
        if artifact["file_type"] == "png" or artifact["created_by"] == "file":
            link = server.call("GET", f"/artifacts/{artifact['id']}/url", params={"expires_hours": 24})["url"]
            rows.append(("artifact", f"[link={link}]{artifact['name']}[/link]  [dim]{artifact['id']}[/dim]"))
    rows += [
        ("conversation", f"{messages} messages, {held['seq']} events in Postgres, session [bold]{held['key']}[/bold]"),
        ("go on", f"{command} show {held['key']}"),
        ("", f'{command} ask --session {held["key"]} "…"   (with CELLWRIGHT_MODEL set, and -m its name)'),
        ("", f"{lab} lab {notebook.parent}"),
        ("", f"{command} stop   (the server; it also stops by itself when nobody uses it)"),
    ]
    for name, told in rows:
        console.print(f"[bold]{name:<13}[/bold] {told}", soft_wrap=True, highlight=False)
    console.print(Text(f"The demo took {time.monotonic() - began:.1f} s.", style="dim"))
    return again[0]


def check(notebook: Path) -> tuple[str, tuple[bool, str]]:
    """Whether the notebook is valid, and runs again with plain nbconvert in its folder."""
    import nbformat

    nbformat.validate(nbformat.read(notebook, as_version=4))
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run(
            [
                *(sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute"),
                *("--output-dir", folder, "--output", "again.ipynb", notebook.name),
            ],
            cwd=notebook.parent,
            capture_output=True,
            text=True,
        )
    if run.returncode:
        last: Any = [line for line in run.stderr.splitlines() if line.strip()][-1:]
        return "valid", (False, f"jupyter nbconvert --execute failed: {''.join(last)}")
    return "valid", (True, "jupyter nbconvert --execute ran it again without an error")


def command_name() -> str:
    """How the user calls us: by name where the shell finds it, else by path."""
    here = Path(sys.argv[0])
    found = shutil.which("cellwright")
    return "cellwright" if found and Path(found).resolve() == here.resolve() else os.path.abspath(here)
