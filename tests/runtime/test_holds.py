"""Requests that come just before an execution is held, whose worker is lost right after that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

import outlast
from outlast.adapters.memory.store import MemoryStore
from outlast.ports.journal import Claim, Commit, Delivery, Message
from outlast.runtime.definitions import workflow
from outlast.runtime.executions.inbox_messages import AnyMessage, CancelMessage, ResumeMessage
from outlast.runtime.executions.journaled_backend import JournaledBackend
from outlast.testing.real_clock import RealClock


@workflow.define(name="hold-tests.failing", on_failure="hold")
class Failing:
    """Fails at once, whatever comes."""

    @workflow.entrypoint
    async def run(self) -> None:
        raise ValueError("a mistake")


@workflow.define(name="hold-tests.waiting")
class Waiting:
    """Waits for a signal."""

    def __init__(self) -> None:
        self.is_told = False

    @workflow.entrypoint
    async def run(self) -> str:
        await workflow.wait_condition(lambda: self.is_told)
        return "told"

    @workflow.signal
    def tell(self) -> None:
        self.is_told = True


class SentJustBefore(MemoryStore):
    """A store to which a message comes just before a hold, and whose worker is lost right after a hold."""

    def __init__(self, message: AnyMessage) -> None:
        super().__init__(RealClock())
        self._message: AnyMessage | None = message
        self._lost = asyncio.Event()

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        if commit.hold and self._message is not None:
            message, self._message = self._message, None
            await self.send(claim.execution_id, Message("last-moment", message.to_json()))
            assert not await self.resume(claim.execution_id)
        await super().append(claim, position, records, commit)
        if commit.hold:
            self._lost.set()

    async def messages(self, execution_id: str, after: int, limit: int | None = None) -> Sequence[Delivery]:
        if self._lost.is_set():
            await asyncio.Event().wait()
        return await super().messages(execution_id, after, limit)


@asynccontextmanager
async def worked_on(message: AnyMessage) -> AsyncIterator[JournaledBackend]:
    async with (
        JournaledBackend(SentJustBefore(message), RealClock()) as backend,
        backend.worker([Failing, Waiting]),
        asyncio.timeout(20),
    ):
        yield backend


async def test_a_request_to_cancel_just_before_a_failed_execution_is_held_is_obeyed() -> None:
    async with worked_on(CancelMessage()) as backend:
        execution = await backend.start(Failing)
        with pytest.raises(outlast.ExecutionFailed, match="a mistake"):
            await execution.result()


@pytest.mark.parametrize("message", [ResumeMessage(), CancelMessage()])
async def test_a_request_that_comes_just_before_a_pause_takes_it_back(message: AnyMessage) -> None:
    async with worked_on(message) as backend:
        execution = await backend.start(Waiting)
        assert await execution.pause("a moment")
        events = execution.events()
        while (await anext(events)).kind != "execution_resumed":
            pass
        if isinstance(message, ResumeMessage):
            await execution.signal("tell")
            assert await execution.result() == "told"
        else:
            with pytest.raises(outlast.ExecutionCancelled):
                await execution.result()
