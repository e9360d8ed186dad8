"""`cellwright`: its commands, each loaded when it is asked for."""

from __future__ import annotations

import sys
from importlib import import_module

import click
from cellwright.server.version import package_version

COMMANDS = {
    "ask": "cellwright.server.cli.ask:ask",
    "approve": "cellwright.server.cli.approve:approve",
    "sessions": "cellwright.server.cli.sessions:sessions",
    "show": "cellwright.server.cli.sessions:show",
    "upload": "cellwright.server.cli.files:upload",
    "export": "cellwright.server.cli.files:export",
    "replay": "cellwright.server.cli.replay:replay",
    "import": "cellwright.server.cli.replay:import_",
    "log": "cellwright.server.cli.rewind:log",
    "diff": "cellwright.server.cli.rewind:diff",
    "undo": "cellwright.server.cli.rewind:undo",
    "recover": "cellwright.server.cli.rewind:recover",
    "redo": "cellwright.server.cli.rewind:redo",
    "branch": "cellwright.server.cli.rewind:branch",
    "checkpoints": "cellwright.server.cli.rewind:checkpoints",
    "rm": "cellwright.server.cli.sessions:rm",
    "clean": "cellwright.server.cli.clean:clean",
    "doctor": "cellwright.server.cli.doctor:doctor",
    "demo": "cellwright.server.cli.demo:demo",
    "stop": "cellwright.server.cli.sessions:stop",
    "completion": "cellwright.server.cli.completion:completion",
}


class Lazy(click.Group):
    """A group whose commands are imported on use, so that help and completion answer at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_version(), prog_name="cellwright")
@click.option(
    "--url", envvar="CELLWRIGHT_URL", help="The Jupyter server's address; without it, the running one is found."
)
@click.option("--token", envvar="JUPYTER_TOKEN", help="The server's token, where the address does not hold it.")
@click.pass_context
def cellwright(ctx: click.Context, url: str | None, token: str | None) -> None:
    """Ask an agent about your data, and get it worked out in a real notebook.

    \b
    cellwright demo                                 see it work, without a model
    cellwright ask -f data.csv "What stands out?"   ask about a file
    cellwright ask --session KEY "And by month?"    go on: variables are still there
    cellwright sessions                             what there is
    """
    ctx.obj = {"url": url, "token": token}


def told(error: Exception) -> str:
    """An error in a line."""
    match error:
        case OSError(strerror=str(reason), filename=name):
            return f"{name}: {reason}" if name else reason
        case UnicodeError():
            return "An argument holds characters that are no text in UTF-8, or that a request cannot carry."
    return str(error)


def main() -> None:
    """The console script."""
    from cellwright.server.cli.client import ClientError
    from cellwright.server.errors import CellwrightError
    from httpx import HTTPError, InvalidURL

    try:
        code = cellwright(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Exit as end:
        sys.exit(end.exit_code)
    except (ClientError, CellwrightError, OSError, UnicodeError, HTTPError, InvalidURL) as error:
        click.echo(click.style("Error: ", fg="red") + told(error), err=True)
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)
