"""Code that changes, and code that must give the same again: D11, eviction, chance."""

from __future__ import annotations

import logging
from contextlib import suppress

import pytest

from outlast.core.errors import NonDeterminismError, NotSupported
from outlast.core.events import PatchedData
from outlast.core.records import Status
from outlast.core.waiting import WaitingKind
from outlast.ports.durability.execution import Execution, ExecutionDescription
from outlast.ports.finding import Where
from outlast.testing.contracts.durability.stage import (
    DurabilityContractBase,
    Stage,
    all_events,
    data_of,
    transcript,
)
from outlast.testing.contracts.durability.workflows import Asyncio, Chance, patched_version, version


async def in_trouble(stage: Stage, execution: Execution) -> ExecutionDescription:
    """Return the description once it says why the execution cannot go on."""

    async def with_error() -> ExecutionDescription | None:
        described = await execution.describe()
        return described if described.error is not None else None

    return await stage.until(with_error)


class CodeContract(DurabilityContractBase):
    """D11, and the results of replay."""

    hold_seconds = 10.0
    """The time for which an execution that cannot go on may be left alone."""

    @pytest.mark.parametrize("loses_its_worker", [False, True])
    @pytest.mark.parametrize("edit", ["renamed", "shortened", "ended", "reordered"])
    async def test_d11_code_that_departs_from_its_journal_does_not_fail_the_execution(
        self, stage: Stage, edit: str, loses_its_worker: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        right = version(["first", "gate", "second"])
        execution, world = await stage.start(right)
        process = await stage.worker(right, graceful_shutdown_timeout=stage.lease / 10)
        await stage.soon(world.happened("gate reached"))
        if loses_its_worker:
            await stage.lose(process)
        else:
            await stage.later(process.stop(), stage.lease.total_seconds() / 10)
        world.gate("gate").set()
        wrong = {
            "renamed": version(["other", "gate", "second"]),
            "shortened": version(["gate", "second"]),
            "ended": version([], returns_at_once=True),
            "reordered": version(["second", "gate", "first"]),
        }[edit]
        with caplog.at_level(logging.CRITICAL):
            process = await stage.worker(wrong)
            described = await in_trouble(stage, execution)
            await process.stop()
        assert described.status is Status.RUNNING
        assert described.error is not None
        assert execution.id in described.error
        assert described.waiting_for[0].kind is WaitingKind.CODE
        with suppress(NotSupported):
            found = await (await stage.backend()).list(
                Where(waiting_for=WaitingKind.CODE, id_prefix=execution.id)
            )
            assert [one.waiting_for[0].kind for one in found] == [WaitingKind.CODE]
        assert "'record'" in described.error
        if edit == "renamed":
            assert "'record_in_thread'" in described.error
        await stage.worker(right)
        assert await stage.later(execution.result(), self.hold_seconds) == [
            "first done",
            "gate done",
            "second done",
        ]
        described = await execution.describe()
        assert (described.error, described.waiting_for) == (None, ())
        assert (world.count("first"), world.count("second"), world.count("gate passed")) == (1, 1, 1)
        assert world.attempts("gate reached") == [1, 2]

    async def test_d11_what_is_carried_on_again_no_longer_waits_for_code(self, stage: Stage) -> None:
        right, wrong = version(["gate", "gate"]), version(["first", "gate", "gate"])
        execution, world = await stage.start(right)
        process = await stage.worker(right)
        await stage.soon(world.happened("gate reached"))
        await stage.lose(process)
        world.gate("gate").set()
        process = await stage.worker(wrong)
        await in_trouble(stage, execution)
        await process.stop()
        world.gate("gate").clear()
        await stage.worker(right)

        async def at_a_step() -> bool | None:
            described = await execution.describe()
            kinds = [wait.kind for wait in described.waiting_for[:1]]
            is_at_work = kinds and kinds[0] in (WaitingKind.ATTEMPT, WaitingKind.RETRY)
            return (described.error is None and bool(is_at_work)) or None

        await stage.later(stage.until(at_a_step), self.hold_seconds)
        world.gate("gate").set()
        assert await stage.soon(execution.result()) == ["gate done", "gate done"]

    async def test_d11_code_is_checked_without_running_a_step(self, stage: Stage) -> None:
        right = version(["first", "gate", "second"])
        execution, world = await stage.start(right)
        process = await stage.worker(right)
        await stage.soon(world.happened("gate reached"))
        assert await execution.departure() is None
        await stage.lose(process)
        again = await stage.again(execution)
        assert await again.departure() is None
        version(["gate", "second"])  # It takes the place of the first one in this process.
        error = await again.departure()
        assert isinstance(error, NonDeterminismError)
        assert error.execution_id == execution.id
        assert "'record'" in str(error)
        version(["first", "gate", "second", "third"])
        assert await again.departure() is None
        assert [effect.what for effect in world.effects] == ["first", "gate reached"]
        assert (await again.describe()).status is Status.RUNNING

    async def test_d11_steps_that_are_added_at_the_end_are_not_a_departure(self, stage: Stage) -> None:
        short, long = version(["first", "gate"]), version(["first", "gate", "second"])
        execution, world = await stage.start(short)
        process = await stage.worker(short)
        await stage.soon(world.happened("gate reached"))
        await stage.lose(process)
        world.gate("gate").set()
        await stage.worker(long)
        assert await stage.soon(execution.result()) == ["first done", "gate done", "second done"]

    async def test_d11_an_execution_that_ran_the_old_code_keeps_to_it_after_a_patch(
        self, stage: Stage
    ) -> None:
        unpatched, patched = version(["first", "gate", "second"]), patched_version()
        old, old_world = await stage.start(unpatched)
        process = await stage.worker(unpatched)
        await stage.soon(old_world.happened("gate reached"))
        await stage.lose(process)
        process = await stage.worker(patched)
        new, new_world = await stage.start(patched)
        await stage.soon(new_world.happened("gate reached"))
        await stage.lose(process)
        old_world.gate("gate").set()
        new_world.gate("gate").set()
        await stage.worker(patched, max_cached_executions=0)
        assert await stage.soon(old.result()) == ["first done", "gate done", "end done"]
        assert await stage.soon(new.result()) == ["other done", "gate done", "end done"]
        patches = [
            [data.patch for data in data_of(await stage.soon(all_events(one)), PatchedData)]
            for one in (old, new)
        ]
        assert patches == [["end"], ["beginning", "end"]]

    async def test_an_execution_that_leaves_memory_goes_on_as_if_it_had_not(self, stage: Stage) -> None:
        outcomes = []
        for cached in (1000, 0):
            execution, _ = await stage.start(Asyncio)
            process = await stage.worker(Asyncio, max_cached_executions=cached)
            result = await stage.later(execution.result(), 5)
            kinds = sorted(kind for kind, _ in await stage.soon(transcript(execution)))
            outcomes.append((result, kinds))
            await process.stop()
        assert outcomes[0] == outcomes[1]

    async def test_random_numbers_are_equal_in_every_replay_and_differ_between_executions(
        self, stage: Stage
    ) -> None:
        drawn = []
        for _ in range(2):
            execution, world = await stage.start(Chance)
            process = await stage.worker(Chance)
            await stage.soon(world.happened("gate reached"))
            await stage.lose(process)
            world.gate("gate").set()
            process = await stage.worker(Chance)
            one = await stage.soon(execution.result())
            # If the replay had drawn another id, it would have departed from its journal here.
            assert world.count(one[0]) == 1
            drawn.append([one[0], one[1], one[3], one[4]])
            await process.stop()
        values = [value for draw in drawn for value in draw]
        assert len(set(values)) == len(values)
