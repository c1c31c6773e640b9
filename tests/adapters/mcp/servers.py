"""The servers of the tests, by the words that a command names them with."""

from __future__ import annotations

import asyncio
import functools
import inspect
import itertools
import json
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import uvicorn
from mcp import Client, types
from mcp.server import Server
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.stdio import stdio_server
from mcp.types import (
    AudioContent,
    BlobResourceContents,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
    ToolAnnotations,
)

from outlast.ports.tools import Effect
from outlast.testing.contracts.tools.contract import EFFECTS, Refusal, Tool, Toolbox

READ = ToolAnnotations(read_only_hint=True)
HINTS: dict[Effect, ToolAnnotations | None] = {
    "read": READ,
    "idempotent": ToolAnnotations(idempotent_hint=True),
    "once": None,
}


def toolbox_server(tools: Toolbox) -> MCPServer:
    """Return a server that offers the functions of the contract suite's toolbox."""
    server = MCPServer("toolbox", log_level="CRITICAL")
    for name, function in tools.functions().items():
        server.add_tool(_publishing(function), name=name, annotations=HINTS[EFFECTS[name]])
    return server


def _publishing(function: Tool) -> Tool:
    """Return `function`; the server sends its refusals to the client."""

    @functools.wraps(function)
    async def run(**arguments: Any) -> Any:
        try:
            return await function(**arguments)
        except Refusal as error:
            raise ToolError(str(error)) from error

    run.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]  # where inspect looks
    return run


def troubled_server() -> MCPServer:
    """Return a server whose tools do all that a client must live with."""
    server = MCPServer("troubled", log_level="CRITICAL")
    calls: Counter[str] = Counter()

    @server.tool(annotations=READ)
    async def sleep(seconds: float) -> str:
        """Sleep."""
        calls["sleep"] += 1
        await asyncio.sleep(seconds)
        return "slept"

    @server.tool(annotations=READ)
    async def count(tool: str) -> int:
        """Return how often a tool was called in this process."""
        return calls[tool]

    @server.tool(annotations=READ)
    def wait(gate: str) -> str:
        """Wait until there is a file, and count the attempts beside it, over all processes."""
        number = next(n for n in itertools.count(1) if not Path(f"{gate}.{n}").exists())
        Path(f"{gate}.{number}").touch()
        while not Path(gate).exists():
            time.sleep(0.01)
        return f"passed at the attempt {number}"

    @server.tool()
    async def lock(status: int) -> str:
        """Have every further request over HTTP answered with a status."""
        LOCKED.append(status)
        return "locked"

    @server.tool()
    async def die() -> str:
        """End the server's process."""
        os._exit(1)

    @server.tool(annotations=READ, structured_output=False)
    async def big(size: int) -> str:
        """Return a text of a size."""
        return "x" * size

    @server.tool(annotations=READ)
    async def flood(lines: int, ctx: Context) -> str:
        """Write more than anybody wants to read, in every way there is."""
        for number in range(lines):
            await ctx.report_progress(number, lines, "y" * 100)
        sys.stderr.write("z" * 100 * lines + "\n" + "noise\n" * lines)
        sys.stderr.flush()
        return "done"

    @server.tool(annotations=READ)
    async def ramble(size: int) -> str:
        """Write to stdout, past the SDK, and never end the line."""
        await asyncio.to_thread(_write, b"x" * size)
        return "done"

    @server.tool(annotations=READ)
    async def mumble() -> str:
        """Write a line to stdout that is not UTF-8."""
        _write(b"\xff\xfe \xc3\n")
        return "said"

    @server.tool()
    async def rename(old: str, new: str, ctx: Context) -> str:
        """Give a tool that says hello another name."""
        if old:
            server.remove_tool(old)
        server.add_tool(hello, name=new)
        await ctx.notify_tools_changed()
        return "renamed"

    async def hello() -> str:
        """Say hello."""
        return "hello"

    @server.tool()
    async def make_shout(ctx: Context, compatibly: bool = False, quietly: bool = False) -> str:
        """Let `shout` take another argument, or want it."""
        server.remove_tool("shout")
        server.add_tool(louder_perhaps if compatibly else louder, name="shout")
        server.add_tool(hello, name="marked")
        if not quietly:
            await ctx.notify_tools_changed()
        return "changed"

    @server.tool()
    async def shout(text: str) -> str:
        """Shout."""
        return text.upper()

    async def louder(text: str, times: int) -> str:
        """Shout several times."""
        return text.upper() * times

    async def louder_perhaps(text: str, times: int = 1) -> str:
        """Shout, perhaps several times."""
        return text.upper() * times

    @server.tool(annotations=READ, structured_output=False)
    async def environment() -> str:
        """Return all variables of the process, as JSON."""
        return json.dumps(dict(os.environ))

    @server.tool(annotations=READ, structured_output=False)
    async def headers(ctx: Context) -> str:
        """Return the headers of the request, as JSON."""
        return json.dumps(dict(ctx.headers or {}))

    @server.tool(annotations=READ, structured_output=False)
    async def everything() -> list[Any]:
        """Return content of every kind."""
        text = TextResourceContents(uri="file:///a.txt", text="a file")
        blob = BlobResourceContents(uri="file:///a.pdf", blob="AAAA", mime_type="application/pdf")
        image = BlobResourceContents(uri="file:///a.png", blob="BBBB", mime_type="image/png")
        return [
            TextContent(text="text"),
            ImageContent(data="CCCC", mime_type="image/jpeg"),
            AudioContent(data="DDDD", mime_type="audio/wav"),
            ResourceLink(uri="file:///a.md", name="a.md"),
            *(EmbeddedResource(resource=resource) for resource in (text, blob, image)),
        ]

    return server


STDOUT: list[int] = []
"""The stream that the client reads: the SDK lets nobody else write to the file descriptor 1."""


def _write(data: bytes) -> None:
    with os.fdopen(os.dup(STDOUT[0]), "wb") as stdout:
        stdout.write(data)


def listing_server(
    pages_of: Callable[[int], Sequence[types.Tool]], last: int | None, pages: int | None = None
) -> Server[Any]:
    """Return a server whose tools come in pages, and say their names.

    Without a last page the list has no end; a number of `pages` comes again and again.
    """

    async def list_tools(_: Any, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        page = int(params.cursor) if params is not None and params.cursor is not None else 0
        following = None if page == last else str((page + 1) % (pages or sys.maxsize))
        return types.ListToolsResult(tools=list(pages_of(page)), next_cursor=following)

    async def call_tool(_: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        return types.CallToolResult(content=[TextContent(text=params.name)], structured_content={"far": 1})

    return Server("listing", on_list_tools=list_tools, on_call_tool=call_tool)


def plain(name: str, **schema: Any) -> types.Tool:
    return types.Tool(name=name, input_schema={"type": "object", **schema})


def page_of_500(page: int) -> Sequence[types.Tool]:
    return [plain(f"tool{page * 500 + number:04}") for number in range(500)]


SERVERS: dict[str, Callable[[], MCPServer | Server[Any]]] = {
    "toolbox": lambda: toolbox_server(Toolbox()),
    "troubled": troubled_server,
    "paged": lambda: listing_server(page_of_500, last=2),
    "endless": lambda: listing_server(page_of_500, last=None),
    "circling": lambda: listing_server(lambda page: [plain(f"tool{page}")], last=None, pages=3),
    "clashing": lambda: listing_server(lambda page: [plain("a b"), plain("a_b")], last=0),
}


READY: dict[str, MCPServer | Server[Any]] = {}
"""Servers that are made already, for the forks of this process."""


def make_ready() -> None:
    """Do what takes time, once: make every server, and use one so that all it imports is there."""
    READY.update({kind: make() for kind, make in SERVERS.items()})

    async def use() -> None:
        async with Client(toolbox_server(Toolbox()), mode="legacy") as client:
            await client.list_tools()
            await client.call_tool("echo", {"text": "warm"})

    asyncio.run(use())
    sample = toolbox_server(Toolbox())
    for app in (sample.sse_app(), sample.streamable_http_app()):
        uvicorn.Config(app, log_level="critical").load()


def serve_over_stdio(words: Sequence[str]) -> None:
    """Serve until stdin ends."""
    (kind,) = words
    STDOUT.append(os.dup(1))
    server = READY[kind]
    if isinstance(server, MCPServer):
        server.run("stdio")
        return

    async def serve() -> None:
        async with stdio_server() as (reading, writing):
            await server.run(reading, writing, server.create_initialization_options())

    asyncio.run(serve())


LOCKED: list[int] = []
"""The status that a server over HTTP answers everything with, after a test has set it."""


def _behind_a_gate(app: Any) -> Any:
    """Return `app` with redirects from paths below `/old`; it can be locked."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
        elif scope["path"].startswith("/old/"):
            moved = [(b"location", scope["path"].removeprefix("/old").encode())]
            await send({"type": "http.response.start", "status": 307, "headers": moved})
            await send({"type": "http.response.body", "body": b""})
        elif LOCKED:
            await send({"type": "http.response.start", "status": LOCKED[-1], "headers": []})
            await send({"type": "http.response.body", "body": b""})
        else:
            await app(scope, receive, send)

    return answer


def serve_over_http(listener: socket.socket, words: Sequence[str]) -> None:
    """Serve for ever."""
    way, kind = words
    server = READY[kind]
    assert isinstance(server, MCPServer)
    app = server.sse_app() if way == "sse" else server.streamable_http_app()
    uvicorn.Server(uvicorn.Config(_behind_a_gate(app), log_level="critical", lifespan="on")).run(
        sockets=[listener]
    )
