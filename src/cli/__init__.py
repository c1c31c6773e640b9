"""The command line: `outlast`."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys

from outlast.core.errors import MissingExtra

EXTRA = ("rich", "typer")
"""The packages that come with the extra `cli`."""


def main() -> None:
    """Run the command that the program's arguments name, and exit with its code.

    0: it worked; 1: it did not, or not for all that it was asked for, and one message for each error says why
    (`--debug` shows where it was raised); 2: it was called wrongly, or typer and rich are not installed; 130:
    Ctrl-C ended it.
    """
    # A terminal that cannot show a character gets its number.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        from outlast.cli.commands import app

        app(prog_name="outlast")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in EXTRA:
            raise
        print(f"outlast: {MissingExtra('cli')}", file=sys.stderr)
        raise SystemExit(2) from error
    except SystemExit as ended:
        if "temporalio.bridge.temporal_sdk_bridge" in sys.modules and isinstance(ended.code, int | None):
            _end(ended.code or 0)
        raise


def _end(code: int) -> None:
    """End the process without the interpreter's own shutdown.

    Temporal's SDK has threads of its own that call Python. One that does so while the interpreter is being
    taken down aborts the process, after its work is done, and a script takes that for a failure.
    """
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # The reader has gone, or the stream is closed.
            stream.flush()
    os._exit(code)
