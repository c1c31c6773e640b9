"""Guardrails: checks of the inputs and of the answer of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import outlast
from outlast.adapters.scripted import call, handoff, say
from outlast.core.errors import DefinitionError
from outlast.core.events import GuardrailData
from outlast.ports.llm import ModelReply, ModelRequest
from outlast.runtime.definitions.guardrails import GuardrailAnswer
from outlast.testing.contracts.durability.stage import data_of


def no_secrets_at_all(text: str, where: str) -> None:
    """Take one argument too many."""


looked_up: list[str] = []


def no_secrets(text: str) -> outlast.Reject | outlast.Replace | None:
    if "password" in text:
        return outlast.Reject("it holds a password")
    return outlast.Replace(text.replace("4111", "****")) if "4111" in text else None


@outlast.activity(name="guard_look_up")
async def look_up(text: str) -> outlast.Reject | outlast.Replace | None:
    """Ask a service about a text."""
    looked_up.append(text)
    return outlast.Reject("it is on the list") if "bad" in text else None


async def awaits_activity(text: str) -> outlast.Reject | outlast.Replace | None:
    return await look_up(text)


def clerk(**more: Any) -> outlast.Agent:
    return outlast.Agent(model="m", name="clerk", **more)


async def run(agent: outlast.Agent, said: str, *answers: str) -> tuple[outlast.RunResult, list[str]]:
    """Return the result, and the messages that the model got."""
    messages: list[str] = []

    def reply(request: ModelRequest) -> str:
        messages.extend(
            str(entry.content) for entry in request.new if isinstance(entry, outlast.MessageInput)
        )
        return answers[request.turn - 1]

    return await outlast.Runner.run(agent, said, outlast.ScriptedSession(reply)), messages


@pytest.mark.parametrize("guardrail", [look_up, awaits_activity])
async def test_a_guardrail_rejects_an_input_before_it_is_sent_to_the_model(guardrail: Any) -> None:
    agent = clerk(input_guardrails=[guardrail])
    with pytest.raises(outlast.InputRejected, match="it is on the list"):
        await run(agent, "something bad")
    result, messages = await run(agent, "something good", "Fine.")
    assert (result.text, messages) == ("Fine.", ["something good"])


async def test_a_guardrail_replaces_an_input_and_the_next_one_sees_what_is_left() -> None:
    looked_up.clear()
    agent = clerk(input_guardrails=[no_secrets, look_up])
    result, messages = await run(agent, "my card is 4111", "Fine.")
    assert messages == looked_up == ["my card is ****"]
    assert "4111" not in str(result.entries)


async def test_a_guardrail_rejects_an_answer() -> None:
    with pytest.raises(outlast.OutputRejected, match="'no_secrets' rejected the answer of agent 'clerk'"):
        await run(clerk(output_guardrails=[no_secrets]), "go", "the password is x")


async def test_a_guardrail_replaces_an_answer() -> None:
    result, _ = await run(clerk(output_guardrails=[look_up, no_secrets]), "go", "4111")
    assert (result.text, result.output) == ("****", "****")


async def test_guardrails_of_the_agent_that_answers_count() -> None:
    front = outlast.Agent(
        model="m", name="front", handoffs=[clerk()], output_guardrails=[lambda text: outlast.Reject("never")]
    )
    session = outlast.ScriptedSession({"front": [handoff("clerk")], "clerk": ["Fine."]})
    assert (await outlast.Runner.run(front, "go", session)).text == "Fine."


async def test_the_replacement_of_an_answer_must_be_of_the_output_type() -> None:
    agent = clerk(output_type=int, output_guardrails=[lambda text: outlast.Replace('{"value": 7}')])
    result, _ = await run(agent, "go", '{"value": 3}')
    assert result.output == 7
    agent = clerk(output_type=int, output_guardrails=[lambda text: outlast.Replace("seven")])
    with pytest.raises(outlast.InvalidOutput, match="what a guardrail replaced it with"):
        await run(agent, "go", '{"value": 3}')


def judge(answer: GuardrailAnswer, usage: outlast.Usage) -> Any:
    def reply(request: ModelRequest) -> ModelReply:
        if request.agent == "judge":
            assert request.history == ()
            return ModelReply(entries=(say(answer.model_dump_json()),), usage=usage)
        return ModelReply(entries=(say("Fine."),), usage=usage)

    return reply


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (GuardrailAnswer(allowed=True), "Fine."),
        (GuardrailAnswer(allowed=False, replacement="Better."), "Better."),
        (GuardrailAnswer(allowed=False, reason="rude"), outlast.OutputRejected),
        (GuardrailAnswer(allowed=False), outlast.OutputRejected),
    ],
)
async def test_an_agent_can_be_a_guardrail(answer: GuardrailAnswer, expected: Any) -> None:
    agent = clerk(output_guardrails=[outlast.Agent(model="m", name="judge", instructions="Judge.")])
    session = outlast.ScriptedSession(judge(answer, outlast.Usage(total_tokens=5)))
    if isinstance(expected, str):
        result = await outlast.Runner.run(agent, "go", session)
        assert (result.text, result.usage.total_tokens) == (expected, 10)
    else:
        with pytest.raises(expected, match="'judge'"):
            await outlast.Runner.run(agent, "go", session)


async def test_usage_of_guardrails_counts_for_the_limit() -> None:
    agent = clerk(input_guardrails=[outlast.Agent(model="m", name="judge")])
    session = outlast.ScriptedSession(judge(GuardrailAnswer(allowed=True), outlast.Usage(total_tokens=5)))
    with pytest.raises(outlast.BudgetExceeded):
        await outlast.Runner.run(agent, "go", session, max_total_tokens=5)


async def test_a_guardrail_that_fails_lets_nothing_through() -> None:
    def fails(text: str) -> None:
        raise LookupError("no list")

    with pytest.raises(LookupError, match="no list"):
        await run(clerk(input_guardrails=[fails]), "go")
    with pytest.raises(LookupError, match="no list"):
        await run(clerk(output_guardrails=[fails]), "go", "Fine.")


async def test_a_result_that_is_not_a_verdict_is_refused() -> None:
    odd: Any = lambda text: "no"  # noqa: E731
    with pytest.raises(DefinitionError, match="returned a str"):
        await run(clerk(input_guardrails=[odd]), "go")
    with pytest.raises(DefinitionError, match="returned a str"):
        await run(clerk(output_guardrails=[odd]), "go", "Fine.")


@pytest.mark.parametrize("guardrail", ["text", 7, str, lambda: None, no_secrets_at_all])
def test_a_value_that_cannot_be_a_guardrail_is_refused_at_the_definition(guardrail: Any) -> None:
    with pytest.raises(DefinitionError, match="guardrail"):
        clerk(input_guardrails=[guardrail])
    with pytest.raises(DefinitionError, match="output_type"):
        clerk(output_guardrails=[outlast.Agent(model="m", name="judge", output_type=int)])


@outlast.workflow.define(name="guardrails.guarded")
class Guarded:
    """An agent with guardrails of every kind."""

    @outlast.workflow.entrypoint
    async def run(self, said: str) -> str:
        answer = GuardrailAnswer(allowed=False, replacement="Fine, I think.")
        agent = clerk(
            input_guardrails=[look_up, no_secrets],
            output_guardrails=[outlast.Agent(model="m", name="judge"), look_up],
        )
        return (
            await outlast.Runner.run(agent, said, outlast.ScriptedSession(judge(answer, outlast.Usage())))
        ).text


async def test_verdicts_are_journaled_and_come_out_the_same_in_every_process(tmp_path: Path) -> None:
    looked_up.clear()
    url = f"sqlite:///{tmp_path}/runs.db"
    async with outlast.connect(url) as backend:
        execution = await backend.start(Guarded, "4111", id="g-1")
        async with backend.worker([Guarded], max_cached_executions=0):
            assert await execution.result() == "Fine, I think."
        events = [event async for event in execution.events()]
        refused = await backend.start(Guarded, "bad", id="g-2")
        async with backend.worker([Guarded]):
            with pytest.raises(outlast.ExecutionFailed, match="InputRejected"):
                await refused.result()
        kinds = [event.kind async for event in refused.events()]
    verdicts = [(data.of, data.guardrail) for data in data_of(events, GuardrailData)]
    assert verdicts == [("input", "no_secrets"), ("output", "judge")]
    assert looked_up == ["4111", "Fine, I think.", "bad"]
    assert "guardrail_rejected" in kinds
    assert "turn_started" not in kinds


# Guardrails of tools ------------------------------------------------------------------------------------


def shout(text: str) -> str:
    """Say it loudly."""
    return text.upper()


async def shouted(said: str, **guardrails: Any) -> str:
    """Return the result of one call of `shout` as the model gets it."""
    agent = clerk(tools=[shout], **guardrails)
    session = outlast.ScriptedSession({"clerk": [call("shout", {"text": said}), "Done."]})
    result = await outlast.Runner.run(agent, "go", session)
    [answer] = [entry.result for entry in result.entries if isinstance(entry, outlast.FunctionResult)]
    return answer


async def test_each_guardrail_of_a_tool_sees_what_the_one_before_has_left() -> None:
    def quote(text: str) -> outlast.Replace:
        return outlast.Replace(f"<{text}>")

    def limit(run: outlast.RunContext[Any], text: str) -> outlast.Replace | None:
        return outlast.Replace(f"{run.tool}: {text[:3]}") if len(text) > 3 else None

    assert await shouted("hey", tool_output_guardrails={"shout": [quote, limit]}) == "shout: <HE"
    assert await shouted("hey", tool_output_guardrails={"*": quote, "shout": limit}) == "shout: <HE"


@pytest.mark.parametrize("of", ["tool_input_guardrails", "tool_output_guardrails"])
async def test_a_guardrail_of_a_tool_that_fails_lets_nothing_pass_and_is_logged_once_with_its_place(
    of: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(given: Any) -> None:
        raise LookupError("no list")

    odd: Any = lambda given: "no"  # noqa: E731
    assert "the guardrail failed with LookupError: no list" in await shouted("hey", **{of: {"*": fails}})
    [logged] = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert logged.startswith("guardrail 'fails' of tool 'shout' failed:\n")
    assert "test_guardrails.py" in logged
    assert "returned a str; return None, Reject" in await shouted("hey", **{of: {"*": odd}})


async def test_a_guardrail_does_not_see_arguments_that_do_not_fit_nor_change_those_that_do() -> None:
    seen: list[Any] = []

    def spoil(arguments: dict[str, Any]) -> None:
        seen.append({**arguments})
        arguments["text"] = "spoilt"

    agent = clerk(tools=[shout], tool_input_guardrails={"shout": spoil})
    calls = [call("shout", {"text": "hey"}), call("shout", {"txt": "hey"})]
    session = outlast.ScriptedSession({"clerk": [calls, "Done."]})
    result = await outlast.Runner.run(agent, "go", session)
    results = [entry.result for entry in result.entries if isinstance(entry, outlast.FunctionResult)]
    assert results[0] == "HEY"
    assert "missing" in results[1].lower()
    assert seen == [{"text": "hey"}]


async def test_a_run_that_fails_with_its_tools_fails_with_a_rejected_call() -> None:
    agent = clerk(tools=[shout], tool_input_guardrails={"shout": lambda given: outlast.Reject("not now")})
    session = outlast.ScriptedSession({"clerk": [call("shout", {"text": "hey"})]}, raise_on_tool_fail=True)
    with pytest.raises(outlast.CallRejected, match="rejected by '<lambda>'; it was not made: not now"):
        await outlast.Runner.run(agent, "go", session)


async def test_a_replacement_that_no_record_can_hold_is_not_sent_to_the_model() -> None:
    def flood(text: str) -> outlast.Replace:
        return outlast.Replace("x" * 3_000_000)

    agent = clerk(tools=[shout], tool_output_guardrails={"shout": flood})
    session = outlast.ScriptedSession({"clerk": [call("shout", {"text": "hey"}), "Done."]})
    result = await outlast.Runner.run(agent, "go", session, id="flood", backend="memory:")
    [answer] = [entry.result for entry in result.entries if isinstance(entry, outlast.FunctionResult)]
    assert "its result cannot be shown" in answer
    assert len(answer) < 1000


@pytest.mark.parametrize("guardrail", ["text", 7, str, lambda: None, look_up, awaits_activity, clerk()])
def test_a_guardrail_of_a_tool_must_be_a_plain_function(guardrail: Any) -> None:
    with pytest.raises(DefinitionError, match="guardrail"):
        clerk(tools=[shout], tool_input_guardrails={"shout": [guardrail]})


async def test_a_guardrail_of_a_tool_that_the_agent_does_not_have_is_refused() -> None:
    with pytest.raises(DefinitionError, match="has a guardrail of a tool 'shuot' that it does not have"):
        clerk(tools=[shout], tool_output_guardrails={"shuot": no_secrets})
    later = outlast.AgentTool(lambda: outlast.Agent(model="m", name="other"))
    agent = clerk(tools=[shout, later], tool_output_guardrails={"shuot": no_secrets})
    with pytest.raises(DefinitionError, match="has a guardrail of a tool 'shuot' that it does not have"):
        await run(agent, "go")
