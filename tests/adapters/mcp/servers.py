"""The servers of the tests, by the words that a command names them with."""

from __future__ import annotations

import functools
import inspect
import socket
from collections.abc import Callable, Sequence
from typing import Any

import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations

from durable_agents.ports.tools import Effect
from durable_agents.testing.tools_contract import EFFECTS, Refusal, Tool, Toolbox

HINTS: dict[Effect, ToolAnnotations | None] = {
    "read": ToolAnnotations(read_only_hint=True),
    "idempotent": ToolAnnotations(idempotent_hint=True),
    "once": None,
}


def toolbox_server(tools: Toolbox) -> MCPServer:
    """Return a server that offers the functions of the contract suite's toolbox."""
    server = MCPServer("toolbox", log_level="CRITICAL")
    for name, function in tools.functions().items():
        server.add_tool(_telling(function), name=name, annotations=HINTS[EFFECTS[name]])
    return server


def _telling(function: Tool) -> Tool:
    """Return `function`, whose refusals a server tells to its client."""

    @functools.wraps(function)
    async def run(**arguments: Any) -> Any:
        try:
            return await function(**arguments)
        except Refusal as error:
            raise ToolError(str(error)) from error

    run.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return run


SERVERS: dict[str, Callable[[], MCPServer]] = {
    "toolbox": lambda: toolbox_server(Toolbox()),
}


def serve_over_stdio(words: Sequence[str]) -> None:
    """Serve until stdin ends."""
    (kind,) = words
    SERVERS[kind]().run("stdio")


def serve_over_http(listener: socket.socket, words: Sequence[str]) -> None:
    """Serve for ever."""
    way, kind = words
    server = SERVERS[kind]()
    app = server.sse_app() if way == "sse" else server.streamable_http_app()
    uvicorn.Server(uvicorn.Config(app, log_level="critical")).run(sockets=[listener])
