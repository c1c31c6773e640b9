"""Handoffs with an input filter: the part of the conversation that the next agent sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

import outlast
from outlast.adapters.scripted import call, handoff, say
from outlast.core.entries import Entry
from outlast.core.errors import DefinitionError
from outlast.core.input_filters import GO_ON
from outlast.core.summaries import HEADING, SUMMARISER
from outlast.ports.llm import ModelRequest
from outlast.runtime.definitions.agent_binding import bind_agents
from outlast.runtime.runs.conversation import Conversation, View


def words(entries: Sequence[Entry]) -> list[str]:
    """Return a word for each entry."""
    return [str(getattr(entry, "content", getattr(entry, "result", entry.type))) for entry in entries]


def note(what: str) -> str:
    """Take something down."""
    return f"{what} noted"


class Play:
    """Plays replies in order, and keeps what each model saw."""

    def __init__(self, *replies: Any, **options: Any) -> None:
        self.replies = list(replies)
        self.seen: list[tuple[str, list[str]]] = []
        self.session = outlast.ScriptedSession(self.reply, **options)

    def reply(self, request: ModelRequest) -> Any:
        if request.agent == SUMMARISER:
            return say("much was said")
        self.seen.append((request.agent, words((*request.history, *request.new))))
        return self.replies.pop(0)


def pair(input_filter: Any) -> outlast.Agent:
    """Return a front desk, which hands a part of the conversation to a back office, which hands all back."""
    back = outlast.Agent(model="m", name="back", tools=[note], handoffs=[lambda: front])
    part = outlast.Handoff(back, input_filter=input_filter)
    front = outlast.Agent(model="m", name="front", tools=[note], handoffs=[part])
    return front


async def test_the_next_agent_sees_what_the_filter_leaves_and_all_that_follows() -> None:
    play = Play(
        [say("Wait."), call("note", {"what": "tea"})],
        handoff("back"),
        call("note", {"what": "salt"}),
        handoff("front"),
        say("Done."),
    )
    result = await outlast.Runner.run(pair(outlast.without_tool_calls), "Go.", play.session)
    whole = ["Go.", "Wait.", "function.call", "tea noted", "function.call", '{"handed_off_to":"back"}']
    part = ["Go.", "Wait.", GO_ON]
    assert play.seen == [
        ("front", ["Go."]),
        ("front", whole[:4]),
        ("back", part),
        ("back", [*part, "function.call", "salt noted"]),
        ("front", [*whole, "function.call", "salt noted", "function.call", '{"handed_off_to":"front"}']),
    ]
    # The conversation itself stays whole.
    assert words(result.entries) == [*play.seen[-1][1], "Done."]
    assert words(outlast.Runner.messages(play.session)) == words(result.entries)


async def test_the_next_run_goes_on_with_what_its_agent_has_seen() -> None:
    play = Play(handoff("back"), say("I am back."), say("Yes?"), say("Front again."))
    front = pair(lambda entries: entries[:1])
    first = await outlast.Runner.run(front, "Go.", play.session)
    await outlast.Runner.run(first.agent, "Still there?", play.session)
    assert play.seen[1:] == [("back", ["Go."]), ("back", ["Go.", "I am back.", "Still there?"])]
    await outlast.Runner.run(front, "And you?", play.session)
    assert play.seen[-1][1][-4:] == ["I am back.", "Still there?", "Yes?", "And you?"]
    assert len(play.seen[-1][1]) == 7


async def test_what_a_filtered_agent_sees_is_summarised_alone() -> None:
    summarise = outlast.SummariseHistory(over_tokens=4, keep_turns=1, count=lambda entry: 1)
    play = Play(
        handoff("back"),
        *(call("note", {"what": what}) for what in ("tea", "salt", "rice")),
        say("Done."),
        context=[summarise],
    )
    await outlast.Runner.run(pair(outlast.KeepLastTurns(1)), "Go.", play.session)
    assert play.seen[-1][1][0] == f"{HEADING}\nmuch was said"
    assert play.seen[-1][1][-1] == "rice noted"
    assert len(play.seen[-1][1]) < 6


async def test_a_filter_may_use_the_context_of_the_run() -> None:
    def only(entries: Sequence[Entry], run: outlast.RunContext[int]) -> Sequence[Entry]:
        return entries[-run.context :]

    play = Play([handoff("back"), call("note", {"what": "tea"})], say("Done."))
    await outlast.Runner.run(pair([only]), "Go.", play.session, context=4)
    assert play.seen[1][1] == ["function.call", "function.call", '{"handed_off_to":"back"}', "tea noted"]


async def test_a_filter_that_fails_ends_the_run() -> None:
    def broken(entries: Sequence[Entry]) -> Sequence[Entry]:
        raise LookupError("nothing there")

    with pytest.raises(DefinitionError, match="failed with LookupError: nothing there"):
        await outlast.Runner.run(pair(broken), "Go.", Play(handoff("back")).session)


async def look(entries: Sequence[Entry]) -> Sequence[Entry]:
    """Take too long."""
    return entries


@pytest.mark.parametrize("given", [[7], "back", [outlast.Agent], look, outlast.SummariseHistory(5)])
def test_a_filter_must_be_a_plain_function(given: Any) -> None:
    with pytest.raises(DefinitionError, match="input_filter"):
        outlast.Handoff("back", input_filter=given)


def test_a_handoff_may_name_an_agent_or_return_it() -> None:
    back = outlast.Agent(model="m", name="back")
    for target in (back, lambda: back):
        front = outlast.Agent(model="m", name="front", handoffs=[outlast.Handoff(target)])
        assert bind_agents(front, {}).graph["front"].handoffs == ("back",)
        assert bind_agents(front, {}).graph["front"].filtered_handoffs == ()


async def test_what_an_agent_sees_is_carried_on_and_forgotten_with_the_conversation() -> None:
    conversation = Conversation(view=View("back"))
    conversation.add([outlast.MessageInput(content="x" * 100), say("y")])
    conversation.add([outlast.MessageInput(content="z"), say("w")])
    other = Conversation()
    other.restore(conversation.carried())
    assert other == conversation
    assert other.forget(50) == 1
    assert other.view is not None
    assert words(other.history) == words(other.view.history) == ["y", "z", "w"]
    play = Play(handoff("back"), say("Hm."), say("Hm."))
    first = await outlast.Runner.run(pair(lambda entries: []), "Go.", play.session)
    outlast.Runner.set_messages(play.session, "Something else.")
    await outlast.Runner.run(first.agent, "Well?", play.session)
    assert play.seen[-1][1] == ["Something else.", "Well?"]
