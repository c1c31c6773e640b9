"""Executions that are held when they fail, and go on as in a retry: `on_failure="hold"` (D22, D24)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from outlast.core.errors import ExecutionCancelled, ExecutionFailed, ExecutionTerminated
from outlast.core.events import EventKind
from outlast.core.records import Status
from outlast.ports.durability.execution import Execution, ExecutionDescription
from outlast.runtime.definitions import workflow
from outlast.testing.contracts.durability.activities import Overloaded, record
from outlast.testing.contracts.durability.reruns import deliver, mended, pay_once
from outlast.testing.contracts.durability.stage import DurabilityContractBase, Stage, all_events
from outlast.testing.contracts.durability.storage import BackendCapability
from outlast.testing.contracts.durability.world import World


@workflow.define(name="contract.held_when_it_fails", on_failure="hold")
class HeldWhenItFails:
    """Fails until somebody mends it: in a step, in code, in a step that is done once, or after a cancel."""

    @workflow.entrypoint
    async def run(self, how: str) -> list[Any]:
        self.notes: list[str] = []
        done = [await record("before")]
        match how:
            case "step":
                done.append(await deliver("parcel"))
            case "once":
                done.append(await pay_once("bill"))
            case "code":
                if workflow.info().execution_id not in mended:
                    raise Overloaded("a mistake in the code")
                done.append("mended")
            case "clean-up":
                try:
                    await workflow.wait_condition(lambda: False)
                except asyncio.CancelledError:
                    raise Overloaded("a mistake in the clean-up") from None
        return [*done, await record("after"), *self.notes]

    @workflow.signal
    async def note(self, text: str) -> None:
        self.notes.append(text)


class FailureHoldContract(DurabilityContractBase):
    """A failure that would end an execution holds it, if its workflow wants that."""

    async def held_by_then(self, stage: Stage, execution: Execution, times: int = 1) -> ExecutionDescription:
        """Return the description of an execution once it is held for so many times."""
        await stage.event(execution, EventKind.EXECUTION_HELD, times)
        return await execution.describe()

    async def failed_and_held(self, stage: Stage, how: str) -> tuple[Execution, World]:
        """Start an execution, and return when it is held."""
        self.needs(BackendCapability.HOLDS_FAILURES)
        execution, world = await stage.start(HeldWhenItFails, how)
        await stage.worker(HeldWhenItFails)
        await self.held_by_then(stage, execution)
        return execution, world

    @pytest.mark.parametrize("how", ["step", "code"])
    async def test_d24_an_execution_that_fails_is_held_and_goes_on_as_in_a_retry(
        self, stage: Stage, how: str
    ) -> None:
        execution, world = await self.failed_and_held(stage, how)
        described = await execution.describe()
        assert (described.status, described.held, described.ended_at) == (Status.PAUSED, True, None)
        assert [one.kind for one in described.waiting_for] == ["held"]
        assert described.failure is not None
        assert described.failure.message in (described.error or "")
        await execution.signal("note", "sent meanwhile")
        await stage.pass_time(1)
        assert world.count("after") == 0
        mended.add(execution.id)
        assert await execution.resume()
        done = await stage.soon(execution.result())
        expected = "mended" if how == "code" else "parcel done"
        assert done == ["before done", expected, "after done", "sent meanwhile"]
        assert (world.count("before"), world.count("after")) == (1, 1)
        if how == "step":
            assert world.attempts("parcel") == [1, 2, 1]
        described = await execution.describe()
        assert (described.status, described.failure) == (Status.COMPLETED, None)

    async def test_d24_it_is_held_again_each_time_that_it_fails_again(self, stage: Stage) -> None:
        execution, world = await self.failed_and_held(stage, "step")
        for times in (2, 3):
            assert await execution.resume()
            assert (await self.held_by_then(stage, execution, times)).status is Status.PAUSED
        assert world.attempts("parcel") == [1, 2] * 3
        mended.add(execution.id)
        assert await execution.resume()
        assert await stage.soon(execution.result()) == ["before done", "parcel done", "after done"]
        kinds = [event.kind for event in await all_events(execution)]
        for kind in (EventKind.EXECUTION_FAILED, EventKind.EXECUTION_REOPENED, EventKind.EXECUTION_HELD):
            assert kinds.count(kind) == 3

    async def test_d24_what_is_held_after_a_failure_outlives_its_workers(self, stage: Stage) -> None:
        self.needs(BackendCapability.HOLDS_FAILURES)
        execution, world = await stage.start(HeldWhenItFails, "step")
        process = await stage.worker(HeldWhenItFails)
        await self.held_by_then(stage, execution)
        await stage.lose(process)
        await stage.worker(HeldWhenItFails)
        await stage.pass_time(1)
        assert world.attempts("parcel") == [1, 2]
        mended.add(execution.id)
        assert await execution.resume()
        result = stage.later(execution.result(), self.lease.total_seconds())
        assert await result == ["before done", "parcel done", "after done"]
        assert world.count("before") == 1

    async def test_d24_a_step_that_must_be_done_once_is_not_repeated_by_resume(self, stage: Stage) -> None:
        self.needs(BackendCapability.HOLDS_FAILURES)
        execution, world = await stage.start(HeldWhenItFails, "once")
        await stage.worker(HeldWhenItFails)
        with pytest.raises(ExecutionFailed, match="no bill today"):
            await stage.soon(execution.result())
        assert world.attempts("bill") == [1]

    async def test_d24_what_fails_after_a_request_to_cancel_ends(self, stage: Stage) -> None:
        self.needs(BackendCapability.HOLDS_FAILURES)
        execution, _ = await stage.start(HeldWhenItFails, "clean-up")
        await stage.worker(HeldWhenItFails)
        await stage.event(execution, EventKind.ACTIVITY_COMPLETED)
        await execution.cancel()
        with pytest.raises(ExecutionFailed, match="a mistake in the clean-up"):
            await stage.soon(execution.result())

    async def test_d24_cancel_and_terminate_end_what_is_held_after_a_failure(self, stage: Stage) -> None:
        execution, world = await self.failed_and_held(stage, "step")
        await execution.cancel()
        with pytest.raises(ExecutionCancelled):
            await stage.soon(execution.result())
        assert world.count("after") == 0
        execution, _ = await self.failed_and_held(stage, "code")
        await execution.terminate("no use")
        with pytest.raises(ExecutionTerminated, match="no use"):
            await stage.soon(execution.result())

    async def test_d24_cancel_ends_what_is_held_also_if_its_code_fails_again_at_once(
        self, stage: Stage
    ) -> None:
        execution, _ = await self.failed_and_held(stage, "code")
        await execution.cancel()
        with pytest.raises(ExecutionFailed, match="a mistake in the code"):
            await stage.soon(execution.result())
