"""Servers that mean harm: what they do costs one call of their own, and neither memory nor other servers."""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

import outlast
from outlast.adapters.mcp.config import ServerConfig
from outlast.ports.tools import ToolOutput
from outlast.runtime.attempts.shared_resources import SharedResources
from outlast.testing.contracts.loop_watch import loop_that_goes_on
from tests.adapters.mcp.calling import Caller

pytestmark = pytest.mark.server

HOSTILE = [sys.executable, "-I", "-S", str(Path(__file__).with_name("hostile.py"))]
GROWN_BYTES_MAX = 150 << 20
HELD_SECONDS_MAX = 0.25
"""The time of the processor for which the event loop may be held: some 50 ms, and more on a slow machine."""

OVER_STDIO = ["logs", "pings", "unasked", "unreadable", "blanks", "junk", "drip", "stderr", "deaf", "large"]
OVER_HTTP = ["redirect", "error", "json", "event", "comments", "brotli", "not-gzip", "again", "drip"]
OVER_STREAMS = ["logs", "comment", "blanks"]
RESULTS = ["annotations", "blocks", "no-blocks", "values", "deep"]
CASES = [
    *(("stdio", kind) for kind in (*OVER_STDIO, *RESULTS)),
    *(("streamable", kind) for kind in (*OVER_HTTP, *OVER_STREAMS, *RESULTS)),
    *(("sse", kind) for kind in (*OVER_STREAMS, *RESULTS)),
]


@contextmanager
def hostile(way: str, kind: str, **options: Any) -> Iterator[ServerConfig]:
    """Yield the configuration of a hostile server, which ends after the block."""
    if way == "stdio":
        yield outlast.MCPStdioConfig(
            command=HOSTILE[0], args=[*HOSTILE[1:], "stdio", kind], name="h", **options
        )
        return
    process = subprocess.Popen([*HOSTILE, "http", kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        url = f"http://127.0.0.1:{int(process.stdout.readline())}"
        if way == "sse":
            yield outlast.MCPSSEConfig(url=f"{url}/sse", name="h", **options)
        else:
            yield outlast.MCPStreamableHTTPConfig(url=f"{url}/mcp", name="h", **options)
    finally:
        process.kill()
        process.communicate()


@asynccontextmanager
async def unharmed() -> AsyncIterator[None]:
    """Fail if the block takes much memory, or holds the event loop."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with loop_that_goes_on(HELD_SECONDS_MAX):
        yield
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < GROWN_BYTES_MAX, f"it took {grown >> 20} MiB"


async def outcome(config: ServerConfig, resources: SharedResources) -> ToolOutput | outlast.OutlastError:
    async with asyncio.timeout(30):
        try:
            return await config.call("h_harm", {}, resources)
        except outlast.OutlastError as error:
            return error


@pytest.mark.parametrize(("way", "kind"), CASES)
async def test_what_a_server_does_costs_only_its_own_call(
    way: str, kind: str, calling: Callable[..., Caller], resources: SharedResources
) -> None:
    other = calling()
    assert await other.text("sleep", seconds=0) == "slept"
    with hostile(way, kind, call_timeout=0.5) as config:
        await config.list_tools(resources)
        async with unharmed():
            harm = asyncio.create_task(outcome(config, resources))
            for _ in range(20):
                assert await asyncio.wait_for(other.text("sleep", seconds=0.02), 5) == "slept"
            end = await harm
            assert isinstance(end, outlast.OutlastError) or end.is_error
            if isinstance(end, outlast.ToolServerError):
                assert "MCP server 'h': " in str(end)
            assert len(str(end)) < 1000
        assert await other.text("sleep", seconds=0) == "slept"


EXPLAINED = {
    ("stdio", "values"): "a message with more than 50000 values; let the server send less at a time",
    ("stdio", "deep"): "a message with values that are nested more than 180 levels deep",
    ("stdio", "junk"): "to stdout without a message; it must write its log to stderr",
    ("streamable", "values"): "the answer was refused: it has more than 50000 values",
    ("streamable", "deep"): "the answer was refused: it has values that are nested more than 180 levels deep",
    ("streamable", "json"): "the answer was refused: it has more than 8 MiB; let the server send less",
    ("streamable", "event"): "the answer was refused: it has more than 8 MiB in one event",
    ("streamable", "comments"): "the answer was refused: it has more than 8 MiB in one event",
    ("streamable", "brotli"): "it cannot be decompressed: its body is compressed with 'br'",
    ("streamable", "not-gzip"): "it cannot be decompressed",
    ("streamable", "blocks"): "it has 5000 content blocks, and at most 1000 are read",
    ("sse", "values"): "the stream of its messages was refused: it has more than 50000 values in one event",
}


@pytest.mark.parametrize(("way", "kind"), sorted(EXPLAINED))
async def test_an_error_says_what_was_too_much(way: str, kind: str, resources: SharedResources) -> None:
    with hostile(way, kind, call_timeout=20) as config:
        end = await outcome(config, resources)
    assert EXPLAINED[way, kind] in str(end)
    assert not getattr(end, "retryable", False)


@pytest.mark.parametrize("way", ["streamable", "sse", "stdio"])
async def test_a_greeting_that_is_too_large_is_not_read(way: str, resources: SharedResources) -> None:
    with hostile(way, "greeting") as config:
        async with unharmed():
            with pytest.raises(outlast.ToolServerError, match="sent an answer that is not valid MCP"):
                await config.list_tools(resources)


@pytest.mark.parametrize("way", ["streamable", "sse", "stdio"])
async def test_a_server_that_means_no_harm_is_served(way: str, resources: SharedResources) -> None:
    with hostile(way, "fine") as config:
        assert await config.call("h_harm", {}, resources) == ToolOutput(content="fine")
