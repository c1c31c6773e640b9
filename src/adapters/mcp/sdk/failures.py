"""Translates errors of MCP's SDK, of HTTP and of the operating system into those of `core.errors`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import anyio
import httpx2
from mcp import MCPError
from mcp.types import CONNECTION_CLOSED, INVALID_PARAMS, METHOD_NOT_FOUND, REQUEST_TIMEOUT
from pydantic import ValidationError

from outlast.adapters.mcp.sdk.client import McpExchange, ServerObserver
from outlast.core.errors import OutlastError, ToolServerError, ToolServerUnavailable
from outlast.core.values import faults

CHARACTERS_MAX = 500
PASSING = frozenset({408, 409, 423, 425, 429})
REFUSED = frozenset({401, 403, 407})
NOT_FOUND = "Not Found"
"""The SDK's message for an answer with status 404 that is not a JSON-RPC error."""
UNREADABLE = ("SSE stream failed", "Failed to parse JSON response")
"""The beginnings of the SDK's messages for an answer over streamable HTTP that is unreadable or too large."""
GONE = (anyio.ClosedResourceError, anyio.BrokenResourceError, anyio.EndOfStream)


def leaves_of(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the exceptions inside a group, at any depth; yield `error` itself if it is not a group."""
    if error is None:
        return
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from leaves_of(one)
    else:
        yield error


def opening_failure(
    server: str, place: str, error: BaseException | None, exchange: McpExchange, observer: ServerObserver
) -> OutlastError:
    """Return the error for the callers that wait for a connection which could not be opened."""
    causes = list(leaves_of(error))
    for cause in causes:
        if isinstance(cause, OutlastError):
            return cause
    kind, problem = _problem(place, causes, exchange)
    if lines := observer.log.last_lines:
        problem += f"; its last output was: {' / '.join(lines)}"
    return kind(server, bounded(observer.log.redaction.text(problem)))


def _problem(
    place: str, causes: Sequence[BaseException], exchange: McpExchange
) -> tuple[type[ToolServerError], str]:
    if exchange.problem is not None:
        return ToolServerError, f"the answer of {place} was refused: {exchange.problem}"
    if exchange.status is not None:
        return of_status(exchange.status, place)
    if exchange.error is not None:
        return ToolServerUnavailable, f"{place} cannot be reached: {_words(exchange.error)}"
    for cause in causes:
        match cause:
            case httpx2.SSEError():
                return (
                    ToolServerError,
                    f"{place} does not send events that can be read: {_words(cause)}",
                )
            case OSError():
                return ToolServerError, f"{place} cannot be run: {_words(cause)}"
            case ValidationError():
                return (
                    ToolServerError,
                    f"{place} sent an answer that is not valid MCP: {'; '.join(faults(cause)[:3])}",
                )
            case MCPError() if cause.code not in (CONNECTION_CLOSED, REQUEST_TIMEOUT):
                return ToolServerError, f"{place} refused the connection: {_words(cause)}"
    if all(isinstance(cause, (MCPError, *GONE)) for cause in causes):
        return ToolServerUnavailable, f"{place} closed the connection before it was ready"
    return ToolServerUnavailable, f"{place} cannot be used: {', '.join(map(_words, causes))}"


def of_status(status: int, place: str) -> tuple[type[ToolServerError], str]:
    """Return the class and the problem of the error for an HTTP status."""
    if status in REFUSED:
        return ToolServerError, f"{place} refused the request with status {status}; check its headers"
    if status in PASSING or status >= 500:
        return ToolServerUnavailable, f"{place} answered with status {status}"
    if 300 <= status < 400:
        return (
            ToolServerError,
            f"{place} redirects to another address (status {status}); use that address as url",
        )
    return ToolServerError, f"{place} answered with status {status}; check its url"


def is_answer(error: MCPError, exchange: McpExchange) -> bool:
    """Return whether the error is the server's own answer to this call."""
    if exchange.error is not None or error.code in (CONNECTION_CLOSED, REQUEST_TIMEOUT):
        return False
    if error.code in (INVALID_PARAMS, METHOD_NOT_FOUND) and error.message != NOT_FOUND:
        return exchange.status in (None, 400, 404)  # A JSON-RPC error may have one of these statuses.
    return exchange.status is None


def bounded(text: str) -> str:
    """Return `text` on one line, shortened if it is too long."""
    text = " ".join(text[: 4 * CHARACTERS_MAX].split())
    return text if len(text) <= CHARACTERS_MAX else f"{text[:CHARACTERS_MAX]}…"


def _words(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, MCPError):
        return error.message
    return f"{type(error).__name__} {error}".strip()
