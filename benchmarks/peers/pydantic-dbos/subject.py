"""Pydantic AI with DBOS on SQLite: `subject.py FOLDER`. The tool is a step of its own."""

from __future__ import annotations

import asyncio
import sys

from dbos import DBOS, DBOSConfig
from pydantic_ai import (
    Agent,
    ModelMessage,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UsageLimits,
)
from pydantic_ai.durable_exec.dbos import DBOSDurability
from pydantic_ai.models.function import AgentInfo, FunctionModel
from serving import TEXT, serve, versions


def returned(messages: list[ModelMessage]) -> int:
    return sum(isinstance(part, ToolReturnPart) for message in messages for part in message.parts)


def reply(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    turns = int(str(messages[0].parts[-1].content))
    calls = returned(messages)
    if calls >= turns:
        return ModelResponse(parts=[TextPart(str(calls))])
    return ModelResponse(parts=[ToolCallPart("echo", {"text": TEXT}, tool_call_id=f"c{calls}")])


agent = Agent(FunctionModel(reply), name="bench", capabilities=[DBOSDurability()])


@agent.tool_plain
@DBOS.step()
async def echo(text: str) -> str:
    return text


@DBOS.workflow()
async def turns_of(turns: int) -> int:
    return int((await agent.run(str(turns), usage_limits=UsageLimits(request_limit=None))).output)


async def main(folder: str) -> None:
    config: DBOSConfig = {
        "name": "bench",
        "system_database_url": f"sqlite:///{folder}/dbos.db",
        "run_admin_server": False,
        "log_level": "ERROR",
    }
    DBOS(config=config)
    DBOS.launch()
    await serve(turns_of, versions("pydantic-ai-slim", "dbos"))
    DBOS.destroy()


asyncio.run(main(sys.argv[1]))
