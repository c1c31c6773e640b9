"""A worker of a test, which can end as a killed process does: without writing anything more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from outlast.ports.clock import Clock
from outlast.ports.deltas import Deltas
from outlast.ports.journal import Claim, Commit, Store
from outlast.runtime.executions.journaled_backend import JournaledBackend
from outlast.testing.lifeline import Lifeline

T = TypeVar("T")

TURNS = 5
"""The turns of the event loop within which a worker that is cancelled waits for its store."""

Stuck = Callable[[str, str], None]
"""Called with the id of an execution that a worker cannot carry on, and the reason."""


class _Line(Lifeline):
    """The store as a worker sees it; when it is cut, the worker stands still for ever."""

    def __init__(self, store: Store, stuck: Stuck) -> None:
        super().__init__(store)
        self._stuck = stuck

    async def _pass_on(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        await self._alive()
        result = await call()
        await self._alive()
        return result

    async def _alive(self) -> None:
        if self.died.is_set():
            await asyncio.Event().wait()

    async def append(self, claim: Claim, position: int, records: Any, commit: Commit) -> None:
        await super().append(claim, position, records, commit)
        if commit.hold and commit.wake_in and commit.reason is not None:
            self._stuck(claim.execution_id, commit.reason)


class MortalWorker:
    """A worker that runs from now on: a process of its own, as far as the store can see."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        deltas: Deltas,
        workflows: Sequence[type[Any]],
        *,
        lease: timedelta,
        identity: str,
        stuck: Stuck,
    ) -> None:
        self.identity = identity
        self._line = _Line(store, stuck)
        backend = JournaledBackend(self._line, clock, deltas)
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(
            self._work(backend.worker(workflows, lease=lease, identity=identity))
        )

    async def _work(self, worker: Any) -> None:
        async with worker:
            await self._stop.wait()

    async def stop(self) -> None:
        """Stop gracefully."""
        self._stop.set()
        await self._task

    async def die(self) -> None:
        """End without writing anything more."""
        self._line.cut()
        # The first cancellation counts as a request for a graceful stop, which a dead store holds up; the
        # second one ends that. A third one would end the clean-up in memory.
        self._task.cancel()
        for _ in range(TURNS):
            await asyncio.sleep(0)
        self._task.cancel()
        await asyncio.wait([self._task])
