"""The floors: a turn's two writes by the driver alone: `subject.py sqlite|redis|temporal PLACE`."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import uuid
from datetime import timedelta

from redis.asyncio import Redis
from serving import TEXT, serve, versions
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

SIZES = (200, 300)
"""The bytes of the two records of a turn: a reply, and a result."""
QUEUE = "bench-floor"


@activity.defn
async def echo(text: str) -> str:
    return text


@workflow.defn(sandboxed=False)
class Bare:
    """As many activities as a run of so many turns has, one after the other."""

    @workflow.run
    async def run(self, turns: int) -> int:
        for _ in range(2 * turns + 1):
            await workflow.execute_activity(echo, TEXT, start_to_close_timeout=timedelta(minutes=5))
        return turns


async def of_sqlite(folder: str) -> None:
    connection = sqlite3.connect(f"{folder}/floor.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE IF NOT EXISTS records (id INTEGER PRIMARY KEY, body BLOB)")

    async def run(turns: int) -> int:
        for _ in range(turns):
            for size in SIZES:
                connection.execute("INSERT INTO records (body) VALUES (?)", (b"x" * size,))
        return turns

    await serve(run, {"sqlite": sqlite3.sqlite_version})


async def of_redis(url: str) -> None:
    async with Redis.from_url(url) as client:

        async def run(turns: int) -> int:
            key = f"floor:{uuid.uuid4().hex}"
            for _ in range(turns):
                for size in SIZES:
                    await client.xadd(key, {"record": b"x" * size})
            return turns

        await serve(run, versions("redis"))


async def of_temporal(address: str) -> None:
    client = await Client.connect(address)
    runner = UnsandboxedWorkflowRunner()
    async with Worker(client, task_queue=QUEUE, workflows=[Bare], activities=[echo], workflow_runner=runner):

        async def run(turns: int) -> int:
            return await client.execute_workflow(Bare.run, turns, id=uuid.uuid4().hex, task_queue=QUEUE)

        await serve(run, versions("temporalio"))


if __name__ == "__main__":
    floors = {"sqlite": of_sqlite, "redis": of_redis, "temporal": of_temporal}
    asyncio.run(floors[sys.argv[1]](sys.argv[2]))
