"""`cellwright completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a SHELL.

    \b
    bash:  eval "$(cellwright completion bash)"
    zsh:   eval "$(cellwright completion zsh)"
    fish:  cellwright completion fish | source
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(ctx.find_root().command, {}, "cellwright", "_CELLWRIGHT_COMPLETE").source())
