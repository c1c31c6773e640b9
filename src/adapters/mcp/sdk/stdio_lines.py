"""UTF-8 as the lines of a stdio server come in it, none longer than a message may be.

MCP's SDK keeps what a server writes to its stdout until a line has ended, however much that is. The encoding
is for its user to choose, though. The one that is registered here is UTF-8, except that its decoder counts:
where a line gets too long it tells the connection that asked for it, and from then on gives nothing to keep.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from contextvars import ContextVar

ENCODING = "outlast_lines"
MESSAGE_BYTES_MAX = 8 * 1024 * 1024
"""What one message of a server may have, over every transport; no model reads as much."""

on_endless: ContextVar[Callable[[], None]] = ContextVar("on_endless")
"""What is called, where reading has begun in this context, once there is a line that is too long."""


class _Decoder(codecs.IncrementalDecoder):
    def __init__(self, errors: str = "strict") -> None:
        super().__init__(errors)
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors)
        self._tell = on_endless.get()
        self._length = 0
        """Bytes since a line last ended."""

    def decode(self, data: bytes, final: bool = False) -> str:  # type: ignore[override]  # of bytes, not any buffer
        if self._length > MESSAGE_BYTES_MAX:
            return ""
        first = data.find(b"\n")
        self._length += len(data) if first < 0 else first
        if self._length > MESSAGE_BYTES_MAX:
            self._tell()
            return ""
        if first >= 0:
            self._length = len(data) - data.rfind(b"\n") - 1
        return self._utf8.decode(data, final)

    def reset(self) -> None:
        self._utf8.reset()


def _find(name: str) -> codecs.CodecInfo | None:
    if name != ENCODING:
        return None
    return codecs.CodecInfo(
        codecs.utf_8_encode, codecs.utf_8_decode, incrementaldecoder=_Decoder, name=ENCODING
    )


codecs.register(_find)
