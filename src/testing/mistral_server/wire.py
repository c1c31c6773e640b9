"""The layer between the socket and the application: it records every exchange and makes faults happen."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import parse_qs

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from outlast.testing.mistral_server.faults import (
    Action,
    AnswerWith,
    Delay,
    Drop,
    EndStream,
    Faults,
    Hang,
    Point,
    Rewrite,
)
from outlast.testing.mistral_server.streams import split_frames

_LINGER_NOT_AT_ALL = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request as it came, with header names in lower case. Its repr hides the headers with the key."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str] = field(repr=False)
    body: bytes = b""

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class RecordedResponse:
    """A complete response of the application, before any fault changes it."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class RecordedExchange:
    request: RecordedRequest
    response: RecordedResponse


class ClientConnection(H11Protocol):
    """uvicorn's HTTP protocol. It is in the state of each request, so that a fault can cut the connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state | {"connection": self}, _loop)

    def cut(self, *, reset: bool = False) -> None:
        """Close the socket at once."""
        if reset:
            self.transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT_AT_ALL
            )
        self.transport.abort()


class Wire:
    """The outermost application."""

    def __init__(
        self,
        application: ASGIApp,
        faults: Faults,
        requests: list[RecordedRequest],
        report: Callable[[RecordedExchange], None],
        errors: list[BaseException],
    ) -> None:
        self._application = application
        self._faults = faults
        self._requests = requests
        self._report = report
        self._errors = errors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _read_body(receive)
        request = _recorded(scope, body)
        self._requests.append(request)
        actions = self._faults.take(request.method, request.path)
        exchange = Exchange(
            scope, receive, send, actions, lambda answer: self._report(RecordedExchange(request, answer))
        )
        if await exchange.ends_at("request"):
            return
        scope["state"]["at_work"] = exchange.work
        try:
            await self._application(scope, exchange.receive_again(body), exchange.take_answer)
        except Exception as error:
            self._errors.append(error)
            await Response(f"{type(error).__name__}: {error}", 500)(scope, receive, exchange.take_answer)
        for action in exchange.misplaced():
            self._errors.append(ValueError(f"{action!r} cannot happen to {request.method} {request.path}"))
        await exchange.deliver()


class Exchange:
    """One request and its answer, with the actions of a fault that happen to them."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        actions: Sequence[Action],
        report: Callable[[RecordedResponse], None],
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._actions = actions
        self._report = report
        self._connection = cast(ClientConnection, scope["state"]["connection"])
        self._is_held = any(isinstance(action, EndStream) or _point(action) in _LATE for action in actions)
        self._is_cut = False
        self._has_worked = False
        self._head: Message | None = None
        self._body = bytearray()
        self._response: RecordedResponse | None = None

    async def ends_at(self, point: Point) -> bool:
        """Perform the actions for this point; return whether the client gets nothing more after them."""
        for action in self._actions:
            if _point(action) != point:
                continue
            match action:
                case Delay(seconds=seconds):
                    await asyncio.sleep(seconds)
                case Hang():
                    await action.hold()
                case Drop(reset=reset):
                    await self._cut(reset)
                case AnswerWith():
                    await _response(action)(self._scope, self._receive, self._send)
                    return True
        return self._is_cut

    async def work(self) -> None:
        """Perform the actions for "work". The application calls this before it calls the model."""
        self._has_worked = True
        await self.ends_at("work")

    def misplaced(self) -> list[Action]:
        """Return the actions that cannot happen, because there was no work or the answer is not a stream."""
        content_type = self._response.headers.get("content-type", "") if self._response else ""
        return [
            action
            for action in self._actions
            if (isinstance(action, EndStream) and "event-stream" not in content_type)
            or (_point(action) == "work" and not self._has_worked)
        ]

    def receive_again(self, body: bytes) -> Receive:
        messages = [cast(Message, {"type": "http.request", "body": body, "more_body": False})]

        async def receive() -> Message:
            return messages.pop() if messages else await self._receive()

        return receive

    async def take_answer(self, message: Message) -> None:
        """Record a part of the answer; pass it on unless a fault needs the complete answer."""
        if message["type"] == "http.response.start":
            self._head = message
        else:
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                self._response = _recorded_response(self._head, bytes(self._body))
                self._report(self._response)
        if not (self._is_held or self._is_cut):
            await self._send(message)

    async def deliver(self) -> None:
        """Send an answer that was held back, after the faults have changed it."""
        if self._is_cut or not self._is_held or self._response is None or await self.ends_at("answer"):
            return
        body = self._response.body
        for action in self._actions:
            match action:
                case Drop(at="headers", reset=reset):
                    self._connection.transport.write(b"HTTP/1.1 %d OK\r\ncontent-ty" % self._response.status)
                    return await self._cut(reset)
                case Drop(at="body", reset=reset):
                    await self._send(cast(Message, self._head))
                    await self._send(
                        {"type": "http.response.body", "body": action.kept(body), "more_body": True}
                    )
                    return await self._cut(reset)
                case EndStream(after_events=events) if action not in self.misplaced():
                    body = b"".join(split_frames(body)[:events])
                case Rewrite(made_of=made_of):
                    body = made_of(body)
        assert self._head is not None
        size = (b"content-length", b"%d" % len(body))
        headers = [
            size if name == b"content-length" else (name, value) for name, value in self._head["headers"]
        ]
        await self._send(cast(Message, {**self._head, "headers": headers}))
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def _cut(self, reset: bool) -> None:
        self._is_cut = True
        self._connection.cut(reset=reset)
        while (await self._receive())["type"] != "http.disconnect":
            pass


_LATE = ("answer", "headers", "body")


def _point(action: Action) -> str | None:
    return None if isinstance(action, EndStream) else action.at


def _response(answer: AnswerWith) -> Response:
    headers = dict(answer.headers)
    if isinstance(answer.body, str | bytes):
        kind = {} if "content-type" in {name.lower() for name in headers} else {"content-type": "text/plain"}
        return Response(answer.body, answer.status, headers | kind)
    return JSONResponse(dict(answer.body), answer.status, headers)


async def _read_body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return bytes(body)


def _recorded(scope: Scope, body: bytes) -> RecordedRequest:
    return RecordedRequest(
        method=scope["method"],
        path=scope["path"],
        query=parse_qs(scope["query_string"].decode("ascii"), keep_blank_values=True),
        headers=_decoded(scope["headers"]),
        body=body,
    )


def _recorded_response(head: MutableMapping[str, Any] | None, body: bytes) -> RecordedResponse:
    if head is None:
        raise RuntimeError("the application sent a body before a head")
    return RecordedResponse(head["status"], _decoded(head.get("headers", ())), body)


def _decoded(headers: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}
