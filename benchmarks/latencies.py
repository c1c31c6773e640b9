"""The time until something happens: after a decision, a start, a kill; and with payloads.

The model is scripted and in this process, so a decision is the moment at which its function returns.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import outlast
from benchmarks.figures import Figure
from outlast.adapters.scripted import Reply, call, say
from outlast.ports.llm import ModelRequest

LEASE_SECONDS = 1.0
STEP_SECONDS = 0.05

_decided: list[float] = []
_waits: list[float] = []


@outlast.activity(name="bench_take")
async def take(text: str) -> str:
    """Note how long the decision to call this is ago; return the text."""
    _waits.append(time.perf_counter() - _decided[-1])
    return text


agent = outlast.Agent(model="none", name="bench", tools=[take])


@outlast.workflow.define(name="bench_payload")
class Payload:
    """A run of so many turns, in each of which the tool returns so many bytes."""

    @outlast.workflow.entrypoint
    async def run(self, turns: int, size: int) -> int:
        def reply(request: ModelRequest) -> Reply:
            _decided.append(time.perf_counter())
            return say("done") if request.turn > turns else call("bench_take", {"text": "x" * size})

        session = outlast.ScriptedSession(reply)
        return (await outlast.Runner.run(agent, "go", session, max_turns=turns + 1)).turns


async def decision_to_effect(urls: dict[str, str], turns: int) -> list[Figure]:
    """Measure from the moment at which the model has decided to the first line of the tool."""
    figures = []
    for name, url in urls.items():
        async with outlast.connect(url) as backend, backend.worker([Payload]):
            await (await backend.start(Payload, 5, 200)).result()
            _waits.clear()
            await (await backend.start(Payload, turns, 200)).result()
        figures.append(
            Figure("From a decision to its effect", name, "ms", tuple(wait * 1e3 for wait in _waits))
        )
    return figures


async def payloads(urls: dict[str, str], sizes: tuple[int, ...], rounds: int) -> list[Figure]:
    """Measure a turn whose call and result have so many bytes each."""
    figures = []
    turns = 5
    for name, url in urls.items():
        async with outlast.connect(url) as backend, backend.worker([Payload]):
            for size in sizes:
                samples = []
                for _ in range(rounds):
                    began = time.perf_counter()
                    await (await backend.start(Payload, turns, size)).result()
                    samples.append((time.perf_counter() - began) * 1e3 / turns)
                figures.append(
                    Figure(
                        "One turn, by the size of the call and of its result",
                        f"{name}, {_bytes(size)}",
                        "ms",
                        tuple(samples),
                    )
                )
    return figures


@outlast.activity(name="bench_nothing")
async def nothing() -> None:
    """Take no time."""


@outlast.workflow.define(name="bench_long")
class Long:
    """So many steps; then it answers questions."""

    @outlast.workflow.entrypoint
    async def run(self, steps: int) -> None:
        for _ in range(steps):
            await nothing()
        await outlast.workflow.wait_condition(lambda: False)

    @outlast.workflow.update
    def answer(self) -> None:
        pass


async def replay(steps: int, rounds: int) -> list[Figure]:
    """Measure how long a worker replays so many steps, and the longest time in which it does nothing else."""
    whole, standstill = [], []
    async with outlast.connect("memory:") as backend:
        execution = await backend.start(Long, steps)
        async with backend.worker([Long]):
            done = 0
            async for event in execution.events():
                done += event.kind == outlast.EventKind.ACTIVITY_COMPLETED
                if done == steps:
                    break
        # As `outlast worker` does before it begins.
        gc.collect()
        gc.freeze()
        for _ in range(rounds):
            async with backend.worker([Long]):
                began = time.perf_counter()
                watching = asyncio.create_task(_longest_standstill())
                await execution.update("answer")
                whole.append((time.perf_counter() - began) * 1e3)
                watching.cancel()
                standstill.append(await watching * 1e3)
        gc.unfreeze()
    return [
        Figure(f"A worker replays {steps} steps", "in all, memory", "ms", tuple(whole)),
        Figure(f"A worker replays {steps} steps", "the longest standstill", "ms", tuple(standstill)),
    ]


async def _longest_standstill() -> float:
    """Return the longest time between two turns of the loop, in seconds, once this is cancelled."""
    longest = 0.0
    with suppress(asyncio.CancelledError):
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0)
            longest = max(longest, time.perf_counter() - before)
    return longest


def _bytes(size: int) -> str:
    for unit in ("B", "KB"):
        if size < 1000:
            return f"{size} {unit}"
        size //= 1000
    return f"{size} MB"


# In processes of their own ---------------------------------------------------------------------------------


@outlast.activity(name="bench_say_when", retry_policy_max_attempts=10)
async def say_when(seconds: float) -> None:
    """Print which process does this, and when."""
    print(json.dumps({"process": os.getpid(), "at": time.time()}), flush=True)
    await asyncio.sleep(seconds)


@outlast.workflow.define(name="bench_say_when")
class SayWhen:
    """So many steps, one after the other."""

    @outlast.workflow.entrypoint
    async def run(self, steps: int, seconds: float) -> None:
        for _ in range(steps):
            await say_when(seconds)


async def work(url: str) -> None:
    """Be a worker process."""
    async with (
        outlast.connect(url) as backend,
        backend.worker([SayWhen], lease=timedelta(seconds=LEASE_SECONDS)),
    ):
        print(json.dumps({"process": os.getpid(), "ready": True}), flush=True)
        await asyncio.Event().wait()


class Crew:
    """Worker processes, and what they print."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._readers: list[asyncio.Task[None]] = []

    async def begin(self) -> int:
        """Begin a process, and return its id."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.latencies", self._url), stdout=subprocess.PIPE
        )
        self._processes[process.pid] = process
        self._readers.append(asyncio.create_task(self._read(process)))
        return process.pid

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            await self._said.put(json.loads(line))

    async def said(self, key: str, *, but: int | None = None) -> dict[str, Any]:
        """Return the next line that has `key` and is not from the process `but`."""
        async with asyncio.timeout(120):
            while True:
                line = await self._said.get()
                if key in line and line["process"] != but:
                    return line

    async def kill(self, process_id: int) -> float:
        """Kill a process at once; return when."""
        process = self._processes.pop(process_id)
        at = time.time()
        process.send_signal(signal.SIGKILL)
        await process.wait()
        return at

    async def close(self) -> None:
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        await asyncio.gather(*self._readers)


@asynccontextmanager
async def crew(url: str) -> AsyncIterator[Crew]:
    """Yield processes that end with the block."""
    made = Crew(url)
    try:
        yield made
    finally:
        await made.close()


async def start_to_effect(url: str, times: int) -> list[Figure]:
    """Measure from the start of a worker's process to the first effect of an execution that waits for it."""
    ours, floor = [], []
    async with outlast.connect(url) as backend:
        for _ in range(times):
            began = time.perf_counter()
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", "pass")
            await process.wait()
            floor.append((time.perf_counter() - began) * 1e3)
            execution = await backend.start(SayWhen, 1, 0.0, id=f"start-{uuid.uuid4().hex}")
            async with crew(url) as processes:
                at = time.time()
                await processes.begin()
                ours.append(((await processes.said("at"))["at"] - at) * 1e3)
                await execution.result()
    group = "From the start of a process to its first effect"
    return [
        Figure(group, "python -c pass", "ms", tuple(floor), "floor"),
        Figure(group, "Outlast, SQLite", "ms", tuple(ours), floor="python -c pass"),
    ]


async def kill_to_step(url: str, kills: int) -> list[Figure]:
    """Measure from the SIGKILL of a worker to the next step of its execution, on another worker."""
    samples = []
    async with outlast.connect(url) as backend, crew(url) as processes:
        for _ in range(2):
            await processes.begin()
            await processes.said("ready")
        for _ in range(kills):
            execution = await backend.start(SayWhen, 5, STEP_SECONDS, id=f"kill-{uuid.uuid4().hex}")
            victim = (await processes.said("at"))["process"]
            at = await processes.kill(victim)
            samples.append(((await processes.said("at", but=victim))["at"] - at) * 1e3)
            await execution.result()
            await processes.begin()
            await processes.said("ready")
    name = f"Outlast, SQLite, lease {LEASE_SECONDS:g} s"
    return [Figure("From a kill to the next step, elsewhere", name, "ms", tuple(samples))]


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1]))
