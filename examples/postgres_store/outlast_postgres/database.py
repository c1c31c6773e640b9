"""The connections to the server that one object of this package uses, and how it calls them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, TypeVar, cast

import asyncpg

from outlast.core.errors import StorageUnavailable
from outlast.ports.clock import Clock
from outlast_postgres.errors import translated
from outlast_postgres.listening import Listening, closed
from outlast_postgres.schema import prepare
from outlast_postgres.settings import Settings

T = TypeVar("T")

CONNECTIONS_MAX = 8
LOCKS_KEPT_SECONDS = 2
"""The time after which the server ends a transaction whose process does nothing, and frees its locks.

A process can be stopped, or its event loop be blocked, between two statements. Others would wait for its
locks as long."""
ATTEMPTS = 3
"""The most times that a transaction is begun, if the server ends it."""


class Database:
    """A pool of connections, and one more that listens. It belongs to one event loop while it is open."""

    def __init__(self, settings: Settings, clock: Clock, channel: str) -> None:
        self.settings = settings
        self.channel = f"{channel}_{settings.schema}"
        self.listening = Listening(self.channel, self._listener, settings.place, clock)
        self._pool: asyncpg.Pool | None = None
        self._stack = AsyncExitStack()

    async def open(self) -> None:
        """Connect, bring the tables to the newest version, and listen; raises StorageError."""
        async with AsyncExitStack() as stack:
            connection = await self._connect("opening")
            try:
                with translated(self.settings.place):
                    await prepare(connection, self.settings.schema, self.settings.place)
            finally:
                await closed(connection)
            with translated(self.settings.place):
                self._pool = await asyncpg.create_pool(
                    min_size=0, max_size=CONNECTIONS_MAX, **self._arguments("calls")
                )
            stack.push_async_callback(self._close_pool)
            await self.listening.open()
            stack.push_async_callback(self.listening.close)
            self._stack = stack.pop_all()

    async def close(self) -> None:
        await self._stack.aclose()

    async def run(self, call: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        """Make the call with a connection of the pool; its outcome is settled when this returns or raises.

        Raises:
            StorageError: in the place of every error of the driver.
        """
        return await _settled(self._run(call))

    async def write(self, call: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        """Make the call in a transaction: all that it writes is kept, or nothing.

        If the server ends the transaction before its commit, nothing was written, and the call is made again.
        So the call does nothing else than to read and to write there.
        """
        attempts_left, is_undone = ATTEMPTS, False

        async def in_transaction(connection: asyncpg.Connection) -> T:
            nonlocal is_undone
            async with connection.transaction():
                is_undone = True
                result = await call(connection)
                # From here on, nobody knows whether a commit has arrived, until its answer comes.
                is_undone = connection.is_closed()
            return result

        while True:
            attempts_left, is_undone = attempts_left - 1, False
            try:
                return await self.run(in_transaction)
            except StorageUnavailable:
                if not (is_undone and attempts_left):
                    raise

    async def _run(self, call: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        if self._pool is None:
            raise StorageUnavailable(f"the store on {self.settings.place} is not open")
        with translated(self.settings.place):
            async with self._pool.acquire(timeout=self.settings.timeout_seconds) as connection:
                # It has the methods of the connection that it stands for.
                return await call(cast("asyncpg.Connection", connection))

    async def _listener(self) -> asyncpg.Connection:
        return await self._connect("listening")

    async def _connect(self, purpose: str) -> asyncpg.Connection:
        with translated(self.settings.place):
            return await asyncpg.connect(**self._arguments(purpose))

    def _arguments(self, purpose: str) -> dict[str, Any]:
        """Return the arguments of a connection; `pg_stat_activity` shows the purpose."""
        return {
            "dsn": self.settings.dsn,
            "timeout": self.settings.timeout_seconds,
            "command_timeout": self.settings.timeout_seconds,
            "server_settings": {
                "search_path": self.settings.schema,
                "application_name": f"outlast {self.settings.schema} {purpose}",
                "client_encoding": "UTF8",
                "default_transaction_isolation": "read committed",
                "idle_in_transaction_session_timeout": f"{LOCKS_KEPT_SECONDS}s",
            },
        }

    async def _close_pool(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            with translated(self.settings.place):
                await pool.close()


async def _settled(call: Coroutine[Any, Any, T]) -> T:
    """Return what the call returns. If this is cancelled, it first waits until the call has ended.

    Else somebody could see the records of a cancelled append appear a moment later.
    """
    task = asyncio.create_task(call)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # Nobody will ask for it.
        raise cancelled
    return task.result()
