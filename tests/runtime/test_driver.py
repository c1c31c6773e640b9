"""Driving one execution: its appends, appends without an answer, and attempts that are given up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from outlast.core.errors import LeaseLost, StorageUnavailable
from outlast.core.events import EventKind
from outlast.core.records import (
    ExecutionEnded,
    ExecutionRecovered,
    Status,
    StepCompleted,
    StepScheduled,
    decode_record,
)
from outlast.ports.journal import Claim, Commit
from outlast.runtime.executions.lease import Lease
from outlast.testing.contracts.durability.in_store import InStore
from outlast.testing.contracts.durability.workflows import Echo, Gated, ManyGates, Steps
from outlast.testing.lifeline import Lifeline
from outlast.testing.virtual_clock import VirtualClock
from tests.runtime.stages import in_memory, worker_on


class Writes(Lifeline):
    """Records which records are appended together."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.appends: list[tuple[list[Any], Commit]] = []

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        self.appends.append(([decode_record(record) for record in records], commit))
        await super().append(claim, position, records, commit)


async def test_an_input_and_what_it_causes_are_one_append() -> None:
    async with in_memory() as stage:
        execution, _ = await stage.start(Steps, ["a", "b"])
        _, store = await worker_on(stage, Writes, Steps)
        await stage.soon(execution.result())
        assert isinstance(store, Writes)
        written = [[type(record) for record in records] for records, _ in store.appends]
        assert written == [
            [StepScheduled],
            [StepCompleted, StepScheduled],
            [StepCompleted, ExecutionEnded],
        ]
        assert [commit.status for _, commit in store.appends] == [None, None, Status.COMPLETED]


async def test_no_step_is_begun_before_it_is_durable() -> None:
    class NeverAnswers(Lifeline):
        async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
            await asyncio.Event().wait()

    async with in_memory() as stage:
        _, world = await stage.start(Steps, ["a"])
        await worker_on(stage, NeverAnswers, Steps)
        await stage.pass_time(5)
        assert not world.effects


async def test_a_recovery_is_written_before_everything_that_the_new_owner_asks_for() -> None:
    async with in_memory() as stage:
        execution, world = await stage.start(Echo, 1)

        class DiesAtFirst(Lifeline):
            def __init__(self, *arguments: Any) -> None:
                super().__init__(*arguments, dies_at=4)

        process, store = await worker_on(stage, DiesAtFirst, Echo)
        await stage.soon(store.died.wait())
        await stage.lose(process)
        _, writes = await worker_on(stage, Writes, Echo)
        assert await stage.soon(execution.result()) == 1
        assert isinstance(writes, Writes)
        # Before it begins, the new owner only writes down how many claims were lost.
        written = [records for records, *_ in writes.appends if records]
        assert [type(record) for record in written[0]] == [ExecutionRecovered, ExecutionEnded]
        assert not world.effects


@pytest.mark.parametrize("happened", [True, False])
@pytest.mark.parametrize("number", [1, 2, 3])
async def test_an_append_without_an_answer_is_made_once(
    number: int, happened: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "outlast.worker")

    class LosesAnAnswer(Lifeline):
        async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
            lost = self.calls["append"] == number - 1
            if happened or not lost:
                await super().append(claim, position, records, commit)
            else:
                self.calls["append"] += 1
            if lost:
                raise StorageUnavailable("no answer")

    async with in_memory() as stage:
        execution, world = await stage.start(Steps, ["a", "b"])
        await worker_on(stage, LosesAnAnswer, Steps)
        assert await stage.later(execution.result(), 1) == ["a done", "b done"]
        assert [effect.attempt for effect in world.effects] == [1, 1]
        kinds = [event.kind async for event in execution.events()]
        assert kinds.count(EventKind.ACTIVITY_COMPLETED) == 2
        assert "execution_recovered" not in kinds


async def test_an_append_that_another_owner_made_impossible_is_not_taken_for_ours(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL, "outlast.worker")
    refused = []

    class LosesAnswers(Lifeline):
        async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
            if self._flowing.is_set() and not self.calls["append"]:
                self.calls["append"] += 1
                self.block()
                raise StorageUnavailable("no answer")
            try:
                await super().append(claim, position, records, commit)
            except LeaseLost:
                refused.append(position)
                raise

    async with in_memory() as stage:
        execution, world = await stage.start(Gated)
        _, store = await worker_on(stage, LosesAnswers, Gated)
        await stage.pass_time(10.1)
        await stage.worker(Gated)
        await stage.soon(world.happened("gate reached"))
        store.unblock()
        await stage.pass_time(1)
        assert refused == [1]
        world.gate("gate").set()
        assert await stage.soon(execution.result()) == ["before done", "gate done", "after done"]
        assert [world.attempts(what) for what in ("before", "gate reached", "after")] == [[1], [1], [1]]


async def test_attempts_that_were_waiting_for_a_slot_were_not_made() -> None:
    names = ["a", "b", "c"]
    async with in_memory() as stage:
        execution, world = await stage.start(ManyGates, names)
        for _ in range(2):
            process = await stage.worker(
                ManyGates, max_concurrent_activities=1, graceful_shutdown_timeout=timedelta(0)
            )
            await stage.soon(world.happened_in_all(len(world.effects) + 1))
            await stage.soon(process.stop())
        for name in names:
            world.gate(name).set()
        await stage.worker(ManyGates)
        assert await stage.soon(execution.result()) == [f"{name} done" for name in names]
        assert sorted(effect.attempt for effect in world.effects if "passed" in str(effect.what)) == [1, 1, 3]


async def test_d20_no_attempt_begins_if_its_process_stands_still_right_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    confirm = Lease.confirm
    async with in_memory() as stage:
        execution, world = await stage.start(Steps, ["a"])
        assert isinstance(stage.storage, InStore)
        other = await stage.storage.storage.open().__aenter__()

        async def confirm_and_stand_still(lease: Lease) -> None:
            await confirm(lease)
            monkeypatch.setattr(Lease, "confirm", confirm)
            clock = stage.storage.clock
            assert isinstance(clock, VirtualClock)
            clock.stand_still(2 * stage.lease.total_seconds())
            work = await other.claim("other", ["contract.steps"], "default", limit=1, lease_seconds=10.0)
            assert [claim.execution_id for claim in work.claims] == [execution.id]

        monkeypatch.setattr(Lease, "confirm", confirm_and_stand_still)
        await stage.worker(Steps)
        await stage.pass_time(1)
        assert not world.effects
