"""What users write: one value for each way to reach an MCP server. Each is a source of tools."""

from __future__ import annotations

import math
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, get_args
from urllib.parse import urlsplit

from pydantic import SecretStr

from outlast.adapters.mcp.connection import Connection, open_connection
from outlast.adapters.mcp.secrets import REFERENCE
from outlast.adapters.mcp.server import SSE, McpServer, Secrets, Stdio, StreamableHTTP
from outlast.adapters.mcp.tool_names import ANY_TOOL, tool_name
from outlast.core.agents import Effect, ToolSpec
from outlast.core.errors import ConfigurationError
from outlast.core.json import JSON
from outlast.ports.resources import Resources
from outlast.ports.tools import ToolOutput

NAME = re.compile(r"[a-zA-Z0-9_-]{1,32}\Z")
"""Short enough to leave a tool's own name room."""
VARIABLE = re.compile(r"[^=\0]+\Z")
HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")


@dataclass(frozen=True, kw_only=True)
class ServerConfig(ABC):
    """An MCP server, as a source of tools. It is a value; connections belong to the worker that uses it.

    It keeps the tools port (`ports.tools.ToolSource`) without inheriting it: there, `name` is a property,
    which no field of a dataclass can override.

    Args:
        name: The server's name, which the names of its tools begin with (`name_tool`): 1 to 32 letters,
            digits, `_` or `-`, unique among the agents of a run.
        required: Whether a run fails when the server cannot be reached as it begins. Otherwise it goes on
            without these tools, and the agents that have them are told so.
        include: The tools to offer, as the server names them; all by default.
        exclude: The tools not to offer.
        call_timeout: The longest that one attempt at a call may take, in seconds.
        effects: What calling a tool does to the world, by the server's name for it (`"*"`: any other), and
            so whether a call that failed or may have been lost is repeated. Without it, the server's own
            annotations count; a tool that says nothing is `"once"`.

    Raises:
        ConfigurationError: a setting that no connection could work with.
    """

    name: str
    required: bool = True
    include: Sequence[str] | None = None
    exclude: Sequence[str] = ()
    call_timeout: float | timedelta = 60.0
    effects: Mapping[str, Effect] = field(default_factory=dict)
    _learned: dict[str, Effect] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        given: Any = self.name
        if not isinstance(given, str) or not NAME.match(given):
            raise ConfigurationError(
                f"an MCP server is called {self.name!r}; use 1 to 32 letters, digits, '_' or '-', "
                "since the names of its tools begin with it"
            )
        for setting in ("include", "exclude"):
            names = getattr(self, setting)
            if names is not None:
                self._set(setting, tuple(self._texts(setting, names)))
        self._set("call_timeout", self._seconds("call_timeout", self.call_timeout))
        for tool, effect in self.effects.items():
            if effect not in get_args(Effect):
                raise self._problem(
                    f"effects says {effect!r} of {tool!r}; it can be {', '.join(get_args(Effect))}"
                )
        self._set("effects", dict(self.effects))
        self._learned.update({tool_name(self.name, tool): effect for tool, effect in self.effects.items()})

    def __hash__(self) -> int:
        return hash((type(self), self.name))

    # The tools port

    async def list_tools(self, resources: Resources) -> Sequence[ToolSpec]:
        """Return the tools, sorted by name, as the server lists them now or did a few minutes ago.

        Raises:
            ToolServerError: the server cannot be used, and trying again would not help.
            ToolServerUnavailable: it did not answer.
            MissingExtra: MCP's SDK is not installed.
        """
        catalogue = await (await self._connection(resources)).catalogue()
        self._learned.update(catalogue.effects)
        return catalogue.specs

    async def call(
        self, tool: str, arguments: Mapping[str, JSON], resources: Resources, *, known: str | None = None
    ) -> ToolOutput:
        """Run a tool once. That a connection was lost before the call was sent, a caller does not notice.

        The tool is taken as the server listed it last; see `list_tools`.

        Raises:
            UnknownTool: the server has no such tool, or no longer.
            InvalidArguments: they do not fit the tool's schema as it is now.
            ActivityTimedOut: it took longer than `call_timeout`; the server has been told to stop.
            ToolServerError, ToolServerUnavailable: as above; whether the tool ran is in the message.
        """
        return await (await self._connection(resources)).call(tool, dict(arguments), known)

    def effect(self, tool: str) -> Effect:
        """Return what this process knows of the tool: by `effects`, else by the server's last list."""
        return self._learned.get(tool, self.effects.get(ANY_TOOL, "once"))

    async def _connection(self, resources: Resources) -> Connection:
        return await resources.get(("mcp", self), lambda: open_connection(self._server()))

    @abstractmethod
    def _server(self) -> McpServer:
        """Return the server in the words of the connection to it."""

    def _reached(
        self, way: Stdio | SSE | StreamableHTTP, secrets: Secrets, timeout: float | timedelta
    ) -> McpServer:
        return McpServer(
            name=self.name,
            way=way,
            secrets=secrets,
            opening_seconds=self._seconds("timeout", timeout),
            call_seconds=self._seconds("call_timeout", self.call_timeout),
            include=self.include,
            exclude=self.exclude,
            effects=self.effects,
        )

    # Checks

    def _set(self, setting: str, value: Any) -> None:
        object.__setattr__(self, setting, value)

    def _problem(self, problem: str) -> ConfigurationError:
        return ConfigurationError(f"MCP server {self.name!r}: {problem}")

    def _texts(self, setting: str, given: Any) -> Sequence[str]:
        if isinstance(given, str) or not all(isinstance(one, str) and "\0" not in one for one in given):
            raise self._problem(f"{setting} must be a list of texts")
        return given  # type: ignore[no-any-return]  # checked by now

    def _seconds(self, setting: str, given: float | timedelta) -> float:
        seconds = given.total_seconds() if isinstance(given, timedelta) else float(given)
        if not (math.isfinite(seconds) and seconds > 0):
            raise self._problem(f"{setting} is {given!r}; give a positive number of seconds")
        return seconds

    def _values(self, setting: str, given: Secrets, names: re.Pattern[str]) -> Secrets:
        """Return a copy, checked without a value being shown."""
        name: Any
        for name, value in given.items():
            if not isinstance(name, str) or not names.match(name):
                raise self._problem(f"{setting} has a name that cannot be used: {name!r}")
            text: Any = value.get_secret_value() if isinstance(value, SecretStr) else value
            if not isinstance(text, str) or any(sign in text for sign in "\0\r\n"):
                raise self._problem(f"the value of {name} in {setting} is no text on one line")
        return dict(given)


@dataclass(frozen=True, kw_only=True)
class MCPStdioConfig(ServerConfig):
    """An MCP server that the worker runs as a child process, and talks to over its stdin and stdout.

    One process serves all calls of a worker. It ends with the worker, also when that is killed (on Windows:
    when it is closed). Its stderr goes to the logger `outlast.mcp`. Arguments can be seen by every
    user of the machine, so that a secret belongs into `env`.

    Args:
        command: The program; a bare name is looked up in the child's `PATH`.
        args: Its arguments.
        env: Variables for the child, which otherwise gets HOME, LOGNAME, PATH, SHELL, TERM and USER alone.
            A value may be `env:TOKEN`, to be read where the worker runs, or a `SecretStr`; either is taken
            out of whatever the server says. Any other value is not.
        cwd: The child's working directory; the worker's by default.
        timeout: How long the server may take to start and to list its tools, in seconds.
    """

    command: str
    args: Sequence[str] = ()
    env: Secrets = field(default_factory=dict, repr=False)
    cwd: str | os.PathLike[str] | None = None
    timeout: float | timedelta = 60.0

    def __post_init__(self) -> None:
        super().__post_init__()
        command: Any = self.command
        if not isinstance(command, str) or not command.strip() or "\0" in command:
            raise self._problem("command must be the program that is the server")
        self._set("args", tuple(self._texts("args", self.args)))
        self._set("env", self._values("env", self.env or {}, VARIABLE))
        self._set("timeout", self._seconds("timeout", self.timeout))

    __hash__ = ServerConfig.__hash__

    def _server(self) -> McpServer:
        way = Stdio(command=self.command, args=self.args, cwd=self.cwd)
        return self._reached(way, self.env, self.timeout)


@dataclass(frozen=True, kw_only=True)
class _HTTPServer(ServerConfig):
    """What the two ways over HTTP have in common.

    Args:
        url: The endpoint. It may be logged, so that a secret belongs into `headers`.
        timeout: How long connecting, and listing the tools, may take, in seconds.
        headers: Sent with every request, and to no other host: redirects are followed on the same origin
            only. A value may be `env:TOKEN` or `Bearer env:TOKEN`, to be read where the worker runs, or a
            `SecretStr`; a plain text becomes one. All are taken out of whatever the server says.
    """

    url: str
    timeout: float | timedelta = 30.0
    headers: Secrets = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            parts = urlsplit(self.url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except (ValueError, AttributeError, TypeError):
            raise self._problem("url is no URL; it looks like https://host/path") from None
        if parts.username or parts.password:
            raise self._problem("url holds credentials; give them in headers")
        if not usable or parts.fragment:
            raise self._problem("url must look like https://host/path or http://host:port/path")
        headers = self._values("headers", self.headers or {}, HEADER)
        self._set("headers", {name: _hidden(value) for name, value in headers.items()})
        self._set("timeout", self._seconds("timeout", self.timeout))

    __hash__ = ServerConfig.__hash__


@dataclass(frozen=True, kw_only=True)
class MCPSSEConfig(_HTTPServer):
    """An MCP server over HTTP with server-sent events, the older of the two ways.

    The settings are those of `MCPStreamableHTTPConfig`.
    """

    __hash__ = ServerConfig.__hash__

    def _server(self) -> McpServer:
        return self._reached(SSE(url=self.url), self.headers, self.timeout)


@dataclass(frozen=True, kw_only=True)
class MCPStreamableHTTPConfig(_HTTPServer):
    """An MCP server over streamable HTTP."""

    __doc__ += (_HTTPServer.__doc__ or "").partition("\n")[2]
    __hash__ = ServerConfig.__hash__

    def _server(self) -> McpServer:
        return self._reached(StreamableHTTP(url=self.url), self.headers, self.timeout)


def _hidden(value: SecretStr | str) -> SecretStr | str:
    if isinstance(value, SecretStr) or REFERENCE.match(value):
        return value
    return SecretStr(value)
