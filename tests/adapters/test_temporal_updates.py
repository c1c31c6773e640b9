"""Updates on Temporal are Temporal's own."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import PollWorkflowTaskQueueRequest, RespondWorkflowTaskFailedRequest
from temporalio.client import (
    Interceptor,
    OutboundInterceptor,
    StartWorkflowUpdateInput,
    WorkflowUpdateFailedError,
    WorkflowUpdateHandle,
)
from temporalio.service import RPCError, RPCStatusCode

import outlast
from outlast.adapters.temporal import TemporalBackend
from tests.adapters.temporal_programs import Tally
from tests.adapters.temporal_server import shared_server

pytestmark = pytest.mark.server


async def test_any_client_of_temporal_may_update_and_a_rejection_leaves_nothing_in_the_history() -> None:
    queue = uuid.uuid4().hex
    async with outlast.connect(f"temporal://{shared_server()}/default") as backend:
        assert isinstance(backend, TemporalBackend)
        async with backend.worker([Tally], task_queue=queue):
            execution = await backend.start(Tally, task_queue=queue)
            handle = backend.client.get_workflow_handle(execution.id)
            # As `temporal workflow update execute --name add --input 2 --input 3` does it.
            result = await handle.execute_update("add", args=[2, 3], id="by hand")
            assert result == "2 and 3 noted"
            assert await execution.update("add", 9, id="by hand") == "2 and 3 noted"
            for number in range(3):
                with pytest.raises(outlast.UpdateRejected, match="too little"):
                    await execution.update("add", -1 - number)
            with pytest.raises(WorkflowUpdateFailedError):
                await handle.execute_update("no_such")
            assert await execution.update("end") == 5
            assert await execution.result() == 5
            kinds = Counter(event.event_type for event in (await handle.fetch_history()).events)
            visible_entries = {EventType.Name(kind): count for kind, count in kinds.items()}
            assert {name: count for name, count in visible_entries.items() if "UPDATE" in name} == {
                "EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED": 2,
                "EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED": 2,
            }


async def test_continue_as_new_in_a_handler_raises() -> None:
    queue = uuid.uuid4().hex
    url = f"temporal://{shared_server()}/default"
    async with outlast.connect(url) as backend, backend.worker([Tally], task_queue=queue):
        execution = await backend.start(Tally, task_queue=queue)
        with pytest.raises(outlast.UpdateFailed, match="a handler cannot continue as new") as caught:
            await execution.update("begin_anew")
        assert isinstance(caught.value.__cause__, outlast.NotSupported)
        assert await execution.update("end") == 0


async def test_a_caller_can_be_cancelled_as_on_every_backend() -> None:
    async with outlast.connect(f"temporal://{shared_server()}/default") as backend:
        execution = await backend.start(Tally, task_queue=uuid.uuid4().hex)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await execution.update("end")
        waiting = asyncio.create_task(execution.update("end"))
        await asyncio.wait([waiting], timeout=0.1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await execution.cancel()


class Sending(Interceptor, OutboundInterceptor):
    """Keeps the ids of the updates that are sent, and sets an event when Temporal refuses one."""

    def __init__(self) -> None:
        self.sent: list[str | None] = []
        self.refused: asyncio.Future[RPCStatusCode] = asyncio.get_running_loop().create_future()

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        self.next = next
        return self

    async def start_workflow_update(self, input: StartWorkflowUpdateInput) -> WorkflowUpdateHandle[Any]:
        self.sent.append(input.update_id)
        try:
            return await super().start_workflow_update(input)
        except RPCError as error:
            if not self.refused.done():
                self.refused.set_result(error.status)
            raise


FAILURES = 3
"""After so many attempts at a workflow task Temporal refuses updates, until one succeeds."""


async def test_an_update_that_temporal_refuses_while_workflow_tasks_fail_is_sent_until_it_is_answered() -> (
    None
):
    queue, sending = uuid.uuid4().hex, Sending()
    async with outlast.connect(f"temporal://{shared_server()}/default", interceptors=[sending]) as backend:
        assert isinstance(backend, TemporalBackend)
        service = backend.client.workflow_service
        execution = await backend.start(Tally, task_queue=queue)
        poll = PollWorkflowTaskQueueRequest(namespace="default", task_queue=TaskQueue(name=queue))
        for _ in range(FAILURES):
            task = await service.poll_workflow_task_queue(poll)
            await service.respond_workflow_task_failed(
                RespondWorkflowTaskFailedRequest(namespace="default", task_token=task.task_token)
            )
        updating = asyncio.create_task(execution.update("end", id="once"))
        async with asyncio.timeout(30):
            assert await sending.refused is RPCStatusCode.FAILED_PRECONDITION
            async with backend.worker([Tally], task_queue=queue):
                assert await updating == 0
                assert await execution.result() == 0
    assert len(sending.sent) > 1
    assert set(sending.sent) == {"once"}
