import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest
from outlast_postgres import PostgresDeltas, PostgresStore, Settings
from postgres_server import PostgresServer, require_server, shared_server

from outlast.testing import (
    BackendCapability,
    BreakableStorage,
    BreakingContract,
    CrashContract,
    DeltasContract,
    DeltasPlace,
    DurabilityContract,
    InStore,
    JournalContract,
    Storage,
    StoreCapability,
    VirtualClock,
)

require_server()

numbers = itertools.count(1)


class TemporarySchema(Storage):
    """A schema of its own, which the first store makes, and a clock that a test can move."""

    def __init__(self) -> None:
        self._clock = VirtualClock()
        self.settings = Settings.of(shared_server().url(f"test_{next(numbers)}"))

    @property
    def clock(self) -> VirtualClock:
        return self._clock

    def open(self) -> PostgresStore:
        return PostgresStore(self.settings, self.clock)

    async def dispose(self) -> None:
        await drop(self.settings)


async def drop(settings: Settings) -> None:
    connection = await asyncpg.connect(settings.dsn)
    await connection.execute("SET client_min_messages = warning")
    query = "SELECT format('DROP SCHEMA IF EXISTS %I CASCADE', $1::text)"
    await connection.execute(await connection.fetchval(query, settings.schema))
    await connection.close()


class TestPostgresStore(JournalContract):
    new_storage = TemporarySchema
    # Leases go by the clock of the server. What breaks is in `TestWhenTheServerEnds`.
    capabilities = frozenset(StoreCapability) - {StoreCapability.STEADY_LEASES, StoreCapability.BREAKABLE}


class ServerOfItsOwn(BreakableStorage):
    """A server for one test, which is killed and recovers."""

    def __init__(self) -> None:
        self._clock = VirtualClock()
        self.server = PostgresServer()
        self.server.start()
        self.settings = Settings.of(self.server.url("test"))

    @property
    def clock(self) -> VirtualClock:
        return self._clock

    def open(self) -> PostgresStore:
        return PostgresStore(self.settings, self.clock)

    async def cut_off(self) -> None:
        self.server.kill()

    async def come_back(self) -> None:
        self.server.start()

    async def dispose(self) -> None:
        self.server.remove()


class TestWhenTheServerEnds(BreakingContract):
    new_storage = ServerOfItsOwn


class WithText(InStore):
    """The engine's backend in such a schema, with text in the tables beside it."""

    def __init__(self) -> None:
        self.schema = TemporarySchema()
        super().__init__(self.schema)

    def open_deltas(self) -> PostgresDeltas:
        return PostgresDeltas(self.schema.settings, self.clock)


class TestPostgresBackend(DurabilityContract):
    new_storage = WithText
    capabilities = frozenset(BackendCapability) - {BackendCapability.STEADY_LEASES}


class TextTables(DeltasPlace):
    def __init__(self) -> None:
        self.schema = TemporarySchema()

    @property
    def clock(self) -> VirtualClock:
        return self.schema.clock

    def open(self) -> PostgresDeltas:
        return PostgresDeltas(self.schema.settings, self.clock)


class TestPostgresDeltas(DeltasContract):
    @pytest.fixture
    async def place(self) -> AsyncIterator[DeltasPlace]:
        place = TextTables()
        yield place
        await place.schema.dispose()

    async def test_numbers_go_on_when_silent_text_was_forgotten(self, place: DeltasPlace) -> None:
        async with place.open() as deltas:
            await deltas.publish("x", self.delta(place, 1))
            _, after = await deltas.read("x", "")
            await place.clock.advance(1_000.0)
            await deltas.publish("y", self.delta(place, 1))
            assert await deltas.read("x", "") == ([], "")
            await deltas.publish("x", self.delta(place, 2))
            assert [delta.sequence for delta in (await deltas.read("x", after))[0]] == [2]


@asynccontextmanager
async def temporary_url() -> AsyncIterator[str]:
    url = shared_server().url(f"test_{next(numbers)}")
    yield url
    await drop(Settings.of(url))


class TestPostgresUnderCrashes(CrashContract):
    new_place = temporary_url
