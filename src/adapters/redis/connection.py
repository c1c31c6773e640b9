"""Opening a store: what kind of server this is, what it may lose, and whether its keys are ours."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError

from outlast.adapters.redis.errors import translated
from outlast.adapters.redis.routing import Nodes, OneServer, Route
from outlast.adapters.redis.settings import RedisSettings
from outlast.core.errors import ConfigurationError, StorageCorrupt, StorageError, StorageTooNew

logger = logging.getLogger("outlast.redis")

REDIS_OLDEST: Final = (7, 0)
"""The oldest Redis that the tests run against."""

WAITAOF_OLDEST: Final = (7, 2)

FORMAT: Final = 1
"""The version of the keys and what is in them."""

CLUSTER_SHARDS: Final = 16


@dataclass(frozen=True, slots=True)
class Server:
    """A server, or a cluster, that is fit for use."""

    route: Route
    shards: int
    home: str
    """A key that is always there. The clock of the server that has it is the one that counts."""

    async def time(self) -> float:
        """Return the server's time, in seconds since the epoch."""
        [(seconds, microseconds)] = await self.route.send(self.home, ("TIME",))
        return int(seconds) + int(microseconds) / 1e6


async def open_server(settings: RedisSettings, *, for_keeps: bool = True) -> Server:
    """Return a connection to the server that `settings` name, whose format is written down afterwards.

    What the server may lose is looked at only when something is to be kept there.

    Raises:
        StorageError: it cannot be used, or `require_durable` is set and it may lose what it acknowledged.
        ConfigurationError: it cannot do what the settings ask for.
    """
    route: Route = OneServer(_single(settings))
    home = f"{settings.prefix}:format"
    try:
        with translated(settings):
            [information] = await _information(route, settings)
            _check_version(information, settings)
            is_cluster = information.get("cluster_enabled") == 1
            if is_cluster:
                if not settings.place.endswith("/0"):
                    raise ConfigurationError(f"{settings.place} is a cluster, which has only database 0")
                await route.close()
                route = await _nodes(settings)
            if for_keeps:
                _check_durability(await route.information(), settings)
            shards = await _agree_on_format(route, home, settings, CLUSTER_SHARDS if is_cluster else 1)
    except BaseException:
        await route.close()
        raise
    return Server(route, shards, home)


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


async def _nodes(settings: RedisSettings) -> Nodes:
    client = RedisCluster.from_url(
        settings.url,
        # One more for announcements here, too, and one to ask who has what.
        max_connections=settings.max_connections + 2,
        socket_timeout=settings.timeout_seconds,
        socket_connect_timeout=settings.timeout_seconds,
        retry=_no_retry(),
    )
    return Nodes(
        await client.initialize(),
        at_once=settings.max_connections,
        patience_seconds=settings.timeout_seconds,
    )


def _no_retry() -> Retry:
    """The engine retries, for only it knows what a write that may have happened means."""
    return Retry(NoBackoff(), 0)


async def _information(route: Route, settings: RedisSettings) -> Sequence[Mapping[str, Any]]:
    try:
        return await route.information()
    except NoPermissionError as error:
        raise StorageError(
            f"the user of the Redis URL may not run INFO on {settings.place}, which tells whether the server "
            "is a cluster and what it may lose: grant it with ACL SETUSER … +info"
        ) from error


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


def _check_durability(servers: Sequence[Mapping[str, Any]], settings: RedisSettings) -> None:
    """Say what the server, or any node of a cluster, may lose of what it has acknowledged."""
    if risks := dict.fromkeys(risk for information in servers for risk in _risks(information)):
        said = f"{settings.place} may lose executions: {'; '.join(risks)}. Set appendonly yes and noeviction"
        if settings.require_durable:
            raise StorageError(f"{said}, or leave require_durable out of the URL")
        logger.warning("%s, or say require_durable=1 in the URL to refuse such a server", said)
    if settings.wait_aof is not None:
        for information in servers:
            _check_that_it_can_wait(information)


def _risks(information: Mapping[str, Any]) -> Iterator[str]:
    if not information.get("aof_enabled"):
        yield "appendonly is no, so a crash of the server loses what is newer than its last snapshot"
    policy = str(information.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        yield f"maxmemory-policy is {policy}, so it may delete executions when memory is full"
    if information.get("aof_enabled") and information.get("aof_last_write_status", "ok") != "ok":
        yield "its last write to the append-only file failed"


def _check_that_it_can_wait(information: Mapping[str, Any]) -> None:
    if "valkey_version" not in information and _version(information, "redis_version") < WAITAOF_OLDEST:
        raise ConfigurationError("wait_aof in the Redis URL needs Redis 7.2 or newer, or Valkey")
    if not information.get("aof_enabled"):
        raise ConfigurationError("wait_aof in the Redis URL needs a server with appendonly yes")


async def _agree_on_format(route: Route, key: str, settings: RedisSettings, default_shards: int) -> int:
    """Return the number of shards, written down under this prefix by whoever came first."""
    wanted = json.dumps({"format": FORMAT, "shards": settings.shards or default_shards})
    _, written = await route.send(key, ("SET", key, wanted, "NX"), ("GET", key))
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
