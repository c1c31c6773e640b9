"""The event stream of a Temporal execution: an event in it is never changed or withdrawn."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import BaseModel, Field
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType, UpdateWorkflowExecutionLifecycleStage
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.update.v1 import UpdateRef, WaitPolicy
from temporalio.api.workflowservice.v1 import (
    PollWorkflowExecutionUpdateRequest,
    PollWorkflowTaskQueueRequest,
    RespondWorkflowTaskFailedRequest,
)
from temporalio.client import Client, Interceptor, OutboundInterceptor, QueryWorkflowInput
from temporalio.common import RawValue
from temporalio.service import RPCError, RPCStatusCode

import outlast
from outlast.adapters.scripted import call
from outlast.adapters.temporal import TemporalBackend
from outlast.adapters.temporal.ended_runs import EndedRuns
from outlast.adapters.temporal.stream import EventStream
from outlast.composition.toolkit import toolkit
from outlast.core.events import EventKind
from outlast.core.records import ExecutionEnded, ExecutionStarted, decode_record, encode_record
from tests.adapters.temporal_programs import Local, note
from tests.adapters.temporal_server import shared_server

pytestmark = pytest.mark.server


@outlast.workflow.define(name="temporal_listener")
class Listener:
    """Makes a step after the first number that it gets, and ends after enough numbers."""

    def __init__(self) -> None:
        self.received: list[int] = []

    @outlast.workflow.entrypoint
    async def run(self, until: int) -> list[int]:
        await outlast.workflow.wait_condition(lambda: self.received != [])
        await note("the first")
        await outlast.workflow.wait_condition(lambda: len(self.received) >= until)
        return self.received

    @outlast.workflow.signal
    def receive(self, number: int) -> None:
        self.received.append(number)

    @outlast.workflow.update
    def add(self, number: int) -> int:
        self.received.append(number)
        return len(self.received)


@outlast.workflow.define(name="temporal_stubborn")
class Stubborn:
    """Ends when it has received enough, and no sooner."""

    def __init__(self) -> None:
        self.received: list[int] = []

    @outlast.workflow.entrypoint
    async def run(self, until: int) -> list[int]:
        while len(self.received) < until:
            try:
                await outlast.workflow.wait_condition(lambda: len(self.received) >= until)
            except asyncio.CancelledError:
                self.received.append(1)
                await note("the first")
        return self.received

    @outlast.workflow.update
    def add(self, number: int) -> int:
        self.received.append(number)
        return len(self.received)


class Padded(BaseModel):
    """An argument that grows when it is written down: it gets its default."""

    pad: str = Field(default_factory=lambda: "x" * 3_000_000)


@outlast.activity(name="temporal_take_padded")
async def take(padded: Padded, note: str) -> str:
    """Take something."""
    return note


class Asking(Interceptor, OutboundInterceptor):
    """Sets events when a query is sent, and when one is answered."""

    def __init__(self) -> None:
        self.sent = asyncio.Event()
        self.answered = asyncio.Event()

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        self.next = next
        return self

    async def query_workflow(self, input: QueryWorkflowInput) -> Any:
        self.sent.set()
        answer = await super().query_workflow(input)
        self.answered.set()
        return answer


async def test_the_events_during_a_workflow_task_stay_when_its_next_attempt_brings_an_update() -> None:
    for _ in range(40):
        if await asked_during_a_workflow_task():
            return
    raise AssertionError("no worker was asked during a workflow task")


async def asked_during_a_workflow_task() -> bool:
    """Ask a worker that lacks the execution when a cancellation is there, but no code has met it yet.

    Returns whether it came to that: chance decides whether the workflow task or the question is taken first.
    """
    queue, asking = uuid.uuid4().hex, Asking()
    async with connected() as backend, connected(interceptors=[asking]) as reader:
        async with backend.worker([Stubborn], task_queue=queue, max_cached_executions=0):
            execution = await backend.start(Stubborn, 2, task_queue=queue)
            await read(execution, "execution_started")
        # No worker is there, and no workflow task is due: Temporal keeps the question for a worker.
        stream = EventStream(reader.client, execution.id, toolkit(), EndedRuns())
        answer = asyncio.create_task(stream.events_now())
        await asking.sent.wait()
        await execution.cancel()
        token = await workflow_task(backend.client, queue)
        if token is None:
            answer.cancel()
            return False
        async with backend.worker([Stubborn], task_queue=queue, max_cached_executions=0):
            try:
                await asyncio.wait_for(asking.answered.wait(), 5)
            except TimeoutError:
                answer.cancel()
                return False
            updating = asyncio.create_task(execution.update("add", 7, id="seven"))
            await admitted(backend.client, execution.id, "seven")
            await backend.client.workflow_service.respond_workflow_task_failed(
                RespondWorkflowTaskFailedRequest(namespace="default", task_token=token)
            )
            assert await updating == 2
            assert await execution.result() == [1, 7]
            read_so_far = await answer
            events = [event async for event in execution.events()]
    kinds = [event.kind for event in events]
    assert kinds.index(EventKind.CANCEL_REQUESTED) < kinds.index(EventKind.UPDATE_ACCEPTED), (
        "the update did not go last"
    )
    assert events[: len(read_so_far)] == read_so_far
    return True


@asynccontextmanager
async def connected(**options: Any) -> AsyncIterator[TemporalBackend]:
    async with outlast.connect(f"temporal://{shared_server()}/default", **options) as backend:
        assert isinstance(backend, TemporalBackend)
        yield backend


async def admitted(client: Client, execution_id: str, update_id: str) -> None:
    """Wait until Temporal has an update, which it then gives to the next workflow task."""
    of = WorkflowExecution(workflow_id=execution_id)
    poll = PollWorkflowExecutionUpdateRequest(
        namespace="default",
        update_ref=UpdateRef(workflow_execution=of, update_id=update_id),
        wait_policy=WaitPolicy(
            lifecycle_stage=UpdateWorkflowExecutionLifecycleStage.Value(
                "UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ADMITTED"
            )
        ),
    )
    while True:
        try:
            await client.workflow_service.poll_workflow_execution_update(poll)
            return
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
        await asyncio.sleep(0.01)  # nothing announces an update that no worker has accepted


async def workflow_task(client: Client, queue: str) -> bytes | None:
    """Take what a worker would be given; return the token if it is a workflow task, and no question."""
    poll = PollWorkflowTaskQueueRequest(namespace="default", task_queue=TaskQueue(name=queue))
    task = await client.workflow_service.poll_workflow_task_queue(poll)
    return None if task.HasField("query") else task.task_token


async def test_a_signal_that_no_workflow_task_came_to_handle_is_not_an_event() -> None:
    queue = uuid.uuid4().hex
    async with connected() as backend:
        async with backend.worker([Listener], task_queue=queue, max_cached_executions=0):
            execution = await backend.start(Listener, 3, task_queue=queue)
            await execution.signal("receive", 1)
            before = await read(execution, "signal_received", "activity_completed")
        await execution.signal("receive", 2)
        handle = backend.client.get_workflow_handle(execution.id)
        await handle.terminate()
        history = await handle.fetch_history()
        assert history.events[-2].event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED
        async with backend.worker([Listener], task_queue=queue, max_cached_executions=0):
            for follow in (False, True):
                *seen, end = [event async for event in execution.events(follow=follow)]
                assert seen == before
                assert end.kind == "execution_terminated"


@pytest.mark.parametrize("cached", [0, 1000])
async def test_all_events_of_completed_workflow_tasks_are_in_the_stream_while_an_execution_waits(
    cached: int,
) -> None:
    """Also when the last of them have asked for nothing, so that the history ends with them."""
    queue = uuid.uuid4().hex
    async with (
        connected() as backend,
        backend.worker([Listener, Local], task_queue=queue, max_cached_executions=cached),
    ):
        execution = await backend.start(Listener, 4, task_queue=queue)
        awaited = ["signal_received", "activity_completed"]
        for number in range(3):
            await execution.signal("receive", number)
            read_so_far = await read(execution, *awaited)
            assert [event async for event in execution.events(follow=False)] == read_so_far
            awaited.append("signal_received")
        local = await backend.start(Local, task_queue=queue)
        followed = [event async for event in local.events()]
        assert [event async for event in local.events(follow=False)] == followed
        assert followed[-1].kind == "execution_completed"


async def read(execution: outlast.Execution, *kinds: str) -> Sequence[outlast.Event]:
    """Return the events up to the last of those kinds."""
    events: list[outlast.Event] = []
    async with asyncio.timeout(30):
        async for event in execution.events():
            events.append(event)
            if [one.kind for one in events if one.kind in kinds] == [*kinds]:
                return events
    raise AssertionError("the stream has ended")


async def recorded(execution: outlast.Execution) -> list[bytes]:
    return [encode_record(record) async for record in execution.records()]


async def test_waiting_for_a_result_beside_the_worker_queries_no_records() -> None:
    queue = uuid.uuid4().hex
    async with outlast.connect(f"temporal://{shared_server()}") as backend:
        async with backend.worker([Listener], task_queue=queue):
            execution = await backend.start(Listener, 2, task_queue=queue)
            for number in range(2):
                await execution.signal("receive", number)
            assert await execution.result() == [0, 1]
        # There is no worker any more.
        records = await recorded(execution)
        kinds = [type(decode_record(record)) for record in (records[0], records[-1])]
        assert kinds == [ExecutionStarted, ExecutionEnded]
        async with backend.worker([Listener], task_queue=queue):
            elsewhere = await backend.get(execution.id)
            assert await recorded(elsewhere) == records


async def test_records_travel_as_they_were_written() -> None:
    queue = uuid.uuid4().hex
    async with outlast.connect(f"temporal://{shared_server()}") as backend:
        assert isinstance(backend, TemporalBackend)
        async with backend.worker([Listener], task_queue=queue):
            execution = await backend.start(Listener, 1, task_queue=queue)
            await execution.signal("receive", 1)
            await execution.result()
            handle = backend.client.get_workflow_handle(execution.id)
            page = await handle.query("outlast.records", args=[0, 1_000_000], result_type=RawValue)
        text = b",".join(await recorded(execution))
        assert page.payload.data == b'{"records":[%s],"before":0}' % text


async def test_a_call_whose_arguments_no_payload_can_carry_is_in_the_stream_and_answered() -> None:
    run_id = f"padded-{uuid.uuid4().hex}"
    agent = outlast.Agent(model="m", name="solo", tools=[take])
    session = outlast.ScriptedSession(
        {"solo": [call("temporal_take_padded", {"padded": {}, "note": "x"}), "done"]}
    )
    async with outlast.connect(f"temporal://{shared_server()}") as backend:
        run = outlast.Runner.run_streamed(agent, "Go.", session, id=run_id, backend=backend)
        kinds = [event.kind async for event in run.events() if event.kind.startswith("tool_")]
        assert kinds == ["tool_called", "tool_failed"]
        answer = (await run.result()).entries[2].to_wire()["result"]
        assert "PayloadTooLarge: the arguments of 'temporal_take_padded'" in answer
