"""Executions that are ended, run again and carried elsewhere: D22, D23, D25."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from outlast.adapters.scripted import ScriptedSession, call, say
from outlast.composition.running import Runner
from outlast.core.errors import (
    CannotRerun,
    ExecutionAlreadyEnded,
    ExecutionAlreadyExists,
    ExecutionCancelled,
    ExecutionFailed,
    ExecutionTerminated,
    UpdateAbandoned,
    WouldRepeat,
)
from outlast.core.events import (
    ActivityFailedData,
    ActivityStartedData,
    EventKind,
    ExecutionForkedData,
    ExecutionReopenedData,
)
from outlast.core.records import Status
from outlast.ports.durability.execution import Execution
from outlast.ports.finding import Where
from outlast.ports.llm import ModelRequest
from outlast.runtime.definitions import workflow
from outlast.runtime.definitions.activity import activity
from outlast.runtime.definitions.agent import Agent
from outlast.testing.contracts.durability.activities import (
    AT_ONCE,
    Overloaded,
    pass_gate,
    pass_gate_once,
    record,
)
from outlast.testing.contracts.durability.stage import DurabilityContractBase, Stage, all_events, data_of
from outlast.testing.contracts.durability.storage import BackendCapability
from outlast.testing.contracts.durability.workflows import Gated, GatedOnce
from outlast.testing.contracts.durability.world import World, here, worlds

mended: set[str] = set()
"""The executions whose code or outside world somebody has mended."""


@activity(retry_policy_initial_interval=AT_ONCE, retry_policy_max_attempts=2)
async def deliver(what: str) -> str:
    """Fail until somebody mends it."""
    here().happen(what)
    if activity.info().execution_id not in mended:
        raise Overloaded(f"no {what} today")
    return f"{what} done"


@activity(effect="once", retry_policy_max_attempts=1)
async def pay_once(what: str) -> str:
    """Fail until somebody mends it, and never do it twice."""
    here().happen(what)
    if activity.info().execution_id not in mended:
        raise Overloaded(f"no {what} today")
    return f"{what} done"


@workflow.define(name="contract.ordering_again")
class OrderingAgain:
    """Steps before, beside and after one that fails."""

    @workflow.entrypoint
    async def run(self, how: str) -> list[Any]:
        self.notes: list[str] = []
        done = [await record("before")]
        match how:
            case "step":
                done.append(await deliver("parcel"))
            case "once":
                done.append(await pay_once("bill"))
            case "beside":
                beside = asyncio.create_task(self.beside())
                try:
                    done.append(await deliver("parcel"))
                finally:
                    await beside
            case "once beside":
                once: asyncio.Task[str] = asyncio.create_task(self.once_beside())
                try:
                    done.append(await deliver("parcel"))
                finally:
                    done.append(await once)
            case "code":
                if workflow.info().execution_id not in mended:
                    raise Overloaded("a mistake in the code")
                done.append("mended")
            case "signal":
                done.append(await pass_gate("gate"))
                done.append(await deliver("parcel"))
            case "cleanup":
                try:
                    done.append(await pass_gate("gate"))
                except asyncio.CancelledError:
                    self.notes.append("cancelled")
                    await pass_gate("cleanup")
                    raise
            case "group":
                try:
                    async with asyncio.TaskGroup() as group:
                        tasks = [group.create_task(deliver(what)) for what in ("parcel", "letter")]
                    done += [task.result() for task in tasks]
                finally:
                    await record("tidied")
            case "hidden":
                try:
                    done.append(await deliver("parcel"))
                except Exception:
                    raise Overloaded("a text of its own") from None
            case "notes":
                await workflow.wait_condition(lambda: len(self.notes) == 3)
        done.append(await record("after"))
        return [*done, *self.notes]

    async def once_beside(self) -> str:
        return await pass_gate_once("beside")

    async def beside(self) -> None:
        """Two steps, which complete after another one has failed: one was under way then, one was not."""
        await pass_gate("beside")
        await record("second beside")

    @workflow.signal
    async def note(self, text: str) -> None:
        self.notes.append(text)

    @workflow.update
    async def count(self, text: str) -> int:
        self.notes.append(text)
        return len(self.notes)

    @workflow.update
    async def pay(self) -> str:
        return await pass_gate("bill")


agent = Agent(model="m", name="clerk", tools=[record])


@workflow.define(name="contract.turns_again")
class TurnsAgain:
    """A run of two turns; the text of the second says what the tool returned."""

    @workflow.entrypoint
    async def run(self) -> str:
        def reply(request: ModelRequest) -> Any:
            if request.turn == 1:
                return call("record", {"what": "paper"})
            return say(f"The tool said: {request.new[-1].to_wire()['result']}")

        return (await Runner.run(agent, "go", ScriptedSession(reply))).text


@workflow.define(name="contract.random_again")
class RandomAgain:
    """Passes random numbers to steps: a copy must get the same."""

    @workflow.entrypoint
    async def run(self) -> list[Any]:
        drawn = [str(workflow.uuid4()), str(workflow.random().random())]
        return [await record(one) for one in drawn] + [await pass_gate("gate")]


class RerunContract(DurabilityContractBase):
    """D22, D23, D25."""

    @pytest.fixture(autouse=True)
    def _reruns(self, request: pytest.FixtureRequest) -> None:
        # The whole contract inherits this fixture: the tests of its other parts do not need the capability.
        if request.function.__name__ in vars(RerunContract):
            self.needs(BackendCapability.RERUNS)

    # Terminating -------------------------------------------------------------------------------------------

    async def test_d22_a_terminated_execution_ends_where_it_is(self, stage: Stage) -> None:
        execution, world = await stage.start(Gated)
        await stage.worker(Gated)
        await stage.soon(world.happened("gate reached"))
        await execution.terminate("enough of it")
        with pytest.raises(ExecutionTerminated, match="enough of it"):
            await stage.soon((await stage.again(execution)).result())
        assert (await execution.describe()).status is Status.TERMINATED
        with pytest.raises(ExecutionAlreadyEnded):
            await execution.terminate("once more")
        with pytest.raises(ExecutionAlreadyEnded):
            await execution.cancel()
        assert (await all_events(execution))[-1].kind is EventKind.EXECUTION_TERMINATED
        world.gate("gate").set()
        assert world.count("after") == 0

    async def test_d22_an_execution_without_a_worker_is_terminated(self, stage: Stage) -> None:
        execution, world = await stage.start(Gated)
        await execution.terminate("nobody is there")
        await stage.worker(Gated)
        with pytest.raises(ExecutionTerminated):
            await stage.soon(execution.result())
        assert not world.effects

    # Retrying ----------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("how", ["step", "code", "beside"])
    async def test_d22_a_retry_goes_on_and_repeats_no_completed_step(self, stage: Stage, how: str) -> None:
        execution, world = await stage.start(OrderingAgain, how)
        await stage.worker(OrderingAgain)
        if how == "beside":
            await stage.event(execution, EventKind.ACTIVITY_FAILED)
            world.gate("beside").set()
        with pytest.raises(ExecutionFailed):
            await stage.soon(execution.result())
        tried = world.attempts("parcel")
        mended.add(execution.id)
        await (await stage.again(execution)).retry()
        done = await stage.soon(execution.result())
        assert done == ["before done", "mended" if how == "code" else "parcel done", "after done"]
        for what in ("before", "after"):
            assert world.count(what) == 1
        for what in ("beside reached", "beside passed", "second beside"):
            assert world.count(what) == (how == "beside")
        if how != "code":
            assert tried == [1, 2]
            assert world.attempts("parcel") == [1, 2, 1]
            assert len({effect.key for effect in world.effects if effect.what == "parcel"}) == 1
        keys = [effect.key for effect in world.effects if effect.what not in ("parcel", "beside reached")]
        assert len(set(keys)) == len(keys)
        assert (await execution.describe()).status is Status.COMPLETED

    async def test_d22_an_execution_can_be_retried_again_and_again(self, stage: Stage) -> None:
        execution, world = await self.failed(stage, "step")
        for number in range(1, 4):
            await execution.retry()
            with pytest.raises(ExecutionFailed, match="no parcel today"):
                await stage.soon(execution.result())
            assert world.attempts("parcel") == [1, 2] * (number + 1)
        mended.add(execution.id)
        await execution.retry()
        assert await stage.soon(execution.result()) == ["before done", "parcel done", "after done"]
        assert world.count("before") == 1
        kinds = [event.kind for event in await all_events(execution)]
        assert kinds.count(EventKind.EXECUTION_REOPENED) == 4

    async def test_d22_the_stream_says_what_is_void(self, stage: Stage) -> None:
        execution, _ = await self.failed(stage, "step")
        mended.add(execution.id)
        await execution.retry()
        await stage.soon(execution.result())
        events = await all_events(execution)
        (reopened,) = [event for event in events if event.kind is EventKind.EXECUTION_REOPENED]
        assert isinstance(reopened.data, ExecutionReopenedData)
        (failed,) = [event for event in events if event.kind is EventKind.ACTIVITY_FAILED]
        assert reopened.data.valid == failed.position - 1
        assert len(reopened.data.failed) == 1
        positions = [event.position for event in events]
        assert positions == sorted(set(positions))

    async def test_d22_a_cancelled_execution_goes_on_as_if_nobody_had_asked(self, stage: Stage) -> None:
        execution, world = await stage.start(Gated)
        await stage.worker(Gated)
        await stage.soon(world.happened("gate reached"))
        await execution.cancel()
        with pytest.raises(ExecutionCancelled):
            await stage.soon(execution.result())
        world.gate("gate").set()
        await execution.retry()
        assert await stage.soon(execution.result()) == ["before done", "gate done", "after done"]
        assert world.count("before") == 1

    async def test_d22_a_terminated_execution_goes_on_from_where_it_was(self, stage: Stage) -> None:
        execution, world = await stage.start(Gated)
        await stage.worker(Gated)
        await stage.soon(world.happened("gate reached"))
        await execution.terminate("by mistake")
        world.gate("gate").set()
        await execution.retry()
        assert await stage.soon(execution.result()) == ["before done", "gate done", "after done"]
        assert world.count("before") == 1

    async def test_d22_messages_of_the_void_part_are_delivered_again(self, stage: Stage) -> None:
        execution, world = await stage.start(OrderingAgain, "cleanup")
        await stage.worker(OrderingAgain)
        await stage.soon(world.happened("gate reached"))
        await execution.signal("note", "early")
        await stage.event(execution, EventKind.SIGNAL_RECEIVED)
        await execution.cancel()
        await stage.soon(world.happened("cleanup reached"))
        await execution.signal("note", "late")
        await stage.event(execution, EventKind.SIGNAL_RECEIVED, times=2)
        world.gate("cleanup").set()
        with pytest.raises(ExecutionCancelled):
            await stage.soon(execution.result())
        await execution.retry()
        world.gate("gate").set()
        done = await stage.soon(execution.result())
        assert done == ["before done", "gate done", "after done", "early", "late"]

    @pytest.mark.parametrize("how", ["group", "hidden"])
    async def test_d22_a_failed_step_is_tried_anew_however_its_failure_was_raised(
        self, stage: Stage, how: str
    ) -> None:
        execution, world = await self.failed(stage, how)
        events = await all_events(execution)
        failed = {one.key for one in data_of(events, ActivityFailedData)}
        mended.add(execution.id)
        await execution.retry()
        done = await stage.soon(execution.result())
        assert [one for one in done if "parcel" in one] == ["parcel done"]
        # The failure of one of them may come while the other is still under way: then that is in doubt.
        for started in data_of(events, ActivityStartedData):
            if started.name == "deliver":
                last = world.attempts(str(started.arguments["what"]))[-1]
                assert (last == 1) == (started.key in failed)
        assert world.count("before") == 1

    async def test_d22_signals_that_nobody_had_taken_are_applied_after_a_retry(self, stage: Stage) -> None:
        execution, _ = await stage.start(OrderingAgain, "notes")
        for text in ("one", "two"):
            await execution.signal("note", text)
        await execution.terminate("too early")
        await execution.retry()
        await execution.signal("note", "three")
        await stage.worker(OrderingAgain)
        assert await stage.soon(execution.result()) == ["before done", "after done", "one", "two", "three"]

    async def test_d22_a_cancel_request_that_nobody_had_taken_is_void(self, stage: Stage) -> None:
        execution, world = await stage.start(Gated)
        await execution.cancel()
        await execution.terminate("at once")
        await execution.retry()
        world.gate("gate").set()
        await stage.worker(Gated)
        assert await stage.soon(execution.result()) == ["before done", "gate done", "after done"]

    async def test_d22_an_update_that_came_too_late_can_be_sent_again(self, stage: Stage) -> None:
        execution, world = await stage.start(OrderingAgain, "signal")
        sent = asyncio.create_task(execution.update("count", "late", id="u"))
        await stage.pass_time(0.1)
        await execution.terminate("too early")
        with pytest.raises(ExecutionAlreadyEnded):
            await stage.soon(sent)
        await execution.retry()
        await stage.worker(OrderingAgain)
        await stage.soon(world.happened("gate reached"))
        assert await stage.soon(execution.update("count", "late", id="u")) == 1
        assert await stage.soon((await stage.again(execution)).update("count", "late", id="u")) == 1
        mended.add(execution.id)
        world.gate("gate").set()
        assert (await stage.soon(execution.result()))[-1] == "late"

    async def test_d22_an_update_keeps_its_answer_though_its_handler_runs_again(self, stage: Stage) -> None:
        execution, world = await stage.start(OrderingAgain, "cleanup")
        await stage.worker(OrderingAgain)
        await stage.soon(world.happened("gate reached"))
        await execution.cancel()
        await stage.soon(world.happened("cleanup reached"))
        answers = {id: await stage.soon(execution.update("count", id, id=id)) for id in ("a", "b")}
        assert answers == {"a": 2, "b": 3}
        world.gate("cleanup").set()
        with pytest.raises(ExecutionCancelled):
            await stage.soon(execution.result())
        await execution.retry()
        world.gate("gate").set()
        done = await stage.soon(execution.result())
        assert done == ["before done", "gate done", "after done", "a", "b"]
        again = await stage.again(execution)
        assert {id: await stage.soon(again.update("count", "x", id=id)) for id in ("a", "b")} == answers
        assert {event.kind for event in await all_events(again)} >= {EventKind.UPDATE_COMPLETED}

    async def test_d22_an_update_under_way_at_the_end_is_answered_after_a_retry(self, stage: Stage) -> None:
        execution, world = await stage.start(OrderingAgain, "signal")
        await stage.worker(OrderingAgain)
        await stage.soon(world.happened("gate reached"))
        sent = asyncio.create_task(execution.update("pay", id="u"))
        await stage.event(execution, EventKind.UPDATE_ACCEPTED)
        await execution.terminate("too early")
        with pytest.raises(UpdateAbandoned):
            await stage.soon(sent)
        mended.add(execution.id)
        await execution.retry()
        world.gate("bill").set()
        assert await stage.soon(execution.update("pay", id="u")) == "bill done"
        world.gate("gate").set()
        await stage.soon(execution.result())
        (answer,) = [one for one in await all_events(execution) if one.kind is EventKind.UPDATE_COMPLETED]
        assert answer.data.to_data()["name"] == "pay"

    async def test_d22_the_reason_of_an_end_from_outside_is_shown(self, stage: Stage) -> None:
        execution, _ = await stage.start(Gated)
        await execution.terminate("enough of it")
        described = await execution.describe()
        assert (described.status, described.error) == (Status.TERMINATED, "enough of it")
        await execution.retry()
        described = await execution.describe()
        assert (described.status, described.error, described.ended_at) == (Status.RUNNING, None, None)

    async def test_d22_a_step_that_must_be_done_once_is_repeated_only_when_asked_for(
        self, stage: Stage
    ) -> None:
        execution, world = await self.failed(stage, "once")
        with pytest.raises(WouldRepeat, match="pay_once"):
            await execution.retry()
        assert (await execution.describe()).status is Status.FAILED
        mended.add(execution.id)
        await execution.retry(again=True)
        assert await stage.soon(execution.result()) == ["before done", "bill done", "after done"]
        assert world.count("bill") == 2

    async def test_d22_a_step_that_must_be_done_once_is_in_doubt_after_a_termination(
        self, stage: Stage
    ) -> None:
        execution, world = await stage.start(GatedOnce)
        await stage.worker(GatedOnce)
        await stage.soon(world.happened("gate reached"))
        await execution.terminate("by mistake")
        await execution.retry()
        assert await stage.soon(execution.result()) == "unknown, looked done"
        assert world.count("gate reached") == 1

    async def test_d22_a_step_that_was_done_once_beside_a_failed_one_keeps_its_result(
        self, stage: Stage
    ) -> None:
        execution, world = await stage.start(OrderingAgain, "once beside")
        await stage.worker(OrderingAgain)
        await stage.event(execution, EventKind.ACTIVITY_FAILED)
        world.gate("beside").set()
        with pytest.raises(ExecutionFailed):
            await stage.soon(execution.result())
        mended.add(execution.id)
        await execution.retry()
        done = await stage.soon(execution.result())
        assert done == ["before done", "parcel done", "beside done", "after done"]
        assert world.count("beside passed") == 1

    async def test_d22_only_what_has_ended_without_a_result_is_retried(self, stage: Stage) -> None:
        execution, world = await stage.start(Gated)
        with pytest.raises(CannotRerun, match="has not ended"):
            await execution.retry()
        world.gate("gate").set()
        await stage.worker(Gated)
        await stage.soon(execution.result())
        with pytest.raises(CannotRerun, match="has completed"):
            await execution.retry()
        assert (await execution.describe()).status is Status.COMPLETED

    async def test_d22_of_several_retries_at_once_one_happens(self, stage: Stage) -> None:
        execution, world = await self.failed(stage, "step")
        mended.add(execution.id)
        handles = [await stage.again(execution) for _ in range(4)]
        outcomes = await asyncio.gather(*(one.retry() for one in handles), return_exceptions=True)
        assert outcomes.count(None) >= 1
        assert all(one is None or isinstance(one, CannotRerun) for one in outcomes)
        assert await stage.soon(execution.result()) == ["before done", "parcel done", "after done"]
        assert world.attempts("parcel") == [1, 2, 1]

    async def test_d26_an_execution_that_was_retried_is_listed_once(self, stage: Stage) -> None:
        execution, _ = await self.failed(stage, "step")
        await execution.retry()
        with pytest.raises(ExecutionFailed):
            await stage.soon(execution.result())
        mended.add(execution.id)
        await execution.retry()
        await stage.soon(execution.result())
        backend = await stage.backend()

        async def listed() -> list[Status] | None:
            found = [one.status for one in await backend.list() if one.id == execution.id]
            return found if Status.COMPLETED in found else None

        assert await stage.until(listed) == [Status.COMPLETED]
        failed = await backend.list(Where(status=Status.FAILED))
        assert execution.id not in [one.id for one in failed]

    # Forking -----------------------------------------------------------------------------------------------

    async def test_d23_a_fork_at_any_position_repeats_nothing_of_the_copy(self, stage: Stage) -> None:
        execution, world = await stage.start(Gated)
        world.gate("gate").set()
        await stage.worker(Gated)
        done = await stage.soon(execution.result())
        events = await all_events(execution)
        before = [record.to_json() async for record in execution.records()]
        for position in range(1, len(before) + 1):
            fork = await execution.fork(at=position, id=f"{execution.id} from {position}")
            worlds[fork.id].gate("gate").set()
            assert await stage.soon(fork.result()) == done
            completed = sum(
                event.kind is EventKind.ACTIVITY_COMPLETED and event.position <= position for event in events
            )
            assert len({effect.key for effect in worlds[fork.id].effects}) == len(done) - completed
            assert not {one.key for one in worlds[fork.id].effects} & {one.key for one in world.effects}
            copied = (await all_events(fork))[: len([one for one in events if one.position <= position])]
            assert [one.data for one in copied if "execution" not in one.kind] == [
                one.data for one in events if one.position <= position and "execution" not in one.kind
            ]
        assert [record.to_json() async for record in execution.records()] == before

    async def test_d23_random_numbers_of_a_copy_are_those_of_the_original(self, stage: Stage) -> None:
        execution, world = await stage.start(RandomAgain)
        await stage.worker(RandomAgain)
        await stage.soon(world.happened("gate reached"))
        fork = await execution.fork()
        again = await fork.fork()
        for one in (execution, fork, again):
            worlds[one.id].gate("gate").set()
        done = await stage.soon(execution.result())
        assert await stage.soon(fork.result()) == await stage.soon(again.result()) == done
        assert [effect.what for effect in worlds[fork.id].effects] == ["gate reached", "gate passed"]

    async def test_d23_a_fork_may_have_another_result_of_a_step(self, stage: Stage) -> None:
        execution, world = await stage.start(TurnsAgain)
        await stage.worker(TurnsAgain)
        assert await stage.soon(execution.result()) == "The tool said: paper done"
        (called,) = [one for one in await all_events(execution) if one.kind is EventKind.TOOL_CALLED]
        key = called.data.to_data()["key"]
        fork = await execution.fork(edits={key: "no paper left"})
        assert await stage.soon(fork.result()) == "The tool said: no paper left"
        assert not worlds[fork.id].effects
        assert world.count("paper") == 1
        (forked,) = [one.data for one in await all_events(fork) if one.kind is EventKind.EXECUTION_FORKED]
        assert isinstance(forked, ExecutionForkedData)
        assert (forked.source, forked.edited) == (execution.id, (key,))

    async def test_d23_a_fork_may_have_another_input(self, stage: Stage) -> None:
        execution, _ = await self.failed(stage, "code")
        fork = await execution.fork(edits={"input": {"how": "nothing"}})
        assert await stage.soon(fork.result()) == ["before done", "after done"]
        assert (await execution.describe()).status is Status.FAILED

    async def test_d23_what_does_not_fit_is_refused_and_nothing_starts(self, stage: Stage) -> None:
        execution, world = await stage.start(TurnsAgain)
        await stage.worker(TurnsAgain)
        await stage.soon(execution.result())
        length = len([record async for record in execution.records()])
        backend = await stage.backend()
        known = len(await backend.list())
        model = "run:0/t1/model"
        for options, message in (
            ({"at": length + 1}, "positions 1 to"),
            ({"at": 0}, "positions 1 to"),
            ({"edits": {"nothing": 1}}, "no result to edit for nothing"),
            ({"edits": {model: {"entries": "none"}}}, "does not fit"),
            ({"edits": {"input": {"unknown": 1}}}, "does not fit"),
            ({"edits": {"input": "text"}}, "is an object"),
        ):
            with pytest.raises(CannotRerun, match=message):
                await execution.fork(**options)
        with pytest.raises(ExecutionAlreadyExists):
            await execution.fork(id=execution.id)
        assert len(await backend.list()) == known
        assert world.count("paper") == 1

    # Exporting and importing -------------------------------------------------------------------------------

    async def test_d25_an_export_replays_and_can_be_forked_where_it_is_imported(self, stage: Stage) -> None:
        execution, _ = await self.failed(stage, "step")
        lines = await execution.export()
        assert [json.loads(line)["type"] for line in lines[:2]] == [
            "outlast_export",
            EventKind.EXECUTION_STARTED,
        ]
        backend = await stage.backend()
        copy = await backend.import_(lines, id=f"a copy of {execution.id}")
        assert (await copy.describe()).status is Status.FAILED
        events, copied = await all_events(execution), await all_events(copy)
        # Where a server keeps only the last failed attempt, that is not a record.
        assert [event.data for event in copied if event.kind is not EventKind.ATTEMPT_FAILED] == [
            event.data for event in events if event.kind is not EventKind.ATTEMPT_FAILED
        ]
        fork = await copy.fork()
        mended.add(fork.id)
        assert await stage.soon(fork.result()) == ["before done", "parcel done", "after done"]
        assert worlds[fork.id].count("before") == 0
        mended.add(copy.id)
        await copy.retry()
        assert await stage.soon(copy.result()) == ["before done", "parcel done", "after done"]
        assert worlds[copy.id].count("before") == 0

    async def test_d25_an_import_does_not_run_by_itself(self, stage: Stage) -> None:
        execution, world = await stage.start(RandomAgain)
        await stage.worker(RandomAgain)
        await stage.soon(world.happened("gate reached"))
        lines = await execution.export()
        copy = await (await stage.backend()).import_(lines, id=f"a copy of {execution.id}")
        worlds[copy.id].gate("gate").set()
        world.gate("gate").set()
        done = await stage.soon(execution.result())
        description = await copy.describe()
        assert (description.status, description.held) == (Status.PAUSED, False)
        assert "imported" in (description.error or "")
        assert not worlds[copy.id].effects
        assert await copy.resume()
        assert await stage.soon(copy.result()) == done
        assert {effect.what for effect in worlds[copy.id].effects} == {"gate reached", "gate passed"}

    async def test_d25_a_step_that_may_be_under_way_elsewhere_is_in_doubt_after_an_import(
        self, stage: Stage
    ) -> None:
        execution, world = await stage.start(GatedOnce)
        await stage.worker(GatedOnce)
        await stage.soon(world.happened("gate reached"))
        copy = await (await stage.backend()).import_(await execution.export(), id=f"a copy of {execution.id}")
        await copy.resume()
        assert await stage.soon(copy.result()) == "unknown, looked done"
        assert worlds[copy.id].count("gate reached") == 0

    async def test_d25_what_cannot_be_imported_leaves_nothing(self, stage: Stage) -> None:
        execution, _ = await self.failed(stage, "step")
        lines = list(await execution.export())
        backend = await stage.backend()
        with pytest.raises(ExecutionAlreadyExists):
            await backend.import_(lines)
        for damaged in ([], lines[:-1], lines[1:], [*lines, "{}"], [lines[0], *["{}"] * (len(lines) - 1)]):
            with pytest.raises(CannotRerun):
                await backend.import_(damaged, id="damaged")
        assert [one.id for one in await backend.list()] == [execution.id]

    async def failed(self, stage: Stage, how: str) -> tuple[Execution, World]:
        """Return an execution that has failed; a worker is there."""
        execution, world = await stage.start(OrderingAgain, how)
        await stage.worker(OrderingAgain)
        with pytest.raises(ExecutionFailed):
            await stage.soon(execution.result())
        return execution, world
