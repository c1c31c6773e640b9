"""Agents in workflows written for Temporal itself, in its sandbox."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client, WorkflowFailureError
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner, Worker

import outlast
from outlast.core.events import EventKind
from outlast.testing.mistral_server import Call, MistralServer, Say, ScriptedModel
from tests.adapters import temporal_native as native
from tests.adapters.mcp.serving import nursery
from tests.adapters.temporal_histories import replay_all
from tests.adapters.temporal_native import WORKFLOWS, Box, Failing, Payment, Poem, PoemHere, Remote
from tests.adapters.temporal_server import new_namespace, shared_server

pytestmark = pytest.mark.server


@pytest.fixture(scope="module", autouse=True)
def every_history_replays() -> Iterator[None]:
    yield
    asyncio.run(replay_all(shared_server()))


LEASE = timedelta(seconds=2)
SECRET = "sk-41c0ffee5eedfeed"


async def connected(**options: Any) -> Client:
    return await Client.connect(shared_server(), plugins=[outlast.OutlastPlugin(lease=LEASE)], **options)


@asynccontextmanager
async def working(**options: Any) -> AsyncIterator[tuple[Client, str]]:
    client, queue = await connected(), f"queue-{uuid.uuid4().hex}"
    worker = Worker(client, task_queue=queue, workflows=WORKFLOWS, **options)
    # The SDK takes a task of 2 s for a deadlock; on a busy machine it takes that long to fill a sandbox.
    assert worker._workflow_worker is not None
    worker._workflow_worker._deadlock_timeout_seconds = 60
    async with worker:
        yield client, queue


async def poem_here() -> list[str]:
    async with outlast.connect("memory:") as backend, backend.worker([PoemHere]):
        lines: list[str] = await (await backend.start(PoemHere)).result()
        return lines


@pytest.mark.parametrize(
    "options",
    [{}, {"max_cached_workflows": 0}, {"workflow_runner": UnsandboxedWorkflowRunner()}],
    ids=["sandboxed", "every task replays", "unsandboxed"],
)
async def test_agents_run_in_a_users_own_workflow_as_they_do_in_memory(options: dict[str, Any]) -> None:
    async with working(**options) as (client, queue):
        handle = await client.start_workflow(Poem.run, False, id=uuid.uuid4().hex, task_queue=queue)
        lines = await handle.result()
    expected = await poem_here()
    # Then come the SDKs that are loaded where the workflow runs; in its sandbox, no SDK is.
    assert lines[: len(expected)] == expected
    if "workflow_runner" not in options:
        assert lines == expected
    history = await handle.fetch_history()
    replayer = Replayer(workflows=WORKFLOWS, plugins=[outlast.OutlastPlugin()])
    await replayer.replay_workflow(history)


async def test_activities_are_performed_by_the_original_module_and_not_by_the_sandboxes_copy() -> None:
    native.performed.clear()
    async with working() as (client, queue):
        await client.execute_workflow(Poem.run, False, id="a poem " + queue, task_queue=queue)
    assert len(native.performed) == 3
    assert all(key.startswith(f"a poem {queue}/") for key in native.performed)


async def test_signals_queries_and_updates_of_the_user_may_use_activities_too() -> None:
    async with working() as (client, queue):
        handle = await client.start_workflow(Poem.run, True, id=uuid.uuid4().hex, task_queue=queue)
        assert await handle.execute_update(Poem.ask, "Nantes") == "rain in Nantes"
        assert await handle.query(Poem.reached) == "begun"
        await handle.signal(Poem.release)
        assert (await handle.result())[0].startswith("RAIN")


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("turns", "MaxTurnsExceeded"),
        ("refused", "ModelRefused"),
        ("tool", "ToolFailed"),
        ("unknown", "UnknownTool"),
        ("group", "ExceptionGroup"),
        ("unserialisable", "Unserialisable"),
    ],
)
async def test_an_error_of_the_library_fails_the_workflow_and_not_its_task(how: str, kind: str) -> None:
    async with working() as (client, queue):
        with pytest.raises(WorkflowFailureError) as failed:
            await client.execute_workflow(Failing.run, how, id=uuid.uuid4().hex, task_queue=queue)
    cause = failed.value.cause
    assert isinstance(cause, ApplicationError)
    assert cause.type == kind


async def test_a_backend_shows_the_events_of_a_users_workflow_and_takes_decisions() -> None:
    async with working() as (client, queue):
        handle = await client.start_workflow(Payment.run, id=uuid.uuid4().hex, task_queue=queue)
        async with outlast.connect(f"temporal://{shared_server()}") as backend:
            execution = await backend.get(handle.id)
            async for event in execution.events():
                if event.kind == "approval_requested":
                    break
            [waiting] = await execution.pending()
            assert (waiting.tool, waiting.arguments) == ("native_pay", {"amount": 70})
            await execution.decide(waiting.call_id, "allow")
            assert await execution.result() == "Done."
            kinds = [event.kind async for event in execution.events()]
    assert kinds[0] == "execution_started"
    assert kinds[-1] == "execution_completed"
    assert kinds.count(EventKind.TURN_STARTED) == 2
    assert "approval_given" in kinds


async def test_a_users_own_worker_is_listed_while_it_works() -> None:
    address = shared_server()
    namespace = await new_namespace(address)
    client = await Client.connect(
        address, namespace=namespace, plugins=[outlast.OutlastPlugin()], identity="native"
    )
    async with outlast.connect(f"temporal://{address}/{namespace}") as backend:
        async with Worker(client, task_queue="agents", workflows=[Poem, Payment]):
            # Temporal's worker begins some time after its block does.
            poem = await client.start_workflow(Poem.run, True, id="a poem", task_queue="agents")
            assert await poem.query(Poem.reached) == "begun"
            [worker] = await backend.workers()
            await poem.signal(Poem.release)
            await poem.result()
        assert (worker.identity, worker.task_queue, worker.executions) == ("native", "agents", [])
        assert worker.workflows == ["native_payment", "native_poem"]
        assert list(await backend.workers()) == []


async def test_a_remote_model_is_called_outside_the_sandbox_and_its_key_is_in_no_stored_byte(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = ScriptedModel([[Call("native_look_up", {"city": "Lyon"})], [Say("It rains.")]])
    with MistralServer(model, api_key=SECRET) as server:
        monkeypatch.setenv("MISTRAL_API_KEY", SECRET)
        monkeypatch.setenv("MISTRAL_SERVER_URL", server.url)
        client = await connected(data_converter=pydantic_data_converter)
        queue = uuid.uuid4().hex
        async with Worker(client, task_queue=queue, workflows=WORKFLOWS):
            handle = await client.start_workflow(Remote.run, id=queue, task_queue=queue)
            assert await handle.result() == "It rains."
        assert any(SECRET in str(request.headers) for request in server.requests)
        server.raise_errors()
    history = await handle.fetch_history()
    assert SECRET.encode() not in b"".join(event.SerializeToString() for event in history.events)


@pytest.mark.parametrize("cached", [1000, pytest.param(0, marks=pytest.mark.nightly)])
async def test_the_tools_of_an_mcp_server_are_called_from_a_users_workflow(
    tmp_path: Path, cached: int
) -> None:
    with nursery(tmp_path) as servers, servers.http("streamable", "toolbox") as server:
        async with working(max_cached_workflows=cached) as (client, queue):
            arguments = f"{server.url}/mcp"
            result = await client.execute_workflow(Box.run, arguments, id=uuid.uuid4().hex, task_queue=queue)
    assert result == ["Five.", "5"]


async def test_a_lease_of_nothing_is_refused() -> None:
    with pytest.raises(outlast.ConfigurationError, match="lease"):
        outlast.OutlastPlugin(lease=timedelta(0))
