"""Executions that end the process that runs them: D19."""

from __future__ import annotations

import asyncio

import pytest

from outlast.core.errors import ExecutionAlreadyEnded, ExecutionCancelled
from outlast.core.records import Status
from outlast.ports.durability.execution import Execution, ExecutionDescription
from outlast.ports.finding import Where
from outlast.runtime.definitions import workflow
from outlast.runtime.definitions.activity import activity
from outlast.testing.contracts.durability.activities import AT_ONCE, record
from outlast.testing.contracts.durability.stage import DurabilityContractBase, Stage, current_process
from outlast.testing.contracts.durability.storage import BackendCapability
from outlast.testing.contracts.durability.workflows import Steps
from outlast.testing.contracts.durability.world import here

DEATHS = 5
"""The number of processes that one execution may end before it is held."""
LONG_LEASES = 3.0
"""The duration of a long activity, in leases."""


async def _end_process(what: str) -> str:
    world = here()
    world.happen(what)
    if not world.gate("mended").is_set():
        await current_process.get().end_from_within()
    return f"{what} done"


@activity(retry_policy_initial_interval=AT_ONCE)
async def end_process(what: str) -> str:
    """End the process, unless that has been mended."""
    return await _end_process(what)


@activity(retry_policy_initial_interval=AT_ONCE, retry_policy_max_attempts=100)
async def end_process_often(what: str) -> str:
    """The same, as often as anybody lets it."""
    return await _end_process(what)


@activity(retry_policy_initial_interval=AT_ONCE, retry_policy_max_attempts=100)
async def take_long(seconds: float) -> str:
    """Take a long time, without a sign of life."""
    world = here()
    world.happen("begun")
    assert world.clock is not None
    await world.clock.sleep(seconds)
    return "long done"


@workflow.define(name="contract.poison")
class Poison:
    """Does something, and then ends its process; if asked, it sleeps in a loop beside that."""

    def __init__(self) -> None:
        self.letters: list[str] = []

    @workflow.entrypoint
    async def run(self, and_sleeps: bool = False, often: bool = False) -> list[str]:
        sleeping = asyncio.create_task(self.sleep_in_a_loop(and_sleeps))
        end = end_process_often if often else end_process
        done = [await record("before"), await end("boom"), await record("after")]
        sleeping.cancel()
        return [*done, *self.letters]

    async def sleep_in_a_loop(self, and_sleeps: bool) -> None:
        while and_sleeps:  # noqa: ASYNC110 - a timer that fires between any two deaths
            await asyncio.sleep(0.5)

    @workflow.signal
    def put(self, letter: str) -> None:
        self.letters.append(letter)


@workflow.define(name="contract.long")
class Long:
    """Does one thing that takes long."""

    @workflow.entrypoint
    async def run(self, seconds: float) -> str:
        return await take_long(seconds)


class PoisonContract(DurabilityContractBase):
    """D19, for code that ends its process."""

    async def held(self, stage: Stage, execution: Execution) -> ExecutionDescription:
        """Return the description of an execution once it is held."""

        async def find() -> ExecutionDescription | None:
            described = await execution.describe()
            return described if described.held else None

        # Each lost process costs a lease; if there are other suspects, the execution also waits for its turn.
        return await stage.later(stage.until(find), 30 * DEATHS * stage.lease.total_seconds())

    @pytest.mark.parametrize("and_sleeps", [False, True])
    async def test_d19_an_execution_that_ends_its_workers_is_held(
        self, stage: Stage, and_sleeps: bool
    ) -> None:
        self.needs(BackendCapability.HOLDS)
        poison, world = await stage.start(Poison, and_sleeps)
        supervisor = stage.supervised(2, Poison, Steps)
        described = await self.held(stage, poison)
        assert supervisor.deaths == DEATHS
        assert world.attempts("boom") == list(range(1, DEATHS + 1))
        assert (described.status, described.held, described.ended_at) == (Status.PAUSED, True, None)
        assert described.error is not None
        for said in (f"{DEATHS} workers", "end_process", f"attempt {DEATHS}", f"outlast resume {poison.id}"):
            assert said in described.error
        [listed] = await (await stage.backend()).list(Where(workflow="contract.poison"))
        assert listed == described
        other, _ = await stage.start(Steps, ["a"])
        assert await stage.soon(other.result()) == ["a done"]
        await poison.signal("put", "letter")
        await stage.pass_time(3 * stage.lease.total_seconds())
        assert (await poison.describe(), supervisor.deaths) == (described, DEATHS)

    async def test_d19_a_held_execution_goes_on_when_it_is_resumed(self, stage: Stage) -> None:
        self.needs(BackendCapability.HOLDS)
        poison, world = await stage.start(Poison)
        supervisor = stage.supervised(1, Poison)
        await self.held(stage, poison)
        await poison.signal("put", "letter")
        world.gate("mended").set()
        assert await (await stage.again(poison)).resume()
        assert await stage.soon(poison.result()) == ["before done", "boom done", "after done", "letter"]
        assert supervisor.deaths == DEATHS
        assert (world.count("before"), world.attempts("boom")[-1]) == (1, DEATHS + 1)
        described = await poison.describe()
        assert (described.held, described.error) == (False, None)

    async def test_d19_an_execution_that_is_resumed_too_early_is_held_again(self, stage: Stage) -> None:
        self.needs(BackendCapability.HOLDS)
        poison, _ = await stage.start(Poison, False, True)
        supervisor = stage.supervised(1, Poison)
        await self.held(stage, poison)
        assert [await poison.resume(), await poison.resume()] == [True, False]
        described = await poison.describe()
        assert (described.held, described.error) == (False, None)
        await self.held(stage, poison)
        assert supervisor.deaths == 2 * DEATHS

    async def test_d19_a_held_execution_can_be_cancelled(self, stage: Stage) -> None:
        self.needs(BackendCapability.HOLDS)
        poison, world = await stage.start(Poison)
        supervisor = stage.supervised(1, Poison)
        await self.held(stage, poison)
        await poison.cancel()
        with pytest.raises(ExecutionCancelled):
            await stage.soon(poison.result())
        assert (world.count("boom"), supervisor.deaths) == (DEATHS, DEATHS)

    async def test_d19_executions_that_are_carried_beside_it_complete(self, stage: Stage) -> None:
        self.needs(BackendCapability.HOLDS)
        seconds = LONG_LEASES * stage.lease.total_seconds()
        beside = [await stage.start(Long, seconds) for _ in range(12)]
        poison, _ = await stage.start(Poison)
        supervisor = stage.supervised(2, Poison, Long)
        await self.held(stage, poison)
        results = asyncio.gather(*(execution.result() for execution, _ in beside))
        assert await stage.later(results, 10 * seconds) == ["long done"] * 12
        assert supervisor.deaths == DEATHS

    async def test_d19_only_a_held_execution_can_be_resumed(self, stage: Stage) -> None:
        self.needs(BackendCapability.HOLDS)
        waiting, _ = await stage.start(Poison)
        assert not await waiting.resume()
        assert not (await waiting.describe()).held
        ended, _ = await stage.start(Steps, ["a"])
        await stage.worker(Steps)
        await stage.soon(ended.result())
        with pytest.raises(ExecutionAlreadyEnded):
            await ended.resume()
