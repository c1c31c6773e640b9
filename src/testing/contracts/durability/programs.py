"""Random workflow programs, and the rules that hold for them after any crashes.

Every run of a program is compared with the run without a crash: it must have the same result and the same
transcript, must not run a step again whose result was journaled, and must not make an attempt twice.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from outlast.core.errors import ExecutionAlreadyEnded
from outlast.core.events import ActivityCompletedData, ActivityFailedData, ActivityStartedData, EventKind
from outlast.core.json import JSON, canonical
from outlast.ports.durability.execution import Execution
from outlast.runtime.definitions import workflow
from outlast.testing.contracts.durability.activities import (
    Hopeless,
    fail_hopelessly,
    pass_gate,
    record,
    record_at_second_try,
    record_in_thread,
)
from outlast.testing.contracts.durability.stage import DurabilityContractBase, Stage, transcript
from outlast.testing.contracts.examples import few_examples

CRASHES_MAX = 2
"""The most crashes after which every activity of a program still has an attempt left."""

SIGNALS = 3

UPDATES = 3

UNCERTAIN = (EventKind.SIGNAL_RECEIVED, EventKind.UPDATE_ACCEPTED, EventKind.UPDATE_COMPLETED)
"""The events that may or may not still happen when a program is about to end."""

Operation = list[Any]


@workflow.define(name="contract.program")
class WorkflowProgram:
    """Runs a program that is given as data."""

    def __init__(self) -> None:
        self.got: list[int] = []
        self.counted: list[int] = []

    @workflow.entrypoint
    async def run(self, program: list[Any]) -> list[Any]:
        return await self._sequence(program)

    @workflow.signal
    def put(self, number: int) -> None:
        self.got.append(number)

    @workflow.update
    def count(self, number: int) -> int:
        self.counted.append(number)
        return len(self.counted)

    async def _sequence(self, program: list[Operation]) -> list[JSON]:
        return [await self._operation(operation) for operation in program]

    async def _operation(self, operation: Operation) -> JSON:
        match operation:
            case ["do", what]:
                return await record(what)
            case ["do in a thread", what]:
                return await record_in_thread(what)
            case ["do at the second try", what]:
                return await record_at_second_try(what)
            case ["fail", what]:
                try:
                    await fail_hopelessly(what)
                except Exception as error:
                    return getattr(error, "kind", None) == Hopeless.__name__
            case ["sleep", seconds]:
                return await asyncio.sleep(seconds, "slept")
            case ["give up", seconds, what]:
                try:
                    async with asyncio.timeout(seconds):
                        return await pass_gate(what)
                except TimeoutError:
                    return "given up"
            case ["await signals", count]:
                await workflow.wait_condition(lambda: len(self.got) >= count)
                return [*self.got[:count]]
            case ["await updates", count]:
                await workflow.wait_condition(lambda: len(self.counted) >= count)
                return [*self.counted[:count]]
            case ["all", *branches]:
                return list(await asyncio.gather(*map(self._sequence, branches)))
            case ["group", *branches]:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(self._sequence(branch)) for branch in branches]
                return [task.result() for task in tasks]
        raise ValueError(operation)


def _named(program: list[Operation], path: str = "") -> list[Operation]:
    """Return the program with a name for every operation, made from its place."""
    named = []
    for index, (verb, *rest) in enumerate(program):
        place = f"{path}{index}"
        if verb in ("all", "group"):
            rest = [_named(branch, f"{place}.{n}.") for n, branch in enumerate(rest)]
        elif verb not in ("sleep", "await signals", "await updates"):
            rest = [*rest, place]
        named.append([verb, *rest])
    return named


def _seconds() -> st.SearchStrategy[float]:
    return st.sampled_from([0.0, 0.25, 1.5, 3.0])


def _leaves() -> st.SearchStrategy[Operation]:
    deeds = st.sampled_from(["do", "do in a thread", "do at the second try", "fail"])
    return st.one_of(
        deeds.map(lambda verb: [verb]),
        st.just(["do"]),
        _seconds().map(lambda seconds: ["sleep", seconds]),
        st.sampled_from([0.25, 1.5]).map(lambda seconds: ["give up", seconds]),
        st.integers(min_value=1, max_value=SIGNALS).map(lambda count: ["await signals", count]),
        st.integers(min_value=1, max_value=UPDATES).map(lambda count: ["await updates", count]),
    )


def programs() -> st.SearchStrategy[list[Operation]]:
    """Return programs of a few operations, some of them at the same time."""

    def branching(children: st.SearchStrategy[Operation]) -> st.SearchStrategy[Operation]:
        branches = st.lists(st.lists(children, max_size=3), min_size=1, max_size=3)
        return st.tuples(st.sampled_from(["all", "group"]), branches).map(lambda drawn: [drawn[0], *drawn[1]])

    operations = st.recursive(_leaves(), branching, max_leaves=6)
    return st.lists(operations, min_size=1, max_size=5).map(_named)


class ProgramRun:
    """One execution of a program, and the events that a bystander sees."""

    def __init__(self, stage: Stage, program: list[Operation]) -> None:
        self._stage = stage
        self._program = program
        self._tasks: list[asyncio.Task[None]] = []
        self._deeds: dict[str, JSON] = {}
        self._over: set[JSON] = set()
        self._answers: list[JSON] = []

    async def begin(self) -> None:
        """Start it, watch it, and send it the signals and the updates that it may wait for."""
        self.execution, self.world = await self._stage.start(WorkflowProgram, self._program)
        watched = await self._stage.again(self.execution)
        self._tasks = [
            asyncio.create_task(self._send(self.execution)),
            asyncio.create_task(self._update(self.execution)),
            asyncio.create_task(self._watch(watched)),
        ]

    async def _send(self, execution: Execution) -> None:
        for number in range(SIGNALS):
            try:
                await execution.signal("put", number)
            except ExecutionAlreadyEnded:
                return

    async def _update(self, execution: Execution) -> None:
        for number in range(UPDATES):
            try:
                answer = await execution.update("count", number, id=f"count {number}")
            except ExecutionAlreadyEnded:
                return
            assert answer == number + 1, "an update was handled twice, or not at all"
            self._answers.append(answer)

    async def _watch(self, execution: Execution) -> None:
        async for event in execution.events():
            match event.data:
                case ActivityStartedData(key=key, arguments=arguments):
                    self._deeds[key] = arguments.get("what")
                case ActivityCompletedData(key=key) | ActivityFailedData(key=key):
                    self._over.add(self._deeds[key])
                case _:
                    pass

    def over(self) -> dict[JSON, int]:
        """Return the number of runs of each activity whose end the bystander has seen."""
        return {what: self.world.count(what) for what in self._over}

    async def end(self) -> tuple[JSON, list[str]]:
        """Return the result and the transcript, the latter without the order of what happened at once.

        It is chance whether the last signals and updates or the end came first, so that is left out.
        """
        result = await self._stage.later(self.execution.result(), 60)
        await self._stage.soon(asyncio.gather(*self._tasks))
        happened = await self._stage.soon(transcript(self.execution))
        signals = [data["named"]["number"] for kind, data in happened if kind == EventKind.SIGNAL_RECEIVED]
        assert signals == list(range(len(signals)))
        accepted = [data["id"] for kind, data in happened if kind == EventKind.UPDATE_ACCEPTED]
        assert accepted == [f"count {number}" for number in range(len(accepted))]
        results = [data["result"] for kind, data in happened if kind == EventKind.UPDATE_COMPLETED]
        assert results == list(range(1, len(results) + 1))
        assert len(accepted) - len(results) in (0, 1), "an update was accepted and never answered"
        assert self._answers == results[: len(self._answers)]
        events = [
            canonical([kind, {name: value for name, value in data.items() if name != "due_at"}])
            for kind, data in happened
            if kind not in (*UNCERTAIN, EventKind.EXECUTION_STARTED)
        ]
        attempts = [(effect.key, effect.what, effect.attempt) for effect in self.world.effects]
        assert len(set(attempts)) == len(attempts), "an attempt was made twice"
        return result, sorted(events)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def compare(
    new_stage: Callable[[], Stage],
    program: list[Operation],
    crash: Callable[[Stage, ProgramRun, int], Awaitable[None]],
    crashes: Sequence[int],
    **options: Any,
) -> None:
    """Run `program` without a crash, then with those that `crash` makes; the results must be equal."""
    stage = new_stage()
    quiet = ProgramRun(stage, program)
    try:
        await quiet.begin()
        await stage.worker(WorkflowProgram)
        expected = await quiet.end()
        most = Counter(effect.what for effect in quiet.world.effects)
    finally:
        await quiet.close()
        await stage.close()
    stage = new_stage()
    troubled = ProgramRun(stage, program)
    try:
        await troubled.begin()
        over: dict[JSON, int] = {}
        for point in crashes:
            await crash(stage, troubled, point)
            # While nobody works, the bystander catches up.
            await stage.pass_time(stage.lease.total_seconds() + 0.1)
            assert over.items() <= troubled.over().items(), "what was journaled ran again"
            over = troubled.over()
        await stage.worker(WorkflowProgram, **options)
        assert await troubled.end() == expected
        assert over.items() <= troubled.over().items(), "what was journaled ran again"
        for what, count in Counter(effect.what for effect in troubled.world.effects).items():
            assert count <= most[what] + len(crashes) or str(what).endswith((" reached", " passed"))
    finally:
        await troubled.close()
        await stage.close()


class ProgramContract(DurabilityContractBase):
    """Every program has the same result, with any crashes."""

    def new_stage(self) -> Stage:
        return Stage(type(self).new_storage(), self.lease, self.patience_seconds)

    @settings(few_examples(15), max_examples=15)
    @given(
        program=programs(),
        crashes=st.lists(st.integers(min_value=1, max_value=5), min_size=1, max_size=CRASHES_MAX),
        cached=st.sampled_from([0, 1000]),
    )
    async def test_a_crash_after_any_action_changes_nothing(
        self, program: list[Operation], crashes: list[int], cached: int
    ) -> None:
        async def crash(stage: Stage, run: ProgramRun, deeds: int) -> None:
            process = await stage.worker(WorkflowProgram, max_cached_executions=cached)
            enough = asyncio.ensure_future(run.world.happened_in_all(len(run.world.effects) + deeds))
            ended = asyncio.ensure_future(run.execution.result())
            both = asyncio.wait({enough, ended}, return_when=asyncio.FIRST_COMPLETED)
            await stage.later(both, 60)
            for task in (enough, ended):
                task.cancel()
            await process.kill()

        await compare(self.new_stage, program, crash, crashes, max_cached_executions=cached)
