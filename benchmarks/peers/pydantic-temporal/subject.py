"""Pydantic AI with Temporal: `subject.py HOST:PORT`. Model and tool are activities; the sandbox is on."""

from __future__ import annotations

import asyncio
import sys
import uuid
from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from pydantic_ai import (
        Agent,
        ModelMessage,
        ModelResponse,
        TextPart,
        ToolCallPart,
        ToolReturnPart,
        UsageLimits,
    )
    from pydantic_ai.durable_exec.temporal import AgentPlugin, PydanticAIPlugin, TemporalDurability
    from pydantic_ai.models.function import AgentInfo, FunctionModel
    from serving import TEXT, serve, versions
    from temporalio.client import Client
    from temporalio.worker import Worker

QUEUE = "bench-pydantic"


def reply(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    turns = int(str(messages[0].parts[-1].content))
    calls = sum(isinstance(part, ToolReturnPart) for message in messages for part in message.parts)
    if calls >= turns:
        return ModelResponse(parts=[TextPart(str(calls))])
    return ModelResponse(parts=[ToolCallPart("echo", {"text": TEXT}, tool_call_id=f"c{calls}")])


durability = TemporalDurability(activity_config={"start_to_close_timeout": timedelta(minutes=5)})
agent = Agent(FunctionModel(reply), name="bench", capabilities=[durability])


@agent.tool_plain
async def echo(text: str) -> str:
    return text


@workflow.defn
class Turns:
    @workflow.run
    async def run(self, turns: int) -> int:
        return int((await agent.run(str(turns), usage_limits=UsageLimits(request_limit=None))).output)


async def main(address: str) -> None:
    client = await Client.connect(address, plugins=[PydanticAIPlugin()])
    async with Worker(client, task_queue=QUEUE, workflows=[Turns], plugins=[AgentPlugin(agent)]):

        async def run(turns: int) -> int:
            return await client.execute_workflow(Turns.run, turns, id=uuid.uuid4().hex, task_queue=QUEUE)

        await serve(run, versions("pydantic-ai-slim", "temporalio"))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
