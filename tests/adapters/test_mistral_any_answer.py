"""Any answer of a server becomes a reply or an error of ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import event, given
from hypothesis import strategies as st

from outlast.adapters.mistral import chat, wire
from outlast.adapters.mistral.conversations import ConversationAnswer
from outlast.adapters.mistral.reconciliation import trace_of
from outlast.adapters.mistral.streams import CompletionStream, ConversationStream
from outlast.core.entries import entries
from outlast.core.errors import ModelError
from outlast.core.json import decode
from outlast.core.replies import with_own_call_ids
from outlast.core.usage import Usage
from tests.core.strategies import nested

CALL = {"id": "a", "index": 0, "function": {"name": "f", "arguments": "{}"}}
COMPLETION = {
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "x", "tool_calls": [CALL]}}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}
OUTPUTS = [
    {"id": "1", "type": "tool.execution", "name": "web_search", "arguments": "{}", "info": {}},
    {"id": "2", "type": "agent.handoff", "previous_agent_id": "ag_1", "next_agent_id": "ag_2"},
    {"id": "3", "type": "message.output", "content": [{"type": "text", "text": "x"}]},
    {"id": "4", "type": "function.call", "tool_call_id": "a", "name": "f", "arguments": "{}"},
]
ANSWER = {
    "conversation_id": "conv_1",
    "outputs": OUTPUTS,
    "usage": {"connectors": {"web_search": 1}, "connector_tokens": 3},
}
EVENTS = [
    {"type": "conversation.response.started", "conversation_id": "conv_1"},
    {"type": "message.output.delta", "output_index": 0, "id": "m", "content": "x", "content_index": 0},
    {
        "type": "message.output.delta",
        "output_index": 0,
        "id": "m",
        "content": {"type": "thinking", "thinking": []},
    },
    {
        "type": "function.call.delta",
        "output_index": 1,
        "id": "f",
        "name": "g",
        "tool_call_id": "c",
        "arguments": "{}",
    },
    {"type": "conversation.response.done", "usage": {"total_tokens": 9}},
]
CHUNKS = [
    {"choices": [{"index": 0, "delta": {"content": [{"type": "text", "text": "x"}], "tool_calls": [CALL]}}]},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": {"total_tokens": 9}},
    "[DONE]",
]

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
) | st.sampled_from([nested(150), nested(700)])


@st.composite
def spoilt(draw: st.DrawFn, whole: Any) -> Any:
    """The whole, with something else in the place of one thing in it."""
    if isinstance(whole, (dict, list)) and whole and draw(st.integers(0, 9)):
        place = draw(st.sampled_from(sorted(whole) if isinstance(whole, dict) else range(len(whole))))
        copy: Any = dict(whole) if isinstance(whole, dict) else list(whole)
        copy[place] = draw(spoilt(whole[place]))
        return copy
    return draw(anything)


def reply_or_error(read: Callable[[], Any]) -> Any:
    try:
        found = read()
    except ModelError as error:
        event(type(error).__name__)
        return None
    event("a reply")
    return found


def check_usage(wire_value: Any) -> None:
    usage = wire.usage_of(wire_value)
    assert Usage.model_validate(decode(usage.to_json())) == usage
    counts = [usage.prompt_tokens, usage.completion_tokens, usage.total_tokens, usage.connector_tokens]
    assert all(count >= 0 and count is not True for count in (*counts, *usage.connectors.values()))


def check_entries(found: Any) -> None:
    if found is not None:
        kept = with_own_call_ids(found)
        assert entries.validate_python([entry.to_wire() for entry in kept]) == kept


@given(spoilt(COMPLETION))
def test_a_completion(completion: Any) -> None:
    check_entries(reply_or_error(lambda: chat.entries_of(completion)))
    check_usage(completion.get("usage") if isinstance(completion, dict) else completion)


@given(spoilt(ANSWER))
def test_an_answer_of_a_conversation(wire_value: Any) -> None:
    answer = reply_or_error(lambda: ConversationAnswer.of(wire_value))
    if answer is not None:
        check_entries(reply_or_error(lambda: wire.entries_of(answer.outputs, {"ag_1": "a"})))
        check_usage(answer.usage)


def taken(stream: Any, events: Sequence[Any]) -> Any:
    for one in events if isinstance(events, list) else [events]:
        assert isinstance(stream.take(one), str)
    return stream.wire()


@given(spoilt(EVENTS))
def test_a_stream_of_a_conversation(events: Any) -> None:
    def read() -> Any:
        answer = ConversationAnswer.of(taken(ConversationStream(), events))
        return wire.entries_of(answer.outputs, {})

    check_entries(reply_or_error(read))


@given(spoilt(CHUNKS))
def test_a_stream_of_a_completion(events: Any) -> None:
    check_entries(reply_or_error(lambda: chat.entries_of(taken(CompletionStream(), events))))


@given(spoilt(OUTPUTS))
def test_a_history(history: Any) -> None:
    kept = [entry for entry in history if isinstance(entry, dict)] if isinstance(history, list) else []
    sent = [{"type": "message.input", "role": "user", "content": "x"}]
    trace = trace_of([{"id": "0", **sent[0]}, *kept], None, sent)
    if trace.outputs:
        reply_or_error(lambda: wire.entries_of(trace.outputs, {}))
