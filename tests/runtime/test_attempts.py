"""One attempt: its timeouts, its cancellation, its heartbeat."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from outlast.core.errors import ActivityTimedOut, ForeignError, PayloadTooLarge, Unserialisable
from outlast.core.json import JSON
from outlast.ports.definitions import ActivityDefinition, ActivityOptions
from outlast.ports.durability.steps import Attempt, RunActivity
from outlast.runtime.attempts.attempt import (
    UNWINDING_SECONDS,
    Begin,
    Heartbeat,
    NotBegun,
    at_any_time,
    perform_in_time,
)
from outlast.runtime.attempts.shared_resources import SharedResources
from outlast.runtime.definitions.activity import activity
from outlast.runtime.definitions.signature import CallableSignature
from outlast.testing.virtual_clock import VirtualClock


def attempt_at(
    fn: Callable[..., Any],
    clock: VirtualClock,
    pulse: Heartbeat | None = None,
    begin: Begin = at_any_time,
    **options: Any,
) -> Coroutine[Any, Any, JSON]:
    definition = ActivityDefinition(
        "a", fn, asyncio.iscoroutinefunction(fn), CallableSignature.of(fn), ActivityOptions(**options)
    )
    pulse = pulse or Heartbeat()
    attempt = Attempt("x", "a", 1, "x/a", pulse.beat)
    return perform_in_time(
        RunActivity(definition, {}), attempt, definition.options, SharedResources(), clock, pulse, begin
    )


async def others_left() -> set[asyncio.Task[Any]]:
    for _ in range(5):
        await asyncio.sleep(0)
    return asyncio.all_tasks() - {asyncio.current_task()}


async def test_the_result_comes_as_soon_as_it_is_there_and_leaves_nothing_behind() -> None:
    async def answer() -> int:
        return 42

    before = await others_left()
    assert await attempt_at(answer, VirtualClock(), heartbeat_timeout=1.0) == 42
    assert await others_left() == before


@pytest.mark.parametrize("option", ["start_to_close_timeout", "heartbeat_timeout"])
async def test_an_attempt_out_of_time_is_cancelled_and_the_error_names_the_option(option: str) -> None:
    ended = []

    async def never() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    clock = VirtualClock()
    before = await others_left()
    task = asyncio.create_task(attempt_at(never, clock, None, at_any_time, **{option: 3.0}))
    await clock.advance(2.9)
    assert not task.done()
    await clock.advance(0.2)
    with pytest.raises(ActivityTimedOut) as caught:
        await task
    assert (caught.value.option, caught.value.seconds) == (option, 3.0)
    assert ended == [True]
    assert await others_left() == before


async def test_a_result_that_comes_in_spite_of_a_cancellation_counts() -> None:
    async def stubborn() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "done all the same"
        return "never"

    task = asyncio.create_task(attempt_at(stubborn, VirtualClock()))
    await others_left()
    task.cancel()
    assert await task == "done all the same"


async def test_an_error_while_cleaning_up_does_not_replace_the_cancellation() -> None:
    async def bad_loser() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ZeroDivisionError

    task = asyncio.create_task(attempt_at(bad_loser, VirtualClock()))
    await others_left()
    task.cancel()
    with pytest.raises((asyncio.CancelledError, ZeroDivisionError)):
        await task


async def test_code_that_ignores_its_cancellation_is_left_to_itself(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "outlast.worker")
    over = asyncio.Event()

    async def deaf() -> None:
        while not over.is_set():
            try:
                await over.wait()
            except asyncio.CancelledError:
                continue

    clock = VirtualClock()
    task = asyncio.create_task(attempt_at(deaf, clock, start_to_close_timeout=1.0))
    await clock.advance(1.0 + UNWINDING_SECONDS + 0.1)
    with pytest.raises(ActivityTimedOut):
        await task
    assert "goes on all the same" in caplog.text
    over.set()
    await others_left()


async def test_a_cancelled_error_of_its_own_is_a_failure() -> None:
    async def confused() -> None:
        raise asyncio.CancelledError

    with pytest.raises(ForeignError, match="CancelledError of its own"):
        await attempt_at(confused, VirtualClock())


async def test_a_heartbeat_from_a_thread_keeps_the_attempt_alive() -> None:
    beat_now, finish = threading.Event(), threading.Event()
    beaten = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow() -> str:
        beat_now.wait(10)
        activity.heartbeat("half way")
        loop.call_soon_threadsafe(beaten.set)
        finish.wait(10)
        return "done"

    clock, pulse = VirtualClock(), Heartbeat()
    task = asyncio.create_task(attempt_at(slow, clock, pulse, heartbeat_timeout=2.0))
    await clock.advance(1.5)
    beat_now.set()
    await beaten.wait()
    await clock.advance(1.5)
    assert not task.done()
    assert pulse.details == ("half way",)
    finish.set()
    assert await task == "done"


async def test_the_details_of_a_heartbeat_are_json_and_not_too_long() -> None:
    pulse = Heartbeat(limit_bytes=100)
    pulse.beat(("a", [1, None]))
    refused: tuple[tuple[Any, type[Exception]], ...] = (
        (object(), Unserialisable),
        (float("nan"), Unserialisable),
        ("x" * 60, PayloadTooLarge),
    )
    for detail, error in refused:
        with pytest.raises(error):
            pulse.beat((detail,))
    assert pulse.details == ("a", [1, None])


async def test_details_are_kept_as_they_were_at_the_heartbeat() -> None:
    pulse = Heartbeat()
    pages: list[JSON] = [1]
    pulse.beat((pages,))
    pages.append(2)
    assert pulse.details == ([1],)


async def test_an_attempt_asks_whether_it_may_begin_where_and_when_it_does_so() -> None:
    happened: list[tuple[str, threading.Thread]] = []

    def begin() -> None:
        happened.append(("may it begin", threading.current_thread()))

    async def run() -> None:
        happened.append(("it begins", threading.current_thread()))

    def run_in_a_thread() -> None:
        happened.append(("it begins", threading.current_thread()))

    for fn in (run, run_in_a_thread):
        await attempt_at(fn, VirtualClock(), begin=begin)
        (asked, asking), (began, beginning) = happened
        assert (asked, began) == ("may it begin", "it begins")
        assert asking is beginning
        happened.clear()


async def test_an_attempt_that_may_not_begin_runs_nothing() -> None:
    ran: list[str] = []

    async def run() -> None:
        ran.append("on the loop")

    def run_in_a_thread() -> None:
        ran.append("in a thread")

    def begin() -> None:
        raise NotBegun

    before = await others_left()
    for fn in (run, run_in_a_thread):
        with pytest.raises(NotBegun):
            await attempt_at(fn, VirtualClock(), begin=begin)
    assert ran == []
    assert await others_left() == before
