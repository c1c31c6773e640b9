"""The side effects of the demonstration's tools: one line each in a file outside the database.

If a tool ran twice, there would be two lines. The file is opened for appending, so that a line is written
completely or not at all, even if several processes write.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import outlast

EFFECTS_VARIABLE = "OUTLAST_DEMO_EFFECTS"
"""The variable with which the workers find the file."""


@dataclass(frozen=True, slots=True)
class DemoEffect:
    """One call of one tool: its side effect, its step, and the process that made it."""

    idempotency_key: str
    activity: str
    attempt: int
    process: int


def leave_effect() -> None:
    """Write a line for the side effect of the running activity."""
    attempt = outlast.activity.info()
    effect = DemoEffect(attempt.idempotency_key, attempt.activity, attempt.attempt, os.getpid())
    line = json.dumps(asdict(effect)).encode() + b"\n"
    file = os.open(os.environ[EFFECTS_VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line)
        os.fsync(file)
    finally:
        os.close(file)


def effects_in(path: Path) -> list[DemoEffect]:
    """Return the side effects that were written, in order."""
    return [DemoEffect(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []
