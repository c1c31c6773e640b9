"""Who waits for what to change, and hearing of the changes that other processes make.

Changes of this store are announced by its writer. Those of other connections, in this process or another,
are noticed by asking SQLite for the file's `data_version` every few milliseconds, and only while someone
waits: it costs a look into shared memory, not a read of the file. A waiter that is woken looks for itself
whether what it waits for has come, so waking too many is harmless.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterable

from outlast.adapters.sqlite.thread import ConnectionThread
from outlast.ports.clock import Clock


class SqliteAnnouncements:
    """The waiters of one store, by topic: an execution's id for its journal, None for work."""

    def __init__(self, thread: ConnectionThread, clock: Clock, poll_seconds: float) -> None:
        self._thread = thread
        self._clock = clock
        self._poll_seconds = poll_seconds
        self._bells: dict[str | None, set[asyncio.Event]] = {}
        self._polling: asyncio.Task[None] | None = None
        self._data_version: int | None = None

    async def until(
        self, topic: str | None, has_come: Callable[[], Awaitable[bool]], timeout_seconds: float
    ) -> None:
        """Return once `has_come`, which is asked again after each announcement of `topic`, or time is up."""
        bell = asyncio.Event()
        self._bells.setdefault(topic, set()).add(bell)
        if self._polling is None:
            self._polling = asyncio.create_task(self._poll())
        time_is_up = asyncio.ensure_future(self._clock.sleep(timeout_seconds))
        time_is_up.add_done_callback(lambda _: bell.set())
        try:
            while not await has_come() and not time_is_up.done():
                await bell.wait()
                bell.clear()
        finally:
            time_is_up.cancel()
            self._bells[topic].discard(bell)
            if not self._bells[topic]:
                del self._bells[topic]
            if not self._bells:
                self._stop_polling()

    def announce(self, topics: Iterable[str | None]) -> None:
        for topic in topics:
            for bell in self._bells.get(topic, ()):
                bell.set()

    def close(self) -> None:
        """Make every waiter look once more, and stop looking for changes."""
        self._stop_polling()
        self.announce(self._bells)

    def _stop_polling(self) -> None:
        if self._polling is not None:
            self._polling.cancel()
            self._polling = None

    async def _poll(self) -> None:
        while True:
            # Real time on purpose, not the clock's: other processes do not live by a virtual one.
            await asyncio.sleep(self._poll_seconds)
            try:
                changed = await self._thread.run(self._has_changed)
            except sqlite3.Error:
                # Every waiter now looks for itself, and is told what is wrong if something is.
                changed = True
            if changed:
                self.announce(self._bells)

    def _has_changed(self, connection: sqlite3.Connection) -> bool:
        (data_version,) = connection.execute("PRAGMA data_version").fetchone()
        known, self._data_version = self._data_version, data_version
        return known != self._data_version
