"""LangGraph with its Redis checkpointer: `subject.py URL`. The server needs JSON and search modules."""

from __future__ import annotations

import asyncio
import sys
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from langgraph.checkpoint.redis.aio import AsyncRedisSaver
from langgraph_turns import graph, turns_of
from redis.asyncio import Redis
from serving import serve, versions


async def main(url: str) -> None:
    async with Redis.from_url(url) as client:
        modules = {str(one.get(b"name") or one.get("name")).lower() for one in await client.module_list()}
    if not any("json" in name for name in modules):
        sys.exit("the Redis server has no JSON and search modules, which LangGraph's checkpointer needs")
    async with AsyncRedisSaver.from_conn_string(url) as saver:
        await saver.asetup()
        compiled = graph().compile(checkpointer=saver)

        async def run(turns: int) -> int:
            return await turns_of(compiled, turns, uuid.uuid4().hex)

        await serve(run, versions("langgraph", "langgraph-checkpoint-redis"))


asyncio.run(main(sys.argv[1]))
