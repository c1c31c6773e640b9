"""Executions on Temporal are read without a worker: by code in the process, or from the history alone."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

import outlast
from outlast.adapters.scripted import call
from outlast.adapters.temporal import TemporalBackend
from outlast.adapters.temporal.ended_runs import EndedRuns
from outlast.adapters.temporal.execution import TemporalExecution
from outlast.composition.toolkit import toolkit
from outlast.core.errors import StorageUnavailable
from outlast.core.events import AttemptFailedData, EventKind
from outlast.runtime.definitions.known_workflows import definition_of
from outlast.testing.contracts.durability.stage import data_of
from tests.adapters.temporal_histories import assert_same
from tests.adapters.temporal_programs import WORKFLOWS, Approval, DealAnalysis, Steps, Unsteady, note
from tests.adapters.temporal_server import obstacle_of, shared_server

pytestmark = pytest.mark.server

SOON = 6.0
"""The seconds within which a reader has an answer when no worker is there."""


@outlast.activity(name="temporal_reading_pay", requires_approval=True)
async def pay(amount: int) -> str:
    """Pay."""
    return f"{amount} paid"


@outlast.workflow.define(name="temporal_reading_payment")
class Payment:
    """Waits for a person's decision."""

    @outlast.workflow.entrypoint
    async def run(self) -> str:
        agent = outlast.Agent(model="m", name="clerk", tools=[pay])
        session = outlast.ScriptedSession({"clerk": [call("temporal_reading_pay", {"amount": 7}), "Done."]})
        return (await outlast.Runner.run(agent, "Pay.", session)).text


def without_code(backend: TemporalBackend, execution: outlast.Execution, **known: Any) -> TemporalExecution:
    """Return the execution as a process sees it that has other workflows, or none."""
    tools = replace(toolkit(), known_definition=known.get)
    return TemporalExecution(backend.client, execution.id, tools, EndedRuns())


async def events_of(execution: outlast.Execution) -> list[outlast.Event]:
    began = time.monotonic()
    events = [event async for event in execution.events(follow=False)]
    assert time.monotonic() - began < SOON
    return events


def kinds(events: Sequence[outlast.Event]) -> list[str]:
    return [event.kind for event in events]


async def test_before_any_worker_comes_there_is_the_start() -> None:
    async with outlast.connect(f"temporal://{shared_server()}") as backend:
        assert isinstance(backend, TemporalBackend)
        execution = await backend.start(Steps, ["a"], task_queue=uuid.uuid4().hex)
        for one in (execution, without_code(backend, execution)):
            assert kinds(await events_of(one)) == ["execution_started"]
        await execution.cancel()


async def test_when_the_worker_has_gone_code_in_the_process_makes_the_same_events() -> None:
    queue = uuid.uuid4().hex
    async with outlast.connect(f"temporal://{shared_server()}") as backend:
        async with backend.worker(WORKFLOWS, task_queue=queue):
            ended = await backend.start(DealAnalysis, "Analyse.", task_queue=queue)
            waiting = await backend.start(Approval, 1, task_queue=queue)
            await ended.result()
            async for event in waiting.events():
                if event.kind == EventKind.TIMER_FIRED:
                    break
            executions = [await backend.get(one.id) for one in (ended, waiting)]
            before = [await events_of(one) for one in executions]
            records = [[record async for record in one.records()] for one in executions]
        assert [await events_of(one) for one in executions] == before
        assert await executions[1].query("decided") == []
        for one, of_worker in zip(executions, records, strict=True):
            assert_same([record async for record in one.records()], of_worker)
        await waiting.cancel()


async def test_a_process_without_the_code_reads_what_the_history_says_and_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    queue = uuid.uuid4().hex
    async with outlast.connect(f"temporal://{shared_server()}") as backend:
        assert isinstance(backend, TemporalBackend)
        async with backend.worker(WORKFLOWS, task_queue=queue):
            execution = await backend.start(DealAnalysis, "Analyse.", task_queue=queue)
            await execution.result()
            whole = await events_of(await backend.get(execution.id))
        with caplog.at_level(logging.WARNING, "outlast.temporal"):
            events = await events_of(without_code(backend, execution))
        assert "does not have its code" in caplog.text
        # Only code knows of the handoff, of the call that it refused, and of the tool that it ran itself.
        assert kinds(events) == [
            *("execution_started", "turn_started", "model_replied", "turn_started", "model_replied"),
            *("tool_called", "tool_returned", "turn_started", "model_replied", "execution_completed"),
        ]
        ends = [(event.data, event.at) for event in (events[-1], whole[-1])]
        assert ends[0] == ends[1]
        # The end of an execution does not need a worker either.
        assert (await without_code(backend, execution).describe()).status == "completed"


async def test_code_that_departs_leaves_the_reader_the_history_and_says_where_it_departs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    queue = uuid.uuid4().hex
    async with outlast.connect(f"temporal://{shared_server()}") as backend:
        assert isinstance(backend, TemporalBackend)
        async with backend.worker(WORKFLOWS, task_queue=queue):
            execution = await backend.start(Steps, ["a", "b"], task_queue=queue)
            await execution.result()
        edited = replace(definition_of(Steps), cls=definition_of(Unsteady).cls)
        with caplog.at_level(logging.WARNING, "outlast.temporal"):
            events = await events_of(without_code(backend, execution, temporal_steps=edited))
        assert "departed from its journal" in caplog.text
        assert kinds(events)[0] == "execution_started"
        assert kinds(events)[-1] == "execution_completed"


async def test_calls_that_wait_for_a_person_are_found_by_code_and_never_taken_for_none() -> None:
    queue = uuid.uuid4().hex
    async with outlast.connect(f"temporal://{shared_server()}") as backend:
        assert isinstance(backend, TemporalBackend)
        async with backend.worker([Payment], task_queue=queue):
            execution = await backend.start(Payment, task_queue=queue)
            async for event in execution.events():
                if event.kind == EventKind.APPROVAL_REQUESTED:
                    break
        [waiting] = await execution.pending()
        assert (waiting.tool, waiting.arguments) == ("temporal_reading_pay", {"amount": 7})
        with pytest.raises(StorageUnavailable, match="does not have the code"):
            await without_code(backend, execution).pending()
        await execution.decide(waiting.call_id, "allow")
        async with backend.worker([Payment], task_queue=queue):
            assert await execution.result() == "Done."
        assert list(await without_code(backend, execution).pending()) == []


async def test_a_failed_attempt_is_in_the_stream_while_it_is_known_and_after_it() -> None:
    queue = uuid.uuid4().hex
    async with (
        outlast.connect(f"temporal://{shared_server()}") as backend,
        backend.worker(WORKFLOWS, task_queue=queue),
    ):
        execution = await backend.start(Unsteady, 2, task_queue=queue)
        followed = [event async for event in execution.events()]
        assert await execution.result() == 3
        again = await events_of(execution)
    failed = [event for event in again if event.kind == EventKind.ATTEMPT_FAILED]
    data = data_of(again, AttemptFailedData)
    assert [(one.attempt, one.failure.kind) for one in data] == [(2, "LookupError")]
    assert [event for event in followed if event.kind == EventKind.ATTEMPT_FAILED][-1:] == failed
    rest = [[one for one in events if one.kind != EventKind.ATTEMPT_FAILED] for events in (followed, again)]
    assert rest[0] == rest[1]
    [started] = [event for event in again if event.kind == EventKind.ACTIVITY_STARTED]
    assert failed[0].position == started.position


def versioned(text: str) -> type[Any]:
    """Return a version of a workflow that waits after its first activity."""

    @outlast.workflow.define(name="temporal_reading_versioned")
    class Versioned:
        def __init__(self) -> None:
            self.goes_on = False

        @outlast.workflow.entrypoint
        async def run(self) -> str:
            noted = await note(text)
            await outlast.workflow.wait_condition(lambda: self.goes_on)
            return noted

        @outlast.workflow.signal
        def go_on(self) -> None:
            self.goes_on = True

    return Versioned


async def test_a_departure_is_described_and_logged_once_field_by_field(
    caplog: pytest.LogCaptureFixture,
) -> None:
    queue = uuid.uuid4().hex
    async with outlast.connect(f"temporal://{shared_server()}") as backend:
        first = versioned("before")
        async with backend.worker([first], task_queue=queue):
            execution = await backend.start(first, task_queue=queue)
            async for event in execution.events():
                if event.kind == EventKind.ACTIVITY_COMPLETED:
                    break
        edited = versioned("after")
        async with backend.worker([edited], task_queue=queue), asyncio.timeout(30):
            await execution.signal("go_on")
            error = await obstacle_of(execution)
            while "cannot go on" not in caplog.text:  # noqa: ASYNC110 - the worker logs it soon after
                await asyncio.sleep(0.05)
        difference = 'arguments: {"what":"before"} is not {"what":"after"}'
        assert difference in error
        logged = [one.getMessage() for one in caplog.records if one.name == "outlast.worker"]
        assert [difference in message for message in logged] == [True]
        async with backend.worker([first], task_queue=queue):
            assert await execution.result() == "before noted"
