"""A worker's view of one server."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import outlast
from outlast.adapters.mcp.config import ServerConfig
from outlast.core.agents import ToolSpec
from outlast.core.chunks import text_of
from outlast.core.json import JSON
from outlast.ports.resources import Resources
from outlast.ports.tools import ToolOutput
from tests.adapters.mcp.serving import Nursery, Servers

WAYS = ["stdio", "sse", "streamable"]
PATIENCE_SECONDS = 30.0
OBJECT: dict[str, JSON] = {"type": "object"}


def raw(result: JSON, *tools: JSON, **options: Any) -> outlast.MCPStdioConfig:
    """Return a server that lists just these tools, and answers every call with this."""
    arguments = ["-I", "-S", str(Path(__file__).with_name("raw.py")), json.dumps(tools), json.dumps(result)]
    return outlast.MCPStdioConfig(command=sys.executable, args=arguments, name="t", **options)


class Caller:
    """A worker's view of one server, which is called `t`."""

    def __init__(self, config: ServerConfig, servers: Servers, resources: Resources) -> None:
        self.config = config
        self.servers = servers
        self.resources = resources

    async def call(self, tool: str, /, **arguments: Any) -> ToolOutput:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.config.call(f"t_{tool}", arguments, self.resources)

    async def text(self, tool: str, /, **arguments: Any) -> str:
        output = await self.call(tool, **arguments)
        assert not output.is_error, output
        return text_of(output.content)

    async def tools(self) -> list[str]:
        return [tool.name.removeprefix("t_") for tool in await self.config.list_tools(self.resources)]

    async def spec(self, tool: str) -> ToolSpec:
        """Return the server's description of a tool."""
        return next(one for one in await self.config.list_tools(self.resources) if one.name == f"t_{tool}")

    async def until_listed(self, tool: str) -> None:
        """Return once the tool is there; the server's word of the change is on its way."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while tool not in await self.tools():  # noqa: ASYNC110 - another process brings it about
                await asyncio.sleep(0.01)


@contextmanager
def server(
    nursery: Nursery, way: str, kind: str, port: int = 0, **options: Any
) -> Iterator[tuple[ServerConfig, Servers]]:
    if way == "stdio":
        with nursery.stdio(kind) as stdio:
            yield outlast.MCPStdioConfig(command=stdio.command, args=stdio.args, name="t", **options), stdio
        return
    with nursery.http(way, kind, port=port) as http:
        if way == "sse":
            yield outlast.MCPSSEConfig(url=f"{http.url}/sse", name="t", **options), http
        else:
            yield outlast.MCPStreamableHTTPConfig(url=f"{http.url}/mcp", name="t", **options), http


async def until(holds: Callable[[], bool]) -> None:
    """Return once something is so that another process brings about."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():  # noqa: ASYNC110 - another process brings it about
            await asyncio.sleep(0.01)


def is_alive(process_id: int) -> bool:
    """Return whether the process lives: it exists, and is not a zombie."""
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def port_of(config: ServerConfig) -> int:
    assert isinstance(config, outlast.MCPSSEConfig | outlast.MCPStreamableHTTPConfig)
    port = urlsplit(config.url).port
    assert port is not None
    return port
