"""`cellwright upload` and `export`."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from cellwright.server.artifacts import slug
from cellwright.server.cli.ask import check_file, put
from cellwright.server.cli.client import connect, quoted
from cellwright.server.cli.sessions import JSON, complete_session


@click.command()
@click.argument("session", shell_complete=complete_session)
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@JSON
@click.pass_context
def upload(ctx: click.Context, session: str, files: tuple[Path, ...], as_json: bool) -> None:
    """Upload FILES into a SESSION: each opens by its name in the next cell."""
    import json

    for path in files:
        check_file(path)
    server = connect(ctx)
    for path in files:
        told = put(server, quoted(session), path)
        if as_json:
            click.echo(json.dumps(told))
            continue
        columns = told["metadata"].get("columns")
        rows = told["metadata"].get("rows")
        what = f"  {rows if rows is not None else '?'} rows, {len(columns)} columns" if columns else ""
        click.echo(f"{told['file_name']}{what}  {told['artifact_id']}")
        if "problem" in told["metadata"]:
            click.echo(f"  {told['metadata']['problem']}", err=True)


FORMS = ["ipynb", "py", "md", "html", "rehearsal"]


@click.command()
@click.argument("session", shell_complete=complete_session)
@click.option(
    "-f",
    "--format",
    "form",
    type=click.Choice(FORMS),
    help="By default what the output's name ends with, or ipynb.",
)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Where to; - prints it.")
@click.pass_context
def export(ctx: click.Context, session: str, form: str | None, output: Path | None) -> None:
    """Save a SESSION's notebook as a file of its own."""
    ending = "" if output is None else output.suffix.removeprefix(".")
    form = form or (ending if ending in FORMS else "ipynb")
    server = connect(ctx)
    data = server.bytes(f"/sessions/{quoted(session)}/export", params={"format": form})
    if output is not None and str(output) == "-":
        sys.stdout.buffer.write(data)
        return
    if output is None:
        title = server.call("GET", f"/sessions/{quoted(session)}")["title"]
        output = Path(f"{slug(title)}.{'rehearsal.json' if form == 'rehearsal' else form}")
    output.write_bytes(data)
    click.echo(f"Wrote {output}")
