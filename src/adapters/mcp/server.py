"""One MCP server in the form that the connection uses: its transport, its secrets, its settings.

Users write the classes of `config`, and `config` imports the connection. So the connection, and the modules
that work with the SDK, read this value instead; none of them imports `config`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from pydantic import SecretStr

from outlast.core.agents import Effect

Secrets = Mapping[str, SecretStr | str]


@dataclass(frozen=True, kw_only=True)
class Stdio:
    """The server is a child process of the worker."""

    command: str
    args: Sequence[str]
    cwd: str | os.PathLike[str] | None

    over_http = False

    @property
    def place(self) -> str:
        return f"the command {self.command!r}"


@dataclass(frozen=True, kw_only=True)
class HTTP:
    """The server is at a URL."""

    url: str

    over_http = True

    @property
    def place(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}{parts.path}"


class SSE(HTTP):
    """The server sends a stream of events, and receives requests at a second address."""


class StreamableHTTP(HTTP):
    """The server sends the events of a request in the answer to that request."""


@dataclass(frozen=True, kw_only=True)
class McpServer:
    """A server, and how to use it."""

    name: str
    transport: Stdio | SSE | StreamableHTTP
    secrets: Secrets = field(repr=False)
    """Environment variables or headers: plain values, `SecretStr`s, or references such as `env:TOKEN`."""
    opening_seconds: float
    """The timeout for connecting and listing the tools."""
    call_seconds: float
    """The timeout of one attempt at a call."""
    include: Sequence[str] | None
    exclude: Sequence[str]
    required: bool
    effects: Mapping[str, Effect]

    @property
    def place(self) -> str:
        """The command or the URL, in a form for an operator that has no secrets in it."""
        return self.transport.place

    @property
    def over_http(self) -> bool:
        """True if each call is an HTTP request."""
        return self.transport.over_http

    def offers(self, tool: str) -> bool:
        """Return whether models may have the tool with this name, if the server has it."""
        return (self.include is None or tool in self.include) and tool not in self.exclude


class NotSent(Exception):
    """A connection ended before a call was sent; the call may be sent over another connection."""
