"""A conversation that is a workflow."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

import outlast
from outlast.adapters.scripted import call, handoff, say
from outlast.core.records import encode_record
from outlast.ports.llm import ModelRequest


def talk(request: ModelRequest) -> Any:
    """Echo what is asked; hand off, call a tool for ever, or write too much, when asked to."""
    messages = [
        entry for entry in (*request.history, *request.new) if isinstance(entry, outlast.MessageInput)
    ]
    text = messages[-1].content
    match text:
        case "hand off" if request.agent == "first":
            return handoff("other")
        case "loop":
            return call("nothing")
        case "be long":
            return say("x" * 3_000_000)
    return say(f"{request.agent} {len(messages)}: {text}")


other = outlast.Agent(model="m", name="other")


@outlast.workflow.define(name="test_conversation")
class Conversation(outlast.AgentWorkflow):
    agent = outlast.Agent(model="m", name="first", handoffs=[other])
    session = outlast.ScriptedSession(talk, may_call_unknown_tools=True)
    max_turns = 2


@outlast.workflow.define(name="test_no_agent")
class NoAgent(outlast.AgentWorkflow):
    pass


@pytest.fixture
async def backend() -> AsyncIterator[outlast.Backend]:
    async with outlast.connect("memory:") as backend, backend.worker([Conversation, NoAgent]):
        yield backend


async def test_messages_are_answered_in_one_conversation(backend: outlast.Backend) -> None:
    execution = await backend.start(Conversation)
    for text in ("one", "two"):
        await execution.signal("say", text)
    await execution.signal("end")
    state = await execution.result()
    assert (await execution.query("state"))["answer"] == "first 2: two"
    assert (state["answered"], state["waiting"], state["busy"], state["error"]) == (2, 0, False, None)
    said = [entry["content"] for entry in await execution.query("transcript")]
    assert said == ["one", "first 1: one", "two", "first 2: two"]
    assert await execution.query("transcript", 3) == (await execution.query("transcript"))[3:]
    assert await execution.query("transcript", 1, limit=2) == (await execution.query("transcript"))[1:3]


async def test_the_agent_that_answered_last_goes_on(backend: outlast.Backend) -> None:
    execution = await backend.start(Conversation)
    for text in ("hand off", "well"):
        await execution.signal("say", text)
    await execution.signal("end")
    state = await execution.result()
    assert state["agent"] == "other"
    assert (await execution.query("state"))["answer"] == "other 2: well"


async def test_a_message_that_gets_no_answer_does_not_end_the_conversation(backend: outlast.Backend) -> None:
    execution = await backend.start(Conversation)
    await execution.signal("say", "loop")
    await execution.signal("say", "")
    await execution.signal("say", "again")
    await execution.signal("end")
    state = await execution.result()
    assert (state["answered"], state["error"]) == (3, None)
    assert (await execution.query("state"))["answer"].endswith(": again")


@pytest.mark.parametrize(
    ("text", "error"), [("loop", "MaxTurnsExceeded"), ("", "DefinitionError"), ("be long", "PayloadTooLarge")]
)
async def test_why_a_message_got_no_answer_is_in_the_state(
    backend: outlast.Backend, text: str, error: str
) -> None:
    execution = await backend.start(Conversation)
    await execution.signal("say", text)
    await execution.signal("end")
    state = await execution.result()
    assert (await execution.query("state"))["answer"] is None
    assert state["error"].startswith(error)


def check(text: str) -> None:
    if text == "break":
        raise KeyError("a mistake in a guardrail")
    if text == "leave":
        raise SystemExit(3)


def instruct(run: outlast.RunContext) -> str:
    return str({"first": "Be kind."}[run.agent])


@outlast.workflow.define(name="test_mistaken")
class Mistaken(outlast.AgentWorkflow):
    agent = outlast.Agent(
        model="m",
        name="first",
        input_guardrails=[check],
        instructions=instruct,
        handoffs=[outlast.Agent(model="m", name="other", instructions=instruct)],
    )
    session = outlast.ScriptedSession(talk)


@pytest.mark.parametrize("text", ["break", "leave", "hand off"])
async def test_a_mistake_in_the_code_of_an_agent_concerns_one_message(text: str) -> None:
    async with outlast.connect("memory:") as backend, backend.worker([Mistaken]):
        execution = await backend.start(Mistaken)
        failed = await execution.update("ask", text)
        assert (failed["answered"], failed["answer"]) == (1, None)
        assert failed["error"].startswith(("KeyError", "SystemExit"))
        state = await execution.update("ask", "again")
        assert (state["answer"].endswith(": again"), state["error"]) == (True, None)


async def test_an_answer_that_no_record_can_hold_does_not_end_the_conversation(
    backend: outlast.Backend,
) -> None:
    execution = await backend.start(Conversation)
    for text in ("be long", "be brief"):
        await execution.signal("say", text)
    await execution.signal("end")
    state = await execution.result()
    assert (state["answered"], state["error"]) == (2, None)
    assert (await execution.query("state"))["answer"] == "first 2: be brief"


async def test_answers_are_not_written_again_at_the_end(backend: outlast.Backend) -> None:
    execution = await backend.start(Conversation)
    await execution.signal("say", "forty-two")
    await execution.signal("end")
    await execution.result()
    journal = b"".join([encode_record(record) async for record in execution.records()])
    assert journal.count(b"first 1: forty-two") == 1


async def test_a_conversation_without_an_agent_says_what_to_write(backend: outlast.Backend) -> None:
    execution = await backend.start(NoAgent)
    with pytest.raises(outlast.ExecutionFailed, match=r"agent = outlast\.Agent"):
        await execution.result()


async def test_to_continue_as_new_is_refused_where_it_is_never_suggested() -> None:
    async with outlast.connect("memory:") as backend, backend.worker([Impatient]):
        execution = await backend.start(Impatient)
        with pytest.raises(outlast.ExecutionFailed, match="should_continue_as_new"):
            await execution.result()


@outlast.workflow.define(name="test_impatient")
class Impatient:
    @outlast.workflow.entrypoint
    async def run(self, number: int = 0) -> None:
        assert not outlast.workflow.should_continue_as_new()
        await outlast.workflow.continue_as_new(number + 1)
