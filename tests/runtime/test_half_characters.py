"""Half a character (a lone surrogate) from any place: every run goes on with the same text.

Models are known to write them: a stream may cut an emoji in two, and JSON carries each half as an escape.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from outlast.adapters.scripted import ScriptedSession, call, say
from outlast.composition.agent_workflow import AgentWorkflow
from outlast.composition.backends import connect
from outlast.composition.running import Runner
from outlast.core.agents import AgentGraph
from outlast.core.entries import FunctionResult, MessageInput
from outlast.core.events import TextDeltaData
from outlast.ports.deltas import Publish
from outlast.ports.durability.backend import Backend
from outlast.ports.llm import ModelReply, ModelRequest, Session
from outlast.ports.resources import Resources
from outlast.runtime.definitions import workflow
from outlast.runtime.definitions.activity import activity
from outlast.runtime.definitions.agent import Agent

HALF = "half \ud800"


@dataclass
class Stutterer(Session):
    """A session that writes its text in these pieces, and keeps its requests."""

    pieces: tuple[str, ...]
    raise_on_tool_fail: bool = False
    stream: bool = True
    asked: tuple[Any, ...] = ()

    def check(self, graph: AgentGraph) -> None:
        """It serves any agents."""

    async def reply(
        self, request: ModelRequest, resources: Resources, publish: Publish | None = None
    ) -> ModelReply:
        self.asked = (*request.history, *request.new)
        for piece in self.pieces:
            if publish is not None:
                publish(piece)
        return ModelReply(entries=(say("".join(self.pieces)),))


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    async with connect("memory:") as backend:
        yield backend


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (("ok \ud83d", "\ude00!"), "ok 😀!"),
        (("ok \ud83d",), "ok \ufffd"),
        (("\ude00 ok",), "\ufffd ok"),
        (("\ud83d", "\ud83d", "\ude00"), "\ufffd😀"),
    ],
)
async def test_a_reply_with_half_a_character_has_the_same_text_in_every_run(
    backend: Backend, pieces: tuple[str, ...], text: str
) -> None:
    agent = Agent(model="m", name="a")
    plain = await Runner.run(agent, "go", Stutterer(pieces))
    durable = await Runner.run(agent, "go", Stutterer(pieces), id="x", backend=backend)
    again = await Runner.run(agent, "go", Stutterer(pieces), id="x", backend=backend)
    assert [result.text for result in (plain, durable, again)] == [text] * 3
    streamed = Runner.run_streamed(agent, "go", Stutterer(pieces))
    published = [
        event.data.text async for event in streamed.events() if isinstance(event.data, TextDeltaData)
    ]
    assert text.startswith("".join(published))
    assert (await streamed.result()).text == text


async def test_half_a_character_in_the_inputs_of_a_run_is_kept(backend: Backend) -> None:
    agent = Agent(model="m", name="a")
    for options in ({}, {"id": "given", "backend": backend}):
        session = Stutterer(("ok",))
        result = await Runner.run(agent, HALF, session, **options)  # type: ignore[arg-type]  # either
        assert result.text == "ok"
        for entry in (session.asked[0], result.entries[0]):
            assert isinstance(entry, MessageInput)
            assert entry.content == HALF


@activity(name="half_activity")
async def typed(word: str) -> str:
    """Return the word, and half a character.

    Args:
        word: A word
    """
    return word + HALF


def untyped(word: Any) -> Any:
    """Return the word, and half a character."""
    return [word, HALF]


async def test_half_a_character_in_the_result_of_a_tool_reaches_the_model(backend: Backend) -> None:
    agent = Agent(model="m", name="a", tools=[typed, untyped])
    calls = [call("half_activity", {"word": "x"}), call("untyped", {"word": HALF})]
    for options in ({}, {"id": "tools", "backend": backend}):
        session = ScriptedSession({"a": [calls, "done"]})
        result = await Runner.run(agent, "go", session, **options)  # type: ignore[arg-type]  # either
        results = [entry.result for entry in result.entries if isinstance(entry, FunctionResult)]
        assert results == [f"x{HALF}", '["\\ud8@","\\ud8@"]'.replace("\\ud8@", "half \\ud800")]


@workflow.define(name="half_talk")
class Talk(AgentWorkflow):
    """Returns its argument."""

    agent = Agent(model="m", name="a")
    session = ScriptedSession({"a": ["ok \ud83d", "and \ude00"]})


async def test_half_a_character_in_a_message_of_a_conversation_is_kept(backend: Backend) -> None:
    async with backend.worker([Talk]):
        execution = await backend.start(Talk)
        await execution.signal("say", HALF)
        await execution.signal("say", "more")
        await execution.signal("end")
        await execution.result()
        state = await execution.query("state")
        assert (state["answered"], state["answer"]) == (2, "and \ufffd")
        transcript = await execution.query("transcript")
        assert [entry["content"] for entry in transcript] == [HALF, "ok \ufffd", "more", "and \ufffd"]
