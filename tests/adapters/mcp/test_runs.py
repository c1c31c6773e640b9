"""Agents that use MCP servers, durably: in memory, on SQLite and on Temporal."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client
from temporalio.worker import Worker

import outlast
from outlast.adapters.scripted import call, say
from outlast.core.events import ActivityCompletedData, ToolReturnedData
from outlast.core.json import JSON
from outlast.ports.tools import ToolList
from outlast.runtime.attempts.shared_resources import SharedResources
from outlast.testing.contracts.durability.stage import all_events, data_of
from tests.adapters.mcp.calling import OBJECT, Caller, raw, server, until
from tests.adapters.mcp.native import Native
from tests.adapters.mcp.serving import Nursery
from tests.adapters.temporal_server import shared_server

pytestmark = pytest.mark.server

PATIENCE_SECONDS = 60.0


class Scene:
    """The objects that the workflow of a test uses; no payload could carry them."""

    clients: Sequence[Any]
    script: Sequence[Any]


@outlast.workflow.define(name="mcp.script")
class Script:
    """Runs an agent with the scene's servers on the scene's script, and waits to be let go."""

    def __init__(self) -> None:
        self.is_over = True

    @outlast.workflow.entrypoint
    async def run(self, waits: bool = False) -> list[str]:
        agent = outlast.Agent(model="m", name="solo", mcp_clients=Scene.clients)
        self.is_over = not waits
        session = outlast.ScriptedSession({"solo": Scene.script}, may_call_unknown_tools=True)
        results = [await outlast.Runner.run(agent, "go", session)]
        await outlast.workflow.wait_condition(lambda: self.is_over)
        results.append(
            await outlast.Runner.run(agent, "again", outlast.ScriptedSession({"solo": [say("done")]}))
        )
        return [answer for result in results for answer in answers(result)]

    @outlast.workflow.signal
    def leave(self) -> None:
        self.is_over = True


def answers(result: outlast.RunResult) -> list[str]:
    return [entry.result for entry in result.entries if isinstance(entry, outlast.FunctionResult)]


@pytest.fixture(params=["memory", "sqlite", "temporal"])
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[outlast.Backend]:
    urls: Mapping[str, Callable[[], str]] = {
        "memory": lambda: "memory:",
        "sqlite": lambda: f"sqlite:///{tmp_path}/runs.db",
        "temporal": lambda: f"temporal://{shared_server()}/default",
    }
    async with outlast.connect(urls[request.param]()) as backend:
        yield backend


@asynccontextmanager
async def patience() -> AsyncIterator[None]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        yield


async def execution_of(backend: outlast.Backend, *args: Any) -> tuple[outlast.Execution, dict[str, Any]]:
    """Start an execution, and return what its workers need to know."""
    queue = f"queue-{uuid.uuid4().hex}"
    execution = await backend.start(Script, *args, id=f"x-{uuid.uuid4().hex}", task_queue=queue)
    return execution, {"task_queue": queue, "lease": timedelta(seconds=2)}


async def result_of(backend: outlast.Backend) -> list[str]:
    async with patience():
        execution, options = await execution_of(backend)
        async with backend.worker([Script], **options):
            result: list[str] = await execution.result()
            return result


async def test_a_tool_list_and_a_call_are_journaled_and_need_no_server_any_more(
    backend: outlast.Backend, calling: Callable[..., Caller], resources: SharedResources
) -> None:
    caller = calling()
    Scene.clients, Scene.script = [caller.config], [call("t_shout", {"text": "a"}), say("done")]
    async with patience():
        execution, options = await execution_of(backend, True)
        async with backend.worker([Script], **options):
            async for event in execution.events():
                if event.kind == "tool_returned":
                    break
        listed = await caller.config.list_tools(resources)
        caller.servers.close()
        await execution.signal("leave")
        async with backend.worker([Script], **options):
            assert await execution.result() == ["A"]
            events = await all_events(execution)
    [step] = data_of(events, ActivityCompletedData)
    assert step.name == "list tools of t"
    assert ToolList.model_validate(step.result) == ToolList.of(listed)
    assert [(data.source, data.result) for data in data_of(events, ToolReturnedData)] == [
        ("t", {"result": "A"})
    ]
    assert len(caller.servers.processes()) == 2  # the worker's and the test's


async def test_a_call_that_was_lost_is_repeated_if_it_changes_nothing(
    backend: outlast.Backend, calling: Callable[..., Caller], tmp_path: Path
) -> None:
    caller, gate = calling(), tmp_path / "gate"
    Scene.clients, Scene.script = [caller.config], [call("t_wait", {"gate": str(gate)}), say("done")]
    async with patience():
        running = asyncio.create_task(result_of(backend))
        await until(lambda: gate.with_suffix(".1").exists())
        caller.servers.kill()
        await until(lambda: gate.with_suffix(".2").exists())
        gate.touch()
        assert await running == ["passed at the attempt 2"]


async def test_a_call_that_was_lost_is_reported_to_the_model_if_it_may_be_made_once(
    backend: outlast.Backend, calling: Callable[..., Caller]
) -> None:
    caller = calling()
    Scene.clients = [caller.config]
    Scene.script = [call("t_die"), call("t_shout", {"text": "still here"}), say("done")]
    lost, shouted = await result_of(backend)
    assert (
        "the connection was lost during the call of 't_die', which may or may not have taken effect" in lost
    )
    assert shouted == "STILL HERE"
    assert len(caller.servers.processes()) == 2


async def test_a_mistake_of_the_model_is_reported_to_it(
    backend: outlast.Backend, calling: Callable[..., Caller]
) -> None:
    caller = calling()
    Scene.clients = [caller.config]
    Scene.script = [[call("t_shout", {"text": 1}), call("t_nothing")], say("done")]
    wrong, unknown = await result_of(backend)
    assert "text: 1 is not of type 'string'" in wrong
    assert "has no tool named 't_nothing'" in unknown
    assert len(caller.servers.processes()) == 1


async def test_a_tool_that_changes_under_way_is_reported_to_the_model_with_its_schema(
    backend: outlast.Backend, calling: Callable[..., Caller], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outlast.adapters.mcp.sdk.connection_life.LIST_SECONDS", -1.0)
    Scene.clients = [calling().config]
    change, shout = call("t_make_shout", {"compatibly": True}), call("t_shout", {"text": "a"})
    Scene.script = [
        shout,
        change,
        shout,
        call("t_shout", {"text": "a", "times": 2}),
        call("t_shout"),
        say(""),
    ]
    before, _, noticed, after, refused = await result_of(backend)
    assert (before, after) == ("A", "AA")
    assert noticed.startswith("A\n\n[The tool 't_shout' has changed since it was listed to you")
    assert "Shout, perhaps several times." in noticed
    assert '"times":{"default":1' in noticed
    assert "'text' is a required property" in refused
    assert '"times":{"default":1' in refused


async def test_a_missing_server_that_is_required_ends_the_run_with_an_error_that_names_it(
    backend: outlast.Backend,
) -> None:
    Scene.clients = [outlast.MCPStdioConfig(command="no-such-command", name="files")]
    Scene.script = [say("done")]
    with pytest.raises(outlast.ExecutionFailed, match="MCP server 'files': command 'no-such") as failed:
        await result_of(backend)
    assert isinstance(failed.value.__cause__, outlast.ToolServerError)
    assert failed.value.__cause__.server == "files"


async def test_a_run_goes_on_without_a_missing_server_that_is_not_required(
    backend: outlast.Backend, calling: Callable[..., Caller]
) -> None:
    missing = outlast.MCPStdioConfig(command="no-such-command", name="files", required=False)
    Scene.clients = [calling().config, missing]
    Scene.script = [[call("t_shout", {"text": "a"}), call("files_read")], say("done")]
    there, not_there = await result_of(backend)
    assert there == "A"
    assert "has no tool named 'files_read'" in not_there


def rival(*, required: bool) -> outlast.MCPStdioConfig:
    """Return a server with a tool that has the name of another server's, and with very many others."""
    names = ["shout", "", "a b", "a_b", "a_b", *(f"tool{number}" for number in range(1000))]
    tools: list[JSON] = [{"name": name, "inputSchema": OBJECT} for name in names]
    return replace(
        raw({"content": []}, *tools),
        name="t_make",
        required=required,
        exclude=() if not required else names[1:],
    )


async def test_a_server_that_is_not_required_cannot_end_a_run_by_the_names_of_its_tools(
    backend: outlast.Backend, calling: Callable[..., Caller], caplog: pytest.LogCaptureFixture
) -> None:
    Scene.clients = [rival(required=False), calling().config]
    Scene.script = [[call("t_make_shout", {"compatibly": True}), call("t_make_tool0")], say("done")]
    shouted, other = await result_of(backend)
    assert shouted == "changed"
    assert other == ""
    assert (
        "does not have tool 't_make_shout' of tool source 't_make': tool source 't' has a tool" in caplog.text
    )
    assert "tools 'a b' and 'a_b' would both have the name 't_make_a_b'" in caplog.text


async def test_two_servers_that_are_required_and_have_one_name_for_two_tools_end_the_run_by_name(
    backend: outlast.Backend, calling: Callable[..., Caller]
) -> None:
    Scene.clients, Scene.script = [calling().config, rival(required=True)], [say("done")]
    both = "called 't_make_shout': one of tool source 't' and one of tool source 't_make'"
    with pytest.raises(outlast.ExecutionFailed, match=both):
        await result_of(backend)


@outlast.workflow.define(name="mcp.asking")
class Asking:
    """Runs an agent that may shout only where a person allows it, if it shouts at length."""

    @outlast.workflow.entrypoint
    async def run(self) -> list[str]:
        long = {"t_shout": lambda arguments: len(arguments["text"]) > 2}
        agent = outlast.Agent(model="m", name="solo", mcp_clients=Scene.clients, requires_approval=long)
        return answers(await outlast.Runner.run(agent, "go", outlast.ScriptedSession({"solo": Scene.script})))


async def test_calls_of_a_server_s_tool_wait_for_a_person_where_the_agent_says_so(
    backend: outlast.Backend, calling: Callable[..., Caller]
) -> None:
    Scene.clients = [calling().config]
    Scene.script = [[call("t_shout", {"text": text}) for text in ("hi", "hello", "goodbye")], say("done")]
    async with patience():
        queue = f"queue-{uuid.uuid4().hex}"
        execution = await backend.start(Asking, id=f"x-{uuid.uuid4().hex}", task_queue=queue)
        async with backend.worker([Asking], task_queue=queue, lease=timedelta(seconds=2)):
            async for event in execution.events():
                if event.kind == "approval_requested" and len(await execution.pending()) == 2:
                    break
            hello, goodbye = await execution.pending()
            await execution.decide(hello.call_id, "allow", edited_arguments={"text": "hello you"})
            await execution.decide(goodbye.call_id, "deny", "stay")
            short, allowed, denied = await execution.result()
    assert (short, allowed) == ("HI", "HELLO YOU")
    assert "stay" in denied


async def test_executions_share_a_connection_and_its_list(
    backend: outlast.Backend, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "outlast.mcp")
    server = raw({"content": [{"type": "text", "text": "A"}]}, {"name": "shout", "inputSchema": OBJECT})
    Scene.clients, Scene.script = [server], [call("t_shout"), say("done")]
    async with patience():
        first, options = await execution_of(backend)
        queue = options["task_queue"]
        more = [await backend.start(Script, id=f"x-{uuid.uuid4().hex}", task_queue=queue) for _ in range(3)]
        async with backend.worker([Script], **options):
            assert await asyncio.gather(*(one.result() for one in (first, *more))) == [["A"]] * 4
    asked = Counter(record.getMessage().removeprefix("t: ") for record in caplog.records)
    assert (asked["initialize"], asked["tools/list"], asked["tools/call"]) == (1, 1, 4)


async def test_two_servers_of_one_name_are_refused(servers: Nursery) -> None:
    with server(servers, "stdio", "troubled") as (one, _), server(servers, "stdio", "troubled") as (other, _):
        agent = outlast.Agent(model="m", name="solo", mcp_clients=[one, other])
        with pytest.raises(outlast.DefinitionError, match="two tool sources are called 't'"):
            await outlast.Runner.run(agent, "go", outlast.ScriptedSession({"solo": [say("no")]}))


async def test_an_agent_in_a_workflow_of_temporals_own_uses_a_server(
    servers: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NATIVE_TOKEN", "tok-81d7")
    client = await Client.connect(
        shared_server(), plugins=[outlast.OutlastPlugin(lease=timedelta(seconds=2))]
    )
    queue = f"queue-{uuid.uuid4().hex}"
    with servers.stdio("troubled") as stdio:
        async with patience(), Worker(client, task_queue=queue, workflows=[Native]):
            assert await client.execute_workflow(
                Native.run, args=[stdio.command, stdio.args], id=f"x-{uuid.uuid4().hex}", task_queue=queue
            ) == ["A"]
