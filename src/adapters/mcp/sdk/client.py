"""MCP's SDK: how each kind of server is reached, and what became of a request on its way.

The SDK has three stand-ins for all the errors of HTTP, and a request that cannot be sent ends the whole
connection, whoever else is using it. So the HTTP client that it gets is ours: it notes what becomes of a
request with the `McpExchange` of the call that it is made for, and answers for a server that it cannot reach.
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
from outlast.adapters.mcp.sdk.stdio_lines import ENCODING, MESSAGE_BYTES_MAX, on_endless
from outlast.adapters.mcp.secrets import Redaction
from outlast.adapters.mcp.server import SSE, McpServer, Stdio, StreamableHTTP
from outlast.core.errors import ToolServerError

logger = logging.getLogger("outlast.mcp")

LINE_BYTES_MAX = 4096
LAST_WORDS = 5
LAST_WORDS_SECONDS = 1.0
"""How long to listen for more of them once the process has ended."""
GUARDIAN = Path(__file__).parents[1] / "process_guardian.py"
GRACE_SECONDS = 5.0
"""How long a child may go on without its worker; the SDK allows 2 s, and 2 s more after SIGTERM."""
QUIET_SECONDS = 900.0
"""How long a stream of events may be silent beyond a call's own time; an idle one is closed before that."""


@dataclass
class McpExchange:
    """What became of the HTTP requests of one call, and what must not be said of it."""

    redaction: Redaction
    sent: bool = False
    """Whether one may have reached the server."""
    status: int | None = None
    """The status that refused it."""
    error: Exception | None = None
    """Why the server could not be reached."""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the server has taken or refused it, or it was given up."""
    scope: anyio.CancelScope | None = None
    """Cancelled when no answer can come any more and the SDK would go on waiting for one."""


current_exchange: ContextVar[McpExchange | None] = ContextVar("current_exchange", default=None)


class _Hiding(logging.Filter):
    """Takes secrets out of what the SDK logs: the messages of a server, which may say what it was told."""

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
class Line:
    """What the user of a connection hears of its server, besides answers."""

    redaction: Redaction
    on_start: Callable[[], None]
    """Called when opening has come so far that it may be cancelled."""
    on_message: MessageHandlerFnT
    on_end: Callable[[], None]
    """Called when the server's process has ended."""
    on_endless: Callable[[], None]
    """Called when it writes a line that is longer than a message may be."""
    last_words: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_WORDS))
    """What it last wrote to stderr, without secrets."""


@asynccontextmanager
async def open_client(server: McpServer, values: Mapping[str, str], line: Line) -> AsyncIterator[Client]:
    """Connect to `server`, whose secrets are `values`. What goes wrong is raised as the SDK raises it.

    It must not be cancelled before it says so: where asyncio is interrupted as it starts a process, it leaves
    the pipes open.
    """
    on_endless.set(line.on_endless)
    connect = partial(
        Client,
        client_info=Implementation(name="outlast", version=version("outlast")),
        message_handler=line.on_message,
        cache=None,
    )
    match server.way:
        case Stdio() as way:
            async with _stderr_of(server.name, line) as stderr:
                transport = stdio_client(_parameters(server.name, way, values), errlog=stderr)
                async with connect(_told_when_started(transport, line)) as client:
                    stderr.close()  # from here on, its end is the end of the server
                    yield client
        case SSE(url=url):
            line.on_start()
            async with (
                _http_client(server, values, answers_apart=True) as http,
                connect(sse_transport(http, url, _give_up)) as client,
            ):
                yield client
        case StreamableHTTP(url=url):
            line.on_start()
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
    """Notes what becomes of requests, and answers for a server that cannot be reached."""

    def __init__(self, *, answers_apart: bool = False, **options: Any) -> None:
        """Make a client; with `answers_apart`, for a protocol whose answers do not come to its requests."""
        super().__init__(verify=_tls(), **options)
        self._answers_apart = answers_apart

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        exchange = current_exchange.get() or McpExchange(Redaction())
        if request.method != "POST" and not self._answers_apart:
            exchange = McpExchange(
                Redaction()
            )  # the stream of what the server says unasked, which it need not have
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
    """Let a call end that was refused, where its answer was to come in another way."""
    exchange = current_exchange.get()
    if exchange is not None and exchange.scope is not None:
        exchange.scope.cancel()


class _Bounded(httpx2.AsyncByteStream):
    """The body of an answer, up to what a message may have; of events, each is measured for itself."""

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
                server.name, f"the value of {name} has characters that no header can have; copy it again"
            )
    return dict(values)


@cache
def _tls() -> ssl.SSLContext:
    """Return what connections are verified with; reading it takes longer than connecting."""
    return httpx2.create_ssl_context()


# stdio


def _parameters(server: str, way: Stdio, values: Mapping[str, str]) -> StdioServerParameters:
    """Return what starts the server.

    Raises:
        ToolServerError: there is no such command or directory.
    """
    cwd = os.fspath(way.cwd) if way.cwd is not None else None
    if cwd is not None and not os.path.isdir(cwd):
        raise ToolServerError(server, f"its working directory {cwd!r} does not exist; correct cwd")
    environment = {**get_default_environment(), **values}
    # A bare name is looked up; a path is relative to the child's directory, as for a shell.
    name = os.path.join(cwd or "", way.command) if os.path.dirname(way.command) else way.command
    found = shutil.which(name, path=environment.get("PATH"))
    if found is None:
        raise ToolServerError(
            server, f"there is no command {way.command!r}; install it, or correct command or env PATH"
        )
    command = [found, *way.args]
    if sys.platform != "win32":  # there, the SDK puts its children into a job that ends with this process
        command = [sys.executable, "-I", "-S", str(GUARDIAN), f"{GRACE_SECONDS}", *command]
    return StdioServerParameters(
        command=command[0],
        args=command[1:],
        env=dict(values),
        cwd=cwd,
        encoding=ENCODING,
        encoding_error_handler="replace",  # a strict one would end the reading, and leave all waiting
    )


@asynccontextmanager
async def _told_when_started(
    transport: AbstractAsyncContextManager[TransportStreams], line: Line
) -> AsyncIterator[TransportStreams]:
    async with transport as streams:
        line.on_start()
        yield streams


@asynccontextmanager
async def _stderr_of(server: str, line: Line) -> AsyncIterator[TextIO]:
    """Yield a file for the server's stderr, the lines of which go to the log for the time of the block."""
    if sys.platform == "win32":
        with open(os.devnull, "w") as nowhere:  # noqa: ASYNC230 - nothing is waited for
            yield nowhere
        return
    reading, writing = os.pipe()
    with cast(TextIO, os.fdopen(writing, "w")) as stderr:
        reader = _Lines(server, line)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: reader, os.fdopen(reading, "rb")
        )
        try:
            yield stderr
        finally:
            stderr.close()
            with anyio.move_on_after(LAST_WORDS_SECONDS, shield=True):
                await reader.ended.wait()
            transport.close()


class _Lines(asyncio.Protocol):
    """Writes what it receives to the log, line by line."""

    def __init__(self, server: str, line: Line) -> None:
        self._server = server
        self._line = line
        self._rest = b""
        self.ended = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        *lines, rest = (self._rest + data).split(b"\n")
        if len(rest) > LINE_BYTES_MAX:
            lines, rest = [*lines, rest], b""
        self._rest = rest
        for line in lines:
            self._say(line)

    def eof_received(self) -> None:
        self._say(self._rest)
        self.ended.set()
        self._line.on_end()

    def _say(self, raw: bytes) -> None:
        text = self._line.redaction.text(raw[:LINE_BYTES_MAX].decode(errors="replace").rstrip())
        if text:
            self._line.last_words.append(text)
            logger.info("%s: %s", self._server, text)
