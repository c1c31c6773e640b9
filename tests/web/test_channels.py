"""Many pages follow one execution: its events are read once, and every page gets all of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.core import events
from outlast.core.errors import StorageUnavailable
from outlast.core.event_stream import Event
from outlast.web.channels import Channels

AT = datetime(2026, 1, 1, tzinfo=UTC)
TURN: dict[str, Any] = {"run": "run0", "agent": "a", "turn": 1, "key": "run0/t1/model"}


class Stream:
    """Events that come when a test says so, and the number of readers that it has had."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.readers = 0
        self.reading = 0
        self.is_over = False
        self.fault: Exception | None = None
        self._news = asyncio.Event()

    def add(self, *data: events.AnyEventData, position: int | None = None) -> None:
        for one in data:
            last = self.events[-1].position if self.events else 0
            self.events.append(Event(last + 1 if position is None else position, AT, one))
        self.wake()

    def end(self, fault: Exception | None = None) -> None:
        self.is_over, self.fault = True, fault
        self.wake()

    def wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def read(self) -> AsyncGenerator[Event]:
        self.readers += 1
        self.reading += 1
        try:
            number = 0
            while number < len(self.events) or not self.is_over:
                if number == len(self.events):
                    await self._news.wait()
                    continue
                yield self.events[number]
                number += 1
            if self.fault is not None:
                raise self.fault
        finally:
            self.reading -= 1


class Page:
    """The part of an execution that one page has got."""

    def __init__(self, channels: Channels, stream: Stream, after: int = 0) -> None:
        self._messages = channels.messages("e-1", stream.read, after)
        self.positions: list[int] = []
        self.id: int | None = None
        self.last = ""

    async def take(self) -> bool:
        """Take one message; return False after the last one."""
        message = await anext(self._messages, None)
        if message is None:
            return False
        fields = dict(line.split(": ", 1) for line in message.decode().strip().split("\n"))
        if fields.get("event") == "events":
            self.positions += [one["position"] for one in json.loads(fields["data"])]
            self.id = int(fields["id"])
        else:
            self.last = fields.get("event", "")
        return True

    async def until(self, condition: Callable[[Page], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition(self):
                assert await self.take()

    async def to_the_end(self) -> None:
        async with asyncio.timeout(30):
            while await self.take():
                pass

    async def leave(self) -> None:
        await self._messages.aclose()


def timers(count: int) -> list[events.AnyEventData]:
    return [events.TimerFiredData(key=f"{number}") for number in range(count)]


async def test_all_pages_get_all_events_and_the_stream_is_read_once() -> None:
    channels, stream = Channels(), Stream()
    stream.add(*timers(3))
    early = [Page(channels, stream) for _ in range(10)]
    for page in early:
        await page.until(lambda page: page.positions == [1, 2, 3])
    late = Page(channels, stream)
    await late.until(lambda page: page.positions == [1, 2, 3])
    after = Page(channels, stream, after=2)
    await after.until(lambda page: page.positions == [3])
    stream.add(*timers(2))
    stream.end()
    for page in (*early, late, after):
        await page.to_the_end()
        assert page.positions[-3:] == [3, 4, 5]
        assert (page.id, page.last) == (5, "end")
    assert stream.readers == 1


async def test_a_page_that_comes_when_all_have_left_reads_anew_and_nothing_is_left_behind() -> None:
    channels, stream = Channels(), Stream()
    stream.add(*timers(2))
    for readers in (1, 2):
        page = Page(channels, stream)
        await page.until(lambda page: page.positions == [1, 2])
        await page.leave()
        assert (stream.readers, stream.reading) == (readers, 0)


async def test_the_next_page_after_an_end_or_an_error_reads_anew() -> None:
    channels, stream = Channels(), Stream()
    stream.add(*timers(1))
    stream.end(StorageUnavailable("the store is away"))
    page, other = Page(channels, stream), Page(channels, stream)
    await page.to_the_end()
    stream.fault = None
    await other.to_the_end()
    assert (page.last, page.positions) == ("trouble", [1])
    again = Page(channels, stream)
    await again.to_the_end()
    assert (again.last, again.positions) == ("end", [1])


@given(
    shown=st.lists(st.booleans(), max_size=20),
    after=st.integers(0, 12),
)
async def test_a_page_gets_what_comes_after_its_position_and_text_from_there(
    shown: list[bool], after: int
) -> None:
    stream = Stream()
    stream.add(events.TurnStartedData(**TURN))
    for number, is_text in enumerate(shown, 1):
        if is_text:
            data = events.TextDeltaData(**TURN, attempt=1, sequence=number, text="x")
            stream.add(data, position=stream.events[-1].position)
        else:
            stream.add(*timers(1))
    stream.end()
    page = Page(Channels(), stream, after)
    await page.to_the_end()
    expected = [
        event.position
        for event in stream.events
        if event.position > after or (event.position == after and event.kind is events.EventKind.TEXT_DELTA)
    ]
    assert page.positions == expected


async def test_what_all_pages_have_got_is_dropped_when_it_is_much() -> None:
    channels, stream = Channels(kept_bytes_max=10_000), Stream()
    page = Page(channels, stream)
    for number in range(1, 50):
        stream.add(events.TimerFiredData(key="x" * 1000))
        await page.until(lambda page, number=number: page.positions[-1:] == [number])  # type: ignore[misc]
    # Who comes now gets everything, from a reading of its own.
    other = Page(channels, stream)
    await other.until(lambda page: len(page.positions) == 49)
    assert stream.readers == 2
    stream.end()
    await page.to_the_end()
    await other.to_the_end()
    assert page.positions == other.positions == [*range(1, 50)]


async def test_a_page_that_takes_nothing_does_not_hold_up_the_others() -> None:
    channels, stream = Channels(kept_bytes_max=10_000, patience_seconds=0.5), Stream()
    stuck, page = Page(channels, stream), Page(channels, stream)
    assert await stuck.take()
    stream.add(*(events.TimerFiredData(key="x" * 1000) for _ in range(100)))
    stream.end()
    await page.to_the_end()
    assert page.positions == [*range(1, 101)]
    # Its connection ends without a last message, so that it comes again.
    await stuck.to_the_end()
    assert stuck.last == ""


async def test_events_without_clean_up_are_followed_too() -> None:
    class Plain:
        def __aiter__(self) -> AsyncIterator[Event]:
            return self

        async def __anext__(self) -> Event:
            raise StopAsyncIteration

    messages = [one async for one in Channels().messages("e-1", Plain, 0)]
    assert messages[-1].startswith(b"event: end")


@pytest.mark.parametrize("count", [1, 3])
async def test_an_idle_page_gets_signs_of_life(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr("outlast.web.channels.BEAT_SECONDS", 0.001)
    channels, stream = Channels(), Stream()
    pages = [channels.messages("e-1", stream.read, 0) for _ in range(count)]
    for page in pages:
        assert await anext(page) == b": connected\n\n"
        assert await anext(page) == b": alive\n\n"
    for page in pages:
        await page.aclose()
