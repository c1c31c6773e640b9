"""Backends of each kind, with workers that a test can kill: processes, or their like in this one."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

import outlast
from outlast.adapters.memory.store import MemoryStore
from outlast.ports.durability.backend import Backend
from outlast.testing import MemoryStorage, RealClock
from outlast.testing.contracts.durability.in_store import InStore
from outlast.testing.contracts.durability.stage import Process
from outlast.testing.contracts.journal.storage import MovableClock
from tests.children import Child
from tests.house.wheels import REPOSITORY
from tests.web.desk import WORKFLOWS
from tests.web.site import url_of

LEASE_SECONDS = 2

Kill = Callable[[], Awaitable[None]]
"""Ends a worker without letting it finish anything."""


@dataclass(frozen=True)
class WorkedOn:
    """A backend, and a way to begin workers on it that can be killed."""

    backend: Backend
    worker: Callable[[], AbstractAsyncContextManager[Kill]]


class InRealTime(MemoryStorage):
    """Executions in the memory of this process, by the clock of this machine."""

    def __init__(self) -> None:
        super().__init__()
        self._real = RealClock()

    @property
    def clock(self) -> MovableClock:  # type: ignore[override]  # a clock that is not virtual
        return self._real

    def open(self) -> MemoryStore:
        return MemoryStore(self._real, medium=self.medium)


@asynccontextmanager
async def worked_on(kind: str, folder: Path) -> AsyncIterator[WorkedOn]:
    """Open a backend of that kind with no executions yet."""
    if kind == "memory":
        storage = InStore(InRealTime())
        async with storage.open() as backend:
            yield WorkedOn(backend, partial(_worker_inside, storage))
        return
    url = await url_of(kind, folder)
    async with outlast.connect(url) as backend:
        yield WorkedOn(backend, partial(_worker_process, url))


@asynccontextmanager
async def _worker_process(url: str) -> AsyncIterator[Kill]:
    """Run a worker in a process of its own."""
    command = [sys.executable, "-m", "outlast.cli", "worker", "tests.web.desk", "--processes", "0"]
    options = ["--lease", str(LEASE_SECONDS), "--backend", url, "--log-level", "warning"]
    process = Child([*command, *options], cwd=REPOSITORY)

    async def kill() -> None:
        process.kill()
        await asyncio.to_thread(process.wait)

    try:
        yield kill
    finally:
        await kill()


@asynccontextmanager
async def _worker_inside(storage: InStore) -> AsyncIterator[Kill]:
    """Run a worker in this process, whose store answers no more when it is killed."""
    closing = AsyncExitStack()
    backend = await closing.enter_async_context(storage.open())
    options = {"lease": timedelta(seconds=LEASE_SECONDS)}
    process = Process(storage, backend, tuple(WORKFLOWS), options, closing)
    await process.up()
    try:
        yield process.kill
    finally:
        await process.kill()
