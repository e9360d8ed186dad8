"""`cellwright doctor`."""

from __future__ import annotations

import json

import click
from cellwright.server.cli.client import connect
from rich.console import Console
from rich.table import Table


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Check every store, the kernel and the model, and show each setting with its source."""
    server = connect(ctx)
    settings = server.call("GET", "/settings")
    checks = server.call("POST", "/check")["checks"]
    well = all(check["ok"] for check in checks)
    if as_json:
        click.echo(json.dumps({"url": server.url, "checks": checks, **settings}, indent=2))
        ctx.exit(0 if well else 1)
    console = Console()
    console.print(f"[bold]Server[/bold] {server.url}  [dim]files in {settings['root']}[/dim]", highlight=False)
    table = Table(box=None, pad_edge=False, show_header=False)
    for check in checks:
        sign = "[green]✓[/green]" if check["ok"] else "[red]✗[/red]"
        table.add_row(sign, check["name"], check["detail"], f"[dim]{check['ms']:.0f} ms[/dim]")
    console.print(table)
    console.print()
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("setting", "value", "from"):
        table.add_column(name, overflow="fold", no_wrap=name == "setting")
    for row in settings["settings"]:
        style = "dim" if row["source"] == "default" else ""
        table.add_row(row["name"], row["value"], row["source"], style=style)
    console.print(table)
    ctx.exit(0 if well else 1)
