"""The clocks call back when it is time, and not before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from outlast.adapters.redis.clock import ServerClock
from outlast.ports.clock import Clock
from outlast.runtime.attempts.system_clock import SystemClock
from outlast.testing.virtual_clock import VirtualClock

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("new_clock", [SystemClock, ServerClock])
async def test_a_call_comes_once_and_never_too_early(new_clock: Callable[[], Clock]) -> None:
    clock, loop = new_clock(), asyncio.get_running_loop()
    for seconds in (0.0, -1.0, 0.001, 0.01):
        began, called = clock.steady(), loop.create_future()
        timer = clock.call_later(seconds, lambda: called.set_result(clock.steady()))  # noqa: B023 - awaited here
        assert not called.done()
        assert await called >= began + seconds
        timer.cancel()


@pytest.mark.parametrize("new_clock", [SystemClock, VirtualClock])
async def test_a_cancelled_call_does_not_come(new_clock: Callable[[], Clock]) -> None:
    clock = new_clock()
    calls: list[str] = []
    clock.call_later(0.0, lambda: calls.append("cancelled")).cancel()
    done = asyncio.get_running_loop().create_future()
    clock.call_later(0.0, lambda: done.set_result(None))
    await done
    assert calls == []


async def test_a_call_of_a_virtual_clock_comes_when_its_time_is_moved() -> None:
    clock, calls = VirtualClock(), []
    clock.call_later(10.0, lambda: calls.append(clock.now()))
    began = clock.now()
    await clock.advance(9.0)
    assert calls == []
    await clock.advance(1.0)
    assert calls == [began + 10.0]
