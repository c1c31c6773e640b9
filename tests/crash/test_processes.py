"""Worker processes on one SQLite file are killed, paused and stopped, at moments that a printed seed chooses.

`DURABLE_AGENTS_KILLS` is the number of rounds of killing, `DURABLE_AGENTS_SEED` repeats one.
"""

from __future__ import annotations

import asyncio
import functools
import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

import durable_agents as da
from tests.crash.program import Gated, Program, work_in_this_process

pytestmark = pytest.mark.crash

# Processes that are forked from one that has imported everything are there at once.
FORK_SERVER = multiprocessing.get_context("forkserver")
FORK_SERVER.set_forkserver_preload(["tests.crash.program"])

LEASE_SECONDS = 1.0
PATIENCE_SECONDS = 60.0
STEPS = 4
ROUNDS = int(
    os.environ.get("DURABLE_AGENTS_KILLS") or (50 if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else 5)
)


class Effects:
    """What attempts did, by the file that they wrote."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> list[tuple[str, int, str, str]]:
        text = self.path.read_text() if self.path.exists() else ""
        split = (line.split("\t") for line in text.splitlines())
        return [(key, int(attempt), what, word) for key, attempt, what, word in split]

    def attempts(self, what: str, word: str = "begin") -> list[int]:
        return [attempt for _, attempt, one, said in self.lines() if (one, said) == (what, word)]

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not holds():  # noqa: ASYNC110 - another process writes the file
                await asyncio.sleep(0.01)

    def check(self) -> None:
        """No attempt was made twice, and none after one that was known to have ended well."""
        begun = [(key, attempt) for key, attempt, _, word in self.lines() if word == "begin"]
        assert [again for again, times in Counter(begun).items() if times > 1] == []


def _has_lines(effects: Effects, least: int) -> bool:
    return len(effects.lines()) >= least


class Processes:
    """The worker processes of one test, all on one file."""

    def __init__(self, directory: Path) -> None:
        self.database = directory / "runs.db"
        self.effects = Effects(directory / "effects")
        self.alive: list[ForkServerProcess] = []

    def begin(self) -> ForkServerProcess:
        process = FORK_SERVER.Process(
            target=work_in_this_process, args=(str(self.database), str(self.effects.path), LEASE_SECONDS)
        )
        process.start()
        self.alive.append(process)
        return process

    async def end(self, process: ForkServerProcess, by: signal.Signals) -> int | None:
        self.send(process, by)
        self.alive.remove(process)
        await asyncio.to_thread(process.join, PATIENCE_SECONDS)
        return process.exitcode

    def send(self, process: ForkServerProcess, what: signal.Signals) -> None:
        assert process.pid is not None
        os.kill(process.pid, what)

    async def close(self) -> None:
        for process in list(self.alive):
            await self.end(process, signal.SIGKILL)


@pytest.fixture
async def processes(tmp_path: Path) -> AsyncIterator[Processes]:
    processes = Processes(tmp_path)
    try:
        yield processes
    finally:
        await processes.close()


@pytest.fixture
async def backend(processes: Processes) -> AsyncIterator[da.Backend]:
    async with da.connect(f"sqlite:///{processes.database}") as backend:
        yield backend


async def kinds(execution: da.Execution) -> Counter[str]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return Counter([event.kind async for event in execution.events()])


@pytest.mark.parametrize("round_number", range(ROUNDS))
async def test_d7_workers_killed_at_any_moment_lose_nothing_and_repeat_nothing(
    round_number: int, processes: Processes, backend: da.Backend
) -> None:
    seed = int(os.environ.get("DURABLE_AGENTS_SEED") or random.randrange(2**32))
    print(f"round {round_number}, DURABLE_AGENTS_SEED={seed}")
    chance = random.Random(seed)
    executions = [await backend.start(Program, STEPS, id=f"x-{number}") for number in range(2)]
    for execution in executions:
        for letter in range(3):
            await execution.signal("put", letter)
    processes.begin()
    processes.begin()
    results = asyncio.gather(*(execution.result() for execution in executions))
    for _ in range(2):
        await processes.effects.until(lambda: bool(processes.effects.lines()))
        await asyncio.wait([results], timeout=chance.uniform(0.0, 0.5))
        await processes.end(chance.choice(processes.alive), signal.SIGKILL)
        processes.begin()
    async with asyncio.timeout(PATIENCE_SECONDS):
        expected = [f"first {step} done" for step in range(STEPS)]
        expected += [f"at once {step} done" for step in range(STEPS)]
        expected += [f"in a thread {step} done" for step in range(STEPS)]
        assert await results == [[*expected, "0", "1", "2", "last done"]] * 2
    processes.effects.check()
    for execution in executions:
        counted = await kinds(execution)
        assert counted["activity_completed"] == counted["activity_started"] == 3 * STEPS + 1
        assert (counted["signal_received"], counted["timer_fired"]) == (3, 1)


async def test_d7_another_worker_takes_over_within_the_lease_time(
    processes: Processes, backend: da.Backend
) -> None:
    execution = await backend.start(Gated, id="x")
    first = processes.begin()
    await processes.effects.until(lambda: processes.effects.attempts("gate") == [1])
    processes.begin()
    await processes.end(first, signal.SIGKILL)
    killed_at = time.time()
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for event in execution.events():
            if event.kind == "execution_recovered":
                # The rest is the slowness of a machine that has other things to do.
                assert event.at.timestamp() - killed_at <= LEASE_SECONDS + 2.0
                break
        processes.effects.path.with_name("gate").touch()
        assert await execution.result() == ["before done", "gate done", "after done"]
    assert processes.effects.attempts("gate") == [1, 2]
    assert processes.effects.attempts("before") == processes.effects.attempts("after") == [1]


async def test_d6_a_worker_that_is_paused_past_its_lease_changes_nothing_afterwards(
    processes: Processes, backend: da.Backend
) -> None:
    execution = await backend.start(Gated, id="x")
    paused = processes.begin()
    await processes.effects.until(lambda: processes.effects.attempts("gate") == [1])
    processes.send(paused, signal.SIGSTOP)
    processes.begin()
    await processes.effects.until(lambda: processes.effects.attempts("gate") == [1, 2])
    processes.effects.path.with_name("gate").touch()
    async with asyncio.timeout(PATIENCE_SECONDS):
        result = await execution.result()
        told = [event async for event in execution.events()]
        processes.send(paused, signal.SIGCONT)
        await processes.effects.until(lambda: len(processes.effects.attempts("gate", "end")) == 2)
        assert await processes.end(paused, signal.SIGTERM) == 0
        assert await execution.result() == result == ["before done", "gate done", "after done"]
        assert [event async for event in execution.events()] == told
    assert processes.effects.attempts("before") == processes.effects.attempts("after") == [1]


async def test_d15_workers_that_are_asked_to_stop_hand_over_and_repeat_nothing(
    processes: Processes, backend: da.Backend
) -> None:
    executions = [await backend.start(Program, STEPS, id=f"x-{number}") for number in range(3)]
    for execution in executions:
        for letter in range(3):
            await execution.signal("put", letter)
    results = asyncio.gather(*(execution.result() for execution in executions))
    for _ in range(2):
        begun = len(processes.effects.lines())
        process = processes.begin()
        await processes.effects.until(functools.partial(_has_lines, processes.effects, begun + 8))
        assert await processes.end(process, signal.SIGTERM) == 0
    processes.begin()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await results
    assert {attempt for _, attempt, _, _ in processes.effects.lines()} == {1}
    processes.effects.check()
    for execution in executions:
        assert (await kinds(execution))["execution_recovered"] == 0
