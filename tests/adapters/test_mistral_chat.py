"""Entries as chat messages: whatever was said, the endpoint takes it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.adapters.mistral.chat import call_id_of, entries_of, messages_of, request_of
from outlast.adapters.mistral.streams import CompletionStream
from outlast.adapters.scripted.session import call, handoff, say
from outlast.core.entries import AgentHandoff, Entry, FunctionCall, FunctionResult, MessageInput
from outlast.core.errors import MalformedReply, ModelOverloaded, ModelRefused, ModelUnreachable
from outlast.testing.contracts.session.programs import graph_for
from outlast.testing.mistral_server.ordering import check_messages


@st.composite
def conversations(draw: st.DrawFn) -> list[Entry]:
    """Any replies, each with the results of its calls, what users add, and replies of a server in between."""
    entries: list[Entry] = [MessageInput(content="0")]
    for number in range(1, draw(st.integers(1, 7))):
        calls = draw(st.integers(0, 3))
        entries += [say("said")] * draw(st.integers(0, 2))
        made = [
            FunctionCall(tool_call_id=f"id {number} {position}", name="look_up", arguments="{}")
            for position in range(calls)
        ]
        entries += made
        if draw(st.booleans()):
            entries += [AgentHandoff(previous_agent_name="front", next_agent_name="poet"), say("handed")]
            entries.append(MessageInput(content=f"{number}"))
            continue
        order = draw(st.permutations(made))
        entries += [FunctionResult(tool_call_id=one.tool_call_id, result="r") for one in order]
        if not made or draw(st.booleans()):
            entries.append(MessageInput(content=f"{number}"))
    return entries


@given(entries=conversations())
def test_any_conversation_is_in_an_order_that_the_endpoint_takes(entries: list[Entry]) -> None:
    messages = messages_of(entries)
    check_messages(messages)
    said = [entry.content for entry in entries if isinstance(entry, MessageInput)]
    assert [message["content"] for message in messages if message["role"] == "user"] == said
    results = [entry.tool_call_id for entry in entries if isinstance(entry, FunctionResult)]
    sent = [message["tool_call_id"] for message in messages if message["role"] == "tool"]
    assert sorted(sent) == sorted(map(call_id_of, results))


@given(entries=conversations(), more=conversations())
def test_what_was_sent_once_is_sent_again_in_the_same_way(entries: list[Entry], more: list[Entry]) -> None:
    before = messages_of(entries)
    if before[-1]["role"] == "user":
        assert messages_of([*entries, say("answer"), *more])[: len(before)] == before


def test_results_stand_behind_their_calls_in_call_order() -> None:
    first, second = call("a", call_id="aaaaaaaaa"), call("b", call_id="bbbbbbbbb")
    results = [FunctionResult(tool_call_id=one, result=one) for one in ("bbbbbbbbb", "aaaaaaaaa")]
    messages = messages_of([MessageInput(content="Go."), first, second, *results])
    assert [message.get("content") for message in messages] == ["Go.", "", "aaaaaaaaa", "bbbbbbbbb"]
    assert [one["id"] for one in messages[1]["tool_calls"]] == ["aaaaaaaaa", "bbbbbbbbb"]


def test_a_message_between_results_goes_in_front_of_the_whole_errand() -> None:
    entries: list[Entry] = [MessageInput(content="Go.")]
    for one in ("aaaaaaaaa", "bbbbbbbbb"):
        entries += [call("look_up", call_id=one), FunctionResult(tool_call_id=one, result="r")]
    messages = messages_of([*entries, MessageInput(content="Hurry.")])
    assert [message["role"] for message in messages] == ["user", "user", *["assistant", "tool"] * 2]
    assert messages[1]["content"] == "Hurry."


@given(st.text())
def test_call_ids_become_nine_letters_and_digits_and_stay_the_same(text: str) -> None:
    made = call_id_of(text)
    assert len(made) == 9
    assert made.isascii()
    assert made.isalnum()
    assert made == call_id_of(text) == call_id_of(made)


def test_the_active_agent_speaks_with_its_own_tools_and_handoffs() -> None:
    body = request_of(graph_for("m"), "poet", [MessageInput(content="Go.")])
    assert body["model"] == "m-poet"
    assert body["messages"][0] == {"role": "system", "content": "You are poet."}
    offered = {tool["function"]["name"]: tool["function"]["description"] for tool in body["tools"]}
    assert list(offered) == ["look_up", "rhyme", handoff("front").name]
    assert "The agent front." in offered[handoff("front").name]


def test_arguments_that_are_not_json_are_sent_back_readable() -> None:
    made = call("look_up", '{"city": "Ly', call_id="aaaaaaaaa")
    messages = messages_of([made, FunctionResult(tool_call_id="aaaaaaaaa", result="no JSON")])
    assert messages[0]["tool_calls"][0]["function"]["arguments"] == '{"arguments":"{\\"city\\": \\"Ly"}'


def test_a_user_s_chunk_that_the_endpoint_does_not_take_is_refused_and_not_dropped() -> None:
    chunk: Any = {"type": "hologram", "beams": 3}
    with pytest.raises(ModelRefused, match="'hologram'"):
        messages_of([MessageInput(content=(chunk,))])


def completion(**fields: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "Hello."} | fields.pop("message", {})
    return {"choices": [{"index": 0, "finish_reason": "stop", "message": message} | fields]}


@pytest.mark.parametrize(
    "wire",
    [
        None,
        [],
        {},
        {"choices": []},
        {"choices": [{"message": None}]},
        completion(message={"content": 7}),
        completion(message={"tool_calls": ["x"]}),
        completion(message={"tool_calls": [{"function": {}}]}),
        completion(message={"tool_calls": 7}),
        completion(message={"tool_calls": [{"function": {"name": "f"}}]}, finish_reason="length"),
    ],
    ids=str,
)
def test_what_is_no_whole_reply_is_never_one(wire: Any) -> None:
    with pytest.raises(MalformedReply):
        entries_of(wire)


def test_a_generation_that_failed_may_be_tried_again() -> None:
    with pytest.raises(ModelOverloaded):
        entries_of(completion(finish_reason="error"))


def test_replies_are_read_as_servers_write_them() -> None:
    calls = [
        {"id": None, "function": {"name": "f", "arguments": {"a": 1}}},
        {"id": "null", "function": {"name": "g", "arguments": None}},
        {"id": "call_1", "function": {"name": "h", "arguments": "{}"}},
    ]
    made = entries_of(completion(message={"content": None, "tool_calls": calls}, finish_reason="tool_calls"))
    assert made == (
        call("f", '{"a":1}'),
        FunctionCall(tool_call_id="", name="g", arguments=""),
        FunctionCall(tool_call_id="call_1", name="h", arguments="{}"),
    )
    assert entries_of(completion()) == (say("Hello."),)
    assert entries_of(completion(message={"content": ""})) == (say(""),)
    assert entries_of(completion(finish_reason="length")) == (say("Hello."),)


def test_a_stream_is_whole_only_with_its_end() -> None:
    def piece(finish_reason: str | None = None, **delta: Any) -> dict[str, Any]:
        return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}

    def called(text: str, **more: Any) -> dict[str, Any]:
        return piece(
            tool_calls=[{"index": 0, **more, "function": {"name": more.pop("name", None), "arguments": text}}]
        )

    events: list[Any] = [
        piece(role="assistant", content="Hel"),
        piece(content="lo."),
        called('{"a":', id="aaaaaaaaa", name="f"),
        called("1}"),
        piece("tool_calls") | {"usage": {"total_tokens": 3}},
        CompletionStream.END,
    ]
    for length in range(len(events) + 1):
        stream = CompletionStream()
        for event in events[:length]:
            stream.take(event)
        if length < len(events):
            with pytest.raises(ModelUnreachable, match="before the reply was complete"):
                stream.wire()
        else:
            whole = stream.wire()
            assert whole["usage"] == {"total_tokens": 3}
            assert entries_of(whole) == (say("Hello."), call("f", '{"a":1}', call_id="aaaaaaaaa"))


def test_a_stream_that_fails_is_tried_again_only_where_that_may_help() -> None:
    for code, error in (
        (400, ModelRefused),
        (503, ModelOverloaded),
        ("3230", ModelOverloaded),
        (None, ModelOverloaded),
    ):
        with pytest.raises(error, match="too long"):
            CompletionStream().take({"error": {"message": "too long", "code": code}})
