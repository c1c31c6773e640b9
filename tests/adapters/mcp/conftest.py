"""Fixtures of the tests of the MCP adapter."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from outlast.runtime.attempts.shared_resources import SharedResources
from tests.adapters.mcp.calling import Caller, server
from tests.adapters.mcp.serving import Nursery, nursery


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """A process that forks servers."""
    with nursery(tmp_path_factory.mktemp("mcp")) as process:
        yield process


@pytest.fixture
async def resources() -> AsyncIterator[SharedResources]:
    async with SharedResources() as shared:
        yield shared


@pytest.fixture
def calling(servers: Nursery, resources: SharedResources) -> Iterator[Callable[..., Caller]]:
    """Start a server and return its caller: by its way, its kind, and options of its configuration."""
    with ExitStack() as stack:

        def call(way: str = "stdio", kind: str = "troubled", **options: Any) -> Caller:
            return Caller(*stack.enter_context(server(servers, way, kind, **options)), resources)

        yield call
