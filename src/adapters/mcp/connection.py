"""The connection of one worker to one server: opened when it is needed, shared, opened again, closed.

MCP's SDK requires that a client is entered and left in the same task, and a client that has lost its server
cannot be used again. So a connection has several lives, one after another. A life is a task that opens a
client, waits, and closes it. All callers share the client of the current life. A life ends

- when there was no call for some time, or the worker stops;
- when the server has gone: a call fails, or the child process ends;
- when the client cannot be trusted any more. Calls that are under way may finish; new calls use a new life.

The next call begins a new life. After failed lives there is a pause first, which grows with each failure.
During a long pause callers do not wait: they get the error of the last life at once.
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
    from outlast.adapters.mcp.sdk.connection_life import Life
    from outlast.adapters.mcp.sdk.offered_tools import OfferedTools

logger = logging.getLogger("outlast.mcp")

PAUSE_SECONDS_MIN = 0.1
PAUSE_SECONDS_MAX = 30.0
PAUSE_SECONDS_WAITED = 1.0
SENDINGS_MAX = 3
"""The number of lives that may end before one call was sent. After that the call fails."""


@asynccontextmanager
async def open_connection(server: McpServer) -> AsyncIterator[Connection]:
    """Yield the connection to `server`. It is opened when it is first used, and closed after the block.

    Raises:
        MissingExtra: MCP's SDK is not installed.
    """
    # In a thread: the import takes a second, and the worker must go on renewing its leases.
    life = await asyncio.to_thread(_load)
    connection = Connection(server, life)
    try:
        yield connection
    finally:
        await connection.close()


def _load() -> type[Life]:
    life: type[Life] = importlib.import_module("outlast.adapters.mcp.sdk.connection_life").Life
    return life


class Connection:
    """The connection to one server, with its lives."""

    def __init__(self, server: McpServer, make: type[Life]) -> None:
        self._server = server
        self._make = make
        self._lives: set[Life] = set()
        self._life: Life | None = None
        self._failures = 0
        self._not_before = 0.0
        self._reason: BaseException = ToolServerUnavailable(server.name, "it closes every connection")
        self._closed = False

    async def tools(self) -> OfferedTools:
        """Return the tools in the latest list of the server.

        Raises:
            ToolServerError, ToolServerUnavailable: the server cannot be reached, or its list is not valid.
        """
        return await (await self._alive()).listed()

    async def call(self, tool: str, arguments: dict[str, JSON], known: str | None) -> ToolOutput:
        """Call a tool once. It raises the errors of `ServerConfig.call`."""
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
        """End every life; return when all of them are closed."""
        self._closed = True
        for life in list(self._lives):
            life.end()
        if self._lives:
            await asyncio.wait([life.task for life in self._lives])

    async def _alive(self) -> Life:
        """Return a life that is open; begin one if there is none."""
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
