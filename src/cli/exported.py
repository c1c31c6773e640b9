"""Reading what `outlast export` has written."""

from __future__ import annotations

import sys
from pathlib import Path

from outlast.core.errors import CannotRerun

STANDARD_INPUT = Path("-")


def lines_of(file: Path) -> list[str]:
    """Return the lines of a file, or of standard input for the path "-".

    Raises:
        CannotRerun: it is not text.
        OSError: it cannot be read.
    """
    if file == STANDARD_INPUT and sys.stdin.isatty():
        print("reading an export from standard input; Ctrl-D ends it", file=sys.stderr)
    written = sys.stdin.buffer.read() if file == STANDARD_INPUT else file.read_bytes()
    try:
        return written.decode().split("\n")
    except UnicodeDecodeError as error:
        what = "the input" if file == STANDARD_INPUT else str(file)
        raise CannotRerun(f"{what} is not an export: it is not text in UTF-8") from error
