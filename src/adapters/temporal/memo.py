"""The memo of an execution: the facts that everybody can read without a worker and without the history."""

from __future__ import annotations

from typing import Final

from temporalio.client import WorkflowExecution, WorkflowExecutionStatus

FINGERPRINT: Final = "outlast_input"
"""The field that shows whether two starts with one id mean the same."""

FORKED_FROM: Final = "outlast_forked_from"
"""The field with the id of the execution whose journal a fork begins with."""

HELD: Final = "outlast_held"
"""The field with the reason, while the execution is held."""

QUEUE: Final = "outlast_task_queue"
"""The field with the task queue on which an execution goes on that was imported after its end."""

OF_ONE_RUN: Final = frozenset({HELD, QUEUE})
"""The fields that a retry leaves behind."""


def is_held(found: WorkflowExecution) -> bool:
    """Return whether an execution is held; after its end it is not, whatever its memo says."""
    return found.status is WorkflowExecutionStatus.RUNNING and HELD in found.raw_info.memo.fields


async def held_because(found: WorkflowExecution) -> str | None:
    """Return why an open execution is held; None if it is not."""
    if not is_held(found):
        return None
    reason: str | None = await found.memo_value(HELD, None)
    return reason


async def queue_of(found: WorkflowExecution) -> str:
    """Return the task queue on which the execution goes on when it is retried or forked."""
    queue: str = await found.memo_value(QUEUE, found.task_queue)
    return queue
