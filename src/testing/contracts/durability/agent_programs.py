"""Random programs of agents, with runs within runs, and with people who answer, decide, say and interrupt.

What people do is a part of the program, so that it is the same with and without a crash: each deed of theirs
follows from a question or an approval that they see in the events. Whoever says something to a run, or
interrupts it, does so while that run, or one within it, waits for an answer of theirs. So the run gets the
message in the same turn every time. Hence the rules by which programs are drawn: in one turn of a run of the
workflow at most one thing is said, and a run is interrupted when nothing else is under way in it.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Coroutine, Sequence
from datetime import timedelta
from typing import Any, ClassVar

from hypothesis import given
from hypothesis import strategies as st

from outlast.adapters.scripted import ScriptedSession, call, say
from outlast.composition.running import Runner
from outlast.core.entries import FunctionCall, FunctionResult, MessageInput
from outlast.core.errors import RunInterrupted
from outlast.core.events import ApprovalRequestedData, QuestionAskedData, ToolCalledData
from outlast.core.json import JSON
from outlast.core.step_keys import call_key
from outlast.ports.durability.execution import Execution
from outlast.ports.llm import ModelRequest
from outlast.runtime.definitions import workflow
from outlast.runtime.definitions.activity import activity
from outlast.runtime.definitions.agent import Agent, AgentTool
from outlast.runtime.definitions.ask_person import AskPerson
from outlast.testing.contracts.durability.activities import (
    AT_ONCE,
    fail_hopelessly,
    record,
    record_at_second_try,
)
from outlast.testing.contracts.durability.compared_runs import (
    CRASHES_MAX,
    ComparedRun,
    Operation,
    after_deeds,
    compare,
)
from outlast.testing.contracts.durability.stage import DurabilityContractBase, Stage
from outlast.testing.contracts.durability.world import here
from outlast.testing.contracts.examples import few_examples

Call = list[Any]
Turn = list[Call]

PATIENCE = timedelta(seconds=0.25)
"""The time after which a question is withdrawn that nobody answers."""

MISSION = "program "
"""The beginning of the message that an agent gets; the rest is its program as JSON."""

TOOLS = {
    "do": "record",
    "do at the second try": "record_at_second_try",
    "fail": "fail_hopelessly",
    "allow": "contract_do_if_allowed",
    "deny": "contract_do_if_allowed",
}
"""The tools that take the place of the call as their argument, by verb."""

_ATTEMPTS = re.compile(r'\d+ attempts?|"attempts":\d+')

AGENTS = ("helper", "friend")
"""The tools that are agents; a friend keeps its conversation."""


@activity(name="contract_do_if_allowed", retry_policy_initial_interval=AT_ONCE, requires_approval=True)
async def do_if_allowed(what: str) -> str:
    """Do something that a person must allow."""
    here().happen(what)
    return f"{what} done"


WORKER: Agent[Any, str] = Agent(
    model="m",
    name="worker",
    tools=[
        *(record, record_at_second_try, fail_hopelessly, do_if_allowed),
        AskPerson(),
        AgentTool(lambda: WORKER, name="helper", description="Does a part.", max_depth=2),
        AgentTool(
            lambda: WORKER, name="friend", description="Remembers.", max_depth=2, keeps_conversation=True
        ),
    ],
)


def play(request: ModelRequest) -> Any:
    """Make the calls of the program's turns, and then say all that came of them."""
    entries = (*request.history, *request.new)
    texts = [str(entry.content) for entry in entries if isinstance(entry, MessageInput)]
    turns = json.loads([text for text in texts if text.startswith(MISSION)][-1].removeprefix(MISSION))
    if request.turn <= len(turns):
        return [_call(*one) for one in turns[request.turn - 1]]
    heard = [
        entry.result if isinstance(entry, FunctionResult) else str(entry.content)
        for entry in entries
        if isinstance(entry, (FunctionResult, MessageInput))
    ]
    return say(" | ".join(text for text in heard if not text.startswith(MISSION)))


def _call(verb: str, *rest: Any) -> FunctionCall:
    *arguments, place = rest
    if verb in AGENTS:
        return call(verb, {"input": _mission(arguments[0])}, call_id=place)
    if verb in TOOLS:
        return call(TOOLS[verb], {"what": f"{verb} {place}"}, call_id=place)
    return call("ask_person", {"question": f"{verb} {place}"}, call_id=place)


def _mission(turns: list[Turn]) -> str:
    return f"{MISSION}{json.dumps(turns)}"


@workflow.define(name="contract.agent_program")
class AgentProgram:
    """Runs a program of agents and people that is given as data."""

    @workflow.entrypoint
    async def run(self, program: list[Any]) -> list[Any]:
        return await self._sequence(program)

    async def _sequence(self, program: list[Operation]) -> list[JSON]:
        return [await self._operation(operation) for operation in program]

    async def _operation(self, operation: Operation) -> JSON:
        match operation:
            case ["run", turns]:
                return (
                    await Runner.run(
                        WORKER, _mission(turns), ScriptedSession(play, may_call_unknown_tools=True)
                    )
                ).text
            case ["run to be interrupted", turns, others]:
                session = ScriptedSession(play, may_call_unknown_tools=True)
                try:
                    result = await Runner.run(WORKER, _mission(turns), session)
                except RunInterrupted as interrupted:
                    again = await Runner.run(WORKER, _mission(others), session)
                    return [interrupted.reason, again.text]
                return [result.text]
            case ["ask", place]:
                return await workflow.ask(f"ask {place}", int)
            case ["ask in vain", place]:
                try:
                    return await workflow.ask(f"ask in vain {place}", timeout=PATIENCE)
                except TimeoutError:
                    return "nobody knows"
            case ["all", *branches]:
                return list(await asyncio.gather(*map(self._sequence, branches)))
        raise ValueError(operation)


class AgentProgramRun(ComparedRun):
    """One execution of a program, with a person who does what it says."""

    workflow: ClassVar = AgentProgram

    def people(self, execution: Execution) -> Sequence[Coroutine[Any, Any, None]]:
        return [self._attend(execution)]

    def compared(self, text: str) -> str:
        # An attempt that was made when its worker died counts, and the model gets the number.
        return _ATTEMPTS.sub("attempts", text)

    async def _attend(self, execution: Execution) -> None:
        around: dict[str, str] = {}
        """By run, the run of the workflow that it is a part of."""
        asked_by: dict[str, str] = {}
        """By question of an agent, the run of the workflow."""
        async for event in execution.events():
            match event.data:
                case ToolCalledData(run=run, nested_run=nested_run, arguments=arguments):
                    outer = around.setdefault(run, run)
                    if nested_run is not None:
                        around[nested_run] = outer
                    if isinstance(question := arguments.get("question"), str):
                        asked_by[question] = outer
                case QuestionAskedData() as asked:
                    async with self.acting:
                        await self._face(execution, asked, asked_by.get(asked.question))
                case ApprovalRequestedData(run=run, turn=turn, call_id=call_id, arguments=arguments):
                    what = str(arguments["what"])
                    verdict: Any = what.partition(" ")[0]
                    async with self.acting:
                        await execution.decide(call_key(run, turn, call_id), verdict, f"because of {what}")
                case _:
                    pass

    async def _face(self, execution: Execution, asked: QuestionAskedData, run: str | None) -> None:
        question = asked.question
        match question.partition(" ")[0]:
            case "stop":
                await execution.interrupt(question, run=run)
                return
            case "say":
                await execution.say(f"said at {question}", run=run)
            case _ if question.startswith("ask in vain"):
                return
        answer: Any = len(question) if asked.answer_schema.get("type") == "integer" else f"yes to {question}"
        await execution.answer(asked.key, answer)


# Programs ------------------------------------------------------------------------------------------------


def _calls(depth: int) -> st.SearchStrategy[Call]:
    simple = st.sampled_from([*TOOLS, "do", "ask", "say"]).map(lambda verb: [verb])
    if not depth:
        return simple
    nested = st.tuples(st.sampled_from(AGENTS), _turns(depth - 1)).map(list)
    return st.one_of(simple, nested)


def _turns(depth: int) -> st.SearchStrategy[list[Turn]]:
    """Return the turns of a run, which has at most so many runs within each other."""
    return st.lists(st.lists(_calls(depth), min_size=1, max_size=2), max_size=1 + depth // 2)


@st.composite
def _stopped(draw: st.DrawFn) -> list[Turn]:
    """Return turns in the last of which someone interrupts the run, perhaps in a run within it."""
    turns = draw(_turns(1))
    last: Call = ["stop"]
    if draw(st.booleans()):
        last = [draw(st.sampled_from(AGENTS)), draw(_stopped())]
    return [*turns, [last]]


def agent_programs() -> st.SearchStrategy[list[Operation]]:
    """Return programs of a few runs and questions, some of them at the same time."""
    leaves = st.one_of(
        st.tuples(st.just("run"), _turns(2)).map(list),
        st.tuples(st.just("run to be interrupted"), _stopped(), _turns(0)).map(list),
        st.sampled_from(["ask", "ask in vain"]).map(lambda verb: [verb]),
    )

    def branching(children: st.SearchStrategy[Operation]) -> st.SearchStrategy[Operation]:
        branches = st.lists(st.lists(children, min_size=1, max_size=2), min_size=2, max_size=2)
        return branches.map(lambda drawn: ["all", *drawn])

    operations = st.recursive(leaves, branching, max_leaves=3)
    return st.lists(operations, min_size=1, max_size=2).map(_named)


def _named(program: list[Operation], path: str = "") -> list[Operation]:
    """Return the program with a name for every call and question, made from its place."""
    named: list[Operation] = []
    for index, (verb, *rest) in enumerate(program):
        place = f"{path}{index}"
        match verb:
            case "all":
                rest = [_named(branch, f"{place}.{n}.") for n, branch in enumerate(rest)]
            case "run" | "run to be interrupted":
                rest = [_named_turns(turns, f"{place}.{n}.", None) for n, turns in enumerate(rest)]
            case _:
                rest = [place]
        named.append([verb, *rest])
    return named


def _named_turns(turns: list[Turn], path: str, said: list[str] | None) -> list[Turn]:
    """Return the turns with names; `said` has what was said in this turn of the run of the workflow.

    It is None for the turns of that run itself. More than one thing would be said in any order.
    """
    named: list[Turn] = []
    for number, turn in enumerate(turns):
        in_turn = [] if said is None else said
        named.append([_named_call(one, f"{path}{number}.{n}", in_turn) for n, one in enumerate(turn)])
    return named


def _named_call(one: Call, place: str, said: list[str]) -> Call:
    match one:
        case [("helper" | "friend") as verb, turns]:
            return [verb, _named_turns(turns, f"{place}.", said), place]
        case ["say"]:
            said.append(place)
            return ["say" if len(said) == 1 else "ask", place]
        case [verb]:
            return [verb, place]
    raise ValueError(one)


class AgentProgramContract(DurabilityContractBase):
    """Every program of agents and people has the same result and the same events, with any crashes."""

    def new_agent_stage(self) -> Stage:
        return Stage(type(self).new_storage(), self.lease, self.patience_seconds)

    @few_examples(6)
    @given(
        program=agent_programs(),
        crashes=st.lists(st.integers(min_value=1, max_value=5), min_size=1, max_size=CRASHES_MAX),
    )
    async def test_a_crash_changes_nothing_for_agents_and_the_people_who_steer_them(
        self, program: list[Operation], crashes: list[int]
    ) -> None:
        await compare(self.new_agent_stage, AgentProgramRun, program, after_deeds(), crashes)
