"""Chat completions: replies, their order rules, and their streams."""

from __future__ import annotations

from typing import Any

import pytest
from mistralai.client import errors

from outlast.testing.mistral_server import (
    Call,
    Execute,
    HandOff,
    ModelPrompt,
    Output,
    Say,
    ScriptedModel,
    Think,
)
from tests.mistral_server.cloud import RATE_TOOL, Json, cloud

pytestmark = pytest.mark.server

USER: Json = {"role": "user", "content": "Rates?"}


def assistant(*call_ids: str) -> Json:
    calls = [
        {"id": call_id, "type": "function", "function": {"name": "get_rate", "arguments": "{}"}}
        for call_id in call_ids
    ]
    return {"role": "assistant", "content": "", "tool_calls": calls}


def tool(call_id: str) -> Json:
    return {"role": "tool", "content": "2.5", "tool_call_id": call_id}


async def test_calls_are_made_answered_and_counted() -> None:
    def model(call: ModelPrompt) -> list[Output]:
        if call.replies == 0:
            return [Call("get_rate", {"day": "mon"}), Call("get_rate", {"day": "tue"})]
        return [Say(" and ".join(call.results.values()))]

    async with cloud(model) as world:
        messages: list[Any] = [{"role": "system", "content": "Be brief."}, USER]
        first = await world.sdk.chat.complete_async(model="m", messages=messages, tools=[RATE_TOOL])
        [choice] = first.choices
        assert choice.finish_reason == "tool_calls"
        assert choice.message is not None
        calls = choice.message.tool_calls or []
        assert [call.index for call in calls] == [0, 1]
        results = [
            {"role": "tool", "content": f"r{i}", "tool_call_id": call.id} for i, call in enumerate(calls)
        ]
        second = await world.sdk.chat.complete_async(
            model="m", messages=[*messages, choice.message, *results]
        )
        [choice] = second.choices
        assert choice.message is not None
        assert (choice.finish_reason, choice.message.content) == ("stop", "r0 and r1")
        assert second.usage.total_tokens > first.usage.total_tokens


async def test_the_model_sees_the_request_as_it_was_sent() -> None:
    model = ScriptedModel([[Say("ok")]])
    async with cloud(model) as world:
        await world.sdk.chat.complete_async(
            model="mistral-small-latest",
            messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
            temperature=0.5,
            tools=[RATE_TOOL],
            response_format={"type": "json_object"},
        )
    [call] = model.calls
    assert (call.endpoint, call.model, call.agent) == ("chat", "mistral-small-latest", None)
    assert (call.instructions, call.text, call.tool_names) == ("Be brief.", "Hi", ["get_rate"])
    assert call.completion_args["temperature"] == 0.5
    assert call.completion_args["response_format"] == {"type": "json_object"}


async def test_a_stream_brings_the_same_as_a_plain_answer_and_usage_at_the_end() -> None:
    reply: list[Output] = [Think("Hm, well."), Say("One moment."), Call("get_rate", {"day": "mon"})]
    async with cloud(ScriptedModel([reply, reply])) as world:
        plain = await world.sdk.chat.complete_async(model="m", messages=[USER])
        stream = await world.sdk.chat.stream_async(model="m", messages=[USER])
        chunks = [event.data async for event in stream]
        thought, text = "", ""
        calls: list[Any] = []
        for chunk in chunks:
            delta = chunk.choices[0].delta
            calls += delta.tool_calls or []
            for part in delta.content if isinstance(delta.content, list) else [delta.content or ""]:
                if isinstance(part, str):
                    text += part
                elif part.type == "thinking":
                    thought += "".join(inner.text for inner in part.thinking if inner.type == "text")
                elif part.type == "text":
                    text += part.text
        message = plain.choices[0].message
        assert message is not None
        assert (thought, text) == ("Hm, well.", "One moment.")
        assert [call.function for call in calls] == [call.function for call in message.tool_calls or []]
        assert [chunk.choices[0].finish_reason for chunk in chunks[-2:]] == [None, "tool_calls"]
        assert chunks[-1].usage == plain.usage
        assert all(not chunk.usage for chunk in chunks[:-1])


async def test_a_tool_run_by_the_server_leaves_a_trace_instead_of_a_message() -> None:
    reply: list[Output] = [Execute("web_search", {"query": "x"}, {"hits": 1}), Say("Found.")]
    async with cloud(ScriptedModel([reply])) as world:
        completion = await world.sdk.chat.complete_async(model="m", messages=[USER])
        assert completion.object == "chat.multi_completion"
        [choice] = completion.choices
        assert choice.message is None
        assert [message.role for message in choice.messages or []] == ["assistant", "tool", "assistant"]


async def test_an_answer_may_be_cut_short_and_there_may_be_several() -> None:
    replies = [[Say("Once upon", finish_reason="length")], [Say("The end.")]]
    async with cloud(ScriptedModel(replies)) as world:
        completion = await world.sdk.chat.complete_async(model="m", messages=[USER], n=2)
        assert [choice.finish_reason for choice in completion.choices] == ["length", "stop"]


async def test_chat_completions_have_no_handoffs() -> None:
    async with cloud(ScriptedModel([[HandOff("back")]]), expects_errors=True) as world:
        with pytest.raises(errors.SDKError, match="it can hand off to"):
            await world.sdk.chat.complete_async(model="m", messages=[USER])
        with pytest.raises(BaseExceptionGroup):
            world.server.raise_errors()


ORDER = "invalid_request_message_order"
TOO_FEW = "Not the same number of function calls and responses"


@pytest.mark.parametrize(
    ("messages", "kind", "code", "message"),
    [
        ([USER, assistant("aaaaaaaaa"), USER], ORDER, "3230", TOO_FEW),
        ([USER, assistant("aaaaaaaaa", "bbbbbbbbb"), tool("aaaaaaaaa")], ORDER, "3230", TOO_FEW),
        ([USER, assistant("aaaaaaaaa"), tool("ccccccccc")], ORDER, "3230", "Unexpected tool call id cc"),
        ([USER, tool("aaaaaaaaa")], ORDER, "3230", "Unexpected tool call id aaaaaaaaa in tool results"),
        ([USER, assistant("aaaaaaaaa"), tool("aaaaaaaaa"), USER], ORDER, "3230", "Unexpected role 'user'"),
        ([USER, {"role": "assistant", "content": "Hi"}], ORDER, "3230", "Expected last role User or Tool"),
        ([USER, assistant("aaaaaaaaa")], ORDER, "3230", "for serving but got assistant"),
        ([{"role": "system", "content": "Hi"}], ORDER, "3230", "for serving but got system"),
        ([USER, {"role": "assistant"}, USER], "invalid_assistant_message", "3240", "but not none"),
        ([USER, assistant("call_1"), tool("call_1")], "invalid_function_call", "3280", "with a length of 9"),
    ],
)  # fmt: skip
async def test_messages_out_of_order_are_refused(
    messages: list[Any], kind: str, code: str, message: str
) -> None:
    async with cloud(ScriptedModel([])) as world:
        for stream in (False, True):
            response = await world.http.post(
                "/v1/chat/completions", json={"model": "m", "messages": messages, "stream": stream}
            )
            assert response.status_code == 400
            body = response.json()
            assert (body["object"], body["type"], body["code"], body["param"]) == ("error", kind, code, None)
            assert message in body["message"]


@pytest.mark.parametrize(
    "messages",
    [
        [USER, {"role": "assistant", "content": "It is", "prefix": True}],
        [USER, assistant("aaaaaaaaa", "bbbbbbbbb"), tool("bbbbbbbbb"), tool("aaaaaaaaa")],
        [USER, assistant("aaaaaaaaa"), tool("aaaaaaaaa"), {"role": "assistant", "content": "2.5"}, USER],
    ],
)
async def test_messages_in_order_are_served(messages: list[Any]) -> None:
    async with cloud(ScriptedModel([[Say("ok")]])) as world:
        assert (await world.sdk.chat.complete_async(model="m", messages=messages)).choices
