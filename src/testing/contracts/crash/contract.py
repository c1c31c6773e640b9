"""The crash suite: real worker processes are killed, paused and stopped. Inherit it, and say where.

    class TestMyBackendUnderCrashes(CrashContract):
        new_place = temporary_file

`new_place` returns an async context manager; it gives the URL of a place that several processes can open, and
in which no worker is alive, and removes what it has made afterwards. If the scheme of the URL is not
registered, `connect` names the function that makes a backend of it; as it runs in other processes, it stands
at the top of a module.

The other suites imitate the end of a process inside one. Here it is real: SIGKILL between and inside steps,
SIGSTOP past the lease, SIGTERM, and SIGKILL while a store writes. The moments are chosen by a seed that is
printed; `OUTLAST_SEED` repeats it, and `OUTLAST_KILLS` is the number of rounds.
"""

from __future__ import annotations

import asyncio
import functools
import os
import random
import signal
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import ClassVar

import pytest

from outlast.composition.backends import connect
from outlast.core.events import EventKind
from outlast.ports.durability.backend import Backend
from outlast.ports.durability.execution import Execution
from outlast.testing.contracts.asyncio_tests import AsyncioTests
from outlast.testing.contracts.crash.effects import PATIENCE_SECONDS, Effects
from outlast.testing.contracts.crash.processes import FORK_SERVER, LEASE_SECONDS, Processes
from outlast.testing.contracts.crash.programs import (
    Asking,
    GatedProgram,
    PoisonProgram,
    Program,
    result_of_program,
)
from outlast.testing.contracts.crash.writers import (
    RECORDS_AT_ONCE,
    append_for_ever,
    created,
    records_after,
    store_of,
)
from outlast.testing.contracts.durability.poison import DEATHS
from outlast.testing.contracts.durability.storage import ALL, BackendCapability

STEPS = 4
ROUNDS = int(
    os.environ.get("OUTLAST_KILLS") or (50 if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else 3)
)
RESULT_OF_GATED = ["before done", "gate done", "after done"]


class CrashContract(AsyncioTests):
    """Every backend that several processes can open passes all tests, except those of what it lacks."""

    new_place: ClassVar[Callable[[], AbstractAsyncContextManager[str]]]
    connect: ClassVar[staticmethod[[str], Backend]] = staticmethod(connect)
    capabilities: ClassVar[frozenset[BackendCapability]] = ALL
    """Only `HOLDS` and `LISTS_WORKERS` are asked for."""
    lease_seconds: ClassVar[float] = LEASE_SECONDS
    slack_seconds: ClassVar[float] = 4.0
    """The time that a takeover may take beyond the lease, on a machine that has other things to do."""

    @pytest.fixture
    async def url(self) -> AsyncIterator[str]:
        if sys.platform == "win32":
            pytest.skip("Windows has no SIGKILL and no SIGSTOP")
        async with type(self).new_place() as url:
            yield url

    @pytest.fixture
    async def processes(self, url: str, tmp_path: Path) -> AsyncIterator[Processes]:
        processes = Processes(url, tmp_path, connect=type(self).connect, lease_seconds=self.lease_seconds)
        try:
            yield processes
        finally:
            await processes.close()

    @pytest.fixture
    async def backend(self, url: str) -> AsyncIterator[Backend]:
        async with type(self).connect(url) as backend:
            yield backend

    @pytest.fixture
    def chance(self) -> random.Random:
        seed = int(os.environ.get("OUTLAST_SEED") or random.randrange(2**32))
        print(f"OUTLAST_SEED={seed}")
        return random.Random(seed)

    def require(self, capability: BackendCapability) -> None:
        if capability not in self.capabilities:
            pytest.skip(f"this backend does not promise that {capability.value}")

    # The store, without the engine -----------------------------------------------------------------------

    @pytest.mark.parametrize("round_number", range(ROUNDS))
    async def test_j3_j5_what_was_acknowledged_before_a_kill_is_kept_and_no_append_is_half_there(
        self, round_number: int, url: str, backend: Backend, chance: random.Random
    ) -> None:
        store = store_of(backend)
        if store is None:
            pytest.skip("this backend has an engine of its own, and no store")
        claim = await created(store, new_id())
        ours, theirs = FORK_SERVER.Pipe(duplex=False)
        arguments = (type(self).connect, url, claim, theirs)
        writer = FORK_SERVER.Process(target=append_for_ever, args=arguments)
        writer.start()
        theirs.close()
        try:
            assert await asyncio.to_thread(ours.poll, PATIENCE_SECONDS), "the writer appended nothing"
            await asyncio.sleep(chance.uniform(0.0, 0.2))
        finally:
            writer.kill()
            await asyncio.to_thread(writer.join, PATIENCE_SECONDS)
        acknowledged = 0
        while True:
            try:
                acknowledged = ours.recv()
            except (EOFError, OSError):
                break
        async with type(self).connect(url) as another:
            seen = store_of(another)
            assert seen is not None
            records = list(await seen.read(claim.execution_id))
            head = await seen.head(claim.execution_id)
        appends = (len(records) - 1) // RECORDS_AT_ONCE
        assert appends in (acknowledged, acknowledged + 1)
        assert records == records_after(appends)
        assert head is not None
        assert (head.length, head.overview) == (len(records), str(appends))

    # The engine on it ------------------------------------------------------------------------------------

    @pytest.mark.parametrize("round_number", range(ROUNDS))
    async def test_d7_workers_killed_at_any_moment_lose_nothing_and_repeat_nothing(
        self, round_number: int, processes: Processes, backend: Backend, chance: random.Random
    ) -> None:
        executions = await self.begun(backend, 2)
        processes.begin()
        processes.begin()
        results = asyncio.gather(*(execution.result() for execution in executions))
        for _ in range(2):
            await processes.effects.until(lambda: bool(processes.effects.lines()))
            await asyncio.wait([results], timeout=chance.uniform(0.0, 0.5))
            await processes.end(chance.choice(processes.alive), signal.SIGKILL)
            processes.begin()
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await results == [result_of_program(STEPS)] * 2
        processes.effects.check()
        for execution in executions:
            counted = await kinds(execution)
            assert (
                counted[EventKind.ACTIVITY_COMPLETED] == counted[EventKind.ACTIVITY_STARTED] == 3 * STEPS + 1
            )
            assert (counted[EventKind.SIGNAL_RECEIVED], counted[EventKind.TIMER_FIRED]) == (3, 1)

    async def test_d7_a_worker_killed_in_every_step_in_turn_repeats_that_step_alone(
        self, processes: Processes, backend: Backend
    ) -> None:
        execution = await backend.start(GatedProgram, id=new_id())
        for life in (1, 2, 3):
            process = processes.begin()
            await processes.effects.until(functools.partial(_has_attempts, processes.effects, "gate", life))
            await processes.end(process, signal.SIGKILL)
        processes.effects.open_gate("gate")
        processes.begin()
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await execution.result() == RESULT_OF_GATED
        assert processes.effects.attempts("gate") == [1, 2, 3, 4]
        assert processes.effects.attempts("before") == processes.effects.attempts("after") == [1]

    async def test_d7_another_worker_takes_over_within_the_lease_time(
        self, processes: Processes, backend: Backend
    ) -> None:
        self.require(BackendCapability.LISTS_WORKERS)
        execution = await backend.start(GatedProgram, id=new_id())
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
                if event.kind == EventKind.EXECUTION_RECOVERED:
                    taken = event.at.timestamp() - killed_at
                    assert taken <= self.lease_seconds + self.slack_seconds
                    break
            processes.effects.open_gate("gate")
            assert await execution.result() == RESULT_OF_GATED
        assert processes.effects.attempts("gate") == [1, 2]
        assert processes.effects.attempts("before") == processes.effects.attempts("after") == [1]

    async def test_d6_a_worker_that_is_paused_past_its_lease_changes_nothing_afterwards(
        self, processes: Processes, backend: Backend
    ) -> None:
        attempts = processes.effects.attempts
        execution = await backend.start(GatedProgram, id=new_id())
        paused = processes.begin()
        await processes.effects.until(lambda: processes.effects.attempts("gate") == [1])
        processes.send(paused, signal.SIGSTOP)
        processes.begin()
        await processes.effects.until(lambda: processes.effects.attempts("gate") == [1, 2])
        processes.effects.open_gate("gate")
        async with asyncio.timeout(PATIENCE_SECONDS):
            result = await execution.result()
            events = [event async for event in execution.events()]
            processes.send(paused, signal.SIGCONT)
            # Which it notices first is its own affair: that the gate is open, or that its lease is lost.
            await processes.effects.until(
                lambda: 1 in [*attempts("gate", "end"), *attempts("gate", "cancelled")]
            )
            assert await processes.end(paused, signal.SIGTERM) == 0
            assert await execution.result() == result == RESULT_OF_GATED
            assert [event async for event in execution.events()] == events
        assert processes.effects.attempts("before") == processes.effects.attempts("after") == [1]

    async def test_d15_workers_that_are_asked_to_stop_hand_over_and_repeat_nothing(
        self, processes: Processes, backend: Backend
    ) -> None:
        executions = await self.begun(backend, 3)
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
            assert (await kinds(execution))[EventKind.EXECUTION_RECOVERED] == 0

    async def test_d17_decisions_outlive_the_workers_that_asked_for_them(
        self, processes: Processes, backend: Backend
    ) -> None:
        execution = await backend.start(Asking, id=new_id())
        first = processes.begin()
        async with asyncio.timeout(PATIENCE_SECONDS):
            async for event in execution.events():
                if event.kind == EventKind.APPROVAL_REQUESTED and len(await execution.pending()) == 2:
                    break
        await processes.end(first, signal.SIGKILL)
        one, other = await execution.pending()
        await execution.decide(one.call_id, "allow", "fine")
        await execution.decide(other.call_id, "deny", "never")
        second = processes.begin()
        await processes.effects.until(lambda: processes.effects.attempts("one") == [1])
        await processes.end(second, signal.SIGKILL)
        processes.effects.open_gate("gate")
        processes.begin()
        async with asyncio.timeout(PATIENCE_SECONDS):
            made, denied = await execution.result()
        assert made == "one done"
        assert "never" in denied
        assert processes.effects.attempts("one") == [1, 2]
        assert processes.effects.attempts("other") == []
        counted = await kinds(execution)
        assert (
            counted[EventKind.APPROVAL_GIVEN],
            counted[EventKind.APPROVAL_DENIED],
            counted[EventKind.TOOL_CALLED],
        ) == (1, 1, 1)

    async def test_d18_an_update_is_answered_once_though_its_worker_and_a_caller_are_killed(
        self, processes: Processes, backend: Backend
    ) -> None:
        execution = await backend.start(GatedProgram, id=new_id())
        caller = asyncio.create_task(execution.update("pass_another", "door", id="u"))
        first = processes.begin()
        await processes.effects.until(lambda: processes.effects.attempts("door") == [1])
        await processes.end(first, signal.SIGKILL)
        caller.cancel()
        processes.begin()
        await processes.effects.until(lambda: processes.effects.attempts("door") == [1, 2])
        processes.effects.open_gate("door")
        async with asyncio.timeout(PATIENCE_SECONDS):
            async with type(self).connect(processes.url) as another:
                again = await another.get(execution.id)
                assert await again.update("pass_another", "door", id="u") == "door done"
            processes.effects.open_gate("gate")
            assert await execution.result() == RESULT_OF_GATED
            assert await execution.update("pass_another", "door", id="u") == "door done"
        processes.effects.check()
        counted = await kinds(execution)
        assert (counted[EventKind.UPDATE_ACCEPTED], counted[EventKind.UPDATE_COMPLETED]) == (1, 1)

    @pytest.mark.parametrize("how", ["exit", "segmentation fault"])
    async def test_d19_an_execution_that_ends_its_processes_is_held_and_others_complete(
        self, how: str, processes: Processes, backend: Backend
    ) -> None:
        self.require(BackendCapability.HOLDS)

        async def supervise() -> None:
            while True:
                processes.supervise()
                await asyncio.sleep(0.02)

        poison = await backend.start(PoisonProgram, how, id=new_id())
        others = await self.begun(backend, 3)
        processes.begin()
        processes.begin()
        supervising = asyncio.create_task(supervise())
        try:
            async with asyncio.timeout(2 * PATIENCE_SECONDS):
                async for event in poison.events():
                    if event.kind == EventKind.EXECUTION_HELD:
                        break
                assert (await poison.describe()).held
                await asyncio.gather(*(other.result() for other in others))
                assert processes.effects.attempts(how) == list(range(1, DEATHS + 1))
                reason = (await poison.describe()).error
                assert reason is not None
                assert f"{DEATHS} workers" in reason
                assert "crash_end_process" in reason
                processes.effects.open_gate("mended")
                assert await poison.resume()
                assert await poison.result() == ["before done", f"{how} done", "after done"]
        finally:
            supervising.cancel()
        counted = await kinds(poison)
        assert (counted[EventKind.EXECUTION_HELD], counted[EventKind.EXECUTION_RESUMED]) == (1, 1)
        assert processes.effects.attempts("before") == processes.effects.attempts("after") == [1]

    async def begun(self, backend: Backend, count: int) -> list[Execution]:
        """Start so many programs, and send them all their signals."""
        executions = [await backend.start(Program, STEPS, id=new_id()) for _ in range(count)]
        for execution in executions:
            for letter in range(3):
                await execution.signal("put", letter)
        return executions


def new_id() -> str:
    """Return an id that is new, also in a place that several tests share."""
    return f"crash-{uuid.uuid4().hex}"


async def kinds(execution: Execution) -> Counter[str]:
    """Return how often each kind of event is in the stream of an execution that has ended."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        return Counter([event.kind async for event in execution.events()])


def _has_lines(effects: Effects, least: int) -> bool:
    return len(effects.lines()) >= least


def _has_attempts(effects: Effects, what: str, number: int) -> bool:
    return len(effects.attempts(what)) >= number
