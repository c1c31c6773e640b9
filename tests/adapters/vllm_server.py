"""A server that speaks chat completions the way vLLM does, as far as a client can see.

Unlike Mistral's own it fills its answers with fields that no other API has, numbers tool calls in its own way
or not at all, says "" or nothing beside them, and refuses with bodies of its own. It takes what the OpenAI
schema says and no less: a result without its call, or a call without its result, is an error.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

KEY = "vllm-key-51e09"
MODELS = frozenset({"qwen", "qwen-small"})

Said = str | list[tuple[str, str]]
"""The text of the model, or the functions that it calls, each with the text of its arguments."""
CallIds = Literal["long", "missing", "null", "twice"]


@dataclass
class VllmServer:
    """A server on loopback; `answer` is its model, given the messages."""

    answer: Callable[[list[dict[str, Any]]], Said]
    call_ids: CallIds = "long"
    content_beside_calls: str | None = ""
    fails: dict[str, Response] = field(default_factory=dict)
    """The answer that takes the place of a reply, by the name of the model."""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    """The requests that were understood."""

    def __enter__(self) -> Self:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        app = Starlette(routes=[Route("/v1/chat/completions", self._complete, methods=["POST"])])
        self._server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()

    async def _complete(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return JSONResponse({"error": "Unauthorized"}, 401)
        body = json.loads(await request.body())
        if body["model"] in self.fails:
            return self.fails[body["model"]]
        if body["model"] not in MODELS:
            return _refusal(404, f"The model `{body['model']}` does not exist.", "NotFoundError")
        fault = _fault_of(body["messages"])
        if fault is not None:
            return _refusal(400, fault, "BadRequestError")
        self.bodies.append(body)
        said = self.answer(body["messages"])
        if body.get("stream"):
            return StreamingResponse(self._pieces(body, said), media_type="text/event-stream")
        message = {
            "role": "assistant",
            "content": said if isinstance(said, str) else self.content_beside_calls,
            "refusal": None,
            "annotations": None,
            "audio": None,
            "function_call": None,
            "tool_calls": [] if isinstance(said, str) else self._calls(said),
            "reasoning": None,
            "reasoning_content": "hm",
        }
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": _finish(said),
            "stop_reason": None,
            "token_ids": None,
        }
        return JSONResponse(
            {
                **self._about(body, "chat.completion"),
                "choices": [choice],
                "service_tier": None,
                "usage": {
                    "prompt_tokens": 7,
                    "total_tokens": 10,
                    "completion_tokens": 3,
                    "prompt_tokens_details": None,
                },
                "prompt_logprobs": None,
                "kv_transfer_params": None,
            }
        )

    async def _pieces(self, body: dict[str, Any], said: Said) -> AsyncIterator[str]:
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        if isinstance(said, str):
            deltas += [{"content": character, "reasoning_content": None} for character in said]
        else:
            for index, made in enumerate(self._calls(said)):
                function = made["function"]
                head = {**made, "index": index, "function": {**function, "arguments": ""}}
                deltas.append({"tool_calls": [head]})
                for character in function["arguments"]:
                    piece = {"index": index, "function": {"arguments": character}}
                    deltas.append({"tool_calls": [piece]})
        about = self._about(body, "chat.completion.chunk")
        for delta in deltas:
            yield _event({**about, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        end = {"index": 0, "delta": {"content": ""}, "finish_reason": _finish(said), "stop_reason": None}
        yield _event({**about, "choices": [end]})
        yield "data: [DONE]\n\n"

    def _calls(self, said: list[tuple[str, str]]) -> list[dict[str, Any]]:
        ids: dict[CallIds, Callable[[int], dict[str, Any]]] = {
            "long": lambda index: {"id": f"chatcmpl-tool-{len(self.bodies):08x}{index:024x}"},
            "missing": lambda index: {},
            "null": lambda index: {"id": None},
            "twice": lambda index: {"id": "functions.look_up:0"},
        }
        return [
            {**ids[self.call_ids](index), "type": "function", "function": {"name": name, "arguments": text}}
            for index, (name, text) in enumerate(said)
        ]

    def _about(self, body: dict[str, Any], kind: str) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{len(self.bodies)}",
            "object": kind,
            "created": 1_700_000_000,
            "model": body["model"],
            "system_fingerprint": None,
        }


def _finish(said: Said) -> str:
    return "stop" if isinstance(said, str) else "tool_calls"


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"


def _refusal(status: int, message: str, kind: str) -> Response:
    error = {"message": message, "type": kind, "param": None, "code": status}
    return JSONResponse({"error": error}, status)


def _fault_of(messages: list[dict[str, Any]]) -> str | None:
    """Return the fault of a conversation, if it has one."""
    open_ids: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            if message["tool_call_id"] not in open_ids:
                return f"Unexpected tool result {message['tool_call_id']}"
            open_ids.remove(message["tool_call_id"])
            continue
        if open_ids:
            return f"Missing results of {open_ids}"
        for made in message.get("tool_calls") or []:
            arguments = json.loads(made["function"]["arguments"])
            if made["id"] in open_ids or not isinstance(arguments, dict):
                return f"Bad tool call {made}"
            open_ids.append(made["id"])
    return f"Missing results of {open_ids}" if open_ids else None
