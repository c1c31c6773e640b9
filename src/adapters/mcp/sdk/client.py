"""Opens the client of MCP's SDK for each transport, and records what happens to each HTTP request.

The SDK reduces all errors of HTTP to three, and when it cannot send a request, it ends the whole connection,
which other calls share. So we give it our own HTTP client. This client writes the outcome of a request into
the `McpExchange` of the call that makes it. When it cannot reach the server, it returns a status 503 itself.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import shutil
import ssl
import sys
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
from mcp.shared.inbound import MCP_METHOD_HEADER
from mcp.types import Implementation

from outlast.adapters.mcp.limits import CALL_GRACE_SECONDS
from outlast.adapters.mcp.sdk.bodies import CheckedBody
from outlast.adapters.mcp.sdk.guarded_streams import guarded
from outlast.adapters.mcp.sdk.server_output import LineLog, StderrReader
from outlast.adapters.mcp.sdk.sse import sse_transport
from outlast.adapters.mcp.sdk.stdio_lines import ENCODING, StdoutListener, stdout_listener
from outlast.adapters.mcp.sdk.tool_pages import trimmed
from outlast.adapters.mcp.secrets import Redaction
from outlast.adapters.mcp.server import SSE, McpServer, Stdio, StreamableHTTP
from outlast.core.compression import ACCEPTED
from outlast.core.errors import ToolServerError

logger = logging.getLogger("outlast.mcp")

LAST_LINES_SECONDS = 1.0
"""The time to wait for more lines of stderr after the process has ended."""
GUARDIAN = Path(__file__).parents[1] / "process_guardian.py"
GRACE_SECONDS = 5.0
"""The time for which a child may go on after its worker; the SDK allows 2 s, and 2 s more after SIGTERM."""
LISTEN = "subscriptions/listen"
"""The request of which the answer is a stream of changes."""
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
    problem: str | None = None
    """Why the answer was not read to its end."""
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
    """Callbacks for what happens to a server besides its answers, and the lines that it writes."""

    log: LineLog
    on_start: Callable[[], None]
    """Called when the opening has come so far that it may be cancelled."""
    on_message: MessageHandlerFnT
    on_end: Callable[[], None]
    """Called when the process of the server has ended."""
    on_refusal: Callable[[str], None]
    """Called with the reason when nothing more is read of what the server sends; the connection must end."""


@asynccontextmanager
async def open_client(
    server: McpServer, values: Mapping[str, str], observer: ServerObserver
) -> AsyncIterator[Client]:
    """Connect to `server`, whose secrets are `values`. It raises the errors of the SDK.

    Do not cancel it before it calls `on_start`: if asyncio is cancelled while it starts a process, it leaves
    pipes open.
    """
    stdout_listener.set(StdoutListener(observer.log.take, observer.on_refusal))
    connect = partial(
        Client,
        client_info=Implementation(name="outlast", version=version("outlast")),
        message_handler=observer.on_message,
        cache=None,
    )
    guard = partial(guarded, server=server.name, trim=partial(trimmed, server))
    match server.transport:
        case Stdio() as stdio:
            async with _stderr_of(observer) as stderr:
                transport = stdio_client(_parameters(server.name, stdio, values), errlog=stderr)
                async with connect(guard(_reporting_start(transport, observer))) as client:
                    stderr.close()  # From here on, only the server has it open: its end is the server's end.
                    yield client
        case SSE(url=url):
            observer.on_start()
            async with (
                _http_client(server, values, observer, answers_apart=True) as http,
                connect(guard(sse_transport(http, url, _give_up))) as client,
            ):
                yield client
        case StreamableHTTP(url=url):
            observer.on_start()
            async with (
                _http_client(server, values, observer) as http,
                connect(
                    guard(streamable_http_client(url, http_client=http, max_sse_event_size=None))
                ) as client,
            ):
                yield client


# HTTP


def _http_client(
    server: McpServer, values: Mapping[str, str], observer: ServerObserver, *, answers_apart: bool = False
) -> _HTTPClient:
    return _HTTPClient(
        headers={"Accept-Encoding": ACCEPTED, **_headers(server, values)},
        timeout=httpx2.Timeout(server.opening_seconds, read=QUIET_SECONDS + server.call_seconds),
        answers_apart=answers_apart,
        seconds_max=max(server.opening_seconds, server.call_seconds) + CALL_GRACE_SECONDS,
        on_refusal=observer.on_refusal,
    )


class _HTTPClient(httpx2.AsyncClient):
    """Records the outcome of requests, and returns status 503 for a server that cannot be reached."""

    def __init__(
        self,
        *,
        answers_apart: bool = False,
        seconds_max: float,
        on_refusal: Callable[[str], None],
        **options: Any,
    ) -> None:
        """Make a client.

        Args:
            answers_apart: Whether an answer comes in another stream than the response to its request.
            seconds_max: The time that a response may take from its beginning to its end.
            on_refusal: Called with the reason when the stream of all answers may not be read any further.
            options: Those of `httpx2.AsyncClient`.
        """
        super().__init__(verify=_tls(), **options)
        self._answers_apart = answers_apart
        self._seconds_max = seconds_max
        self._on_refusal = on_refusal

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        exchange = current_exchange.get() or McpExchange(Redaction())
        if request.method != "POST" and not self._answers_apart:
            # The stream for messages that no call has asked for. A server need not have one, so its outcome
            # is not the outcome of the call.
            exchange = McpExchange(Redaction())
        exchange.status = exchange.error = exchange.problem = None
        seconds = self._seconds_for(request)
        if math.isfinite(seconds):
            timeout = request.extensions.get("timeout", {})
            request.extensions = {**request.extensions, "timeout": {**timeout, "read": seconds}}
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
        if exchange.error is None:
            CheckedBody(response, seconds, partial(self._refuse, exchange))
        return response

    def _seconds_for(self, request: httpx2.Request) -> float:
        """Return how long the answer to `request` may take; a stream that no call waits for has no end."""
        is_endless = request.method != "POST" or request.headers.get(MCP_METHOD_HEADER) == LISTEN
        return math.inf if is_endless else self._seconds_max

    def _refuse(self, exchange: McpExchange, problem: str) -> None:
        exchange.problem = problem
        if self._answers_apart:  # All answers come in this one stream, which ends here.
            self._on_refusal(f"the stream of its messages was refused: {problem}")


def _give_up() -> None:
    """End the current call after the server has refused its request: no answer will come in the stream."""
    exchange = current_exchange.get()
    if exchange is not None and exchange.scope is not None:
        exchange.scope.cancel()


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
async def _stderr_of(observer: ServerObserver) -> AsyncIterator[TextIO]:
    """Yield a file for the server's stderr. During the block, its lines go to the log."""
    if sys.platform == "win32":
        with open(os.devnull, "w") as null_device:  # noqa: ASYNC230 - opening it does not block
            yield null_device
        return
    reading, writing = os.pipe()
    with cast(TextIO, os.fdopen(writing, "w")) as stderr:
        reader = StderrReader(observer.log, observer.on_end)
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
