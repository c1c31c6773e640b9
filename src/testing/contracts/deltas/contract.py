"""The contract suite of the deltas port: inherit `DeltasContract` and say how to open a place for text.

    class TestMyDeltas(DeltasContract):
        @pytest.fixture
        async def place(self) -> AsyncIterator[DeltasPlace]: ...

The promises X1 to X4 are those of `ports.deltas.Deltas`.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import ClassVar, Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.core.event_stream import Delta
from outlast.ports.deltas import KEEP_SECONDS, Deltas
from outlast.testing.contracts.asyncio_tests import AsyncioTests
from outlast.testing.contracts.examples import few_examples
from outlast.testing.contracts.journal.storage import MovableClock
from outlast.testing.contracts.patience import at_most

texts = st.text(max_size=20)
published = st.lists(st.tuples(st.sampled_from(["x", "y", "ü/ 1"]), st.sampled_from(["a", "b"]), texts))


class DeltasPlace(Protocol):
    """A fresh place for text, made for one test."""

    @property
    @abstractmethod
    def clock(self) -> MovableClock: ...

    @abstractmethod
    def open(self) -> Deltas:
        """Return another view of the same place, not yet entered, as another process would have it."""


class DeltasContract(AsyncioTests):
    """The tests. Inherit it, and give the fixture `place`."""

    patience_seconds: ClassVar[float] = 10.0
    """The longest real time that anything may take."""

    def patience(self, place: DeltasPlace, waited_for: str) -> AbstractAsyncContextManager[None]:
        async def look() -> str:
            async with place.open() as deltas:
                kept = {id: (await deltas.read(id, ""))[0] for id in ("x", "y")}
            return f"the text that is kept then, at {place.clock.now():.3f}: {kept}"

        return at_most(self.patience_seconds, waited_for, look)

    def delta(self, place: DeltasPlace, sequence: int, text: str = "a ", key: str = "run/t1") -> Delta:
        return Delta(key, 1, sequence, text, place.clock.now())

    async def test_x1_published_deltas_are_read_in_order_from_any_place(self, place: DeltasPlace) -> None:
        async with place.open() as writer, place.open() as reader:
            assert list((await reader.read("x", ""))[0]) == []
            deltas = [self.delta(place, number, f"{number} ü\n\0'") for number in range(1, 6)]
            for delta in deltas[:3]:
                await writer.publish("x", delta)
            found, after = await reader.read("x", "")
            assert list(found) == deltas[:3]
            assert list((await reader.read("x", after))[0]) == []
            for delta in deltas[3:]:
                await writer.publish("x", delta)
            assert list((await reader.read("x", after))[0]) == deltas[3:]
            assert list((await reader.read("x", ""))[0]) == deltas

    async def test_x1_a_view_that_is_opened_later_sees_it_too(self, place: DeltasPlace) -> None:
        async with place.open() as writer:
            await writer.publish("x", self.delta(place, 1))
            async with place.open() as late:
                assert list((await late.read("x", ""))[0]) == [self.delta(place, 1)]

    async def test_x1_text_is_kept_whole_while_its_step_goes_on(self, place: DeltasPlace) -> None:
        async with place.open() as writer, place.open() as reader:
            for number in range(1, 5):
                await writer.publish("x", self.delta(place, number))
                await place.clock.advance(KEEP_SECONDS / 2)
            await writer.publish("x", self.delta(place, 5))
            assert [delta.sequence for delta in (await reader.read("x", ""))[0]] == [1, 2, 3, 4, 5]

    async def test_x1_two_publishers_and_a_reader_that_goes_on_from_its_place(
        self, place: DeltasPlace
    ) -> None:
        """Their steps have the same numbers at the same time, and one of them is faster."""
        async with place.open() as one, place.open() as other, place.open() as reader:
            published, seen, after = list[Delta](), list[Delta](), ""
            for number in range(1, 13):
                published.append(self.delta(place, number, f"one {number}", "run/t1"))
                await one.publish("x", published[-1])
                if number % 3 != 1:
                    published.append(self.delta(place, number // 2, f"other {number}", "run/t2"))
                    await other.publish("x", published[-1])
                if number % 4 == 0:
                    found, after = await reader.read("x", after)
                    seen += found
                    assert seen == published
            assert list((await other.read("x", ""))[0]) == published

    async def test_x1_a_place_is_good_in_every_view(self, place: DeltasPlace) -> None:
        async with place.open() as writer, place.open() as reader:
            for number in range(1, 4):
                await writer.publish("x", self.delta(place, number))
            _, after = await reader.read("x", "")
            for number in range(4, 7):
                await writer.publish("x", self.delta(place, number))
            async with place.open() as late:
                for view in (late, writer, reader):
                    assert [delta.sequence for delta in (await view.read("x", after))[0]] == [4, 5, 6]

    async def test_x1_a_reader_that_polls_gets_all_that_two_publish_at_once(self, place: DeltasPlace) -> None:
        count = 40

        async def publish(view: Deltas, name: str) -> None:
            for number in range(count):
                await view.publish("x", self.delta(place, number, f"{name} {number}", f"run/{name}"))

        async def read(view: Deltas) -> list[Delta]:
            seen, after = list[Delta](), ""
            while len(seen) < 2 * count:
                found, after = await view.read("x", after)
                seen += found
                await asyncio.sleep(0)
            return seen

        async with place.open() as one, place.open() as other, place.open() as reader:
            async with self.patience(place, "a reader to see all that two publishers wrote"):
                seen, _, _ = await asyncio.gather(read(reader), publish(one, "a"), publish(other, "b"))
            assert list((await reader.read("x", ""))[0]) == seen
            for name in ("a", "b"):
                of_it = [delta.text for delta in seen if delta.key == f"run/{name}"]
                assert of_it == [f"{name} {number}" for number in range(count)]

    async def test_x2_executions_do_not_see_each_others_text(self, place: DeltasPlace) -> None:
        async with place.open() as deltas:
            await deltas.publish("x", self.delta(place, 1, "of x"))
            await deltas.publish("y", self.delta(place, 1, "of y"))
            assert [delta.text for delta in (await deltas.read("x", ""))[0]] == ["of x"]
            assert [delta.text for delta in (await deltas.read("y", ""))[0]] == ["of y"]
            assert list((await deltas.read("nobody", ""))[0]) == []

    async def test_a_follower_is_woken_by_text_of_its_execution(self, place: DeltasPlace) -> None:
        async with place.open() as writer, place.open() as reader:
            following = asyncio.create_task(reader.follow("x", "", 1_000.0))
            await asyncio.sleep(0)
            await writer.publish("x", self.delta(place, 1))
            async with self.patience(place, "Deltas.follow to be woken"):
                await following
                # Text that came before the call is not missed either.
                await reader.follow("x", "", 1_000.0)

    async def test_following_without_new_text_times_out(self, place: DeltasPlace) -> None:
        async with place.open() as writer, place.open() as reader:
            await writer.publish("x", self.delta(place, 1))
            _, after = await reader.read("x", "")
            following = asyncio.create_task(reader.follow("x", after, 5.0))
            async with self.patience(place, "Deltas.follow to return after 5 s by the clock of the place"):
                while not following.done():
                    await place.clock.advance(1.0)
                    await asyncio.wait([following], timeout=0.01)
            await following

    async def test_a_follower_can_be_cancelled(self, place: DeltasPlace) -> None:
        async with place.open() as reader:
            following = asyncio.create_task(reader.follow("x", "", 1_000.0))
            await asyncio.sleep(0)
            following.cancel()
            with pytest.raises(asyncio.CancelledError):
                await following

    @given(pieces=published, cuts=st.lists(st.integers(0, 20), max_size=5))
    @few_examples(25, in_one_place=True)
    async def test_reading_in_parts_gives_the_same_as_reading_at_once(
        self, place: DeltasPlace, pieces: Sequence[tuple[str, str, str]], cuts: Sequence[int]
    ) -> None:
        async with place.open() as writer, place.open() as reader:
            # All examples share the place: each begins where the last one ended.
            begin = {id: (await reader.read(id, ""))[1] for id in ("x", "y", "ü/ 1")}
            expected: dict[str, list[Delta]] = {id: [] for id in begin}
            read: dict[str, list[Delta]] = {id: [] for id in begin}
            after = dict(begin)
            for number, (execution_id, key, text) in enumerate(pieces, 1):
                delta = self.delta(place, number, text, key)
                expected[execution_id].append(delta)
                await writer.publish(execution_id, delta)
                if number in cuts:
                    found, after[execution_id] = await reader.read(execution_id, after[execution_id])
                    read[execution_id] += found
            for execution_id in begin:
                read[execution_id] += (await reader.read(execution_id, after[execution_id]))[0]
            assert read == expected
