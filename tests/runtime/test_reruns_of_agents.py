"""Runs of agents that are ended and opened again at any write of their journal, and forked at any record.

A controller acts right before or after a write of the worker, which still believes that it owns the
execution. Compared is everything that is not void: it must be what an undisturbed run has.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

import outlast
from outlast.adapters.scripted import call, handoff, say
from outlast.core.errors import (
    ActivityFailed,
    CannotRerun,
    ExecutionAlreadyEnded,
    ExecutionCancelled,
    ExecutionFailed,
    ExecutionTerminated,
)
from outlast.core.event_stream import Event, without_void
from outlast.core.events import EventKind
from outlast.core.json import JSON, canonical
from outlast.core.records import SignalReceived, StepCompleted
from outlast.core.summaries import SUMMARISER
from outlast.ports.durability.execution import Execution
from outlast.ports.journal import Claim, Commit, Store
from outlast.ports.llm import ModelRequest
from outlast.testing import MemoryStorage
from outlast.testing.contracts.durability.in_store import InStore
from outlast.testing.contracts.durability.rerun_programs import check_journal
from outlast.testing.contracts.durability.stage import DEPENDS_ON_WORKERS, Stage, all_events
from outlast.testing.contracts.durability.world import worlds
from outlast.testing.contracts.examples import few_examples
from outlast.testing.lifeline import Lifeline
from tests.runtime.test_agent_crashes import (
    LEASE,
    SHORT,
    Person,
    check,
    do,
    programs,
    reply_to,
    risk,
    said_by,
)

down: dict[str, int] = {}
"""The turn at which the model of an execution is down, until somebody mends it."""

LEFT_OUT = {
    *DEPENDS_ON_WORKERS,
    EventKind.EXECUTION_REOPENED,
    EventKind.EXECUTION_FORKED,
    EventKind.EXECUTION_TERMINATED,
    EventKind.TEXT_DELTA,  # It says which attempt it is of.
}


def reply(program: dict[str, Any], request: ModelRequest) -> Any:
    execution_id = request.idempotency_key.partition("/")[0]
    if down.get(execution_id) == request.turn and request.agent != SUMMARISER:
        raise ConnectionError("the model is down")
    said = reply_to(program, request)
    if request.turn == program["handoff"] and request.agent == "solo" and isinstance(said, list):
        return [*said, handoff("other")]
    return said


@outlast.workflow.define(name="reruns.agent")
class TwoAgents:
    """Runs an agent on a program that is given as data; it may hand off to another one."""

    @outlast.workflow.entrypoint
    async def run(self, program: dict[str, Any]) -> list[Any]:
        other = outlast.Agent(
            model="m", name="other", tools=[do, risk], output_type=int, output_guardrails=[check]
        )
        agent = outlast.Agent(
            model="m",
            name="solo",
            tools=[do, risk],
            handoffs=[other],
            output_type=int,
            input_guardrails=[check],
            output_guardrails=[check],
        )
        session = outlast.ScriptedSession(
            lambda request: reply(program, request),
            context=[SHORT] if program["summaries"] else [],
            stream=True,
            may_call_unknown_tools=True,
        )
        try:
            result = await outlast.Runner.run(agent, "Go.", session, max_tool_calls=program["most"])
        except outlast.LimitExceeded as error:
            return [str(error), [entry.to_wire() for entry in error.entries]]
        return [result.output, [entry.to_wire() for entry in result.entries]]


class Controlled(Lifeline):
    """The store of a worker, at whose n-th append a controller does something."""

    def __init__(self, store: Store, control: Any, acts_at: int, *, acts_before: bool) -> None:
        super().__init__(store)
        self._control = control
        self._left = acts_at
        self._acts_before = acts_before

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        self._left -= 1
        if not self._left and self._acts_before:
            await self._control()
        await super().append(claim, position, records, commit)
        if not self._left and not self._acts_before:
            await self._control()


def said(events: Sequence[Event]) -> list[str]:
    """Return what counts in a stream, without the order of what happened at once."""
    return sorted(
        canonical([one.kind, said_by(one.data.to_data())])
        for one in without_void(events)
        if one.kind not in LEFT_OUT
    )


async def undisturbed(stage: Stage, program: dict[str, Any]) -> tuple[Execution, JSON, list[str]]:
    execution, _ = await stage.start(TwoAgents, program)
    person = Person(await stage.again(execution))
    process = await stage.worker(TwoAgents)
    result = await stage.later(execution.result(), 60)
    await person.close()
    await process.stop()
    return execution, result, said(await all_events(execution))


async def outcome(stage: Stage, execution: Execution) -> Any:
    """Return the result, or the error that the execution ended with."""
    try:
        return await stage.later(execution.result(), 60)
    except (ExecutionCancelled, ExecutionFailed, ExecutionTerminated) as error:
        return error


@st.composite
def stories(draw: st.DrawFn) -> tuple[dict[str, Any], list[tuple[str, int, bool]]]:
    program = draw(programs())
    program["handoff"] = draw(st.sampled_from([0, 0, 1, 2]))
    acts = st.sampled_from(["terminate", "terminate and retry", "cancel"])
    return program, draw(st.lists(st.tuples(acts, st.integers(1, 12), st.booleans()), min_size=1, max_size=3))


@few_examples(40)
@given(stories(), st.integers(0, 3), st.sampled_from([0, 1000]))
async def test_d22_a_run_has_its_result_wherever_it_is_ended_and_opened_again(
    story: tuple[dict[str, Any], list[tuple[str, int, bool]]], down_at: int, cached: int
) -> None:
    program, acts = story
    stage = Stage(InStore(MemoryStorage()), LEASE, 30.0)
    try:
        _, expected, transcript = await undisturbed(stage, program)
        execution, world = await stage.start(TwoAgents, program)
        down[execution.id] = down_at
        person = Person(await stage.again(execution))
        done: dict[str, int] = {}
        for act, at, before in acts:

            async def control(act: str = act) -> None:
                with suppress(ExecutionAlreadyEnded):
                    await (execution.cancel() if act == "cancel" else execution.terminate("by the test"))
                    event(act)
                if act == "terminate and retry":
                    with suppress(CannotRerun):
                        await execution.retry()

            assert isinstance(stage.storage, InStore)
            store = Controlled(stage.storage.storage.open(), control, at, acts_before=before)
            backend = await stage.enter(stage.storage.open_on(store))
            process = await stage.worker(TwoAgents, backend=backend, max_cached_executions=cached)
            ended = await outcome(stage, execution)
            now = await check_journal(execution)
            assert {key: now[key] for key in done} == done, "a completed step ran again"
            done = now
            if not isinstance(ended, Exception):
                break
            if isinstance(ended, ExecutionFailed):
                event("failed")
                del down[execution.id]
            if before:
                await stage.lose(process)
            with suppress(CannotRerun):  # It was retried already, if that was a part of the act.
                await execution.retry()
            await person.close()
            person = Person(await stage.again(execution))
            if not before:
                await process.stop()
        down.pop(execution.id, None)
        await stage.worker(TwoAgents, max_cached_executions=cached)
        ended = await outcome(stage, execution)
        assert ended == expected
        assert said(await all_events(execution)) == transcript
        assert await execution.pending() == ()
        now = await check_journal(execution)
        assert {key: now[key] for key in done} == done, "a completed step ran again"
        assert not any(str(one.what).endswith(("deny", "edit")) for one in world.effects)
        await person.close()
    finally:
        await stage.close()


@few_examples(15)
@given(stories())
async def test_d23_a_fork_of_a_run_at_any_record_has_its_result(
    story: tuple[dict[str, Any], list[tuple[str, int, bool]]],
) -> None:
    program, _ = story
    stage = Stage(InStore(MemoryStorage()), LEASE, 30.0)
    try:
        execution, expected, transcript = await undisturbed(stage, program)
        await stage.worker(TwoAgents)
        records = [record async for record in execution.records()]
        for position in range(1, len(records) + 1):
            fork = await execution.fork(at=position)
            person = Person(await stage.again(fork))
            assert await outcome(stage, fork) == expected
            assert said(await all_events(fork)) == transcript
            await check_journal(fork)
            completed = {
                f"{fork.id}/{one.key}" for one in records[:position] if isinstance(one, StepCompleted)
            }
            assert not completed & {effect.key for effect in worlds[fork.id].effects}
            await person.close()
        assert records == [record async for record in execution.records()]
    finally:
        await stage.close()


async def test_d22_a_call_that_waited_for_a_person_at_the_end_waits_again_after_a_retry() -> None:
    program = {
        "calls": [[["risk", "0 allow"]]],
        "wrong answers": 0,
        "summaries": False,
        "most": 9,
        "handoff": 0,
    }
    stage = Stage(InStore(MemoryStorage()), timedelta(seconds=10), 30.0)
    try:
        execution, world = await stage.start(TwoAgents, program)
        await stage.worker(TwoAgents)
        await stage.event(execution, EventKind.APPROVAL_REQUESTED)
        (before,) = await execution.pending()
        for end in ("terminate", "cancel"):
            await (execution.terminate("too early") if end == "terminate" else execution.cancel())
            await outcome(stage, execution)
            assert await execution.pending() == ()
            await execution.retry()
            assert await execution.pending() == (before,)
        await execution.decide(before.call_id, "allow")
        assert (await stage.soon(execution.result()))[0] == 8
        assert world.count("0 allow") == 1
    finally:
        await stage.close()


async def test_d22_a_decision_that_was_given_counts_after_a_retry() -> None:
    program = {
        "calls": [[["risk", "0 allow"]]],
        "wrong answers": 0,
        "summaries": False,
        "most": 9,
        "handoff": 0,
    }
    stage = Stage(InStore(MemoryStorage()), timedelta(seconds=10), 30.0)
    try:
        execution, world = await stage.start(TwoAgents, program)
        down[execution.id] = 2
        await stage.worker(TwoAgents)
        await stage.event(execution, EventKind.APPROVAL_REQUESTED)
        (before,) = await execution.pending()
        await execution.decide(before.call_id, "allow")
        with pytest.raises(ExecutionFailed):
            await stage.soon(execution.result())
        del down[execution.id]
        fork = await execution.fork(at=before_position(await all_events(execution)))
        await execution.retry()
        assert (await stage.soon(execution.result()))[0] == 8
        assert world.count("0 allow") == 1
        decisions = [one async for one in execution.records() if isinstance(one, SignalReceived)]
        assert len(decisions) == 1
        # Nobody has decided about the call of the fork.
        await stage.event(fork, EventKind.APPROVAL_REQUESTED)
        assert len(await fork.pending()) == 1
    finally:
        await stage.close()


def before_position(events: Sequence[Event]) -> int:
    """Return the position of the request for an approval."""
    return next(one.position for one in events if one.kind == EventKind.APPROVAL_REQUESTED)


async def test_d22_a_durable_run_outside_a_workflow_goes_on_after_a_retry() -> None:
    """The outcome is read from the journal, and what is void does not count."""
    agent = outlast.Agent(model="m", name="solo", tools=[do])
    is_down = True

    def script(request: ModelRequest) -> Any:
        if request.turn == 1:
            return call("crashes_do", {"what": "once"})
        if is_down:
            raise ConnectionError("the model is down")
        return say("Done.")

    async with outlast.connect("memory:") as backend:
        for _ in range(2):
            with pytest.raises(ActivityFailed, match="the model is down"):
                await outlast.Runner.run(
                    agent, "Go.", outlast.ScriptedSession(script), id="q-1", backend=backend
                )
        execution = await backend.get("q-1")
        await execution.retry()
        is_down = False
        result = await outlast.Runner.run(
            agent, "Go.", outlast.ScriptedSession(script), id="q-1", backend=backend
        )
        assert (result.text, result.turns) == ("Done.", 2)
        assert [one.to_wire()["type"] for one in result.entries] == [
            "message.input",
            "function.call",
            "function.result",
            "message.output",
        ]
        assert worlds["q-1"].count("once") == 1
