"""Executions that do not run by themselves: a run is held from its start, and that is seen from outside.

A held run has caught up with its journal. It begins no step and takes no input, until somebody sends it the
signal to go on. Its memo says that it is held, so this is known without a worker.
"""

from __future__ import annotations

from temporalio.client import WorkflowExecution, WorkflowExecutionStatus

RESUME_SIGNAL = "outlast.resume"

HELD = "outlast_held"
"""The memo field with the reason, while the run is held."""


async def held_because(found: WorkflowExecution) -> str | None:
    """Return why an open execution is held; None if it is not."""
    if found.status is not WorkflowExecutionStatus.RUNNING:
        return None
    reason: str | None = await found.memo_value(HELD, None)
    return reason
