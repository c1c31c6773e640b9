"""A process may die at any call of its store, before or after its effect: the result is the same."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from outlast.testing import MemoryStorage
from outlast.testing.contracts.durability.agent_programs import AgentProgramRun, agent_programs
from outlast.testing.contracts.durability.compared_runs import (
    CRASHES_MAX,
    ComparedRun,
    Crash,
    Operation,
    compare,
)
from outlast.testing.contracts.durability.in_store import InStore
from outlast.testing.contracts.durability.programs import ProgramRun, programs
from outlast.testing.contracts.durability.stage import Stage
from outlast.testing.contracts.examples import few_examples
from outlast.testing.lifeline import Lifeline

LEASE = timedelta(seconds=10)


def new_stage() -> Stage:
    return Stage(InStore(MemoryStorage()), LEASE, 30.0)


def at_any_call(cached: int, dies_after_effect: bool) -> Crash[ComparedRun]:
    """Return a crash that comes at the call of the store with that number."""

    async def crash(stage: Stage, run: ComparedRun, call: int) -> None:
        assert isinstance(stage.storage, InStore)
        store = stage.storage.storage.open()
        lifeline = Lifeline(store, dies_at=call, dies_after_effect=dies_after_effect)
        backend = await stage.enter(stage.storage.open_on(lifeline))
        process = await stage.worker(run.workflow, backend=backend, max_cached_executions=cached)
        died = asyncio.ensure_future(lifeline.died.wait())
        ended = asyncio.ensure_future(run.execution.result())
        await stage.later(asyncio.wait({died, ended}, return_when=asyncio.FIRST_COMPLETED), 60)
        for task in (died, ended):
            task.cancel()
        await process.kill()

    return crash


some_crashes = st.lists(st.integers(min_value=1, max_value=25), min_size=1, max_size=CRASHES_MAX)


@few_examples(40)
@given(
    program=programs(),
    crashes=some_crashes,
    dies_after_effect=st.booleans(),
    cached=st.sampled_from([0, 1000]),
)
async def test_a_crash_at_any_call_of_the_store_changes_nothing(
    program: list[Operation], crashes: list[int], dies_after_effect: bool, cached: int
) -> None:
    crash = at_any_call(cached, dies_after_effect)
    await compare(new_stage, ProgramRun, program, crash, crashes, max_cached_executions=cached)


@few_examples(40)
@given(
    program=agent_programs(),
    crashes=some_crashes,
    dies_after_effect=st.booleans(),
    cached=st.sampled_from([0, 1000]),
)
async def test_a_crash_at_any_call_of_the_store_changes_nothing_for_agents_and_people(
    program: list[Operation], crashes: list[int], dies_after_effect: bool, cached: int
) -> None:
    crash = at_any_call(cached, dies_after_effect)
    await compare(new_stage, AgentProgramRun, program, crash, crashes, max_cached_executions=cached)
