"""Opens a store: checks the kind of server, the data that it may lose, and the format of its keys."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError
from redis.maint_notifications import MaintNotificationsConfig

from outlast.adapters.redis.errors import translated
from outlast.adapters.redis.routing import Nodes, OneServer, Route
from outlast.adapters.redis.settings import RedisSettings
from outlast.core.errors import ConfigurationError, StorageCorrupt, StorageError, StorageTooNew

REDIS_OLDEST: Final = (7, 0)
"""The oldest Redis that the tests run against."""

WAITAOF_OLDEST: Final = (7, 2)

NO_NOTIFICATIONS: Final = MaintNotificationsConfig(enabled=False)
"""Where redis-py (8) takes notices of maintenance from a server, which is its default, a pool does not look
whether an idle connection is still open: after a restart of the server each would fail once."""

FORMAT: Final = 3
"""The version of the keys and of their contents."""

CLUSTER_SHARDS: Final = 16


@dataclass(frozen=True, slots=True)
class Server:
    """A server or cluster that has passed the checks of `open_server`."""

    route: Route
    shards: int
    home: str
    """A key that always exists. The server that has it is the one whose clock is used."""
    warning: str | None = None
    """Says why the server may lose acknowledged writes, if it may. The workers log it: everybody else would
    repeat what an operator knows."""

    async def time(self) -> float:
        """Return the server's time, in seconds since the epoch."""
        [(seconds, microseconds)] = await self.route.send(self.home, ("TIME",))
        return int(seconds) + int(microseconds) / 1e6


async def open_server(settings: RedisSettings, *, check_durability: bool = True) -> Server:
    """Return a connection to the server that `settings` name; afterwards the server has a format key.

    Raises:
        StorageError: the server cannot be used; or, with `check_durability`, the settings have
            `require_durable` and the server may lose acknowledged writes.
        ConfigurationError: the server does not support what the settings ask for.
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
                    raise ConfigurationError(
                        f"{settings.place} is a cluster, and a cluster has only database 0; correct the URL"
                    )
                await route.close()
                route = await _nodes(settings)
            warning = _check_durability(await route.information(), settings) if check_durability else None
            shards = await _agree_on_format(route, home, settings, CLUSTER_SHARDS if is_cluster else 1)
    except BaseException:
        await route.close()
        raise
    return Server(route, shards, home, warning)


def _single(settings: RedisSettings) -> Redis:
    # One more connection than the settings say, for announcements.
    pool = BlockingConnectionPool.from_url(
        settings.url,
        max_connections=settings.max_connections + 1,
        timeout=settings.timeout_seconds,
        socket_timeout=settings.timeout_seconds,
        socket_connect_timeout=settings.timeout_seconds,
        retry=_no_retry(),
        maint_notifications_config=NO_NOTIFICATIONS,
    )
    return Redis.from_pool(pool)


async def _nodes(settings: RedisSettings) -> Nodes:
    client = RedisCluster.from_url(
        settings.url,
        # Two more connections: one for announcements, one to ask which node has which slots.
        max_connections=settings.max_connections + 2,
        socket_timeout=settings.timeout_seconds,
        socket_connect_timeout=settings.timeout_seconds,
        retry=_no_retry(),
        maint_notifications_config=NO_NOTIFICATIONS,
    )
    return Nodes(
        await client.initialize(),
        concurrency_max=settings.max_connections,
        timeout_seconds=settings.timeout_seconds,
    )


def _no_retry() -> Retry:
    """Return a policy without retries: only the engine knows how to go on if a write may have happened."""
    return Retry(NoBackoff(), 0)


async def _information(route: Route, settings: RedisSettings) -> Sequence[Mapping[str, Any]]:
    try:
        return await route.information()
    except NoPermissionError as error:
        raise StorageError(
            f"the user of the Redis URL may not run INFO on {settings.place}; grant it with ACL SETUSER … "
            "+info (INFO shows whether the server is a cluster, and which writes it may lose)"
        ) from error


def _check_version(information: Mapping[str, Any], settings: RedisSettings) -> None:
    if "redis_version" not in information:
        raise StorageError(
            f"the server at {settings.place} is not a Redis server; correct host and port in the URL"
        )
    if _version(information, "redis_version") < REDIS_OLDEST:
        needed = ".".join(map(str, REDIS_OLDEST))
        raise StorageError(
            f"{settings.place} runs Redis {information['redis_version']}; use Redis {needed} or newer, or "
            "Valkey"
        )


def _version(information: Mapping[str, Any], name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", str(information[name]))[:2])


def _check_durability(servers: Sequence[Mapping[str, Any]], settings: RedisSettings) -> str | None:
    """Return, or raise with `require_durable`, why a server or cluster node may lose acknowledged writes."""
    warning = None
    if risks := dict.fromkeys(risk for information in servers for risk in _risks(information)):
        warning = (
            f"{settings.place} may lose executions: {'; '.join(risks)}. Set appendonly yes and "
            "maxmemory-policy noeviction"
        )
        if settings.require_durable:
            raise StorageError(f"{warning}, or remove require_durable from the URL")
        warning += "; with require_durable=1 in the URL this is an error"
    if settings.wait_aof is not None:
        for information in servers:
            _check_that_it_can_wait(information)
    return warning


def _risks(information: Mapping[str, Any]) -> Iterator[str]:
    if not information.get("aof_enabled"):
        yield "appendonly is no, so a crash of the server loses everything since its last snapshot"
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
    """Return the number of shards of this prefix; the first store that uses a prefix decides it."""
    wanted = json.dumps({"format": FORMAT, "shards": settings.shards or default_shards})
    _, written = await route.send(key, ("SET", key, wanted, "NX"), ("GET", key))
    try:
        known = json.loads(written or "")
        number, shards = int(known["format"]), int(known["shards"])
    except (TypeError, ValueError, KeyError) as error:
        raise StorageCorrupt(
            f"key {key!r} on {settings.place} was not written by this library; delete it, or choose another "
            "prefix=… in the URL"
        ) from error
    if number > FORMAT:
        raise StorageTooNew(
            f"the executions under prefix {settings.prefix!r} on {settings.place} were written by a newer "
            f"version of this library (format {number}; this version reads {FORMAT}); upgrade "
            "outlast, or choose another prefix=… in the URL"
        )
    if number < FORMAT:
        raise StorageError(
            f"the executions under prefix {settings.prefix!r} on {settings.place} were written by an older "
            f"version of this library (format {number}; this version reads {FORMAT}); let that version "
            "finish them, or choose another prefix=… in the URL"
        )
    if settings.shards not in (None, shards):
        raise ConfigurationError(
            f"prefix {settings.prefix!r} on {settings.place} has {shards} shards; shards={settings.shards} "
            "in the URL cannot change that: remove it, or choose another prefix=…"
        )
    return shards
