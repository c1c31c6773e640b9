"""MCP servers, whose secrets are named by variables of the worker's environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from outlast.adapters import mcp as own


class MCPStdioConfig(own.MCPStdioConfig):
    """A server that the worker runs. `env_mapping` names its variables, and the worker's that they come from.

    It takes the options of `outlast.MCPStdioConfig`, too.
    """

    def __init__(
        self,
        *,
        command: str,
        args: Sequence[str] = (),
        name: str,
        env_mapping: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        env = {**options.pop("env", {}), **_read(env_mapping)}
        super().__init__(command=command, args=args, name=name, env=env, **_own(options))

    __hash__ = own.MCPStdioConfig.__hash__


class MCPSSEConfig(own.MCPSSEConfig):
    """A server over HTTP with server-sent events. It takes the options of `outlast.MCPSSEConfig`, too."""

    def __init__(
        self,
        *,
        url: str,
        name: str,
        timeout: float = 60,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(url=url, name=name, timeout=timeout, headers=dict(headers or {}), **_own(options))

    __hash__ = own.MCPSSEConfig.__hash__


class MCPStreamableHTTPConfig(own.MCPStreamableHTTPConfig):
    """A server over streamable HTTP. It takes the options of `outlast.MCPStreamableHTTPConfig`, too.

    `auth_token_env` names the worker's variable with the bearer token, `header_mapping` headers and the
    variables that they come from. Redirects on the same origin are followed, and no others.
    """

    def __init__(
        self,
        *,
        url: str,
        name: str,
        timeout: float = 60,
        headers: Mapping[str, str] | None = None,
        auth_token_env: str | None = None,
        header_mapping: Mapping[str, str] | None = None,
        follow_redirects: bool = False,
        **options: Any,
    ) -> None:
        token = {} if auth_token_env is None else {"Authorization": f"Bearer env:{auth_token_env}"}
        every = {**(headers or {}), **_read(header_mapping), **token}
        super().__init__(url=url, name=name, timeout=timeout, headers=every, **_own(options))

    __hash__ = own.MCPStreamableHTTPConfig.__hash__


def _read(mapping: Mapping[str, str] | None) -> dict[str, str]:
    """Return values that the worker reads from its environment."""
    return {name: f"env:{variable}" for name, variable in (mapping or {}).items()}


def _own(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options without the name of the transport, which the class says."""
    return {name: value for name, value in options.items() if name != "type"}
