"""Entries as chat messages: the endpoint accepts any conversation."""

from __future__ import annotations

import json
from typing import Any, TypeGuard

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.adapters.mistral import recent_conversations
from outlast.adapters.mistral.chat import entries_of, reply_of, request_of
from outlast.adapters.mistral.client import encoded
from outlast.adapters.mistral.messages import call_id_of, messages_of
from outlast.adapters.mistral.recent_conversations import (
    BYTES_MAX,
    CONVERSATIONS_MAX,
    RecentConversations,
)
from outlast.adapters.mistral.streams import CompletionStream
from outlast.adapters.mistral.wire import inputs_of, plain, usage_of
from outlast.adapters.scripted import call, handoff, say
from outlast.core.chunks import text_of
from outlast.core.entries import (
    AgentHandoff,
    Entry,
    FunctionCall,
    FunctionResult,
    MessageInput,
    MessageOutput,
)
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
def test_messages_that_were_sent_once_are_sent_again_unchanged(
    entries: list[Entry], more: list[Entry]
) -> None:
    before = messages_of(entries)
    if before[-1]["role"] == "user":
        assert messages_of([*entries, say("answer"), *more])[: len(before)] == before


any_texts = st.sampled_from(["", "é", "half \ud800", '"', "x" * 200])


@given(data=st.data(), entries=conversations(), reasoning=st.booleans())
def test_a_conversation_that_grows_is_written_as_if_it_were_new(
    data: st.DataObject, entries: list[Entry], reasoning: bool
) -> None:
    entries.append(MessageInput(content=data.draw(any_texts)))
    system = [{"role": "system", "content": data.draw(any_texts)}]
    recent = RecentConversations()
    steps = st.tuples(st.integers(0, len(entries)), st.booleans())
    for end, is_fork in [*data.draw(st.lists(steps, max_size=6)), (len(entries), False)]:
        shown = entries[:end]
        if shown and is_fork:
            # Another conversation that begins alike.
            shown[-1] = MessageInput(content="something else")
        new = {"messages": [*system, *messages_of(shown, reasoning)]}
        recently = {"messages": recent.written(system, shown, reasoning)}
        assert json.loads(encoded(recently)) == json.loads(encoded(plain(new)))
        assert encoded(recently) == encoded(plain(new))


def test_what_was_written_once_is_not_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Any] = []

    def seen(message: Any) -> Any:
        written.append(message)
        return plain(message)

    monkeypatch.setattr(recent_conversations, "plain", seen)
    recent = RecentConversations()
    entries: list[Entry] = [MessageInput(content="go")]
    for number in range(100):
        call_id = f"call{number:05d}"
        entries += [call("a", call_id=call_id), FunctionResult(tool_call_id=call_id, result="r")]
        written.clear()
        recent.written([], entries, False)
        assert len(written) <= 5


def test_only_so_many_conversations_are_kept() -> None:
    recent = RecentConversations()
    small: list[list[Entry]] = [
        [MessageInput(content=f"{number}"), say("said")] for number in range(CONVERSATIONS_MAX + 5)
    ]
    for one in small:
        recent.written([], one, False)
    assert len(recent._kept) == CONVERSATIONS_MAX
    large: list[list[Entry]] = [[MessageInput(content="x" * (BYTES_MAX // 2)), say("said")] for _ in range(3)]
    for one in large:
        recent.written([], one, False)
        assert sum(kept.length for kept in recent._kept.values()) <= BYTES_MAX


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
def test_an_incomplete_reply_is_never_taken_for_a_whole_one(wire: Any) -> None:
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
        if length < len(events) - 1:
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
        ("3230", ModelRefused),
        (None, ModelOverloaded),
    ):
        with pytest.raises(error, match="too long"):
            CompletionStream().take({"error": {"message": "too long", "code": code}})


def pieces(*events: Any) -> tuple[Entry, ...]:
    """Return the entries of a stream of these events."""
    stream = CompletionStream()
    for event in events:
        stream.take(event)
    return entries_of(stream.wire())


def delta(finish_reason: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": finish_reason}]}


def called(*calls: tuple[dict[str, Any], str | None, str | None]) -> dict[str, Any]:
    return delta(
        tool_calls=[
            {**about, "function": {"name": name, "arguments": arguments}} for about, name, arguments in calls
        ]
    )


ONE, TWO = '{"a": 1}', '{"a": 2}'


@pytest.mark.parametrize(
    "events",
    [
        [called(({"id": "c1"}, "f", ONE)), called(({"id": "c2"}, "g", TWO))],
        [called(({"id": "c1", "index": 0}, "f", ONE)), called(({"id": "c2", "index": 0}, "g", TWO))],
        [called(({"id": "c1", "index": 0}, "f", ONE), ({"id": "c2", "index": 0}, "g", TWO))],
        [called(({"id": "c1", "index": None}, "f", ONE)), called(({"id": "c2", "index": 1}, "g", TWO))],
        [called(({"id": "c2", "index": 1}, "g", TWO)), called(({"id": "c1", "index": 0}, "f", ONE))],
        [
            called(({"id": "c1", "index": 0}, "f", None), ({"id": "c2", "index": 1}, "g", "")),
            called(({"index": 1}, None, '{"a":'), ({"index": 0}, None, '{"a": ')),
            called(({"index": 0}, None, "1}"), ({"index": 1}, None, " 2}")),
        ],
        [
            called(({"id": "c1", "index": 0}, "f", None)),
            called(({"index": 0}, None, ONE)),
            called(({"id": "c2", "index": 0}, "g", None)),
            called(({"index": 0}, None, TWO)),
        ],
        [
            called(({"id": "c1"}, "f", '{"a":'), ({"id": "c2"}, "g", '{"a":')),
            called(({"id": "c2"}, None, " 2}"), ({"id": "c1"}, None, " 1}")),
        ],
        [
            called(({"id": "c1", "index": 0}, "f", '{"a":')),
            called(({"id": "another", "index": 0}, None, " 1}")),
            called(({"id": "c2", "index": 1}, "g", TWO)),
        ],
        [
            called(({"index": 0}, "f", '{"a":')),
            called(({"id": "c1", "index": 0}, "f", " 1}")),
            called(({"index": 1, "id": "c2"}, "g", TWO)),
        ],
    ],
    ids=[
        "without an index",
        "one index",
        "one index, one event",
        "null, then 1",
        "the second one first",
        "pieces by index",
        "pieces of one index",
        "pieces by id",
        "an id for each piece",
        "a late id",
    ],
)
def test_the_calls_of_a_stream_are_distinguished(events: list[Any]) -> None:
    made = pieces(*events, delta("tool_calls"))
    assert [(one.tool_call_id, one.name, json.loads(one.arguments)) for one in made if is_call(one)] == [
        ("c1", "f", {"a": 1}),
        ("c2", "g", {"a": 2}),
    ]


@pytest.mark.parametrize(
    "events",
    [
        [called(({}, "f", ONE)), called(({}, "f", TWO))],
        [called(({"index": 0}, "f", ONE)), called(({"index": 0}, "f", TWO))],
        [called(({}, "f", ONE), ({}, "f", TWO))],
        [called(({}, "f", "{"), ({}, "f", "{")), called(({}, None, '"a": 1}'), ({}, None, '"a": 2}'))],
        [called(({"id": "x", "index": 0}, "f", ONE)), called(({"id": "x", "index": 1}, "f", TWO))],
        [called(({"id": "null"}, "f", ONE)), called(({"id": None}, "f", TWO))],
    ],
)
def test_calls_without_ids_of_their_own_are_distinguished(events: list[Any]) -> None:
    made = pieces(*events, delta("tool_calls"))
    assert [(one.name, json.loads(one.arguments)) for one in made if is_call(one)] == [
        ("f", {"a": 1}),
        ("f", {"a": 2}),
    ]


def is_call(entry: Entry) -> TypeGuard[FunctionCall]:
    return isinstance(entry, FunctionCall)


@pytest.mark.parametrize("names", [["ping"], ["pi", "ng"], ["p", "i", "n", "g"], ["ping", "ping"]])
def test_a_name_may_come_in_pieces_or_again(names: list[str]) -> None:
    first, *others = names
    events = [called(({"id": "c", "index": 0}, first, None))]
    events += [called(({"index": 0}, name, None)) for name in others]
    events += [called(({"index": 0}, None, "{")), called(({"index": 0}, "ping", "}"))]
    assert pieces(*events, delta("tool_calls")) == (call("ping", "{}", call_id="c"),)


def test_a_stream_ends_after_a_finish_reason() -> None:
    assert pieces(delta(content="hello"), delta("stop")) == (say("hello"),)
    assert pieces(delta(content="hello"), "", delta("stop"), {"choices": [], "usage": {}}) == (say("hello"),)


@pytest.mark.parametrize(
    ("reason", "cut"),
    [
        ("stop", None),
        (None, None),
        ("length", "length"),
        ("model_length", "length"),
        ("MAX_TOKENS", "length"),
        ("content_filter", "content_filter"),
        ("SAFETY", "content_filter"),
        ("some_other_reason", None),
    ],
)
def test_a_reply_that_was_cut_says_so(reason: str | None, cut: str | None) -> None:
    reply = reply_of(completion(finish_reason=reason))
    assert reply.entries == (say("Hello."),)
    assert reply.cut == cut
    assert bool(reply.warnings) == (cut is not None)
    calls = [{"id": "c", "function": {"name": "f", "arguments": "{"}}]
    if cut is not None:
        with pytest.raises(MalformedReply, match="inside its tool calls"):
            reply_of(completion(message={"tool_calls": calls}, finish_reason=reason))


@pytest.mark.parametrize("reason", ["error", "abort", "insufficient_system_resource"])
def test_a_reply_that_the_server_did_not_finish_is_tried_again(reason: str) -> None:
    with pytest.raises(ModelOverloaded):
        reply_of(completion(finish_reason=reason))
    with pytest.raises(ModelOverloaded):
        pieces(delta(content="It is"), delta(reason))


def test_a_refusal_is_the_text_of_the_reply() -> None:
    for reply in (
        reply_of(completion(message={"content": None, "refusal": "I cannot help."})),
        reply_of(completion(message={"content": "", "refusal": "I cannot help.", "reasoning": None})),
    ):
        assert reply.entries == (say("I cannot help."),)
        assert reply.warnings == ("the model refused to answer",)
    streamed = pieces(delta(refusal="I cannot"), delta(refusal=" help."), delta("stop"))
    assert streamed == (say("I cannot help."),)
    partly = reply_of(completion(message={"content": "Well.", "refusal": "No."}))
    assert text_of(partly.entries[0].content) == "Well.No."  # type: ignore[union-attr]


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_is_kept_and_goes_back_with_the_calls_of_its_reply(field: str) -> None:
    calls = [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]
    whole = reply_of(completion(message={"content": "Ok.", field: "Let me think", "tool_calls": calls}))
    streamed = pieces(
        delta(**{field: "Let me "}),
        delta(**{field: "think"}),
        delta(content="Ok."),
        delta("tool_calls", tool_calls=calls),
    )
    assert streamed == whole.entries
    said = whole.entries[0]
    assert isinstance(said, MessageOutput)
    assert "Let me think" in repr(said)
    assert text_of(said.content) == "Ok."
    back = messages_of((*whole.entries, FunctionResult(tool_call_id="c", result="r")))[0]
    assert (back["content"], back[field]) == ("Ok.", "Let me think")
    assert messages_of((said,)) == [{"role": "assistant", "content": "Ok."}]
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "Let me think"}]}
    assert messages_of((said,), has_reasoning_fields=False)[0]["content"] == [
        thought,
        {"type": "text", "text": "Ok."},
    ]
    assert inputs_of((said,))[0]["content"][0] == thought


def test_reasoning_alone_is_a_reply_that_goes_back_to_nobody() -> None:
    reply = reply_of(completion(message={"content": None, "reasoning_content": "Let me think"}))
    assert "Let me think" in repr(reply.entries)
    assert messages_of(reply.entries) == []


@pytest.mark.parametrize(
    ("count", "known"),
    [
        (7, 7),
        (7.0, 7),
        ("7", 7),
        (" 7.0 ", 7),
        (True, 0),
        ("many", 0),
        ("nan", 0),
        ("1e999", 0),
        ("9" * 5000, 0),
        (10**400, 0),
        (-7, 0),
        (None, 0),
        ([7], 0),
    ],
    ids=lambda value: f"{type(value).__name__} {value!r:.9}",
)
def test_usage_is_counted_from_numbers_and_text(count: Any, known: int) -> None:
    assert usage_of({"prompt_tokens": count, "total_tokens": count}).total_tokens == known
    assert usage_of({"prompt_tokens": count, "completion_tokens": 1}).total_tokens == known + 1
