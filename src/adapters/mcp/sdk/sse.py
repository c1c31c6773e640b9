"""The older transport of MCP over HTTP: the server sends a stream of events, and receives requests.

MCP's SDK has this transport, but ends the connection at an event of more than 1 MiB, and many results are
larger. So this module has the same transport without a limit; the HTTP client checks each event (`bodies`).
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self
from urllib.parse import urljoin, urlsplit

import anyio
import httpx2
from anyio.abc import TaskGroup, TaskStatus
from anyio.streams.memory import MemoryObjectSendStream
from mcp.client._transport import TransportStreams
from mcp.shared._httpx_utils import request_within_origin, sse_within_origin
from mcp.shared.message import SessionMessage
from mcp.types import jsonrpc_message_adapter
from pydantic import ValidationError

from outlast.adapters.mcp.limits import REQUESTS_AT_ONCE

logger = logging.getLogger("outlast.mcp")

Incoming = MemoryObjectSendStream[SessionMessage | Exception]


@asynccontextmanager
async def sse_transport(
    http: httpx2.AsyncClient, url: str, on_refusal: Callable[[], None]
) -> AsyncIterator[TransportStreams]:
    """Connect to the server at `url`; yield a stream to read its messages from, and one to send messages to.

    Messages are sent in order, each in the context (`contextvars`) of its sender. If the server refuses a
    message, `on_refusal` is called in that context, too.

    Raises:
        httpx2.HTTPStatusError: the server refuses the connection.
        httpx2.SSEError: the answer of the server is not a stream of events; or (inside the block) an event
            was refused.
    """
    async with sse_within_origin(http, url, max_event_size=None) as events:
        events.response.raise_for_status()
        incoming, reading = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        async with reading, anyio.create_task_group() as tasks:
            endpoint: str = await tasks.start(_read, events, url, incoming)
            yield reading, _Requests(http, endpoint, tasks, on_refusal)
            tasks.cancel_scope.cancel()


async def _read(
    events: httpx2.EventSource, url: str, incoming: Incoming, *, task_status: TaskStatus[str]
) -> None:
    """Pass on the messages of the server until its stream ends; report the address for requests to it."""
    is_known = False
    async with incoming:
        try:
            async for event in events:
                match event.event:
                    case "endpoint" if not is_known:
                        is_known = True
                        task_status.started(_endpoint(url, event.data))
                    case "message" if event.data:
                        await incoming.send(_message(event.data))
        except httpx2.SSEError:
            raise
        except httpx2.TransportError as error:
            logger.debug("the stream of events was lost: %r", error)  # The stream has ended, like any other.
        except anyio.BrokenResourceError:
            pass  # Nobody reads the messages any more.


def _endpoint(url: str, given: str) -> str:
    endpoint = urljoin(url, given)
    if urlsplit(endpoint)[:2] != urlsplit(url)[:2]:
        raise httpx2.SSEError("its endpoint for requests is on another host, and headers must not go there")
    return endpoint


def _message(data: str) -> SessionMessage | Exception:
    try:
        return SessionMessage(jsonrpc_message_adapter.validate_json(data, by_name=False))
    except ValidationError as error:
        logger.debug("an event with a message that is not valid JSON-RPC was passed on as an error")
        return error


class _Requests:
    """Sends messages to the server as HTTP requests."""

    def __init__(
        self, http: httpx2.AsyncClient, endpoint: str, tasks: TaskGroup, on_refusal: Callable[[], None]
    ) -> None:
        self._http = http
        self._endpoint = endpoint
        self._tasks = tasks
        self._on_refusal = on_refusal
        self._room = anyio.Semaphore(REQUESTS_AT_ONCE)
        """The messages that may wait here; a server that accepts none must not make them pile up."""
        self._sending = anyio.Lock()
        """Keeps messages in order: the server must know that a client is ready before it gets requests."""

    async def send(self, item: SessionMessage, /) -> None:
        await self._room.acquire()
        self._tasks.start_soon(self._post, item)

    async def _post(self, item: SessionMessage) -> None:
        try:
            body = item.message.model_dump(by_alias=True, mode="json", exclude_unset=True)
            async with self._sending:
                response = await request_within_origin(self._http, "POST", self._endpoint, json=body)
        finally:
            self._room.release()
        if not response.is_success:
            self._on_refusal()

    async def aclose(self) -> None:
        """Do nothing. Requests that are under way end with the transport."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None
