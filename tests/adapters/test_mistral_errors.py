"""Errors of servers and networks, and pieces of streams, as ours: without a server, for every shape seen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.adapters.mistral.api_errors import error_in, hiding, message_in, of_status, translated
from outlast.adapters.mistral.reconciliation import Finding, Trace, trace_of
from outlast.adapters.mistral.streams import ConversationStream
from outlast.core.errors import (
    MalformedReply,
    ModelError,
    ModelOverloaded,
    ModelRefused,
    ModelUnreachable,
)
from tests.core.strategies import nested


@given(status=st.integers(100, 599))
def test_every_status_is_one_of_our_errors(status: int) -> None:
    error = of_status(status, "m", {})
    assert isinstance(error, ModelError)
    assert error.retryable == (status >= 500 or status in (408, 409, 425, 429))
    assert isinstance(error, MalformedReply) == (status < 400)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"object":"Error","message":"Bad call","type":"x","code":3001}', "Bad call"),
        ('{"detail":"Unauthorized"}', "Unauthorized"),
        ('{"detail":[{"loc":["body","tools"],"msg":"No.","input":"the user"}]}', "body.tools: No."),
        ('{"object":"error","message":{"detail":[{"loc":["body"],"msg":"No."}]}}', "body: No."),
        ('{"error":{"message":"of another vendor"}}', "of another vendor"),
        ("Bad\n Gateway", "Bad Gateway"),
        ("", "no message"),
        ("[]", "no message"),
        ('{"message":null}', '{"message": null}'),
        ("[" * 100_000, "[" * 500 + "..."),
        ('{"detail":[{"loc":7,"msg":"No."}]}', "No."),
    ],
)
def test_messages_are_found_in_every_shape_of_body(body: str, message: str) -> None:
    assert message_in(body) == message


@given(body=st.text(), secret=st.text("abc0", min_size=4))
def test_messages_are_bounded_and_hide_the_key(body: str, secret: str) -> None:
    with hiding({secret}):
        message = message_in(body + secret + body * 300)
    assert secret not in message
    assert len(message) <= 503


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read_as_seconds(headers: dict[str, str], seconds: float | None) -> None:
    error = of_status(429, "m", httpx2.Headers(headers))
    assert isinstance(error, ModelOverloaded)
    assert error.retry_after_seconds == seconds


def test_retry_after_is_read_as_a_date() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    error = of_status(503, "m", {"retry-after": later})
    assert isinstance(error, ModelOverloaded)
    assert error.retry_after_seconds is not None
    assert 3500 < error.retry_after_seconds <= 3600


def test_a_busy_conversation_is_left_alone_for_a_while() -> None:
    for headers, least in (({}, 15), ({"retry-after": "2"}, 15), ({"retry-after": "40"}, 40)):
        error = of_status(409, "m", headers)
        assert isinstance(error, ModelOverloaded)
        assert error.retry_after_seconds == least


@pytest.mark.parametrize("kind", [httpx2.ConnectError, httpx2.ReadTimeout, httpx2.RemoteProtocolError])
def test_network_trouble_is_unreachable(kind: type[httpx2.TransportError]) -> None:
    with hiding({"key-1"}):
        error = translated(kind("at key-1"))
    assert isinstance(error, ModelUnreachable)
    assert "key-1" not in str(error)


def test_errors_of_a_program_are_not_taken_for_the_server_s() -> None:
    assert translated(KeyError("x")) is None


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"error": {"message": "m", "code": 429}}, 429),
        ({"error": {"message": "m", "code": "429"}}, 429),
        ({"error": {"message": "m", "code": 429.0}}, 429),
        ({"error": {"message": "m", "code": "rate_limit_exceeded", "type": "tokens"}}, 429),
        ({"error": {"message": "m", "type": "insufficient_quota", "code": "insufficient_quota"}}, 429),
        (
            {"error": {"message": "m", "code": "context_length_exceeded", "type": "invalid_request_error"}},
            400,
        ),
        ({"error": {"message": "m", "type": "BadRequestError", "param": None, "code": None}}, 400),
        ({"error": {"message": "m", "code": "model_not_found"}}, 404),
        ({"error": {"message": "m", "code": "invalid_api_key"}}, 401),
        ({"error": {"message": "m", "code": True}}, 500),
        ({"error": {"message": "m", "code": 7}}, 500),
        ({"error": {"error": {"message": {"detail": "m"}, "code": "overloaded"}}}, 503),
        ({"error": [{"message": "m", "status": "UNAVAILABLE"}]}, 503),
        ({"errors": [{"detail": "m", "status": "403"}]}, 403),
        ([{"error": {"message": "m", "code": 400, "status": "INVALID_ARGUMENT"}}], 400),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "m"}}, 503),
        ({"object": "error", "message": "m", "type": "rate_limited", "code": "1300"}, 429),
        ({"object": "Error", "message": "m", "code": 3001}, 400),
        ({"type": "conversation.response.error", "message": "m", "code": 3000}, 500),
        ({"error": "m, out of memory"}, 500),
        ({"error": "m"}, 500),
        ({"detail": "m"}, 500),
        ({"detail": [{"loc": ["body"], "msg": "m"}]}, 500),
        ({"message": "m", "status_code": 502}, 502),
        ({"choices": None, "message": "m", "code": 408}, 408),
        ({"choices": [{"index": 0}], "error": {"message": "m", "code": 502}}, 502),
    ],
)
def test_an_error_in_a_success_is_the_one_with_its_own_status(body: Any, status: int) -> None:
    error = error_in(body, "choices")
    assert isinstance(error, ModelOverloaded | ModelRefused)
    assert "m" in str(error)
    assert error.status == status
    assert type(error) is type(of_status(status, "m", {}))


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [{"index": 0}], "error": None, "message": "fine"},
        {"choices": [{"index": 0}], "error": {"message": None, "code": 0}, "errors": []},
        {"choices": []},
        {"usage": {"total_tokens": 3}},
        {},
        [],
        [{"choices": []}],
        "error",
        None,
    ],
)
def test_a_body_that_reports_no_error_is_not_an_error(body: Any) -> None:
    assert error_in(body, "choices") is None


EVENTS: list[dict[str, Any]] = [
    {"type": "conversation.response.started", "conversation_id": "conv_1"},
    {"type": "agent.handoff.started", "id": "h", "previous_agent_id": "ag_1", "previous_agent_name": "a"},
    {"type": "agent.handoff.done", "id": "h", "next_agent_id": "ag_2", "next_agent_name": "b"},
    {"type": "tool.execution.started", "output_index": 1, "id": "t", "name": "web_search", "arguments": "{"},
    {"type": "tool.execution.delta", "output_index": 1, "id": "t", "name": "web_search", "arguments": "}"},
    {"type": "tool.execution.done", "output_index": 1, "id": "t", "name": "web_search", "info": {"n": 1}},
    {"type": "message.output.delta", "output_index": 2, "id": "m", "content": "It "},
    {"type": "message.output.delta", "output_index": 2, "id": "m", "content": "rains"},
    {
        "type": "message.output.delta",
        "output_index": 2,
        "content_index": 1,
        "id": "m",
        "content": {"type": "tool_reference", "tool": "web_search", "title": "T"},
    },
    {"type": "message.output.delta", "output_index": 2, "content_index": 2, "id": "m", "content": "."},
    {"type": "sound.output.delta", "output_index": 3, "id": "s"},
    {
        "type": "function.call.delta",
        "output_index": 4,
        "id": "f",
        "name": "g",
        "tool_call_id": "c",
        "arguments": "{",
    },
    {
        "type": "function.call.delta",
        "output_index": 4,
        "id": "f",
        "name": "g",
        "tool_call_id": "c",
        "arguments": "}",
    },
    {"type": "conversation.response.done", "usage": {"total_tokens": 9}},
]


@given(length=st.integers(0, len(EVENTS)))
def test_a_stream_is_whole_only_with_its_done_event(length: int) -> None:
    stream = ConversationStream()
    for event in EVENTS[:length]:
        stream.take(event)
    if length < len(EVENTS):
        with pytest.raises(ModelUnreachable):
            stream.wire()
        return
    whole = stream.wire()
    handed, executed, said, called = whole["outputs"]
    assert handed == {
        "type": "agent.handoff",
        "id": "h",
        "previous_agent_id": "ag_1",
        "previous_agent_name": "a",
        "next_agent_id": "ag_2",
        "next_agent_name": "b",
    }
    assert (executed["arguments"], executed["info"]) == ("{}", {"n": 1})
    assert said["content"] == [
        {"type": "text", "text": "It rains"},
        {"type": "tool_reference", "tool": "web_search", "title": "T"},
        {"type": "text", "text": "."},
    ]
    assert (called["name"], called["tool_call_id"], called["arguments"]) == ("g", "c", "{}")
    assert whole["usage"] == {"total_tokens": 9}


def test_an_event_that_was_cut_is_ignored() -> None:
    with pytest.raises(ModelUnreachable, match="cut inside an event"):
        ConversationStream().take('{"type": "message.out')


@pytest.mark.parametrize(
    "odd",
    [{"output_index": float("inf")}, {"output_index": "first"}, {"content": nested(900)}],
    ids=["infinity", "text", "depth"],
)
def test_an_event_that_cannot_be_read_is_malformed(odd: dict[str, Any]) -> None:
    with pytest.raises(MalformedReply):
        ConversationStream().take({"type": "message.output.delta", "content": "x", **odd})


def test_a_stream_that_fails_raises_what_the_server_says() -> None:
    with pytest.raises(ModelOverloaded, match="orchestration"):
        ConversationStream().take(
            {"type": "conversation.response.error", "message": "handoff orchestration", "code": 3000}
        )


# Histories -----------------------------------------------------------------------------------------------

SAID: list[dict[str, Any]] = [
    {"id": "1", "type": "message.input", "role": "user", "content": "yes"},
    {"id": "2", "type": "message.output", "content": "Sure?"},
]


AGAIN = [{"type": "message.input", "role": "user", "content": [{"type": "text", "text": "yes"}]}]
SAID_AGAIN = [{**SAID[0], "id": "3"}, {**SAID[1], "id": "4"}]


def test_an_input_counts_as_applied_only_behind_what_was_known() -> None:
    assert trace_of(SAID, "2", AGAIN) == Trace(Finding.NOTHING)
    assert trace_of([], None, AGAIN) == Trace(Finding.NOTHING)
    assert trace_of(SAID, None, AGAIN) == Trace(Finding.ANSWERED, (SAID[1],))
    assert trace_of([*SAID, *SAID_AGAIN], "2", AGAIN) == Trace(Finding.ANSWERED, (SAID_AGAIN[1],))


def test_if_a_request_was_applied_twice_the_first_counts() -> None:
    assert trace_of([*SAID, *SAID_AGAIN], None, AGAIN) == Trace(Finding.ANSWERED, (SAID[1],), has_more=True)


@pytest.mark.parametrize("anchor", ["9", "", "1"])
def test_a_conversation_with_entries_of_somebody_else_is_recognised(anchor: str) -> None:
    assert trace_of([*SAID, *SAID_AGAIN], anchor, AGAIN).finding is Finding.SOMETHING_ELSE


@pytest.mark.parametrize("last", [None, {"type": "agent.handoff"}, {"type": "tool.execution"}])
def test_inputs_without_a_whole_answer_are_still_being_answered(last: dict[str, Any] | None) -> None:
    result = {"type": "function.result", "tool_call_id": "c", "result": "r"}
    assert trace_of([*SAID, result, *([last] if last else [])], "2", [result]) == Trace(Finding.PENDING)
