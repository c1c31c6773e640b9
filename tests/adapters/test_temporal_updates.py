"""Updates on Temporal are Temporal's own."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowUpdateFailedError

import durable_agents as da
from durable_agents.adapters.temporal import TemporalBackend
from tests.adapters.temporal_programs import Tally
from tests.adapters.temporal_server import shared_server

pytestmark = pytest.mark.server


async def test_any_client_of_temporal_may_update_and_a_rejection_leaves_nothing_in_the_history() -> None:
    queue = uuid.uuid4().hex
    async with da.connect(f"temporal://{shared_server()}/default") as backend:
        assert isinstance(backend, TemporalBackend)
        async with backend.worker([Tally], task_queue=queue):
            execution = await backend.start(Tally, task_queue=queue)
            handle = backend.client.get_workflow_handle(execution.id)
            # As `temporal workflow update execute --name add --input 2 --input 3` does it.
            told = await handle.execute_update("add", args=[2, 3], id="by hand")
            assert told == "2 and 3 noted"
            assert await execution.update("add", 9, id="by hand") == "2 and 3 noted"
            for number in range(3):
                with pytest.raises(da.UpdateRejected, match="too little"):
                    await execution.update("add", -1 - number)
            with pytest.raises(WorkflowUpdateFailedError):
                await handle.execute_update("no_such")
            assert await execution.update("end") == 5
            assert await execution.result() == 5
            kinds = Counter(event.event_type for event in (await handle.fetch_history()).events)
            told_of = {EventType.Name(kind): count for kind, count in kinds.items()}
            assert {name: count for name, count in told_of.items() if "UPDATE" in name} == {
                "EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED": 2,
                "EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED": 2,
            }


async def test_a_handler_that_would_continue_as_new_is_told_that_it_cannot() -> None:
    queue = uuid.uuid4().hex
    url = f"temporal://{shared_server()}/default"
    async with da.connect(url) as backend, backend.worker([Tally], task_queue=queue):
        execution = await backend.start(Tally, task_queue=queue)
        with pytest.raises(da.UpdateFailed, match="a handler cannot continue as new") as caught:
            await execution.update("begin_anew")
        assert isinstance(caught.value.__cause__, da.NotSupported)
        assert await execution.update("end") == 0


async def test_a_caller_that_gives_up_does_so_as_anywhere() -> None:
    async with da.connect(f"temporal://{shared_server()}/default") as backend:
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
