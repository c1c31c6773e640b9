"""From a journal to an execution in memory, in portions: others run meanwhile, however long it is."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence

from outlast.core.errors import BusyWorkflow, NonDeterminismError
from outlast.core.records import AnyRecord, decode_record
from outlast.ports.clock import Clock
from outlast.ports.definitions import WorkflowDefinition
from outlast.ports.durability.workflow_context import WorkflowInfo
from outlast.ports.journal import DEFAULT_TASK_QUEUE, Store
from outlast.runtime.executions.live_execution import LiveExecution
from outlast.runtime.executions.store_retry import patiently
from outlast.runtime.isolation.pace import Pace

RECORDS_AT_ONCE = 256
"""The most records that one call of the store reads."""


async def read_journal(store: Store, clock: Clock, execution_id: str, after: int = 0) -> list[bytes]:
    """Return the records of a journal from number `after` on; the store reads them a few at a time.

    Raises:
        StorageError: the store failed for longer than it was worth waiting.
    """
    records: list[bytes] = []

    async def read() -> Sequence[bytes]:
        return await store.read(execution_id, after + len(records), RECORDS_AT_ONCE)

    while True:
        page = await patiently(read, clock, doing=f"execution {execution_id}")
        records += page
        if len(page) < RECORDS_AT_ONCE:
            return records


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
