"""The reasons why an open execution does not go on, as far as the backend shows them."""

from __future__ import annotations

from outlast.core.errors import NotSupported
from outlast.core.records import Status
from outlast.ports.durability.backend import Backend
from outlast.ports.durability.execution import ExecutionDescription


async def obstacle_of(place: Backend, execution: ExecutionDescription) -> str:
    """Return why nobody carries an execution on; empty if it has ended, or somebody may be at it."""
    if execution.ended_at is not None:
        return ""
    if execution.status is Status.PAUSED:
        return f"it is {'held' if execution.held else 'paused'} until somebody resumes it"
    try:
        workers = await place.workers()
    except NotSupported:  # The server has tools of its own for this.
        return ""
    if any(execution.workflow in worker.workflows for worker in workers):
        return ""
    return f"no live worker runs workflow {execution.workflow!r}"
