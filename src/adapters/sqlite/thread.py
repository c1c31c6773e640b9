"""An SQLite connection in a thread of its own, because calls of SQLite would block the event loop."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


class ConnectionThread:
    """A connection and the only thread that uses it. Calls run there one after another."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], name: str) -> None:
        self._connect = connect
        self._connection: sqlite3.Connection | None = None
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def open(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._pool, self._open)

    async def run(self, call: Callable[[sqlite3.Connection], Result]) -> Result:
        """Return the result of `call`. A call that has begun goes on to its end even if this is cancelled."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._run, call)

    async def close(self) -> None:
        """Wait for the calls that were made; then close the connection and end the thread."""
        try:
            await asyncio.get_running_loop().run_in_executor(self._pool, self._close)
        finally:
            self._pool.shutdown()

    def _open(self) -> None:
        self._connection = self._connect()

    def _run(self, call: Callable[[sqlite3.Connection], Result]) -> Result:
        assert self._connection is not None
        return call(self._connection)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
