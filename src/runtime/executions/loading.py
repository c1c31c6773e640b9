"""From a journal to an execution in memory, in portions: others run meanwhile, however long it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from outlast.core.records import AnyRecord, decode_record
from outlast.ports.definitions import WorkflowDefinition
from outlast.ports.durability.workflow_context import WorkflowInfo
from outlast.runtime.executions.live_execution import LiveExecution
from outlast.runtime.isolation.pace import Pace


async def decoded(records: Sequence[bytes]) -> AsyncIterator[AnyRecord]:
    """Yield what the records of a journal are."""
    pace = Pace()
    for record in records:
        if pace.is_due():
            await pace.pause()
        yield decode_record(record)


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
    live = LiveExecution(
        definition,
        info,
        [record async for record in decoded(records)],
        limit_bytes=limit_bytes,
        running_seconds_max=running_seconds_max,
    )
    pace = Pace()
    try:
        while not live.go_on():
            await pace.pause()
    except BaseException:
        live.close()
        raise
    return live
