"""Bodies of answers over HTTP: decompressed here, in small pieces, and checked before the SDK reads them.

The SDK reads a body whole, and would parse whatever it is. So a body, or each event of a stream of events,
is passed on only when it is complete and `messages.problem_of` found nothing; other work of the event loop
goes on between the pieces.
"""

from __future__ import annotations

import asyncio
import math
import re
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing

import httpx2

from outlast.adapters.mcp import limits
from outlast.adapters.mcp.messages import ADVICE, problem_of, too_long
from outlast.core.compression import PIECE_BYTES_MAX, decompression

_LINE_END = re.compile(rb"\r\n|\n|\r")


class CheckedBody(httpx2.AsyncByteStream):
    """The body of an answer, without compression, as far as it may be read."""

    def __init__(
        self, response: httpx2.Response, seconds_max: float, on_refusal: Callable[[str], None]
    ) -> None:
        """Take the place of the body of `response`.

        Args:
            response: The answer; its body has not been read.
            seconds_max: The time after which an answer that does not end is refused.
            on_refusal: Called with the reason when the body is refused. Then reading it raises `SSEError` or
                `StreamError`, which the SDK makes an error of the one request.
        """
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        self._body = response.stream
        self._encoding = response.headers.pop("content-encoding", "")
        self._has_events = response.headers.get("content-type", "").lower().startswith("text/event-stream")
        self._seconds_max = seconds_max
        self._on_refusal = on_refusal
        response.stream = self

    async def __aiter__(self) -> AsyncIterator[bytes]:
        reader = EventSplitter() if self._has_events else _MessageReader()
        try:
            async with aclosing(self._pieces()) as pieces:
                async for piece in pieces:
                    for part in reader.read(piece):
                        yield part
            for part in reader.end():
                yield part
        except _Refused as refusal:
            problem = str(refusal)
            self._on_refusal(problem)
            raise (httpx2.SSEError if self._has_events else httpx2.StreamError)(problem) from None

    async def _pieces(self) -> AsyncGenerator[bytes]:
        deadline = asyncio.get_running_loop().time() + self._seconds_max
        try:
            unpacking = decompression(self._encoding)
            async for received in self._body:
                if asyncio.get_running_loop().time() > deadline:
                    raise _Refused(f"it does not end within {self._seconds_max:g} s")
                if unpacking is None:
                    yield received
                    continue
                for piece in unpacking.pieces(received):
                    yield piece
                    if len(piece) == PIECE_BYTES_MAX:
                        await asyncio.sleep(0)  # More will follow without waiting for the server.
        except httpx2.ReadTimeout:
            if math.isinf(self._seconds_max):
                raise
            raise _Refused(f"it does not end within {self._seconds_max:g} s") from None
        except (ValueError, zlib.error) as error:
            raise _Refused(f"it cannot be decompressed: {error}") from None

    async def aclose(self) -> None:
        await self._body.aclose()


class _Refused(Exception):
    """A body must not be read any further."""


class _MessageReader:
    """Collects a body that is one message."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def read(self, piece: bytes) -> Iterator[bytes]:
        self._size += len(piece)
        if self._size > limits.MESSAGE_BYTES_MAX:
            raise _Refused(f"it has {too_long()}; {ADVICE}")
        self._parts.append(piece)
        return iter(())

    def end(self) -> Iterator[bytes]:
        body = b"".join(self._parts)
        if problem := problem_of(body):
            raise _Refused(f"it has {problem}; {ADVICE}")
        yield body


class EventSplitter:
    """Splits a stream of events into whole events, without I/O. Comments and empty events are left out."""

    def __init__(self) -> None:
        self._line: list[bytes] = []
        """The pieces of a line that has no end yet."""
        self._lines: list[bytes] = []
        """The lines of the event that has no end yet."""
        self._size = 0
        """The number of bytes since the last event."""

    def read(self, piece: bytes) -> Iterator[bytes]:
        """Yield the events that are complete with this piece, each with its end.

        Raises:
            _Refused: an event is too much to be read.
        """
        self._size += len(piece)
        if self._line and self._line[-1].endswith(b"\r"):
            piece = self._line.pop() + piece
        *lines, rest = _LINE_END.split(piece[:-1] if piece.endswith(b"\r") else piece)
        for line in lines:
            if self._line:
                line = b"".join((*self._line, line))
                self._line = []
            if line:
                # Comments, and how soon to connect again: that is for us to say.
                if not line.startswith((b":", b"retry")):
                    self._lines.append(line)
            elif self._lines:
                event, self._lines, self._size = self._lines, [], 0
                yield _checked(event)
        # A carriage return may be the first half of a line end.
        rest += b"\r" if piece.endswith(b"\r") else b""
        if rest:
            self._line.append(rest)
        if self._size > limits.MESSAGE_BYTES_MAX:
            raise _Refused(f"it has {too_long()} in one event; {ADVICE}")

    def end(self) -> Iterator[bytes]:
        """Yield nothing: only the blank line after an event makes it one."""
        return iter(())


def _checked(lines: list[bytes]) -> bytes:
    data = b"\n".join(line.partition(b":")[2] for line in lines if line.startswith(b"data"))
    if problem := problem_of(data):
        raise _Refused(f"it has {problem} in one event; {ADVICE}")
    return b"\n".join((*lines, b"", b""))
