"""The lines that a stdio server writes besides its messages: logged, as many as anybody can read."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import cast

from outlast.adapters.mcp import limits
from outlast.adapters.mcp.allowance import Allowance
from outlast.adapters.mcp.secrets import Redaction

logger = logging.getLogger("outlast.mcp")

LAST_LINES = 5


class LineLog:
    """Logs lines, and keeps the last ones for error messages. `redaction` removes secrets from both."""

    def __init__(self, server: str, redaction: Redaction) -> None:
        self.redaction = redaction
        self._server = server
        self._last: deque[bytes] = deque(maxlen=LAST_LINES)
        self._allowance = Allowance(limits.LINES_PER_SECOND, limits.LINES_AT_ONCE)
        self._left_out = 0

    @property
    def last_lines(self) -> Sequence[str]:
        """The last lines that are not blank, without secrets."""
        return [text for line in self._last if (text := self._text_of(line))]

    def take(self, lines: Sequence[bytes]) -> None:
        """Log these lines; of a flood, only the beginning, and how many were left out."""
        lines = [line for line in lines if line and not line.isspace()]
        self._last.extend(line[: limits.LINE_BYTES_MAX] for line in lines[-LAST_LINES:])
        allowed = min(len(lines), max(0, int(self._allowance.left())))
        if allowed and self._left_out:
            logger.warning("%s: %d lines were left out of this log", self._server, self._left_out)
            self._left_out = 0
        self._allowance.spend(allowed)
        self._left_out += len(lines) - allowed
        for line in lines[:allowed]:
            logger.info("%s: %s", self._server, self._text_of(line))

    def _text_of(self, line: bytes) -> str:
        return self.redaction.text(line[: limits.LINE_BYTES_MAX].decode(errors="replace").rstrip())


class StderrReader(asyncio.Protocol):
    """Reads the stderr of a server line by line. A server that writes too fast has to wait."""

    def __init__(self, log: LineLog, on_end: Callable[[], None]) -> None:
        """Pass the lines on to `log`; call `on_end` when there will be no more."""
        self._log = log
        self._on_end = on_end
        self._allowance = Allowance(limits.STDERR_BYTES_PER_SECOND, limits.STDERR_BYTES_AT_ONCE)
        self._transport: asyncio.ReadTransport | None = None
        self._rest = b""
        self.ended = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.ReadTransport, transport)

    def data_received(self, data: bytes) -> None:
        *lines, rest = (self._rest + data).split(b"\n")
        if len(rest) > limits.LINE_BYTES_MAX:
            lines, rest = [*lines, rest], b""
        self._rest = rest
        self._log.take(lines)
        pause = self._allowance.spend(len(data))
        if pause and self._transport is not None:
            self._transport.pause_reading()
            asyncio.get_running_loop().call_later(pause, self._resume)

    def _resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def eof_received(self) -> None:
        self._log.take([self._rest])
        self.ended.set()
        self._on_end()
