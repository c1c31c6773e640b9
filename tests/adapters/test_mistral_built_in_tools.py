"""Tools that the server runs by itself: in the result, in the event stream, in the usage."""

from __future__ import annotations

import traceback
from typing import Any

import pytest

from outlast import (
    Agent,
    CodeInterpreterTool,
    ConnectorTool,
    DocumentLibraryTool,
    ImageGenerationTool,
    RemoteSession,
    Runner,
    ToolExecution,
    ToolFileChunk,
    ToolReferenceChunk,
    WebSearchPremiumTool,
    WebSearchTool,
    connect,
    workflow,
)
from outlast.core.agents import AgentGraph, AgentSpec
from outlast.core.errors import ModelRefused, OutlastError
from outlast.core.events import EventKind, ModelRepliedData, ToolExecutedData
from outlast.testing.contracts.durability.stage import data_of
from outlast.testing.mistral_server import (
    AnswerWith,
    Execute,
    Fault,
    MistralServer,
    ModelPrompt,
    Output,
    Say,
)
from tests.adapters.test_mistral_remote import session_for, start, worker

pytestmark = pytest.mark.server

SECRET = "crm-secret-51f0"

TOOLS = [
    WebSearchTool(),
    WebSearchPremiumTool(),
    CodeInterpreterTool(),
    ImageGenerationTool(),
    DocumentLibraryTool(library_ids=("lib_1",)),
    ConnectorTool(connector_id="crm", authorization={"type": "api-key", "value": "env:CRM_TOKEN"}),
]
REFERENCE: dict[str, Any] = {
    "type": "tool_reference",
    "tool": "web_search",
    "title": "Rates",
    "url": "https://example.org/r",
}
FILE: dict[str, Any] = {"type": "tool_file", "tool": "image_generation", "file_id": "f_1"}
REPLY: list[Output] = [
    Execute("web_search", {"query": "euro rate"}),
    Execute("code_interpreter", {"code": "1 + 1"}, {"code": "1 + 1", "code_output": "2"}),
    Execute("crm_find", {"name": "Ada"}),
    Execute("web_search", {"query": "again"}),
    Say([{"type": "text", "text": "It is 2.5 %"}, REFERENCE, {"type": "text", "text": "."}, FILE]),
]

session: RemoteSession


@workflow.define(name="built_in_tools")
class Search:
    @workflow.entrypoint
    async def run(self) -> dict[str, Any]:
        searcher = Agent(model="m", name="searcher", tools=TOOLS)
        result = await Runner.run(searcher, "Euro rate?", session)
        return {
            "text": result.text,
            "references": [one.to_wire() for one in result.references],
            "files": [one.to_wire() for one in result.files],
            "executions": [one.name for one in result.entries if isinstance(one, ToolExecution)],
            "usage": result.usage.model_dump(mode="json"),
        }


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_the_tools_that_the_server_ran_are_in_result_events_and_usage(
    stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    global session
    monkeypatch.setenv("CRM_TOKEN", SECRET)
    with MistralServer(lambda _: REPLY) as server:
        session = RemoteSession(api_key=server.api_key, server_url=server.url, stream=stream)
        async with connect("memory:") as backend, backend.worker([Search]):
            execution = await backend.start(Search)
            result = await execution.result()
            events = [event async for event in execution.events()]
        (made,) = server.agents.values()
    assert result["text"] == "It is 2.5 %."
    assert ToolReferenceChunk(**result["references"][0]).url == "https://example.org/r"
    assert ToolFileChunk(**result["files"][0]).file_id == "f_1"
    names = ["web_search", "code_interpreter", "crm_find", "web_search"]
    assert result["executions"] == names
    assert result["usage"]["connectors"] == {"web_search": 2, "code_interpreter": 1, "crm_find": 1}
    assert result["usage"]["connector_tokens"] > 0
    executed = data_of(events, ToolExecutedData)
    assert [data.tool for data in executed] == names
    (replied,) = data_of(events, ModelRepliedData)
    entries: Any = replied.result["entries"]
    assert [entry["id"] for entry in entries[:4]] == [data.entry for data in executed]
    assert entries[1]["info"] == {"code": "1 + 1", "code_output": "2"}
    assert [tool["type"] for tool in made["tools"]] == [tool.type for tool in TOOLS]
    # The secret is where it is needed, and nowhere else.
    assert made["tools"][-1]["authorization"] == {"type": "api-key", "value": SECRET}
    assert SECRET not in repr(events) + repr(result) + repr(made["metadata"])


async def test_a_connector_without_its_secret_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CRM_TOKEN", raising=False)
    agent = Agent(model="m", name="searcher", tools=TOOLS)
    with MistralServer(lambda _: REPLY) as server:
        with pytest.raises(OutlastError, match="CRM_TOKEN is not set"):
            await Runner.run(agent, "Go.", RemoteSession(api_key=server.api_key, server_url=server.url))
        assert not server.agents


async def test_a_server_that_repeats_a_connectors_secret_is_not_quoted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CRM_TOKEN", SECRET)
    detail = {"type": "value_error", "loc": ["body", "tools"], "msg": "no such connector", "input": SECRET}
    with MistralServer(lambda _: REPLY) as server:
        server.faults.add(Fault(AnswerWith(422, {"detail": [detail]}), method="POST", path="/v1/agents"))
        crm = TOOLS[-1].to_wire()
        graph = AgentGraph(start="a", agents={"a": AgentSpec(name="a", model="m", built_in_tools=(crm,))})
        async with worker() as resources:
            with pytest.raises(ModelRefused, match="no such connector") as refused:
                await session_for(server).reply(start(graph), resources)
    assert SECRET not in "".join(traceback.format_exception(refused.value))


# Confirmations -------------------------------------------------------------------------------------------


@workflow.define(name="confirmed_tools")
class Confirmed:
    @workflow.entrypoint
    async def run(self) -> str:
        confirmation = {"requires_confirmation": ["web_search"]}
        searcher = Agent(model="m", name="searcher", tools=[WebSearchTool(tool_configuration=confirmation)])
        return (await Runner.run(searcher, "Euro rate?", session)).text


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("verdict", ["allow", "deny"])
async def test_a_person_decides_what_the_server_may_run(verdict: Any, stream: bool) -> None:
    def model(call: ModelPrompt) -> list[Output]:
        if call.replies == 0:
            return [Execute("web_search", {"query": "euro"}), Execute("web_search", {"query": "dollar"})]
        statuses = [entry.get("confirmation_status") for entry in call.entries]
        return [Say(f"{statuses.count('allowed')} allowed, {statuses.count('denied')} denied")]

    global session
    with MistralServer(model) as server:
        session = RemoteSession(api_key=server.api_key, server_url=server.url, stream=stream)
        async with connect("memory:") as backend:
            execution = await backend.start(Confirmed)
            async with backend.worker([Confirmed]):
                kinds = []
                async for event in execution.events():
                    kinds.append(event.kind)
                    if kinds.count(EventKind.APPROVAL_REQUESTED) == 2 and event.kind == "approval_requested":
                        first, second = await execution.pending()
                        assert (first.tool, first.arguments) == ("web_search", {"query": "euro"})
                        await execution.decide(second.call_id, "deny", reason="too dear")
                        await execution.decide(first.call_id, verdict)
                expected = "1 allowed, 1 denied" if verdict == "allow" else "0 allowed, 2 denied"
                assert await execution.result() == expected
        server.raise_errors()
    assert kinds.count(EventKind.TOOL_EXECUTED) == (verdict == "allow")
    assert not kinds.count(EventKind.TOOL_CALLED)
