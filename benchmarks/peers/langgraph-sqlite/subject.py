"""LangGraph with its SQLite checkpointer: `subject.py FOLDER`. Each step is durable before the next."""

from __future__ import annotations

import asyncio
import sys
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph_turns import graph, turns_of
from serving import serve, versions


async def main(folder: str) -> None:
    async with AsyncSqliteSaver.from_conn_string(f"{folder}/langgraph.db") as saver:
        compiled = graph().compile(checkpointer=saver)

        async def run(turns: int) -> int:
            return await turns_of(compiled, turns, uuid.uuid4().hex)

        await serve(run, versions("langgraph", "langgraph-checkpoint-sqlite"))


asyncio.run(main(sys.argv[1]))
