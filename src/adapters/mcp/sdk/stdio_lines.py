"""An encoding that limits the length of the lines that a stdio server writes.

MCP's SDK stores what a server writes to stdout until a line ends, without a limit. But the user of the SDK
can choose the encoding. This module registers an encoding that is UTF-8 with a decoder that counts bytes.
When a line is too long, the decoder calls the connection that reads it, and returns no more text.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from contextvars import ContextVar

ENCODING = "outlast_lines"
MESSAGE_BYTES_MAX = 8 * 1024 * 1024
"""The limit of one message of a server, on every transport. No model reads as much."""

on_long_line: ContextVar[Callable[[], None]] = ContextVar("on_long_line")
"""The function that a decoder calls when a line is too long. A decoder uses the function that is set in the
context in which reading begins."""


class _Decoder(codecs.IncrementalDecoder):
    def __init__(self, errors: str = "strict") -> None:
        super().__init__(errors)
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors)
        self._on_long_line = on_long_line.get()
        self._length = 0
        """The number of bytes since the last line end."""

    def decode(self, data: bytes, final: bool = False) -> str:  # type: ignore[override]  # bytes, not any buffer
        if self._length > MESSAGE_BYTES_MAX:
            return ""
        first = data.find(b"\n")
        self._length += len(data) if first < 0 else first
        if self._length > MESSAGE_BYTES_MAX:
            self._on_long_line()
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
