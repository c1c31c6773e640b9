"""An encoding that passes on only the lines of a stdio server that are messages and may be read.

MCP's SDK stores what a server writes to stdout until a line ends, without a limit, copies all of it with each
piece that comes, and parses and logs whatever it is. But the user of the SDK can choose the encoding. This
module registers an encoding that is UTF-8, with a decoder that works on lines:

- It keeps the pieces of a line until the line ends. So the SDK only gets whole lines.
- Lines that cannot be messages go to `StdoutListener.on_other_lines`, not to the SDK.
- A message that is too much (`messages.problem_of`), or too much without a message, ends the reading.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass

from outlast.adapters.mcp import limits
from outlast.adapters.mcp.messages import ADVICE, problem_of, too_long

ENCODING = "outlast_lines"


@dataclass(frozen=True)
class StdoutListener:
    """Callbacks for what a decoder does not pass on."""

    on_other_lines: Callable[[Sequence[bytes]], None]
    on_refusal: Callable[[str], None]
    """Called once, with the reason, when nothing more will be read."""


stdout_listener: ContextVar[StdoutListener] = ContextVar("stdout_listener")
"""The callbacks of a decoder: those in the context in which reading begins."""


class _Decoder(codecs.IncrementalDecoder):
    def __init__(self, errors: str = "strict") -> None:
        super().__init__(errors)
        self._listener = stdout_listener.get()
        self._line: list[bytes] = []
        """The pieces of a line that has no end yet."""
        self._size = 0
        """The number of bytes since the last message."""
        self._has_refused = False

    def decode(self, data: bytes, final: bool = False) -> str:  # type: ignore[override]  # bytes, not any buffer
        if self._has_refused:
            return ""
        self._size += len(data)
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = b"".join((*self._line, lines[0]))
            self._line = []
        self._line.append(rest)
        messages: list[bytes] = []
        others: list[bytes] = []
        for line in lines:
            if line.lstrip()[:1] == b"{":
                if problem := problem_of(line):
                    self._refuse(f"it sent a message with {problem}; {ADVICE}")
                    break
                messages.append(line)
                self._size = len(rest)
            elif line:
                others.append(line)
        if others:
            self._listener.on_other_lines(others)
        if self._size > limits.MESSAGE_BYTES_MAX and not self._has_refused:
            self._refuse(
                f"it wrote {too_long()} to stdout without a message; it must write its log to stderr"
            )
        return "".join(f"{line.decode('utf-8', self.errors)}\n" for line in messages)

    def _refuse(self, reason: str) -> None:
        self._has_refused = True
        self._line = []
        self._listener.on_refusal(reason)

    def reset(self) -> None:
        self._line = []


def _find(name: str) -> codecs.CodecInfo | None:
    if name != ENCODING:
        return None
    return codecs.CodecInfo(
        codecs.utf_8_encode, codecs.utf_8_decode, incrementaldecoder=_Decoder, name=ENCODING
    )


codecs.register(_find)
