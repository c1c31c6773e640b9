"""The virtual clock moves only when a test moves it; an automatic one, when nothing else is left to do."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.testing.virtual_clock import IdleAwareEventLoop, VirtualClock

T = TypeVar("T")


def run(program: Coroutine[Any, Any, T]) -> T:
    """Run it on a loop that knows when it is idle, and not for ever."""

    async def bounded() -> T:
        async with asyncio.timeout(30):
            return await program

    with asyncio.Runner(loop_factory=IdleAwareEventLoop) as runner:
        return runner.run(bounded())


def both_loops() -> list[type[asyncio.SelectorEventLoop]]:
    return [asyncio.SelectorEventLoop, IdleAwareEventLoop]


async def log_after(clock: VirtualClock, seconds: float, log: list[tuple[float, str]], name: str) -> None:
    await clock.sleep(seconds)
    log.append((clock.now(), name))


# By hand -----------------------------------------------------------------------------------------------


async def test_time_stands_still_unless_it_is_moved() -> None:
    clock = VirtualClock(start=100.0)
    sleeping = asyncio.create_task(clock.sleep(0.001))
    await asyncio.sleep(0.01)
    assert clock.now() == 100.0
    assert not sleeping.done()
    await clock.advance(0.001)
    assert clock.now() == 100.001
    assert sleeping.done()


async def test_nobody_wakes_before_the_time() -> None:
    clock = VirtualClock()
    sleeping = asyncio.create_task(clock.sleep(10.0))
    await clock.advance(9.75)
    assert not sleeping.done()
    await clock.advance(0.25)
    assert sleeping.done()


@pytest.mark.parametrize("loop_factory", both_loops())
def test_sleepers_wake_in_the_order_in_which_they_are_due(
    loop_factory: type[asyncio.SelectorEventLoop],
) -> None:
    async def program() -> list[tuple[float, str]]:
        clock, log = VirtualClock(start=0.0), list[tuple[float, str]]()
        async with asyncio.TaskGroup() as group:
            for seconds, name in ((3.0, "c"), (1.0, "a"), (2.0, "b"), (1.0, "a too"), (0.0, "at once")):
                group.create_task(log_after(clock, seconds, log, name))
            await clock.advance(5.0)
        assert clock.now() == 5.0
        return log

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(program()) == [(0.0, "at once"), (1.0, "a"), (1.0, "a too"), (2.0, "b"), (3.0, "c")]


@pytest.mark.parametrize("loop_factory", both_loops())
def test_a_task_that_sleeps_again_while_the_time_moves_wakes_in_order(
    loop_factory: type[asyncio.SelectorEventLoop],
) -> None:
    async def program() -> list[float]:
        clock, log = VirtualClock(start=0.0), list[float]()

        async def tick() -> None:
            for _ in range(5):
                await clock.sleep(1.0)
                log.append(clock.now())

        async with asyncio.TaskGroup() as group:
            group.create_task(tick())
            await clock.advance(10.0)
        return log

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(program()) == [1.0, 2.0, 3.0, 4.0, 5.0]


async def test_cancelling_a_sleep_ends_it_at_once() -> None:
    clock = VirtualClock()
    sleeping = asyncio.create_task(clock.sleep(1.0))
    await asyncio.sleep(0)
    sleeping.cancel()
    await asyncio.wait({sleeping})
    assert sleeping.cancelled()
    await clock.advance(2.0)


async def test_a_sleep_of_no_time_takes_one_turn_of_the_loop() -> None:
    clock, turns = VirtualClock(), list[str]()
    asyncio.get_running_loop().call_soon(turns.append, "another callback")
    await clock.sleep(0.0)
    await clock.sleep(-1.0)
    assert turns == ["another callback"]


# By itself ---------------------------------------------------------------------------------------------


@given(naps=st.lists(st.lists(st.integers(min_value=0, max_value=1000), max_size=4), min_size=1, max_size=5))
def test_an_automatic_clock_wakes_everybody_at_the_time_that_arithmetic_says(naps: list[list[int]]) -> None:
    async def program() -> list[tuple[float, int]]:
        clock, log = VirtualClock(start=0.0, auto=True), list[tuple[float, int]]()

        async def nap(who: int) -> None:
            for seconds in naps[who]:
                await clock.sleep(seconds)
                await asyncio.sleep(0)
                log.append((clock.now(), who))

        async with asyncio.TaskGroup() as group:
            for who in range(len(naps)):
                group.create_task(nap(who))
        return log

    log = run(program())
    due = [(float(sum(nap[: n + 1])), who) for who, nap in enumerate(naps) for n in range(len(nap))]
    assert sorted(log) == sorted(due)
    assert [time for time, _ in log] == sorted(time for time, _ in log)


def test_an_automatic_clock_waits_for_callbacks_that_are_ready() -> None:
    async def program() -> None:
        clock = VirtualClock(start=0.0, auto=True)
        sleeping = asyncio.create_task(clock.sleep(1.0))
        for _ in range(1000):
            await asyncio.sleep(0)
            assert clock.now() == 0.0
        await sleeping
        assert clock.now() == 1.0

    run(program())


def test_an_automatic_clock_waits_for_calls_in_threads() -> None:
    async def program() -> None:
        clock, go_on = VirtualClock(start=0.0, auto=True), threading.Event()
        sleeping = asyncio.create_task(clock.sleep(1.0))
        call = asyncio.create_task(asyncio.to_thread(go_on.wait, 30))
        # A real timer that leaves the loop idle: there is no other way to see that nothing happens.
        await asyncio.sleep(0.05)
        assert clock.now() == 0.0
        go_on.set()
        assert await call
        await sleeping
        assert clock.now() == 1.0

    run(program())


def test_an_automatic_clock_stands_still_while_it_is_held() -> None:
    async def program() -> None:
        clock = VirtualClock(start=0.0, auto=True)
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        sleeping = asyncio.create_task(clock.sleep(1.0))
        answering = threading.Timer(0.05, theirs.sendall, [b"an answer\n"])
        with clock.held():
            answering.start()
            assert await reader.readline() == b"an answer\n"
            assert clock.now() == 0.0
        await sleeping
        assert clock.now() == 1.0
        answering.join()
        theirs.close()
        writer.close()
        await writer.wait_closed()

    run(program())


def test_an_automatic_clock_gives_the_outside_a_quiet_time_to_answer() -> None:
    async def program() -> None:
        clock, loop = VirtualClock(start=0.0, auto=True, quiet_seconds=5.0), asyncio.get_running_loop()
        answer = loop.create_future()
        sleeping = asyncio.create_task(clock.sleep(1.0))
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=[answer.set_result, None])
        loop.call_soon(thread.start)
        await answer
        assert clock.now() == 0.0
        thread.join()
        sleeping.cancel()

    run(program())


def test_an_automatic_clock_jumps_after_the_quiet_time() -> None:
    async def program() -> float:
        clock = VirtualClock(start=0.0, auto=True, quiet_seconds=0.001)
        for _ in range(3):
            await clock.sleep(1000.0)
        return clock.now()

    assert run(program()) == 3000.0


def test_several_clocks_move_on_one_loop() -> None:
    async def program() -> tuple[float, float]:
        first, second = (VirtualClock(start=0.0, auto=True) for _ in range(2))

        async def tick(clock: VirtualClock, times: int) -> None:
            for _ in range(times):
                await clock.sleep(1.0)

        await asyncio.gather(tick(first, 100), tick(second, 10))
        return first.now(), second.now()

    assert run(program()) == (100.0, 10.0)


def test_an_automatic_clock_can_be_advanced_as_well() -> None:
    async def program() -> None:
        clock = VirtualClock(start=0.0, auto=True)
        with clock.held():
            sleeping = asyncio.create_task(clock.sleep(10.0))
            await clock.advance(4.0)
            assert clock.now() == 4.0
        await sleeping
        assert clock.now() == 10.0

    run(program())


async def test_an_automatic_clock_refuses_a_loop_that_does_not_know_when_it_is_idle() -> None:
    clock = VirtualClock(auto=True)
    with pytest.raises(RuntimeError, match="loop_factory=IdleAwareEventLoop"):
        await clock.sleep(1.0)
