"""Asking before something is done that cannot be undone."""

from __future__ import annotations

import signal
import sys

import typer


def agreed(question: str, *, yes: bool) -> bool:
    """Return whether to go on: with `yes`, or if the person at the terminal says so.

    Raises:
        UsageError: nobody can be asked, because the input is not a terminal.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise typer.BadParameter("nobody can be asked, because the input is not a terminal: give --yes")
    # In an event loop, the handler of asyncio would let the question go on after Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return typer.confirm(question, err=True)
    finally:
        signal.signal(signal.SIGINT, before)
