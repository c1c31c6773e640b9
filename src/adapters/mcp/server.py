"""One MCP server as the connection to it sees it: how to reach it, what to hide, which tools to let through.

Users write `config`, which stands on the connection. The connection, and the modules that work with the SDK,
read this value, so that none of them needs `config`.
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
    """The server sends a stream of events, and takes requests at a second address."""


class StreamableHTTP(HTTP):
    """The server answers each request with its events."""


@dataclass(frozen=True, kw_only=True)
class McpServer:
    """A server, and how to use it."""

    name: str
    way: Stdio | SSE | StreamableHTTP
    secrets: Secrets = field(repr=False)
    """Environment variables or headers, with the values hidden or as references."""
    opening_seconds: float
    """The longest that connecting and listing the tools may take."""
    call_seconds: float
    """The longest that one attempt at a call may take."""
    include: Sequence[str] | None
    exclude: Sequence[str]
    effects: Mapping[str, Effect]

    @property
    def place(self) -> str:
        """Where the server is, in words for an operator and without a secret."""
        return self.way.place

    @property
    def over_http(self) -> bool:
        """Whether each call is an HTTP request."""
        return self.way.over_http


class NotSent(Exception):
    """A connection ended before a call was sent over it, so that another one may be used."""
