"""Timers, signals and cancellation: D8, D9, D10."""

from __future__ import annotations

import asyncio
from datetime import datetime

import pytest

from outlast.core.errors import ExecutionCancelled, ExecutionFailed, InvalidArguments
from outlast.core.events import EventKind
from outlast.core.records import Status
from outlast.testing.contracts.durability.stage import DurabilityContractBase, Stage, all_events
from outlast.testing.contracts.durability.storage import BackendCapability
from outlast.testing.contracts.durability.waiting import Alarms, Cancellable, Mailbox, Patient, Sleeper


class MessageContract(DurabilityContractBase):
    """D8, D9, D10."""

    # Timers ----------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("seconds", [0.5, 5.0])
    async def test_d8_a_timer_never_fires_early(self, stage: Stage, seconds: float) -> None:
        execution, world = await stage.start(Sleeper, seconds)
        await stage.worker(Sleeper)
        _, slept_from, woken_at = await stage.later(execution.result(), seconds)
        asleep, awake = (effect.at for effect in world.effects)
        assert awake - asleep >= seconds
        assert woken_at - slept_from >= seconds

    async def test_d8_a_timer_does_not_fire_until_its_time_has_come(self, stage: Stage) -> None:
        self.needs(BackendCapability.MOVABLE_CLOCK)
        execution, world = await stage.start(Sleeper, 30.0)
        await stage.worker(Sleeper)
        await stage.event(execution, EventKind.TIMER_STARTED)
        await stage.pass_time(29.9)
        assert world.count("woke up") == 0
        # A worker that looked just before may look again a little later.
        await stage.later(execution.result(), 0.1)

    async def test_d8_a_timer_survives_the_worker(self, stage: Stage) -> None:
        execution, world = await stage.start(Sleeper, 5.0)
        process = await stage.worker(Sleeper)
        await stage.event(execution, EventKind.TIMER_STARTED)
        await process.kill()
        await stage.worker(Sleeper)
        await stage.later(execution.result(), 5 + stage.lease.total_seconds())
        asleep, awake = (effect.at for effect in world.effects)
        assert awake - asleep >= 5
        assert [effect.attempt for effect in world.effects] == [1, 1]

    async def test_d8_a_timer_that_was_due_while_nobody_worked_fires_at_once(self, stage: Stage) -> None:
        execution, _ = await stage.start(Sleeper, 2.0)
        process = await stage.worker(Sleeper)
        await stage.event(execution, EventKind.TIMER_STARTED)
        await process.stop()
        await stage.pass_time(3)
        await stage.worker(Sleeper)
        await stage.soon(execution.result())

    async def test_d8_timers_fire_in_the_order_of_their_times(self, stage: Stage) -> None:
        seconds = [3.0, 0.2, 2.0, 0.1, 1.0]
        execution, _ = await stage.start(Alarms, seconds)
        process = await stage.worker(Alarms)
        await stage.event(execution, EventKind.TIMER_STARTED, 5)
        await process.stop()
        await stage.pass_time(4)
        await stage.worker(Alarms)
        assert await stage.soon(execution.result()) == sorted(seconds)

    @pytest.mark.parametrize("seconds", [0.0, 2.0])
    async def test_d8_a_wait_for_a_condition_ends_at_its_timeout(self, stage: Stage, seconds: float) -> None:
        execution, _ = await stage.start(Patient, seconds)
        await stage.worker(Patient)
        assert await stage.later(execution.result(), seconds) == "too late"

    async def test_d8_a_condition_that_comes_true_ends_the_wait(self, stage: Stage) -> None:
        execution, _ = await stage.start(Patient, 1e6)
        await stage.worker(Patient)
        await stage.event(execution, EventKind.TIMER_STARTED)
        await execution.signal("go")
        assert await stage.soon(execution.result()) == "in time"

    # Signals ---------------------------------------------------------------------------------------------

    async def test_d9_signals_come_once_each_in_the_order_of_their_sender(self, stage: Stage) -> None:
        execution, _ = await stage.start(Mailbox)
        letters = [[sender, number] for sender in range(3) for number in range(15)]

        async def send(sender: int) -> None:
            handle = await stage.again(execution)
            for number in range(15):
                await handle.signal("put", [sender, number])

        await send(0)
        await stage.worker(Mailbox)
        await asyncio.gather(send(1), send(2))
        await execution.signal("stop")
        got = await stage.soon(execution.result())
        assert sorted(got) == letters
        for sender in range(3):
            assert [letter for letter in got if letter[0] == sender] == letters[
                sender * 15 : sender * 15 + 15
            ]

    async def test_d9_signals_sent_before_any_worker_starts_are_applied(self, stage: Stage) -> None:
        execution, _ = await stage.start(Mailbox)
        await execution.signal("put", "early")
        await execution.signal("stop")
        await stage.pass_time(1)
        await stage.worker(Mailbox)
        assert await stage.soon(execution.result()) == ["early"]

    async def test_d9_signals_are_applied_once_across_crashes(self, stage: Stage) -> None:
        execution, world = await stage.start(Mailbox, True)
        for number in range(1, 4):
            process = await stage.worker(Mailbox)
            await execution.signal("put", number)
            await stage.event(execution, EventKind.ACTIVITY_COMPLETED, 2 * number - 1)
            await process.kill()
            await execution.signal("put", -number)
            await stage.pass_time(stage.lease.total_seconds() + 0.1)
        await stage.worker(Mailbox)
        await stage.soon(world.happened("letter 6"))
        await execution.signal("stop")
        assert await stage.soon(execution.result()) == [1, -1, 2, -2, 3, -3]
        assert [effect.what for effect in world.effects] == [f"letter {number}" for number in range(1, 7)]

    async def test_d9_a_signal_handler_may_await_activities(self, stage: Stage) -> None:
        execution, world = await stage.start(Mailbox)
        await execution.signal("put_two", 1, 2)
        await execution.signal("put_two", 3)
        await stage.worker(Mailbox)
        await stage.event(execution, EventKind.ACTIVITY_COMPLETED, 2)
        await execution.signal("stop")
        assert sorted(await stage.soon(execution.result())) == [0, 1, 2, 3]
        assert sorted(str(effect.what) for effect in world.effects) == ["both 1 2", "both 3 0"]

    async def test_d9_a_signal_that_the_workflow_does_not_have_is_refused(self, stage: Stage) -> None:
        execution, _ = await stage.start(Mailbox)
        for name, arguments in (("no_such", ()), ("put", ()), ("put", (1, 2)), ("put_both", (1,))):
            with pytest.raises(InvalidArguments):
                await execution.signal(name, *arguments)
        await execution.signal("stop")
        await stage.worker(Mailbox)
        assert await stage.soon(execution.result()) == []

    async def test_d9_a_signal_handler_that_fails_ends_the_execution(self, stage: Stage) -> None:
        execution, _ = await stage.start(Mailbox)
        await execution.signal("break_down")
        await stage.worker(Mailbox)
        with pytest.raises(ExecutionFailed, match="a handler that fails"):
            await stage.soon(execution.result())

    # Cancellation ----------------------------------------------------------------------------------------

    @pytest.mark.parametrize("how", ["activity", "timer", "condition", "group"])
    async def test_d10_cancellation_interrupts_the_workflow_and_lets_it_clean_up(
        self, stage: Stage, how: str
    ) -> None:
        execution, world = await stage.start(Cancellable, how)
        await stage.worker(Cancellable)
        match how:
            case "activity" | "group":
                await stage.soon(world.happened("gate reached"))
            case "timer":
                await stage.event(execution, EventKind.TIMER_STARTED)
        await execution.cancel()
        await stage.soon(world.happened("clean-up began"))
        with pytest.raises(ExecutionCancelled):
            await stage.later(execution.result(), 1)
        with pytest.raises(ExecutionCancelled):
            await stage.soon((await stage.again(execution)).result())
        assert (await execution.describe()).status is Status.CANCELLED
        assert (world.count("clean-up began"), world.count("clean-up ended")) == (1, 1)
        await stage.soon(world.idle())
        assert world.count("gate passed") == 0
        assert (await stage.soon(all_events(execution)))[-1].kind == EventKind.EXECUTION_CANCELLED

    async def test_d10_a_second_request_does_not_cut_the_cleaning_up_short(self, stage: Stage) -> None:
        execution, world = await stage.start(Cancellable, "timer")
        await stage.worker(Cancellable)
        await stage.event(execution, EventKind.TIMER_STARTED)
        await execution.cancel()
        await stage.soon(world.happened("clean-up began"))
        await execution.cancel()
        with pytest.raises(ExecutionCancelled):
            await stage.later(execution.result(), 1)
        assert world.count("clean-up ended") == 1

    async def test_d10_a_request_before_any_worker_starts_is_not_lost(self, stage: Stage) -> None:
        execution, world = await stage.start(Cancellable, "timer")
        await execution.cancel()
        await stage.worker(Cancellable)
        with pytest.raises(ExecutionCancelled):
            await stage.later(execution.result(), 1)
        assert world.count("clean-up ended") == 1

    async def test_d10_cancellation_and_cleaning_up_survive_a_crash(self, stage: Stage) -> None:
        execution, world = await stage.start(Cancellable, "timer")
        process = await stage.worker(Cancellable)
        await stage.event(execution, EventKind.TIMER_STARTED)
        await execution.cancel()
        await stage.soon(world.happened("clean-up began"))
        await stage.event(execution, EventKind.ACTIVITY_COMPLETED)
        await process.kill()
        await stage.worker(Cancellable)
        with pytest.raises(ExecutionCancelled):
            await stage.later(execution.result(), stage.lease.total_seconds() + 1)
        assert (world.count("clean-up began"), world.count("clean-up ended")) == (1, 1)

    async def test_d10_a_workflow_may_ignore_a_cancellation(self, stage: Stage) -> None:
        execution, _ = await stage.start(Cancellable, "ignore")
        await stage.worker(Cancellable)
        await stage.event(execution, EventKind.TIMER_STARTED)
        await execution.cancel()
        assert await stage.later(execution.result(), 1) == "stayed"
        assert (await execution.describe()).status is Status.COMPLETED

    async def test_workflow_time_has_a_time_zone(self, stage: Stage) -> None:
        execution, _ = await stage.start(Sleeper, 0.0)
        await stage.worker(Sleeper)
        before, *_ = await stage.soon(execution.result())
        described = await execution.describe()
        assert described.created_at.utcoffset() is not None
        assert abs(before - described.created_at.timestamp()) < 5
        assert isinstance(described.ended_at, datetime)
