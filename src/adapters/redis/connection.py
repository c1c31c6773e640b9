"""Opening a store: what kind of server this is, what it may lose, and whether its keys are ours."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import PubSub
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError

from durable_agents.adapters.redis.errors import translated
from durable_agents.adapters.redis.scripts import Client
from durable_agents.adapters.redis.settings import RedisSettings
from durable_agents.core.errors import ConfigurationError, StorageCorrupt, StorageError, StorageTooNew

logger = logging.getLogger("durable_agents.redis")

REDIS_OLDEST: Final = (7, 0)
"""The oldest Redis that the tests run against."""

WAITAOF_OLDEST: Final = (7, 2)

FORMAT: Final = 1
"""The version of the keys and what is in them."""

CLUSTER_SHARDS: Final = 16


@dataclass(frozen=True, slots=True)
class Server:
    """A server, or a cluster, that is fit for use."""

    client: Client
    shards: int

    def subscriber(self) -> PubSub:
        """Return a connection for listening, not yet opened."""
        return self.client.pubsub()

    async def time(self) -> float:
        """Return the server's time, in seconds since the epoch."""
        seconds, microseconds = await self.client.time()
        return int(seconds) + int(microseconds) / 1e6

    async def close(self) -> None:
        await self.client.aclose()


async def open_server(settings: RedisSettings, *, for_keeps: bool = True) -> Server:
    """Return a connection to the server that `settings` name, whose format is written down afterwards.

    What the server may lose is looked at only when something is to be kept there.

    Raises:
        StorageError: it cannot be used, or `require_durable` is set and it may lose what it acknowledged.
        ConfigurationError: it cannot do what the settings ask for.
    """
    single = _single(settings)
    client: Client = single
    try:
        with translated(settings):
            information = await _information(single, settings)
            _check_version(information, settings)
            is_cluster = information.get("cluster_enabled") == 1
            if is_cluster:
                await client.aclose()
                client = await _cluster(settings).initialize()
            if for_keeps:
                _check_durability(information, settings, is_cluster=is_cluster)
            shards = await _agree_on_format(client, settings, CLUSTER_SHARDS if is_cluster else 1)
    except BaseException:
        await client.aclose()
        raise
    return Server(client, shards)


def _single(settings: RedisSettings) -> Redis:
    # One more connection than is asked for: one listens for announcements.
    pool = BlockingConnectionPool.from_url(
        settings.url,
        max_connections=settings.max_connections + 1,
        timeout=settings.timeout_seconds,
        socket_timeout=settings.timeout_seconds,
        socket_connect_timeout=settings.timeout_seconds,
        retry=_no_retry(),
    )
    return Redis.from_pool(pool)


def _cluster(settings: RedisSettings) -> RedisCluster:
    return RedisCluster.from_url(
        settings.url,
        max_connections=settings.max_connections + 1,
        socket_timeout=settings.timeout_seconds,
        socket_connect_timeout=settings.timeout_seconds,
        retry=_no_retry(),
    )


def _no_retry() -> Retry:
    """The engine retries, for only it knows what a write that may have happened means."""
    return Retry(NoBackoff(), 0)


async def _information(client: Redis, settings: RedisSettings) -> Mapping[str, Any]:
    try:
        information: Mapping[str, Any] = await client.info("everything")
    except NoPermissionError as error:
        raise StorageError(
            f"the user of the Redis URL may not run INFO on {settings.place}, which tells whether the server "
            "is a cluster and what it may lose: grant it with ACL SETUSER … +info"
        ) from error
    return information


def _check_version(information: Mapping[str, Any], settings: RedisSettings) -> None:
    if "redis_version" not in information:
        raise StorageError(f"what answers at {settings.place} is not a Redis server; correct host and port")
    if _version(information, "redis_version") < REDIS_OLDEST:
        needed = ".".join(map(str, REDIS_OLDEST))
        raise StorageError(
            f"{settings.place} is Redis {information['redis_version']}; version {needed} or newer, or "
            "Valkey, is needed"
        )


def _version(information: Mapping[str, Any], name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", str(information[name]))[:2])


def _check_durability(information: Mapping[str, Any], settings: RedisSettings, *, is_cluster: bool) -> None:
    """Say what the server may lose of what it has acknowledged."""
    risks = []
    if not information.get("aof_enabled"):
        risks.append("appendonly is no, so a crash of the server loses what is newer than its last snapshot")
    policy = str(information.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        risks.append(f"maxmemory-policy is {policy}, so it may delete executions when memory is full")
    if information.get("aof_enabled") and information.get("aof_last_write_status", "ok") != "ok":
        risks.append("its last write to the append-only file failed")
    if risks:
        said = f"{settings.place} may lose executions: {'; '.join(risks)}. Set appendonly yes and noeviction"
        if settings.require_durable:
            raise StorageError(f"{said}, or leave require_durable out of the URL")
        logger.warning("%s, or say require_durable=1 in the URL to refuse such a server", said)
    if settings.wait_aof is not None:
        if is_cluster:
            raise ConfigurationError("wait_aof in the Redis URL works on a single server, not on a cluster")
        if "valkey_version" not in information and _version(information, "redis_version") < WAITAOF_OLDEST:
            raise ConfigurationError("wait_aof in the Redis URL needs Redis 7.2 or newer, or Valkey")
        if not information.get("aof_enabled"):
            raise ConfigurationError("wait_aof in the Redis URL needs a server with appendonly yes")


async def _agree_on_format(client: Client, settings: RedisSettings, default_shards: int) -> int:
    """Return the number of shards, written down under this prefix by whoever came first."""
    key = f"{settings.prefix}:format"
    wanted = settings.shards or default_shards
    await client.set(key, json.dumps({"format": FORMAT, "shards": wanted}), nx=True)
    written = await client.get(key)
    try:
        known = json.loads(written or "")
        number, shards = int(known["format"]), int(known["shards"])
    except (TypeError, ValueError, KeyError) as error:
        raise StorageCorrupt(
            f"key {key!r} on {settings.place} was not written by this library; remove it, or choose another "
            "prefix=… in the URL"
        ) from error
    if number > FORMAT:
        raise StorageTooNew(
            f"the executions under prefix {settings.prefix!r} on {settings.place} were written by a newer "
            f"version of this library (format {number}, this one knows {FORMAT}); upgrade it, or choose "
            "another prefix"
        )
    if settings.shards not in (None, shards):
        raise ConfigurationError(
            f"prefix {settings.prefix!r} on {settings.place} has {shards} shards; shards={settings.shards} "
            "in the URL cannot change that: leave it out, or choose another prefix"
        )
    return shards
