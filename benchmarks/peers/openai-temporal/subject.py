"""OpenAI's Agents SDK with Temporal: `subject.py HOST:PORT`. Model and tool are activities, sandboxed."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import uuid
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow

with workflow.unsafe.imports_passed_through():
    from agents import Agent, Model, ModelResponse, Runner
    from serving import TEXT, serve, versions
    from temporalio.client import Client
    from temporalio.openai_agents import ModelActivityParameters, OpenAIAgentsPlugin
    from temporalio.openai_agents import workflow as agents_workflow
    from temporalio.openai_agents.testing import ResponseBuilders, TestModelProvider
    from temporalio.worker import Worker

QUEUE = "bench-openai"


class StandIn(Model):
    """Calls the tool until it has been called as often as the first message says."""

    async def get_response(self, system_instructions: Any, input: Any, *_: Any, **__: Any) -> ModelResponse:
        entries = [{"content": input}] if isinstance(input, str) else input
        calls = sum(entry.get("type") == "function_call_output" for entry in entries)
        if calls >= int(entries[0]["content"]):
            return ResponseBuilders.output_message(str(calls))
        return ResponseBuilders.tool_call(json.dumps({"text": TEXT}), "echo", call_id=f"c{calls}")

    def stream_response(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


@activity.defn
async def echo(text: str) -> str:
    """Return the text."""
    return text


@workflow.defn
class Turns:
    @workflow.run
    async def run(self, turns: int) -> int:
        tool = agents_workflow.activity_as_tool(echo, start_to_close_timeout=timedelta(minutes=5))
        agent: Agent[None] = Agent(name="bench", instructions="Use the tool.", tools=[tool])
        result = await Runner.run(agent, input=str(turns), max_turns=turns + 2)
        return int(result.final_output)


async def main(address: str) -> None:
    os.environ.setdefault("OPENAI_API_KEY", "none")
    os.environ.setdefault("OPENAI_AGENTS_DISABLE_TRACING", "1")
    plugin = OpenAIAgentsPlugin(
        model_params=ModelActivityParameters(start_to_close_timeout=timedelta(minutes=5)),
        model_provider=TestModelProvider(StandIn()),
    )
    client = await Client.connect(address, plugins=[plugin])
    async with Worker(client, task_queue=QUEUE, workflows=[Turns], activities=[echo]):

        async def run(turns: int) -> int:
            return await client.execute_workflow(Turns.run, turns, id=uuid.uuid4().hex, task_queue=QUEUE)

        await serve(run, versions("openai-agents", "temporalio-openai-agents", "temporalio"))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
