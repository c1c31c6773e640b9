"""Imports whose process dies: the execution is there whole, with its end, or it is not there."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import timedelta

import pytest

import outlast
from outlast.core.errors import ExecutionAlreadyExists, ExecutionNotFound
from outlast.core.records import Status
from outlast.ports.durability.backend import Backend
from outlast.ports.durability.execution import Execution
from outlast.testing import MemoryStorage
from outlast.testing.contracts.durability.in_store import InStore
from outlast.testing.contracts.durability.stage import Stage, all_events
from outlast.testing.lifeline import Lifeline, ProcessDied

ENDS = (Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.TERMINATED)


@outlast.workflow.define(name="imports.trade")
class Trade:
    @outlast.workflow.entrypoint
    async def run(self, how: Status) -> str:
        if how is Status.FAILED:
            raise ValueError("no more apples")
        if how is not Status.COMPLETED:
            await outlast.workflow.wait_condition(lambda: False)
        return "sold"


async def traded(stage: Stage, how: Status) -> Execution:
    """Return an execution that has ended so, or waits."""
    execution, _ = await stage.start(Trade, how)
    await stage.worker(Trade)
    if how is Status.CANCELLED:
        await execution.cancel()
    if how is Status.TERMINATED:
        await execution.terminate("the market is closed")
    if how in ENDS:
        with nullcontext() if how is Status.COMPLETED else pytest.raises(outlast.OutlastError):
            await stage.soon(execution.result())
    return execution


async def found(backend: Backend, id: str) -> Execution | None:
    try:
        return await backend.get(id)
    except ExecutionNotFound:
        return None


@pytest.mark.parametrize("dies_after_effect", [False, True])
@pytest.mark.parametrize("how", [*ENDS, Status.RUNNING])
async def test_d25_an_import_that_is_cut_short_has_happened_whole_or_not_at_all(
    how: Status, dies_after_effect: bool
) -> None:
    stage = Stage(InStore(MemoryStorage()), timedelta(seconds=10), 30.0)
    try:
        execution = await traded(stage, how)
        lines = list(await execution.export())
        expected = [one.data for one in await all_events(execution)] if how in ENDS else None
        backend = await stage.backend()
        assert isinstance(stage.storage, InStore)
        whole = Lifeline(stage.storage.storage.open())
        await (await stage.enter(stage.storage.open_on(whole))).import_(lines, id="copy")
        assert whole.calls == {"create": 1}
        lifeline = Lifeline(stage.storage.storage.open(), dies_at=1, dies_after_effect=dies_after_effect)
        dying = await stage.enter(stage.storage.open_on(lifeline))
        with pytest.raises(ProcessDied):
            await dying.import_(lines, id="cut")
        cut = await found(backend, "cut")
        assert (cut is not None) == dies_after_effect
        for copy in (await backend.get("copy"), cut or await backend.import_(lines, id="cut")):
            assert (await copy.describe()).status is (how if how in ENDS else Status.PAUSED)
            if expected is not None:
                assert [one.data for one in await all_events(copy)] == expected
            with pytest.raises(ExecutionAlreadyExists):
                await backend.import_(lines, id=copy.id)
    finally:
        await stage.close()
