"""The suites on a Redis or Valkey server, each test under a new prefix, which is deleted afterwards."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from outlast.adapters.redis import RedisDeltas, RedisSettings, RedisStore
from outlast.adapters.redis.forgetting import forget_prefix
from outlast.ports.deltas import Deltas
from outlast.testing.conformance import place_url
from outlast.testing.contracts.crash.contract import CrashContract
from outlast.testing.contracts.deltas.contract import DeltasContract, DeltasPlace
from outlast.testing.contracts.durability.contract import BackendCapability, DurabilityContract
from outlast.testing.contracts.durability.in_store import InStore
from outlast.testing.contracts.durability.storage import ALL as ALL_OF_A_BACKEND
from outlast.testing.contracts.journal.contract import ALL, MEBIBYTE, JournalContract, StoreCapability
from outlast.testing.contracts.journal.storage import Storage
from outlast.testing.virtual_clock import VirtualClock


def fresh_url() -> str:
    """Return the URL that is examined, with a prefix that nobody has used."""
    url = place_url("redis://127.0.0.1:6379/0")
    return f"{url}{'&' if '?' in url else '?'}prefix={uuid.uuid4().hex}"


class RedisPrefix(Storage):
    """A prefix on the server."""

    def __init__(self) -> None:
        self._clock = VirtualClock()
        self.settings = RedisSettings.from_url(fresh_url())

    @property
    def clock(self) -> VirtualClock:
        return self._clock

    def open(self) -> RedisStore:
        return RedisStore(self.settings, self.clock, clean_seconds=None, limit_bytes=2 * MEBIBYTE)

    async def dispose(self) -> None:
        await forget_prefix(self.settings)


class UnderRedisPrefix(InStore):
    """The engine's backend under such a prefix."""

    def __init__(self) -> None:
        self._prefix = RedisPrefix()
        super().__init__(self._prefix)

    def open_deltas(self) -> Deltas:
        return RedisDeltas(self._prefix.settings, self.clock)


class RedisText(DeltasPlace):
    """The text under such a prefix."""

    def __init__(self) -> None:
        self.prefix = RedisPrefix()

    @property
    def clock(self) -> VirtualClock:
        return self.prefix.clock

    def open(self) -> Deltas:
        return RedisDeltas(self.prefix.settings, self.clock)


@asynccontextmanager
async def redis_url() -> AsyncIterator[str]:
    """Give the URL of a fresh prefix; its keys are deleted afterwards."""
    url = fresh_url()
    yield url
    await forget_prefix(RedisSettings.from_url(url))


class TestRedisJournal(JournalContract):
    # Leases on Redis go by the clock of the server, and nobody stops somebody else's server.
    capabilities = ALL - {StoreCapability.STEADY_LEASES, StoreCapability.BREAKABLE}
    new_storage = RedisPrefix


class TestRedisDurability(DurabilityContract):
    capabilities = ALL_OF_A_BACKEND - {BackendCapability.STEADY_LEASES}
    worker_life_seconds = 0.05
    new_storage = UnderRedisPrefix


class TestRedisDeltas(DeltasContract):
    @pytest.fixture
    async def place(self) -> AsyncIterator[DeltasPlace]:
        text = RedisText()
        yield text
        await text.prefix.dispose()


class TestRedisCrashes(CrashContract):
    new_place = redis_url
