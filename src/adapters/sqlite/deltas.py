"""Deltas in an SQLite file of their own, beside the file of the store.

Every process that has the store open reads this file. It costs the journal nothing: nothing is flushed to
disk, and writers of deltas never block writers of the journal. The file can be deleted while no process runs.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from outlast.adapters.sqlite.errors import is_busy, storage_error
from outlast.adapters.sqlite.schema import RETRY_SECONDS
from outlast.adapters.sqlite.thread import ConnectionThread
from outlast.core.errors import StorageCorrupt
from outlast.core.event_stream import Delta
from outlast.ports.clock import Clock
from outlast.ports.deltas import KEEP_SECONDS, Deltas

T = TypeVar("T")

VERSION: Final = 1
_TABLES: Final = (
    "DROP TABLE IF EXISTS delta",
    """
    CREATE TABLE delta (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        execution TEXT NOT NULL,
        step TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        text TEXT NOT NULL,
        at REAL NOT NULL
    ) STRICT
    """,
    "CREATE INDEX delta_execution ON delta (execution, number)",
    "CREATE INDEX delta_step ON delta (execution, step, at)",
    "PRAGMA user_version = 1",
)
_INSERT: Final = """
INSERT INTO delta (execution, step, attempt, sequence, text, at) VALUES (?, ?, ?, ?, ?, ?)
"""
_FORGET: Final = """
DELETE FROM delta WHERE (execution, step) IN (
    SELECT execution, step FROM delta GROUP BY execution, step HAVING max(at) <= ?
)
"""
_FORGET_EVERY_SECONDS: Final = 10.0


class SqliteDeltas(Deltas):
    """Deltas in the file `<path>-deltas`, which is created with the first delta."""

    def __init__(
        self, path: Path, clock: Clock, *, poll_seconds: float = 0.02, busy_timeout_seconds: float = 1.0
    ) -> None:
        self._path = path.with_name(f"{path.name}-deltas")
        self._clock = clock
        self._poll_seconds = poll_seconds
        self._busy_timeout_seconds = busy_timeout_seconds
        self._opening: asyncio.Task[ConnectionThread] | None = None
        self._forget_at = 0.0

    async def __aenter__(self) -> SqliteDeltas:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._opening is None:
            return
        opening, self._opening = self._opening, None
        await asyncio.wait([opening])
        if not opening.cancelled() and opening.exception() is None:
            await opening.result().close()

    async def publish(self, execution_id: str, delta: Delta) -> None:
        now = self._clock.now()
        is_due = now >= self._forget_at
        if is_due:
            self._forget_at = now + _FORGET_EVERY_SECONDS
        row = (execution_id, delta.key, delta.attempt, delta.sequence, delta.text, delta.at)

        def write(connection: sqlite3.Connection) -> None:
            if is_due:
                connection.execute(_FORGET, (now - KEEP_SECONDS,))
            connection.execute(_INSERT, row)

        await self._run(write)

    async def read(self, execution_id: str, after: str) -> tuple[Sequence[Delta], str]:
        if not self._path.exists():
            return (), after

        def rows(connection: sqlite3.Connection) -> list[tuple[int, str, int, int, str, float]]:
            return connection.execute(
                "SELECT number, step, attempt, sequence, text, at FROM delta"
                " WHERE execution = ? AND number > ? ORDER BY number",
                (execution_id, int(after or 0)),
            ).fetchall()

        found = await self._run(rows)
        deltas = [Delta(key, attempt, sequence, text, at) for _, key, attempt, sequence, text, at in found]
        return deltas, str(found[-1][0]) if found else after

    async def follow(self, execution_id: str, after: str, timeout_seconds: float) -> None:
        time_is_up = asyncio.ensure_future(self._clock.sleep(timeout_seconds))
        try:
            while not (await self.read(execution_id, after))[0] and not time_is_up.done():
                # Real time on purpose: other processes do not follow a virtual clock.
                await asyncio.wait([time_is_up], timeout=self._poll_seconds)
        finally:
            time_is_up.cancel()

    async def _run(self, call: Callable[[sqlite3.Connection], T]) -> T:
        try:
            # All callers share the opening. It is shielded, so that cancelling one caller does not end it.
            if self._opening is None or (self._opening.done() and self._opening.exception() is not None):
                self._opening = asyncio.create_task(self._open())
            thread = await asyncio.shield(self._opening)
            return await thread.run(call)
        except sqlite3.Error as error:
            ours = storage_error(error, self._path)
            if isinstance(ours, StorageCorrupt):
                ours = StorageCorrupt(
                    f"{self._path} is damaged; stop all processes that use it and delete it: it has only the "
                    "text of replies that are still being written"
                )
            raise ours from error

    async def _open(self) -> ConnectionThread:
        thread = ConnectionThread(self._connect, "sqlite deltas")
        try:
            await thread.open()
        except BaseException:
            await thread.close()
            raise
        return thread

    def _connect(self) -> sqlite3.Connection:
        give_up_at = time.monotonic() + self._busy_timeout_seconds
        while True:
            connection = sqlite3.connect(self._path, timeout=self._busy_timeout_seconds, isolation_level=None)
            try:
                _prepare(connection)
            except sqlite3.Error as error:
                connection.close()
                # Two processes that switch a new file to WAL at the same time block each other, and SQLite
                # does not use its busy handler there.
                if not is_busy(error) or time.monotonic() > give_up_at:
                    raise
                time.sleep(RETRY_SECONDS)
            else:
                return connection


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("BEGIN IMMEDIATE")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version != VERSION:
        # Another version wrote these deltas; no reader waits for them any more.
        for statement in _TABLES:
            connection.execute(statement)
    connection.execute("COMMIT")
