"""Tasks of attempts: an exit fails the task, the watchdog the attempt; libraries see an ordinary task."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import itertools
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import anyio
import pytest

import outlast
from outlast.core.errors import (
    ActivityBlocked,
    BusyWorkflow,
    ConfigurationError,
    ForeignError,
    OutcomeUnknown,
)
from outlast.runtime.definitions import workflow
from outlast.runtime.isolation import watchdog
from outlast.runtime.isolation.tasks import attempt_task, isolated_attempts

LIMIT = 0.1


def spin() -> None:
    for _ in itertools.count():
        pass


async def leave(error: BaseException) -> None:
    await asyncio.sleep(0)
    raise error


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=repr)
async def test_an_exit_in_a_task_of_an_attempt_fails_that_task(error: BaseException) -> None:
    async def attempt() -> str:
        task = asyncio.create_task(leave(error))
        await asyncio.wait({task})
        with pytest.raises(ForeignError, match=type(error).__name__):
            task.result()
        return "went on"

    with isolated_attempts(LIMIT):
        assert await attempt_task(attempt(), "a") == "went on"


def schedule_soon(callback: Callable[[], object]) -> None:
    asyncio.get_running_loop().call_soon(callback)


def schedule_later(callback: Callable[[], object]) -> None:
    asyncio.get_running_loop().call_later(0.001, callback)


def schedule_from_a_thread(callback: Callable[[], object]) -> None:
    loop, context = asyncio.get_running_loop(), contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(loop.call_soon_threadsafe, callback))
    thread.start()
    thread.join()


def schedule_by_a_future(callback: Callable[[], object]) -> None:
    future = asyncio.get_running_loop().create_future()
    future.add_done_callback(lambda _: callback())
    future.set_result(None)


@pytest.fixture
async def reported() -> AsyncIterator[list[dict[str, Any]]]:
    """Yield what the loop would log: the reports of exceptions in callbacks."""
    loop, reports = asyncio.get_running_loop(), list[dict[str, Any]]()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, report: reports.append(report))
    yield reports
    loop.set_exception_handler(before)


SCHEDULES = [schedule_soon, schedule_later, schedule_from_a_thread, schedule_by_a_future]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("schedule", SCHEDULES)
async def test_an_exit_in_a_callback_of_an_attempt_is_logged_as_any_exception_of_a_callback(
    schedule: Callable[..., None], error: BaseException, reported: list[dict[str, Any]]
) -> None:
    def leave_at_once() -> None:
        raise error

    async def attempt() -> str:
        schedule(leave_at_once)
        await asyncio.sleep(0.02)
        return "went on"

    with isolated_attempts(LIMIT):
        assert await attempt_task(attempt(), "mine") == "went on"
    [report] = reported
    assert "callback of activity 'mine'" in report["message"]
    assert isinstance(report["exception"], ForeignError)
    assert report["exception"].__cause__ is error


async def test_a_callback_of_an_attempt_that_holds_the_loop_is_interrupted(
    reported: list[dict[str, Any]],
) -> None:
    async def attempt() -> str:
        asyncio.get_running_loop().call_soon(spin)
        await asyncio.sleep(0.001)
        return "went on"

    with isolated_attempts(LIMIT):
        assert await attempt_task(attempt(), "mine") == "went on"
    [report] = reported
    assert isinstance(report["exception"], ActivityBlocked)
    assert report["exception"].place.rpartition(" ")[2] == "spin"


async def test_callbacks_get_what_they_were_given_and_can_be_cancelled() -> None:
    got: list[Any] = []

    async def attempt() -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(got.append, 1)
        loop.call_soon(got.append, 2).cancel()
        handle = loop.call_later(0.001, got.append, 3)
        assert handle.when() <= loop.time() + 0.001
        await asyncio.sleep(0.02)

    with isolated_attempts(LIMIT):
        await attempt_task(attempt(), "a")
    assert got == [1, 3]


async def test_an_exit_in_a_callback_of_nobody_s_attempt_is_left_alone() -> None:
    def look() -> None:
        seen.append(sys._getframe(1).f_code.co_name)

    seen: list[str] = []
    with isolated_attempts(LIMIT):
        asyncio.get_running_loop().call_soon(look)
        await asyncio.sleep(0)
    assert seen != ["_run_contained"]
    assert seen


async def test_a_loop_gets_its_own_methods_back_unless_somebody_has_replaced_them() -> None:
    methods = vars(asyncio.get_running_loop())
    before = dict(methods)
    with isolated_attempts(LIMIT), isolated_attempts(LIMIT):
        assert {"call_soon", "call_soon_threadsafe", "call_at"} <= methods.keys()
    assert methods.keys() == before.keys()
    with isolated_attempts(LIMIT):
        theirs = methods["call_at"] = functools.partial(methods["call_at"])
    assert methods.pop("call_at") is theirs
    methods["call_soon"] = mine = functools.partial(asyncio.get_running_loop().call_soon)
    with isolated_attempts(LIMIT):
        assert methods["call_soon"] is not mine
    assert methods.pop("call_soon") is mine


async def test_code_that_holds_the_loop_fails_with_the_name_of_its_activity() -> None:
    async def attempt() -> None:
        await asyncio.sleep(0)
        spin()

    with isolated_attempts(LIMIT), pytest.raises(ActivityBlocked) as raised:
        await attempt_task(attempt(), "a")
    assert (raised.value.activity, raised.value.place.rpartition(" ")[2]) == ("a", "spin")


async def test_clean_up_code_may_await_after_an_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "BLOCKING_SECONDS", 0.0)
    cleaned = False

    async def attempt() -> None:
        nonlocal cleaned
        try:
            time.sleep(60)  # noqa: ASYNC251 - this is the fault
        finally:
            await asyncio.sleep(0.001)
            cleaned = True

    with isolated_attempts(LIMIT), pytest.raises(ActivityBlocked, match="attempt"):
        await attempt_task(attempt(), "a")
    assert cleaned


async def test_a_task_of_an_attempt_can_be_cancelled_inspected_and_used_by_anyio() -> None:
    started = asyncio.Event()

    async def wait() -> None:
        started.set()
        await asyncio.Event().wait()

    async def attempt() -> Any:
        task = asyncio.create_task(wait(), name="waiting")
        await started.wait()
        coroutine: Any = task.get_coro()
        assert inspect.getcoroutinestate(coroutine) == inspect.CORO_SUSPENDED
        assert coroutine.cr_code is wait.__code__
        assert "wait" in repr(task)
        assert task.get_stack()
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError, match="enough"):
            await task
        with anyio.move_on_after(0.01) as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep_forever)
        assert scope.cancelled_caught
        return task.get_name()

    with isolated_attempts(LIMIT):
        assert await attempt_task(attempt(), "a") == "waiting"


async def test_the_factory_that_a_loop_had_is_used_and_comes_back() -> None:
    loop, names = asyncio.get_running_loop(), []

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        names.append(coroutine.__name__)
        return asyncio.Task(coroutine, loop=loop, **options)

    async def attempt() -> None:
        await asyncio.create_task(asyncio.sleep(0))

    before = loop.get_task_factory()
    loop.set_task_factory(factory)
    try:
        with isolated_attempts(LIMIT):
            with isolated_attempts(LIMIT):
                await attempt_task(attempt(), "a")
            await asyncio.create_task(attempt())
        assert loop.get_task_factory() is factory
    finally:
        loop.set_task_factory(before)
    assert names == ["attempt", "sleep", "attempt", "sleep"]


@workflow.define(name="isolated.spinning")
class Spinning:
    @workflow.entrypoint
    async def run(self) -> None:
        spin()


@outlast.activity(effect="once")
async def spin_once() -> None:
    spin()


@workflow.define(name="isolated.spinning_once")
class SpinningOnce:
    @workflow.entrypoint
    async def run(self) -> str:
        with pytest.raises(OutcomeUnknown):
            await spin_once()
        return "unknown"


async def test_the_outcome_of_what_may_run_once_only_is_unknown_after_an_interruption() -> None:
    async with outlast.connect("memory:") as backend:
        execution = await backend.start(SpinningOnce)
        options: dict[str, Any] = {"holding_limit": timedelta(seconds=LIMIT)}
        async with backend.worker([SpinningOnce], **options), asyncio.timeout(30):
            assert await execution.result() == "unknown"


async def given_up() -> str:
    """Return the reason why the worker of this thread gives `Spinning` up."""
    async with outlast.connect("memory:") as backend:
        execution = await backend.start(Spinning)
        options: dict[str, Any] = {"lease": timedelta(hours=1), "holding_limit": timedelta(seconds=LIMIT)}
        async with backend.worker([Spinning], **options), asyncio.timeout(30):
            while (error := (await execution.describe()).error) is None:  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.01)
        return error


async def test_the_limit_is_an_option_of_a_worker() -> None:
    error = await given_up()
    assert BusyWorkflow.__name__ in error
    assert "in spin" in error
    options: dict[str, Any] = {"holding_limit": timedelta(0)}
    async with outlast.connect("memory:") as backend:
        with pytest.raises(ConfigurationError, match="holding_limit"):
            backend.worker([Spinning], **options)


async def test_a_worker_in_another_thread_gives_such_code_up_too() -> None:
    error = await asyncio.to_thread(lambda: asyncio.run(given_up()))
    assert BusyWorkflow.__name__ in error
    assert "in spin" in error
