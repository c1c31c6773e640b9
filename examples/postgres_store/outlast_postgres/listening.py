"""Noticing what other processes change, by LISTEN and NOTIFY.

A transaction that changes something for others notifies the channel of its schema, and PostgreSQL passes that
on once the transaction is committed. A notice names an execution, the length of its journal, and whether a
worker may have something to do. It carries no facts that anybody trusts: it says that a look is worthwhile.

Who waits first begins to wait, then looks, and then sleeps until a notice. Notices are lost while the
connection is. So everybody is woken when it breaks, and again when there is a new one: thus no change is
missed, wherever it falls.

The connection is also asked for the time of the server, every few seconds: that keeps the clock right, and
shows that the connection is gone where no packet says so.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from outlast.core.errors import StorageError
from outlast.core.json import decode, encode
from outlast.ports.clock import Clock
from outlast_postgres.clock import ServerClock
from outlast_postgres.errors import DRIVER_ERRORS, translated

logger = logging.getLogger("outlast.postgres")

FIRST_RETRY_SECONDS = 0.05
LAST_RETRY_SECONDS = 2.0
ASK_EVERY_SECONDS = 10.0
CLOSE_SECONDS = 2.0

NOTIFY = "SELECT pg_notify($1, $2)"
_TIME = "SELECT extract(epoch FROM clock_timestamp())::double precision"


def notice(execution_id: str, length: int | None, *, work: bool = False) -> str:
    """Return the body of a notice: the journal has that length, or None if the execution has ended."""
    return encode([execution_id, length, work]).decode()


async def closed(connection: asyncpg.Connection) -> None:
    """Close the connection, by force if the server does not answer; afterwards nothing of it is open."""
    try:
        await connection.close(timeout=CLOSE_SECONDS)
    except DRIVER_ERRORS:
        connection.terminate()
        await asyncio.sleep(0)  # Its transport closes at the next turn of the loop.


@dataclass(eq=False, slots=True)
class Waiter:
    """One caller that waits."""

    beyond: float
    """The length of a journal that is not enough to wake it."""
    woken: asyncio.Event = field(default_factory=asyncio.Event)


class Listening:
    """The notices of one channel, on a connection of their own that is made again when it breaks."""

    def __init__(
        self, channel: str, connect: Callable[[], Awaitable[asyncpg.Connection]], place: str, clock: Clock
    ) -> None:
        self.work = 0
        """The number of notices of work so far, and of moments in which some may have been missed."""
        self._channel = channel
        self._connect = connect
        self._place = place
        self._clock = clock
        self._waiters: dict[str | None, set[Waiter]] = {}
        self._connection: asyncpg.Connection | None = None
        self._lost = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Return when every notice arrives; raises StorageError if the server cannot be reached."""
        try:
            await self._begin()
        except BaseException:
            await self._end()
            raise
        self._task = asyncio.create_task(self._go_on(), name="outlast postgres listening")

    async def close(self) -> None:
        """Close the connection and wake everybody."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        # Here and not in the task, which may be cancelled before it has begun.
        await self._end()
        self._wake_all()

    @contextmanager
    def waiting(self, execution_id: str | None, beyond: float = -math.inf) -> Iterator[Waiter]:
        """Yield a waiter for the journal of an execution, or with None for work."""
        waiter = Waiter(beyond)
        waiters = self._waiters.setdefault(execution_id, set())
        waiters.add(waiter)
        try:
            yield waiter
        finally:
            waiters.discard(waiter)
            if not waiters and self._waiters.get(execution_id) is waiters:
                del self._waiters[execution_id]

    async def sleep(self, waiter: Waiter, timeout_seconds: float) -> None:
        """Return when the waiter is woken, or when the time is up by the clock."""
        timer = self._clock.call_later(timeout_seconds, waiter.woken.set)
        try:
            await waiter.woken.wait()
        finally:
            timer.cancel()

    async def _go_on(self) -> None:
        delay_seconds = FIRST_RETRY_SECONDS
        while True:
            try:
                if self._connection is None:
                    await self._begin()
                    delay_seconds = FIRST_RETRY_SECONDS
                    self._wake_all()
                await self._keep()
            except StorageError as error:
                logger.warning("%s; changes are noticed late until the connection is back", error)
            await self._end()
            self._wake_all()
            await asyncio.sleep(delay_seconds)
            delay_seconds = min(2 * delay_seconds, LAST_RETRY_SECONDS)

    async def _begin(self) -> None:
        """Connect; when this returns, every notice from now on arrives."""
        self._lost.clear()
        self._connection = connection = await self._connect()
        with translated(self._place):
            connection.add_termination_listener(lambda _: self._lost.set())
            await connection.add_listener(self._channel, self._take)
            await self._ask_for_time(connection)

    async def _keep(self) -> None:
        """Return when the connection is lost; raises StorageError if it does not answer."""
        while self._connection is not None and not self._lost.is_set():
            # Real time on purpose: the server does not follow a virtual clock.
            with suppress(TimeoutError):
                async with asyncio.timeout(ASK_EVERY_SECONDS):
                    await self._lost.wait()
                return
            with translated(self._place):
                await self._ask_for_time(self._connection)

    async def _end(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await closed(connection)

    async def _ask_for_time(self, connection: asyncpg.Connection) -> None:
        async def server_time() -> float:
            return float(await connection.fetchval(_TIME))

        if isinstance(self._clock, ServerClock):
            await self._clock.synchronise(server_time)
        else:
            await server_time()

    def _take(self, connection: Any, pid: int, channel: str, payload: object) -> None:
        execution_id, length, work = decode(str(payload))
        for waiter in self._waiters.get(execution_id, ()):
            if length is None or length > waiter.beyond:
                waiter.woken.set()
        if work:
            self.work += 1
            for waiter in self._waiters.get(None, ()):
                waiter.woken.set()

    def _wake_all(self) -> None:
        self.work += 1
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.woken.set()
