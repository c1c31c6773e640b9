"""Chunks and entries: those that were read are written unchanged; those that we build follow the API."""

from __future__ import annotations

import itertools
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # untyped
from pydantic import TypeAdapter

from outlast.core.built_in_tools import (
    BUILT_IN_TYPES,
    CodeInterpreterTool,
    ConnectorTool,
    DocumentLibraryTool,
    ImageGenerationTool,
    WebSearchPremiumTool,
    WebSearchTool,
)
from outlast.core.chunks import (
    DocumentURLChunk,
    ImageURLChunk,
    TextChunk,
    ThinkingChunk,
    ToolFileChunk,
    ToolReferenceChunk,
    UnknownChunk,
    as_chunks,
    chunks,
    text_of,
)
from outlast.core.chunks import to_wire as content_to_wire
from outlast.core.entries import (
    AgentHandoff,
    FunctionCall,
    FunctionResult,
    MessageInput,
    MessageOutput,
    ToolExecution,
    UnknownEntry,
    entries,
    last_results,
    last_text,
    messages,
    replies_in,
    to_wire,
)
from outlast.core.json import decode
from outlast.core.values import WireValue
from tests.core.strategies import contents, nested, unicode_objects, unicode_text

OPENAPI = Path(__file__).parents[1] / "data" / "mistral-openapi.json"

maybe_text = st.none() | unicode_text


def built(kind: type[WireValue], required: dict[str, Any], optional: dict[str, Any] | None = None) -> Any:
    """Build values of a kind, with or without each of the optional fields."""
    return st.fixed_dictionaries(required, optional=optional or {}).map(lambda given: kind(**given))


chunks_of = {
    "TextChunk": built(TextChunk, {"text": unicode_text}),
    "ImageURLChunk": built(
        ImageURLChunk, {"image_url": unicode_text | st.fixed_dictionaries({"url": unicode_text})}
    ),
    "DocumentURLChunk": built(
        DocumentURLChunk, {"document_url": unicode_text}, {"document_name": maybe_text}
    ),
    "ToolFileChunk": built(
        ToolFileChunk,
        {"tool": unicode_text, "file_id": unicode_text},
        {"file_name": maybe_text, "file_type": maybe_text},
    ),
    "ToolReferenceChunk": built(
        ToolReferenceChunk,
        {"tool": unicode_text, "title": unicode_text},
        {"url": maybe_text, "favicon": maybe_text, "description": maybe_text},
    ),
    "ThinkChunk": built(
        ThinkingChunk,
        {"thinking": st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": unicode_text}))},
        {"signature": maybe_text, "closed": st.booleans()},
    ),
}
message_contents = unicode_text | st.lists(chunks_of["TextChunk"] | chunks_of["ImageURLChunk"]).map(tuple)
entries_of = {
    "MessageInputEntry": built(
        MessageInput, {"content": message_contents}, {"role": st.sampled_from(["user", "assistant"])}
    ),
    "MessageOutputEntry": built(MessageOutput, {"content": message_contents}),
    "FunctionCallEntry": built(
        FunctionCall,
        {"tool_call_id": unicode_text, "name": unicode_text, "arguments": unicode_text | unicode_objects},
    ),
    "FunctionResultEntry": built(FunctionResult, {"tool_call_id": unicode_text, "result": unicode_text}),
    "ToolExecutionEntry": built(
        ToolExecution, {"name": unicode_text}, {"arguments": unicode_text, "info": unicode_objects}
    ),
    "AgentHandoffEntry": built(
        AgentHandoff,
        dict.fromkeys(
            ["previous_agent_id", "previous_agent_name", "next_agent_id", "next_agent_name"], unicode_text
        ),
    ),
}

tools_of = {
    kind.__name__: built(kind, {})
    for kind in (WebSearchTool, WebSearchPremiumTool, CodeInterpreterTool, ImageGenerationTool)
}
tools_of["DocumentLibraryTool"] = built(
    DocumentLibraryTool, {"library_ids": st.lists(unicode_text, min_size=1).map(tuple)}
)
tools_of["CustomConnector"] = built(
    ConnectorTool,
    {"connector_id": unicode_text},
    {"authorization": st.just({"type": "api-key", "value": "env:TOKEN"})},
)


@cache
def schema(name: str) -> Draft202012Validator:
    """Return a validator for a schema of the API's own description."""
    components = decode(OPENAPI.read_bytes())["components"]
    return Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": components})


@pytest.mark.parametrize("name", [*chunks_of, *entries_of])
@given(data=st.data())
def test_built_entries_follow_the_api_and_are_read_back(name: str, data: st.DataObject) -> None:
    value = data.draw({**chunks_of, **entries_of}[name])
    wire = value.to_wire()
    schema(name).validate(wire)
    adapter: Any = chunks if name in chunks_of else entries
    (read,) = adapter.validate_python([wire])
    assert (type(read), read) == (type(value), value)
    assert read.to_wire() == wire


@pytest.mark.parametrize("name", tools_of)
@given(data=st.data())
def test_a_built_in_tool_is_declared_as_the_api_describes_it(name: str, data: st.DataObject) -> None:
    tool = data.draw(tools_of[name])
    schema(name).validate(tool.to_wire())
    assert tool.type in BUILT_IN_TYPES


known_types = [
    "text",
    "image_url",
    "thinking",
    "tool_file",
    "message.output",
    "function.result",
    "agent.handoff",
]
wire_objects = st.builds(
    lambda known, extra, kind: {**known, **extra, "type": kind},
    st.fixed_dictionaries(
        dict.fromkeys(
            [
                "text",
                "image_url",
                "content",
                "tool_call_id",
                "result",
                "previous_agent_name",
                "next_agent_name",
            ],
            unicode_text,
        )
        | {"thinking": st.just([]), "tool": unicode_text, "file_id": unicode_text}
    ),
    unicode_objects.filter(lambda extra: "" not in extra),
    st.sampled_from([*known_types, "hologram", "agent.dreamt", ""]),
)


@given(wire_objects)
def test_unknown_types_and_fields_go_back_as_they_came(wire: dict[str, Any]) -> None:
    adapters: list[TypeAdapter[Any]] = [chunks, entries]
    for adapter in adapters:
        (value,) = adapter.validate_python([wire])
        assert value.to_wire() == wire
        assert adapter.validate_json(adapter.dump_json((value,))) == (value,)
        assert isinstance(value, (UnknownChunk, UnknownEntry)) or wire["type"] in known_types


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], nested(300), {"x": object()}])
def test_entries_that_are_not_json_are_refused(value: Any) -> None:
    for kind in ("text", "hologram"):
        with pytest.raises(ValueError, match="extra"):
            chunks.validate_python([{"type": kind, "text": "", "extra": value}])
    with pytest.raises(ValueError, match="info"):
        ToolExecution(name="web_search", info={"x": value})


def test_arguments_that_come_as_an_object_are_put_into_text() -> None:
    call = FunctionCall.model_validate({"tool_call_id": "a", "name": "b", "arguments": {"x": [1, "ü"]}})
    assert call.arguments == '{"x":[1,"ü"]}'
    with pytest.raises(ValueError, match="arguments"):
        FunctionCall.model_validate({"tool_call_id": "a", "name": "b", "arguments": {"x": float("nan")}})


@given(st.sampled_from(contents))
def test_the_text_of_a_content_is_that_of_its_text_chunks(content: Any) -> None:
    assert text_of(content) == text_of(as_chunks(content))
    assert text_of(content) == "".join(one.text for one in as_chunks(content) if isinstance(one, TextChunk))
    assert content_to_wire(content) == (
        content if isinstance(content, str) else [one.to_wire() for one in content]
    )


def test_empty_text_makes_no_chunk() -> None:
    assert as_chunks("") == ()
    assert as_chunks("x") == (TextChunk(text="x"),)


def test_a_text_is_one_message_of_the_user() -> None:
    assert to_wire(messages("hello")) == [{"type": "message.input", "role": "user", "content": "hello"}]


@given(st.lists(st.one_of(*entries_of.values(), *chunks_of.values()), min_size=1))
def test_inputs_keep_their_order_and_chunks_in_a_row_are_one_message(items: list[Any]) -> None:
    found = messages(items)
    expected: list[Any] = []
    for is_chunk, run in itertools.groupby(items, key=lambda item: type(item).__name__.endswith("Chunk")):
        together = tuple(run)
        expected += [MessageInput(content=together)] if is_chunk else together
    assert list(found) == expected
    assert messages([item.to_wire() for item in items]) == found


def test_inputs_may_be_json_objects_with_a_role_and_entries_of_unknown_types() -> None:
    dreamt = UnknownEntry.model_validate({"type": "agent.dreamt", "of": "sheep"})
    said = {"role": "assistant", "content": "hello"}
    assert messages([said, dreamt, {"type": "text", "text": "and?"}]) == (
        MessageInput(role="assistant", content="hello"),
        dreamt,
        MessageInput(content=(TextChunk(text="and?"),)),
    )


@pytest.mark.parametrize(
    "inputs", ["", " \n", [], ["text"], [7], [{}], [{"role": "user"}], [{"type": "text"}]]
)
def test_empty_inputs_and_inputs_of_unknown_types_are_refused(inputs: Any) -> None:
    with pytest.raises(ValueError, match=r".+"):
        messages(inputs)


ASKED = MessageInput(content="Is it raining?")
FIRST = FunctionCall(tool_call_id="1", name="look_up", arguments="{}")
SECOND = FunctionCall(tool_call_id="2", name="look_up", arguments="{}")
ANSWERS = (FunctionResult(tool_call_id="1", result="yes"), FunctionResult(tool_call_id="2", result="no"))


@pytest.mark.parametrize(
    ("conversation", "text", "results", "replies"),
    [
        ((), "", {}, 0),
        ((ASKED,), "Is it raining?", {}, 0),
        ((MessageInput(role="assistant", content="Well."),), "", {}, 0),
        ((ASKED, FIRST, SECOND), "Is it raining?", {}, 1),
        ((ASKED, FIRST, SECOND, *ANSWERS), "Is it raining?", {"1": "yes", "2": "no"}, 1),
        ((ASKED, FIRST, ANSWERS[0], SECOND, ANSWERS[1], ASKED), "Is it raining?", {"2": "no"}, 2),
        ((ASKED, FIRST, ANSWERS[0], MessageOutput(content="Yes.")), "Is it raining?", {}, 2),
    ],
)
def test_a_conversation_says_what_was_asked_and_what_came_back(
    conversation: tuple[Any, ...], text: str, results: dict[str, str], replies: int
) -> None:
    assert last_text(conversation) == text
    assert [*last_results(conversation).items()] == [*results.items()]
    assert replies_in(conversation) == replies
