"""Opens the client of MCP's SDK for each transport, and records what happens to each HTTP request.

The SDK reduces all errors of HTTP to three, and when it cannot send a request, it ends the whole connection,
which other calls share. So we give it our own HTTP client. This client writes the outcome of a request into
the `McpExchange` of the call that makes it. When it cannot reach the server, it returns a status 503 itself.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import ssl
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO, cast

import anyio
import httpx2
from mcp import Client, StdioServerParameters
from mcp.client._transport import TransportStreams
from mcp.client.session import MessageHandlerFnT
from mcp.client.stdio import get_default_environment, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import Implementation

from outlast.adapters.mcp.sdk.sse import sse_transport
from outlast.adapters.mcp.sdk.stdio_lines import ENCODING, MESSAGE_BYTES_MAX, on_long_line
from outlast.adapters.mcp.secrets import Redaction
from outlast.adapters.mcp.server import SSE, McpServer, Stdio, StreamableHTTP
from outlast.core.errors import ToolServerError

logger = logging.getLogger("outlast.mcp")

LINE_BYTES_MAX = 4096
LAST_LINES = 5
LAST_LINES_SECONDS = 1.0
"""The time to wait for more lines of stderr after the process has ended."""
GUARDIAN = Path(__file__).parents[1] / "process_guardian.py"
GRACE_SECONDS = 5.0
"""The time for which a child may go on after its worker; the SDK allows 2 s, and 2 s more after SIGTERM."""
QUIET_SECONDS = 900.0
"""The time for which a stream of events may be silent, in addition to the timeout of a call. (An idle
connection is closed earlier.)"""


@dataclass
class McpExchange:
    """The outcome of the HTTP requests of one call, and the secrets to remove from its errors."""

    redaction: Redaction
    sent: bool = False
    """True if a request may have reached the server."""
    status: int | None = None
    """The HTTP status with which the server refused the request."""
    error: Exception | None = None
    """The error because of which the server could not be reached."""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the server has accepted or refused the request, or the request has failed."""
    scope: anyio.CancelScope | None = None
    """A scope that is cancelled when no answer can come any more but the SDK would go on waiting."""


current_exchange: ContextVar[McpExchange | None] = ContextVar("current_exchange", default=None)


class _Hiding(logging.Filter):
    """Removes secrets from the SDK's log: a server may send a secret back in its messages."""

    def filter(self, record: logging.LogRecord) -> bool:
        exchange = current_exchange.get()
        if exchange is not None and exchange.redaction.hides_anything:
            record.msg, record.args = exchange.redaction.text(record.getMessage()), None
            if record.exc_info:
                record.exc_text = exchange.redaction.text(_format.formatException(record.exc_info))
        return True


_format = logging.Formatter()
for _name in (
    "client.session",
    "client.stdio",
    "client.streamable_http",
    "shared.jsonrpc_dispatcher",
):
    logging.getLogger(f"mcp.{_name}").addFilter(_Hiding())


@dataclass
class ServerObserver:
    """Callbacks for what happens to a server besides its answers, and the last lines of its stderr."""

    redaction: Redaction
    on_start: Callable[[], None]
    """Called when the opening has come so far that it may be cancelled."""
    on_message: MessageHandlerFnT
    on_end: Callable[[], None]
    """Called when the process of the server has ended."""
    on_long_line: Callable[[], None]
    """Called when the server writes a line that is longer than the limit of a message."""
    last_lines: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_LINES))
    """The last lines that the server wrote to stderr, without secrets."""


@asynccontextmanager
async def open_client(
    server: McpServer, values: Mapping[str, str], observer: ServerObserver
) -> AsyncIterator[Client]:
    """Connect to `server`, whose secrets are `values`. It raises the errors of the SDK.

    Do not cancel it before it calls `on_start`: if asyncio is cancelled while it starts a process, it leaves
    pipes open.
    """
    on_long_line.set(observer.on_long_line)
    connect = partial(
        Client,
        client_info=Implementation(name="outlast", version=version("outlast")),
        message_handler=observer.on_message,
        cache=None,
    )
    match server.transport:
        case Stdio() as stdio:
            async with _stderr_of(server.name, observer) as stderr:
                transport = stdio_client(_parameters(server.name, stdio, values), errlog=stderr)
                async with connect(_reporting_start(transport, observer)) as client:
                    stderr.close()  # From here on, only the server has it open: its end is the server's end.
                    yield client
        case SSE(url=url):
            observer.on_start()
            async with (
                _http_client(server, values, answers_apart=True) as http,
                connect(sse_transport(http, url, _give_up)) as client,
            ):
                yield client
        case StreamableHTTP(url=url):
            observer.on_start()
            async with (
                _http_client(server, values) as http,
                connect(
                    streamable_http_client(url, http_client=http, max_sse_event_size=MESSAGE_BYTES_MAX)
                ) as client,
            ):
                yield client


# HTTP


def _http_client(server: McpServer, values: Mapping[str, str], *, answers_apart: bool = False) -> _HTTPClient:
    timeout = httpx2.Timeout(server.opening_seconds, read=QUIET_SECONDS + server.call_seconds)
    return _HTTPClient(headers=_headers(server, values), timeout=timeout, answers_apart=answers_apart)


class _HTTPClient(httpx2.AsyncClient):
    """Records the outcome of requests, and returns status 503 for a server that cannot be reached."""

    def __init__(self, *, answers_apart: bool = False, **options: Any) -> None:
        """Make a client; `answers_apart` means that an answer is not the response to its request."""
        super().__init__(verify=_tls(), **options)
        self._answers_apart = answers_apart

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        exchange = current_exchange.get() or McpExchange(Redaction())
        if request.method != "POST" and not self._answers_apart:
            # The stream for messages that no call has asked for. A server need not have one, so its outcome
            # is not the outcome of the call.
            exchange = McpExchange(Redaction())
        exchange.status = exchange.error = None
        try:
            exchange.sent = True
            response = await super().send(request, **options)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            exchange.sent, exchange.error = False, error
            response = httpx2.Response(503, request=request)
        except httpx2.TransportError as error:
            exchange.error = error
            response = httpx2.Response(503, request=request)
        finally:
            exchange.over.set()
        if exchange.error is None and not response.is_success:
            exchange.status = response.status_code
        elif not response.headers.get("content-type", "").startswith("text/event-stream"):
            response.stream = _Bounded(cast(httpx2.AsyncByteStream, response.stream))
        return response


def _give_up() -> None:
    """End the current call after the server has refused its request: no answer will come in the stream."""
    exchange = current_exchange.get()
    if exchange is not None and exchange.scope is not None:
        exchange.scope.cancel()


class _Bounded(httpx2.AsyncByteStream):
    """The body of an answer, up to the limit of a message. (In a stream, each event has its own limit.)"""

    def __init__(self, body: httpx2.AsyncByteStream) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for part in self._body:
            size += len(part)
            if size > MESSAGE_BYTES_MAX:
                raise httpx2.StreamError(f"it exceeded the {MESSAGE_BYTES_MAX} byte limit")
            yield part

    async def aclose(self) -> None:
        await self._body.aclose()


def _headers(server: McpServer, values: Mapping[str, str]) -> dict[str, str]:
    for name, value in values.items():
        if not (value.isascii() and value.isprintable()):
            raise ToolServerError(
                server.name, f"the value of {name} has characters that a header cannot have; copy it again"
            )
    return dict(values)


@cache
def _tls() -> ssl.SSLContext:
    """Return the TLS context of all connections; making it takes longer than connecting, so it is kept."""
    return httpx2.create_ssl_context()


# stdio


def _parameters(server: str, stdio: Stdio, values: Mapping[str, str]) -> StdioServerParameters:
    """Return the parameters with which the SDK starts the server.

    Raises:
        ToolServerError: the command or the directory does not exist.
    """
    cwd = os.fspath(stdio.cwd) if stdio.cwd is not None else None
    if cwd is not None and not os.path.isdir(cwd):
        raise ToolServerError(server, f"its working directory {cwd!r} does not exist; correct cwd")
    environment = {**get_default_environment(), **values}
    # A name without a directory is looked up in PATH. A path is relative to cwd, as in a shell.
    name = os.path.join(cwd or "", stdio.command) if os.path.dirname(stdio.command) else stdio.command
    found = shutil.which(name, path=environment.get("PATH"))
    if found is None:
        raise ToolServerError(
            server, f"command {stdio.command!r} was not found; install it, or correct command, or PATH in env"
        )
    command = [found, *stdio.args]
    if sys.platform != "win32":  # On Windows, the SDK puts children into a job that ends with this process.
        command = [sys.executable, "-I", "-S", str(GUARDIAN), f"{GRACE_SECONDS}", *command]
    return StdioServerParameters(
        command=command[0],
        args=command[1:],
        env=dict(values),
        cwd=cwd,
        encoding=ENCODING,
        encoding_error_handler="replace",  # "strict" would end the reading, and calls would wait for ever
    )


@asynccontextmanager
async def _reporting_start(
    transport: AbstractAsyncContextManager[TransportStreams], observer: ServerObserver
) -> AsyncIterator[TransportStreams]:
    async with transport as streams:
        observer.on_start()
        yield streams


@asynccontextmanager
async def _stderr_of(server: str, observer: ServerObserver) -> AsyncIterator[TextIO]:
    """Yield a file for the server's stderr. During the block, its lines go to the log."""
    if sys.platform == "win32":
        with open(os.devnull, "w") as null_device:  # noqa: ASYNC230 - opening it does not block
            yield null_device
        return
    reading, writing = os.pipe()
    with cast(TextIO, os.fdopen(writing, "w")) as stderr:
        reader = _LineLogger(server, observer)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: reader, os.fdopen(reading, "rb")
        )
        try:
            yield stderr
        finally:
            stderr.close()
            with anyio.move_on_after(LAST_LINES_SECONDS, shield=True):
                await reader.ended.wait()
            transport.close()


class _LineLogger(asyncio.Protocol):
    """Logs what it receives, line by line."""

    def __init__(self, server: str, observer: ServerObserver) -> None:
        self._server = server
        self._observer = observer
        self._rest = b""
        self.ended = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        *lines, rest = (self._rest + data).split(b"\n")
        if len(rest) > LINE_BYTES_MAX:
            lines, rest = [*lines, rest], b""
        self._rest = rest
        for line in lines:
            self._log(line)

    def eof_received(self) -> None:
        self._log(self._rest)
        self.ended.set()
        self._observer.on_end()

    def _log(self, raw: bytes) -> None:
        text = self._observer.redaction.text(raw[:LINE_BYTES_MAX].decode(errors="replace").rstrip())
        if text:
            self._observer.last_lines.append(text)
            logger.info("%s: %s", self._server, text)
