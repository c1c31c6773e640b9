"""The things that an execution waits for, in words."""

from __future__ import annotations

from datetime import datetime

from outlast.cli.rendering.text import duration, local_time, printable
from outlast.core.waiting import WaitingFor


def wait_line(wait: WaitingFor, now: datetime, *, in_list: bool = False) -> str:
    """Return a line about one wait, seen `now`; in a list it has no date, only the time that is left."""
    name = str(wait.kind) if wait.attempt in (None, 1) else f"{wait.kind} (attempt {wait.attempt})"
    line = f"{name}: {wait.text}" if wait.text else name
    if wait.text.startswith(name):  # Reasons of pauses and holds begin so.
        line = wait.text
    if wait.until is not None:
        left = (wait.until - now).total_seconds()
        due = f"in {duration(left)}" if left > 0 else "due"
        line += f", {due}" if in_list else f", at {local_time(wait.until)} ({due})"
    elif wait.since is not None and not in_list:
        line += f", for {duration((now - wait.since).total_seconds())}"
    return printable(line)
