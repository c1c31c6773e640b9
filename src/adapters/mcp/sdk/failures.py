"""What MCP's SDK, HTTP and the operating system raise, as our errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import anyio
import httpx2
from mcp import MCPError
from mcp.types import CONNECTION_CLOSED, INVALID_PARAMS, METHOD_NOT_FOUND, REQUEST_TIMEOUT
from pydantic import ValidationError

from outlast.adapters.mcp.sdk.client import Line, McpExchange
from outlast.core.errors import OutlastError, ToolServerError, ToolServerUnavailable
from outlast.core.values import faults

CHARACTERS_MAX = 500
PASSING = frozenset({408, 409, 423, 425, 429})
REFUSED = frozenset({401, 403, 407})
STAND_IN = "Not Found"
"""What the SDK says for an answer with status 404 that is no JSON-RPC error."""
UNREADABLE = ("SSE stream failed", "Failed to parse JSON response")
"""How the SDK begins what it says of an answer over streamable HTTP that cannot be read, or is too large."""
GONE = (anyio.ClosedResourceError, anyio.BrokenResourceError, anyio.EndOfStream)


def leaves_of(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the exceptions that `error` is a group of, or `error` itself, if there is one."""
    if error is None:
        return
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from leaves_of(one)
    else:
        yield error


def opening_failure(
    server: str, place: str, error: BaseException | None, exchange: McpExchange, line: Line
) -> OutlastError:
    """Return what to raise to those who wait for a connection that did not come about."""
    causes = list(leaves_of(error))
    for cause in causes:
        if isinstance(cause, OutlastError):
            return cause
    kind, problem = _problem(place, causes, exchange)
    if line.last_words:
        problem += f"; its last words were: {' / '.join(line.last_words)}"
    return kind(server, bounded(line.redaction.text(problem)))


def _problem(
    place: str, causes: Sequence[BaseException], exchange: McpExchange
) -> tuple[type[ToolServerError], str]:
    if exchange.status is not None:
        return of_status(exchange.status, place)
    if exchange.error is not None:
        return ToolServerUnavailable, f"{place} cannot be reached: {_words(exchange.error)}"
    for cause in causes:
        match cause:
            case httpx2.SSEError():
                return (
                    ToolServerError,
                    f"{place} does not answer with events that can be read: {_words(cause)}",
                )
            case OSError():
                return ToolServerError, f"{place} cannot be run: {_words(cause)}"
            case ValidationError():
                return (
                    ToolServerError,
                    f"{place} answers with what is not MCP: {'; '.join(faults(cause)[:3])}",
                )
            case MCPError() if cause.code not in (CONNECTION_CLOSED, REQUEST_TIMEOUT):
                return ToolServerError, f"{place} refused to be used: {_words(cause)}"
    if all(isinstance(cause, (MCPError, *GONE)) for cause in causes):
        return ToolServerUnavailable, f"{place} ended the connection before it was ready"
    return ToolServerUnavailable, f"{place} cannot be used: {', '.join(map(_words, causes))}"


def of_status(status: int, place: str) -> tuple[type[ToolServerError], str]:
    """Return the error that an HTTP status is, as its class and what it says."""
    if status in REFUSED:
        return ToolServerError, f"{place} refused with status {status}; check its headers"
    if status in PASSING or status >= 500:
        return ToolServerUnavailable, f"{place} answered with status {status}"
    if 300 <= status < 400:
        return ToolServerError, f"{place} redirects elsewhere (status {status}); give that address as its url"
    return ToolServerError, f"{place} answered with status {status}; check its url"


def is_answer(error: MCPError, exchange: McpExchange) -> bool:
    """Whether the server itself said so, of this very call."""
    if exchange.error is not None or error.code in (CONNECTION_CLOSED, REQUEST_TIMEOUT):
        return False
    if error.code in (INVALID_PARAMS, METHOD_NOT_FOUND) and error.message != STAND_IN:
        return exchange.status in (None, 400, 404)  # a JSON-RPC error may come with one of these
    return exchange.status is None


def bounded(text: str) -> str:
    """Return `text` on one line, and not too long."""
    text = " ".join(text.split())
    return text if len(text) <= CHARACTERS_MAX else f"{text[:CHARACTERS_MAX]}…"


def _words(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, MCPError):
        return error.message
    return f"{type(error).__name__} {error}".strip()
