"""LocalSession against a server that behaves like vLLM: whole runs, its ways of writing, its refusals."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

import outlast
from outlast.core.errors import (
    DefinitionError,
    MalformedReply,
    ModelOverloaded,
    ModelRefused,
    ModelUnreachable,
    NotSupported,
)
from outlast.ports.deltas import publish_nothing
from outlast.ports.llm import ModelReply, ModelRequest
from outlast.runtime.attempts.shared_resources import SharedResources
from outlast.runtime.definitions.agent_binding import bind_agents
from outlast.runtime.runs.run_result import said_in
from tests.adapters.vllm_server import KEY, CallIds, Said, VllmServer

pytestmark = pytest.mark.server


def look_up(city: str) -> str:
    """Return the weather."""
    return f"rain in {city}"


def errand(messages: list[dict[str, Any]]) -> Said:
    """Two calls at once, a call that cannot be read, an unknown one, then an answer of what came of them."""
    results = [message["content"] for message in messages if message["role"] == "tool"]
    match len(results):
        case 0:
            return [("look_up", '{"city": "Lyon"}'), ("look_up", '{"city": "Nice"}')]
        case 2:
            return [("look_up", "{city: Lyon}")]
        case 3:
            return [("no_such_tool", "")]
        case _:
            return "; ".join(results[:2])


def forecaster(**more: Any) -> outlast.Agent:
    return outlast.Agent(model="qwen", name="forecaster", instructions="Forecast.", tools=[look_up], **more)


@contextmanager
def serving(answer: Callable[[list[dict[str, Any]]], Said], **options: Any) -> Iterator[VllmServer]:
    with VllmServer(answer, **options) as server:
        yield server


def session_with(server: VllmServer, **more: Any) -> outlast.LocalSession:
    return outlast.LocalSession(server_url=f"{server.url}/v1", **{"api_key": KEY, **more})


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("call_ids", "beside"), [("long", ""), ("missing", None), ("null", ""), ("twice", None)]
)
async def test_a_run_with_tools_comes_to_its_end(stream: bool, call_ids: CallIds, beside: str | None) -> None:
    with serving(errand, call_ids=call_ids, content_beside_calls=beside) as server:
        session = session_with(server, stream=stream)
        result = await outlast.Runner.run(forecaster(), "Go.", session)
        assert result.text == "rain in Lyon; rain in Nice"
        assert result.turns == 4
        assert result.usage.total_tokens == (0 if stream else 40)
        again = await outlast.Runner.run(forecaster(), "And again?", session)
        assert again.text == result.text
    ids = [entry.tool_call_id for entry in result.entries if isinstance(entry, outlast.FunctionCall)]
    assert len(ids) == 4
    assert "" not in ids
    sent = server.bodies[-1]["messages"]
    assert [message["role"] for message in sent[:5]] == ["system", "user", "assistant", "tool", "tool"]


async def test_handoffs_settings_and_schemas_are_each_agent_s_own() -> None:
    class Forecast(BaseModel):
        sky: str

    poet = outlast.Agent(
        model="qwen-small",
        name="poet",
        output_type=Forecast,
        completion_args={"temperature": 0.9, "max_tokens": 50},
    )
    front = outlast.Agent(model="qwen", name="front", handoffs=[poet], completion_args={"temperature": 0.1})

    def answer(messages: list[dict[str, Any]]) -> Said:
        return '{"sky": "grey"}' if len(messages) > 1 else [("transfer_to_poet", "")]

    with serving(answer) as server:
        result = await outlast.Runner.run(front, "Go.", session_with(server))
    assert result.output == Forecast(sky="grey")
    first, second = server.bodies
    assert (first["model"], first["temperature"]) == ("qwen", 0.1)
    assert (second["model"], second["temperature"], second["max_tokens"]) == ("qwen-small", 0.9, 50)
    assert "response_format" not in first
    assert second["response_format"]["json_schema"]["schema"]["properties"]["sky"] == {
        "title": "Sky",
        "type": "string",
    }


async def test_at_a_limit_the_tools_are_shown_and_must_not_be_called() -> None:
    def answer(messages: list[dict[str, Any]]) -> Said:
        return "Enough." if len(messages) > 4 else [("look_up", '{"city": "Lyon"}')]

    with serving(answer) as server:
        result = await outlast.Runner.run(
            forecaster(), "Go.", session_with(server), max_turns=2, on_limit="finish"
        )
    assert result.text == "Enough."
    assert [body.get("tool_choice") for body in server.bodies][-1] == "none"
    assert all(body.get("tool_choice") != "none" for body in server.bodies[:-1])
    assert all(body["tools"] for body in server.bodies)


async def failure_of(server: VllmServer, agent: outlast.Agent | None = None, **more: Any) -> BaseException:
    """Return what one call of the model fails with."""
    with pytest.raises(outlast.OutlastError) as failed:
        await one_reply(server, agent or forecaster(), **more)
    return failed.value


async def one_reply(
    server: VllmServer, agent: outlast.Agent, publish: Callable[[str], None] | None = None, **more: Any
) -> ModelReply:
    session = session_with(server, **more)
    request = ModelRequest(
        graph=bind_agents(agent, {}).graph,
        agent=agent.name,
        turn=1,
        history=(),
        new=(outlast.MessageInput(content="Go."),),
        idempotency_key="k",
    )
    async with SharedResources() as resources:
        return await session.reply(
            request, resources, publish or (publish_nothing if session.stream else None)
        )


@pytest.mark.parametrize("stream", [False, True])
async def test_the_error_says_that_the_key_is_wrong_and_does_not_show_it(stream: bool) -> None:
    with serving(errand) as server:
        error = await failure_of(server, api_key="wrong-key-123", stream=stream)
    assert isinstance(error, ModelRefused)
    assert error.status == 401
    assert "wrong-key-123" not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize("stream", [False, True])
async def test_an_unknown_model_is_named(stream: bool) -> None:
    with serving(errand) as server:
        error = await failure_of(server, outlast.Agent(model="gpt-9", name="a"), stream=stream)
    assert isinstance(error, ModelRefused)
    assert "The model `gpt-9` does not exist." in str(error)


@pytest.mark.parametrize("body", [{"choices": []}, {"object": "x"}, {"choices": [{"index": 0}]}, [], "no"])
async def test_a_reply_without_a_choice_is_never_a_result(body: Any) -> None:
    with serving(errand, fails={"qwen": JSONResponse(body)}) as server:
        error = await failure_of(server)
    assert isinstance(error, MalformedReply)


BUSY = JSONResponse({"error": {"message": "busy"}}, 503)


async def test_a_fallback_model_answers_when_the_one_before_cannot() -> None:
    for first in ("qwen", "no-such-model"):
        with serving(lambda messages: "Rain.", fails={"qwen": BUSY}) as server:
            agent = outlast.Agent(model=first, name="a", fallback_models=["another-one", "qwen-small"])
            reply = await one_reply(server, agent)
        assert said_in(reply.entries) == "Rain."
        assert f"model '{first}' gave no reply" in reply.warnings[0]
        assert reply.warnings[-1] == "model 'qwen-small' replied instead"
        assert [body["model"] for body in server.bodies] == ["qwen-small"]


async def test_of_several_failures_the_retryable_one_is_raised() -> None:
    with serving(errand, fails={"qwen": BUSY}) as server:
        agent = outlast.Agent(model="no-such-model", name="a", fallback_models=["qwen", "another-one"])
        error = await failure_of(server, agent)
        assert isinstance(error, ModelOverloaded)
        other = outlast.Agent(model="no-such-model", name="a", fallback_models=["another-one"])
        refused = await failure_of(server, other)
        assert isinstance(refused, ModelRefused)
        assert "no-such-model" in str(refused)


async def test_a_model_that_has_begun_to_write_is_not_fallen_back_from() -> None:
    piece = {"choices": [{"index": 0, "delta": {"content": "It ra"}, "finish_reason": None}]}
    cut = Response(f"data: {json.dumps(piece)}\n\n", media_type="text/event-stream")
    with serving(lambda messages: "Rain.", fails={"qwen": cut}) as server:
        agent = outlast.Agent(model="qwen", name="a", fallback_models=["qwen-small"])
        published: list[str] = []
        with pytest.raises(ModelUnreachable, match="before the reply was complete"):
            await one_reply(server, agent, published.append)
        assert "".join(published) == "It ra"
        assert server.bodies == []


async def test_an_invalid_request_is_not_tried_on_another_model() -> None:
    refusal = JSONResponse({"error": {"message": "too long"}}, 400)
    with serving(lambda messages: "Rain.", fails={"qwen": refusal}) as server:
        error = await failure_of(
            server, outlast.Agent(model="qwen", name="a", fallback_models=["qwen-small"])
        )
        assert isinstance(error, ModelRefused)
        assert server.bodies == []


async def test_fallback_models_are_refused_where_they_cannot_be_used() -> None:
    agent = outlast.Agent(model="m", name="a", fallback_models=["n"])
    with pytest.raises(NotSupported, match="fallback_models"):
        await outlast.Runner.run(
            agent, "go", outlast.RemoteSession(api_key="k", server_url="http://127.0.0.1:9")
        )
    with pytest.raises(DefinitionError, match="give a list"):
        outlast.Agent(model="m", name="a", fallback_models="n")


async def test_a_durable_run_asks_the_server_for_each_reply_once(tmp_path: Any) -> None:
    url = f"sqlite:///{tmp_path}/runs.db"
    with serving(errand, call_ids="missing") as server:
        session = session_with(server)
        first = await outlast.Runner.run(forecaster(), "Go.", session, id="v-1", backend=url)
        asked = len(server.bodies)
        again = await outlast.Runner.run(forecaster(), "Go.", session_with(server), id="v-1", backend=url)
        assert (first.text, len(server.bodies)) == (again.text, asked)
    assert KEY not in json.dumps([entry.to_wire() for entry in again.entries])


async def test_only_the_entries_that_the_context_keeps_are_sent() -> None:
    def answer(messages: list[dict[str, Any]]) -> Said:
        return "Done." if len(server.bodies) % 5 == 0 else [("look_up", '{"city": "Lyon"}')]

    with serving(answer) as server:
        session = session_with(
            server, context=[outlast.KeepLastTurns(3), lambda entries: entries[:1] + entries[2:]]
        )
        for number in range(3):
            result = await outlast.Runner.run(forecaster(), f"Task {number}.", session)
            assert result.text == "Done."
    # Each reply has a message with its reasoning; beside a call, the message has nothing else.
    assert len(outlast.Runner.messages(session)) == 3 * (2 + 4 * 3)
    sent = [message for body in server.bodies for message in body["messages"] if message.get("tool_calls")]
    assert any(message.get("reasoning_content") == "hm" for message in sent)
    for body in server.bodies[3:]:
        roles = [message["role"] for message in body["messages"]]
        assert len(roles) <= 2 + 2 * 3
        assert roles[:2] == ["system", "user"]
        # The second processor takes a call away, so its result goes as well.
        assert roles.count("tool") == sum(len(m.get("tool_calls") or ()) for m in body["messages"])


async def test_older_entries_are_summarised_by_the_model_that_was_chosen_for_it() -> None:
    def answer(messages: list[dict[str, Any]]) -> Said:
        if "Summarise" in str(messages[0]["content"]):
            return "They asked for Lyon."
        return "Done." if "Task" in str(messages[-1]["content"]) else [("look_up", '{"city": "Lyon"}')]

    with serving(answer) as server:
        summarise = outlast.SummariseHistory(40, keep_turns=1, model="qwen-small")
        session = session_with(server, context=[summarise, outlast.KeepLastTurns(3)])
        for number in range(3):
            assert (await outlast.Runner.run(forecaster(), f"Task {number}.", session)).text == "Done."
    asked = [body for body in server.bodies if body["model"] == "qwen-small"]
    assert len(asked) == 1
    assert [message["role"] for message in asked[0]["messages"]] == ["system", "user"]
    assert "tools" not in asked[0]
    assert "Task 0." in asked[0]["messages"][1]["content"]
    last = [message["content"] for message in server.bodies[-1]["messages"][1:]]
    assert last == [
        "Summary of the conversation so far:\nThey asked for Lyon.",
        "Task 1.",
        "Done.",
        "Task 2.",
    ]


async def test_a_context_that_is_not_a_function_is_refused() -> None:
    for context in (outlast.KeepLastTurns(3), ["text"]):
        with pytest.raises(outlast.ConfigurationError, match="list of functions"):
            outlast.LocalSession(context=context)  # type: ignore[arg-type]  # what users may do


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("any", "required"),
        ("none", "none"),
        ("look_up", {"type": "function", "function": {"name": "look_up"}}),
    ],
)
async def test_the_choice_of_tools_is_sent_until_a_tool_was_called(choice: str, sent: Any) -> None:
    def answer(messages: list[dict[str, Any]]) -> Said:
        is_first = choice != "none" and messages[-1]["role"] == "user"
        return [("look_up", '{"city": "Lyon"}')] if is_first else "Rain."

    with serving(answer) as server:
        agent = forecaster(tool_choice=choice, parallel_tool_calls=False)
        assert (await outlast.Runner.run(agent, "Go.", session_with(server))).text == "Rain."
    later = [] if choice == "none" else ["auto"]
    assert [body["tool_choice"] for body in server.bodies] == [sent, *later]
    assert {body["parallel_tool_calls"] for body in server.bodies} == {False}


async def test_no_tool_option_is_sent_without_tools() -> None:
    agent = outlast.Agent(
        model="qwen", name="bare", tool_choice="required", parallel_tool_calls=False, max_parallel_tools=1
    )
    with serving(lambda messages: "Fine.") as server:
        assert (await outlast.Runner.run(agent, "Go.", session_with(server))).text == "Fine."
    [body] = server.bodies
    assert not {"tool_choice", "parallel_tool_calls", "tools"} & set(body)


async def test_tools_that_were_found_are_sent_with_the_next_request() -> None:
    def answer(messages: list[dict[str, Any]]) -> Said:
        results = [message["content"] for message in messages if message["role"] == "tool"]
        match len(results):
            case 0:
                return [("search_tools", '{"query": "look up"}')]
            case 1:
                return [("look_up", '{"city": "Lyon"}')]
        return str(results[-1])

    agent = outlast.Agent(model="qwen", name="forecaster", tools=[outlast.ToolIndex([look_up])])
    with serving(answer) as server:
        assert (await outlast.Runner.run(agent, "Go.", session_with(server))).text == "rain in Lyon"
    sent = [[tool["function"]["name"] for tool in body["tools"]] for body in server.bodies]
    assert sent == [["search_tools"], *[["search_tools", "look_up"]] * 2]
