"""The tools contract over every transport."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

import outlast
from outlast.testing.contracts.tools.contract import ToolsCapability, ToolsContract, ToolsWorld
from tests.adapters.mcp.serving import Nursery

pytestmark = pytest.mark.server

NAME = "box"
PREFIX = "box_"


class OverMCP(ToolsContract):
    """The contract of a server that offers the toolbox."""

    capabilities = frozenset(ToolsCapability)

    @pytest.fixture(autouse=True)
    def _servers(self, servers: Nursery) -> None:
        self.servers = servers


class TestStdio(OverMCP):
    @asynccontextmanager
    async def open(self) -> AsyncIterator[ToolsWorld]:
        with self.servers.stdio("toolbox") as server:
            config = outlast.MCPStdioConfig(command=server.command, args=server.args, name=NAME)
            yield ToolsWorld(config, server.close, PREFIX)


class TestSSE(OverMCP):
    @asynccontextmanager
    async def open(self) -> AsyncIterator[ToolsWorld]:
        with self.servers.http("sse", "toolbox") as server:
            yield ToolsWorld(outlast.MCPSSEConfig(url=f"{server.url}/sse", name=NAME), server.close, PREFIX)


class TestStreamableHTTP(OverMCP):
    @asynccontextmanager
    async def open(self) -> AsyncIterator[ToolsWorld]:
        with self.servers.http("streamable", "toolbox") as server:
            config = outlast.MCPStreamableHTTPConfig(url=f"{server.url}/mcp", name=NAME)
            yield ToolsWorld(config, server.close, PREFIX)
