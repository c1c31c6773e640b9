"""Bodies of answers: bounded after decompression, and split into the events of a stream.

A small compressed body can become gigabytes. So the HTTP client does not decompress: `bound` does it here, in
small pieces, and counts what comes out.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import AsyncIterator, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from outlast.core.compression import decompression
from outlast.core.errors import MalformedReply

if TYPE_CHECKING:
    import httpx2

BODY_MAX = 16 * 1024 * 1024
"""The most bytes that a body may have; the longest replies have a few per cent of it."""
_LINE_END = re.compile(rb"\r\n|\n|\r")


def bound(response: httpx2.Response) -> None:
    """Let this response raise `MalformedReply` when its decompressed body is larger than `BODY_MAX`."""
    encoding = response.headers.pop("content-encoding", "")
    response.stream = _bounded_stream()(response.stream, encoding)


@cache
def _bounded_stream() -> Any:
    """Return the class of a bounded stream. It is made late, because importing httpx2 takes long."""
    import httpx2

    class Bounded(httpx2.AsyncByteStream):
        def __init__(self, stream: httpx2.AsyncByteStream, encoding: str) -> None:
            self._stream, self._encoding = stream, encoding

        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                unpacking = decompression(self._encoding)
            except ValueError as error:
                raise MalformedReply(str(error)) from error
            length = 0
            try:
                async for received in self._stream:
                    for piece in (received,) if unpacking is None else unpacking.pieces(received):
                        length += len(piece)
                        if length > BODY_MAX:
                            raise MalformedReply(f"its body has more than {BODY_MAX >> 20} MiB")
                        yield piece
            except zlib.error as error:
                raise httpx2.DecodingError(f"the body cannot be decompressed: {error}") from error

        async def aclose(self) -> None:
            await self._stream.aclose()

    return Bounded


class StreamReader:
    """Splits the bytes of a stream into events, without I/O.

    The data of an event is its JSON, or its text if it is not JSON. The data of an event of the type `error`
    is put into an object with the key `error`.
    """

    def __init__(self) -> None:
        self._line: list[bytes] = []
        """The pieces of a line that has no end yet."""
        self._kind = b""
        self._data: list[bytes] = []
        self._has_begun = False

    def read(self, piece: bytes) -> Iterator[Any]:
        """Yield the data of the events that are complete with this piece."""
        if self._line and self._line[-1].endswith(b"\r"):
            piece = self._line.pop() + piece
        *lines, rest = _LINE_END.split(piece[:-1] if piece.endswith(b"\r") else piece)
        for line in lines:
            whole = b"".join((*self._line, line))
            self._line = []
            yield from self._take(whole)
        # A carriage return may be the first half of a line end.
        rest += b"\r" if piece.endswith(b"\r") else b""
        if rest:
            self._line.append(rest)

    def end(self) -> Iterator[Any]:
        """Yield the data of the last event, if nothing follows it."""
        line = b"".join(self._line)
        self._line = []
        yield from self._take(line.removesuffix(b"\r"))
        yield from self._take(b"")

    def _take(self, line: bytes) -> Iterator[Any]:
        if not self._has_begun:
            self._has_begun = True
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line:
            kind, data = self._kind, self._data
            self._kind, self._data = b"", []
            if data or kind == b"error":
                content = _data_of(b"\n".join(data))
                yield {"error": content or "no message"} if kind == b"error" else content
            return
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._kind = value


def _data_of(data: bytes) -> Any:
    text = data.decode()
    try:
        return json.loads(text)
    except RecursionError as error:
        raise MalformedReply("an event of the stream cannot be read") from error
    except ValueError:
        return text
