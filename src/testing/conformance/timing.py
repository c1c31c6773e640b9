"""The cost of a turn, and the time from the death of a worker to the next step."""

from __future__ import annotations

import asyncio
import signal
import tempfile
import time
from pathlib import Path

from outlast.testing.conformance.scoreboard import Timing
from outlast.testing.contracts.crash.contract import CrashContract, new_id
from outlast.testing.contracts.crash.effects import PATIENCE_SECONDS
from outlast.testing.contracts.crash.processes import Connect, Processes
from outlast.testing.contracts.crash.programs import GatedProgram, Program, Turns

TURNS = (20, 100)
ROUNDS = 3


async def milliseconds_per_turn(connect: Connect, url: str, turns: int) -> float:
    """Run an agent for so many turns, each with one tool call, several times; return the least cost."""
    costs = []
    for _ in range(ROUNDS):
        async with connect(url) as backend, backend.worker([Turns]):
            began = time.perf_counter()
            execution = await backend.start(Turns, turns, id=new_id())
            await execution.result()
            costs.append((time.perf_counter() - began) * 1000 / turns)
    return min(costs)


async def recovery_seconds(processes: Processes, connect: Connect) -> float:
    """Kill a worker in a step while another one is idle; return the time until that step begins again."""
    effects = processes.effects
    async with connect(processes.url) as backend:
        execution = await backend.start(GatedProgram, id=new_id())
        worker = processes.begin()
        await effects.until(lambda: effects.attempts("gate") == [1])
        other = processes.begin()
        async with asyncio.timeout(PATIENCE_SECONDS):
            # Its start-up must not count, so it first has to show that it works.
            while other.pid not in effects.processes():
                trial = await backend.start(Program, 0, id=new_id())
                for letter in range(3):
                    await trial.signal("put", letter)
                await trial.result()
        killed_at = time.perf_counter()
        processes.send(worker, signal.SIGKILL)
        await effects.until(lambda: len(effects.attempts("gate")) == 2)
        taken = time.perf_counter() - killed_at
        effects.open_gate("gate")
        async with asyncio.timeout(PATIENCE_SECONDS):
            await execution.result()
    return taken


async def timing_of(suite: type[CrashContract]) -> Timing:
    """Measure on a fresh place of the crash suite."""
    costs: dict[int, float] = {}
    with tempfile.TemporaryDirectory(prefix="outlast-") as folder:
        async with suite.new_place() as url:
            for turns in TURNS:
                costs[turns] = await milliseconds_per_turn(suite.connect, url, turns)
        async with suite.new_place() as url:
            lease_seconds = suite.lease_seconds
            processes = Processes(url, Path(folder), connect=suite.connect, lease_seconds=lease_seconds)
            try:
                recovery = await recovery_seconds(processes, suite.connect)
            finally:
                await processes.close()
    return Timing(suite.__name__, costs, recovery, suite.lease_seconds)
