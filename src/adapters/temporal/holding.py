"""Executions that are paused: from the start of a run if they are imported, or when somebody pauses them.

A held run has caught up with its journal. It begins no step and takes no input, until somebody sends it the
signal to go on. Its memo says that it is held, so this is known without a worker.
"""

from __future__ import annotations

from temporalio.client import WorkflowExecution, WorkflowExecutionStatus

PAUSE_SIGNAL = "outlast.pause"
RESUME_SIGNAL = "outlast.resume"

HELD = "outlast_held"
"""The memo field with the reason, while the run is held."""


def in_words(reason: object) -> str:
    """Return the reason that the memo has, of an execution that somebody pauses."""
    return f"paused: {reason}" if isinstance(reason, str) else "paused"


async def held_because(found: WorkflowExecution) -> str | None:
    """Return why an open execution is held; None if it is not."""
    if found.status is not WorkflowExecutionStatus.RUNNING:
        return None
    reason: str | None = await found.memo_value(HELD, None)
    return reason
