"""`cellwright clean`."""

from __future__ import annotations

import json

import click
from cellwright.server.cli.client import connect
from rich.console import Console
from rich.table import Table


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def clean(ctx: click.Context, dry_run: bool, as_json: bool) -> None:
    """Clean up now what the server cleans by itself every CLEAN_EVERY_S.

    Idle kernels hibernate; expired artifacts and sessions go, and what a crash left in the stores.
    """
    done = connect(ctx).call("POST", "/clean", json={"dry_run": dry_run})
    failed = [part for part in done["cleaned"] if part["problem"]]
    if as_json:
        click.echo(json.dumps(done, indent=2))
        ctx.exit(1 if failed else 0)
    table = Table(box=None, pad_edge=False, show_header=False)
    for part in done["cleaned"]:
        table.add_row(part["what"], f"{part['count']:,}", f"[red]{part['problem']}[/red]" if part["problem"] else "")
    console = Console()
    console.print("[dim]would go:[/dim]" if dry_run else "[dim]gone:[/dim]")
    console.print(table)
    ctx.exit(1 if failed else 0)
