"""The store on Redis keeps the journal contract: on each server there is, in one shard and in several."""

from __future__ import annotations

import uuid

import pytest
from redis.asyncio import Redis

from durable_agents.adapters.redis import RedisSettings, RedisStore
from durable_agents.testing.clock import VirtualClock
from durable_agents.testing.journal_contract import JournalContract
from durable_agents.testing.storage import Storage
from tests.adapters.redis_servers import REDIS, VALKEY, shared_url

pytestmark = pytest.mark.server


class Prefix:
    """Storage under a prefix of its own on a server."""

    def __init__(self, url: str, **query: str) -> None:
        self.clock = VirtualClock()
        self.prefix = uuid.uuid4().hex
        options = "&".join(f"{name}={value}" for name, value in {"prefix": self.prefix, **query}.items())
        self.settings = RedisSettings.from_url(f"{url}{'&' if '?' in url else '?'}{options}")

    def open(self) -> RedisStore:
        return RedisStore(self.settings, self.clock, clean_seconds=None, limit_bytes=1024 * 1024)

    async def dispose(self) -> None:
        client = Redis.from_url(self.settings.url)
        async with client:
            keys = [key async for key in client.scan_iter(f"{self.prefix}:*", count=1000)]
            if keys:
                await client.unlink(*keys)


def on_valkey() -> Storage:
    return Prefix(shared_url(VALKEY))


def on_valkey_in_shards() -> Storage:
    return Prefix(shared_url(VALKEY), shards="5")


def on_redis() -> Storage:
    return Prefix(shared_url(REDIS))


class TestValkeyJournal(JournalContract):
    new_storage = on_valkey


class TestShardedJournal(JournalContract):
    new_storage = on_valkey_in_shards


@pytest.mark.skipif(REDIS.executable is None, reason="redis-server is not on the PATH")
class TestRedisJournal(JournalContract):
    new_storage = on_redis
