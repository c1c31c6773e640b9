"""Children: one for each step that asks for one, whatever crashes, and their ends and their parents'."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from outlast.core.children import OnParentEnd
from outlast.core.errors import (
    ChildFailed,
    ChildrenFailed,
    DefinitionError,
    ExecutionAlreadyEnded,
    ExecutionAlreadyExists,
    ExecutionCancelled,
    ExecutionFailed,
    ExecutionNotFound,
    ExecutionTerminated,
    InvalidArguments,
)
from outlast.core.events import (
    ChildCompletedData,
    ChildFailedData,
    ChildStartedData,
    EventKind,
    ExecutionStartedData,
)
from outlast.core.records import Status
from outlast.core.waiting import WaitingKind
from outlast.ports.durability.execution import Execution
from outlast.ports.finding import Where
from outlast.runtime.definitions import workflow
from outlast.runtime.definitions.activity import activity
from outlast.testing.contracts.durability.stage import DurabilityContractBase, Stage, all_events, data_of
from outlast.testing.contracts.durability.storage import BackendCapability
from outlast.testing.contracts.durability.world import World, here, worlds

ELSEWHERE = "elsewhere"
KEPT = "the reason is kept with the child"
"""The reason of a termination, where the parent's backend does not know it."""


@activity(name="contract.work_of_child")
async def work(what: str) -> str:
    """Do something, and wait at the gate of that name if its name begins with "gate"."""
    here().happen(what)
    if what.startswith("gate"):
        await here().gate(what).wait()
    return f"{what} done"


@workflow.define(name="contract.child")
class Child:
    """Does some work; then it fails, waits for a letter, or returns."""

    def __init__(self) -> None:
        self.letters: list[str] = []

    @workflow.entrypoint
    async def run(self, what: str) -> str:
        done = await work(what)
        if what.startswith("fail"):
            raise ValueError("no luck")
        if what.startswith("wait"):
            await workflow.wait_condition(lambda: bool(self.letters))
            return self.letters[0]
        return done

    @workflow.signal
    def put(self, letter: str) -> None:
        self.letters.append(letter)


@workflow.define(name="contract.parent")
class Parent:
    """Executes one child after the other."""

    @workflow.entrypoint
    async def run(self, tasks: list[str]) -> list[str]:
        return [await workflow.execute_child(Child, task) for task in tasks]


@workflow.define(name="contract.careful_parent")
class CarefulParent:
    """Executes a child, and returns what it learns of its failure."""

    @workflow.entrypoint
    async def run(self, what: str, id: str | None) -> list[Any]:
        try:
            return [await workflow.execute_child(Child, what, id=id)]
        except ChildFailed as error:
            cause = None if error.__cause__ is None else str(error.__cause__)
            return [error.child_id, error.workflow, error.status, error.kind, error.message, cause]
        except ExecutionAlreadyExists as error:
            return [str(error)]


@workflow.define(name="contract.talking_parent")
class TalkingParent:
    """Starts a child, and does with it what a caller says."""

    def __init__(self) -> None:
        self.words: list[str] = []

    @workflow.entrypoint
    async def run(self, what: str, on_parent_end: OnParentEnd, task_queue: str | None) -> list[Any]:
        child = await workflow.start_child(Child, what, on_parent_end=on_parent_end, task_queue=task_queue)
        said: list[Any] = [child.id]
        while True:
            await workflow.wait_condition(lambda: bool(self.words))
            match self.words.pop(0):
                case "signal":
                    await child.signal("put", "a letter")
                case "wrong":
                    try:
                        await child.signal("no such signal")
                    except InvalidArguments as error:
                        said.append(str(error))
                case "late":
                    try:
                        await child.signal("put", "too late")
                    except ExecutionAlreadyEnded as error:
                        said.append(error.status)
                case "cancel":
                    await child.cancel()
                case "wait":
                    try:
                        said.append(await child.result())
                    except ChildFailed as error:
                        said.append(error.status)
                case "give up":
                    try:
                        async with asyncio.timeout(1):
                            await child.result()
                    except TimeoutError:
                        said.append("gave up")
                case "fail":
                    raise ValueError("the parent fails")
                case _:
                    return said

    @workflow.signal
    def say(self, word: str) -> None:
        self.words.append(word)


@workflow.define(name="contract.mapping_parent")
class MappingParent:
    """Executes many children, some at a time."""

    @workflow.entrypoint
    async def run(self, tasks: list[str], at_once: int) -> list[Any]:
        try:
            return await workflow.map(Child, tasks, at_once=at_once)
        except ChildrenFailed as error:
            return [error.count, list(error.failed), str(error), sorted(error.results.items())]


@workflow.define(name="contract.loose_parent")
class LooseParent:
    """Executes a child, with any value for how many at a time."""

    @workflow.entrypoint
    async def run(self, at_once: Any) -> list[Any]:
        return await workflow.map(Child, ["one"], at_once=at_once)


@workflow.define(name="contract.small_child")
class SmallChild:
    """Only adds one."""

    @workflow.entrypoint
    async def run(self, number: int) -> int:
        return number + 1


@workflow.define(name="contract.parent_of_many")
class ParentOfMany:
    """Executes a crowd of small children."""

    @workflow.entrypoint
    async def run(self, count: int) -> list[int]:
        return await workflow.map(SmallChild.run, range(count))


@workflow.define(name="contract.impatient_parent")
class ImpatientParent:
    """Waits for a child for a while, then for a letter."""

    def __init__(self) -> None:
        self.letters: list[str] = []

    @workflow.entrypoint
    async def run(self, seconds: float) -> str:
        try:
            async with asyncio.timeout(seconds):
                return str(await workflow.execute_child(Child, "wait"))
        except TimeoutError:
            await workflow.wait_condition(lambda: bool(self.letters))
            return "gave up"

    @workflow.signal
    def put(self, letter: str) -> None:
        self.letters.append(letter)


@activity(name="contract.mendable_step_of_parent", retry_policy_max_attempts=1)
async def mendable() -> None:
    """Fail until somebody has opened the gate "mended"."""
    if not here().gate("mended").is_set():
        raise ValueError("not mended yet")


@workflow.define(name="contract.holding_parent", on_failure="hold")
class HoldingParent:
    """Starts a child, and is held when a step fails."""

    @workflow.entrypoint
    async def run(self) -> str:
        child = await workflow.start_child(Child, "wait")
        await mendable()
        return str(await child.result())


async def child_of(stage: Stage, parent: Execution, number: int = 1) -> tuple[Execution, World]:
    """Return the n-th child of an execution, once it was started, and its world."""
    event = await stage.event(parent, EventKind.CHILD_STARTED, number)
    assert isinstance(event.data, ChildStartedData)
    return await (await stage.backend()).get(event.data.child), worlds[event.data.child]


class ChildContract(DurabilityContractBase):
    """Children."""

    async def test_a_child_is_an_execution_of_its_own_and_its_result_is_the_parents(
        self, stage: Stage
    ) -> None:
        execution, _ = await stage.start(Parent, ["one", "two"])
        await stage.worker(Parent, Child)
        assert await stage.soon(execution.result()) == ["one done", "two done"]
        events = await stage.soon(all_events(execution))
        started, completed = data_of(events, ChildStartedData), data_of(events, ChildCompletedData)
        assert [data.workflow for data in started] == ["contract.child"] * 2
        assert [data.result for data in completed] == ["one done", "two done"]
        assert [data.child for data in completed] == [data.child for data in started]
        for data, task in zip(started, ["one", "two"], strict=True):
            child = await (await stage.backend()).get(data.child)
            assert data.child.startswith(f"{execution.id}/")
            assert (await stage.soon(child.describe())).parent == execution.id
            assert await stage.soon(child.result()) == f"{task} done"
            begun = data_of(await stage.soon(all_events(child)), ExecutionStartedData)
            assert [one.arguments for one in begun] == [{"what": task}]

    async def test_a_parent_that_crashes_anywhere_has_one_child(self, stage: Stage) -> None:
        execution, _ = await stage.start(Parent, ["gate", "wait", "last"])
        process = await stage.worker(Parent, Child)
        _, first = await child_of(stage, execution)
        await stage.soon(first.happened("gate"))
        await stage.lose(process)
        first.gate("gate").set()
        process = await stage.worker(Parent, Child)
        second, world = await child_of(stage, execution, 2)
        await stage.soon(world.happened("wait"))
        await stage.lose(process)
        await stage.soon(second.signal("put", "hello"))
        await stage.worker(Parent, Child)
        seconds = stage.lease.total_seconds()
        assert await stage.later(execution.result(), seconds) == ["gate done", "hello", "last done"]
        events = await stage.soon(all_events(execution))
        assert len({data.child for data in data_of(events, ChildStartedData)}) == 3
        found = await stage.soon((await stage.backend()).list(limit=10))
        assert len(list(found)) == 4

    async def test_a_parent_learns_of_an_end_that_came_while_nobody_carried_it(self, stage: Stage) -> None:
        execution, _ = await stage.start(Parent, ["wait"])
        process = await stage.worker(Parent, Child)
        child, world = await child_of(stage, execution)
        await stage.soon(world.happened("wait"))
        await process.stop()
        only_children = await stage.worker(Child)
        await stage.soon(child.signal("put", "hello"))
        assert await stage.soon(child.result()) == "hello"
        await only_children.stop()
        await stage.worker(Parent)
        assert await stage.soon(execution.result()) == ["hello"]

    async def test_a_parent_waits_for_its_child_and_says_so(self, stage: Stage) -> None:
        execution, _ = await stage.start(Parent, ["wait"])
        await stage.worker(Parent, Child)
        child, world = await child_of(stage, execution)
        await stage.soon(world.happened("wait"))

        async def waits() -> str | None:
            waiting = (await execution.describe()).waiting_for
            return next((one.step for one in waiting if one.kind is WaitingKind.CHILD), None)

        assert await stage.until(waits) == child.id
        await stage.soon(child.signal("put", "hello"))
        assert await stage.soon(execution.result()) == ["hello"]

    async def test_the_children_of_an_execution_are_found_by_its_id(self, stage: Stage) -> None:
        execution, _ = await stage.start(Parent, ["one"])
        await stage.worker(Parent, Child)
        await stage.soon(execution.result())
        backend = await stage.backend()

        async def found() -> list[str] | None:
            page = await backend.list(Where(id_prefix=f"{execution.id}/"))
            return [one.id for one in page] or None

        child, _ = await child_of(stage, execution)
        assert await stage.until(found) == [child.id]

    # Failures

    async def test_the_failure_of_a_child_names_it_and_carries_its_error(self, stage: Stage) -> None:
        execution, _ = await stage.start(CarefulParent, "fail", None)
        await stage.worker(CarefulParent, Child)
        child_id, *rest = await stage.soon(execution.result())
        assert rest == ["contract.child", "failed", "ValueError", "no luck", "no luck"]
        [failed] = data_of(await stage.soon(all_events(execution)), ChildFailedData)
        assert (failed.child, failed.failure.kind) == (child_id, "ChildFailed")
        assert failed.failure.cause is not None
        assert failed.failure.cause.kind == "ValueError"

    async def test_a_parent_that_does_not_catch_it_fails_with_the_childs_error_as_cause(
        self, stage: Stage
    ) -> None:
        execution, _ = await stage.start(Parent, ["fail"])
        await stage.worker(Parent, Child)
        with pytest.raises(ExecutionFailed, match=r"child 'x-.*no luck") as raised:
            await stage.soon(execution.result())
        assert isinstance(raised.value.__cause__, ChildFailed)

    @pytest.mark.parametrize("status", [Status.CANCELLED, Status.TERMINATED])
    async def test_a_parent_learns_that_its_child_was_ended_by_others(
        self, stage: Stage, status: Status
    ) -> None:
        execution, _ = await stage.start(CarefulParent, "wait", None)
        await stage.worker(CarefulParent, Child)
        child, world = await child_of(stage, execution)
        await stage.soon(world.happened("wait"))
        await stage.soon(child.cancel() if status is Status.CANCELLED else child.terminate("enough"))
        result = await stage.soon(execution.result())
        assert result[:3] == [child.id, "contract.child", status]
        # Temporal keeps the reason with the child.
        assert result[4] in ({""} if status is Status.CANCELLED else {"enough", KEPT})

    async def test_a_child_can_have_an_id_of_its_parents_choice_once(self, stage: Stage) -> None:
        chosen = stage.new_id()
        first, _ = await stage.start(CarefulParent, "one", chosen)
        await stage.worker(CarefulParent, Child)
        assert await stage.soon(first.result()) == ["one done"]
        second, _ = await stage.start(CarefulParent, "one", chosen)
        [refused] = await stage.soon(second.result())
        assert chosen in refused
        assert "choose another id" in refused
        foreign = stage.new_id()
        await (await stage.backend()).start(Child, "one", id=foreign)
        third, _ = await stage.start(CarefulParent, "one", foreign)
        [refused] = await stage.soon(third.result())
        assert foreign in refused

    # Signals and other task queues

    async def test_a_parent_signals_and_cancels_its_child(self, stage: Stage) -> None:
        execution, _ = await stage.start(TalkingParent, "wait", "cancel", None)
        await stage.worker(TalkingParent, Child)
        child, world = await child_of(stage, execution)
        await stage.soon(world.happened("wait"))
        for word in ["wrong", "signal", "wait", "late", "end"]:
            await stage.soon(execution.signal("say", word))
        said = await stage.soon(execution.result())
        assert said[0] == child.id
        assert "no signal of that name; it has: put" in said[1]
        assert said[2:] == ["a letter", "completed"]

        execution, _ = await stage.start(TalkingParent, "wait", "cancel", None)
        child, world = await child_of(stage, execution)
        await stage.soon(world.happened("wait"))
        for word in ["cancel", "wait", "end"]:
            await stage.soon(execution.signal("say", word))
        assert await stage.soon(execution.result()) == [child.id, "cancelled"]
        with pytest.raises(ExecutionCancelled):
            await stage.soon(child.result())

    async def test_a_child_runs_on_the_task_queue_that_its_parent_says(self, stage: Stage) -> None:
        execution, _ = await stage.start(TalkingParent, "there", "cancel", ELSEWHERE)
        await stage.worker(TalkingParent)
        child, world = await child_of(stage, execution)
        assert world.count("there") == 0
        await stage.worker(Child, task_queue=ELSEWHERE)
        await stage.soon(execution.signal("say", "wait"))
        await stage.soon(execution.signal("say", "end"))
        assert await stage.soon(execution.result()) == [child.id, "there done"]

    async def test_who_stops_waiting_for_a_handle_leaves_the_child_alone(self, stage: Stage) -> None:
        execution, _ = await stage.start(TalkingParent, "wait", "cancel", None)
        await stage.worker(TalkingParent, Child)
        child, _ = await child_of(stage, execution)
        await stage.soon(execution.signal("say", "give up"))
        await stage.event(execution, EventKind.TIMER_STARTED)
        await stage.later(stage.event(execution, EventKind.TIMER_FIRED), 1)
        await stage.soon(child.signal("put", "still here"))
        for word in ["wait", "end"]:
            await stage.soon(execution.signal("say", word))
        assert await stage.soon(execution.result()) == [child.id, "gave up", "still here"]

    async def test_a_worker_with_room_for_one_execution_carries_parents_and_children(
        self, stage: Stage
    ) -> None:
        execution, _ = await stage.start(MappingParent, ["one", "two", "three"], 2)
        await stage.worker(MappingParent, Child, max_concurrent_executions=1)
        done = ["one done", "two done", "three done"]
        assert await stage.soon(execution.result()) == done

    # The ends of parents

    async def test_cancelling_a_parent_cancels_the_child_that_it_waits_for(self, stage: Stage) -> None:
        execution, _ = await stage.start(Parent, ["wait"])
        await stage.worker(Parent, Child)
        child, world = await child_of(stage, execution)
        await stage.soon(world.happened("wait"))
        await stage.soon(execution.cancel())
        with pytest.raises(ExecutionCancelled):
            await stage.soon(execution.result())
        with pytest.raises(ExecutionCancelled):
            await stage.soon(child.result())

    async def test_code_that_stops_waiting_for_a_child_cancels_it(self, stage: Stage) -> None:
        execution, _ = await stage.start(ImpatientParent, 1.0)
        await stage.worker(ImpatientParent, Child)
        child, world = await child_of(stage, execution)
        await stage.soon(world.happened("wait"))
        with pytest.raises(ExecutionCancelled):
            await stage.later(child.result(), 1)
        await stage.soon(execution.signal("put", "a letter"))
        assert await stage.soon(execution.result()) == "gave up"

    @pytest.mark.parametrize("how", ["end", "fail"])
    @pytest.mark.parametrize("on_parent_end", ["cancel", "terminate", "abandon"])
    async def test_a_child_ends_with_its_parent_as_the_parent_said(
        self, stage: Stage, on_parent_end: OnParentEnd, how: str
    ) -> None:
        execution, _ = await stage.start(TalkingParent, "wait", on_parent_end, None)
        await stage.worker(TalkingParent, Child)
        child, world = await child_of(stage, execution)
        await stage.soon(world.happened("wait"))
        await stage.soon(execution.signal("say", how))
        if how == "end":
            await stage.soon(execution.result())
        else:
            with pytest.raises(ExecutionFailed):
                await stage.soon(execution.result())
        await self.check_fate(stage, child, on_parent_end)

    @pytest.mark.parametrize("on_parent_end", ["cancel", "terminate", "abandon"])
    async def test_a_child_ends_with_a_parent_that_is_terminated(
        self, stage: Stage, on_parent_end: OnParentEnd
    ) -> None:
        execution, _ = await stage.start(TalkingParent, "wait", on_parent_end, None)
        await stage.worker(TalkingParent, Child)
        child, world = await child_of(stage, execution)
        await stage.soon(world.happened("wait"))
        await stage.soon(execution.terminate("enough"))
        await self.check_fate(stage, child, on_parent_end)

    async def check_fate(self, stage: Stage, child: Execution, on_parent_end: OnParentEnd) -> None:
        """Check that the child ends as its parent has said."""
        if on_parent_end == "abandon":
            await stage.soon(child.signal("put", "on my own"))
            assert await stage.soon(child.result()) == "on my own"
        else:
            ended = ExecutionCancelled if on_parent_end == "cancel" else ExecutionTerminated
            with pytest.raises(ended):
                await stage.soon(child.result())

    # Many

    async def test_map_runs_so_many_at_once_and_returns_the_results_in_order(self, stage: Stage) -> None:
        tasks = [f"task {number}" for number in range(12)]
        execution, _ = await stage.start(MappingParent, tasks, 3)
        await stage.worker(MappingParent, Child)
        assert await stage.soon(execution.result()) == [f"{task} done" for task in tasks]
        is_open = most = 0
        for event in await stage.soon(all_events(execution)):
            is_open += (event.kind == EventKind.CHILD_STARTED) - (event.kind == EventKind.CHILD_COMPLETED)
            most = max(most, is_open)
        assert most == 3

    async def test_map_says_which_failed_when_all_have_ended(self, stage: Stage) -> None:
        execution, _ = await stage.start(MappingParent, ["one", "fail", "two", "fail again"], 2)
        await stage.worker(MappingParent, Child)
        count, failed, message, results = await stage.soon(execution.result())
        assert (count, failed) == (4, [1, 3])
        assert results == [[0, "one done"], [2, "two done"]]
        assert "2 of 4 children" in message
        assert "no luck" in message
        completed = data_of(await stage.soon(all_events(execution)), ChildCompletedData)
        assert sorted(str(data.result) for data in completed) == ["one done", "two done"]

    async def test_map_runs_a_thousand_children(self, stage: Stage) -> None:
        execution, _ = await stage.start(ParentOfMany, 1000)
        await stage.worker(ParentOfMany, SmallChild)
        assert await stage.soon(execution.result()) == list(range(1, 1001))

    @pytest.mark.parametrize("at_once", [0, 1.5, "2"])
    async def test_map_refuses_to_run_no_number_at_once(self, stage: Stage, at_once: Any) -> None:
        execution, _ = await stage.start(LooseParent, at_once)
        await stage.worker(LooseParent, Child)
        with pytest.raises(ExecutionFailed) as raised:
            await stage.soon(execution.result())
        assert isinstance(raised.value.__cause__, DefinitionError)

    # Running again

    async def test_a_fork_has_children_of_its_own(self, stage: Stage) -> None:
        self.needs(BackendCapability.RERUNS)
        execution, _ = await stage.start(Parent, ["one", "wait"])
        await stage.worker(Parent, Child)
        second, world = await child_of(stage, execution, 2)
        await stage.soon(world.happened("wait"))
        fork = await stage.soon(execution.fork())
        other, others_world = await child_of(stage, fork, 3)
        assert other.id != second.id
        await stage.soon(others_world.happened("wait"))
        await stage.soon(other.signal("put", "to the fork"))
        assert await stage.soon(fork.result()) == ["one done", "to the fork"]
        assert await stage.soon(second.describe()) is not None
        await stage.soon(second.signal("put", "to the original"))
        assert await stage.soon(execution.result()) == ["one done", "to the original"]
        with pytest.raises(ExecutionNotFound):
            await stage.soon((await stage.backend()).get(f"{fork.id}/no such child"))

    async def test_a_retry_of_a_parent_starts_another_child_for_one_that_failed(self, stage: Stage) -> None:
        self.needs(BackendCapability.RERUNS)
        execution, _ = await stage.start(Parent, ["one", "fail"])
        await stage.worker(Parent, Child)
        with pytest.raises(ExecutionFailed):
            await stage.soon(execution.result())
        await stage.soon(execution.retry())
        await stage.event(execution, EventKind.EXECUTION_REOPENED)
        with pytest.raises(ExecutionFailed):
            await stage.soon(execution.result())
        events = await stage.soon(all_events(execution))
        first, second, third = (data.child for data in data_of(events, ChildStartedData))
        assert len({first, second, third}) == 3
        assert worlds[first].count("one") == worlds[second].count("fail") == worlds[third].count("fail") == 1

    async def test_a_parent_that_was_terminated_goes_on_with_another_child(self, stage: Stage) -> None:
        self.needs(BackendCapability.RERUNS)
        execution, _ = await stage.start(Parent, ["wait"])
        await stage.worker(Parent, Child)
        first, world = await child_of(stage, execution)
        await stage.soon(world.happened("wait"))
        await stage.soon(execution.terminate("enough"))
        with pytest.raises(ExecutionCancelled):
            await stage.soon(first.result())
        await stage.soon(execution.retry())
        second, world = await child_of(stage, execution, 2)
        await stage.soon(world.happened("wait"))
        assert second.id != first.id
        await stage.soon(second.signal("put", "again"))
        assert await stage.soon(execution.result()) == ["again"]

    async def test_a_parent_that_is_held_at_a_failure_goes_on_with_another_child(self, stage: Stage) -> None:
        self.needs(BackendCapability.HOLDS_FAILURES)
        execution, world = await stage.start(HoldingParent)
        await stage.worker(HoldingParent, Child)
        first, _ = await child_of(stage, execution)
        await stage.event(execution, EventKind.EXECUTION_HELD)
        with pytest.raises(ExecutionCancelled):
            await stage.soon(first.result())
        world.gate("mended").set()
        await stage.soon(execution.resume())
        second, _ = await child_of(stage, execution, 2)
        assert second.id != first.id
        await stage.soon(second.signal("put", "mended"))
        assert await stage.soon(execution.result()) == "mended"

    async def test_an_imported_parent_that_goes_on_has_children_of_its_own(self, stage: Stage) -> None:
        self.needs(BackendCapability.RERUNS)
        execution, _ = await stage.start(Parent, ["wait"])
        await stage.worker(Parent, Child)
        first, _ = await child_of(stage, execution)
        lines = await stage.soon(execution.export())
        copy = await stage.soon((await stage.backend()).import_(lines, id=stage.new_id()))
        await stage.soon(copy.resume())
        second, _ = await child_of(stage, copy, 2)
        assert second.id.startswith(f"{copy.id}/")
        for child, letter in ((first, "here"), (second, "there")):
            await stage.soon(child.signal("put", letter))
        assert await stage.soon(execution.result()) == ["here"]
        assert await stage.soon(copy.result()) == ["there"]

    async def test_a_parent_can_be_exported_checked_and_imported(self, stage: Stage) -> None:
        self.needs(BackendCapability.RERUNS)
        execution, _ = await stage.start(Parent, ["one"])
        await stage.worker(Parent, Child)
        assert await stage.soon(execution.result()) == ["one done"]
        assert await stage.soon(execution.departure()) is None
        lines = await stage.soon(execution.export())
        copy = await stage.soon((await stage.backend()).import_(lines, id=stage.new_id()))
        assert await stage.soon(copy.result()) == ["one done"]
        assert await stage.soon(copy.departure()) is None
        copied = data_of(await stage.soon(all_events(copy)), ChildCompletedData)
        assert [data.result for data in copied] == ["one done"]
