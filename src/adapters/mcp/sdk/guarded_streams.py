"""Stands between a transport and the SDK's client, and holds back what a server must not cost a worker.

The SDK starts a task for each notification and each request of a server, validates what it gets in the event
loop, and runs the output schemas of tools, with their regular expressions. So, before the SDK sees a message:

- Messages that answer no request are passed on at a limited pace. The server has to wait, and nobody else.
- Of a server's own requests, only `REQUESTS_AT_ONCE` wait for their answers at a time.
- The parts that the SDK makes objects of have at most `TYPED_VALUES_MAX` values.
- A list of tools holds only tools that can be read, without what we do not use (`tool_pages`).
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Any, Self

import anyio
from mcp.client._transport import ReadStream, TransportStreams, WriteStream
from mcp.shared.message import SessionMessage
from mcp.types import JSONRPCError, JSONRPCNotification, JSONRPCRequest, JSONRPCResponse

from outlast.adapters.mcp import limits
from outlast.adapters.mcp.allowance import Allowance
from outlast.adapters.mcp.sdk.schema_checks import values_in

logger = logging.getLogger("outlast.mcp")

Result = dict[str, Any]


@asynccontextmanager
async def guarded(
    transport: AbstractAsyncContextManager[TransportStreams], server: str, trim: Callable[[Result], Result]
) -> AsyncIterator[TransportStreams]:
    """Yield the streams of `transport`, guarded. `trim` makes of each list of tools what the SDK may see."""
    async with transport as (reading, writing):
        guard = _Guard(server, trim)
        yield _Reading(reading, guard), _Writing(writing, guard)


class _Guard:
    """Decides about each message, in either direction."""

    def __init__(self, server: str, trim: Callable[[Result], Result]) -> None:
        self._server = server
        self._trim = trim
        self._asked: set[str] = set()
        """The ids of our requests that are open. A server may answer with `"7"` to 7."""
        self._open: set[str] = set()
        """The ids of those requests of the server that were passed on and have no answer yet."""
        self._allowance = Allowance(limits.UNASKED_MESSAGES_PER_SECOND, limits.UNASKED_MESSAGES_AT_ONCE)
        self._has_warned = False

    def note_sending(self, item: SessionMessage) -> None:
        message = item.message
        if isinstance(message, JSONRPCRequest):
            self._asked.add(str(message.id))
        elif isinstance(message, JSONRPCNotification):
            self._asked.discard(_cancelled(message))

    def note_sent(self, item: SessionMessage) -> None:
        if isinstance(item.message, JSONRPCResponse | JSONRPCError):
            self._open.discard(str(item.message.id))

    async def admit(self, item: SessionMessage | Exception) -> bool:
        """Return whether the SDK gets the message, perhaps after a pause. A result may be changed."""
        message = item.message if isinstance(item, SessionMessage) else None
        if isinstance(message, JSONRPCResponse | JSONRPCError) and str(message.id) in self._asked:
            self._asked.discard(str(message.id))
            if isinstance(message, JSONRPCResponse):
                message.result = self._trimmed(message.result)
            return True
        pause = self._allowance.spend(limits.UNREADABLE_COST if message is None else 1)
        if pause:
            self._warn("it sends messages that nobody asked for, and has to wait")
            await anyio.sleep(pause)
        if isinstance(message, JSONRPCRequest | JSONRPCNotification) and _is_large(message.params):
            self._warn("it sends messages that nobody asked for and that are too large; they are not read")
            return False
        if isinstance(message, JSONRPCRequest):
            if len(self._open) >= limits.REQUESTS_AT_ONCE:
                self._warn("it sends requests without reading the answers; more get none")
                return False
            self._open.add(str(message.id))
        elif isinstance(message, JSONRPCNotification):
            self._open.discard(_cancelled(message))
        return True

    def _trimmed(self, result: Result) -> Result:
        if isinstance(result.get("tools"), list):
            return self._trim(result)
        content = result.get("content")
        if not isinstance(content, list):
            # Nothing that we ask for is so large; without its fields it is an answer that is not valid.
            return {} if _is_large(result) else result
        if len(content) > limits.CONTENT_BLOCKS_MAX:
            problem = (
                f"it has {len(content)} content blocks, and at most {limits.CONTENT_BLOCKS_MAX} are read"
            )
        elif _is_large(content):
            problem = f"its content has more than {limits.TYPED_VALUES_MAX} values"
        else:
            return result
        text = f"the answer of the tool was refused: {problem}; let the tool return less"
        return {**result, "content": [{"type": "text", "text": text}], "isError": True}

    def _warn(self, problem: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            logger.warning("MCP server %s: %s", self._server, problem)


def _is_large(value: Any) -> bool:
    return values_in(value, limits.TYPED_VALUES_MAX) > limits.TYPED_VALUES_MAX


def _cancelled(message: JSONRPCNotification) -> str:
    """Return the id of the request that `message` cancels; empty if it cancels none."""
    if message.method != "notifications/cancelled":
        return ""
    return str((message.params or {}).get("requestId"))


class _Reading:
    """The stream of what the server sends."""

    def __init__(self, inner: ReadStream[SessionMessage | Exception], guard: _Guard) -> None:
        self._inner = inner
        self._guard = guard

    @property
    def last_context(self) -> Any:
        """The context of whoever sent the last message, if the transport knows it."""
        return getattr(self._inner, "last_context", None)

    async def receive(self) -> SessionMessage | Exception:
        while True:
            item = await self._inner.receive()
            if await self._guard.admit(item):
                return item

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class _Writing:
    """The stream of what the server gets."""

    def __init__(self, inner: WriteStream[SessionMessage], guard: _Guard) -> None:
        self._inner = inner
        self._guard = guard

    async def send(self, item: SessionMessage, /) -> None:
        self._guard.note_sending(item)
        await self._inner.send(item)
        self._guard.note_sent(item)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
