"""Streams: the pieces put together equal the history."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mistralai.client import errors

from outlast.testing.contracts.examples import few_examples
from outlast.testing.mistral_server import (
    AnswerWith,
    Call,
    Drop,
    EndStream,
    Execute,
    Fault,
    HandOff,
    Hang,
    Refuse,
    Say,
    ScriptedModel,
    Think,
)
from tests.mistral_server.cloud import Cloud, Json, cloud
from tests.mistral_server.streams import rebuilt, shown

pytestmark = pytest.mark.server

CHUNKS: list[Json] = [
    {"type": "text", "text": "It is 2.5 %"},
    {"type": "tool_reference", "tool": "web_search", "title": "Rates", "url": "https://example.org/r"},
    {"type": "text", "text": " today."},
]


async def streamed(world: Cloud, **start: Any) -> list[Any]:
    async with await world.sdk.beta.conversations.start_stream_async(**start) as stream:
        return [event.data async for event in stream]


async def test_a_stream_has_all_that_the_history_shows() -> None:
    model = ScriptedModel(
        {
            "front": [[Say("One moment,  please.\n"), HandOff("back")]],
            "back": [
                [
                    Execute("web_search", {"query": "euro"}, {"hits": 1}),
                    Think("Hm, well."),
                    Say(CHUNKS),
                    Call("get_rate", {"day": "monday"}),
                    Call("get_rate", ""),
                ]
            ],
        }
    )
    async with cloud(model) as world:
        back = await world.agent("back")
        front = await world.agent("front", handoffs=[back])
        events = await streamed(world, agent_id=front, inputs="Rate?")
        assert [events[0].type, events[-1].type] == [
            "conversation.response.started",
            "conversation.response.done",
        ]
        history = await world.history(events[0].conversation_id)
        assert rebuilt(events) == [shown(entry) for entry in history[1:]]
        assert events[-1].usage.total_tokens > 0


@few_examples(25)
@given(text=st.text(min_size=1), arguments=st.dictionaries(st.text(), st.text() | st.integers(), max_size=3))
async def test_no_text_is_changed_by_cutting_it_into_pieces(text: str, arguments: Json) -> None:
    model = ScriptedModel({"chat": [[Say(text)]], "*": [[Say(text), Call("f", arguments)]]})
    async with cloud(model) as world:
        message, call = rebuilt(await streamed(world, model="m", inputs="x"))
        assert "".join(message["content"]) == text
        assert json.loads(call["arguments"]) == arguments
        stream = await world.sdk.chat.stream_async(model="chat", messages=[{"role": "user", "content": "x"}])
        chunks = [event.data.choices[0].delta.content async for event in stream]
        assert "".join(str(chunk) for chunk in chunks) == text


async def test_the_conversation_exists_and_is_named_before_the_model_has_answered() -> None:
    hang = Hang("work")
    async with cloud(ScriptedModel([[Say("late")]])) as world:
        world.server.faults.add(Fault(hang))
        stream = await world.sdk.beta.conversations.start_stream_async(
            model="m", inputs="x", metadata={"run": "1"}
        )
        async with stream:
            started = await anext(aiter(stream))
            assert list(world.server.conversations) == [started.data.conversation_id]
            hang.release()
        await world.server.settled()


async def test_append_and_restart_stream_too() -> None:
    async with cloud(ScriptedModel([[Say("1")], [Say("2")], [Say("3")]])) as world:
        conversations = world.sdk.beta.conversations
        started = await conversations.start_async(model="m", inputs="x")
        conversation_id = started.conversation_id
        anchor = started.outputs[-1].model_dump()["id"]
        async with await conversations.append_stream_async(
            conversation_id=conversation_id, inputs="y"
        ) as stream:
            assert [event.event async for event in stream][-1] == "conversation.response.done"
        async with await conversations.restart_stream_async(
            conversation_id=conversation_id, inputs="y", from_entry_id=anchor
        ) as stream:
            first, *_ = [event.data async for event in stream]
        assert first.conversation_id != conversation_id
        assert len(await world.history(conversation_id)) == 4


async def test_a_refusal_ends_the_stream_with_an_error_event() -> None:
    async with cloud(ScriptedModel([[Refuse(500, {"message": "overloaded", "code": 3000})]])) as world:
        events = await streamed(world, model="m", inputs="x")
        assert [event.type for event in events[1:]] == ["conversation.response.error"]
        assert (events[-1].message, events[-1].code) == ("overloaded", 3000)
        assert world.server.conversations == {}


async def test_an_order_that_is_wrong_is_refused_before_the_stream_begins() -> None:
    async with cloud(ScriptedModel([[Call("f")]])) as world:
        started = await world.sdk.beta.conversations.start_async(model="m", inputs="x")
        with pytest.raises(errors.SDKError, match="still missing"):
            await world.sdk.beta.conversations.append_stream_async(
                conversation_id=started.conversation_id, inputs="y"
            )


@pytest.mark.parametrize("events", [1, 2, -1])
async def test_a_stream_that_ends_early_raises_nothing_and_was_applied(events: int) -> None:
    async with cloud(ScriptedModel([[Say("one two three")]])) as world:
        world.server.faults.add(Fault(EndStream(events)))
        received = await streamed(world, model="m", inputs="x")
        assert [event.type for event in received] == [
            "conversation.response.started",
            *["message.output.delta"] * ((4 if events == -1 else events) - 1),
        ]
        assert len(await world.history(received[0].conversation_id)) == 2


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.9])
async def test_a_stream_that_is_cut_raises_and_was_applied(fraction: float) -> None:
    async with cloud(ScriptedModel([[Say("one two three")]])) as world:
        world.server.faults.add(Fault(Drop("body", fraction=fraction)))
        with pytest.raises(httpx2.RemoteProtocolError):
            await streamed(world, model="m", inputs="x")
        [conversation] = world.server.conversations.values()
        assert len(conversation.entries) == 2


async def test_an_event_that_is_no_json_is_a_response_validation_error() -> None:
    frame = b"event: conversation.response.started\ndata: {oops\n\n"
    async with cloud(ScriptedModel([[Say("one")]])) as world:
        world.server.faults.add(
            Fault(AnswerWith(200, frame, {"content-type": "text/event-stream"}, applied=True))
        )
        with pytest.raises(errors.ResponseValidationError):
            await streamed(world, model="m", inputs="x")
