"""The text of replies that are still being written, in tables that PostgreSQL does not log.

The pieces of an execution are numbered by its row in `delta_place`. The transaction that adds one holds that
row until it is committed, so a reader who has seen a number has seen all before it. The first number is the
time in microseconds: when an execution was forgotten, and goes on, its numbers are higher than before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import asyncpg

from outlast.core.event_stream import Delta
from outlast.core.json import decode, encode
from outlast.ports.clock import Clock
from outlast.ports.deltas import KEEP_SECONDS, Deltas
from outlast_postgres.database import Database
from outlast_postgres.finding import searchable
from outlast_postgres.listening import NOTIFY, notice
from outlast_postgres.settings import Settings

FORGET_EVERY_SECONDS = 10.0

_PUBLISH = """
WITH place AS (
    INSERT INTO delta_place AS old (execution, number, latest_at)
    VALUES ($1, (extract(epoch FROM clock_timestamp()) * 1e6)::bigint, $3)
    ON CONFLICT (execution) DO UPDATE SET number = old.number + 1, latest_at = excluded.latest_at
    RETURNING number
)
INSERT INTO delta (execution, number, body) SELECT $1, number, $2 FROM place
"""
_READ = "SELECT number, body FROM delta WHERE execution = $1 AND number > $2 ORDER BY number"
_FORGET = """
WITH silent AS MATERIALIZED (
    SELECT execution FROM delta_place WHERE latest_at < $1 ORDER BY execution FOR UPDATE SKIP LOCKED
)
DELETE FROM delta_place USING silent WHERE delta_place.execution = silent.execution
"""


class PostgresDeltas(Deltas):
    """Text in the schema of a store. It connects when it is first used."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._lock = asyncio.Lock()
        self._maybe_open: Database | None = None
        self._forget_at = float("-inf")

    async def __aenter__(self) -> PostgresDeltas:
        return self

    async def __aexit__(self, *_: object) -> None:
        async with self._lock:
            database, self._maybe_open = self._maybe_open, None
        if database is not None:
            await database.close()

    async def publish(self, execution_id: str, delta: Delta) -> None:
        database, now = await self._database(), self._clock.now()
        if now >= self._forget_at:
            self._forget_at = now + FORGET_EVERY_SECONDS
            await database.run(lambda connection: connection.execute(_FORGET, now - KEEP_SECONDS))
        body = encode([delta.key, delta.attempt, delta.sequence, delta.text, delta.at])

        async def write(connection: asyncpg.Connection) -> None:
            await connection.execute(_PUBLISH, execution_id, body, now)
            await connection.execute(NOTIFY, database.channel, notice(execution_id, None))

        await database.write(write)

    async def read(self, execution_id: str, after: str) -> tuple[Sequence[Delta], str]:
        database, id = await self._database(), searchable(execution_id)
        rows = await database.run(lambda connection: connection.fetch(_READ, id, int(after or 0)))
        found = [Delta(*decode(row["body"])) for row in rows]
        return found, str(rows[-1]["number"]) if rows else after

    async def follow(self, execution_id: str, after: str, timeout_seconds: float) -> None:
        listening = (await self._database()).listening
        with listening.waiting(execution_id) as waiter:
            if not (await self.read(execution_id, after))[0]:
                await listening.sleep(waiter, timeout_seconds)

    async def _database(self) -> Database:
        async with self._lock:
            if self._maybe_open is None:
                database = Database(self._settings, self._clock, "outlast_text")
                await database.open()
                self._maybe_open = database
            return self._maybe_open
