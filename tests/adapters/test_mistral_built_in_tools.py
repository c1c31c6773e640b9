"""What the server runs by itself: in the result, in the event stream, in the usage."""

from __future__ import annotations

from typing import Any

import pytest

from durable_agents import (
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
from durable_agents.core.errors import DurableAgentsError
from durable_agents.testing.mistral_server import Execute, MistralServer, Output, Say

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
async def test_what_the_server_ran_is_in_result_events_and_usage(
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
    told = [event for event in events if event.kind == "tool_executed"]
    assert [event.data["tool"] for event in told] == names
    (replied,) = [event for event in events if event.kind == "model_replied"]
    assert isinstance(replied.data["result"], dict)
    entries: Any = replied.data["result"]["entries"]
    assert [entry["id"] for entry in entries[:4]] == [event.data["entry"] for event in told]
    assert entries[1]["info"] == {"code": "1 + 1", "code_output": "2"}
    assert [tool["type"] for tool in made["tools"]] == [tool.type for tool in TOOLS]
    # The secret is where it is needed, and nowhere else.
    assert made["tools"][-1]["authorization"] == {"type": "api-key", "value": SECRET}
    assert SECRET not in repr(events) + repr(result) + repr(made["metadata"])


async def test_a_connector_without_its_secret_is_told_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CRM_TOKEN", raising=False)
    agent = Agent(model="m", name="searcher", tools=TOOLS)
    with MistralServer(lambda _: REPLY) as server:
        with pytest.raises(DurableAgentsError, match="CRM_TOKEN is not set"):
            await Runner.run(agent, "Go.", RemoteSession(api_key=server.api_key, server_url=server.url))
        assert not server.agents
