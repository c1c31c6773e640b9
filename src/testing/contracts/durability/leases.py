"""Leases and clocks: D20."""

from __future__ import annotations

import pytest

from outlast.core.errors import OutcomeUnknown
from outlast.core.events import EventKind
from outlast.runtime.definitions import workflow
from outlast.testing.contracts.durability.activities import BACKOFF_SECONDS, pass_gate, pass_gate_once
from outlast.testing.contracts.durability.stage import DurabilityContractBase, Stage
from outlast.testing.contracts.durability.storage import BackendCapability
from outlast.testing.contracts.durability.waiting import Mailbox
from outlast.testing.contracts.durability.workflows import CountAttempts, Steps


@workflow.define(name="contract.hog")
class Hog:
    """Occupies a slot for an activity until a gate opens."""

    @workflow.entrypoint
    async def run(self) -> str:
        return await pass_gate("slot")


@workflow.define(name="contract.payment")
class Payment:
    """Does something that must never be done twice."""

    @workflow.entrypoint
    async def run(self) -> str:
        try:
            return await pass_gate_once("payment")
        except OutcomeUnknown:
            return "unknown"


class LeaseContract(DurabilityContractBase):
    """D20."""

    async def test_d20_an_attempt_that_waited_for_a_slot_does_not_begin_after_its_lease(
        self, stage: Stage
    ) -> None:
        self.needs(BackendCapability.PAUSABLE)
        hog, slot = await stage.start(Hog)
        first = await stage.worker(Hog, Payment, max_concurrent_activities=1)
        await stage.soon(slot.happened("slot reached"))
        payment, world = await stage.start(Payment)
        await stage.event(payment, EventKind.ACTIVITY_STARTED)
        await stage.storage.pause(first.backend)
        await stage.pass_time(2 * stage.lease.total_seconds())
        world.gate("payment").set()
        await stage.worker(Payment)
        # A backend that hands out attempts knows that none was begun; other backends cannot know.
        result = await stage.later(payment.result(), stage.lease.total_seconds())
        assert result in ("unknown", "payment done")
        slot.gate("slot").set()
        await stage.storage.resume(first.backend)
        assert await stage.later(hog.result(), 3 * stage.lease.total_seconds()) == "slot done"
        await stage.pass_time(stage.lease.total_seconds())
        assert world.count("payment reached") == (result == "payment done")

    async def test_d20_a_step_of_the_wall_clock_takes_no_lease(self, stage: Stage) -> None:
        self.needs(BackendCapability.STEADY_LEASES)
        execution, world = await stage.start(Payment)
        await stage.worker(Payment)
        await stage.soon(world.happened("payment reached"))
        for seconds in (3600.0, -7200.0, 86_400.0):
            stage.storage.clock.step(seconds)
            await stage.pass_time(stage.lease.total_seconds() / 2)
            other = await stage.worker(Payment)
            await stage.pass_time(stage.lease.total_seconds() / 2)
            await other.stop()
        world.gate("payment").set()
        assert await stage.later(execution.result(), stage.lease.total_seconds()) == "payment done"
        assert world.count("payment reached") == 1

    @pytest.mark.parametrize("seconds", [-3600.0, 3600.0])
    async def test_d20_a_step_of_the_wall_clock_makes_no_back_off_longer(
        self, stage: Stage, seconds: float
    ) -> None:
        self.needs(BackendCapability.STEADY_LEASES)
        execution, world = await stage.start(CountAttempts, "slow", 1)
        await stage.worker(CountAttempts)
        await stage.soon(stage.storage.attempt_failed(execution))
        await stage.pass_time(BACKOFF_SECONDS / 2)
        stage.storage.clock.step(seconds)
        assert await stage.later(execution.result(), BACKOFF_SECONDS) == 2
        kinds = [event.kind async for event in execution.events()]
        assert kinds.count(EventKind.ATTEMPT_FAILED) == 1
        assert len(world.effects) == 2

    async def test_d20_a_worker_that_takes_over_makes_no_back_off_longer_than_it_was_meant_to_be(
        self, stage: Stage
    ) -> None:
        self.needs(BackendCapability.STEADY_LEASES)
        execution, world = await stage.start(CountAttempts, "slow", 1)
        first = await stage.worker(CountAttempts)
        await stage.soon(stage.storage.attempt_failed(execution))
        await stage.pass_time(BACKOFF_SECONDS / 2)
        await first.stop()
        stage.storage.clock.step(-3600.0)
        await stage.worker(CountAttempts)
        # It does not know how much of the back-off has passed.
        assert await stage.later(execution.result(), 4 * BACKOFF_SECONDS) == 2
        assert len(world.effects) == 2

    async def test_d20_a_step_of_the_wall_clock_keeps_no_execution_waiting(self, stage: Stage) -> None:
        self.needs(BackendCapability.STEADY_LEASES)
        before, _ = await stage.start(Steps, ["a"])
        mailbox, _ = await stage.start(Mailbox)
        first = await stage.worker(Mailbox)
        await stage.pass_time(stage.lease.total_seconds())
        await first.stop()
        await mailbox.signal("put", "letter")
        stage.storage.clock.step(-3600.0)
        await stage.worker(Steps, Mailbox)
        assert await stage.soon(before.result()) == ["a done"]
        after, _ = await stage.start(Steps, ["b"])
        assert await stage.soon(after.result()) == ["b done"]

    async def test_d20_the_lease_of_a_lost_worker_runs_out_whatever_the_wall_clock_does(
        self, stage: Stage
    ) -> None:
        self.needs(BackendCapability.STEADY_LEASES)
        execution, world = await stage.start(Payment)
        first = await stage.worker(Payment)
        await stage.soon(world.happened("payment reached"))
        await first.kill()
        stage.storage.clock.step(-3600.0)
        await stage.worker(Payment)
        assert await stage.later(execution.result(), 2 * stage.lease.total_seconds()) == "unknown"
