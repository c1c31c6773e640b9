"""A process that appends to a journal without a pause, until it is killed: what a store keeps of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from multiprocessing.connection import Connection

from outlast.ports.durability.backend import Backend
from outlast.ports.journal import Claim, Commit, NewExecution, Store
from outlast.runtime.executions.journaled_backend import JournaledBackend
from outlast.testing.contracts.crash.processes import Connect, end_with_parent

RECORDS_AT_ONCE = 3
"""The number of records in each append: more than one, so that half an append could be seen."""
WORKFLOW = "crash.appended"
FIRST = b"created"


def store_of(backend: Backend) -> Store | None:
    """Return the store of a backend that our own engine makes; None for one with an engine of its own."""
    return backend.store if isinstance(backend, JournaledBackend) else None


def records_of(number: int) -> list[bytes]:
    """Return the records of the append with that number."""
    return [f"append {number}, record {record}".encode() for record in range(RECORDS_AT_ONCE)]


def records_after(appends: int) -> list[bytes]:
    """Return the journal after so many appends."""
    return [FIRST, *(record for number in range(appends) for record in records_of(number))]


async def created(store: Store, execution_id: str) -> Claim:
    """Create the execution and claim it for a writer."""
    await store.create(NewExecution(execution_id, WORKFLOW, "f", task_queue=execution_id), FIRST)
    [claim] = (await store.claim("writer", [WORKFLOW], execution_id, limit=1, lease_seconds=3600.0)).claims
    return claim


def append_for_ever(connect: Connect, url: str, claim: Claim, acknowledged: Connection) -> None:
    """Append to the claimed journal, and send the number of each append once it has returned."""
    end_with_parent()

    async def append() -> None:
        async with connect(url) as backend:
            store = store_of(backend)
            assert store is not None
            for number in range(1_000_000):
                records: Sequence[bytes] = records_of(number)
                commit = Commit(overview=str(number + 1))
                await store.append(claim, claim.length + number * RECORDS_AT_ONCE, records, commit)
                acknowledged.send(number + 1)

    asyncio.run(append())
