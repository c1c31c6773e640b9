"""A server on loopback that sends exactly the bytes of a test, whatever it is asked."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import outlast

KEY = "sk-SeCr3t/KEY+abc=="


@dataclass(frozen=True)
class Answer:
    """One answer, with its body in pieces."""

    pieces: Sequence[bytes]
    content_type: str = "application/json"
    status: int = 200
    headers: tuple[str, ...] = ()
    is_cut: bool = False
    """True if the connection ends before the body does."""


@dataclass
class RawChatServer:
    """Sends its answers in order, and the last one again and again."""

    answers: list[Answer]
    url: str = ""
    heads: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def session(self, **options: Any) -> outlast.LocalSession:
        return outlast.LocalSession(server_url=self.url, **{"api_key": KEY, **options})

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            lines = head.lower().split("\r\n")
            length = sum(int(line.partition(":")[2]) for line in lines if line.startswith("content-length:"))
            self.heads.append(head)
            self.bodies.append(await reader.readexactly(length))
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            size = sum(map(len, answer.pieces)) + answer.is_cut
            lines = [
                f"HTTP/1.1 {answer.status} X",
                f"content-type: {answer.content_type}",
                f"content-length: {size}",
                "connection: close",
                *answer.headers,
            ]
            writer.write("\r\n".join((*lines, "", "")).encode())
            for piece in answer.pieces:
                writer.write(piece)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # The client has gone.
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def serving(*answers: Answer) -> AsyncIterator[RawChatServer]:
    """Serve these answers."""
    served = RawChatServer(list(answers))
    server = await asyncio.start_server(served.serve, "127.0.0.1", 0)
    try:
        served.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield served
    finally:
        server.close()


def body(value: Any, status: int = 200, *headers: str) -> Answer:
    """Return an answer in JSON."""
    return Answer([json.dumps(value).encode()], status=status, headers=headers)


def message(value: dict[str, Any], finish_reason: str | None = "stop") -> Answer:
    """Return an answer with this message of the model."""
    choice = {"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant", **value}}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return body({"object": "chat.completion", "choices": [choice], "usage": usage})


def delta(value: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    """Return an event of a stream with this piece of the message."""
    choice = {"index": 0, "delta": value, "finish_reason": finish_reason}
    return {"object": "chat.completion.chunk", "choices": [choice]}


def stream(*events: Any, ends: bool = True, is_cut: bool = False) -> Answer:
    """Return a stream of these events; text is sent as it is. `ends` adds `[DONE]`."""
    texts = [event if isinstance(event, str) else f"data: {json.dumps(event)}\n\n" for event in events]
    pieces = [text.encode() for text in (*texts, *(["data: [DONE]\n\n"] if ends else []))]
    return Answer(pieces, "text/event-stream", is_cut=is_cut)
