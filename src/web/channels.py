"""The events of an execution as server-sent events, read once for all pages that follow it.

A message holds the events that there were at that moment, in a list; its id is the position of the last one.
A reader that was cut off sends this id and misses nothing. The text of a reply that is still being written
has the position of the event before it, so such a reader gets that text again from its beginning, under the
same numbers.

Fifty pages that follow one execution cost the store, and this process, what one of them costs: a channel
reads the stream, and encodes each event, once. It keeps what it has read, so that a page which comes later
gets everything, too, up to a size. Above that it drops what all of its pages have got; a page that comes then
opens a channel of its own. A page that takes nothing for a while does not hold up the others: its connection
ends, and the page comes back when it can.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, nullcontext
from typing import Any, Final, NamedTuple

from outlast.core.event_stream import Event
from outlast.core.json import encode
from outlast.core.run_phases import PhaseReader
from outlast.web.answers import error_of
from outlast.web.documents import event_document

BEAT_SECONDS: Final = 15.0
"""An idle connection carries a sign of life this often, so that both sides notice when the other is gone."""
BATCH_MAX: Final = 500
"""The most events of one message."""
KEPT_BYTES_MAX: Final = 32 * 1024 * 1024
"""The size up to which a channel keeps what all of its pages have got."""
PACE_SECONDS: Final = 0.05
"""A page that has got everything gets what comes in so many seconds at once: nobody reads faster."""
PATIENCE_SECONDS: Final = 10.0
"""The time that the slowest page has to take something while a channel is full."""


class _Item(NamedTuple):
    position: int
    is_beside: bool
    """True for text, and for an attempt that is not a record: they have the position of the event before."""
    document: bytes


class _Place:
    """The place of one page in a channel."""

    def __init__(self, next: int) -> None:
        self.next = next
        """The number of the item that it gets next."""
        self.news = asyncio.Event()
        self.is_left_behind = False


class _Channel:
    """One reading of the events of an execution, and the pages that get them."""

    def __init__(self, events: AsyncIterator[Event], *, kept_bytes_max: int, patience_seconds: float) -> None:
        self._kept_bytes_max = kept_bytes_max
        self._patience_seconds = patience_seconds
        self._items: list[_Item] = []
        self._bytes = 0
        self._dropped = 0
        """The number of items that were dropped: what is kept begins with the item of this number."""
        self._places: set[_Place] = set()
        self._room = asyncio.Event()
        self._last: bytes | None = None
        """The last message, once there are no more items."""
        self._reading = asyncio.create_task(self._read(events))

    @property
    def is_open(self) -> bool:
        """True if a page that comes now gets every event."""
        return not (self._dropped or self._last or self._reading.done())

    @property
    def is_left(self) -> bool:
        """True if no page gets its events any more."""
        return not self._places

    async def messages(self, after: int) -> AsyncGenerator[bytes]:
        """Yield the messages with the events from a position on, and a last one: `end`, or `trouble`."""
        place = _Place(self._dropped)
        self._places.add(place)
        try:
            yield b": connected\n\n"
            while not place.is_left_behind:
                batch = self._take(place)
                if wanted := [one for one in batch if _is_wanted(one, after)]:
                    data = b",".join(one.document for one in wanted)
                    head = f"event: events\nid: {wanted[-1].position}\ndata: [".encode()
                    yield b"".join((head, data, b"]\n\n"))
                if batch:
                    await asyncio.sleep(PACE_SECONDS if len(batch) < BATCH_MAX else 0)
                    continue
                if self._last is not None:
                    yield self._last
                    return
                try:
                    async with asyncio.timeout(BEAT_SECONDS):
                        await place.news.wait()
                except TimeoutError:
                    yield b": alive\n\n"
                place.news.clear()
        finally:
            self._places.discard(place)
            self._room.set()
            if not self._places:
                self._reading.cancel()
                await asyncio.gather(self._reading, return_exceptions=True)

    def _take(self, place: _Place) -> list[_Item]:
        """Return the next items of a page; it has then got them."""
        begin = place.next - self._dropped
        batch = self._items[begin : begin + BATCH_MAX]
        place.next += len(batch)
        if batch:
            self._room.set()
        return batch

    async def _read(self, events: AsyncIterator[Event]) -> None:
        phases, last = PhaseReader(), 0
        try:
            async with aclosing(events) if isinstance(events, AsyncGenerator) else nullcontext():
                async for event in events:
                    document = encode(event_document(event, phases.read(event)))
                    self._items.append(_Item(event.position, event.position == last, document))
                    last = event.position
                    self._bytes += len(document)
                    self._wake()
                    if self._bytes > self._kept_bytes_max:
                        await self._make_room()
            self._last = _message("end", {})
        except Exception as error:
            self._last = _message("trouble", error_of(error))
        self._wake()

    async def _make_room(self) -> None:
        """Drop what every page has got; a page that takes nothing for too long is left behind."""
        while self._bytes > self._kept_bytes_max:
            passed = min((place.next for place in self._places), default=self._dropped) - self._dropped
            if passed:
                self._bytes -= sum(len(one.document) for one in self._items[:passed])
                del self._items[:passed]
                self._dropped += passed
                continue
            self._room.clear()
            try:
                async with asyncio.timeout(self._patience_seconds):
                    await self._room.wait()
            except TimeoutError:
                slowest = [place for place in self._places if place.next == self._dropped]
                for place in slowest:
                    place.is_left_behind = True
                    place.news.set()
                self._places.difference_update(slowest)

    def _wake(self) -> None:
        for place in self._places:
            place.news.set()


def _is_wanted(item: _Item, after: int) -> bool:
    return item.position > after or (item.is_beside and item.position == after)


def _message(kind: str, data: Any) -> bytes:
    return b"".join((f"event: {kind}\ndata: ".encode(), encode(data), b"\n\n"))


class Channels:
    """The executions that pages follow now."""

    def __init__(
        self, *, kept_bytes_max: int = KEPT_BYTES_MAX, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        self._channels: dict[str, _Channel] = {}
        self._kept_bytes_max = kept_bytes_max
        self._patience_seconds = patience_seconds

    async def messages(
        self, id: str, events: Callable[[], AsyncIterator[Event]], after: int
    ) -> AsyncGenerator[bytes]:
        """Yield the messages of an execution from a position on.

        `events` returns its events from the first. It is called only if nobody reads them already.
        """
        channel = self._channels.get(id)
        if channel is None or not channel.is_open:
            channel = _Channel(
                events(), kept_bytes_max=self._kept_bytes_max, patience_seconds=self._patience_seconds
            )
            self._channels[id] = channel
        try:
            async with aclosing(channel.messages(after)) as messages:
                async for message in messages:
                    yield message
        finally:
            if self._channels.get(id) is channel and channel.is_left:
                del self._channels[id]
