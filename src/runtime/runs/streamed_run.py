"""A run outside any workflow that is watched while it goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Generic, TypeVar

from outlast.core.event_stream import Delta, Event, EventReader
from outlast.core.events import TextDeltaData
from outlast.core.records import AnyRecord
from outlast.ports.clock import Clock
from outlast.ports.durability.steps import StepContext
from outlast.runtime.attempts.shared_resources import SharedResources
from outlast.runtime.runs.run_result import RunResult
from outlast.runtime.runs.undurable_context import PlainContext

T = TypeVar("T")


EmitEvents = Callable[[Sequence[Event]], None]
"""Takes events, in order, as they happen."""


def plainly(
    run: Callable[[StepContext], Awaitable[RunResult[T]]], clock: Clock
) -> Callable[[EmitEvents], Coroutine[Any, Any, RunResult[T]]]:
    """Return a run in a plain script that passes on its events."""

    async def to_the_end(emit: EmitEvents) -> RunResult[T]:
        reader = EventReader(clock.now())

        def record(happened: AnyRecord) -> None:
            emit(list(reader.read(happened)))

        def take_text(delta: Delta) -> None:
            reader.take_text([delta])
            emit(list(reader.text()))

        async with SharedResources() as resources:
            with PlainContext(resources, clock, on_record=record, on_text=take_text) as context:
                return await run(context)

    return to_the_end


class StreamedRun(Generic[T]):
    """A run that has begun: its events as they come, and its result in the end.

    As an async context manager it ends with its block at the latest. Without one it goes on until it is done,
    whether or not somebody watches.
    """

    def __init__(self, run: Callable[[EmitEvents], Awaitable[RunResult[T]]]) -> None:
        self._events: list[Event] = []
        self._news = asyncio.Event()
        self._task = asyncio.ensure_future(run(self._emit))
        self._task.add_done_callback(self._ended)

    async def events(self, after: int = 0) -> AsyncIterator[Event]:
        """Yield what has happened and happens, to the run's end: the kinds and data of an execution's events.

        Those with a position above `after`, and the text that is written from there on. Text comes as
        `text_delta`s, whatever the session says of `stream`. An error that ends the run is raised by `result`
        only.
        """
        sent = 0
        while True:
            news, is_over = self._news, self._task.done()
            while sent < len(self._events):
                event = self._events[sent]
                sent += 1
                if event.position > after - isinstance(event.data, TextDeltaData):
                    yield event
            if is_over:
                return
            await news.wait()

    async def result(self) -> RunResult[T]:
        """Return the run's result, once there is one; raises what `Runner.run` raises."""
        return await asyncio.shield(self._task)

    async def cancel(self) -> None:
        """End the run now; what it has cost and done stays so. A durable one goes on when it is run again."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def __aenter__(self) -> StreamedRun[T]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.cancel()

    def _emit(self, events: Sequence[Event]) -> None:
        self._events += events
        self._news.set()
        self._news = asyncio.Event()

    def _ended(self, task: asyncio.Task[RunResult[T]]) -> None:
        if not task.cancelled():
            task.exception()  # marked as seen: perhaps nobody asks for the result
        self._news.set()
