"""A run in a plain script that is watched while it goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Generic, TypeVar

from durable_agents.core.records import AnyRecord
from durable_agents.ports.clock import Clock
from durable_agents.ports.deltas import Delta
from durable_agents.ports.durability import Event, StepContext
from durable_agents.runtime.events import EventReader
from durable_agents.runtime.plain import PlainContext
from durable_agents.runtime.resources import SharedResources
from durable_agents.runtime.results import RunResult

T = TypeVar("T")


class StreamedRun(Generic[T]):
    """A run that has begun: its events as they come, and its result in the end.

    As an async context manager it ends with its block at the latest. Without one it goes on until it is done,
    whether or not somebody watches.
    """

    def __init__(self, run: Callable[[StepContext], Awaitable[RunResult[T]]], clock: Clock) -> None:
        self._run = run
        self._clock = clock
        self._reader = EventReader(clock.now())
        self._events: list[Event] = []
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._to_the_end())
        self._task.add_done_callback(self._ended)

    async def events(self) -> AsyncIterator[Event]:
        """Yield what has happened and happens, to the run's end: the kinds and data of an execution's events.

        Text comes as `text_delta`s, whatever the session says of `stream`. An error that ends the run is
        raised by `result` only.
        """
        told = 0
        while True:
            news, is_over = self._news, self._task.done()
            while told < len(self._events):
                told += 1
                yield self._events[told - 1]
            if is_over:
                return
            await news.wait()

    async def result(self) -> RunResult[T]:
        """Return the run's result, once there is one; raises what `Runner.run` raises."""
        return await asyncio.shield(self._task)

    async def cancel(self) -> None:
        """End the run now; what it has cost and done stays so."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def __aenter__(self) -> StreamedRun[T]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.cancel()

    async def _to_the_end(self) -> RunResult[T]:
        async with SharedResources() as resources:
            context = PlainContext(resources, self._clock, on_record=self._record, on_text=self._hear)
            return await self._run(context)

    def _record(self, record: AnyRecord) -> None:
        self._tell(list(self._reader.read(record)))

    def _hear(self, delta: Delta) -> None:
        self._reader.hear([delta])
        self._tell(list(self._reader.text()))

    def _tell(self, events: list[Event]) -> None:
        self._events += events
        self._news.set()
        self._news = asyncio.Event()

    def _ended(self, task: asyncio.Task[RunResult[T]]) -> None:
        if not task.cancelled():
            task.exception()  # marked as seen: perhaps nobody asks for the result
        self._news.set()
