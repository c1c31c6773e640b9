"""Several workers, and workers that stop or are stopped: D6, D15, D16, task queues, limits."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from outlast.core.errors import ConfigurationError, DefinitionError, ExecutionNotFound
from outlast.core.events import EventKind
from outlast.ports.durability.backend import Backend
from outlast.testing.contracts.durability.stage import DurabilityContractBase, Stage, all_events
from outlast.testing.contracts.durability.storage import BackendCapability
from outlast.testing.contracts.durability.waiting import Mailbox, Sleeper
from outlast.testing.contracts.durability.workflows import (
    CountAttempts,
    Gated,
    GatedOnce,
    ManyGates,
    Steps,
    version,
)


def assert_tried_twice(attempts: list[int]) -> None:
    """Check that two attempts began, in order. A paused worker may have got others that never began."""
    first, second = attempts
    assert first == 1 < second


class WorkerContract(DurabilityContractBase):
    """D6, D15, D16."""

    worker_life_seconds = 0.003
    """A time that is long enough for a worker to do something, and too short to do all."""

    # Losing the lease ------------------------------------------------------------------------------------

    async def test_d6_a_worker_that_lost_its_lease_changes_nothing(self, stage: Stage) -> None:
        self.needs(BackendCapability.PAUSABLE)
        execution, world = await stage.start(Gated)
        paused = await stage.worker(Gated)
        await stage.soon(world.happened("gate reached"))
        await stage.storage.pause(paused.backend)
        await stage.pass_time(stage.lease.total_seconds() + 0.1)
        await stage.worker(Gated)
        await stage.soon(world.happened("gate reached", 2))
        world.gate("gate").set()
        assert await stage.soon(execution.result()) == ["before done", "gate done", "after done"]
        events = await stage.soon(all_events(execution))
        await stage.storage.resume(paused.backend)
        await stage.pass_time(stage.lease.total_seconds() + 0.1)
        await paused.stop()
        assert (world.count("before"), world.count("after")) == (1, 1)
        assert_tried_twice(world.attempts("gate reached"))
        assert await stage.soon(all_events(execution)) == events

    async def test_d6_a_worker_that_comes_back_in_the_middle_does_not_interfere(self, stage: Stage) -> None:
        self.needs(BackendCapability.PAUSABLE)
        execution, world = await stage.start(ManyGates, ["a", "b"])
        paused = await stage.worker(ManyGates)
        await stage.soon(world.happened("b reached"))
        await stage.storage.pause(paused.backend)
        world.gate("a").set()
        await stage.soon(world.happened("a passed"))
        await stage.pass_time(stage.lease.total_seconds() + 0.1)
        await stage.worker(ManyGates)
        await stage.soon(world.happened("b reached", 2))
        await stage.storage.resume(paused.backend)
        await stage.pass_time(stage.lease.total_seconds() + 0.1)
        world.gate("b").set()
        assert await stage.soon(execution.result()) == ["a done", "b done"]
        kinds = [event.kind for event in await stage.soon(all_events(execution))]
        assert kinds.count(EventKind.ACTIVITY_COMPLETED) == 2
        assert_tried_twice(world.attempts("a reached"))
        assert_tried_twice(world.attempts("b reached"))

    async def test_d6_a_worker_that_was_paused_works_on_afterwards(self, stage: Stage) -> None:
        self.needs(BackendCapability.PAUSABLE)
        process = await stage.worker(Steps)
        await stage.storage.pause(process.backend)
        await stage.pass_time(2 * stage.lease.total_seconds())
        await stage.storage.resume(process.backend)
        execution, _ = await stage.start(Steps, ["a"])
        assert await stage.later(execution.result(), stage.lease.total_seconds()) == ["a done"]

    async def test_d6_the_only_worker_claims_an_execution_again_after_it_lost_the_lease(
        self, stage: Stage
    ) -> None:
        self.needs(BackendCapability.PAUSABLE)
        execution, world = await stage.start(Gated)
        process = await stage.worker(Gated)
        await stage.soon(world.happened("gate reached"))
        await stage.storage.pause(process.backend)
        await stage.pass_time(2 * stage.lease.total_seconds())
        await stage.storage.resume(process.backend)
        await stage.pass_time(1)
        world.gate("gate").set()
        assert await stage.later(execution.result(), stage.lease.total_seconds()) == [
            "before done",
            "gate done",
            "after done",
        ]
        assert (world.count("before"), world.count("after")) == (1, 1)
        await process.stop()

    # Stopping --------------------------------------------------------------------------------------------

    async def test_d15_a_worker_that_stops_finishes_what_runs_and_begins_nothing(self, stage: Stage) -> None:
        execution, world = await stage.start(Gated)
        process = await stage.worker(Gated)
        await stage.soon(world.happened("gate reached"))
        process.ask_to_stop()
        await stage.pass_time(1)
        world.gate("gate").set()
        await stage.soon(process.stop())
        assert (world.count("gate passed"), world.count("after")) == (1, 0)
        await stage.worker(Gated)
        assert await stage.soon(execution.result()) == ["before done", "gate done", "after done"]
        assert [world.attempts(what) for what in ("before", "gate reached", "after")] == [[1], [1], [1]]

    async def test_d15_an_execution_that_does_not_finish_in_time_is_handed_over(self, stage: Stage) -> None:
        execution, world = await stage.start(Gated)
        process = await stage.worker(Gated, graceful_shutdown_timeout=timedelta(seconds=1))
        await stage.soon(world.happened("gate reached"))
        await stage.later(process.stop(), 1)
        assert (world.running, world.count("gate passed")) == (0, 0)
        world.gate("gate").set()
        await stage.worker(Gated)
        assert await stage.soon(execution.result()) == ["before done", "gate done", "after done"]
        assert world.attempts("gate reached") == [1, 2]

    async def test_d15_an_execution_that_is_handed_over_goes_on_at_once(self, stage: Stage) -> None:
        started = [await stage.start(ManyGates, ["a", "b"]) for _ in range(3)]
        process = await stage.worker(ManyGates, graceful_shutdown_timeout=timedelta(0))
        for _, world in started:
            await stage.soon(world.happened("b reached"))
        await stage.later(process.stop(), 1)
        for _, world in started:
            world.gate("a").set()
            world.gate("b").set()
        await stage.worker(ManyGates)
        for execution, world in started:
            assert await stage.soon(execution.result()) == ["a done", "b done"]
            assert (world.attempts("a passed"), world.attempts("b passed")) == ([2], [2])

    async def test_d15_stopping_does_not_use_up_attempts(self, stage: Stage) -> None:
        execution, world = await stage.start(CountAttempts, "one")
        for stop in range(1, 3):
            process = await stage.worker(CountAttempts, graceful_shutdown_timeout=timedelta(0))
            await stage.soon(world.happened("gate reached", stop))
            await stage.later(process.stop(), 1)
        world.gate("gate").set()
        await stage.worker(CountAttempts)
        assert await stage.soon(execution.result()) == "gate done"

    async def test_d15_an_activity_with_effect_once_that_is_cut_short_is_not_repeated(
        self, stage: Stage
    ) -> None:
        execution, world = await stage.start(GatedOnce)
        process = await stage.worker(GatedOnce, graceful_shutdown_timeout=timedelta(0))
        await stage.soon(world.happened("gate reached"))
        await stage.later(process.stop(), 1)
        await stage.worker(GatedOnce)
        assert await stage.soon(execution.result()) == "unknown, looked done"
        assert world.count("gate reached") == 1

    async def test_d15_activities_that_wait_for_a_slot_do_not_hold_up_the_stop(self, stage: Stage) -> None:
        names = ["a", "b", "c", "d"]
        execution, world = await stage.start(ManyGates, names)
        process = await stage.worker(
            ManyGates, max_concurrent_activities=1, graceful_shutdown_timeout=timedelta(seconds=1)
        )
        await stage.soon(world.happened_in_all(1))
        await stage.later(process.stop(), 1)
        for name in names:
            world.gate(name).set()
        await stage.worker(ManyGates)
        assert await stage.soon(execution.result()) == [f"{name} done" for name in names]
        assert sorted(world.attempts(f"{name} passed") for name in names) == [[1], [1], [1], [2]]

    async def test_d15_a_worker_that_has_nothing_to_do_stops_at_once(self, stage: Stage) -> None:
        for _ in range(3):
            process = await stage.worker(Steps)
            await stage.soon(process.stop())

    async def test_d15_nothing_is_lost_while_workers_come_and_go(self, stage: Stage) -> None:
        started = [await stage.start(Steps, ["a", "b", "c"]) for _ in range(12)]
        results = asyncio.gather(*(execution.result() for execution, _ in started))
        life_seconds = self.worker_life_seconds
        while not results.done():
            process = await stage.worker(Steps, max_concurrent_executions=5)
            await asyncio.wait([results], timeout=life_seconds)
            await stage.soon(process.stop())
            # Where all is slow, the first ones get nothing done.
            life_seconds *= 1.1
        assert await results == [["a done", "b done", "c done"]] * 12
        for _, world in started:
            assert [effect.attempt for effect in world.effects] == [1, 1, 1]

    # Sharing ---------------------------------------------------------------------------------------------

    async def test_d16_workers_share_the_executions(self, stage: Stage) -> None:
        started = [await stage.start(ManyGates, ["a"]) for _ in range(10)]
        for _ in range(2):
            await stage.worker(ManyGates, max_concurrent_executions=5)
        for _, world in started:
            # One worker alone could not have begun them all.
            await stage.soon(world.happened("a reached"))
        for execution, world in started:
            world.gate("a").set()
            assert await stage.soon(execution.result()) == ["a done"]
            assert world.attempts("a reached") == [1]

    async def test_d16_losing_a_worker_loses_nothing(self, stage: Stage) -> None:
        started = [await stage.start(ManyGates, ["a"]) for _ in range(10)]
        lost = await stage.worker(ManyGates, max_concurrent_executions=5)
        await stage.worker(ManyGates, max_concurrent_executions=5)
        for _, world in started:
            await stage.soon(world.happened("a reached"))
        await lost.kill()
        for _, world in started:
            world.gate("a").set()
        results = asyncio.gather(*(execution.result() for execution, _ in started))
        assert await stage.later(results, stage.lease.total_seconds()) == [["a done"]] * 10
        attempts = [world.attempts("a passed")[-1] for _, world in started]
        assert set(attempts) == {1, 2}

    async def test_d16_no_more_activities_run_at_once_than_the_worker_allows(self, stage: Stage) -> None:
        names = [f"gate {n}" for n in range(6)]
        execution, world = await stage.start(ManyGates, names)
        await stage.worker(ManyGates, max_concurrent_activities=2)
        opened: set[str] = set()
        for number in range(len(names)):
            # Whichever they are: two are under way, or the last one.
            await stage.soon(world.happened_in_all(min(2 * number + 2, 2 * len(names) - 1)))
            name = next(name for name in names if name not in opened and world.count(f"{name} reached"))
            opened.add(name)
            world.gate(name).set()
            await stage.soon(world.happened(f"{name} passed"))
        await stage.soon(execution.result())
        assert world.most_running == 2

    async def test_d16_an_execution_that_only_waits_leaves_its_place_to_others(self, stage: Stage) -> None:
        waiting = [await stage.start(Mailbox) for _ in range(3)]
        asleep, _ = await stage.start(Sleeper, 1e6)
        process = await stage.worker(Mailbox, Sleeper, Steps, max_concurrent_executions=1)
        other, _ = await stage.start(Steps, ["a"])
        assert await stage.soon(other.result()) == ["a done"]
        for execution, _ in waiting:
            await execution.signal("stop")
        for execution, _ in waiting:
            assert await stage.soon(execution.result()) == []
        await asleep.cancel()
        await process.stop()

    async def test_d16_a_waiting_execution_moves_between_workers(self, stage: Stage) -> None:
        execution, world = await stage.start(Mailbox, True)
        for _ in range(3):
            await stage.worker(Mailbox)
        for number in range(1, 16):
            await execution.signal("put", number)
            await stage.soon(world.happened(f"letter {number}"))
        await execution.signal("stop")
        assert await stage.soon(execution.result()) == list(range(1, 16))
        assert [effect.attempt for effect in world.effects] == [1] * 15

    # The list of workers ---------------------------------------------------------------------------------

    async def test_workers_that_are_alive_are_listed_with_what_each_carries_on(self, stage: Stage) -> None:
        self.needs(BackendCapability.LISTS_WORKERS)
        backend = await stage.backend()

        async def listed(*expected: tuple[str, str, list[str], list[str]]) -> bool | None:
            found = [
                (one.identity, one.task_queue, list(one.workflows), list(one.executions))
                for one in await backend.workers()
            ]
            return found == list(expected) or None

        assert list(await backend.workers()) == []
        gated, gated_world = await stage.start(Gated)
        before = stage.storage.clock.now()
        first = await stage.worker(Gated, Steps, identity="first")
        await stage.soon(gated_world.happened("gate reached"))
        own = ("first", "default", ["contract.gated", "contract.steps"], [gated.id])
        await stage.until(lambda: listed(own))
        [worker] = await backend.workers()
        assert before <= worker.started_at.timestamp() <= stage.storage.clock.now()
        second = await stage.worker(Steps, identity="second", task_queue="elsewhere")
        other = ("second", "elsewhere", ["contract.steps"], list[str]())
        await stage.until(lambda: listed(own, other))
        await stage.pass_time(3 * stage.lease.total_seconds())
        assert await listed(own, other)
        await second.stop()
        assert await listed(own)
        await stage.lose(first)
        assert await listed()

    # The executions that a worker claims -----------------------------------------------------------------

    async def test_a_worker_takes_its_own_task_queue_and_its_own_workflows_only(self, stage: Stage) -> None:
        backend: Backend = await stage.backend()
        elsewhere = await backend.start(Steps, ["a"], id=stage.new_id(), task_queue="elsewhere")
        unknown, unknown_world = await stage.start(Gated)
        here, _ = await stage.start(Steps, ["a"])
        await stage.worker(Steps)
        assert await stage.soon(here.result()) == ["a done"]
        assert (await elsewhere.describe()).status == (await unknown.describe()).status == "running"
        assert not unknown_world.effects
        await stage.worker(Steps, task_queue="elsewhere")
        assert await stage.soon(elsewhere.result()) == ["a done"]

    async def test_a_worker_that_cannot_work_says_so(self, stage: Stage) -> None:
        backend = await stage.backend()
        for wrong in (object, timedelta, len):
            with pytest.raises(DefinitionError):
                backend.worker([wrong])  # type: ignore[list-item]
        with pytest.raises(DefinitionError):
            backend.worker([version(["first"]), version(["second"])])
        for options in (
            {"lease": timedelta(0)},
            {"max_concurrent_executions": 0},
            {"max_concurrent_activities": 0},
            {"max_cached_executions": -1},
        ):
            with pytest.raises(ConfigurationError):
                backend.worker([Steps], **options)

    async def test_an_argument_of_a_wrong_type_is_refused_with_what_to_write(self, stage: Stage) -> None:
        backend: Any = await stage.backend()
        with pytest.raises(DefinitionError, match=r"workflows of a worker must be a list.*write \[\.\.\.\]"):
            backend.worker(Steps)
        for name in ("lease", "graceful_shutdown_timeout"):
            with pytest.raises(ConfigurationError, match=rf"{name} is 3; give a timedelta"):
                backend.worker([Steps], **{name: 3})
        with pytest.raises(ConfigurationError, match="executions is '3'; use a whole number, 1 or more"):
            backend.worker([Steps], max_concurrent_executions="3")
        with pytest.raises(DefinitionError, match="an id is text, not int"):
            await backend.start(Steps, ["a"], id=3)
        with pytest.raises(DefinitionError, match="an id is text, not int"):
            await backend.start(Steps, ["a"], task_queue=3)
        with pytest.raises(ExecutionNotFound):
            await backend.get(3)
        with pytest.raises(DefinitionError, match=r"a filter is a Where, such as Where\(workflow="):
            await backend.list("steps")
