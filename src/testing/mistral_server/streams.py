"""Server-sent events: an answer in pieces, which the client must put together."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

from outlast.testing.mistral_server.conversations import ServerWork
from outlast.testing.mistral_server.errors import ApiError
from outlast.testing.mistral_server.model import Json

_WORD = re.compile(r"\s*\S+\s*$|\s*\S+|\s+$")


async def conversation_events(work: ServerWork, now: Callable[[], str]) -> AsyncIterator[bytes]:
    """Yield the frames of a streamed start, append or restart; the first one before the work is done."""

    def frame(kind: str, **fields: Any) -> bytes:
        return _frame({"type": kind, "created_at": now(), **fields}, event=kind)

    yield frame("conversation.response.started", conversation_id=work.conversation.id)
    output_index = 0
    try:
        async for entry in work:
            for kind, fields in _pieces(entry):
                yield frame(kind, output_index=output_index, id=entry["id"], **fields)
            output_index += 1
    except ApiError as error:
        yield frame("conversation.response.error", message=error.message, code=error.code)
    else:
        yield frame("conversation.response.done", usage=work.usage.to_wire())


def chat_events(completion: Json) -> Iterator[bytes]:
    """Yield the frames of a streamed chat completion with the content of `completion`."""
    head = {name: completion[name] for name in ("id", "created", "model")} | {
        "object": "chat.completion.chunk"
    }
    deltas: list[Json] = [
        {"index": choice["index"], "delta": delta, "finish_reason": finish_reason}
        for choice in completion["choices"]
        for delta, finish_reason in _deltas(choice)
    ]
    for position, choice in enumerate(deltas):
        last = {"usage": completion["usage"]} if position == len(deltas) - 1 else {}
        yield _frame(head | {"choices": [choice]} | last)
    yield b"data: [DONE]\n\n"


def split_frames(stream: bytes) -> list[bytes]:
    """Return the frames of a stream, each with the blank line at its end."""
    return [frame + b"\n\n" for frame in stream.split(b"\n\n") if frame]


def _frame(data: Json, event: str | None = None) -> bytes:
    name = f"event: {event}\n" if event else ""
    return f"{name}data: {json.dumps(data)}\n\n".encode()


def _pieces(entry: Json) -> Iterator[tuple[str, Json]]:
    by = {"agent_id": entry.get("agent_id"), "model": entry.get("model")}
    match entry["type"]:
        case "message.output":
            for content_index, content in _content_pieces(entry["content"]):
                yield (
                    "message.output.delta",
                    {"content": content, "content_index": content_index, "role": "assistant"} | by,
                )
        case "function.call":
            fields = {"name": entry["name"], "tool_call_id": entry["tool_call_id"]} | by
            fields |= {"confirmation_status": entry["confirmation_status"]}
            for piece in _halves(entry["arguments"]):
                yield "function.call.delta", fields | {"arguments": piece}
        case "tool.execution":
            first, *rest = _halves(entry["arguments"])
            yield "tool.execution.started", {"name": entry["name"], "arguments": first} | by
            for piece in rest:
                yield "tool.execution.delta", {"name": entry["name"], "arguments": piece}
            yield "tool.execution.done", {"name": entry["name"], "info": entry["info"]}
        case "agent.handoff":
            for end, phase in (("previous", "started"), ("next", "done")):
                fields = {f"{end}_agent_{field}": entry[f"{end}_agent_{field}"] for field in ("id", "name")}
                yield f"agent.handoff.{phase}", fields


def _content_pieces(content: str | Sequence[Json]) -> Iterator[tuple[int, str | Json]]:
    chunks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    for content_index, chunk in enumerate(chunks):
        if chunk["type"] == "text":
            for word in _words(chunk["text"]):
                yield content_index, word
        else:
            yield content_index, chunk


def _deltas(choice: Json) -> Iterator[tuple[Json, str | None]]:
    """Yield the deltas of one choice. Only the last one has the finish reason."""
    yield {"role": "assistant", "content": ""}, None
    deltas: list[Json] = []
    for message in choice.get("messages") or [choice["message"]]:
        deltas += _content_deltas(message.get("content") or "")
        if message.get("role") == "tool":
            deltas[-1] |= {"role": "tool", "tool_call_id": message["tool_call_id"]}
        if message.get("tool_calls"):
            deltas.append({"content": "", "tool_calls": message["tool_calls"]})
    *early, last = deltas or [{"content": ""}]
    for delta in early:
        yield delta, None
    yield last, choice["finish_reason"]


def _content_deltas(content: str | Sequence[Json]) -> list[Json]:
    if isinstance(content, str):
        return [{"content": word} for word in _words(content)]
    deltas: list[Json] = []
    closing: list[Json] = []
    for chunk in content:
        if chunk["type"] == "thinking":
            for thought in chunk["thinking"]:
                for word in _words(thought["text"]):
                    text = {"type": "text", "text": word}
                    deltas.append({"content": [{"type": "thinking", "thinking": [text], "closed": False}]})
            closing = [{"type": "thinking", "thinking": [], "closed": True}]
        elif chunk["type"] == "text":
            first, *rest = _words(chunk["text"])
            deltas.append({"content": [*closing, {"type": "text", "text": first}] if closing else first})
            deltas += [{"content": word} for word in rest]
            closing = []
        else:
            deltas.append({"content": [*closing, chunk]})
            closing = []
    if closing:
        deltas.append({"content": closing})
    return deltas


def _words(text: str) -> list[str]:
    """Return the text in pieces of about one word each; there is at least one piece."""
    return _WORD.findall(text) or [text]


def _halves(text: str) -> list[str]:
    middle = len(text) // 2
    return [piece for piece in (text[:middle], text[middle:]) if piece] or [""]
