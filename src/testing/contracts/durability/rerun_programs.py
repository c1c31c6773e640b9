"""Random workflow programs that are ended, opened again and forked, at any place: D22, D23.

Whatever ends a program, and however often, it comes to the result that it has undisturbed. No completed step
runs again, no two steps have one idempotency key, and whoever sent an update has one answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from outlast.core.errors import (
    ExecutionAlreadyEnded,
    ExecutionCancelled,
    ExecutionFailed,
    ExecutionTerminated,
    UpdateAbandoned,
)
from outlast.core.event_stream import EventReader, without_void
from outlast.core.events import EventKind
from outlast.core.json import JSON
from outlast.core.records import (
    ExecutionEnded,
    SignalReceived,
    Status,
    StepCompleted,
    StepScheduled,
    UpdateAccepted,
)
from outlast.core.reruns import counted
from outlast.ports.durability.execution import Execution
from outlast.runtime.definitions import workflow
from outlast.runtime.definitions.activity import activity
from outlast.testing.contracts.durability.activities import AT_ONCE, Overloaded
from outlast.testing.contracts.durability.compared_runs import Operation
from outlast.testing.contracts.durability.programs import (
    SIGNALS,
    UPDATES,
    WorkflowProgram,
    programs,
)
from outlast.testing.contracts.durability.stage import DurabilityContractBase, Process, Stage
from outlast.testing.contracts.durability.storage import BackendCapability
from outlast.testing.contracts.durability.world import here, worlds
from outlast.testing.contracts.examples import few_examples


class Sabotage:
    """Operations of the program, by their places at the top, whose deeds fail for good, or never end."""

    def __init__(self, broken: set[int]) -> None:
        self.broken = broken
        self.stuck: int | None = None
        self.is_stuck = asyncio.Event()


sabotages: dict[str, Sabotage] = {}
"""By execution, until somebody mends it."""


@activity(retry_policy_initial_interval=AT_ONCE, retry_policy_max_attempts=2)
async def do_unless_sabotaged(what: str) -> str:
    """Do something, unless that is broken or stuck."""
    here().happen(what)
    place = int(what.partition(".")[0])
    if (sabotage := sabotages.get(activity.info().execution_id)) is not None:
        if place in sabotage.broken:
            raise Overloaded(f"{what} is broken")
        if place == sabotage.stuck:
            sabotage.is_stuck.set()
            await asyncio.Event().wait()
    return f"{what} done"


@workflow.define(name="contract.program_again")
class ProgramAgain(WorkflowProgram):
    """A program whose deeds can be broken."""

    @workflow.entrypoint
    async def run(self, program: list[Any]) -> list[Any]:
        return await self._sequence(program)

    async def _operation(self, operation: Operation) -> JSON:
        match operation:
            case ["do", what]:
                return await do_unless_sabotaged(what)
            case _:
                return await super()._operation(operation)


class Senders:
    """Sends the signals and the updates that a program waits for, again after each time that it ends."""

    def __init__(self, execution: Execution, signals: int = 0, updates: int = 0) -> None:
        self._execution = execution
        self._reopened = asyncio.Event()
        self.answers: dict[str, JSON] = {}
        self._tasks = [
            asyncio.create_task(self._signal(range(signals, SIGNALS))),
            asyncio.create_task(self._update(range(updates, UPDATES))),
        ]

    def reopened(self) -> None:
        """Note that the execution takes messages again."""
        reopened, self._reopened = self._reopened, asyncio.Event()
        reopened.set()

    async def _signal(self, numbers: range) -> None:
        for number in numbers:

            async def send(number: int = number) -> None:
                await self._execution.signal("put", number)

            await self._persistently(send)

    async def _update(self, numbers: range) -> None:
        for number in numbers:

            async def send(number: int = number) -> None:
                answer = await self._execution.update("count", number, id=f"count {number}")
                assert self.answers.setdefault(f"count {number}", answer) == answer

            await self._persistently(send)

    async def _persistently(self, send: Callable[[], Awaitable[None]]) -> None:
        while True:
            reopened = self._reopened
            try:
                await send()
                return
            except (ExecutionAlreadyEnded, UpdateAbandoned):
                await reopened.wait()

    async def close(self) -> None:
        """Stop, and raise the error of a sender, if there is one."""
        for task in self._tasks:
            task.cancel()
        for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome


async def check_journal(execution: Execution) -> dict[str, int]:
    """Check a journal and its stream; return how often each completed step was done, by idempotency key."""
    records = [record async for record in execution.records()]
    events = [one async for one in execution.events(follow=False)]
    # Where a server keeps only the last failed attempt, that is not a record and has no position of its own.
    positions = [one.position for one in events if one.kind is not EventKind.ATTEMPT_FAILED]
    assert positions == sorted(set(positions))
    reader = EventReader()
    alone = [one.data for record in counted(records).records for one in reader.read(record)]
    left_out = (
        *(EventKind.EXECUTION_REOPENED, EventKind.EXECUTION_TERMINATED),
        EventKind.ATTEMPT_FAILED,
    )
    valid = [one.data for one in without_void(events)]
    assert [one for one in valid if one.kind not in left_out] == [
        one for one in alone if one.kind not in left_out
    ]
    asked: dict[str, StepScheduled] = {}
    done: dict[str, int] = {}
    effects = worlds[execution.id].effects
    for record in records:
        match record:
            case StepScheduled(key=key):
                asked[key] = record
            case StepCompleted(key=key) if key in asked:
                full_key = f"{execution.id}/{asked[key].idempotency_key}"
                done[full_key] = sum(effect.key == full_key for effect in effects)
            case _:
                pass
    named: dict[str, JSON] = {}
    for effect in effects:
        what = str(effect.what).removesuffix(" reached").removesuffix(" passed")
        assert named.setdefault(effect.key, what) == what, "two steps have one idempotency key"
    return done


PLACES = 5
"""The most operations at the top of a program."""

Ending = tuple[str, int, bool]
"""How it is ended, at which operation, and whether its worker is killed before it is opened again."""


def endings() -> st.SearchStrategy[list[Ending]]:
    """Return what happens to a program on its way."""
    ending = st.tuples(
        st.sampled_from(["terminate", "cancel", "cancel and terminate"]),
        st.integers(min_value=0, max_value=PLACES - 1),
        st.booleans(),
    )
    return st.lists(ending, min_size=2, max_size=4)


class RerunProgramContract(DurabilityContractBase):
    """D22 and D23, for any program."""

    @pytest.fixture(autouse=True)
    def _rerun_programs(self) -> None:
        self.needs(BackendCapability.RERUNS)

    def new_rerun_stage(self) -> Stage:
        return Stage(type(self).new_storage(), self.lease, self.patience_seconds)

    @few_examples(20)
    @given(
        program=programs(with_children=False),
        endings=endings(),
        breaks=st.sets(st.integers(0, PLACES - 1), max_size=2),
        cached=st.sampled_from([0, 1000]),
    )
    async def test_a_program_has_its_result_however_often_it_ends_and_is_retried(
        self, program: list[Operation], endings: list[Ending], breaks: set[int], cached: int
    ) -> None:
        stage = self.new_rerun_stage()
        try:
            expected = await self.undisturbed(stage, program)
            execution, _ = await stage.start(ProgramAgain, program)
            sabotage = sabotages[execution.id] = Sabotage(breaks)
            senders = Senders(await stage.again(execution))
            process: Process | None = None
            done: dict[str, int] = {}
            for how, place, dies in endings:
                sabotage.stuck = place
                sabotage.is_stuck.clear()
                if process is None:
                    process = await stage.worker(ProgramAgain, max_cached_executions=cached)
                ending = await self.end(stage, execution, how, sabotage)
                if ending is Status.COMPLETED:
                    break
                if dies:
                    await stage.lose(process)
                    process = None
                now = await check_journal(execution)
                assert {key: now[key] for key in done} == done, "a completed step ran again"
                done = now
                if ending is Status.FAILED and breaks:
                    breaks.pop()
                await execution.retry()
                senders.reopened()
            sabotages.pop(execution.id, None)
            if process is None:
                await stage.worker(ProgramAgain, max_cached_executions=cached)
            try:
                result = await stage.later(execution.result(), 60)
            except ExecutionFailed:  # What was broken until now has ended it.
                await execution.retry()
                senders.reopened()
                result = await stage.later(execution.result(), 60)
            assert result == expected
            now = await check_journal(execution)
            assert {key: now[key] for key in done} == done, "a completed step ran again"
            await stage.pass_time(0.1)
            await senders.close()
            for id, answer in senders.answers.items():
                assert await stage.soon((await stage.again(execution)).update("count", 9, id=id)) == answer
        finally:
            await stage.close()

    async def undisturbed(self, stage: Stage, program: list[Operation]) -> JSON:
        execution, _ = await stage.start(ProgramAgain, program)
        senders = Senders(execution)
        process = await stage.worker(ProgramAgain)
        result: JSON = await stage.later(execution.result(), 60)
        await senders.close()
        await process.stop()
        return result

    async def end(self, stage: Stage, execution: Execution, how: str, sabotage: Sabotage) -> Status:
        """End it in that way where it is stuck, unless it ends by itself; return how it has ended."""
        moment = asyncio.ensure_future(sabotage.is_stuck.wait())
        ended = asyncio.ensure_future(execution.result())
        await stage.later(asyncio.wait({moment, ended}, return_when=asyncio.FIRST_COMPLETED), 60)
        moment.cancel()
        with suppress(ExecutionAlreadyEnded):
            if "cancel" in how:
                await execution.cancel()
            if "terminate" in how:
                await execution.terminate("by the test")
        with suppress(ExecutionFailed, ExecutionCancelled, ExecutionTerminated):
            await stage.later(ended, 60)
        status = (await execution.describe()).status
        event(f"it ended as {status}")
        return status

    @few_examples(8)
    @given(program=programs(with_children=False))
    async def test_a_fork_of_a_program_at_any_position_has_its_result(self, program: list[Operation]) -> None:
        stage = self.new_rerun_stage()
        try:
            execution, world = await stage.start(ProgramAgain, program)
            senders = Senders(execution)
            await stage.worker(ProgramAgain)
            expected = await stage.later(execution.result(), 60)
            await senders.close()
            records = [record async for record in execution.records()]
            assert isinstance(records[-1], ExecutionEnded)
            before = len(world.effects)
            for position in range(1, len(records) + 1):
                prefix = records[:position]
                fork = await execution.fork(at=position, id=f"{execution.id} from {position}")
                worlds[fork.id].clock = stage.storage.clock
                senders = Senders(
                    fork,
                    sum(isinstance(record, SignalReceived) for record in prefix),
                    sum(isinstance(record, UpdateAccepted) for record in prefix),
                )
                assert await stage.later(fork.result(), 60) == expected
                await senders.close()
                await check_journal(fork)
                completed = {f"{fork.id}/{one.key}" for one in prefix if isinstance(one, StepCompleted)}
                assert not completed & {effect.key for effect in worlds[fork.id].effects}
            assert len(world.effects) == before
        finally:
            await stage.close()
