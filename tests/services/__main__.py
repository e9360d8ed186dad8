"""Run the services from the command line.

python -m tests.services                      print their addresses and wait for Ctrl-C
python -m tests.services -- COMMAND ARGS...   run a command against them and exit with its code
"""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from types import FrameType

from . import ServiceError, Services

_ENDINGS = (signal.SIGINT, signal.SIGTERM)
_COMMAND_GRACE_SECONDS = 30.0


class Ended(BaseException):
    """A signal asked this program to end."""

    def __init__(self, number: int) -> None:
        """Keep the signal's number."""
        super().__init__(number)
        self.number = number


def end(number: int, _frame: FrameType | None) -> None:
    """Handle the first signal that asks this program to end."""
    on_endings(ignore)
    raise Ended(number)


def ignore(_number: int, _frame: FrameType | None) -> None:
    """Handle a signal by doing nothing; unlike SIG_IGN, child processes do not inherit it."""


def on_endings(handler: Callable[[int, FrameType | None], None]) -> None:
    """Handle the signals that ask this program to end."""
    for number in _ENDINGS:
        signal.signal(number, handler)


def run(command: list[str], environment: dict[str, str]) -> int:
    """Run the command and return its exit code as a shell would."""
    # Ctrl-C reaches the command by itself; it decides what to make of it.
    signal.signal(signal.SIGINT, ignore)
    try:
        child = subprocess.Popen(command, env={**os.environ, **environment})
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        return 127
    try:
        code = child.wait()
    except Ended:
        child.terminate()
        try:
            child.wait(_COMMAND_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        raise
    return 128 - code if code < 0 else code


def wait(environment: dict[str, str]) -> int:
    """Print the environment and wait for a signal."""
    for name, value in environment.items():
        print(f"export {name}={shlex.quote(value)}", flush=True)
    try:
        while True:
            signal.pause()
    except Ended:
        return 0


def main(arguments: list[str]) -> int:
    """Start the services, use them as the command line says, and stop them."""
    if arguments and (arguments[0] != "--" or len(arguments) == 1):
        print(__doc__, file=sys.stderr)
        return 2
    services = Services()
    on_endings(end)
    try:
        services.start()
        environment = services.environ()
        return run(arguments[1:], environment) if arguments else wait(environment)
    except ServiceError as error:
        print(error, file=sys.stderr)
        return 1
    except Ended as ended:
        return 128 + ended.number
    finally:
        on_endings(ignore)
        services.stop()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
