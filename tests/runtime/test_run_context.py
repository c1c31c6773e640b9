"""The context of a run: which functions are given it, what they are given, and that it is never stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

import outlast
from outlast.adapters.scripted import ScriptedSession, call, say
from outlast.core.entries import FunctionResult
from outlast.ports.llm import ModelReply, ModelRequest
from outlast.runtime.definitions.agent_binding import bind_agents
from outlast.runtime.definitions.run_context import RunContext, with_context


@dataclass
class Customer:
    """A customer, as a program knows it."""

    name: str
    secret: str = "hunter2"


ANN = Customer("Ann")


def greet(run: outlast.RunContext[Customer], word: str) -> str:
    """Greet the customer."""
    return f"{word} {run.context.name}, in turn {run.turn} of {run.agent}"


def instructions(run: RunContext[Customer]) -> str:
    return f"Turn {run.turn}. The customer is {run.context.name}; {run.usage.total_tokens} tokens are used."


async def run(agent: outlast.Agent, script: Any, context: Any = ANN, **more: Any) -> outlast.RunResult[Any]:
    return await outlast.Runner.run(agent, "Go.", ScriptedSession(script), context=context, **more)


def results_of(result: outlast.RunResult[Any]) -> list[str]:
    return [entry.result for entry in result.entries if isinstance(entry, FunctionResult)]


async def test_a_tool_is_given_the_context_which_its_model_does_not_see() -> None:
    agent = outlast.Agent(model="m", name="clerk", tools=[greet])
    [spec] = bind_agents(agent, {}).graph["clerk"].tools
    assert list(spec.parameters["properties"]) == ["word"]  # type: ignore[arg-type]
    calls = [call("greet", {"word": "Hello"}), call("greet", {"run": 1, "word": "x"})]
    script = {"clerk": [*calls, say("Done.")]}
    first, second = results_of(await run(agent, script))
    assert first == "Hello Ann, in turn 1 of clerk"
    assert 'there is no argument "run"' in second


async def test_instructions_are_made_for_each_turn_and_those_of_sources_stay() -> None:
    prompts: list[str] = []

    def script(request: ModelRequest) -> ModelReply:
        prompts.append(request.all_instructions)
        entry = call("greet", {"word": "Hi"}) if request.turn == 1 else say("Done.")
        return ModelReply(entries=(entry,), usage=outlast.Usage(total_tokens=7))

    await run(outlast.Agent(model="m", name="clerk", instructions=instructions, tools=[greet]), script)
    assert prompts == [
        "Turn 1. The customer is Ann; 0 tokens are used.",
        "Turn 2. The customer is Ann; 7 tokens are used.",
    ]


async def test_guardrails_and_approval_checks_are_given_it() -> None:
    seen: list[str] = []

    def guard(text: str, run: RunContext[Customer]) -> outlast.Replace:
        seen.append(f"{text} from {run.context.name}")
        return outlast.Replace(f"{run.context.name}: {text}")

    def needs_approval(run: RunContext[Customer], arguments: dict[str, Any]) -> bool:
        seen.append(f"{arguments['word']} for {run.context.name}?")
        return False

    agent = outlast.Agent(
        model="m",
        name="clerk",
        tools=[greet],
        input_guardrails=[guard],
        requires_approval={"greet": needs_approval},
    )
    bound = bind_agents(agent, {})
    assert bound.approval("clerk", "greet") is needs_approval

    @outlast.workflow.define(name="guarded")
    class Guarded:
        @outlast.workflow.entrypoint
        async def run(self) -> list[str]:
            session = ScriptedSession({"clerk": [call("greet", {"word": "Hi"}), say("Done.")]})
            result = await outlast.Runner.run(agent, "Go.", session, context=ANN)
            return results_of(result)

    assert await outlast.execute_workflow(Guarded, backend="memory://") == ["Hi Ann, in turn 1 of clerk"]
    assert seen == ["Go. from Ann", "Hi for Ann?"]


async def test_runs_within_have_the_context_of_the_run_around() -> None:
    inner = outlast.Agent(model="m", name="inner", tools=[greet])
    outer = outlast.Agent(model="m", name="outer", tools=[inner])

    def script(request: ModelRequest) -> Any:
        if request.turn == 1:
            inside = request.agent == "inner"
            return call("greet", {"word": "Hi"}) if inside else call("inner", {"input": "Go."})
        return say(str(request.new[0].result))  # type: ignore[union-attr]

    assert (await run(outer, script)).text == "Hi Ann, in turn 1 of inner"


async def test_a_durable_run_is_given_it_again_and_keeps_none_of_it(tmp_path: Any) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    agent = outlast.Agent(model="m", name="clerk", instructions=instructions, tools=[greet])
    script = {"clerk": [call("greet", {"word": "Hi"}), say("Done.")]}
    for _ in range(2):
        result = await run(agent, script, id="one", backend=url)
        assert results_of(result) == ["Hi Ann, in turn 1 of clerk"]
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"hunter2" not in stored
    assert b"The customer is" not in stored


async def test_a_context_cannot_be_journaled_by_mistake() -> None:
    @outlast.activity(name="keep")
    async def keep(what: Any) -> None:
        """Keep something."""

    async def leak(run: RunContext[Customer]) -> str:
        """Give an activity the whole context."""
        await keep(run)
        return "kept"

    agent = outlast.Agent(model="m", name="clerk", tools=[leak])

    @outlast.workflow.define(name="leaking")
    class Leaking:
        @outlast.workflow.entrypoint
        async def run(self) -> list[str]:
            session = ScriptedSession({"clerk": [call("leak"), say("Done.")]})
            return results_of(await outlast.Runner.run(agent, "Go.", session, context=ANN))

    [result] = await outlast.execute_workflow(Leaking, backend="memory://")
    assert "Unserialisable" in result
    assert "RunContext" in result


def test_an_activity_cannot_take_it() -> None:
    with pytest.raises(outlast.DefinitionError, match="'charge' takes a RunContext"):

        @outlast.activity(name="charge")
        async def charge(run: RunContext[Customer], amount: int) -> None:
            """Charge the customer."""


@pytest.mark.parametrize("wrong", [7, lambda: "Be kind.", str.upper])
def test_instructions_are_a_text_or_a_function_of_the_context(wrong: Any) -> None:
    with pytest.raises(outlast.DefinitionError, match="instructions of agent 'clerk' must be a text"):
        outlast.Agent(model="m", name="clerk", instructions=wrong)


async def test_instructions_that_are_no_text_end_the_run() -> None:
    def number(run: RunContext[Customer]) -> Any:
        return 7

    agent = outlast.Agent(model="m", name="clerk", instructions=number)
    with pytest.raises(outlast.DefinitionError, match="returned a int; return a text"):
        await run(agent, {"clerk": [say("Done.")]})


def test_a_function_may_name_the_context_as_it_likes() -> None:
    def last(word: str, *, where: outlast.RunContext) -> str:
        return f"{word} {where.agent}"

    def only(where: RunContext, /) -> str:
        return where.agent

    def hidden(word: str, where: RunContext, /) -> str:
        return word

    here: RunContext[None] = RunContext(None, "clerk", 1, outlast.Usage())
    assert with_context(last, here)("Hi") == "Hi clerk"
    assert with_context(only, here)() == "clerk"
    with pytest.raises(outlast.DefinitionError, match="make it the first one"):
        with_context(hidden, here)
    assert with_context(len, here) is len
    assert with_context(7, here) == 7


async def test_type_checkers_compare_the_context_of_a_call_with_that_of_the_agent() -> None:
    agent = outlast.Agent(model="m", name="clerk", instructions=instructions, output_type=int)
    session = ScriptedSession({"clerk": [say('{"value": 7}')]})
    typed: outlast.Agent[Customer, int] = agent
    assert (await outlast.Runner.run(typed, "Go.", session, context=ANN)).output == 7
    wrong: outlast.Agent[str, int] = agent  # type: ignore[assignment]  # its instructions are for a customer
    assert wrong.name == typed.name
