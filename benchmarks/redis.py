"""The Redis table: the cost of a turn, the delay before work begins, memory, and the gain by more workers."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import statistics
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from datetime import timedelta
from multiprocessing.context import SpawnProcess

from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table

import outlast
from outlast.adapters.redis import RedisSettings, RedisStore
from outlast.adapters.scripted import call, say
from outlast.core.entries import FunctionCall, MessageOutput
from outlast.core.events import ModelRepliedData, ToolReturnedData
from outlast.core.json import encode
from outlast.ports.finding import Where
from outlast.ports.journal import Commit, NewExecution
from outlast.ports.llm import ModelRequest
from tests.adapters.redis_servers import VALKEY, RedisServer, ServerOptions, temporary_server

ROUNDS = 7
TEXT = "x" * 200
EXECUTIONS = 1000
TURNS = 5
CONCURRENCY = 3
"""The executions that a worker carries on at once: few enough that processor time does not count."""


@outlast.activity(name="bench_redis_echo")
async def echo(text: str) -> str:
    """Return the text."""
    return text


@outlast.activity(name="bench_redis_look_up")
async def look_up(text: str) -> str:
    """Return the text, after as long as a quick service takes."""
    await asyncio.sleep(0.02)
    return text


@outlast.activity(name="bench_redis_clock")
async def clock() -> float:
    """Return when it was called."""
    return time.perf_counter()


async def converse(tool: str, turns: int, text: str) -> int:
    def reply(request: ModelRequest) -> MessageOutput | FunctionCall:
        return say("done") if request.turn > turns else call(tool, {"text": text})

    session = outlast.ScriptedSession(reply)
    agent = outlast.Agent(model="none", name="bench", tools=[echo, look_up])
    return (await outlast.Runner.run(agent, "go", session, max_turns=turns + 1)).turns


@outlast.workflow.define(name="bench_redis_turns")
class Turns:
    """A run of an agent that calls a tool in every turn, and the tool answers at once."""

    @outlast.workflow.entrypoint
    async def run(self, turns: int, text: str = TEXT) -> int:
        return await converse("bench_redis_echo", turns, text)


@outlast.workflow.define(name="bench_redis_look_ups")
class LookUps:
    """The same with a tool that takes 20 ms."""

    @outlast.workflow.entrypoint
    async def run(self, turns: int) -> int:
        return await converse("bench_redis_look_up", turns, TEXT)


@outlast.workflow.define(name="bench_redis_begin")
class Begin:
    """Returns the time when its first step began."""

    @outlast.workflow.entrypoint
    async def run(self) -> float:
        return await clock()


async def seconds(awaited: Awaitable[object]) -> float:
    started = time.perf_counter()
    await awaited
    return time.perf_counter() - started


async def appends(url: str) -> tuple[float, float]:
    """Return the seconds for the two appends of a turn, and for two plain XADD of as many bytes."""
    turns, ours, floor = 200, [], []
    settings = RedisSettings.from_url(f"{url}?prefix=appends")
    async with RedisStore(settings) as store, Redis.from_url(url) as client:
        await store.create(NewExecution("x", "w", "f"), b"first")
        [claim] = (await store.claim("bench", ["w"], "default", limit=1, lease_seconds=1e6)).claims

        async def append(position: int) -> None:
            for number in range(2 * turns):
                await store.append(claim, position + 2 * number, [b"x" * 200, b"x" * 300], Commit())

        async def add() -> None:
            for _ in range(2 * turns):
                await client.xadd("floor", {"record": b"x" * 500})

        for number in range(ROUNDS):  # in turn, so that both see the same machine
            ours.append(await seconds(append(1 + number * 4 * turns)) / turns)
            floor.append(await seconds(add()) / turns)
    return statistics.median(ours), statistics.median(floor)


async def turn(url: str) -> tuple[float, float]:
    """Return the seconds for a whole turn here, and in memory."""
    turns, ours, floor = 50, [], []
    async with (
        outlast.connect(url) as backend,
        outlast.connect("memory:") as memory,
        backend.worker([Turns]),
        memory.worker([Turns]),
    ):
        for _ in range(ROUNDS):
            ours.append(await seconds((await backend.start(Turns, turns)).result()) / turns)
            floor.append(await seconds((await memory.start(Turns, turns)).result()) / turns)
    return statistics.median(ours), statistics.median(floor)


async def start_to_step(url: str) -> tuple[float, float]:
    """Return the seconds from an acknowledged start to the first step of an idle worker, and for an XADD."""
    waits, floor = [], []
    async with (
        outlast.connect(url) as backend,
        outlast.connect(url) as working,
        working.worker([Begin]),
        Redis.from_url(url) as client,
    ):
        for _ in range(50):
            execution = await backend.start(Begin)
            acknowledged = time.perf_counter()
            waits.append(await execution.result() - acknowledged)
            floor.append(await seconds(client.xadd("floor", {"record": b"x" * 500})))
            await asyncio.sleep(0.02)
    return statistics.median(waits), statistics.median(floor)


async def bytes_per_turn(server: RedisServer, text: str) -> tuple[float, float]:
    """Return the growth of the server's memory in a turn, and the bytes to keep: reply and result."""
    executions, turns = 50, 20
    async with (
        outlast.connect(f"{server.url()}?prefix=memory-{len(text)}") as backend,
        backend.worker([Turns]),
    ):
        await (await backend.start(Turns, 1, text)).result()
        before = int(server.ask("INFO", "memory")["used_memory"])
        started = [await backend.start(Turns, turns, text) for _ in range(executions)]
        for execution in started:
            await execution.result()
        after = int(server.ask("INFO", "memory")["used_memory"])
        kept = [
            len(encode(event.data.result))
            async for event in started[0].events()
            if isinstance(event.data, (ModelRepliedData, ToolReturnedData))
        ]
    return (after - before) / executions / turns, sum(kept) / turns


def work(url: str) -> None:
    """Run a worker, in a process of the benchmark."""
    worker = outlast.run_worker(
        [LookUps], url, max_concurrent_executions=CONCURRENCY, lease=timedelta(seconds=30)
    )
    asyncio.run(worker)


@asynccontextmanager
async def workers(url: str, number: int, backend: outlast.Backend) -> AsyncIterator[None]:
    processes: list[SpawnProcess] = []
    try:
        for _ in range(number):
            process = multiprocessing.get_context("spawn").Process(target=work, args=(url,))
            process.start()
            processes.append(process)
        while len(await backend.workers()) < number:  # noqa: ASYNC110 - other processes announce themselves
            await asyncio.sleep(0.05)
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            await asyncio.to_thread(process.join)


async def executions_per_second(server: RedisServer, number: int) -> float:
    url = f"{server.url()}?prefix=workers-{number}"
    async with outlast.connect(url) as backend, workers(url, number, backend):
        began = time.perf_counter()
        for _ in range(EXECUTIONS):
            await backend.start(LookUps, TURNS)
        while await backend.list(Where(status="running"), limit=1):  # noqa: ASYNC110 - other processes end them
            await asyncio.sleep(0.05)
        return EXECUTIONS / (time.perf_counter() - began)


async def main() -> None:
    table = Table(title="Redis (Valkey, appendonly yes, everysec)", title_justify="left")
    for column in ("what", "measured", "floor", "ratio", "goal"):
        table.add_column(column, justify="left" if column == "what" else "right")
    options = ServerOptions(append_only=True, settings={"appendfsync": "everysec"})
    with temporary_server(VALKEY, options) as server:
        _row(
            table, "ms for the 2 appends of a turn, beside 2 XADD", await appends(server.url()), 1e3, "≤ 3.00"
        )
        _row(table, "ms for a whole turn, beside one in memory", await turn(server.url()), 1e3, "")
        _row(
            table,
            "ms from start to first step, beside an XADD",
            await start_to_step(server.url()),
            1e3,
            "≤ 5 ms",
        )
    with temporary_server(VALKEY) as server:
        for text in (TEXT, 10 * TEXT):
            taken, kept = await bytes_per_turn(server, text)
            goal = f"≤ {(1.6 * kept + 200) / kept:.2f}"
            _row(table, "bytes of memory per turn, beside reply and result", (taken, kept), 1, goal)
    with temporary_server(VALKEY, options) as server:
        alone = await executions_per_second(server, 1)
        for number, goal in ((2, ""), (4, "≥ 3.20")):
            what = f"executions/s with {number} workers, beside one (on {os.cpu_count()} processors)"
            _row(table, what, (await executions_per_second(server, number), alone), 1, goal)
    Console(width=120).print(table)


def _row(table: Table, what: str, measured: tuple[float, float], scale: float, goal: str) -> None:
    ours, floor = measured
    table.add_row(what, f"{ours * scale:.2f}", f"{floor * scale:.2f}", f"{ours / floor:.2f}", goal)


if __name__ == "__main__":
    asyncio.run(main())
