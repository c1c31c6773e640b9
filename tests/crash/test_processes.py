"""Worker processes on one SQLite file, or on one server, are killed, paused and stopped.

The moments are chosen by a seed that is printed: `OUTLAST_KILLS` is the number of rounds of killing,
`OUTLAST_SEED` repeats one.
"""

from __future__ import annotations

import asyncio
import functools
import os
import random
import signal
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import outlast
from outlast.testing.contracts.durability.poison import DEATHS
from tests.adapters.redis_servers import VALKEY, shared_server
from tests.crash.processes import LEASE_SECONDS, PATIENCE_SECONDS, Effects, Processes
from tests.crash.program import Asking, Gated, Poison, Program

pytestmark = pytest.mark.crash

STEPS = 4
ROUNDS = int(
    os.environ.get("OUTLAST_KILLS") or (50 if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else 3)
)


def _has_lines(effects: Effects, least: int) -> bool:
    return len(effects.lines()) >= least


@pytest.fixture(params=["sqlite", VALKEY], ids=str)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'runs.db'}"
    return f"{shared_server(request.param).url()}?prefix={uuid.uuid4().hex}"


@pytest.fixture
async def processes(url: str, tmp_path: Path) -> AsyncIterator[Processes]:
    processes = Processes(url, tmp_path)
    try:
        yield processes
    finally:
        await processes.close()


@pytest.fixture
async def backend(processes: Processes) -> AsyncIterator[outlast.Backend]:
    async with outlast.connect(processes.url) as backend:
        yield backend


async def kinds(execution: outlast.Execution) -> Counter[str]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return Counter([event.kind async for event in execution.events()])


@pytest.mark.parametrize("round_number", range(ROUNDS))
async def test_d7_workers_killed_at_any_moment_lose_nothing_and_repeat_nothing(
    round_number: int, processes: Processes, backend: outlast.Backend
) -> None:
    seed = int(os.environ.get("OUTLAST_SEED") or random.randrange(2**32))
    print(f"round {round_number}, OUTLAST_SEED={seed}")
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
    processes: Processes, backend: outlast.Backend
) -> None:
    execution = await backend.start(Gated, id="x")
    first = processes.begin()
    await processes.effects.until(lambda: processes.effects.attempts("gate") == [1])
    processes.begin()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(await backend.workers()) < 2:  # noqa: ASYNC110 - the other process announces itself
            await asyncio.sleep(0.01)
    await processes.end(first, signal.SIGKILL)
    killed_at = time.time()
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for event in execution.events():
            if event.kind == "execution_recovered":
                # The rest is the slowness of a machine that has other things to do.
                assert event.at.timestamp() - killed_at <= LEASE_SECONDS + 4.0
                break
        processes.effects.path.with_name("gate").touch()
        assert await execution.result() == ["before done", "gate done", "after done"]
    assert processes.effects.attempts("gate") == [1, 2]
    assert processes.effects.attempts("before") == processes.effects.attempts("after") == [1]


@pytest.mark.parametrize("how", ["exit", "segmentation fault"])
async def test_d19_an_execution_that_ends_its_processes_is_held_and_others_complete(
    how: str, processes: Processes, backend: outlast.Backend
) -> None:
    async def supervise() -> None:
        while True:
            processes.supervise()
            await asyncio.sleep(0.02)

    poison = await backend.start(Poison, how, id="poison")
    others = [await backend.start(Program, STEPS, id=f"x-{number}") for number in range(3)]
    for other in others:
        for letter in range(3):
            await other.signal("put", letter)
    processes.begin()
    processes.begin()
    supervising = asyncio.create_task(supervise())
    try:
        async with asyncio.timeout(2 * PATIENCE_SECONDS):
            while not (await poison.describe()).held:  # noqa: ASYNC110 - another process holds it
                await asyncio.sleep(0.05)
            await asyncio.gather(*(other.result() for other in others))
            assert processes.effects.attempts(how) == list(range(1, DEATHS + 1))
            reason = (await poison.describe()).error
            assert reason is not None
            assert f"{DEATHS} workers" in reason
            assert "crash_end_process" in reason
            processes.effects.path.with_name("mended").touch()
            assert await poison.resume()
            assert await poison.result() == ["before done", f"{how} done", "after done"]
    finally:
        supervising.cancel()
    counted = await kinds(poison)
    assert (counted["execution_held"], counted["execution_resumed"]) == (1, 1)
    assert processes.effects.attempts("before") == processes.effects.attempts("after") == [1]


async def test_d17_decisions_outlive_the_workers_that_asked_for_them(
    processes: Processes, backend: outlast.Backend
) -> None:
    execution = await backend.start(Asking, id="x")
    first = processes.begin()
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for event in execution.events():
            if event.kind == "approval_requested" and len(await execution.pending()) == 2:
                break
    await processes.end(first, signal.SIGKILL)
    one, other = await execution.pending()
    await execution.decide(one.call_id, "allow", "fine")
    await execution.decide(other.call_id, "deny", "never")
    second = processes.begin()
    await processes.effects.until(lambda: processes.effects.attempts("one") == [1])
    await processes.end(second, signal.SIGKILL)
    processes.effects.path.with_name("gate").touch()
    processes.begin()
    async with asyncio.timeout(PATIENCE_SECONDS):
        made, denied = await execution.result()
    assert made == "one done"
    assert "never" in denied
    assert processes.effects.attempts("one") == [1, 2]
    assert processes.effects.attempts("other") == []
    counted = await kinds(execution)
    assert (counted["approval_given"], counted["approval_denied"], counted["tool_called"]) == (1, 1, 1)


async def test_d18_an_update_is_answered_once_though_its_worker_and_a_caller_are_killed(
    processes: Processes, backend: outlast.Backend
) -> None:
    execution = await backend.start(Gated, id="x")
    caller = asyncio.create_task(execution.update("pass_another", "door", id="u"))
    first = processes.begin()
    await processes.effects.until(lambda: processes.effects.attempts("door") == [1])
    await processes.end(first, signal.SIGKILL)
    caller.cancel()
    processes.begin()
    await processes.effects.until(lambda: processes.effects.attempts("door") == [1, 2])
    processes.effects.path.with_name("door").touch()
    async with asyncio.timeout(PATIENCE_SECONDS):
        async with outlast.connect(processes.url) as another:
            again = await another.get("x")
            assert await again.update("pass_another", "door", id="u") == "door done"
        processes.effects.path.with_name("gate").touch()
        assert await execution.result() == ["before done", "gate done", "after done"]
        assert await execution.update("pass_another", "door", id="u") == "door done"
    processes.effects.check()
    counted = await kinds(execution)
    assert (counted["update_accepted"], counted["update_completed"]) == (1, 1)


async def test_d6_a_worker_that_is_paused_past_its_lease_changes_nothing_afterwards(
    processes: Processes, backend: outlast.Backend
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
        events = [event async for event in execution.events()]
        processes.send(paused, signal.SIGCONT)
        await processes.effects.until(lambda: len(processes.effects.attempts("gate", "end")) == 2)
        assert await processes.end(paused, signal.SIGTERM) == 0
        assert await execution.result() == result == ["before done", "gate done", "after done"]
        assert [event async for event in execution.events()] == events
    assert processes.effects.attempts("before") == processes.effects.attempts("after") == [1]


async def test_d15_workers_that_are_asked_to_stop_hand_over_and_repeat_nothing(
    processes: Processes, backend: outlast.Backend
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
