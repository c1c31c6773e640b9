"""The Temporal table: turns on a real server, against the same number of bare activities in the same run."""

from __future__ import annotations

import asyncio
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

import outlast
from outlast.adapters.scripted import Reply, call, say
from outlast.adapters.temporal import TemporalBackend
from outlast.ports.llm import ModelRequest
from outlast.testing.mistral_server import Call, MistralServer, Say, ScriptedModel

ROUNDS = 5
QUEUE = "bench"
KEY = "no-secret"
RESULT = "x" * 200

# The dev server holds tasks back unless an option forbids it.
SETTINGS = ("history.transferProcessorMaxPollRPS=100000", "history.timerProcessorMaxPollRPS=100000")


@outlast.activity(name="bench_temporal_echo")
async def echo(text: str) -> str:
    """Return the text."""
    return text


@outlast.activity(name="bench_temporal_glance", local=True)
async def glance(text: str) -> str:
    """Return the text, as a local activity."""
    return text


def _agent(tool: Any = echo) -> outlast.Agent:
    return outlast.Agent(model="none", name="bench", tools=[tool])


@outlast.workflow.define(name="bench_temporal_turns")
class Turns:
    """One run of an agent that calls one tool a turn, on a script."""

    @outlast.workflow.entrypoint
    async def run(self, turns: int, local: bool = False) -> int:
        tool = glance if local else echo

        def reply(request: ModelRequest) -> Reply:
            return say("done") if request.turn == turns else call(tool.definition.name, {"text": RESULT})

        session = outlast.ScriptedSession(reply)
        return (await outlast.Runner.run(_agent(tool), "go", session, max_turns=turns)).turns


@outlast.workflow.define(name="bench_temporal_local")
class LocalTurns:
    """The same with a model behind HTTP, whose conversation is kept in the history."""

    @outlast.workflow.entrypoint
    async def run(self, turns: int, server_url: str) -> int:
        session = outlast.LocalSession(server_url=server_url, api_key=KEY)
        return (await outlast.Runner.run(_agent(), "go", session, max_turns=turns)).turns


@activity.defn(name="bench_bare_echo")
async def bare_echo(text: str) -> str:
    return text


@workflow.defn(name="bench_bare", sandboxed=False)
class Bare:
    """The floor: as many activities, one after the other, by Temporal's own SDK alone."""

    @workflow.run
    async def run(self, activities: int) -> int:
        for _ in range(activities):
            await workflow.execute_activity(
                bare_echo,
                RESULT,
                start_to_close_timeout=timedelta(minutes=5),
                heartbeat_timeout=timedelta(seconds=10),
            )
        return activities


@asynccontextmanager
async def server(folder: Path) -> AsyncIterator[str]:
    """Run Temporal's dev server on a file; yield host and port."""
    executable = shutil.which("temporal") or str(Path(sys.executable).parent / "temporal")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [option for setting in SETTINGS for option in ("--dynamic-config-value", setting)]
    process = await asyncio.create_subprocess_exec(
        *(executable, "server", "start-dev", "--headless", "--log-level", "error"),
        *("--ip", "127.0.0.1", "--port", str(port), "--db-filename", str(folder / "temporal.db")),
        *("--sqlite-pragma", "journal_mode=wal", "--sqlite-pragma", "synchronous=off", *options),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(30):
            while True:
                try:
                    async with outlast.connect(f"temporal://127.0.0.1:{port}/default") as backend:
                        await backend.list(limit=1)
                    break
                except outlast.StorageError:
                    await asyncio.sleep(0.1)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


async def seconds(awaited: Awaitable[object]) -> float:
    started = time.perf_counter()
    await awaited
    return time.perf_counter() - started


async def at_once(run: Callable[[], Awaitable[object]], times: int, concurrency: int) -> None:
    gate = asyncio.Semaphore(concurrency)

    async def one() -> None:
        async with gate:
            await run()

    async with asyncio.TaskGroup() as group:
        for _ in range(times):
            group.create_task(one())


async def history(client: Client, workflow_id: str) -> tuple[int, int]:
    """Return the number of events and of bytes."""
    events = (await client.get_workflow_handle(workflow_id).fetch_history()).events
    return len(events), sum(len(event.SerializeToString()) for event in events)


async def main() -> None:
    table = Table(title="Temporal: a turn is a model call and a tool call", title_justify="left")
    for column in ("what", "measured", "floor", "ratio"):
        table.add_column(column, justify="left" if column == "what" else "right")
    with tempfile.TemporaryDirectory() as folder:
        async with (
            server(Path(folder)) as address,
            outlast.connect(f"temporal://{address}/default") as backend,
        ):
            assert isinstance(backend, TemporalBackend)
            await measure(backend, table)
    Console().print(table)


async def measure(backend: TemporalBackend, table: Table) -> None:
    bare = Worker(
        backend.client,
        task_queue=f"{QUEUE}-bare",
        workflows=[Bare],
        activities=[bare_echo],
        workflow_runner=UnsandboxedWorkflowRunner(),
    )
    async with bare, backend.worker([Turns, LocalTurns], task_queue=QUEUE):

        async def run(turns: int, local: bool = False) -> object:
            return await (await backend.start(Turns, turns, local, task_queue=QUEUE)).result()

        async def run_bare(activities: int) -> object:
            return await backend.client.execute_workflow(
                Bare.run, activities, id=uuid.uuid4().hex, task_queue=f"{QUEUE}-bare"
            )

        await run(2)
        await run_bare(2)
        turns = 20
        ours, locally, floor = list[float](), list[float](), list[float]()
        for _ in range(ROUNDS):  # in turn, so that all see the same machine
            ours.append(await seconds(run(turns)) / turns)
            floor.append(await seconds(run_bare(2 * turns - 1)) / turns)
            locally.append(await seconds(run(turns, True)) / turns)
        _row(table, f"ms per turn, {turns} turns", ours, floor, 1e3)
        _row(table, "    with the tool as a local activity", locally, floor, 1e3)
        ours, floor = [], []
        for _ in range(3):
            ours.append(await seconds(at_once(lambda: run(5), 200, 50)))
            floor.append(await seconds(at_once(lambda: run_bare(9), 200, 50)))
        _row(table, "s for 200 executions of 5 turns, 50 at once", ours, floor, 1)
        for turns in (100, 400):
            asks = [Call("bench_temporal_echo", {"text": RESULT})]
            with MistralServer(ScriptedModel([asks] * (turns - 1) + [[Say("done")]]), api_key=KEY) as mistral:
                execution = await backend.start(LocalTurns, turns, mistral.url, task_queue=QUEUE)
                await execution.result()
            workflow_id = uuid.uuid4().hex
            await backend.client.execute_workflow(
                Bare.run, 2 * turns - 1, id=workflow_id, task_queue=f"{QUEUE}-bare"
            )
            events, size = await history(backend.client, execution.id)
            bare_events, bare_size = await history(backend.client, workflow_id)
            table.add_row(
                f"history of {turns} turns, LocalSession: MB",
                f"{size / 1e6:.2f}",
                f"{bare_size / 1e6:.2f}",
                f"{size / bare_size:.2f}",
            )
            table.add_row(
                "    bytes per turn",
                f"{size / turns:.0f}",
                f"{bare_size / turns:.0f}",
                f"{size / bare_size:.2f}",
            )
            table.add_row(
                "    events per turn",
                f"{events / turns:.1f}",
                f"{bare_events / turns:.1f}",
                f"{events / bare_events:.2f}",
            )


def _row(table: Table, what: str, ours: list[float], floor: list[float], scale: float) -> None:
    measured, least = statistics.median(ours), statistics.median(floor)
    table.add_row(what, f"{measured * scale:.2f}", f"{least * scale:.2f}", f"{measured / least:.2f}")


if __name__ == "__main__":
    asyncio.run(main())
