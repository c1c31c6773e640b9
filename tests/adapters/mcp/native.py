"""A workflow written for Temporal itself, whose agent has an MCP server."""

from __future__ import annotations

from temporalio import workflow

import outlast
from outlast.adapters.scripted import call, say


@workflow.defn(name="mcp-native")
class Native:
    @workflow.run
    async def run(self, command: str, arguments: list[str]) -> list[str]:
        server = outlast.MCPStdioConfig(
            command=command, args=arguments, name="t", env={"TOKEN": "env:NATIVE_TOKEN"}
        )
        agent = outlast.Agent(model="m", name="solo", mcp_clients=[server])
        session = outlast.ScriptedSession({"solo": [call("t_shout", {"text": "a"}), say("done")]})
        result = await outlast.Runner.run(agent, "go", session)
        return [entry.result for entry in result.entries if isinstance(entry, outlast.FunctionResult)]
