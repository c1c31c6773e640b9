"""Retries and forks of executions whose code was mended, and whose history has more than their code got."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType

import outlast
from outlast import workflow
from outlast.adapters.temporal import TemporalBackend
from outlast.core.records import ExecutionReopened, StepCompleted
from tests.adapters.temporal_server import shared_server

pytestmark = pytest.mark.server

done: list[tuple[str, str]] = []
"""The things that activities did, each with its execution."""

gates: dict[str, asyncio.Event] = {}
begins: dict[str, asyncio.Event] = {}


@outlast.activity(retry_policy_initial_interval=timedelta(0), retry_policy_max_attempts=1)
async def rerun_do(what: str) -> str:
    """Do something; behind a gate, if there is one of that name."""
    done.append((outlast.activity.info().execution_id, what))
    if what in gates:
        begins[what].set()
        await gates[what].wait()
    if what == "break":
        raise LookupError("broken")
    return f"{what} done"


def errand(*, mended: bool, first: str = "first", tidy: str = "tidy") -> type[Any]:
    """Return a workflow whose code has a mistake, unless it is mended."""

    @workflow.define(name="rerun_errand")
    class Errand:
        @workflow.entrypoint
        async def run(self, how: str) -> list[str]:
            self.said: list[str] = []
            results = [await rerun_do(first)]
            if how == "code":
                await workflow.wait_condition(lambda: len(self.said) == 2)
                if not mended:
                    raise KeyError("a typo")
                results.append(await rerun_do("second"))
            try:
                if how == "step":
                    results.append(await rerun_do("second" if mended else "break"))
            finally:
                results.append(await rerun_do(tidy))
            return [*results, *self.said]

        @workflow.signal
        async def say(self, text: str) -> None:
            self.said.append(text)
            await rerun_do(f"note {text}")

    return Errand


@pytest.fixture
async def backend() -> AsyncIterator[TemporalBackend]:
    async with outlast.connect(f"temporal://{shared_server()}/default") as backend:
        assert isinstance(backend, TemporalBackend)
        yield backend
    gates.clear()


async def failed(backend: outlast.Backend, code: type[Any], how: str, queue: str) -> outlast.Execution:
    async with backend.worker([code], task_queue=queue):
        execution = await backend.start(code, how, task_queue=queue)
        if how == "code":
            for text in ("one", "two"):
                await execution.signal("say", text)
        with pytest.raises(outlast.ExecutionFailed):
            await execution.result()
    return execution


async def test_code_that_was_mended_goes_on_from_the_input_at_which_it_raised(
    backend: TemporalBackend,
) -> None:
    queue = uuid.uuid4().hex
    execution = await failed(backend, errand(mended=False), "code", queue)
    before = len([what for id, what in done if id == execution.id])
    mended = errand(mended=True)
    await execution.retry()
    async with backend.worker([mended], task_queue=queue, max_cached_executions=0):
        assert await execution.result() == ["first done", "second done", "tidy done", "one", "two"]
    after = [what for id, what in done if id == execution.id][before:]
    assert [what for what in after if "note" not in what] == ["second", "tidy"]


async def test_code_that_does_other_things_before_the_failure_is_refused_and_nothing_has_changed(
    backend: TemporalBackend,
) -> None:
    queue = uuid.uuid4().hex
    execution = await failed(backend, errand(mended=False), "code", queue)
    errand(mended=True, first="other")
    with pytest.raises(outlast.CannotRerun, match="departs from what execution"):
        await execution.retry()
    with pytest.raises(outlast.CannotRerun, match="departs from what execution"):
        await execution.fork()
    assert (await execution.describe()).status == "failed"
    errand(mended=False)
    assert await execution.departure() is None


async def test_code_that_cleans_up_otherwise_than_before_still_retries_the_step(
    backend: TemporalBackend,
) -> None:
    """The clean-up after the failed step is void, so the code may depart from it."""
    queue = uuid.uuid4().hex
    execution = await failed(backend, errand(mended=False), "step", queue)
    code = errand(mended=False, tidy="sweep")
    await execution.retry()
    async with backend.worker([code], task_queue=queue):
        with pytest.raises(outlast.ExecutionFailed, match="broken"):
            await execution.result()
    whats = [what for id, what in done if id == execution.id]
    assert whats == ["first", "break", "tidy", "break", "sweep"]


async def test_a_step_that_ended_before_its_code_heard_of_it_is_not_repeated(
    backend: TemporalBackend,
) -> None:
    """Mostly, its result is in the history of the old run behind the last workflow task."""
    queue, gate = uuid.uuid4().hex, f"gate {uuid.uuid4().hex}"
    gates[gate], begun = asyncio.Event(), asyncio.Event()
    begins[gate] = begun
    code = errand(mended=True, first=gate)
    async with backend.worker([code], task_queue=queue):
        execution = await backend.start(code, "neither", task_queue=queue)
        await begun.wait()
        handle = backend.client.get_workflow_handle(execution.id)
        await end_between(backend, handle, gates[gate].set)
        types = [event.event_type for event in (await handle.fetch_history()).events]
        assert EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED in types
        await execution.retry()
        assert await execution.result() == [f"{gate} done", "tidy done"]
    records = [record async for record in execution.records()]
    assert any(isinstance(record, ExecutionReopened) for record in records)
    assert any(isinstance(record, StepCompleted) and gate in str(record.result) for record in records)
    assert done.count((execution.id, gate)) == 1


async def end_between(backend: TemporalBackend, handle: Any, open_gate: Callable[[], None]) -> None:
    """Terminate an execution once the end of its step is in the history, whatever its code has got."""
    open_gate()
    async for event in handle.fetch_history_events(wait_new_event=True):
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
            await handle.terminate(reason="between")
            return
