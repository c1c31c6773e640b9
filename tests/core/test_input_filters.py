"""The part of a conversation that the next agent sees after a handoff."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.core.context_processors import ContextProcessor, KeepLastTurns, TokenBudget, paired
from outlast.core.entries import (
    AgentHandoff,
    Entry,
    FunctionCall,
    FunctionResult,
    MessageInput,
    MessageOutput,
    ToolExecution,
)
from outlast.core.errors import DefinitionError
from outlast.core.input_filters import GO_ON, TRANSCRIPT, as_one_message, shown_to_next, without_tool_calls

ASKED = MessageInput(content="Where is it?")
SAID = MessageOutput(content="Let me see.")
CALL = FunctionCall(tool_call_id="a", name="transfer_to_poet", arguments="{}")
RESULT = FunctionResult(tool_call_id="a", result="handed off")
WHOLE = (ASKED, SAID, CALL, RESULT)

entries = st.lists(
    st.one_of(
        st.sampled_from([ASKED, SAID]),
        st.builds(
            FunctionCall, tool_call_id=st.sampled_from("abc"), name=st.just("f"), arguments=st.just("")
        ),
        st.builds(FunctionResult, tool_call_id=st.sampled_from("abc"), result=st.just("x")),
        st.just(ToolExecution(name="web_search", arguments="{}")),
        st.just(AgentHandoff(previous_agent_name="a", next_agent_name="b")),
    ),
    max_size=8,
)
filters: st.SearchStrategy[list[ContextProcessor]] = st.lists(
    st.sampled_from(
        [without_tool_calls, as_one_message, KeepLastTurns(1), TokenBudget(20), lambda seen: seen[1:]]
    ),
    max_size=3,
)


@given(entries, filters)
def test_the_next_agent_sees_whole_calls_and_has_something_to_answer(
    conversation: list[Entry], chosen: list[ContextProcessor]
) -> None:
    seen = shown_to_next(chosen, conversation)
    assert paired(seen) == seen
    assert isinstance(seen[-1], (MessageInput, FunctionResult))
    assert shown_to_next(chosen, conversation) == seen
    if without_tool_calls in chosen:
        assert all(isinstance(entry, (MessageInput, MessageOutput)) for entry in seen)


def test_what_was_said_is_left_without_the_calls() -> None:
    assert shown_to_next([without_tool_calls], (ASKED, CALL, RESULT)) == (ASKED,)
    assert shown_to_next([without_tool_calls], WHOLE) == (ASKED, SAID, MessageInput(content=GO_ON))


def test_the_conversation_becomes_one_message() -> None:
    [message] = shown_to_next([as_one_message], WHOLE)
    assert isinstance(message, MessageInput)
    assert str(message.content).splitlines() == [
        TRANSCRIPT,
        "user: Where is it?",
        "assistant: Let me see.",
        "assistant called transfer_to_poet: {}",
        "transfer_to_poet returned: handed off",
    ]


def test_an_agent_that_sees_nothing_is_asked_to_go_on() -> None:
    assert shown_to_next([lambda seen: []], WHOLE) == (MessageInput(content=GO_ON),)
    assert as_one_message([]) == ()


def test_a_filter_that_fails_is_named() -> None:
    def broken(seen: object) -> list[Entry]:
        raise LookupError("nothing there")

    with pytest.raises(DefinitionError, match="'broken' failed with LookupError"):
        shown_to_next([broken], WHOLE)
