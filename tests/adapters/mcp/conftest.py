"""What the tests of the MCP adapter share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.adapters.mcp.serving import Nursery, nursery


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """A process that forks servers."""
    with nursery(tmp_path_factory.mktemp("mcp")) as process:
        yield process
