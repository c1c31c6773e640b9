"""Reading, changing and summarising the entries of a conversation, between runs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import outlast
from outlast.adapters.scripted import call, say
from outlast.core.entries import Entry
from outlast.core.errors import DefinitionError
from outlast.core.events import TurnStartedData
from outlast.core.summaries import HEADING
from outlast.ports.llm import ModelRequest


def shout(text: str) -> str:
    """Say it loudly."""
    return text.upper()


def agent(name: str = "solo") -> outlast.Agent:
    return outlast.Agent(model="m", name=name, tools=[shout])


def shown(request: ModelRequest) -> list[str]:
    """Return the entries that the model sees, each in short."""
    seen = []
    for entry in (*request.history, *request.new):
        match entry:
            case outlast.MessageInput() | outlast.MessageOutput():
                seen.append(str(entry.content))
            case outlast.FunctionCall():
                seen.append(f"{entry.name}()")
            case outlast.FunctionResult():
                seen.append(entry.result)
    return seen


async def test_messages_are_read_and_changed_between_runs() -> None:
    requests: list[list[str]] = []

    def reply(request: ModelRequest) -> Any:
        requests.append(shown(request))
        return call("shout", {"text": "hey"}) if request.turn == 1 else say("done")

    session = outlast.ScriptedSession(reply)
    assert outlast.Runner.messages(session) == ()
    await outlast.Runner.run(agent(), "one", session)
    before = outlast.Runner.messages(session)
    assert [entry.type for entry in before] == [
        "message.input",
        "function.call",
        "function.result",
        "message.output",
    ]
    outlast.Runner.set_messages(session, [outlast.MessageInput(content="zero"), *before[1:]])
    await outlast.Runner.run(agent(), "two", session)
    assert requests[2] == ["zero", "shout()", "HEY", "done", "two"]
    outlast.Runner.set_messages(session, [])
    await outlast.Runner.run(agent(), "three", session)
    assert requests[4] == ["three"]
    outlast.Runner.set_messages(session, "as text")
    assert [entry.to_wire() for entry in outlast.Runner.messages(session)] == [
        {"type": "message.input", "role": "user", "content": "as text"}
    ]


CALL = outlast.FunctionCall(tool_call_id="a", name="shout", arguments="{}")
RESULT = outlast.FunctionResult(tool_call_id="a", result="x")


@pytest.mark.parametrize(
    "messages", [[CALL], [RESULT], [RESULT, CALL], [CALL, CALL, RESULT], [{"type": 7}], 7, [outlast.Agent]]
)
async def test_messages_that_no_model_would_take_are_refused_and_change_nothing(messages: Any) -> None:
    session = outlast.ScriptedSession({"solo": [say("done")]})
    await outlast.Runner.run(agent(), "one", session)
    before = outlast.Runner.messages(session)
    with pytest.raises(DefinitionError):
        outlast.Runner.set_messages(session, messages)
    assert outlast.Runner.messages(session) == before


async def test_messages_of_a_run_under_way_cannot_be_changed() -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    @outlast.activity(name="conversations_wait")
    async def wait() -> str:
        """Wait."""
        asked.set()
        await answer.wait()
        return "waited"

    session = outlast.ScriptedSession({"solo": [call("conversations_wait"), say("done")]})
    run = asyncio.create_task(
        outlast.Runner.run(outlast.Agent(model="m", name="solo", tools=[wait]), "go", session)
    )
    await asked.wait()
    with pytest.raises(DefinitionError, match="being used"):
        outlast.Runner.set_messages(session, [])
    answer.set()
    assert (await run).text == "done"


async def test_changes_in_workflow_code_are_those_of_its_execution_and_are_replayed() -> None:
    shared = outlast.ScriptedSession(lambda request: say(" ".join(shown(request))))

    @outlast.workflow.define(name="conversations.forgetful")
    class Forgetful:
        @outlast.workflow.entrypoint
        async def run(self) -> list[str]:
            texts = []
            for said in ("one", "two", "three"):
                texts.append((await outlast.Runner.run(agent(), said, shared)).text)
                outlast.Runner.set_messages(shared, outlast.Runner.messages(shared)[-1:])
            return texts

    async with outlast.connect("memory:") as backend, backend.worker([Forgetful], max_cached_executions=0):
        for _ in range(2):
            execution = await backend.start(Forgetful)
            assert await execution.result() == ["one", "one two", "one two three"]
    assert outlast.Runner.messages(shared) == ()


def script(request: ModelRequest) -> Any:
    """Count in tool calls; the summariser says how many lines it was given."""
    if request.agent == "summariser":
        assert request.history == ()
        [asked] = shown(request)
        lines = asked.splitlines()
        return say(f"{len(lines)} lines from {lines[0]!r} to {lines[-1]!r}")
    if request.turn <= 3:
        return call("shout", {"text": f"t{request.turn}"})
    return say(f"saw {len(shown(request))}")


async def conversation_summarised() -> tuple[str | None, tuple[Entry, ...], str]:
    session = outlast.ScriptedSession(script)
    await outlast.Runner.run(agent(), "first task", session)
    await outlast.Runner.run(agent(), "second task", session)
    summary = await outlast.Runner.summarise(session, agent("summariser"), keep_turns=2)
    messages = outlast.Runner.messages(session)
    again = await outlast.Runner.summarise(session, agent("summariser"), keep_turns=9)
    assert again is None
    return summary, messages, (await outlast.Runner.run(agent(), "third task", session)).text


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
    assert isinstance(heading, outlast.MessageInput)
    assert isinstance(task, outlast.MessageInput)
    assert heading.content == f"{HEADING}\n{summary}"
    assert task.content == "second task"
    assert text == "saw 12"


async def test_in_a_workflow_a_summary_is_a_step_and_is_replayed() -> None:
    asked: list[str] = []

    @outlast.workflow.define(name="conversations.summarised")
    class Summarised:
        @outlast.workflow.entrypoint
        async def run(self) -> str:
            _, _, text = await conversation_summarised()
            return text

    async with outlast.connect("memory:") as backend:
        execution = await backend.start(Summarised)
        async with backend.worker([Summarised], max_cached_executions=0):
            assert await execution.result() == "saw 12"
        async for event in execution.events():
            if isinstance(event.data, TurnStartedData):
                asked.append(event.data.agent)
    assert asked == ["solo"] * 8 + ["summariser"] + ["solo"] * 4
