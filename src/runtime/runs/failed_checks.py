"""The log of checks that fail: a mistake of the program, which the model must not be the only one to see."""

from __future__ import annotations

import logging

from outlast.ports.durability.workflow_context import current_context
from outlast.runtime.isolation.tracebacks import failure_of

logger = logging.getLogger("outlast.runs")


def log_failed_check(what: str, error: Exception) -> None:
    """Log that a check failed, and where; in a replay it was logged before."""
    workflow = current_context.get()
    if workflow is not None and workflow.is_replaying:
        return
    whose = "" if workflow is None else f"execution {workflow.info.execution_id}: "
    logger.error("%s%s failed:\n%s", whose, what, failure_of(error).traceback())
