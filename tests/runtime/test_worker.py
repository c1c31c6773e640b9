"""The worker: its costs, trouble with its store, and the ways in which it stops."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.adapters.memory.store import MemoryStore
from outlast.core.errors import ExecutionCancelled, StorageReadOnly, StorageUnavailable
from outlast.core.events import EventKind
from outlast.ports.durability.execution import Execution
from outlast.ports.journal import Claim, Commit, Delivery, Store, Work
from outlast.runtime.executions import journaled_execution
from outlast.runtime.executions.journaled_backend import JournaledBackend
from outlast.runtime.isolation import user_code
from outlast.testing.contracts.durability.waiting import Mailbox, Sleeper
from outlast.testing.contracts.durability.workflows import (
    Counter,
    Gated,
    GatedOnce,
    ManyGates,
    Steps,
    version,
)
from outlast.testing.contracts.examples import few_examples
from outlast.testing.lifeline import WAITS, Lifeline
from outlast.testing.virtual_clock import VirtualClock
from tests.runtime.stages import LEASE, in_memory, worker_on


def calls(store: Lifeline) -> int:
    return sum(times for name, times in store.calls.items() if name not in WAITS)


# Costs -------------------------------------------------------------------------------------------------


async def test_an_idle_worker_looks_at_its_store_a_few_times_in_a_lease() -> None:
    async with in_memory() as stage:
        _, store = await worker_on(stage, Lifeline, Steps)
        await stage.pass_time(10 * LEASE.total_seconds())
        assert set(store.calls) == {"claim", "wait", "announce"}
        assert calls(store) <= 7 * 10 + 2


async def test_executions_that_wait_cost_a_worker_nothing() -> None:
    async with in_memory() as stage:
        for _ in range(5):
            await stage.start(Mailbox)
            await stage.start(Sleeper, 1e6)
        _, store = await worker_on(stage, Lifeline, Mailbox, Sleeper)
        await stage.pass_time(1)
        before = calls(store)
        await stage.pass_time(10 * LEASE.total_seconds())
        assert calls(store) - before <= 7 * 10 + 2


async def test_a_burst_is_shared_by_workers_that_each_have_room_for_all_of_it() -> None:
    async with in_memory() as stage:
        started = [await stage.start(ManyGates, ["gate"]) for _ in range(20)]
        await asyncio.gather(*(stage.worker(ManyGates) for _ in range(2)))
        for _, world in started:
            await stage.soon(world.happened("gate reached"))
        shares = [len(worker.executions) for worker in await (await stage.backend()).workers()]
        assert sum(shares) == 20
        assert min(shares) >= 5


async def test_a_running_activity_costs_renewals_only() -> None:
    async with in_memory() as stage:
        _, world = await stage.start(Gated)
        _, store = await worker_on(stage, Lifeline, Gated)
        await stage.soon(world.happened("gate reached"))
        before = store.calls.copy()
        await stage.pass_time(10 * LEASE.total_seconds())
        more = store.calls - before
        assert set(more) == {"claim", "wait", "renew", "announce"}
        assert more["renew"] <= 3 * 10 + 1


class CountingClock(VirtualClock):
    """Counts how often somebody went to sleep."""

    sleeps = 0

    async def sleep(self, seconds: float) -> None:
        self.sleeps += 1
        await super().sleep(seconds)


async def test_waiting_for_a_near_timer_does_not_poll() -> None:
    clock = CountingClock()
    async with JournaledBackend(MemoryStore(clock), clock) as backend:
        await backend.start(Sleeper, 0.9)
        async with backend.worker([Sleeper]):
            await clock.advance(0.1)
            before = clock.sleeps
            for _ in range(1000):
                await asyncio.sleep(0)
            assert clock.sleeps == before


async def cost_of(steps: int) -> tuple[Lifeline, int]:
    async with in_memory() as stage:
        execution, _ = await stage.start(Counter, steps)
        process, store = await worker_on(stage, Lifeline, Counter)
        assert await stage.soon(execution.result()) == sum(range(steps))
        await process.stop()
        return store, calls(store)


async def test_a_step_costs_the_same_however_long_the_journal_is() -> None:
    short, short_calls = await cost_of(100)
    long, long_calls = await cost_of(1000)
    assert (short.calls["read"], long.calls["read"]) == (1, 1)
    assert (long_calls - short_calls) / 900 <= 1.0 + 1e-9
    assert long.bytes_read == short.bytes_read + 1
    assert long.bytes_written / 1000 <= 1.1 * short.bytes_written / 100


async def test_a_message_costs_the_same_however_long_the_journal_is() -> None:
    async with in_memory() as stage:
        execution, world = await stage.start(Mailbox, True)
        _, store = await worker_on(stage, Lifeline, Mailbox)
        costs = []
        for letter in range(1, 200):
            before = calls(store)
            await execution.signal("put", letter)
            await stage.soon(world.happened(f"letter {letter}"))
            await stage.event(execution, "activity_completed", letter)
            await stage.pass_time(0.01)
            costs.append(calls(store) - before)
        assert max(costs[100:]) <= max(costs[:10])
        assert store.calls["read"] == 1


async def test_code_that_departs_is_not_retried_because_of_mail(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL, "outlast.worker")
    right, wrong = version(["first", "gate"]), version(["other", "gate"])
    async with in_memory() as stage:
        execution, world = await stage.start(right)
        process = await stage.worker(right)
        await stage.soon(world.happened("gate reached"))
        await stage.lose(process)
        await execution.signal("poke")
        process, store = await worker_on(stage, Lifeline, wrong)
        await stage.pass_time(30)
        assert 2 <= store.calls["read"] <= 5
        assert calls(store) <= 60
        await stage.soon(process.stop())
        world.gate("gate").set()
        await stage.worker(right)
        assert await stage.later(execution.result(), 10) == ["first done", "gate done"]
        assert world.attempts("gate reached") == [1, 2]


async def test_an_ended_execution_leaves_nothing_in_the_worker() -> None:
    async with in_memory() as stage:
        started = [await stage.start(Steps, ["a"]) for _ in range(30)]
        waiting = [await stage.start(Mailbox) for _ in range(8)]
        backend = await stage.backend()
        async with backend.worker([Steps, Mailbox], max_cached_executions=5) as worker:
            for execution, _ in started:
                await stage.soon(execution.result())
            await stage.pass_time(1)
            assert not worker._activations
            assert len(worker._cache) == 5
            for execution, _ in waiting:
                await execution.signal("stop")
                await stage.soon(execution.result())
            await stage.pass_time(1)
            assert not worker._activations
            assert len(worker._cache) <= 5


# A store in trouble ------------------------------------------------------------------------------------


class Failing(Lifeline):
    """Fails as `plan` says: it has a word for each call that is not a wait."""

    plan: tuple[str, ...] = ()

    async def _pass_on(self, name: str, call: Any) -> Any:
        number = calls(self)
        word = self.plan[number] if number < len(self.plan) and name not in WAITS else "works"
        if word == "fails":
            self.calls[name] += 1
            raise StorageUnavailable("not now")
        result = await super()._pass_on(name, call)
        if word == "fails afterwards":
            raise StorageUnavailable("no answer")
        return result


@asynccontextmanager
async def without_the_log() -> AsyncIterator[None]:
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


words = st.lists(st.sampled_from(["works", "works", "fails", "fails afterwards"]), max_size=40)


@few_examples(40)
@given(plan=words)
async def test_a_store_in_passing_trouble_changes_nothing(plan: list[str]) -> None:
    class Planned(Failing):
        pass

    Planned.plan = tuple(plan)
    async with in_memory() as stage, without_the_log():
        execution, world = await stage.start(Mailbox, True)
        both, both_world = await stage.start(ManyGates, ["a", "b"])
        both_world.gate("a").set()
        both_world.gate("b").set()
        process, _ = await worker_on(stage, Planned, Mailbox, ManyGates)
        for letter in range(3):
            await execution.signal("put", letter)
            await stage.pass_time(0.2)
        await execution.signal("stop")
        # A claim that never reached the worker is free when its lease has run out.
        assert await stage.later(execution.result(), 60) == [0, 1, 2]
        assert await stage.later(both.result(), 60) == ["a done", "b done"]
        for effects in (world.effects, both_world.effects):
            seen = [(effect.what, effect.attempt) for effect in effects]
            assert len(set(seen)) == len(seen)
        await stage.later(process.stop(), 60)


class BreaksAtMail(Lifeline):
    """Cannot read messages once there are any; and not for a passing reason."""

    broken = False

    async def messages(self, execution_id: str, after: int, limit: int | None = None) -> Sequence[Delivery]:
        if self.broken:
            self.broken = False
            raise StorageReadOnly("the disk is read-only")
        return await super().messages(execution_id, after, limit)


@pytest.mark.parametrize("workflow", [GatedOnce, Gated])
async def test_attempts_that_are_dropped_because_of_the_store_are_in_doubt(
    workflow: type[Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "outlast.worker")
    async with in_memory() as stage:
        execution, world = await stage.start(workflow)
        _, store = await worker_on(stage, BreaksAtMail, workflow)
        await stage.soon(world.happened("gate reached"))
        assert isinstance(store, BreaksAtMail)
        store.broken = True
        await execution.cancel()
        assert "StorageReadOnly" in await stage.until(lambda: _error(execution))
        assert world.running == 0
        with pytest.raises(ExecutionCancelled):
            await stage.later(execution.result(), 15)
        assert world.attempts("gate reached") == [1]
        kinds = [event.kind async for event in execution.events()]
        assert kinds.count(EventKind.EXECUTION_RECOVERED) == 1
        if workflow is GatedOnce:
            assert kinds.index(EventKind.ACTIVITY_FAILED) < kinds.index(EventKind.CANCEL_REQUESTED)


async def _error(execution: Execution) -> str | None:
    return (await execution.describe()).error


class CutOffWhileItReads(Lifeline):
    """Between a claim and the answer to the first look at the journal, nothing gets through for a while."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.is_cut_off = asyncio.Event()
        self.is_back = asyncio.Event()

    async def read(self, execution_id: str, after: int = 0, limit: int | None = None) -> Sequence[bytes]:
        self.is_cut_off.set()
        await self.is_back.wait()
        return await super().read(execution_id, after, limit)

    async def claim(self, *args: Any, **options: Any) -> Work:
        self._check_connection()
        return await super().claim(*args, **options)

    async def renew(self, claims: Collection[Claim], lease_seconds: float) -> frozenset[str]:
        self._check_connection()
        return await super().renew(claims, lease_seconds)

    def _check_connection(self) -> None:
        if self.is_cut_off.is_set() and not self.is_back.is_set():
            raise StorageUnavailable("cut off")


async def test_d6_a_worker_that_reads_a_journal_after_its_lease_begins_nothing_of_its_new_owner() -> None:
    async with in_memory() as stage:
        execution, world = await stage.start(Gated)
        _, store = await worker_on(stage, CutOffWhileItReads, Gated)
        assert isinstance(store, CutOffWhileItReads)
        await stage.soon(store.is_cut_off.wait())
        await stage.pass_time(LEASE.total_seconds() + 0.1)
        await stage.worker(Gated)
        await stage.soon(world.happened("gate reached"))
        store.is_back.set()
        await stage.pass_time(1)
        assert world.attempts("gate reached") == [1]
        world.gate("gate").set()
        await stage.soon(execution.result())
        assert [world.attempts(what) for what in ("before", "after")] == [[1], [1]]


async def test_a_worker_whose_store_is_broken_for_good_says_so(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Lifeline):
        async def claim(
            self,
            worker: str,
            workflows: Collection[str],
            task_queue: str,
            *,
            limit: int,
            lease_seconds: float,
        ) -> Work:
            raise StorageReadOnly("the disk is read-only")

    clock = VirtualClock()
    async with JournaledBackend(Broken(MemoryStore(clock)), clock) as backend:
        with pytest.raises(StorageReadOnly):
            async with backend.worker([Steps]) as worker, asyncio.timeout(10):
                await worker.run()
    assert "can no longer work" in caplog.text


# Stopping ----------------------------------------------------------------------------------------------


class SlowToClaim(Lifeline):
    """Answers a claim, which has had its effect, only when the test lets it."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.claimed = asyncio.Event()
        self.answer = asyncio.Event()

    async def claim(
        self, worker: str, workflows: Collection[str], task_queue: str, *, limit: int, lease_seconds: float
    ) -> Work:
        work = await super().claim(worker, workflows, task_queue, limit=limit, lease_seconds=lease_seconds)
        if work.claims:
            self.claimed.set()
            await self.answer.wait()
        return work


async def test_an_execution_that_is_claimed_while_the_worker_stops_is_given_back() -> None:
    async with in_memory() as stage:
        execution, world = await stage.start(Steps, ["a"])
        process, store = await worker_on(stage, SlowToClaim, Steps)
        assert isinstance(store, SlowToClaim)
        await stage.soon(store.claimed.wait())
        process.ask_to_stop()
        await asyncio.sleep(0)
        store.answer.set()
        await stage.soon(process.stop())
        assert not world.effects
        await stage.worker(Steps)
        assert await stage.soon(execution.result()) == ["a done"]
        assert "execution_recovered" not in [event.kind async for event in execution.events()]


class SlowToAppend(Lifeline):
    """Answers an append, which has had its effect, only when the test lets it."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.appended = asyncio.Event()
        self.answer = asyncio.Event()

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        await super().append(claim, position, records, commit)
        self.appended.set()
        await self.answer.wait()


async def test_a_worker_that_is_cancelled_while_it_stops_drops_everything_at_once() -> None:
    clock = VirtualClock()
    store = SlowToAppend(MemoryStore(clock))
    async with JournaledBackend(store, clock) as backend:
        await backend.start(Steps, ["a"])
        worker = backend.worker([Steps])

        async def work() -> None:
            async with worker:
                await asyncio.Event().wait()

        task = asyncio.create_task(work())
        await store.appended.wait()
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=0.01)
        assert not worker._activations
        left = {one.get_name() for one in asyncio.all_tasks()}
        assert not [name for name in left if name.startswith("outlast")]


async def test_a_zero_timeout_interrupts_at_once() -> None:
    async with in_memory() as stage:
        execution, world = await stage.start(Gated)
        process = await stage.worker(Gated, graceful_shutdown_timeout=timedelta(0))
        await stage.soon(world.happened("gate reached"))
        await stage.soon(process.stop())
        assert world.running == 0
        assert (await execution.describe()).error is None


# User code -----------------------------------------------------------------------------------------------

INSTALLED = """
import time
import outlast

@outlast.workflow.define(name="installed")
class Installed:
    @outlast.workflow.entrypoint
    async def run(self) -> str:
        try:
            return f"it was {time.time()}"
        except outlast.DeterminismError as error:
            return f"{error.what} is refused"
"""


async def test_the_workflows_of_an_installed_application_are_user_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "an_installed_application"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "workflows.py").write_text(INSTALLED)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(user_code, "_LIBRARIES", (*user_code._LIBRARIES, os.path.join(tmp_path, "")))
    monkeypatch.setattr(user_code, "_added", [])
    module = import_module(f"{package.name}.workflows")
    try:
        async with in_memory() as stage:
            assert await stage.run(module.Installed) == "time.time() is refused"
    finally:
        del sys.modules[package.name], sys.modules[module.__name__]


# A process that stands still -----------------------------------------------------------------------------


async def test_a_worker_that_stood_still_takes_nothing_away_from_itself() -> None:
    async with in_memory() as stage:
        execution, world = await stage.start(GatedOnce)
        await stage.worker(GatedOnce, Steps)
        await stage.soon(world.happened("gate reached"))
        clock = stage.storage.clock
        assert isinstance(clock, VirtualClock)
        clock.stand_still(5 * LEASE.total_seconds())
        # The worker looks for work before it comes to renewing its leases.
        other, _ = await stage.start(Steps, ["a"])
        assert await stage.soon(other.result()) == ["a done"]
        world.gate("gate").set()
        assert await stage.soon(execution.result()) == "gate done"
        kinds = [event.kind async for event in execution.events()]
        assert EventKind.EXECUTION_RECOVERED not in kinds
        assert {effect.attempt for effect in world.effects} == {1}


async def test_a_signal_that_does_not_fit_is_dropped_with_one_warning_that_names_those_there_are(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with in_memory() as stage:
        execution, _ = await stage.start(Mailbox)
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(journaled_execution, "known_definition", lambda name: None)
            await execution.signal("pyt", 1)
            await execution.signal("put", 1, 2)
            await execution.signal("put", 3)
        # Each activation replays the code from the beginning.
        await stage.worker(Mailbox, max_cached_executions=0)
        await stage.event(execution, EventKind.SIGNAL_RECEIVED, 3)
        await execution.signal("stop")
        assert await stage.soon(execution.result()) == [3]
    unknown, unfit = [one.getMessage() for one in caplog.records if "drops a signal" in one.getMessage()]
    assert execution.id in unknown
    assert "'signal pyt'" in unknown
    assert "it has: break_down, put, put_two" in unknown
    assert "'put'" in unfit
    assert "too many positional arguments" in unfit
