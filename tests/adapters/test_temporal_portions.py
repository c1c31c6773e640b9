"""Many inputs at once on Temporal: code gets them in portions, in their order, and so does every replay."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowHistory
from temporalio.worker._workflow import _WorkflowWorker

import outlast
from outlast.adapters.temporal import TemporalBackend, portions
from outlast.adapters.temporal.history import read_history
from outlast.adapters.temporal.holding import PAUSE_SIGNAL, RESUME_SIGNAL
from outlast.adapters.temporal.payloads import data_converter
from outlast.adapters.temporal.portions import INPUTS_AT_ONCE
from outlast.core.errors import ExecutionCancelled
from outlast.core.records import SignalReceived, TimerFired
from outlast.runtime.definitions.known_workflows import definition_of
from outlast.testing.contracts.examples import few_examples
from tests.adapters.temporal_histories import replay
from tests.adapters.temporal_server import shared_server

pytestmark = pytest.mark.server

FLOOD = 600


@outlast.activity(name="portions_work")
async def work(what: str) -> str:
    """Do something."""
    return what


@outlast.activity(name="portions_look", local=True)
async def look(what: str) -> str:
    """Do something short."""
    return what


@outlast.workflow.define(name="portions")
class Flooded:
    """Keeps what it is sent, and says so when that is enough."""

    def __init__(self) -> None:
        self.got: list[str] = []

    @outlast.workflow.entrypoint
    async def run(self, count: int) -> list[str]:
        await outlast.workflow.wait_condition(lambda: len(self.got) >= count)
        return self.got

    @outlast.workflow.signal
    async def put(self, how: str, what: str) -> None:
        match how:
            case "work":
                what = await work(what)
            case "look":
                what = await look(what)
            case "sleep":
                await asyncio.sleep(0.001)
        self.got.append(what)


@pytest.fixture
async def backend() -> AsyncIterator[TemporalBackend]:
    async with outlast.connect(f"temporal://{shared_server()}") as backend:
        assert isinstance(backend, TemporalBackend)
        yield backend


async def flooded(
    backend: TemporalBackend, sent: Sequence[str], count: int, *, then: str = "", cached: int = 1000
) -> tuple[outlast.Execution, list[str] | None]:
    """Send all that before any worker is there, and let a worker carry the execution out.

    Return the execution and its result, None if it was cancelled.
    """
    queue = uuid.uuid4().hex
    execution = await backend.start(Flooded, count, id=uuid.uuid4().hex, task_queue=queue)
    handle = backend.client.get_workflow_handle(execution.id)
    for number, how in enumerate(sent):
        match how:
            case "pause":
                await handle.signal(PAUSE_SIGNAL)
            case "resume":
                await handle.signal(RESUME_SIGNAL)
            case _:
                await execution.signal("put", how, str(number))
    if then:
        await handle.signal(RESUME_SIGNAL)
    if then == "cancel":
        await execution.cancel()
    async with (
        backend.worker([Flooded], task_queue=queue, max_cached_executions=cached),
        asyncio.timeout(60),
    ):
        try:
            return execution, await execution.result()
        except ExecutionCancelled:
            return execution, None


async def history_of(backend: TemporalBackend, execution: outlast.Execution) -> WorkflowHistory:
    return await backend.client.get_workflow_handle(execution.id).fetch_history()


async def check_replays(history: WorkflowHistory) -> None:
    """Replay a history by Temporal's own replayer, and by the code alone."""
    definition = definition_of(Flooded)
    await replay({definition.name: definition}, history)


@pytest.mark.parametrize("cached", [1000, 0], ids=["cached", "every task replays"])
async def test_a_flood_of_signals_is_given_to_the_code_in_portions(
    backend: TemporalBackend, cached: int
) -> None:
    execution, result = await flooded(backend, ["note"] * FLOOD, FLOOD, cached=cached)
    assert result == [str(number) for number in range(FLOOD)]
    history = await history_of(backend, execution)
    kinds = [EventType.Name(event.event_type) for event in history.events]
    assert kinds.count("EVENT_TYPE_TIMER_FIRED") == FLOOD // INPUTS_AT_ONCE - 1
    assert "EVENT_TYPE_WORKFLOW_TASK_FAILED" not in kinds
    assert "EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT" not in kinds
    await check_replays(history)
    # The timers of the driver are none of the code's.
    records = [record async for record in execution.records()]
    assert not [record for record in records if isinstance(record, TimerFired)]
    assert sum(isinstance(record, SignalReceived) for record in records) == FLOOD


async def test_a_large_workflow_task_has_more_time_than_the_sdk_gives_it(
    backend: TemporalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a slow machine the SDK would take it for a deadlock, at each try."""
    begin = _WorkflowWorker.__init__

    def begin_in_a_hurry(worker: _WorkflowWorker, **options: Any) -> None:
        begin(worker, **options)
        worker._deadlock_timeout_seconds = 0.001  # type: ignore[assignment]

    monkeypatch.setattr(_WorkflowWorker, "__init__", begin_in_a_hurry)
    execution, result = await flooded(backend, ["note"] * FLOOD, FLOOD)
    assert result is not None
    assert len(result) == FLOOD
    kinds = {event.event_type for event in (await history_of(backend, execution)).events}
    assert EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED not in kinds


hows = st.sampled_from(["note", "note", "work", "look", "sleep", "pause", "resume"])


@given(
    sent=st.lists(hows, min_size=1, max_size=14),
    then=st.sampled_from(["resume", "resume", "cancel"]),
    at_once=st.integers(1, 4),
    cached=st.sampled_from([1000, 1000, 0]),
)
@few_examples(12, in_one_place=True)
async def test_a_replay_gives_the_code_the_same_inputs_in_the_same_tasks(
    backend: TemporalBackend, sent: list[str], then: str, at_once: int, cached: int
) -> None:
    # In a worker that caches nothing, the core of Temporal's SDK fails on some local activities.
    sent = ["work" if how == "look" and not cached else how for how in sent]
    count = sum(how not in ("pause", "resume") for how in sent)
    with pytest.MonkeyPatch.context() as patching:
        patching.setattr(portions, "INPUTS_AT_ONCE", at_once)
        execution, result = await flooded(backend, sent, count, then=then, cached=cached)
        if then == "resume":
            assert result is not None
            assert sorted(map(int, result)) == [
                number for number, how in enumerate(sent) if how not in ("pause", "resume")
            ]
        history = await history_of(backend, execution)
        await check_replays(history)
        whole = await read_history(history.events, data_converter)
        if result is not None:
            assert whole.untaken == []


async def test_inputs_that_wait_when_the_code_ends_are_known(backend: TemporalBackend) -> None:
    """If the execution is retried, its code gets them."""
    execution, result = await flooded(backend, ["note"] * 250, INPUTS_AT_ONCE)
    assert result == [str(number) for number in range(INPUTS_AT_ONCE)]
    whole = await read_history((await history_of(backend, execution)).events, data_converter)
    left = [one.named["what"] for one in whole.untaken if isinstance(one, SignalReceived)]
    assert left == [str(number) for number in range(INPUTS_AT_ONCE, 250)]
