"""Executions that end their workers: who is held, and who is not."""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

import outlast
from outlast.ports.durability.execution import Execution
from outlast.testing.contracts.durability.poison import DEATHS, Long
from outlast.testing.contracts.durability.stage import Stage, Supervisor, current_process
from outlast.testing.contracts.durability.world import here
from outlast.testing.contracts.examples import few_examples
from tests.runtime.stages import LEASE, in_memory

LEASE_SECONDS = LEASE.total_seconds()


@outlast.activity(name="doomed", retry_policy_max_attempts=100)
async def end_after(seconds: float) -> None:
    """End the process after a while."""
    world = here()
    world.happen("begun")
    assert world.clock is not None
    await world.clock.sleep(seconds)
    await current_process.get().end_from_within()


@outlast.activity(name="harmless")
async def pass_by(what: int) -> int:
    """Do nothing."""
    return what


@outlast.workflow.define(name="doomed")
class Doomed:
    """Takes some steps, and then one that ends its process after a while."""

    @outlast.workflow.entrypoint
    async def run(self, steps: int, seconds: float) -> None:
        for step in range(steps):
            await pass_by(step)
        await end_after(seconds)


@dataclass
class Crowd:
    """Executions that end their workers, and executions that are carried beside them."""

    stage: Stage
    supervisor: Supervisor
    doomed: list[Execution]
    innocent: list[Execution]

    async def is_settled(self) -> bool:
        """Whether everything has come to what it must come to; fails at once if somebody was wronged."""
        described = [await execution.describe() for execution in self.innocent]
        assert [one for one in described if one.held or one.status == "failed"] == []
        if any(one.status == "running" for one in described):
            return False
        return all([(await execution.describe()).held for execution in self.doomed])

    async def settle(self, seconds: float) -> None:
        passed = 0.0
        while not await self.is_settled():
            assert passed < seconds, "not everything has come to an end"
            await self.stage.pass_time(5.0)
            passed += 5.0


async def crowd(
    stage: Stage, workers: int, doomed: list[tuple[int, float]], innocent: list[float], seed: int
) -> Crowd:
    starts: list[tuple[type, tuple[float, ...]]] = [(Doomed, one) for one in doomed]
    starts += [(Long, (seconds,)) for seconds in innocent]
    random.Random(seed).shuffle(starts)
    executions = [(workflow, (await stage.start(workflow, *given))[0]) for workflow, given in starts]
    return Crowd(
        stage,
        stage.supervised(workers, Doomed, Long),
        [execution for workflow, execution in executions if workflow is Doomed],
        [execution for workflow, execution in executions if workflow is Long],
    )


@few_examples(15)
@given(
    workers=st.integers(1, 3),
    doomed=st.lists(
        st.tuples(st.sampled_from([0, 3]), st.sampled_from([0.0, 0.5, 3.0])), min_size=1, max_size=3
    ),
    innocent=st.lists(st.sampled_from([0.0, 8.0, 40.0, 150.0]), min_size=1, max_size=25),
    lost_at=st.none() | st.integers(0, 60),
    seed=st.integers(0, 1000),
)
async def test_d19_only_those_are_held_that_end_their_workers(
    workers: int, doomed: list[tuple[int, float]], innocent: list[float], lost_at: int | None, seed: int
) -> None:
    logging.disable(logging.CRITICAL)
    try:
        async with in_memory() as stage:
            ours = await crowd(stage, workers, doomed, innocent, seed)
            if lost_at is not None:
                await stage.pass_time(float(lost_at))
                if ours.supervisor.alive:
                    await ours.supervisor.alive[seed % len(ours.supervisor.alive)].lose()
            await ours.settle(2000.0)
            # A death counts for all that were there, and one that makes progress first is counted anew.
            assert ours.supervisor.deaths <= 2 * DEATHS * len(doomed) + 1
    finally:
        logging.disable(logging.NOTSET)
