"""The configuration of MCP servers, one class for each transport. Each configuration is a tool source."""

from __future__ import annotations

import math
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
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
from outlast.core.argument_checks import check_mapping
from outlast.core.errors import ConfigurationError
from outlast.core.json import JSON
from outlast.ports.resources import Resources
from outlast.ports.tools import ToolOutput

NAME = re.compile(r"[a-zA-Z0-9_-]{1,32}\Z")
"""Short, so that the tool's own name fits behind it."""
VARIABLE = re.compile(r"[^=\0]+\Z")
HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")


@dataclass(frozen=True, kw_only=True)
class ServerConfig(ABC):
    """An MCP server as a tool source. It is a value: the worker that uses it has the connection.

    It implements the tools port (`ports.tools.ToolSource`) but does not inherit from it, because `name` is a
    property there, and a field of a dataclass cannot override a property.

    Args:
        name: The name of the server: 1 to 32 letters, digits, `_` or `-`, unique among the agents of a run.
            The names of its tools begin with it (`name_tool`).
        required: Whether a run fails when it cannot reach the server at its start. Otherwise the run goes on
            without these tools, and the instructions of the agents that have them say so.
        include: The tools to offer, by the names that the server uses; all by default.
        exclude: The tools not to offer.
        call_timeout: The timeout of one attempt at a call, in seconds.
        effects: The side effects of tools, by the names that the server uses (`"*"`: all other tools):
            `"read"`, `"idempotent"` or `"once"`. They decide whether a call is repeated after it failed or
            was lost. For a tool that is not in `effects`, the annotations of the server decide; without
            annotations it is `"once"`.

    Raises:
        ConfigurationError: a setting is not valid.
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
                f"{self.name!r} cannot be the name of an MCP server; use 1 to 32 letters, digits, '_' or '-' "
                "(the names of its tools begin with it)"
            )
        for setting in ("include", "exclude"):
            names = getattr(self, setting)
            if names is not None:
                self._set(setting, tuple(self._texts(setting, names)))
        self._set("call_timeout", self._seconds("call_timeout", self.call_timeout))
        check_mapping(
            f"MCP server {self.name!r}: effects", self.effects, '{"tool": "read"}', ConfigurationError
        )
        for tool, effect in self.effects.items():
            if effect not in get_args(Effect):
                raise self._problem(
                    f"effects has {effect!r} for tool {tool!r}; use one of {', '.join(get_args(Effect))}"
                )
        self._set("effects", dict(self.effects))
        self._learned.update({tool_name(self.name, tool): effect for tool, effect in self.effects.items()})

    def __hash__(self) -> int:
        return hash((type(self), self.name))

    # The tools port

    async def list_tools(self, resources: Resources) -> Sequence[ToolSpec]:
        """Return the tools, sorted by name. The list of the server may be up to a few minutes old.

        Raises:
            ToolServerError: the server cannot be used, and a retry would not help.
            ToolServerUnavailable: the server did not answer.
            MissingExtra: MCP's SDK is not installed.
        """
        offered = await (await self._connection(resources)).tools()
        self._learned.update(offered.effects)
        return offered.specs

    async def call(
        self, tool: str, arguments: Mapping[str, JSON], resources: Resources, *, known: str | None = None
    ) -> ToolOutput:
        """Run a tool once. If the connection is lost before the call is sent, a new one is used silently.

        The schema of the tool is that of the latest list of the server; see `list_tools`.

        Raises:
            UnknownTool: the server does not have this tool, or no longer has it.
            InvalidArguments: the arguments do not fit the current schema of the tool.
            ActivityTimedOut: the call took longer than `call_timeout`; the server was asked to stop it.
            ToolServerError, ToolServerUnavailable: as above; the message says whether the tool may have run.
        """
        return await (await self._connection(resources)).call(tool, dict(arguments), known)

    def effect(self, tool: str) -> Effect:
        """Return the side effect of the tool, from `effects` or else from the latest list of the server."""
        return self._learned.get(tool, self.effects.get(ANY_TOOL, "once"))

    async def _connection(self, resources: Resources) -> Connection:
        return await resources.get(("mcp", self), lambda: open_connection(self._server()))

    @abstractmethod
    def _server(self) -> McpServer:
        """Return the server in the form that `connection` uses."""

    def _mcp_server(
        self, transport: Stdio | SSE | StreamableHTTP, secrets: Secrets, timeout: float | timedelta
    ) -> McpServer:
        return McpServer(
            name=self.name,
            transport=transport,
            secrets=secrets,
            opening_seconds=self._seconds("timeout", timeout),
            call_seconds=self._seconds("call_timeout", self.call_timeout),
            include=self.include,
            exclude=self.exclude,
            required=self.required,
            effects=self.effects,
        )

    # Checks

    def _set(self, setting: str, value: Any) -> None:
        object.__setattr__(self, setting, value)

    def _problem(self, problem: str) -> ConfigurationError:
        return ConfigurationError(f"MCP server {self.name!r}: {problem}")

    def _texts(self, setting: str, given: Any) -> Sequence[str]:
        is_list = isinstance(given, Collection) and not isinstance(given, str)
        if not is_list or not all(isinstance(one, str) and "\0" not in one for one in given):
            raise self._problem(f"{setting} must be a list of strings")
        return given  # type: ignore[no-any-return]  # checked above

    def _seconds(self, setting: str, given: float | timedelta) -> float:
        seconds: Any = given.total_seconds() if isinstance(given, timedelta) else given
        if not isinstance(seconds, (int, float)) or not (math.isfinite(seconds) and seconds > 0):
            raise self._problem(f"{setting} is {given!r}; give a positive number of seconds")
        return float(seconds)

    def _values(self, setting: str, given: Secrets, names: re.Pattern[str]) -> Secrets:
        """Return a checked copy. The errors show no values, because these may be secrets."""
        if not isinstance(given, Mapping):
            raise self._problem(f"{setting} must be a dict of names and values")
        name: Any
        for name, value in given.items():
            if not isinstance(name, str) or not names.match(name):
                raise self._problem(f"{setting} has a name that is not valid: {name!r}")
            text: Any = value.get_secret_value() if isinstance(value, SecretStr) else value
            if not isinstance(text, str) or any(sign in text for sign in "\0\r\n"):
                raise self._problem(f"the value of {name} in {setting} must be a string on one line")
        return dict(given)


@dataclass(frozen=True, kw_only=True)
class MCPStdioConfig(ServerConfig):
    """An MCP server that the worker runs as a child process. They communicate over its stdin and stdout.

    One process serves all calls of a worker. It ends with the worker, also when the worker is killed (on
    Windows: only when the worker is closed). Its stderr goes to the logger `outlast.mcp`. Every user of the
    machine can see the arguments of a process, so put secrets into `env`, not into `args`.

    Args:
        command: The program; a name without a directory is looked up in the `PATH` of the child.
        args: The arguments of the program.
        env: Environment variables for the child. In addition it gets only HOME, LOGNAME, PATH, SHELL, TERM
            and USER. A value may be a `SecretStr`, or `env:TOKEN`, which the worker reads from its
            environment. Such values are secrets: they are removed from everything that the server sends.
            Other values are not.
        cwd: The working directory of the child; by default that of the worker.
        timeout: The time for the server to start and to list its tools, in seconds.
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
            raise self._problem("command must be the program to run, and not empty")
        self._set("args", tuple(self._texts("args", self.args)))
        self._set("env", self._values("env", self.env or {}, VARIABLE))
        self._set("timeout", self._seconds("timeout", self.timeout))

    __hash__ = ServerConfig.__hash__

    def _server(self) -> McpServer:
        transport = Stdio(command=self.command, args=self.args, cwd=self.cwd)
        return self._mcp_server(transport, self.env, self.timeout)


@dataclass(frozen=True, kw_only=True)
class _HTTPServer(ServerConfig):
    """The base of the two transports over HTTP.

    Args:
        url: The endpoint. It may be logged, so put secrets into `headers`.
        timeout: The time to connect and to list the tools, in seconds.
        headers: HTTP headers for every request. They are sent to no other host, because redirects are
            followed only on the same origin. A value may be `env:TOKEN` or `Bearer env:TOKEN`, which the
            worker reads from its environment, or a `SecretStr`; a plain string becomes a `SecretStr`. All
            values are secrets: they are removed from everything that the server sends.
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
            raise self._problem("url is not a valid URL; write it like https://host/path") from None
        if parts.username or parts.password:
            raise self._problem("url has credentials in it; give them in headers")
        if not usable or parts.fragment:
            raise self._problem("url must look like https://host/path or http://host:port/path")
        headers = self._values("headers", self.headers or {}, HEADER)
        self._set("headers", {name: _hidden(value) for name, value in headers.items()})
        self._set("timeout", self._seconds("timeout", self.timeout))

    __hash__ = ServerConfig.__hash__


@dataclass(frozen=True, kw_only=True)
class MCPSSEConfig(_HTTPServer):
    """An MCP server over HTTP with server-sent events, the older transport.

    The settings are those of `MCPStreamableHTTPConfig`.
    """

    __hash__ = ServerConfig.__hash__

    def _server(self) -> McpServer:
        return self._mcp_server(SSE(url=self.url), self.headers, self.timeout)


@dataclass(frozen=True, kw_only=True)
class MCPStreamableHTTPConfig(_HTTPServer):
    """An MCP server over streamable HTTP."""

    __doc__ += (_HTTPServer.__doc__ or "").partition("\n")[2]
    __hash__ = ServerConfig.__hash__

    def _server(self) -> McpServer:
        return self._mcp_server(StreamableHTTP(url=self.url), self.headers, self.timeout)


def _hidden(value: SecretStr | str) -> SecretStr | str:
    if isinstance(value, SecretStr) or REFERENCE.match(value):
        return value
    return SecretStr(value)
