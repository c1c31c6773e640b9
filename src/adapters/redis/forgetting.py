"""Removing a backend from a server, with all that it keeps."""

from __future__ import annotations

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from outlast.adapters.redis.settings import RedisSettings

KEYS_AT_ONCE = 1000


async def forget_prefix(settings: RedisSettings) -> None:
    """Delete every key under the prefix; whoever uses the backend at that moment finds it empty."""
    async with Redis.from_url(settings.url) as client:
        is_cluster = bool((await client.info("cluster")).get("cluster_enabled"))
    async with (RedisCluster if is_cluster else Redis).from_url(settings.url) as client:
        async for key in client.scan_iter(f"{settings.prefix}:*", count=KEYS_AT_ONCE):
            await client.unlink(key)
