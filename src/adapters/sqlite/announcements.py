"""Announcements: waking callers that wait for a change, made by this process or by another one.

The writer of the store announces its own changes. Changes of other connections, in this or another process,
are found by polling: while someone waits, SQLite is asked for the `data_version` of the file every few
milliseconds, which reads shared memory and not the file. A waiter that is woken checks its own condition, so
it does no harm to wake too many.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterable

from outlast.adapters.sqlite.thread import ConnectionThread
from outlast.ports.clock import Clock


class SqliteAnnouncements:
    """The waiters of one store by topic: the id of an execution for its journal, None for claimable work."""

    def __init__(self, thread: ConnectionThread, clock: Clock, poll_seconds: float) -> None:
        self._thread = thread
        self._clock = clock
        self._poll_seconds = poll_seconds
        self._waiters: dict[str | None, set[asyncio.Event]] = {}
        self._polling: asyncio.Task[None] | None = None
        self._data_version: int | None = None

    async def until(
        self, topic: str | None, condition: Callable[[], Awaitable[bool]], timeout_seconds: float
    ) -> None:
        """Return once `condition` is true, or after the timeout.

        The condition is checked at once, and again after each announcement of `topic`.
        """
        waiter = asyncio.Event()
        self._waiters.setdefault(topic, set()).add(waiter)
        if self._polling is None:
            self._polling = asyncio.create_task(self._poll())
        time_is_up = asyncio.ensure_future(self._clock.sleep(timeout_seconds))
        time_is_up.add_done_callback(lambda _: waiter.set())
        try:
            while not await condition() and not time_is_up.done():
                await waiter.wait()
                waiter.clear()
        finally:
            time_is_up.cancel()
            self._waiters[topic].discard(waiter)
            if not self._waiters[topic]:
                del self._waiters[topic]
            if not self._waiters:
                self._stop_polling()

    def announce(self, topics: Iterable[str | None]) -> None:
        for topic in topics:
            for waiter in self._waiters.get(topic, ()):
                waiter.set()

    def close(self) -> None:
        """Stop polling, and wake every waiter once."""
        self._stop_polling()
        self.announce(self._waiters)

    def _stop_polling(self) -> None:
        if self._polling is not None:
            self._polling.cancel()
            self._polling = None

    async def _poll(self) -> None:
        while True:
            # Real time on purpose: other processes do not follow a virtual clock.
            await asyncio.sleep(self._poll_seconds)
            try:
                changed = await self._thread.run(self._has_changed)
            except sqlite3.Error:
                # Each waiter checks its own condition now, and raises if the file cannot be read.
                changed = True
            if changed:
                self.announce(self._waiters)

    def _has_changed(self, connection: sqlite3.Connection) -> bool:
        (data_version,) = connection.execute("PRAGMA data_version").fetchone()
        known, self._data_version = self._data_version, data_version
        return known != self._data_version
