"""The judge finds faults, and the strict bodies of the stand-in are those of the description."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from outlast.testing.mistral_server import Call, MistralServer, RecordedExchange, Say, ScriptedModel
from outlast.testing.mistral_server import bodies as own
from tests.mistral_server.cloud import Json
from tests.mistral_server.openapi import DESCRIPTION, OpenApiJudge

pytestmark = pytest.mark.server

SCHEMAS: Json = json.loads(DESCRIPTION.read_text())["components"]["schemas"]


@pytest.fixture(scope="module")
def exchanges() -> dict[str, RecordedExchange]:
    """One genuine exchange of every kind, by the name of its kind."""
    kept: list[RecordedExchange] = []
    model = ScriptedModel([[Say("One two.")], [Say("One two.")], [Call("f", {"a": 1})], [Say("One two.")]])
    headers = {"Authorization": "Bearer test-key"}
    with (
        MistralServer(model, on_exchange=kept.append) as server,
        httpx2.Client(base_url=server.url, headers=headers, trust_env=False, verify=False) as http,
    ):
        http.post("/v1/conversations", json={"model": "m", "inputs": "x", "stream": False})
        http.post("/v1/conversations", json={"model": "m", "inputs": "x", "stream": True})
        http.post("/v1/chat/completions", json=CHAT)
        http.post("/v1/chat/completions", json=CHAT | {"stream": True})
        http.get("/v1/conversations", params={"metadata": "{}"})
        http.post("/v1/agents", json={"model": "m", "name": "a"})
        http.post("/v1/agents", json={"name": "a"})
        server.raise_errors()
    return dict(
        zip(["start", "stream", "chat", "chat stream", "list", "agent", "refused"], kept, strict=True)
    )


CHAT: Json = {"model": "m", "messages": [{"role": "user", "content": "x"}]}


def problems(exchange: RecordedExchange) -> list[str]:
    judge = OpenApiJudge()
    judge(exchange)
    assert bool(judge.approved) != bool(judge.problems)
    return judge.problems


def test_the_judge_approves_of_what_is_right(exchanges: dict[str, RecordedExchange]) -> None:
    assert [problems(exchange) for exchange in exchanges.values()] == [[]] * len(exchanges)


def in_response(change: Callable[[Any], object]) -> Callable[[RecordedExchange], RecordedExchange]:
    def spoil(exchange: RecordedExchange) -> RecordedExchange:
        body = exchange.response.json()
        change(body)
        response = dataclasses.replace(exchange.response, body=json.dumps(body).encode())
        return dataclasses.replace(exchange, response=response)

    return spoil


def in_request(**changes: Any) -> Callable[[RecordedExchange], RecordedExchange]:
    return lambda exchange: dataclasses.replace(
        exchange, request=dataclasses.replace(exchange.request, **changes)
    )


def in_stream(old: bytes, new: bytes) -> Callable[[RecordedExchange], RecordedExchange]:
    def spoil(exchange: RecordedExchange) -> RecordedExchange:
        assert old in exchange.response.body
        response = dataclasses.replace(exchange.response, body=exchange.response.body.replace(old, new))
        return dataclasses.replace(exchange, response=response)

    return spoil


SPOILED: dict[str, tuple[str, Callable[[RecordedExchange], RecordedExchange]]] = {
    "no usage": ("start", in_response(lambda it: it.pop("usage"))),
    "unknown field": ("start", in_response(lambda it: it.update(extra=1))),
    "unknown field of an output": ("start", in_response(lambda it: it["outputs"][0].update(extra=1))),
    "input for output": ("start", in_response(lambda it: it["outputs"][0].update(type="message.input"))),
    "count that is not a number": ("start", in_response(lambda it: it["usage"].update(total_tokens="three"))),
    "no credentials": ("start", in_request(headers={"content-type": "application/json"})),
    "no inputs": ("start", in_request(body=b'{"model": "m", "stream": false}')),
    "flag that is text": ("start", in_request(body=b'{"model": "m", "inputs": "x", "stream": "maybe"}')),
    "unknown path": ("start", in_request(path="/v1/talks")),
    "no version": ("agent", in_response(lambda it: it.pop("version"))),
    "time that is not a number": ("agent", in_response(lambda it: it.update(created_at="yesterday"))),
    "unknown tool": ("agent", in_response(lambda it: it.update(tools=[{"type": "hammer"}]))),
    "foreign field": ("agent", in_request(body=b'{"model": "m", "name": "a", "prompt_mode": null}')),
    "empty conversation": ("list", in_response(lambda it: it.append({}))),
    "metadata that is no JSON": ("list", in_request(query={"metadata": ["~?~unset~?~sentinel~?~"]})),
    "detail without message": ("refused", in_response(lambda it: it["detail"][0].pop("msg"))),
    "unknown finish reason": ("chat", in_response(lambda it: it["choices"][0].update(finish_reason="tired"))),
    "chat without usage": ("chat", in_response(lambda it: it.pop("usage"))),
    "misnamed event": ("stream", in_stream(b"event: message.output.delta", b"event: function.call.delta")),
    "delta without content": ("stream", in_stream(b'"content": "One"', b'"text": "One"')),
    "event of no conversation": ("stream", in_stream(b'"conversation_id"', b'"id"')),
    "unasked stream": ("stream", in_request(body=b'{"model": "m", "inputs": "x"}')),
    "chat stream without end": ("chat stream", in_stream(b"data: [DONE]\n\n", b"")),
    "chunk without delta": ("chat stream", in_stream(b'"delta"', b'"message"')),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "spoil"), SPOILED.values(), ids=SPOILED)
def test_the_judge_finds_what_is_wrong(
    exchanges: dict[str, RecordedExchange], kind: str, spoil: Callable[[RecordedExchange], RecordedExchange]
) -> None:
    assert problems(spoil(exchanges[kind]))


DOCUMENTED_AGENT = """
{"object":"agent","id":"ag_019f2ab45d1c7e4bb0f4a1c2d3e4f506","model":"mistral-medium-latest","name":"rates-agent",
"description":"Finds interest rates.","instructions":null,"tools":[{"type":"web_search"},{"type":"function",
"function":{"name":"get_rate","description":"Rate of one day.","strict":false,"parameters":{"type":"object",
"properties":{"day":{"type":"string"}},"required":["day"]}}}],"completion_args":{"stop":null,
"presence_penalty":null,"frequency_penalty":null,"temperature":0.1,"top_p":null,"max_tokens":null,
"random_seed":null,"prediction":null,"response_format":null,"tool_choice":"auto"},"guardrails":null,
"handoffs":null,"metadata":{"owner":"run-17"},"deployment_chat":false,"source":"api","version":0,"versions":[0],
"version_message":null,"created_at":"2026-08-20T09:00:00.100000Z","updated_at":"2026-08-20T09:00:00.100000Z"}
"""
DOCUMENTED_CREATION = """
{"model":"mistral-medium-latest","name":"rates-agent","description":"Finds interest rates.",
"tools":[{"type":"web_search"},{"function":{"name":"get_rate","description":"Rate of one day.",
"parameters":{"type":"object","properties":{"day":{"type":"string"}},"required":["day"]},"strict":false},
"type":"function"}],"completion_args":{"temperature":0.1},"metadata":{"owner":"run-17"}}
"""


def test_the_documented_creation_of_an_agent_gets_the_documented_answer() -> None:
    judge = OpenApiJudge()
    headers = {"Authorization": "Bearer test-key", "Content-Type": "application/json"}
    with (
        MistralServer(ScriptedModel([]), on_exchange=judge) as server,
        httpx2.Client(base_url=server.url, headers=headers, trust_env=False, verify=False) as http,
    ):
        answer = http.post("/v1/agents", content=DOCUMENTED_CREATION).json()
    judge.raise_problems()
    documented = json.loads(DOCUMENTED_AGENT)
    assert answer["completion_args"].pop("reasoning_effort") is None
    volatile = {
        "id": documented["id"],
        "created_at": documented["created_at"],
        "updated_at": documented["updated_at"],
    }
    assert answer | volatile == documented


def test_a_judge_that_saw_nothing_is_not_content() -> None:
    with pytest.raises(AssertionError, match="is the judge attached"):
        OpenApiJudge().raise_problems()


# What the live server and the SDK have beyond the description.
EXTRA_FIELDS = {"ChatCompletionRequest": {"min_tokens"}}
EXTRA_REQUIRED = {"RestartConversationRequest": {"inputs"}}


@pytest.mark.parametrize(
    ("model", "schema"),
    [
        (own.CreateAgent, "CreateAgentRequest"),
        (own.UpdateAgent, "UpdateAgentRequest"),
        (own.StartConversation, "ConversationRequestBase"),
        (own.AppendConversation, "AppendConversationRequest"),
        (own.RestartConversation, "RestartConversationRequest"),
        (own.ChatCompletion, "ChatCompletionRequest"),
        (own.CompletionArgs, "CompletionArgs"),
        (own.ToolConfirmationBody, "ToolCallConfirmation"),
        (own.ToolConfiguration, "ToolConfiguration"),
        (own.Function, "Function"),
        (own.FunctionToolBody, "FunctionTool"),
        (own.DocumentLibraryToolBody, "DocumentLibraryTool"),
        (own.ConnectorToolBody, "CustomConnector"),
        (own.ResponseFormat, "ResponseFormat"),
        (own.JsonSchema, "JsonSchema"),
        (own.MessageInputBody, "MessageInputEntry"),
        (own.MessageOutputBody, "MessageOutputEntry"),
        (own.FunctionCallEntry, "FunctionCallEntry"),
        (own.FunctionResultBody, "FunctionResultEntry"),
        (own.ToolExecutionBody, "ToolExecutionEntry"),
        (own.AgentHandoffBody, "AgentHandoffEntry"),
        (own.TextChunkBody, "TextChunk"),
        (own.ThinkingChunkBody, "ThinkChunk"),
        (own.ToolReferenceChunkBody, "ToolReferenceChunk"),
        (own.ToolFileChunkBody, "ToolFileChunk"),
        (own.ImageUrlChunk, "ImageURLChunk"),
        (own.DocumentUrlChunk, "DocumentURLChunk"),
        (own.SystemMessage, "SystemMessage"),
        (own.UserMessage, "UserMessage"),
        (own.AssistantMessage, "AssistantMessage"),
        (own.ToolMessage, "ToolMessage"),
        (own.ToolCallBody, "ToolCall"),
    ],
)
def test_a_strict_body_has_the_fields_of_the_description(model: type[own.Body], schema: str) -> None:
    described = SCHEMAS[schema]
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    assert set(fields) == set(described["properties"]) | EXTRA_FIELDS.get(schema, set())
    required = {name for name, field in fields.items() if field.is_required()}
    discriminators = {"type", "role"}
    expected = set(described.get("required", ())) | EXTRA_REQUIRED.get(schema, set())
    assert required - discriminators == expected - discriminators
