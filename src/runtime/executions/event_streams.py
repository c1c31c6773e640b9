"""The event streams of executions: whoever follows one in this process shares what is read of it.

A reader begins by itself, at the beginning of the journal. When it has caught up, it joins the others, if
they stand at the same place: from then on the store is asked once, each record is decoded once, and each
event is made once, however many follow. The events are not kept for a reader that is much slower than the
others: it goes on by itself, until it has caught up again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial

from outlast.core.event_stream import Event, EventReader
from outlast.core.events import TextDeltaData
from outlast.ports.clock import Clock
from outlast.ports.deltas import Deltas
from outlast.ports.journal import Head, Store
from outlast.runtime.executions.journal_reading import RECORDS_AT_ONCE, decoded, existing_head
from outlast.runtime.executions.store_retry import patiently
from outlast.runtime.executions.text_listener import Listener

PATIENCE_SECONDS = 5.0
"""The time for which a reader relies on announcements before it reads the store itself."""

EVENTS_KEPT = 1024
"""The events that are kept for the readers of a stream that are slower than others."""


class EventStreams:
    """The event streams of the executions in a store."""

    def __init__(self, store: Store, clock: Clock, deltas: Deltas | None) -> None:
        self._store = store
        self._clock = clock
        self._deltas = deltas
        self._shared: dict[str, SharedStream] = {}

    async def events(self, execution_id: str, after: int, *, follow: bool) -> AsyncIterator[Event]:
        """Yield the events behind position `after`; with `follow`, until the execution has ended.

        Raises:
            ExecutionNotFound: the execution does not exist, or not any more.
        """
        text = True
        while True:
            reading = StreamReading(execution_id, self._store, self._clock, self._deltas if follow else None)
            await reading.begin()
            while True:
                async for event in reading.page():
                    if _is_wanted(event, after, text=text):
                        after = event.position
                        yield event
                if reading.is_at_end and (reading.reader.ended or not follow):
                    return
                if reading.is_at_end and (stream := self._joined(reading)) is not None:
                    break
                if not reading.found:
                    await reading.wait()
            with self._following(stream):
                number = stream.pages
                while (page := await stream.page(number)) is not None:
                    for event in page:
                        if _is_wanted(event, after, text=True):
                            after = event.position
                            yield event
                    number += 1
                    if number == stream.pages and stream.is_over:
                        return
            # It was too slow. What it reads again has text that it knows.
            text = False

    def _joined(self, reading: StreamReading) -> SharedStream | None:
        """Return the stream that goes on where the reading stands; None if others stand elsewhere."""
        stream = self._shared.get(reading.execution_id)
        if stream is None:
            stream = self._shared[reading.execution_id] = SharedStream(reading)
        return stream if stream.goes_on_from(reading) else None

    @contextmanager
    def _following(self, stream: SharedStream) -> Iterator[None]:
        stream.followers += 1
        try:
            yield
        finally:
            stream.followers -= 1
            if not stream.followers:
                stream.close()
            if stream.is_closed and self._shared.get(stream.execution_id) is stream:
                del self._shared[stream.execution_id]


def _is_wanted(event: Event, after: int, *, text: bool) -> bool:
    """Return whether the event is new to a reader that knows those up to position `after`."""
    if isinstance(event.data, TextDeltaData):
        return text and event.position >= after  # Text has the position of the event before it.
    return event.position > after


class StreamReading:
    """One reading of an event stream, from its beginning."""

    def __init__(self, execution_id: str, store: Store, clock: Clock, deltas: Deltas | None) -> None:
        self.execution_id = execution_id
        self.reader = EventReader()
        self.length = 0
        """The number of records that were read."""
        self.listener = Listener(deltas, execution_id)
        self.created_at = 0.0
        self.found = False
        """True if the last page was not empty."""
        self.is_at_end = False
        """True if the last page had all records that there were."""
        self._store = store
        self._clock = clock

    async def begin(self) -> None:
        """Look whether the execution exists; raises `ExecutionNotFound`."""
        self.created_at = (await self._head()).created_at

    async def page(self) -> AsyncIterator[Event]:
        """Read some records and all text, and yield their events."""
        read = partial(self._store.read, self.execution_id, self.length, RECORDS_AT_ONCE)
        records = await patiently(read, self._clock, doing=self._doing)
        # Text is read after the records, so that the text of a reply among them is complete.
        deltas = await self.listener.read() if records or self.reader.awaits_reply else ()
        self.reader.take_text(deltas)
        async for record in decoded(records):
            for event in self.reader.read(record):
                yield event
        for event in self.reader.text():
            yield event
        self.length += len(records)
        self.found = bool(records or deltas)
        self.is_at_end = len(records) < RECORDS_AT_ONCE

    async def wait(self) -> None:
        """Return when there may be more; raises `ExecutionNotFound` if there will never be."""
        follow = partial(self._store.follow, self.execution_id, self.length, PATIENCE_SECONDS)
        news = patiently(follow, self._clock, doing=self._doing)
        await (self.listener.until_more(news, PATIENCE_SECONDS) if self.reader.awaits_reply else news)
        # If the execution was forgotten, no end will ever come.
        await patiently(self._head, self._clock, doing=self._doing)

    @property
    def place(self) -> tuple[float, int, str]:
        """Equal for readings of one execution that go on in the same way."""
        text = self.listener.place if self.reader.awaits_reply else ""
        return self.created_at, self.length, text

    @property
    def _doing(self) -> str:
        return f"waiting for execution {self.execution_id}"

    async def _head(self) -> Head:
        return await existing_head(self._store, self.execution_id)


class SharedStream:
    """The newest events of an execution, in pages that are read once for all who follow it."""

    def __init__(self, reading: StreamReading) -> None:
        self.execution_id = reading.execution_id
        self.followers = 0
        self.pages = 0
        """The number of pages so far."""
        self.is_over = False
        """True if no page follows."""
        self.is_closed = False
        """True if nobody can join any more."""
        self._reading = reading
        self._place = reading.place
        self._kept: deque[list[Event]] = deque()
        self._events = 0
        self._failure: Exception | None = None
        self._reading_task: asyncio.Task[None] | None = None

    def goes_on_from(self, reading: StreamReading) -> bool:
        """Return whether the next page follows what the reading has read."""
        return not self.is_closed and self._place == reading.place

    async def page(self, number: int) -> list[Event] | None:
        """Return a page, when it is there; None if it is no longer kept."""
        while number >= self.pages:
            if self._failure is not None:
                raise self._failure
            if self._reading_task is None or self._reading_task.done():
                self._reading_task = asyncio.create_task(
                    self._read(), name=f"outlast follow {self.execution_id}"
                )
            await asyncio.wait([self._reading_task])
        first = self.pages - len(self._kept)
        return self._kept[number - first] if number >= first else None

    def close(self) -> None:
        """Read no more."""
        self.is_closed = True
        if self._reading_task is not None:
            self._reading_task.cancel()

    async def _read(self) -> None:
        page: list[Event] = []
        try:
            async for event in self._reading.page():
                page.append(event)
            if not self._reading.found:
                await self._reading.wait()
            self._place = self._reading.place
        except Exception as error:  # It is raised at each of the followers.
            self._failure = error
            self.is_closed = True
        self.is_over = self._reading.is_at_end and self._reading.reader.ended
        if page or self.is_over:
            self._keep(page)

    def _keep(self, page: list[Event]) -> None:
        while self._kept and self._events > EVENTS_KEPT:
            self._events -= len(self._kept.popleft())
        self._kept.append(page)
        self._events += len(page)
        self.pages += 1
