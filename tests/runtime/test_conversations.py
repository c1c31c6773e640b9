"""Reading, changing and summarising what a conversation holds, between runs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import durable_agents as da
from durable_agents.adapters.scripted import call, say
from durable_agents.core.entries import Entry
from durable_agents.core.errors import DefinitionError
from durable_agents.core.summaries import HEADING
from durable_agents.ports.llm import ModelRequest


def shout(text: str) -> str:
    """Say it loudly."""
    return text.upper()


def agent(name: str = "solo") -> da.Agent:
    return da.Agent(model="m", name=name, tools=[shout])


def told(request: ModelRequest) -> list[str]:
    """Return what the model sees, shortly."""
    seen = []
    for entry in (*request.history, *request.new):
        match entry:
            case da.MessageInput() | da.MessageOutput():
                seen.append(str(entry.content))
            case da.FunctionCall():
                seen.append(f"{entry.name}()")
            case da.FunctionResult():
                seen.append(entry.result)
    return seen


async def test_messages_are_read_and_changed_between_runs() -> None:
    heard: list[list[str]] = []

    def reply(request: ModelRequest) -> Any:
        heard.append(told(request))
        return call("shout", {"text": "hey"}) if request.turn == 1 else say("done")

    session = da.ScriptedSession(reply)
    assert da.Runner.messages(session) == ()
    await da.Runner.run(agent(), "one", session)
    before = da.Runner.messages(session)
    assert [entry.type for entry in before] == [
        "message.input",
        "function.call",
        "function.result",
        "message.output",
    ]
    da.Runner.set_messages(session, [da.MessageInput(content="zero"), *before[1:]])
    await da.Runner.run(agent(), "two", session)
    assert heard[2] == ["zero", "shout()", "HEY", "done", "two"]
    da.Runner.set_messages(session, [])
    await da.Runner.run(agent(), "three", session)
    assert heard[4] == ["three"]
    da.Runner.set_messages(session, "as text")
    assert [entry.to_wire() for entry in da.Runner.messages(session)] == [
        {"type": "message.input", "role": "user", "content": "as text"}
    ]


CALL = da.FunctionCall(tool_call_id="a", name="shout", arguments="{}")
RESULT = da.FunctionResult(tool_call_id="a", result="x")


@pytest.mark.parametrize(
    "messages", [[CALL], [RESULT], [RESULT, CALL], [CALL, CALL, RESULT], [{"type": 7}], 7, [da.Agent]]
)
async def test_messages_that_no_model_would_take_are_refused_and_change_nothing(messages: Any) -> None:
    session = da.ScriptedSession({"solo": [say("done")]})
    await da.Runner.run(agent(), "one", session)
    before = da.Runner.messages(session)
    with pytest.raises(DefinitionError):
        da.Runner.set_messages(session, messages)
    assert da.Runner.messages(session) == before


async def test_messages_of_a_run_under_way_cannot_be_changed() -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    @da.activity(name="conversations_wait")
    async def wait() -> str:
        """Wait."""
        asked.set()
        await answer.wait()
        return "waited"

    session = da.ScriptedSession({"solo": [call("conversations_wait"), say("done")]})
    run = asyncio.create_task(da.Runner.run(da.Agent(model="m", name="solo", tools=[wait]), "go", session))
    await asked.wait()
    with pytest.raises(DefinitionError, match="being used"):
        da.Runner.set_messages(session, [])
    answer.set()
    assert (await run).text == "done"


async def test_changes_in_workflow_code_are_those_of_its_execution_and_are_replayed() -> None:
    shared = da.ScriptedSession(lambda request: say(" ".join(told(request))))

    @da.workflow.define(name="conversations.forgetful")
    class Forgetful:
        @da.workflow.entrypoint
        async def run(self) -> list[str]:
            texts = []
            for said in ("one", "two", "three"):
                texts.append((await da.Runner.run(agent(), said, shared)).text)
                da.Runner.set_messages(shared, da.Runner.messages(shared)[-1:])
            return texts

    async with da.connect("memory:") as backend, backend.worker([Forgetful], max_cached_executions=0):
        for _ in range(2):
            execution = await backend.start(Forgetful)
            assert await execution.result() == ["one", "one two", "one two three"]
    assert da.Runner.messages(shared) == ()


def script(request: ModelRequest) -> Any:
    """Count in tool calls; the summariser says how many lines it was given."""
    if request.agent == "summariser":
        assert request.history == ()
        [asked] = told(request)
        lines = asked.splitlines()
        return say(f"{len(lines)} lines from {lines[0]!r} to {lines[-1]!r}")
    if request.turn <= 3:
        return call("shout", {"text": f"t{request.turn}"})
    return say(f"saw {len(told(request))}")


async def conversation_summarised() -> tuple[str | None, tuple[Entry, ...], str]:
    session = da.ScriptedSession(script)
    await da.Runner.run(agent(), "first task", session)
    await da.Runner.run(agent(), "second task", session)
    summary = await da.Runner.summarise(session, agent("summariser"), keep_turns=2)
    messages = da.Runner.messages(session)
    again = await da.Runner.summarise(session, agent("summariser"), keep_turns=9)
    assert again is None
    return summary, messages, (await da.Runner.run(agent(), "third task", session)).text


async def test_old_turns_are_summarised_by_a_model_and_the_last_ones_kept() -> None:
    summary, messages, text = await conversation_summarised()
    assert summary == "12 lines from 'user: first task' to 'shout returned: T2'"
    assert [entry.type for entry in messages] == [
        "message.input",
        "message.input",
        "function.call",
        "function.result",
        "message.output",
    ]
    heading, task = messages[:2]
    assert isinstance(heading, da.MessageInput)
    assert isinstance(task, da.MessageInput)
    assert heading.content == f"{HEADING}\n{summary}"
    assert task.content == "second task"
    assert text == "saw 12"


async def test_in_a_workflow_a_summary_is_a_step_and_is_replayed() -> None:
    asked: list[str] = []

    @da.workflow.define(name="conversations.summarised")
    class Summarised:
        @da.workflow.entrypoint
        async def run(self) -> str:
            _, _, text = await conversation_summarised()
            return text

    async with da.connect("memory:") as backend:
        execution = await backend.start(Summarised)
        async with backend.worker([Summarised], max_cached_executions=0):
            assert await execution.result() == "saw 12"
        async for event in execution.events():
            if event.kind == "turn_started":
                asked.append(str(event.data["agent"]))
    assert asked == ["solo"] * 8 + ["summariser"] + ["solo"] * 4
