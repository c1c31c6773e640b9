"""Random workflow programs, and the rules that hold for them after any crashes; see `compared_runs`."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outlast.core.errors import ChildFailed, ExecutionAlreadyEnded
from outlast.core.events import EventKind
from outlast.core.json import JSON
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
from outlast.testing.contracts.durability.compared_runs import (
    CRASHES_MAX,
    ComparedRun,
    Happened,
    Operation,
    after_deeds,
    compare,
)
from outlast.testing.contracts.durability.stage import DurabilityContractBase, Stage
from outlast.testing.contracts.examples import few_examples

SIGNALS = 3

UPDATES = 3


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
            case ["child", *program]:
                done: JSON = await workflow.execute_child(WorkflowProgram, program)
                return done
            case ["child that fails", *program]:
                try:
                    await workflow.execute_child(WorkflowProgram, [*program, ["no operation"]])
                except ChildFailed as error:
                    return [error.status, error.kind]
            case ["give up a child", seconds, what]:
                try:
                    async with asyncio.timeout(seconds):
                        return str(
                            await workflow.execute_child(WorkflowProgram, [["await signals", 1], what])
                        )
                except TimeoutError:
                    return "given up"
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
        elif verb in ("child", "child that fails"):
            rest = _named(rest, f"{place}.")
        elif verb not in ("sleep", "await signals", "await updates"):
            rest = [*rest, place]
        named.append([verb, *rest])
    return named


def _seconds() -> st.SearchStrategy[float]:
    return st.sampled_from([0.0, 0.25, 1.5, 3.0])


def _deeds() -> st.SearchStrategy[Operation]:
    deeds = st.sampled_from(["do", "do in a thread", "do at the second try", "fail"])
    return st.one_of(
        deeds.map(lambda verb: [verb]),
        st.just(["do"]),
        _seconds().map(lambda seconds: ["sleep", seconds]),
        st.sampled_from([0.25, 1.5]).map(lambda seconds: ["give up", seconds]),
    )


def _children() -> st.SearchStrategy[Operation]:
    """Return operations that execute children, which get no signals."""

    def child(inside: st.SearchStrategy[Operation]) -> st.SearchStrategy[Operation]:
        verbs = st.sampled_from(["child", "child", "child that fails"])
        return st.tuples(verbs, st.lists(inside, max_size=2)).map(lambda drawn: [drawn[0], *drawn[1]])

    given_up = st.sampled_from([0.25, 1.5]).map(lambda seconds: ["give up a child", seconds])
    return st.one_of(child(st.one_of(_deeds(), child(_deeds()))), given_up)


def _leaves(*, with_children: bool) -> st.SearchStrategy[Operation]:
    return st.one_of(
        _deeds(),
        *([_children()] if with_children else []),
        st.integers(min_value=1, max_value=SIGNALS).map(lambda count: ["await signals", count]),
        st.integers(min_value=1, max_value=UPDATES).map(lambda count: ["await updates", count]),
    )


def programs(*, with_children: bool = True, operations_max: int = 5) -> st.SearchStrategy[list[Operation]]:
    """Return programs of a few operations, some of them at the same time."""

    def branching(children: st.SearchStrategy[Operation]) -> st.SearchStrategy[Operation]:
        branches = st.lists(st.lists(children, max_size=3), min_size=1, max_size=3)
        return st.tuples(st.sampled_from(["all", "group"]), branches).map(lambda drawn: [drawn[0], *drawn[1]])

    operations = st.recursive(_leaves(with_children=with_children), branching, max_leaves=6)
    return st.lists(operations, min_size=1, max_size=operations_max).map(_named)


class ProgramRun(ComparedRun):
    """One execution of a program, which is sent the signals and the updates that it may wait for."""

    workflow: ClassVar = WorkflowProgram

    def __init__(self, stage: Stage, program: list[Operation]) -> None:
        super().__init__(stage, program)
        self._answers: list[JSON] = []

    def people(self, execution: Execution) -> Sequence[Coroutine[Any, Any, None]]:
        return [self._send(execution), self._update(execution)]

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

    def compared(self, text: str) -> str:
        # The ids of children begin with that of their parent.
        return text.replace(self.execution.id, "this execution")

    def check(self, happened: Happened) -> None:
        signals = [data["named"]["number"] for kind, data in happened if kind == EventKind.SIGNAL_RECEIVED]
        assert signals == list(range(len(signals)))
        accepted = [data["id"] for kind, data in happened if kind == EventKind.UPDATE_ACCEPTED]
        assert accepted == [f"count {number}" for number in range(len(accepted))]
        results = [data["result"] for kind, data in happened if kind == EventKind.UPDATE_COMPLETED]
        assert results == list(range(1, len(results) + 1))
        assert len(accepted) - len(results) in (0, 1), "an update was accepted and never answered"
        assert self._answers == results[: len(self._answers)]


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
        options = {"max_cached_executions": cached}
        await compare(self.new_stage, ProgramRun, program, after_deeds(**options), crashes, **options)

    @pytest.mark.parametrize("crashes", [[1], [2, 1]], ids=str)
    async def test_updates_that_come_while_a_worker_crashes_have_one_place(self, crashes: list[int]) -> None:
        program = _named([["do"], ["do"], ["do"]])
        await compare(self.new_stage, ProgramRun, program, after_deeds(), crashes)
