"""Stages for tests of the engine: executions in memory, with a store in between that a test can look into."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from outlast.testing import MemoryStorage
from outlast.testing.contracts.durability.in_store import InStore
from outlast.testing.contracts.durability.stage import Process, Stage
from outlast.testing.lifeline import Lifeline

LEASE = timedelta(seconds=10)
PATIENCE_SECONDS = 30.0


@asynccontextmanager
async def in_memory() -> AsyncIterator[Stage]:
    """Open a stage and close it again."""
    stage = Stage(InStore(MemoryStorage()), LEASE, PATIENCE_SECONDS)
    try:
        yield stage
    finally:
        await stage.close()


async def worker_on(
    stage: Stage, lifeline: type[Lifeline], *workflows: type, **options: object
) -> tuple[Process, Lifeline]:
    """Return a process whose store is looked at, or tampered with, by an object of that class."""
    assert isinstance(stage.storage, InStore)
    store = lifeline(stage.storage.storage.open())
    backend = await stage.enter(stage.storage.open_on(store))
    return await stage.worker(*workflows, backend=backend, **options), store
