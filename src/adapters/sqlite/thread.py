"""An SQLite connection in a thread of its own, because calls of SQLite would block the event loop.

The thread is not one of `concurrent.futures`: for each call, an executor takes three locks and makes a second
future, which costs as much as reading a row.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

Result = TypeVar("Result")


class ConnectionThread:
    """A connection and the only thread that uses it. Calls run there one after another."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], name: str) -> None:
        self._connect = connect
        self._connection: sqlite3.Connection | None = None
        self._calls: SimpleQueue[tuple[asyncio.Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        # A process that ends does not wait for this thread: what it has not committed never happened.
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)

    async def open(self) -> None:
        self._thread.start()
        await self._do(self._open)

    def run(self, call: Callable[[sqlite3.Connection], Result]) -> asyncio.Future[Result]:
        """Return the result of `call`, when it is awaited.

        A cancelled call does not begin; one that has begun goes on to its end.
        """
        return self._do(lambda: self._run(call))

    async def close(self) -> None:
        """Wait for the calls that were made; then close the connection and end the thread."""
        if not self._thread.is_alive():
            return
        try:
            await self._do(self._close)
        finally:
            self._calls.put(None)
            self._thread.join()

    def _do(self, call: Callable[[], Result]) -> asyncio.Future[Result]:
        future = asyncio.get_running_loop().create_future()
        self._calls.put((future, call))
        return future

    def _serve(self) -> None:
        while (job := self._calls.get()) is not None:
            future, call = job
            if not future.cancelled():
                outcome: Any = None
                error: BaseException | None = None
                try:
                    outcome = call()
                except BaseException as raised:
                    error = raised
                # When the loop is closed, nobody waits any more.
                with suppress(RuntimeError):
                    future.get_loop().call_soon_threadsafe(_settle, future, outcome, error)
                del outcome, error
            # What the call holds is let go before the next one, which may come late.
            del job, future, call

    def _open(self) -> None:
        self._connection = self._connect()

    def _run(self, call: Callable[[sqlite3.Connection], Result]) -> Result:
        assert self._connection is not None
        return call(self._connection)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()


def _settle(future: asyncio.Future[Any], outcome: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(outcome)
    else:
        future.set_exception(error)
