"""From a journal to an execution in memory, in portions: others run meanwhile, however long it is."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from outlast.core.errors import BusyWorkflow, NonDeterminismError
from outlast.core.records import AnyRecord
from outlast.ports.definitions import WorkflowDefinition
from outlast.ports.durability.workflow_context import WorkflowInfo
from outlast.ports.journal import DEFAULT_TASK_QUEUE
from outlast.runtime.executions.journal_reading import decoded
from outlast.runtime.executions.live_execution import LiveExecution
from outlast.runtime.isolation.pace import Pace


async def load(
    definition: WorkflowDefinition,
    info: WorkflowInfo,
    records: Sequence[bytes],
    *,
    limit_bytes: int,
    running_seconds_max: float | None = None,
) -> LiveExecution:
    """Return an execution that has caught up with its journal.

    Raises:
        NonDeterminismError, BusyWorkflow: see `LiveExecution`; nothing of it is left in memory.
    """
    read = [record async for record in decoded(records)]
    return await replayed(
        definition, info, read, limit_bytes=limit_bytes, running_seconds_max=running_seconds_max
    )


async def replayed(
    definition: WorkflowDefinition,
    info: WorkflowInfo,
    records: Sequence[AnyRecord],
    *,
    limit_bytes: int,
    running_seconds_max: float | None = None,
) -> LiveExecution:
    """Do the same with records that were read already."""
    live = LiveExecution(
        definition, info, records, limit_bytes=limit_bytes, running_seconds_max=running_seconds_max
    )
    pace = Pace()
    try:
        while not live.go_on():
            await pace.pause()
    except BaseException:
        live.close()
        raise
    return live


async def departure_in(
    definition: WorkflowDefinition, execution_id: str, records: Sequence[AnyRecord]
) -> NonDeterminismError | BusyWorkflow | None:
    """Return why the code at hand cannot carry on an execution with these records; None if it can.

    Nothing happens outside: no step begins, and nothing is written.
    """
    info = WorkflowInfo(execution_id, definition.name, DEFAULT_TASK_QUEUE)
    try:
        live = await replayed(definition, info, records, limit_bytes=sys.maxsize)
    except (NonDeterminismError, BusyWorkflow) as error:
        return error
    live.close()
    return None
