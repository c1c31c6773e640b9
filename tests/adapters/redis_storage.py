"""Storage for the contract suites on a real server."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import ExitStack

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from outlast.adapters.redis import RedisSettings, RedisStore
from outlast.testing.virtual_clock import VirtualClock
from tests.adapters.redis_cluster import shared_cluster
from tests.adapters.redis_servers import (
    REDIS,
    VALKEY,
    ServerOptions,
    external_url,
    shared_url,
    temporary_server,
)


class Prefix:
    """Storage under a prefix of its own on a server."""

    def __init__(self, url: str, **query: str) -> None:
        self.clock = VirtualClock()
        self.prefix = uuid.uuid4().hex
        # A machine that runs many tests at once answers late, and that is not what is tested here.
        query = {"prefix": self.prefix, "timeout": "60", **query}
        options = "&".join(f"{name}={value}" for name, value in query.items())
        self.settings = RedisSettings.from_url(f"{url}{'&' if '?' in url else '?'}{options}")

    def open(self) -> RedisStore:
        return RedisStore(self.settings, self.clock, clean_seconds=None, limit_bytes=2 * 1024 * 1024)

    async def dump(self) -> dict[bytes, bytes]:
        """Return every key under the prefix with its value, as the server dumps it."""
        async with Redis.from_url(self.settings.url) as client:
            return {key: await client.dump(key) or b"" for key in await self._keys(client)}

    async def dispose(self) -> None:
        async with Redis.from_url(self.settings.url) as client:
            if keys := await self._keys(client):
                await client.unlink(*keys)

    async def _keys(self, client: Redis) -> list[bytes]:
        return [key async for key in client.scan_iter(f"{self.prefix}:*", count=1000)]


class OnCluster(Prefix):
    """The same on a cluster, where keys are on several nodes."""

    async def dispose(self) -> None:
        async with RedisCluster.from_url(self.settings.url) as client:
            async for key in client.scan_iter(f"{self.prefix}:*", count=1000):
                await client.unlink(key)


class OnServerOfItsOwn(Prefix):
    """The same on a server that can be killed, and started again with all that it had acknowledged."""

    def __init__(self) -> None:
        self._closing = ExitStack()
        self._server = self._closing.enter_context(temporary_server(VALKEY, ServerOptions(append_only=True)))
        super().__init__(self._server.url(), timeout="1")

    async def cut_off(self) -> None:
        self._server.kill()

    async def come_back(self) -> None:
        await asyncio.to_thread(self._server.start)

    async def dispose(self) -> None:
        self._closing.close()


def on_cluster() -> Prefix:
    return OnCluster(shared_cluster(VALKEY)[0].url())


def on_valkey() -> Prefix:
    return Prefix(shared_url(VALKEY))


def on_valkey_in_shards() -> Prefix:
    return Prefix(shared_url(VALKEY), shards="3")


def on_redis() -> Prefix:
    return Prefix(shared_url(REDIS))


def on_the_one_that_redis_url_names() -> Prefix:
    url = external_url()
    assert url is not None
    return Prefix(url)
