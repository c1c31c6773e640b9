"""Runs with approvals, checks, limits and summaries have the same result wherever their processes die."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

from hypothesis import event, given
from hypothesis import strategies as st

import outlast
from outlast.adapters.scripted import call, handoff, say
from outlast.core.errors import ExecutionAlreadyEnded, NotPending
from outlast.core.events import ApprovalRequestedData, QuestionAskedData
from outlast.core.json import JSON, canonical
from outlast.core.summaries import SUMMARISER
from outlast.ports.durability.execution import Execution
from outlast.ports.llm import ModelRequest
from outlast.testing import MemoryStorage
from outlast.testing.contracts.durability.activities import AT_ONCE
from outlast.testing.contracts.durability.in_store import InStore
from outlast.testing.contracts.durability.stage import Stage, transcript
from outlast.testing.contracts.durability.world import World, here
from outlast.testing.contracts.examples import few_examples
from outlast.testing.lifeline import Lifeline

LEASE = timedelta(seconds=10)
Reply = list[list[Any]]
"""Tools with the name of the deed, all called in one reply."""


@outlast.activity(name="crashes_do", retry_policy_initial_interval=AT_ONCE)
async def do(what: str) -> str:
    """Do something."""
    here().happen(what)
    return f"{what} done"


@outlast.activity(name="crashes_risk", retry_policy_initial_interval=AT_ONCE, requires_approval=True)
async def risk(what: str) -> str:
    """Do something that a person must allow."""
    here().happen(what)
    return f"{what} done"


@outlast.activity(name="crashes_check", retry_policy_initial_interval=AT_ONCE)
async def check(text: str) -> outlast.Replace | None:
    """Check a text."""
    here().happen(f"checked {text}")
    return outlast.Replace(text.replace("7", "8")) if "7" in text else None


def careful(arguments: dict[str, Any]) -> outlast.Reject | outlast.Replace | None:
    what = str(arguments.get("what"))
    if "0.1" in what:
        return outlast.Reject("not this one")
    return outlast.Replace("there is no need") if "1.1" in what else None


def discreet(text: str) -> outlast.Reject | outlast.Replace | None:
    if "2.0" in text:
        return outlast.Reject("not for you")
    return outlast.Replace(text.replace("done", "****")) if "0.0" in text else None


SHORT = outlast.SummariseHistory(3, keep_turns=1, count=lambda entry: 1)


def reply_to(program: dict[str, Any], request: ModelRequest) -> Any:
    entries = [*request.history, *request.new]
    if request.agent == SUMMARISER:
        return say(f"{len(entries)} message of {len(str(entries[0].to_wire()['content']))} characters")
    calls: list[Reply] = program["calls"]
    turn = request.turn
    if turn <= len(calls):
        made = [call(f"crashes_{tool}", {"what": what}) for tool, what in calls[turn - 1]]
        if program.get("searches"):
            made.append(call("search_tools", {"query": f"crashes {calls[turn - 1][0][0]}"}))
        return [*made, handoff("twin")] if turn == program.get("hands off") else made
    return say("no number" if turn <= len(calls) + program["wrong answers"] else '{"value": 7}')


@outlast.workflow.define(name="crashes.agent")
class OneRun:
    """Runs an agent on a program that is given as data."""

    @outlast.workflow.entrypoint
    async def run(self, program: dict[str, Any]) -> list[Any]:
        tools = [do, risk]
        options: dict[str, Any] = {
            "model": "m",
            "tools": [outlast.ToolIndex(tools, limit=1)] if program.get("searches") else tools,
            "output_type": int,
            "output_guardrails": [check],
            "max_parallel_tools": program.get("at once"),
            "tool_input_guardrails": {"*": careful} if program.get("guards") else {},
            "tool_output_guardrails": {"*": discreet} if program.get("guards") else {},
        }
        twin = outlast.Agent(name="twin", **options)
        part = outlast.Handoff(twin, input_filter=outlast.without_tool_calls)
        agent = outlast.Agent(name="solo", input_guardrails=[check], handoffs=[part], **options)
        session = outlast.ScriptedSession(
            lambda request: reply_to(program, request),
            context=[SHORT] if program["summaries"] else [],
            may_call_unknown_tools=True,
        )
        try:
            result = await outlast.Runner.run(
                agent,
                "Go.",
                session,
                max_turns=program.get("turns", 10),
                max_tool_calls=program["most"],
                on_limit="raise" if program.get("raises") is None else "ask",
            )
        except outlast.LimitExceeded as error:
            return [str(error), [entry.to_wire() for entry in error.entries]]
        return [result.output, [entry.to_wire() for entry in result.entries]]


@st.composite
def programs(draw: st.DrawFn) -> dict[str, Any]:
    tools = st.sampled_from(["do", "risk", "risk"])
    shape = draw(st.lists(st.lists(tools, min_size=1, max_size=3), max_size=3))
    verdicts = ["allow", "deny", "edit"]
    calls = [
        [
            [tool, f"{n}.{m} {draw(st.sampled_from(verdicts))}" if tool == "risk" else f"{n}.{m}"]
            for m, tool in enumerate(reply)
        ]
        for n, reply in enumerate(shape)
    ]
    return {
        "calls": calls,
        "wrong answers": draw(st.integers(0, 2)),
        "summaries": draw(st.booleans()),
        "most": draw(st.sampled_from([100, 100, 3])),
        "at once": draw(st.sampled_from([None, 1, 2])),
        "guards": draw(st.booleans()),
        "searches": draw(st.booleans()),
        "hands off": draw(st.sampled_from([0, 1, 2])),
        "turns": draw(st.sampled_from([10, 2, 1])),
        "raises": draw(st.sampled_from([None, 0, 1, 2])),
    }


class Person:
    """Decides about each call as its name says; decides twice where the first decision was lost.

    Raises every limit by as much as the program says.
    """

    def __init__(self, execution: Execution, raises: int | None = None) -> None:
        self._execution = execution
        self._raises = raises
        self._task = asyncio.create_task(self._decide())

    async def _decide(self) -> None:
        async for asked in self._execution.events():
            if isinstance(asked.data, ApprovalRequestedData):
                await self._decide_about(asked.data.call_id, str(asked.data.arguments))
            elif isinstance(asked.data, QuestionAskedData):
                await self._raise_limit(asked.data)

    async def _decide_about(self, call_id: str, arguments: str) -> None:
        try:
            match next(verdict for verdict in ("allow", "deny", "edit") if verdict in arguments):
                case "deny":
                    await self._execution.decide(call_id, "deny", "no")
                case "allow":
                    await self._execution.decide(call_id, "allow")
                case _:
                    changed = {"what": f"{call_id} changed"}
                    await self._execution.decide(call_id, "allow", edited_arguments=changed)
        except (NotPending, ExecutionAlreadyEnded):
            return  # The stream was behind: the run has ended.

    async def _raise_limit(self, asked: QuestionAskedData) -> None:
        used = int(asked.question.split(" has used ")[1].split()[0])
        try:
            await self._execution.answer(asked.key, used + self._raises if self._raises else None)
        except (NotPending, ExecutionAlreadyEnded):
            return  # The stream was behind.

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def outcome(
    program: dict[str, Any], crashes: list[int], dies_after_effect: bool, cached: int
) -> tuple[Any, list[str], World]:
    """Return the result of a program if a process dies at each of those calls of its store."""
    stage = Stage(InStore(MemoryStorage()), LEASE, 30.0)
    try:
        execution, world = await stage.start(OneRun, program)
        person = Person(await stage.again(execution), program.get("raises"))
        for number in crashes:
            assert isinstance(stage.storage, InStore)
            lifeline = Lifeline(
                stage.storage.storage.open(), dies_at=number, dies_after_effect=dies_after_effect
            )
            backend = await stage.enter(stage.storage.open_on(lifeline))
            process = await stage.worker(OneRun, backend=backend, max_cached_executions=cached)
            died = asyncio.ensure_future(lifeline.died.wait())
            ended = asyncio.ensure_future(execution.result())
            await stage.later(asyncio.wait({died, ended}, return_when=asyncio.FIRST_COMPLETED), 60)
            event("died" if died.done() else "ended before")
            for task in (died, ended):
                task.cancel()
            await stage.lose(process)
        await stage.worker(OneRun, max_cached_executions=cached)
        result = await stage.later(execution.result(), 60)
        events = [canonical([kind, said_by(data)]) for kind, data in await stage.soon(transcript(execution))]
        assert await stage.soon(execution.pending()) == ()
        await person.close()
        return result, sorted(events), world
    finally:
        await stage.close()


def said_by(data: dict[str, Any]) -> JSON:
    return {name: value for name, value in data.items() if name not in ("due_at", "id")}


@few_examples(30)
@given(
    program=programs(),
    crashes=st.lists(st.integers(min_value=1, max_value=25), min_size=1, max_size=2),
    dies_after_effect=st.booleans(),
    cached=st.sampled_from([0, 1000]),
)
async def test_a_crash_at_any_call_of_the_store_changes_nothing_of_a_run(
    program: dict[str, Any], crashes: list[int], dies_after_effect: bool, cached: int
) -> None:
    quiet = await outcome(program, [], dies_after_effect, cached)
    troubled = await outcome(program, crashes, dies_after_effect, cached)
    assert troubled[:2] == quiet[:2]
    attempts = Counter((effect.key, effect.attempt) for effect in troubled[2].effects)
    assert set(attempts.values()) <= {1}, "an attempt was made twice"
    deeds = {effect.what for effect in quiet[2].effects}
    assert {effect.what for effect in troubled[2].effects} == deeds
    assert not any(str(what).endswith(("deny", "edit")) for what in deeds)
