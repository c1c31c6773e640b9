"""HTTP servers that are not MCP servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from tests.listening import listening


@dataclass
class Answering:
    """A server that gives everybody the same answer."""

    port: int = 0
    requests: list[bytes] = field(default_factory=list)
    """The heads of the requests that came."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def answering(head: str | None, body: str = "") -> AsyncIterator[Answering]:
    """Yield a server that answers with this status line, these headers and this body, or never."""
    answers = Answering()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):  # the client has gone, which is its right
            answers.requests.append(await reader.readuntil(b"\r\n\r\n"))
            if head is None:
                await asyncio.Event().wait()
            size = len(body.encode())
            answer = f"HTTP/1.1 {head}\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n{body}"
            writer.write(answer.encode())
            await writer.drain()

    async with listening(answer) as answers.port:
        yield answers
