"""Reading a journal in portions: others run meanwhile, however long it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from outlast.core.errors import ExecutionNotFound
from outlast.core.records import AnyRecord, decode_record
from outlast.ports.clock import Clock
from outlast.ports.journal import Head, Store
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


async def read_existing(store: Store, clock: Clock, execution_id: str) -> list[bytes]:
    """Return all records of a journal.

    Raises:
        ExecutionNotFound: there is no such execution.
        StorageError: the store failed for longer than it was worth waiting.
    """
    records = await read_journal(store, clock, execution_id)
    if not records:
        raise ExecutionNotFound(execution_id)
    return records


async def existing_head(store: Store, execution_id: str) -> Head:
    """Return the head of an execution; raises `ExecutionNotFound` if there is none."""
    head = await store.head(execution_id)
    if head is None:
        raise ExecutionNotFound(execution_id)
    return head


async def decoded(records: Sequence[bytes]) -> AsyncIterator[AnyRecord]:
    """Yield what the records of a journal are."""
    pace = Pace()
    for record in records:
        if pace.is_due():
            await pace.pause()
        yield decode_record(record)
