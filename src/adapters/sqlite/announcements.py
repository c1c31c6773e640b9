"""Announcements: waking callers that wait for a change, made by this process or by another one.

The writer of the store announces its own changes. Changes of other connections, in this or another process,
are seen in two ways. Where the system reports that a file was written (Linux does), the next look follows at
once. And while someone waits, the file is looked at every few milliseconds; to look is to ask SQLite for the
`data_version`, which reads shared memory and not the file. A waiter that is woken checks its own condition,
so it does no harm to wake too many.
"""

from __future__ import annotations

import asyncio
import math
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

from outlast.adapters.sqlite.file_changes import FileChanges
from outlast.adapters.sqlite.thread import ConnectionThread
from outlast.ports.clock import Clock

LOOKS_APART_SECONDS = 0.003
"""The shortest time between two looks at the file."""

LOOKS_AFTER_A_WRITE = 16
"""The most looks for one report; what takes longer to reach the disk is seen at the next regular look."""


@dataclass(eq=False, slots=True)
class _Waiter:
    """One caller that waits."""

    beyond: float
    """The length of the journal that is not enough to wake it."""
    woken: asyncio.Event = field(default_factory=asyncio.Event)


class SqliteAnnouncements:
    """The waiters of one store by topic: the id of an execution for its journal, None for claimable work.

    Args:
        changes: Reports when another process has written; None where the system cannot.
        poll_seconds: The longest time between two looks at the file while someone waits.
    """

    def __init__(
        self, thread: ConnectionThread, clock: Clock, changes: FileChanges | None, poll_seconds: float
    ) -> None:
        self._thread = thread
        self._clock = clock
        self._changes = changes
        self._poll_seconds = poll_seconds
        self._waiters: dict[str | None, set[_Waiter]] = {}
        self._polling: asyncio.Task[None] | None = None
        self._data_version: int | None = None

    async def until(
        self,
        topic: str | None,
        condition: Callable[[], Awaitable[bool]],
        timeout_seconds: float,
        *,
        beyond: float = -math.inf,
    ) -> None:
        """Return once `condition` is true, or after the timeout.

        The condition is checked at once, and again after each announcement of `topic` with a length above
        `beyond`.
        """
        waiter = _Waiter(beyond)
        self._waiters.setdefault(topic, set()).add(waiter)
        if self._polling is None:
            self._polling = asyncio.create_task(self._poll())
        time_is_up = asyncio.ensure_future(self._clock.sleep(timeout_seconds))
        time_is_up.add_done_callback(lambda _: waiter.woken.set())
        try:
            while not await condition() and not time_is_up.done():
                await waiter.woken.wait()
                waiter.woken.clear()
        finally:
            time_is_up.cancel()
            self._waiters[topic].discard(waiter)
            if not self._waiters[topic]:
                del self._waiters[topic]
            if not self._waiters:
                self._stop_polling()

    def announce(self, lengths: Mapping[str, float], *, new_work: bool) -> None:
        """Wake who waits for longer journals; and, with `new_work`, who waits for claimable work."""
        for id, length in lengths.items():
            for waiter in self._waiters.get(id, ()):
                if length > waiter.beyond:
                    waiter.woken.set()
        if new_work:
            self._wake(self._waiters.get(None, ()))

    def close(self) -> None:
        """Stop polling, and wake every waiter once."""
        self._stop_polling()
        self._wake_all()
        if self._changes is not None:
            self._changes.close()

    def _wake_all(self) -> None:
        for waiters in self._waiters.values():
            self._wake(waiters)

    @staticmethod
    def _wake(waiters: Iterable[_Waiter]) -> None:
        for waiter in waiters:
            waiter.woken.set()

    def _stop_polling(self) -> None:
        if self._polling is not None:
            self._polling.cancel()
            self._polling = None

    async def _poll(self) -> None:
        # Real time on purpose: other processes do not follow a virtual clock.
        while True:
            if self._changes is None:
                await asyncio.sleep(self._poll_seconds)
                await self._look()
            elif await self._changes.wait(self._poll_seconds):
                # What was written can be seen only when it is on the disk.
                for _ in range(LOOKS_AFTER_A_WRITE):
                    has_changed = await self._look()
                    await asyncio.sleep(LOOKS_APART_SECONDS)
                    if has_changed:
                        break
            else:
                await self._look()

    async def _look(self) -> bool:
        """Wake every waiter if another connection has changed the file; return whether it has."""
        try:
            changed = await self._thread.run(self._has_changed)
        except sqlite3.Error:
            # Each waiter checks its own condition now, and raises if the file cannot be read.
            changed = True
        if changed:
            self._wake_all()
        return changed

    def _has_changed(self, connection: sqlite3.Connection) -> bool:
        (data_version,) = connection.execute("PRAGMA data_version").fetchone()
        known, self._data_version = self._data_version, data_version
        return known != self._data_version
