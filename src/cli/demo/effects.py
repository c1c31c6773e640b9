"""What the demonstration's tools do to the world: one line each in a file outside the database.

Were a tool to run twice, there would be two lines. The file is opened for appending, so that a line is
written whole or not at all, whoever else writes.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import outlast

EFFECTS_VARIABLE = "OUTLAST_DEMO_EFFECTS"
"""Names the file to the workers."""


@dataclass(frozen=True, slots=True)
class DemoEffect:
    """One run of one tool: what was done, for which step, and by which process."""

    idempotency_key: str
    activity: str
    attempt: int
    process: int


def leave_effect() -> None:
    """Write down that the running activity has been run."""
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
    """Return what was written down, in order."""
    return [DemoEffect(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []
