"""The deterministic loop: order, keys, timers, refusals, eviction."""

import asyncio
import contextvars
import gc
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import warnings
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.core.errors import DeterminismError
from outlast.runtime.executions.unwinding import ExecutionEvicted
from outlast.runtime.executions.workflow_loop import WorkflowLoop

START = 1_700_000_000.0
FOREVER = 1e9


class World:
    """A driver without a store: it keeps the requests of the loop, and says when timers are due."""

    def __init__(self, main: Coroutine[Any, Any, Any] | None = None) -> None:
        self.waiting: dict[str, float] = {}
        self.trace: list[tuple[str, ...]] = []
        self.loop = WorkflowLoop(on_timer=self._wanted, on_timer_cancelled=self._dropped, start_time=START)
        if main is not None:
            self.root = self.loop.start(main)
            self.loop.drain()

    def _wanted(self, key: str, when: float) -> None:
        self.waiting[key] = when
        self.trace.append(("timer", key, str(when)))

    def _dropped(self, key: str) -> None:
        del self.waiting[key]
        self.trace.append(("cancelled", key))

    def fire(self, key: str) -> None:
        self.loop.advance(self.waiting.pop(key))
        self.loop.fire(key)
        self.trace.append(("fired", key))
        self.loop.drain()

    def run(self, choose: Callable[[list[str]], str] | None = None) -> Any:
        """Fire timers, the earliest first unless `choose` picks another, until the root is done."""
        while not self.root.done():
            keys = sorted(self.waiting, key=lambda key: (self.waiting[key], key))
            assert keys, "the workflow waits for nothing"
            self.fire(keys[0] if choose is None else choose(keys))
        return self.root.result()


@pytest.fixture
def run() -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    worlds: list[World] = []

    def run_to_the_end(main: Coroutine[Any, Any, Any]) -> Any:
        worlds.append(World(main))
        return worlds[-1].run()

    yield run_to_the_end
    for world in worlds:
        world.loop.close()


Run = Callable[[Coroutine[Any, Any, Any]], Any]


# Keys and timers


def test_a_key_is_the_path_of_the_task_and_the_number_of_the_request() -> None:
    async def leaf() -> None:
        await asyncio.sleep(1)
        await asyncio.sleep(1)

    async def branch() -> None:
        await asyncio.gather(leaf(), leaf())

    async def main() -> None:
        await asyncio.sleep(1)
        await asyncio.gather(branch(), branch())

    world = World(main())
    world.run()
    asked = [entry[1] for entry in world.trace if entry[0] == "timer"]
    assert asked == [":0", "0.0:0", "0.1:0", "1.0:0", "1.1:0", "0.0:1", "0.1:1", "1.0:1", "1.1:1"]
    world.loop.close()


def test_a_request_of_a_callback_has_a_key_without_a_task() -> None:
    keys: list[str] = []

    async def child() -> None:
        await asyncio.sleep(1)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: loop.call_later(1, keys.append, "called"))
        loop.call_soon(lambda: keys.append(asyncio.ensure_future(child()).get_name()))
        await asyncio.sleep(2)

    world = World(main())
    assert list(world.waiting) == [":0", "~:0", "~.0:0"]
    world.run()
    assert keys == ["Task-~.0", "called"]
    world.loop.close()


def test_time_stands_still_until_it_is_advanced_and_never_goes_back() -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        seen = [loop.time()]
        await asyncio.sleep(0)
        seen.append(loop.time())
        await asyncio.sleep(10)
        return [*seen, loop.time()]

    world = World(main())
    world.loop.advance(START - 100)
    assert world.run() == [START, START, START + 10]
    world.loop.close()


def test_a_timer_that_is_due_already_asks_nothing_of_the_driver(run: Run) -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        called: list[int] = []
        loop.call_later(0, called.append, 1)
        loop.call_at(START - 5, called.append, 2)
        loop.call_later(-1, called.append, 3).cancel()
        await asyncio.sleep(0)
        return called

    assert run(main()) == [1, 2]


def test_a_cancelled_timer_is_reported_once_and_a_fired_one_never() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        dropped = loop.call_later(5, print)
        dropped.cancel()
        dropped.cancel()
        fired = loop.call_later(1, lambda: None)
        await asyncio.sleep(2)
        fired.cancel()

    world = World(main())
    world.run()
    assert [entry[1] for entry in world.trace if entry[0] == "cancelled"] == [":0"]
    world.loop.close()


def test_a_timer_fired_and_cancelled_before_the_drain_does_not_run() -> None:
    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        called: list[str] = []
        second = loop.call_later(2, called.append, "second")
        loop.call_later(1, second.cancel)
        await asyncio.sleep(3)
        return called

    world = World(main())
    for key in (":1", ":0"):
        world.loop.advance(world.waiting.pop(key))
        world.loop.fire(key)
    world.loop.drain()
    assert world.run() == []
    assert not [entry for entry in world.trace if entry[0] == "cancelled"]
    world.loop.close()


def test_firing_a_timer_that_does_not_wait_is_an_error() -> None:
    world = World()
    with pytest.raises(KeyError):
        world.loop.fire(":0")
    world.loop.close()


@pytest.mark.parametrize("delay", [float("inf"), float("nan")])
def test_a_timer_without_a_finite_time_is_refused_where_it_is_asked_for(run: Run, delay: float) -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_later(delay, print)

    with pytest.raises(ValueError, match="finite time"):
        run(main())


# asyncio on it


async def results_as_they_come(awaitables: list[Awaitable[Any]]) -> list[Any]:
    return [await each for each in asyncio.as_completed(awaitables)]


async def later(delay: float, value: Any) -> Any:
    await asyncio.sleep(delay)
    return value


def test_gather_wait_wait_for_shield_and_timeouts_work(run: Run) -> None:
    async def main() -> dict[str, Any]:
        found: dict[str, Any] = {}
        found["gather"] = await asyncio.gather(later(2, "a"), later(1, "b"))
        tasks = [asyncio.create_task(later(n, n)) for n in (3, 1, 2)]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        found["wait"] = [task.result() for task in done], len(pending)
        found["as_completed"] = await results_as_they_come([*pending])
        found["wait_for"] = await asyncio.wait_for(later(1, "in time"), 2)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(later(2, "late"), 1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.sleep(FOREVER)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout_at(START):
                await asyncio.sleep(FOREVER)
        inner = asyncio.create_task(later(2, "kept"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(inner), 1)
        found["shield"] = await inner
        return found

    assert run(main()) == {
        "gather": ["a", "b"],
        "wait": ([1], 2),
        "as_completed": [2, 3],
        "wait_for": "in time",
        "shield": "kept",
    }


def test_a_task_group_cancels_the_others_and_raises_what_failed(run: Run) -> None:
    cancelled: list[str] = []

    async def other(name: str) -> None:
        try:
            await asyncio.sleep(FOREVER)
        except asyncio.CancelledError:
            cancelled.append(name)
            raise

    async def fail() -> None:
        await asyncio.sleep(1)
        raise ValueError("no")

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for name in ("a", "b", "c"):
                group.create_task(other(name))
            group.create_task(fail())

    with pytest.raises(ExceptionGroup) as caught:
        run(main())
    assert [str(error) for error in caught.value.exceptions] == ["no"]
    assert sorted(cancelled) == ["a", "b", "c"]


def test_locks_conditions_events_semaphores_and_queues_work(run: Run) -> None:
    async def main() -> list[str]:
        log: list[str] = []
        lock, event, condition = asyncio.Lock(), asyncio.Event(), asyncio.Condition()
        semaphore, queue = asyncio.Semaphore(2), asyncio.Queue[str](maxsize=1)

        async def worker(name: str) -> None:
            await event.wait()
            async with semaphore, lock:
                await asyncio.sleep(1)
            await queue.put(name)

        async def consumer() -> None:
            for _ in range(3):
                log.append(await queue.get())
            async with condition:
                condition.notify_all()

        async with asyncio.TaskGroup() as group:
            for name in ("a", "b", "c"):
                group.create_task(worker(name))
            group.create_task(consumer())
            event.set()
            async with condition:
                await condition.wait()
        return log

    assert run(main()) == ["a", "b", "c"]


def test_a_task_sees_itself_its_loop_and_its_own_context(run: Run) -> None:
    variable = contextvars.ContextVar("variable", default="outer")

    async def child() -> str:
        variable.set("child")
        await asyncio.sleep(1)
        return variable.get()

    async def main() -> tuple[bool, bool, str, str]:
        variable.set("main")
        task = asyncio.create_task(child(), name="mine")
        running = isinstance(asyncio.get_running_loop(), WorkflowLoop)
        known = asyncio.all_tasks() == {task, asyncio.current_task()} and task.get_name() == "mine"
        return running, known, await task, variable.get()

    assert run(main()) == (True, True, "child", "main")
    assert variable.get() == "outer"


def test_a_future_completed_between_drains_wakes_who_waits_for_it() -> None:
    handed_out: list[asyncio.Future[str]] = []

    async def main() -> str:
        handed_out.append(asyncio.get_running_loop().create_future())
        return await handed_out[0]

    world = World(main())
    handed_out[0].set_result("signal")
    assert not world.root.done()
    world.loop.drain()
    assert world.root.result() == "signal"
    world.loop.close()


def test_cancelling_the_root_lets_its_clean_up_await() -> None:
    async def main() -> None:
        try:
            await asyncio.sleep(FOREVER)
        finally:
            await asyncio.sleep(3)

    world = World(main())
    world.root.cancel()
    world.loop.drain()
    assert list(world.waiting) == [":1"]
    world.fire(":1")
    assert world.root.cancelled()
    world.loop.close()


def test_an_abandoned_asynchronous_generator_is_ended_at_the_end_whatever_the_collector_does() -> None:
    log: list[str] = []

    async def numbers(name: str) -> AsyncIterator[int]:
        try:
            for number in range(9):
                yield number
        finally:
            await asyncio.sleep(1)
            log.append(f"{name} closed")

    async def main() -> None:
        for name in ("first", "second"):
            async for _ in numbers(name):
                break
            gc.collect()
            await asyncio.sleep(1)
        async for _ in numbers("exhausted"):
            pass
        log.append("end of main")

    world = World(main())
    world.run()
    assert log == ["exhausted closed", "end of main", "first closed", "second closed"]
    world.loop.close()


def test_many_finished_tasks_and_generators_are_not_kept(run: Run) -> None:
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    most = 0

    async def one() -> AsyncIterator[int]:
        yield 1

    async def child() -> None:
        return None

    async def main() -> None:
        nonlocal most
        for _ in range(500):
            task, generator = asyncio.create_task(child()), one()
            alive.update((task, generator))
            await task
            async for _ in generator:
                pass
            most = max(most, len(alive))

    run(main())
    assert most < 100


# Draining


def drain_in_callback(world: World) -> None:
    async def outside() -> None:
        done = asyncio.get_running_loop().create_future()

        def drain() -> None:
            world.loop.drain()
            done.set_result(None)

        asyncio.get_running_loop().call_soon(drain)
        await done

    asyncio.run(outside())


def drain_in_task(world: World) -> None:
    async def outside() -> None:
        loop, task, hooks = asyncio.get_running_loop(), asyncio.current_task(), sys.get_asyncgen_hooks()
        async with asyncio.timeout(60):
            world.loop.drain()
            assert asyncio.get_running_loop() is loop
            assert asyncio.current_task() is task
            assert sys.get_asyncgen_hooks() == hooks
            await asyncio.sleep(0)

    asyncio.run(outside())


def drain_alone(world: World) -> None:
    world.loop.drain()


def drain_in_workflow_loop(world: World) -> None:
    async def outside() -> None:
        world.loop.drain()

    outer = World(outside())
    outer.root.result()
    outer.loop.close()


@pytest.mark.parametrize(
    "drain", [drain_in_callback, drain_in_task, drain_alone, drain_in_workflow_loop], ids=lambda f: f.__name__
)
def test_a_drain_works_wherever_it_is_called(drain: Callable[[World], None]) -> None:
    async def child(number: int) -> int:
        async with asyncio.timeout(5):
            await asyncio.sleep(number)
        return number

    async def main() -> list[int]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(child(number)) for number in (1, 2)]
        return [*(task.result() for task in tasks), *await asyncio.gather(child(0), child(0))]

    world = World()
    world.root = world.loop.start(main())
    drain(world)
    while world.waiting:
        key = min(world.waiting, key=lambda key: (world.waiting[key], key))
        world.loop.advance(world.waiting.pop(key))
        world.loop.fire(key)
        drain(world)
    assert world.root.result() == [1, 2, 0, 0]
    world.loop.close()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_code_that_exits_ends_its_task_and_whoever_awaits_it_gets_the_error(
    error: type[BaseException],
) -> None:
    async def leave() -> None:
        await asyncio.sleep(0)
        raise error

    async def main() -> str:
        with pytest.raises(error):
            await asyncio.create_task(leave())
        asyncio.get_running_loop().call_soon(leave_callback)
        await asyncio.sleep(0)
        return "goes on"

    def leave_callback() -> None:
        raise error

    world = World(main())
    assert world.root is not None
    assert world.root.result() == "goes on"
    world.loop.close()


@pytest.mark.usefixtures("sigint")
def test_an_interrupt_of_the_process_comes_out_of_the_drain_and_leaves_the_outer_loop_as_it_was() -> None:
    async def main() -> None:
        await asyncio.sleep(0)
        signal.raise_signal(signal.SIGINT)

    async def outside() -> str:
        world = World()
        root = world.loop.start(main())
        task, hooks = asyncio.current_task(), sys.get_asyncgen_hooks()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with pytest.raises(KeyboardInterrupt):
            world.loop.drain()
        assert (asyncio.current_task(), sys.get_asyncgen_hooks()) == (task, hooks)
        assert isinstance(root.exception(), KeyboardInterrupt)
        world.loop.close()
        return await asyncio.wait_for(later(0, "goes on"), 5)

    assert asyncio.run(outside()) == "goes on"


def test_a_loop_cannot_be_drained_closed_or_started_again_by_its_own_code(run: Run) -> None:
    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, WorkflowLoop)
        messages = []
        unused = later(1, None)
        loop.call_soon(print)
        for forbidden in (loop.drain, loop.close, lambda: loop.start(unused)):
            with pytest.raises(RuntimeError) as caught:
                forbidden()
            messages.append(str(caught.value))
        unused.close()
        return messages

    assert len(set(run(main()))) == 3


# Failures and refusals


def test_an_exception_that_nobody_retrieves_is_logged_and_the_rest_goes_on(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(message: str) -> None:
        raise ValueError(message)

    def fail_at_once() -> None:
        raise ValueError("in a callback")

    async def main() -> str:
        asyncio.get_running_loop().call_soon(fail_at_once)
        asyncio.create_task(fail("in a task"))  # noqa: RUF006
        for _ in range(40):  # enough finished tasks for the loop to let go of the first
            await asyncio.create_task(later(0, None))
        return "fine"

    with caplog.at_level(logging.ERROR, logger="outlast.workflow"):
        assert run(main()) == "fine"
    errors = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert [str(error) for error in errors] == ["in a callback", "in a task"]


async def threads() -> None:
    await asyncio.to_thread(print)


async def subprocesses() -> None:
    await asyncio.create_subprocess_exec("true")


async def connections() -> None:
    await asyncio.open_connection("127.0.0.1", 1)


@pytest.mark.parametrize("forbidden", [threads, subprocesses, connections], ids=lambda f: f.__name__)
def test_calls_that_reach_outside_are_refused_with_an_alternative(
    run: Run, forbidden: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    with pytest.raises(DeterminismError, match="activity"):
        run(forbidden())


WORKS = {
    *("call_soon", "call_soon_threadsafe", "call_later", "call_at", "time", "create_future", "create_task"),
    *("close", "is_closed", "is_running", "shutdown_asyncgens"),
    *("call_exception_handler", "default_exception_handler", "get_exception_handler", "get_task_factory"),
    "get_debug",
}


@pytest.mark.parametrize(
    "name", sorted(name for name in vars(asyncio.AbstractEventLoop) if not name.startswith("_"))
)
def test_every_method_of_an_event_loop_works_or_is_refused(name: str) -> None:
    world = World()
    if name in WORKS:
        assert getattr(WorkflowLoop, name) is not getattr(asyncio.AbstractEventLoop, name)
    else:
        with pytest.raises(DeterminismError):
            getattr(world.loop, name)()
    world.loop.close()


def test_a_callback_from_another_thread_is_refused() -> None:
    world = World(asyncio.sleep(1))
    caught: list[BaseException] = []

    def call() -> None:
        try:
            world.loop.call_soon_threadsafe(print)
        except DeterminismError as error:
            caught.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert len(caught) == 1
    world.loop.close()


# Closing

Suspended = Callable[[list[str]], Coroutine[Any, Any, Any]]


async def in_a_group(log: list[str]) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(later(5, None))
        group.create_task(asyncio.Event().wait())
        await asyncio.sleep(9)


async def in_a_gather(log: list[str]) -> None:
    await asyncio.gather(later(5, None), asyncio.shield(later(6, None)), later(0, None))


async def in_a_timeout(log: list[str]) -> None:
    async with asyncio.timeout(5):
        await asyncio.wait_for(asyncio.Queue[int]().get(), 7)


async def in_a_generator(log: list[str]) -> None:
    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(1)
            log.append("awaited in a generator")

    async for _ in numbers():
        await asyncio.sleep(5)


async def with_stubborn_clean_up(log: list[str]) -> None:
    try:
        await asyncio.sleep(5)
    finally:
        for _ in range(3):
            try:
                await asyncio.sleep(0)
            except BaseException:
                await asyncio.sleep(0)
        await asyncio.sleep(1)
        log.append("awaited a timer")


async def with_failing_clean_up(log: list[str]) -> None:
    try:
        await asyncio.sleep(5)
    finally:
        raise ValueError("in the clean-up")


async def with_swallowed_cancellation(log: list[str]) -> None:
    while True:
        try:
            await asyncio.sleep(5)
            log.append("slept")
        except (Exception, asyncio.CancelledError):
            log.append("caught")


async def with_new_tasks_in_clean_up(log: list[str]) -> None:
    try:
        await asyncio.sleep(5)
    finally:
        log.append("made a coroutine")
        await asyncio.create_task(later(0, None))
        log.append("made a task")


async def with_a_context(log: list[str]) -> None:
    variable = contextvars.ContextVar("variable", default=0)
    token = variable.set(1)
    try:
        await asyncio.sleep(5)
    finally:
        variable.reset(token)
        log.append("put the variable back")


SUSPENDED: list[Suspended] = [
    *(in_a_group, in_a_gather, in_a_timeout, in_a_generator, with_stubborn_clean_up, with_failing_clean_up),
    *(with_swallowed_cancellation, with_new_tasks_in_clean_up, with_a_context),
]


class Held:
    """Something a workflow has in a local variable."""


@pytest.mark.parametrize("suspended", SUSPENDED, ids=lambda f: f.__name__)
@pytest.mark.parametrize("started", [True, False])
def test_closing_drops_an_execution_without_a_request_a_warning_or_a_leak(
    suspended: Suspended, started: bool, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    log: list[str] = []
    held = Held()
    watched = weakref.ref(held)

    async def main(held: Held) -> None:
        await suspended(log)

    world = World()
    world.root = world.loop.start(main(held))
    del held
    if started:
        world.loop.drain()
        assert world.waiting
    before = list(world.trace)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        world.loop.close()
        world.loop.close()
        assert watched() is None, "closed, it is kept alive by nothing but a cycle"
        loop = weakref.ref(world.loop)
        del world.loop, world.root
        gc.collect()
    assert loop() is None
    assert world.trace == before, "nothing was asked of the driver, and no timer taken back"
    assert set(log) <= {"made a coroutine", "put the variable back"}
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]
    assert capsys.readouterr().err == ""


def test_closing_unwinds_younger_tasks_first_and_in_their_own_context() -> None:
    log: list[str] = []
    name = contextvars.ContextVar("name", default="nobody")

    async def task(mine: str, *below: Coroutine[Any, Any, None]) -> None:
        name.set(mine)
        try:
            await asyncio.gather(*below, asyncio.sleep(5))
        finally:
            log.append(name.get())

    world = World(task("root", task("older"), task("younger")))
    world.loop.close()
    assert log == ["younger", "older", "root"]


def test_an_evicted_execution_reports_no_failure_that_it_had_yet_to_look_at(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail() -> None:
        raise ValueError

    async def main() -> None:
        task = asyncio.create_task(fail())
        await asyncio.sleep(5)
        await task

    world = World(main())
    world.loop.close()
    del world
    gc.collect()
    assert not caplog.records


def test_a_closed_loop_refuses_every_request() -> None:
    world = World()
    world.loop.close()
    assert world.loop.is_closed()
    for request in (
        world.loop.next_key,
        lambda: world.loop.call_later(1, print),
        lambda: world.loop.create_task(later(1, None)),
    ):
        with pytest.raises(ExecutionEvicted):
            request()
    world.loop.call_soon(pytest.fail, "ran on a closed loop")
    world.loop.drain()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_code_that_exits_while_it_is_dropped_is_dropped(error: type[BaseException]) -> None:
    async def main() -> None:
        try:
            await asyncio.sleep(5)
        finally:
            raise error

    world = World(main())
    world.loop.close()
    assert world.loop.is_closed()


@pytest.mark.usefixtures("sigint")
def test_closing_lets_an_interrupt_of_the_process_through_and_is_closed_all_the_same() -> None:
    async def main() -> None:
        try:
            await asyncio.sleep(5)
        finally:
            signal.raise_signal(signal.SIGINT)

    world = World(main())
    with pytest.raises(KeyboardInterrupt):
        world.loop.close()
    assert world.loop.is_closed()
    assert asyncio._get_running_loop() is None


async def _numbers() -> AsyncIterator[int]:
    number = 0
    while True:
        with suppress(BaseException):
            yield number
        number += 1


async def _for_ever(awaited: Callable[[], Awaitable[Any]]) -> None:
    while True:
        try:
            await awaited()
        except BaseException:
            continue


def _pending() -> Awaitable[Any]:
    return asyncio.get_running_loop().create_future()


def _request() -> Awaitable[Any]:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, WorkflowLoop)
    loop.next_key()
    return loop.create_future()


async def _wake_and_spin() -> None:
    try:
        await asyncio.sleep(5)
    except BaseException:
        await _for_ever(lambda: asyncio.sleep(0))


async def _in_a_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(5))


async def _abandon_numbers() -> None:
    async for _ in _numbers():
        break
    await asyncio.sleep(5)


STUBBORN: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
    "sleep": lambda: _for_ever(lambda: asyncio.sleep(5)),
    "no sleep": _wake_and_spin,
    "event": lambda: _for_ever(lambda: asyncio.Event().wait()),
    "timeout": lambda: _for_ever(lambda: asyncio.wait_for(_pending(), 5)),
    "task": lambda: _for_ever(lambda: asyncio.create_task(asyncio.sleep(5))),
    "gather": lambda: _for_ever(lambda: asyncio.gather(asyncio.sleep(5))),
    "group": lambda: _for_ever(_in_a_group),
    "request": lambda: _for_ever(_request),
    "inner": lambda: asyncio.wait_for(_for_ever(lambda: asyncio.sleep(5)), 9),
    "generator": _abandon_numbers,
}


@pytest.mark.parametrize("code", STUBBORN.values(), ids=STUBBORN)
def test_code_that_catches_its_eviction_is_dropped_where_it_stands(
    code: Callable[[], Coroutine[Any, Any, Any]],
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    world = World(code())
    before = list(world.trace)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        world.loop.close()
        assert world.loop.is_closed()
        assert any(__file__ in place for place in world.loop.dropped_at)
        del world.loop, world.root
        gc.collect()
    assert world.trace == before
    assert not caplog.records
    assert capsys.readouterr() == ("", "")


def test_a_process_ends_that_has_dropped_code_which_catches_everything() -> None:
    program = """
import asyncio
from outlast.runtime.executions.workflow_loop import WorkflowLoop

async def main():
    while True:
        try:
            await asyncio.sleep(5)
        except:
            pass

loop = WorkflowLoop(on_timer=lambda *_: None, on_timer_cancelled=lambda _: None, start_time=1.0)
loop.start(main())
loop.drain()
loop.close()
print(loop.dropped_at)
"""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=30, check=True
    )
    assert (ended.stdout, ended.stderr) == ("['<string>:8, in main']\n", "")


# Order is the same in every process

ORDERS = """
import asyncio, json, random, sys
from outlast.runtime.executions.workflow_loop import WorkflowLoop

noise = [object() for _ in range(random.SystemRandom().randrange(5000))]
keys, order = [], []
waiting = {}

async def step(n):
    keep = [object() for _ in noise[: n * 7]]
    order.append(("begun", n))
    await asyncio.sleep(1 + n % 3)
    return n

async def main():
    tasks = [asyncio.create_task(step(n)) for n in range(20)]
    noise.extend(object() for _ in range(len(noise)))
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    order.append(([t.result() for t in done], [t.get_name() for t in pending]))
    for each in asyncio.as_completed(pending):
        order.append(("completed", await each))
    for each in asyncio.as_completed([step(n) for n in range(20)]):
        order.append(("completed", await each))
    futures = {asyncio.get_running_loop().create_future(): n for n in range(50)}
    for future in futures:
        future.set_result(None)
    done, _ = await asyncio.wait(futures)
    order.append([futures[future] for future in done])
    order.append(await asyncio.gather(*{asyncio.create_task(step(n)) for n in range(20)}))
    try:
        async with asyncio.TaskGroup() as group:
            for n in range(20):
                group.create_task(until_cancelled(n))
            await asyncio.sleep(1)
            raise ValueError
    except* ValueError:
        pass

async def until_cancelled(n):
    try:
        await asyncio.Event().wait()
    finally:
        order.append(("cancelled", n))

loop = WorkflowLoop(
    on_timer=lambda key, when: (keys.append(key), waiting.update({key: when})),
    on_timer_cancelled=waiting.pop,
    start_time=1_700_000_000.25,
)
root = loop.start(main())
loop.drain()
while waiting:
    key = min(waiting, key=lambda key: (waiting[key], key))
    loop.advance(waiting.pop(key))
    loop.fire(key)
    loop.drain()
root.result()
loop.close()
print(json.dumps([keys, order]))
"""


def test_sets_of_tasks_and_futures_are_ordered_alike_in_every_process() -> None:
    printed = [
        subprocess.run(
            [sys.executable, "-c", ORDERS],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("0", "1", "4242")
    ]
    assert printed[0] == printed[1] == printed[2]
    keys, order = json.loads(printed[0])
    assert len(keys) == len(set(keys))
    begun = [number for event, number in (entry for entry in order if len(entry) == 2) if event == "begun"]
    assert begun[:40] == [*range(20), *range(20)], "as_completed starts its coroutines in the listed order"


@pytest.mark.parametrize("collect", [set, iter], ids=["set", "iterator"])
def test_as_completed_refuses_coroutines_whose_order_it_cannot_know(
    run: Run, collect: Callable[[list[Any]], Any]
) -> None:
    coroutines = [later(1, 1), later(2, 2)]
    with pytest.raises(DeterminismError, match="make a list"):
        run(results_as_they_come(collect(coroutines)))
    for coroutine in coroutines:
        coroutine.close()


def test_as_completed_takes_a_coroutine_twice_and_tasks_among_coroutines(run: Run) -> None:
    async def main() -> list[Any]:
        twice = later(2, "twice")
        return await results_as_they_come([twice, asyncio.create_task(later(1, "task")), twice])

    assert run(main()) == ["task", "twice"]


# Any program

Program = tuple[Any, ...]


def programs() -> st.SearchStrategy[Program]:
    """Return trees of what asyncio offers, whose leaves sleep, wait for each other, or fail."""
    delays = st.integers(min_value=0, max_value=4)
    names = st.sampled_from(["x", "y"])
    leaves = st.one_of(
        st.tuples(st.just("sleep"), delays),
        st.tuples(st.just("put"), names),
        st.tuples(st.just("get"), names, delays),
        st.tuples(st.just("set"), names),
        st.tuples(st.just("wait"), names, delays),
        st.tuples(st.just("locked"), delays),
        st.just(("fail",)),
    )

    def grow(children: st.SearchStrategy[Program]) -> st.SearchStrategy[Program]:
        several = st.lists(children, min_size=1, max_size=3)
        kinds = ["sequence", "gather", "group", "as_completed", "first", "shielded", "generator"]
        return st.one_of(
            st.tuples(st.sampled_from(kinds), several),
            st.tuples(st.just("timeout"), children, delays),
        )

    return st.recursive(leaves, grow, max_leaves=12)


class Interpreter:
    """Runs a program and records what happened in it, in order."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.queues = {name: asyncio.Queue[str]() for name in ("x", "y")}
        self.events = {name: asyncio.Event() for name in ("x", "y")}
        self.lock = asyncio.Lock()

    async def run(self, program: Program, place: str = "p") -> str:
        self.seen.append(f"{place} begins")
        try:
            outcome = await self._run(program, place)
        except BaseException as error:
            outcome = f"{type(error).__name__}"
            self.seen.append(f"{place} {outcome}")
            raise
        self.seen.append(f"{place} ends {outcome}")
        return outcome

    async def _run(self, program: Program, place: str) -> str:
        match program:
            case ("sleep", delay):
                await asyncio.sleep(delay)
            case ("put", name):
                self.queues[name].put_nowait(place)
            case ("get", name, delay):
                return await asyncio.wait_for(self.queues[name].get(), delay)
            case ("set", name):
                self.events[name].set()
            case ("wait", name, delay):
                async with asyncio.timeout(delay):
                    await self.events[name].wait()
            case ("locked", delay):
                async with self.lock:
                    await asyncio.sleep(delay)
            case ("fail",):
                raise ValueError(place)
            case ("timeout", child, delay):
                async with asyncio.timeout(delay):
                    return await self.run(child, f"{place}.t")
            case (kind, children):
                return await self._run_several(
                    kind, [self.run(child, f"{place}.{n}") for n, child in enumerate(children)]
                )
        return place

    async def _run_several(self, kind: str, children: list[Coroutine[Any, Any, str]]) -> str:
        match kind:
            case "gather":
                return str(await asyncio.gather(*children, return_exceptions=True))
            case "group":
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(child) for child in children]
                return str([task.result() for task in tasks])
            case "as_completed":
                outcomes = []
                for each in asyncio.as_completed(children):
                    try:
                        outcomes.append(await each)
                    except Exception as error:
                        outcomes.append(type(error).__name__)
                return str(outcomes)
            case "first":
                tasks = [asyncio.create_task(child) for child in children]
                done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in pending:
                    task.cancel()
                await asyncio.gather(*pending, return_exceptions=True)
                return str([str(task.exception() or task.result()) for task in done])
            case "shielded":
                return str(
                    await asyncio.gather(*map(asyncio.shield, children), return_exceptions=True),
                )
            case _:
                outcomes = []
                async for outcome in self._one_by_one(children):
                    outcomes.append(outcome)
                    if kind == "generator":
                        break
                return str(outcomes)

    async def _one_by_one(self, children: list[Coroutine[Any, Any, str]]) -> AsyncIterator[str]:
        try:
            while children:
                try:
                    yield await children.pop(0)
                except Exception as error:
                    yield type(error).__name__
        finally:
            for child in children:
                child.close()


def play(program: Program, choices: list[int]) -> tuple[list[tuple[str, ...]], list[str], str]:
    """Run a program to its end, firing its timers as `choices` pick; return what happened."""
    interpreter: list[Interpreter] = []

    async def main() -> str:
        interpreter.append(Interpreter())
        return await interpreter[0].run(program)

    world = World(main())
    left = list(choices)
    try:
        outcome = str(world.run(lambda keys: keys[left.pop(0) % len(keys)] if left else keys[0]))
    except Exception as error:
        outcome = type(error).__name__
    finally:
        world.loop.close()
    return world.trace, interpreter[0].seen, outcome


@given(program=programs(), choices=st.lists(st.integers(min_value=0, max_value=5), max_size=8))
def test_a_program_with_its_timers_fired_in_the_same_order_runs_the_same(
    program: Program, choices: list[int]
) -> None:
    noise = [object() for _ in range(len(choices) * 100)]
    first = play(program, choices)
    del noise
    assert play(program, choices) == first
    asked = [entry[1] for entry in first[0] if entry[0] == "timer"]
    assert len(asked) == len(set(asked)), "keys are unique"


branches = st.lists(
    st.lists(st.one_of(st.integers(1, 4), st.lists(st.integers(1, 4), min_size=1, max_size=3)), max_size=3),
    min_size=1,
    max_size=4,
)


@given(branches=branches, orders=st.tuples(*[st.lists(st.integers(0, 9), max_size=20)] * 2))
def test_the_key_of_a_request_does_not_depend_on_how_far_other_branches_got(
    branches: list[list[int | list[int]]], orders: tuple[list[int], list[int]]
) -> None:
    async def branch(number: int, steps: list[int | list[int]], asked: dict[str, float]) -> None:
        for step in steps:
            if isinstance(step, int):
                asked[f"{number}"] = asked.get(f"{number}", 0) + 1
                await asyncio.sleep(step)
            else:
                await asyncio.gather(*map(asyncio.sleep, step))

    def keys_by_branch(order: list[int]) -> dict[str, list[str]]:
        async def main() -> None:
            await asyncio.gather(*(branch(n, steps, {}) for n, steps in enumerate(branches)))

        left = list(order)
        world = World()
        world.root = world.loop.start(main())
        world.loop.drain()
        # All timers may be due at once: time has long passed when a worker comes back.
        while not world.root.done():
            waiting = sorted(world.waiting)
            key = waiting[left.pop(0) % len(waiting)] if left else waiting[0]
            world.waiting.pop(key)
            world.loop.fire(key)
            world.loop.drain()
        world.loop.close()
        found: dict[str, list[str]] = {}
        for entry in world.trace:
            path, _, number = entry[1].partition(":")
            found.setdefault(path, []).append(number)
        return found

    assert keys_by_branch(orders[0]) == keys_by_branch(orders[1])
