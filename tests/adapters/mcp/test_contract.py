"""The tools contract over every transport."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

import durable_agents as da
from durable_agents.testing.tools_contract import Capability, ToolsContract, World
from tests.adapters.mcp.serving import Nursery

pytestmark = pytest.mark.server

NAME = "box"
PREFIX = "box_"


class OverMCP(ToolsContract):
    """The contract of a server that offers the toolbox."""

    capabilities = frozenset(Capability)

    @pytest.fixture(autouse=True)
    def _servers(self, servers: Nursery) -> None:
        self.servers = servers


class TestStdio(OverMCP):
    @asynccontextmanager
    async def open(self) -> AsyncIterator[World]:
        with self.servers.stdio("toolbox") as server:
            config = da.MCPStdioConfig(command=server.command, args=server.args, name=NAME)
            yield World(config, server.close, PREFIX)


class TestSSE(OverMCP):
    @asynccontextmanager
    async def open(self) -> AsyncIterator[World]:
        with self.servers.http("sse", "toolbox") as server:
            yield World(da.MCPSSEConfig(url=f"{server.url}/sse", name=NAME), server.close, PREFIX)


class TestStreamableHTTP(OverMCP):
    @asynccontextmanager
    async def open(self) -> AsyncIterator[World]:
        with self.servers.http("streamable", "toolbox") as server:
            config = da.MCPStreamableHTTPConfig(url=f"{server.url}/mcp", name=NAME)
            yield World(config, server.close, PREFIX)
