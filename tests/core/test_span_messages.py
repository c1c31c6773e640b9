"""The content of replies in the form of OpenTelemetry's conventions."""

from __future__ import annotations

from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it has no types
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.core.json import JSON
from outlast.core.span_messages import output_messages
from tests.core.strategies import json_objects, json_values

SCHEMA: dict[str, Any] = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["role", "parts", "finish_reason"],
        "properties": {
            "role": {"const": "assistant"},
            "finish_reason": {"type": "string"},
            "parts": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["type"],
                    "properties": {"type": {"type": "string"}},
                    "allOf": [
                        {
                            "if": {"properties": {"type": {"const": kind}}},
                            "then": {"required": needed},
                        }
                        for kind, needed in {
                            "text": ["content"],
                            "reasoning": ["content"],
                            "tool_call": ["name"],
                            "server_tool_call": ["name", "server_tool_call"],
                        }.items()
                    ],
                },
            },
        },
    },
}
"""The parts of the schema of `gen_ai.output.messages` that we write."""


def parts(*entries: JSON, **fields: JSON) -> Any:
    [message] = output_messages({"entries": list(entries), **fields})
    assert isinstance(message, dict)
    return message["parts"], message["finish_reason"]


@given(st.lists(json_values, max_size=4) | json_values, json_values)
def test_whatever_a_reply_holds_the_message_is_of_the_schema(entries: JSON, cut: JSON) -> None:
    messages = output_messages({"entries": entries, "cut": cut})
    jsonschema.validate(messages, SCHEMA)


@given(
    st.sampled_from(["message.output", "function.call", "tool.execution", "agent.handoff"]),
    json_objects,
    json_values,
)
def test_that_holds_for_entries_of_known_types(kind: str, entry: dict[str, JSON], content: JSON) -> None:
    known: JSON = {**entry, "type": kind, "content": content, "name": "n", "arguments": content}
    jsonschema.validate(output_messages({"entries": [known]}), SCHEMA)


def test_texts_thoughts_and_calls_are_parts_of_one_message() -> None:
    chunks: JSON = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "so"}, 1]},
        {"type": "text", "text": "hello"},
        {"type": "tool_file", "tool": "t", "file_id": "f"},
        "no chunk",
    ]
    call: JSON = {"type": "function.call", "tool_call_id": "c", "name": "t", "arguments": '{"n": 1}'}
    said, finish = parts(
        {"type": "message.output", "content": chunks},
        {"type": "message.output", "content": "hi"},
        call,
        {"type": "tool.execution", "name": "web_search", "arguments": "no JSON"},
        {"type": "agent.handoff", "next_agent_name": "b"},
        {"content": "no type"},
        3,
    )
    assert said == [
        {"type": "reasoning", "content": "so"},
        {"type": "text", "content": "hello"},
        {"type": "tool_file", "tool": "t", "file_id": "f"},
        {"type": "text", "content": "hi"},
        {"type": "tool_call", "id": "c", "name": "t", "arguments": {"n": 1}},
        {
            "type": "server_tool_call",
            "name": "web_search",
            "server_tool_call": {"type": "web_search", "arguments": "no JSON", "info": None},
        },
        {"type": "agent.handoff", "next_agent_name": "b"},
    ]
    assert finish == "tool_call"


@pytest.mark.parametrize(("cut", "finish"), [(None, "stop"), ("length", "length"), ({}, "stop")])
def test_a_message_says_how_it_ended(cut: JSON, finish: str) -> None:
    assert parts(cut=cut) == ([], finish)
