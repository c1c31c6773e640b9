"""Any body of an MCP server, to any request, is an output or an error of ours."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus

from hypothesis import event, given

import outlast
from outlast.core.json import JSON
from outlast.runtime.attempts.shared_resources import SharedResources
from outlast.testing.contracts.examples import few_examples
from tests.listening import listening
from tests.spoiling import Spoiler, spoilers

ANSWERS: dict[str, JSON] = {
    "initialize": {
        "protocolVersion": "2025-06-18",
        "capabilities": {"tools": {"listChanged": True}},
        "serverInfo": {"name": "spoilt", "version": "1"},
        "instructions": "Look well.",
    },
    "tools/list": {
        "tools": [
            {
                "name": "look",
                "title": "Look",
                "description": "Look around.",
                "inputSchema": {"type": "object", "properties": {"where": {"type": "string"}}},
                "outputSchema": {"type": "object", "properties": {"seen": {"type": "array"}}},
                "annotations": {"readOnlyHint": True},
                "_meta": {"a": 1},
            }
        ],
    },
    "tools/call": {
        "content": [
            {"type": "text", "text": "a tree"},
            {"type": "image", "data": "QUFB", "mimeType": "image/png"},
            {"type": "resource_link", "uri": "file:///tree.md", "name": "tree"},
            {"type": "resource", "resource": {"uri": "file:///a.md", "text": "a", "mimeType": "text/plain"}},
        ],
        "structuredContent": {"seen": ["tree"]},
        "isError": False,
    },
}


@asynccontextmanager
async def server(spoiler: Spoiler) -> AsyncIterator[str]:
    """Yield the address of a server that answers as MCP prescribes, but for one spoilt answer."""
    left = spoiler.skip

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):  # the client has gone, which is its right
            await answer_whole(reader, writer)

    async def answer_whole(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal left
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        size = next((line for line in head.split("\r\n") if line.startswith("content-length:")), ":0")
        asked = await reader.readexactly(int(size.partition(":")[2]))
        status, body = HTTPStatus.METHOD_NOT_ALLOWED, b""
        if head.startswith("post"):
            request = json.loads(asked)
            status = HTTPStatus.OK if "id" in request else HTTPStatus.ACCEPTED
            if "id" in request:
                result = ANSWERS.get(request["method"], {})
                body = json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}).encode()
                if left == 0:
                    body = spoiler.spoil(body)
                left -= 1
        lines = [
            f"HTTP/1.1 {status.value} {status.phrase}",
            f"Content-Length: {len(body)}",
            "Content-Type: application/json",
            "Connection: close",
        ]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await writer.drain()

    async with listening(answer) as port:
        yield f"http://127.0.0.1:{port}/mcp"


@given(drawn=spoilers(3))
@few_examples(60)
async def test_any_body_of_a_server_is_an_output_or_an_error_of_ours(drawn: Spoiler) -> None:
    async with server(drawn) as url, SharedResources() as resources:
        config = outlast.MCPStreamableHTTPConfig(url=url, name="t", timeout=1, call_timeout=0.5)
        try:
            await config.list_tools(resources)
            output = await config.call("t_look", {"where": "here"}, resources)
            json.dumps(output.to_data("json"), allow_nan=False)
        except outlast.OutlastError as error:
            event(type(error).__name__)
        else:
            event("an error of the tool" if output.is_error else "an output")
