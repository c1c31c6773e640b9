"""The result of a durable run is read from its journal, and equals the result of the run."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

import outlast
from outlast.adapters.scripted import Script, call, handoff, say
from outlast.composition import durable_run
from outlast.core.agents import ToolSpec
from outlast.core.entries import AgentHandoff, Entry, FunctionCall, ToolExecution, UnknownEntry
from outlast.core.errors import DefinitionError
from outlast.core.events import ApprovalRequestedData
from outlast.core.json import JSON
from outlast.core.records import encode_record
from outlast.core.summaries import SUMMARISER
from outlast.ports.llm import ModelReply, ModelRequest
from outlast.ports.resources import Resources
from outlast.ports.tools import Effect, ToolOutput, ToolSource
from outlast.runtime.runs import runner
from outlast.testing.contracts.examples import few_examples


@outlast.activity(name="recorded_add", retry_policy_max_attempts=1)
async def add(left: int, right: int = 1) -> dict[str, int]:
    """Add two numbers."""
    if right == 0:
        raise ZeroDivisionError("not with zero")
    return {"sum": left + right}


async def ask_aside(question: str) -> str:
    """Ask another agent, in a run that does not belong to the one that calls this tool."""
    if question == "why":
        raise ValueError("nobody knows")
    aside = outlast.ScriptedSession(lambda request: ModelReply(entries=(say("Aside."),), usage=cost(1000)))
    return (await outlast.Runner.run(outlast.Agent(model="m", name="aside"), question, aside)).text


class Shelf(ToolSource):
    """A source of one tool, which has changed since it was listed, and sometimes reports an error."""

    @property
    def name(self) -> str:
        return "shelf"

    async def list_tools(self, resources: Resources) -> Sequence[ToolSpec]:
        return [ToolSpec(name="take", parameters={"type": "object", "properties": {}})]

    async def call(
        self, tool: str, arguments: Mapping[str, JSON], resources: Resources, *, known: str | None = None
    ) -> ToolOutput:
        match arguments.get("what"):
            case "nothing":
                return ToolOutput(content="There is nothing.", is_error=True)
            case "ghost":
                raise outlast.ToolFailed(tool, "Ghost", "it is not there")
            case "other":
                changed = ToolSpec(name="take", description="Now.", parameters={"type": "object"})
                return ToolOutput(content=(), structured={"took": [1, 2]}, changed=changed)
        return ToolOutput(content="Taken.")

    def effect(self, tool: str) -> Effect:
        return "once"


def careful(text: str) -> outlast.Reject | outlast.Replace | None:
    if "bad" in text:
        return outlast.Reject("it is bad")
    return outlast.Replace(text.replace("7", "8")) if "7" in text else None


def careful_call(arguments: dict[str, JSON]) -> outlast.Reject | outlast.Replace | None:
    if arguments.get("left") in (7, 8):
        return outlast.Reject("it is seven") if arguments["left"] == 7 else outlast.Replace("about nine")
    return outlast.Reject("no ghosts") if arguments.get("what") == "ghost" else None


def careful_result(text: str) -> outlast.Reject | outlast.Replace | None:
    if "Aside" in text or "1" in text:
        return outlast.Reject("it is bad") if "Aside" in text else outlast.Replace(text.replace("1", "2"))
    return None


def cost(tokens: int) -> outlast.Usage:
    return outlast.Usage(prompt_tokens=tokens, completion_tokens=1, total_tokens=tokens + 1)


def wire(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    return [entry.to_wire() for entry in entries]


SHORT = outlast.SummariseHistory(3, keep_turns=1, count=lambda entry: 1)


class Program:
    """Two agents, their checks and the replies of their models: the same in each run."""

    def __init__(
        self,
        replies: Sequence[Sequence[Entry]],
        *,
        inputs: str = "Go.",
        checks: Sequence[str] = (),
        verdict: str = '{"allowed": true}',
        typed: bool = False,
        summaries: bool = False,
        raises: bool = False,
        guards: bool = False,
        **limits: Any,
    ) -> None:
        judge = outlast.Agent(model="m", name="front", instructions="judge")
        guardrails: dict[str, Any] = {"judge": judge, "careful": careful}
        shelf = Shelf()
        shared: Any = {
            "model": "m",
            "output_type": int if typed else None,
            "output_guardrails": [guardrails[name] for name in checks],
            "tool_input_guardrails": {"*": careful_call} if guards else {},
            "tool_output_guardrails": {"*": careful_result} if guards else {},
        }
        back = outlast.Agent(name="back", tools=[add, shelf], **shared)
        self.agent = outlast.Agent(
            name="front",
            handoffs=[outlast.Handoff(back, input_filter=outlast.without_tool_calls) if guards else back],
            input_guardrails=[guardrails[name] for name in checks[:1]],
            tools=[add, ask_aside, shelf],
            **shared,
        )
        self._replies = replies
        self._verdict = verdict
        self._inputs = inputs
        self._limits = limits
        self._session = outlast.ScriptedSession(
            self._reply,
            raise_on_tool_fail=raises,
            context=[SHORT] if summaries else [],
            may_call_unknown_tools=True,
        )

    def _reply(self, request: ModelRequest) -> ModelReply:
        if request.agent == SUMMARISER:
            return ModelReply(entries=(say("Much was said."),), usage=cost(100))
        if request.graph[request.agent].instructions == "judge":
            return ModelReply(entries=(say(self._verdict),), usage=cost(10))
        turn = request.turn - 1
        entries = self._replies[turn] if turn < len(self._replies) else [say('{"value": 9}')]
        return ModelReply(entries=tuple(entries), usage=cost(request.turn))

    async def outcome(self, **durably: Any) -> Any:
        """Return the result of a run, as JSON."""
        run = outlast.Runner.run(self.agent, self._inputs, self._session, **self._limits, **durably)
        return described((await asyncio.gather(run, return_exceptions=True))[0])


def described(outcome: Any) -> Any:
    match outcome:
        case outlast.RunResult(record=record):
            said = [outcome.text, outcome.output, outcome.agent.name, len(outcome), outcome.turns]
            return [said, wire(outcome.entries), wire(record.final), outcome.usage]
        case outlast.LimitExceeded():
            return [type(outcome), str(outcome), wire(outcome.entries), outcome.usage]
    return [type(outcome), str(outcome)]


ids = st.sampled_from(["", "", "", "model", "t1/model", "one", "one", "\n"])
calls = st.one_of(
    st.builds(call, st.just("recorded_add"), st.fixed_dictionaries({"left": st.integers(0, 9)}), call_id=ids),
    st.builds(call, st.just("recorded_add"), st.just({"left": 1, "right": 0}), call_id=ids),
    st.builds(call, st.just("recorded_add"), st.sampled_from([{"left": "no"}, {"up": 1}]), call_id=ids),
    st.builds(
        call,
        st.just("ask_aside"),
        st.sampled_from([{"question": "what"}, {"question": "why"}, "{"]),
        call_id=ids,
    ),
    st.builds(
        call,
        st.just("take"),
        st.fixed_dictionaries({"what": st.sampled_from(["it", "nothing", "ghost", "other"])}),
        call_id=ids,
    ),
    st.builds(call, st.sampled_from(["unknown", "transfer_to_nobody"]), st.just({}), call_id=ids),
    st.sampled_from(["front", "back"]).map(handoff),
)
others = st.one_of(
    st.sampled_from(["", "7", "bad", '{"value": 7}', '{"value": 4}']).map(say),
    st.builds(ToolExecution, name=st.just("web_search"), arguments=st.just("{}")),
    st.just(UnknownEntry.model_validate({"type": "odd", "x": [1]})),
    st.builds(
        AgentHandoff,
        previous_agent_name=st.just("front"),
        next_agent_name=st.sampled_from(["front", "back", "back", "nobody"]),
    ),
)
programs = st.builds(
    Program,
    st.lists(st.lists(st.one_of(calls, calls, others), min_size=1, max_size=3), max_size=4),
    inputs=st.sampled_from(["Go.", "Go.", "Go 7 times.", "Go 7 times.", "a bad thing"]),
    checks=st.lists(st.sampled_from(["judge", "careful"]), max_size=2),
    verdict=st.sampled_from(
        [
            '{"allowed": true}',
            '{"allowed": true}',
            '{"allowed": false, "reason": "no", "replacement": "{\\"value\\": 5}"}',
            '{"allowed": false}',
            "perhaps",
        ]
    ),
    typed=st.booleans(),
    summaries=st.booleans(),
    raises=st.sampled_from([False, False, False, True]),
    guards=st.booleans(),
    max_turns=st.sampled_from([10, 10, 10, 3, 2, 1]),
    max_tool_calls=st.sampled_from([None, None, 0, 2]),
    max_total_tokens=st.sampled_from([None, None, 7, 25]),
    on_limit=st.sampled_from(["raise", "finish"]),
)


@pytest.fixture(params=["memory:", "sqlite:///runs.db"])
async def backend(
    request: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[outlast.Backend]:
    monkeypatch.chdir(tmp_path)
    async with outlast.connect(request.param) as backend:
        yield backend


@few_examples(100, in_one_place=True)
@given(program=programs)
async def test_a_durable_run_has_the_result_of_a_plain_run_now_and_later(
    backend: outlast.Backend, program: Program
) -> None:
    expected, run_id = await program.outcome(), uuid.uuid4().hex
    assert expected[0] is not DefinitionError, expected
    event(expected[0].__name__ if isinstance(expected[0], type) else "an answer")
    assert await program.outcome(id=run_id, backend=backend) == expected
    assert await program.outcome(id=run_id, backend=backend) == expected


async def test_a_handoff_behind_one_that_the_server_made_is_that_of_the_next_agent(
    backend: outlast.Backend,
) -> None:
    to_front = AgentHandoff(previous_agent_name="back", next_agent_name="front")
    program = Program([[handoff("back")], [to_front, handoff("back")]])
    expected = await program.outcome()
    assert await program.outcome(id="twice", backend=backend) == expected


@asynccontextmanager
async def deciding(backend: outlast.Backend, run_id: str) -> AsyncIterator[None]:
    """Decide about each call as its arguments say, for the time of the block."""

    async def decide() -> None:
        while not await backend.list(limit=1):  # noqa: ASYNC110
            await asyncio.sleep(0)  # nothing announces that an execution was made
        execution = await backend.get(run_id)
        async for asked in execution.events():
            if not isinstance(asked.data, ApprovalRequestedData):
                continue
            call_id, text = asked.data.call_id, str(asked.data.arguments)
            match next(word for word in ("allow", "deny", "edit") if word in text):
                case "deny":
                    await execution.decide(call_id, "deny", "rather not")
                case "edit":
                    await execution.decide(call_id, "allow", edited_arguments={"what": "changed"})
                case _:
                    await execution.decide(call_id, "allow")

    task = asyncio.create_task(decide())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@outlast.activity(name="recorded_risk", requires_approval=True)
async def risk(what: str) -> str:
    """Do something that a person must allow."""
    return f"{what} done"


def by_server(what: str, call_id: str) -> FunctionCall:
    pending = {"type": "function.call", "name": "pay", "confirmation_status": "pending"}
    return FunctionCall.model_validate(
        {**pending, "tool_call_id": call_id, "arguments": f'{{"what": "{what}"}}'}
    )


async def test_decisions_of_people_are_read_from_the_journal(
    backend: outlast.Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    came_to: list[outlast.RunResult] = []

    async def run_agent(*args: Any) -> outlast.RunResult:
        came_to.append(await original(*args))
        return came_to[-1]

    original = runner.run_agent
    monkeypatch.setattr(durable_run, "run_agent", run_agent)
    words = ["allow", "deny", "edit"]
    asked = [call("recorded_risk", {"what": word}, call_id=word) for word in words]
    script: Script = {"solo": [asked, [by_server(word, f"server {word}") for word in words], say("done")]}
    agent, session = outlast.Agent(model="m", name="solo", tools=[risk]), outlast.ScriptedSession(script)
    async with deciding(backend, "people"):
        result = await outlast.Runner.run(agent, "Go.", session, id="people", backend=backend)
    assert described(result) == described(came_to[0])
    answers = [entry.get("result", entry.get("confirmation")) for entry in wire(result.entries)]
    assert [answer for answer in answers if answer] == [
        *("allow done", "the call of 'recorded_risk' was denied: rather not", "changed done"),
        *("allow", "deny", "deny"),
    ]
    assert described(
        await outlast.Runner.run(agent, "Go.", session, id="people", backend=backend)
    ) == described(result)


async def test_a_run_that_has_ended_keeps_its_result_after_its_code_has_changed(
    backend: outlast.Backend,
) -> None:
    replaced = "{}"

    def guardrail(text: str) -> outlast.Replace:
        return outlast.Replace(replaced.format(text))

    def shout(text: str) -> str:
        """Say it loudly."""
        return replaced.format(text)

    agent = outlast.Agent(model="m", name="solo", tools=[shout], output_guardrails=[guardrail])
    session = outlast.ScriptedSession({"solo": [call("shout", {"text": "hey"}), say("done")]})
    first = await outlast.Runner.run(agent, "Go.", session, id="old", backend=backend)
    replaced = "not {}"
    again = await outlast.Runner.run(agent, "Go.", outlast.ScriptedSession({}), id="old", backend=backend)
    assert described(again) == described(first)
    assert (again.text, wire(again.entries)[2]["result"]) == ("done", "hey")


@pytest.mark.parametrize(
    "asked", [call("much"), call("recorded_add", {"x" * 1_200_000: 1}), call("recorded_add", '{"left": "1"')]
)
async def test_a_value_that_no_record_can_hold_is_not_sent_to_the_model(asked: FunctionCall) -> None:
    def much() -> str:
        """Return more than a record can hold."""
        return "x" * 3_000_000

    sent: list[Entry] = []

    def reply(request: ModelRequest) -> Any:
        sent.extend(request.new)
        return asked if request.turn == 1 else say("done")

    agent = outlast.Agent(model="m", name="solo", tools=[add, much])
    run = outlast.Runner.run_streamed(
        agent, "Go.", outlast.ScriptedSession(reply), id=uuid.uuid4().hex, backend="memory:"
    )
    kinds = [event.kind async for event in run.events() if event.kind.startswith("tool_")]
    assert kinds == ["tool_called", "tool_failed"]
    assert wire((await run.result()).entries)[2] == sent[1].to_wire()


async def test_an_answer_stands_in_the_journal_once(backend: outlast.Backend) -> None:
    agent = outlast.Agent(model="m", name="solo", tools=[add])
    script: Script = {"solo": [call("recorded_add", {"left": 41}), say("It is forty-two.")]}
    session = outlast.ScriptedSession(script)
    result = await outlast.Runner.run(agent, "What is it?", session, id="once", backend=backend)
    execution = await backend.get("once")
    journal = b"".join([encode_record(record) async for record in execution.records()])
    assert [journal.count(text) for text in (b"forty-two", b"What is it?", b'{"sum":42}')] == [1, 1, 1]
    assert result.text == "It is forty-two."
    assert await execution.result() is None


async def test_a_run_at_its_limit_is_an_execution_that_failed(backend: outlast.Backend) -> None:
    agent = outlast.Agent(model="m", name="solo", tools=[add])
    session = outlast.ScriptedSession(lambda request: call("recorded_add", {"left": 1}))
    with pytest.raises(outlast.MaxTurnsExceeded) as exceeded:
        await outlast.Runner.run(agent, "Go.", session, max_turns=2, id="limit", backend=backend)
    assert [entry.type for entry in exceeded.value.entries] == [
        *("message.input", "function.call", "function.result", "function.call"),
    ]
    described = await (await backend.get("limit")).describe()
    assert (described.status, described.error) == ("failed", f"MaxTurnsExceeded: {exceeded.value}")
