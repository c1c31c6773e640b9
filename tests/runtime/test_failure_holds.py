"""A request to cancel that comes while an execution is being held at its failure."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

import outlast
from outlast.adapters.memory.store import MemoryStore
from outlast.ports.journal import Claim, Commit, Message
from outlast.runtime.definitions import workflow
from outlast.runtime.executions.inbox_messages import CancelMessage
from outlast.runtime.executions.journaled_backend import JournaledBackend
from outlast.testing.real_clock import RealClock


@workflow.define(name="failure-hold-tests.failing", on_failure="hold")
class Failing:
    """Fails at once, whatever comes."""

    @workflow.entrypoint
    async def run(self) -> None:
        raise ValueError("a mistake")


class CancelledJustBefore(MemoryStore):
    """A store to which requests to cancel come just before a hold, too late for the worker to see them."""

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        if commit.hold:
            await self.send(claim.execution_id, Message("cancel-1", CancelMessage().to_json()))
        await super().append(claim, position, records, commit)


async def test_a_request_to_cancel_that_comes_just_before_the_hold_is_obeyed() -> None:
    clock = RealClock()
    async with JournaledBackend(CancelledJustBefore(clock), clock) as backend, backend.worker([Failing]):
        execution = await backend.start(Failing)
        with pytest.raises(outlast.ExecutionFailed, match="a mistake"):
            async with asyncio.timeout(20):
                await execution.result()
