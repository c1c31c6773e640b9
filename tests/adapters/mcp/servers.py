"""The servers of the tests, by the words that a command names them with."""

from __future__ import annotations

import asyncio
import functools
import inspect
import socket
from collections.abc import Callable, Sequence
from typing import Any

import uvicorn
from mcp import Client
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


READY: dict[str, MCPServer] = {}
"""Servers that are made already, for the forks of this process."""


def make_ready() -> None:
    """Do what takes time, once: make every server, and use one so that all it imports is there."""
    READY.update({kind: make() for kind, make in SERVERS.items()})

    async def use() -> None:
        async with Client(SERVERS["toolbox"](), mode="legacy") as client:
            await client.list_tools()
            await client.call_tool("echo", {"text": "warm"})

    asyncio.run(use())
    for app in (READY["toolbox"].sse_app(), SERVERS["toolbox"]().streamable_http_app()):
        uvicorn.Config(app, log_level="critical").load()


def serve_over_stdio(words: Sequence[str]) -> None:
    """Serve until stdin ends."""
    (kind,) = words
    READY[kind].run("stdio")


def serve_over_http(listener: socket.socket, words: Sequence[str]) -> None:
    """Serve for ever."""
    way, kind = words
    server = READY[kind]
    app = server.sse_app() if way == "sse" else server.streamable_http_app()
    uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="on")).run(sockets=[listener])
