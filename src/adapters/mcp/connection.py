"""One server, as one worker is connected to it: opened when it is needed, shared, reopened, closed.

MCP's SDK insists that the task which enters a client leaves it, and has a client that was lost stay lost. So
each connection has a life, in a task of its own, which opens the client, waits, and closes it. Callers share
the client of the life of the day. A life ends

- when nobody has called for a while, or the worker stops;
- when its server has gone, be it noticed by a call or because a child process ended;
- when its connection is not to be trusted any more; calls under way may finish, new ones get a new life.

The next call begins a new life, after a pause that grows as long as lives fail. Nobody waits through a long
one: until it is over, whoever asks is told at once why the last life failed.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from outlast.adapters.mcp.server import McpServer, NotSent
from outlast.core.errors import ToolServerUnavailable
from outlast.core.json import JSON
from outlast.ports.tools import ToolOutput

if TYPE_CHECKING:
    from outlast.adapters.mcp.sdk.catalogue import ToolCatalogue
    from outlast.adapters.mcp.sdk.connection_life import Life

logger = logging.getLogger("outlast.mcp")

PAUSE_SECONDS_MIN = 0.1
PAUSE_SECONDS_MAX = 30.0
PAUSE_SECONDS_WAITED = 1.0
SENDINGS_MAX = 3
"""How many lives one call may see end before it was sent."""


@asynccontextmanager
async def open_connection(server: McpServer) -> AsyncIterator[Connection]:
    """Keep what connects a worker to `server`; nothing is opened until it is used.

    Raises:
        MissingExtra: MCP's SDK is not installed.
    """
    life = await asyncio.to_thread(_load)  # which takes a second, in which a worker has leases to renew
    connection = Connection(server, life)
    try:
        yield connection
    finally:
        await connection.close()


def _load() -> type[Life]:
    life: type[Life] = importlib.import_module("outlast.adapters.mcp.sdk.connection_life").Life
    return life


class Connection:
    """The lives of the connection to one server."""

    def __init__(self, server: McpServer, make: type[Life]) -> None:
        self._server = server
        self._make = make
        self._lives: set[Life] = set()
        self._life: Life | None = None
        self._failures = 0
        self._not_before = 0.0
        self._reason: BaseException = ToolServerUnavailable(server.name, "it ends every connection")
        self._closed = False

    async def catalogue(self) -> ToolCatalogue:
        """Return the tools, as the server listed them on this connection.

        Raises:
            ToolServerError, ToolServerUnavailable: it cannot be reached, or its list cannot be used.
        """
        return await (await self._alive()).listed()

    async def call(self, tool: str, arguments: dict[str, JSON], known: str | None) -> ToolOutput:
        """Call a tool once. See `ServerConfig.call` for what it raises."""
        reason = ""
        for _ in range(SENDINGS_MAX):
            life = await self._alive()
            try:
                output = await life.call(tool, arguments, known)
            except NotSent as error:
                reason = str(error)
                continue
            self._failures = 0
            return output
        raise ToolServerUnavailable(self._server.name, f"{reason}; the call of {tool!r} was not sent")

    async def close(self) -> None:
        """End every life, and return when nothing is left of any."""
        self._closed = True
        for life in list(self._lives):
            life.end()
        if self._lives:
            await asyncio.wait([life.task for life in self._lives])

    async def _alive(self) -> Life:
        """Return a life that is open, beginning one if there is none."""
        while True:
            if self._closed:
                raise ToolServerUnavailable(self._server.name, "this worker is stopping")
            life = self._life
            if life is not None and not life.retired:
                await asyncio.shield(life.ready)
                return life
            pause = self._not_before - asyncio.get_running_loop().time()
            if pause > PAUSE_SECONDS_WAITED:
                raise self._reason
            if pause > 0:
                await asyncio.sleep(pause)
                continue
            self._life = life = self._make(self._server)
            self._lives.add(life)
            life.task.add_done_callback(partial(self._ended, life))

    def _ended(self, life: Life, _: asyncio.Task[None]) -> None:
        self._lives.discard(life)
        if self._life is life:
            self._life = None
        if life.failed:
            pause = min(PAUSE_SECONDS_MIN * 2**self._failures, PAUSE_SECONDS_MAX)
            self._failures = min(self._failures + 1, 20)
            self._not_before = asyncio.get_running_loop().time() + pause
            self._reason = life.ready.exception() or self._reason
