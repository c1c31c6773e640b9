"""Followers of one execution in one process share what is read, whoever comes, goes or is slow."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from outlast.adapters.memory.store import Medium, MemoryStore
from outlast.core.errors import StorageCorrupt
from outlast.core.event_stream import Event
from outlast.core.events import EventKind
from outlast.ports.durability.execution import Execution
from outlast.runtime.executions import event_streams
from outlast.runtime.executions.journaled_backend import JournaledBackend
from outlast.testing.contracts.durability.waiting import Mailbox
from outlast.testing.virtual_clock import VirtualClock

PATIENCE_SECONDS = 30.0


class Reads(MemoryStore):
    """Counts how often journals are read; `damage` is raised instead, if it is given."""

    count = 0
    damage: Exception | None = None

    async def read(self, execution_id: str, after: int = 0, limit: int | None = None) -> Sequence[bytes]:
        self.count += 1
        if self.damage is not None:
            raise self.damage
        return await super().read(execution_id, after, limit)


class Follower:
    """Somebody who follows an execution, in a task or one event at a time."""

    def __init__(self, execution: Execution, after: int = 0) -> None:
        self.events = execution.events(after)
        self.positions: list[int] = []

    async def next(self) -> Event:
        async with asyncio.timeout(PATIENCE_SECONDS):
            event = await anext(self.events)
        self.positions.append(event.position)
        return event

    async def take(self, number: int) -> None:
        for _ in range(number):
            await self.next()

    async def to_the_end(self) -> None:
        while (await self.next()).kind is not EventKind.EXECUTION_COMPLETED:
            pass
        with pytest.raises(StopAsyncIteration):
            await self.next()


class Place:
    """A backend in memory, with a mailbox and a worker for it."""

    def __init__(self) -> None:
        clock = VirtualClock()
        medium = Medium()
        self.watched = Reads(clock, medium=medium)
        self.watching = JournaledBackend(self.watched, clock)
        self.working = JournaledBackend(MemoryStore(clock, medium=medium), clock)

    async def __aenter__(self) -> Place:
        await self.watching.__aenter__()
        await self.working.__aenter__()
        self.worker = self.working.worker([Mailbox])
        await self.worker.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.worker.__aexit__(None, None, None)
        await self.working.__aexit__(None, None, None)
        await self.watching.__aexit__(None, None, None)

    async def mailbox(self) -> tuple[Execution, Execution]:
        """Return a new mailbox, as the worker's side has it and as the watching side has it."""
        execution = await self.working.start(Mailbox)
        return execution, await self.watching.get(execution.id)


async def put(execution: Execution, numbers: range) -> None:
    for number in numbers:
        await execution.signal("put", number)


async def reads_for(followers: int) -> int:
    """Return how often the journal is read while so many follow ten signals, each before the next one."""
    async with Place() as place:
        execution, watched = await place.mailbox()
        crowd = [Follower(watched) for _ in range(followers)]
        await asyncio.gather(*(one.next() for one in crowd))
        await asyncio.gather(put(execution, range(1)), *(one.next() for one in crowd))
        before = place.watched.count
        for number in range(1, 11):
            await asyncio.gather(put(execution, range(number, number + 1)), *(one.next() for one in crowd))
        read = place.watched.count - before
        await asyncio.gather(execution.signal("stop"), *(one.to_the_end() for one in crowd))
        assert len({tuple(one.positions) for one in crowd}) == 1
        return read


async def test_a_hundred_followers_read_a_journal_no_more_often_than_one() -> None:
    assert await reads_for(100) <= await reads_for(1)


async def test_who_comes_later_gets_the_same_events_and_then_shares_them() -> None:
    async with Place() as place:
        execution, watched = await place.mailbox()
        first, later, last = Follower(watched), Follower(watched), Follower(watched, after=4)
        await asyncio.gather(put(execution, range(5)), first.take(6))
        await asyncio.gather(put(execution, range(5)), first.take(5), later.take(11), last.take(7))
        before = place.watched.count
        await asyncio.gather(put(execution, range(1)), *(one.next() for one in (first, later, last)))
        assert place.watched.count - before <= 3
        await asyncio.gather(execution.signal("stop"), *(one.to_the_end() for one in (first, later, last)))
        assert first.positions == later.positions == sorted(set(first.positions))
        assert last.positions == [position for position in first.positions if position > 4]


async def test_a_slow_follower_misses_nothing_and_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_streams, "EVENTS_KEPT", 3)
    async with Place() as place:
        execution, watched = await place.mailbox()
        fast, slow = Follower(watched), Follower(watched)
        await asyncio.gather(put(execution, range(1)), fast.take(2), slow.take(2))
        for number in range(20):
            await asyncio.gather(put(execution, range(number, number + 1)), fast.next())
        before = place.watched.count
        await slow.take(20)
        assert place.watched.count > before, "it should have read by itself"
        await asyncio.gather(execution.signal("stop"), fast.to_the_end(), slow.to_the_end())
        assert slow.positions == fast.positions


async def test_a_follower_who_leaves_does_not_take_the_others_along() -> None:
    async with Place() as place:
        execution, watched = await place.mailbox()
        stays, leaves = Follower(watched), Follower(watched)
        await asyncio.gather(put(execution, range(1)), stays.take(2), leaves.take(2))
        waiting = [asyncio.create_task(one.next()) for one in (leaves, stays)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.wait(waiting[:1])
        await asyncio.gather(put(execution, range(1)), waiting[1])
        await asyncio.gather(execution.signal("stop"), stays.to_the_end())


async def test_nothing_reads_on_when_everybody_has_left() -> None:
    async with Place() as place:
        execution, watched = await place.mailbox()
        crowd = [Follower(watched) for _ in range(3)]
        await asyncio.gather(put(execution, range(1)), *(one.take(2) for one in crowd))
        waiting = [asyncio.create_task(one.next()) for one in crowd]
        await asyncio.sleep(0)
        for one in waiting:
            one.cancel()
        await asyncio.wait(waiting)
        await asyncio.sleep(0)
        assert not [task for task in asyncio.all_tasks() if "outlast follow" in task.get_name()]
        before = place.watched.count
        await put(execution, range(3))
        assert place.watched.count == before


async def test_what_goes_wrong_is_raised_at_everybody_and_a_new_follower_begins_anew() -> None:
    async with Place() as place:
        execution, watched = await place.mailbox()
        crowd = [Follower(watched) for _ in range(3)]
        await asyncio.gather(put(execution, range(1)), *(one.take(2) for one in crowd))
        place.watched.damage = StorageCorrupt("it burns")
        outcomes = await asyncio.gather(
            put(execution, range(1)), *(one.next() for one in crowd), return_exceptions=True
        )
        assert outcomes[1:] == [place.watched.damage] * 3
        place.watched.damage = None
        again = Follower(watched)
        await asyncio.gather(execution.signal("stop"), again.to_the_end())
        assert again.positions == sorted(set(again.positions))
