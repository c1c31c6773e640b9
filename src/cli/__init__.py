"""The command line: `outlast demo | worker | start | list | show`."""

from __future__ import annotations

import sys

from outlast.core.errors import MissingExtra


def main() -> None:
    """Run the command that the program's arguments name, and exit with its code.

    0: it worked; 1: an error of ours, told in one message (`--debug` shows where it was raised); 2: it was
    called wrongly, or typer and rich are not installed.
    """
    try:
        from outlast.cli.commands import app
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("rich", "typer"):
            raise
        print(f"outlast: {MissingExtra('cli')}", file=sys.stderr)
        raise SystemExit(2) from error
    app(prog_name="outlast")
