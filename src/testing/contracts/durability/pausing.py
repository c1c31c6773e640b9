"""Pausing an execution, and letting it go on: D24."""

from __future__ import annotations

import asyncio

import pytest

from outlast.core.errors import ExecutionAlreadyEnded, ExecutionCancelled, ExecutionTerminated
from outlast.core.events import EventKind, ExecutionPausedData
from outlast.core.records import Status
from outlast.ports.durability.execution import Execution
from outlast.testing.contracts.durability.stage import DurabilityContractBase, Stage, all_events, data_of
from outlast.testing.contracts.durability.storage import BackendCapability
from outlast.testing.contracts.durability.waiting import Cancellable, Mailbox, Sleeper
from outlast.testing.contracts.durability.workflows import Gated

REASON = "the bank is closed"


async def paused(stage: Stage, execution: Execution, times: int = 1) -> None:
    """Ask for a pause, and return when it is obeyed."""
    assert await execution.pause(REASON)
    await stage.event(execution, EventKind.EXECUTION_PAUSED, times)

    async def find() -> bool | None:
        return (await execution.describe()).status is Status.PAUSED or None

    await stage.until(find)


class PausingContract(DurabilityContractBase):
    """D24."""

    async def test_d24_a_timer_that_comes_due_during_a_pause_fires_after_it(self, stage: Stage) -> None:
        execution, world = await stage.start(Sleeper, 2.0)
        await stage.worker(Sleeper)
        await stage.event(execution, EventKind.TIMER_STARTED)
        await paused(stage, execution)
        await stage.pass_time(3)
        assert world.count("woke up") == 0
        described = await execution.describe()
        assert (described.status, described.held) == (Status.PAUSED, False)
        assert REASON in (described.error or "")
        assert await execution.resume()
        await stage.soon(execution.result())
        [event] = data_of(await all_events(execution), ExecutionPausedData)
        assert event.reason == REASON
        kinds = [event.kind for event in await all_events(execution)]
        assert kinds.index(EventKind.EXECUTION_RESUMED) < kinds.index(EventKind.TIMER_FIRED)

    async def test_d24_messages_wait_and_queries_are_answered(self, stage: Stage) -> None:
        execution, world = await stage.start(Mailbox, True)
        await stage.worker(Mailbox)
        await execution.signal("put", 1)
        await stage.soon(world.happened("letter 1"))
        await paused(stage, execution)
        for number in (2, 3):
            await execution.signal("put", number)
        await execution.signal("stop")
        await stage.pass_time(1)
        assert await stage.soon(execution.query("contents")) == [1]
        assert world.count("letter 2") == 0
        assert await execution.resume()
        assert await stage.soon(execution.result()) == [1, 2, 3]

    async def test_d24_messages_of_a_pause_outlive_the_end_of_the_execution(self, stage: Stage) -> None:
        self.needs(BackendCapability.RERUNS)
        execution, _ = await stage.start(Mailbox)
        await stage.worker(Mailbox)
        await paused(stage, execution)
        for number in (1, 2):
            await execution.signal("put", number)
        await execution.signal("stop")
        await stage.pass_time(1)
        await execution.terminate("enough")
        with pytest.raises(ExecutionTerminated):
            await stage.soon(execution.result())
        await execution.retry()
        assert await stage.soon(execution.result()) == [1, 2]

    async def test_d24_a_step_under_way_ends_and_is_kept_and_no_other_begins(self, stage: Stage) -> None:
        execution, world = await stage.start(Gated)
        await stage.worker(Gated)
        await stage.soon(world.happened("gate reached"))
        assert await execution.pause(REASON)

        async def obeyed() -> bool | None:
            return REASON in ((await execution.describe()).error or "") or None

        await stage.until(obeyed)
        world.gate("gate").set()
        await stage.event(execution, EventKind.EXECUTION_PAUSED)
        await stage.soon(world.happened("gate passed"))
        await stage.pass_time(1)
        assert world.count("after") == 0
        assert (await execution.describe()).status is Status.PAUSED
        assert await execution.resume()
        assert await stage.soon(execution.result()) == ["before done", "gate done", "after done"]
        assert world.attempts("gate passed") == [1]

    async def test_d24_the_worker_may_be_killed_before_the_step_has_ended(self, stage: Stage) -> None:
        execution, world = await stage.start(Gated)
        process = await stage.worker(Gated)
        await stage.soon(world.happened("gate reached"))
        assert await execution.pause(REASON)
        await stage.lose(process)
        world.gate("gate").set()
        await stage.worker(Gated)
        await stage.event(execution, EventKind.EXECUTION_PAUSED)
        await stage.pass_time(1)
        assert world.count("after") == 0
        assert await execution.resume()
        await stage.later(execution.result(), self.lease.total_seconds())
        assert world.count("before") == world.count("after") == 1

    async def test_d24_the_worker_may_be_killed_during_the_pause(self, stage: Stage) -> None:
        execution, world = await stage.start(Sleeper, 1.0)
        process = await stage.worker(Sleeper)
        await stage.event(execution, EventKind.TIMER_STARTED)
        await paused(stage, execution)
        await stage.lose(process)
        await stage.worker(Sleeper)
        await stage.pass_time(2)
        assert world.count("woke up") == 0
        assert (await execution.describe()).status is Status.PAUSED
        assert await execution.resume()
        await stage.soon(execution.result())

    async def test_d24_a_pause_before_any_worker_lets_no_step_begin(self, stage: Stage) -> None:
        self.needs(BackendCapability.PAUSES_BEFORE_THE_START)
        execution, world = await stage.start(Gated)
        assert await execution.pause(REASON)
        await stage.worker(Gated)
        await stage.event(execution, EventKind.EXECUTION_PAUSED)
        await stage.pass_time(1)
        assert world.effects == []
        world.gate("gate").set()
        assert await execution.resume()
        assert await stage.soon(execution.result()) == ["before done", "gate done", "after done"]

    async def test_d24_a_pause_that_no_worker_has_obeyed_can_be_taken_back(self, stage: Stage) -> None:
        execution, world = await stage.start(Gated)
        world.gate("gate").set()
        assert await execution.pause(REASON)
        await execution.resume()
        await stage.worker(Gated)
        assert await stage.soon(execution.result()) == ["before done", "gate done", "after done"]

    async def test_d24_one_resume_takes_back_all_requests_to_pause_before_it(self, stage: Stage) -> None:
        execution, world = await stage.start(Gated)
        world.gate("gate").set()
        for _ in range(3):
            assert await execution.pause(REASON)
        await stage.worker(Gated)
        await stage.event(execution, EventKind.EXECUTION_PAUSED)

        async def is_paused() -> bool | None:
            return (await execution.describe()).status is Status.PAUSED or None

        await stage.until(is_paused)
        assert await execution.resume()
        assert await stage.soon(execution.result()) == ["before done", "gate done", "after done"]

    async def test_d24_an_execution_can_be_paused_again_and_again(self, stage: Stage) -> None:
        execution, _ = await stage.start(Mailbox)
        await stage.worker(Mailbox)
        for times in (1, 2, 3):
            await execution.signal("put", times)
            await paused(stage, execution, times)
            assert not await execution.pause()
            assert await execution.resume()
            await stage.event(execution, EventKind.EXECUTION_RESUMED, times)
        assert not await execution.resume()
        await execution.signal("stop")
        assert await stage.soon(execution.result()) == [1, 2, 3]
        with pytest.raises(ExecutionAlreadyEnded):
            await execution.pause()

    async def test_d24_cancel_ends_a_pause_so_that_the_code_can_clean_up(self, stage: Stage) -> None:
        execution, world = await stage.start(Cancellable, "condition")
        await stage.worker(Cancellable)
        await paused(stage, execution)
        await execution.cancel()
        with pytest.raises(ExecutionCancelled):
            await stage.later(execution.result(), 2)
        assert world.count("clean-up ended") == 1

    async def test_d24_terminate_ends_a_paused_execution_where_it_is(self, stage: Stage) -> None:
        self.needs(BackendCapability.RERUNS)
        execution, world = await stage.start(Sleeper, 1.0)
        await stage.worker(Sleeper)
        await stage.event(execution, EventKind.TIMER_STARTED)
        await paused(stage, execution)
        await execution.terminate("enough")
        with pytest.raises(ExecutionTerminated):
            await stage.soon(execution.result())
        await stage.pass_time(2)
        assert world.count("woke up") == 0

    async def test_d24_pausing_and_resuming_at_once_leaves_no_execution_behind(self, stage: Stage) -> None:
        started = [await stage.start(Mailbox) for _ in range(10)]
        await stage.worker(Mailbox)

        async def toggle(execution: Execution) -> None:
            for _ in range(3):
                await execution.pause()
                await execution.resume()
            await execution.signal("stop")

        await asyncio.gather(*(toggle(execution) for execution, _ in started))
        for execution, _ in started:
            await stage.soon(execution.result())
