"""Things that a worker opens once and shares."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from outlast.runtime.attempts.shared_resources import HELD_BACK_SECONDS_MAX, SharedResources
from outlast.testing.virtual_clock import VirtualClock


class Shop:
    """Makes things, and takes down what becomes of them."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.tasks: list[object] = []
        self.fails = False
        self.may_open = asyncio.Event()
        self.may_open.set()

    def thing(self, name: str) -> Callable[[], AbstractAsyncContextManager[str]]:
        @asynccontextmanager
        async def make() -> AsyncIterator[str]:
            await self.may_open.wait()
            if self.fails:
                raise ConnectionError(name)
            self.log.append(f"open {name}")
            self.tasks.append(asyncio.current_task())
            yield name
            assert asyncio.current_task() is self.tasks.pop()
            self.log.append(f"close {name}")

        return make


async def test_a_resource_is_opened_once_and_closed_by_the_task_that_opened_it() -> None:
    shop = Shop()
    async with SharedResources() as resources:
        things = await asyncio.gather(*(resources.get("a", shop.thing("a")) for _ in range(5)))
        assert things == ["a"] * 5
        assert await resources.get("b", shop.thing("b")) == "b"
    assert shop.log == ["open a", "open b", "close b", "close a"]


async def test_a_waiter_that_gives_up_leaves_the_resource_to_others() -> None:
    shop = Shop()
    shop.may_open.clear()
    async with SharedResources() as resources:
        waiting = [asyncio.create_task(resources.get("a", shop.thing("a"))) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
        shop.may_open.set()
        assert await asyncio.gather(*waiting[1:]) == ["a", "a"]
    assert shop.log == ["open a", "close a"]


async def test_a_resource_that_could_not_be_opened_is_tried_again_by_the_next_user() -> None:
    shop = Shop()
    async with SharedResources() as resources:
        shop.fails = True
        for _ in range(2):
            with pytest.raises(ConnectionError):
                await resources.get("a", shop.thing("a"))
        shop.fails = False
        assert await resources.get("a", shop.thing("a")) == "a"


@pytest.mark.parametrize("rounds", [1, 2])
async def test_closing_does_not_wait_for_resources_that_are_being_opened(rounds: int) -> None:
    shop = Shop()
    shop.may_open.clear()
    async with asyncio.timeout(10):
        async with SharedResources() as resources:
            waiting = asyncio.create_task(resources.get("a", shop.thing("a")))
            for _ in range(rounds):
                await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert shop.log == []


async def test_an_error_in_closing_one_is_logged_and_does_not_keep_the_others_open(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @asynccontextmanager
    async def bad() -> AsyncIterator[str]:
        yield "bad"
        raise ZeroDivisionError

    shop, resources = Shop(), SharedResources()
    await resources.get("a", shop.thing("a"))
    await resources.get("bad", bad)
    await resources.__aexit__(None, None, None)
    [record] = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError
    assert shop.log == ["open a", "close a"]


async def test_closed_resources_open_nothing() -> None:
    async with SharedResources() as resources:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        await resources.get("a", Shop().thing("a"))


async def test_what_a_server_asked_to_leave_alone_is_held_back_for_that_time() -> None:
    clock = VirtualClock()
    async with SharedResources(clock) as resources:
        assert resources.held_back("a") == 0.0
        resources.hold_back("a", 5)
        resources.hold_back("a", 2)
        resources.hold_back("b", 100_000)
        assert [resources.held_back(key) for key in ("a", "b", "c")] == [5, HELD_BACK_SECONDS_MAX, 0]
        clock.step(1000)  # Only the wall clock.
        await clock.advance(4)
        assert resources.held_back("a") == 1
        await clock.advance(1)
        resources.hold_back("c", 1)
        assert [resources.held_back(key) for key in ("a", "c")] == [0, 1]
