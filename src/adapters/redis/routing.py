"""Sending commands to the server that has their key: the only one, or a node of a cluster.

On a cluster, redis-py's own way would not do. It follows a node that says ASK, while a slot is moved key by
key, to where a script would find some of its keys and take the others for missing. It sends a command that
waits for the append-only file on any connection, while only the one that wrote has something to wait for. So
here a node is looked up for each key, and is sent to directly.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.cluster import ClusterNode, RedisCluster

Argument = str | bytes | int
Command = Sequence[Argument]

logger = logging.getLogger("outlast.redis")

GONE = (exceptions.ConnectionError, exceptions.TimeoutError, exceptions.ClusterDownError, OSError)
"""What a node says, or does not, that does not serve its slots now; another one may."""


class Route(Protocol):
    """The way to whatever serves the keys."""

    async def send(self, key: str, *commands: Command) -> list[Any]:
        """Send commands to the server that has `key`, one after another on one connection; return replies.

        Each is carried out at most once.

        Raises:
            RedisError, OSError: the first thing that went wrong; the commands may have been carried out.
        """

    def subscriber(self) -> PubSub:
        """Return a connection for listening, not yet opened, that hears what is published anywhere."""

    async def information(self) -> Sequence[dict[str, Any]]:
        """Return what each server that serves keys tells of itself."""

    async def close(self) -> None: ...


class OneServer(Route):
    """The way to a server that has all keys."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def send(self, key: str, *commands: Command) -> list[Any]:
        if len(commands) == 1:
            return [await self._client.execute_command(*commands[0])]  # type: ignore[no-untyped-call]
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        return _good(await pipeline.execute(raise_on_error=False))

    def subscriber(self) -> PubSub:
        return self._client.pubsub()

    async def information(self) -> Sequence[dict[str, Any]]:
        return [await self._client.info("everything")]

    async def close(self) -> None:
        await self._client.aclose()


class Nodes(Route):
    """The way to the nodes of a cluster.

    Which node has what is noted when one says that another has it, and asked for anew when one is silent.
    """

    def __init__(self, client: RedisCluster, *, at_once: int, patience_seconds: float) -> None:
        self._client = client
        self._patience_seconds = patience_seconds
        # redis-py refuses what is more than a node has connections; here it waits for its turn.
        self._turns: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(at_once))

    async def send(self, key: str, *commands: Command) -> list[Any]:
        await self._client.initialize()
        try:
            return await self._send(self._node_of(key), commands)
        except exceptions.MovedError as moved:
            # The first command was not carried out, and those behind it have no key.
            await self._client.nodes_manager.move_slot(moved)
        return await self._send(self._node_of(key), commands)

    def subscriber(self) -> PubSub:
        # Each node hears of all that is published. Any will do, and one that is down is not tried for ever.
        return self._client.pubsub(node=random.choice(self._client.get_nodes()))

    async def information(self) -> Sequence[dict[str, Any]]:
        asked = (self._send(node, [("INFO", "everything")]) for node in self._client.get_primaries())
        return [replies[0] for replies in await asyncio.gather(*asked)]

    async def close(self) -> None:
        await self._client.aclose()

    def _node_of(self, key: str) -> ClusterNode:
        node = self._client.get_node_from_key(key)
        assert node is not None  # Only of replicas there may be none.
        return node

    async def _send(self, node: ClusterNode, commands: Sequence[Command]) -> list[Any]:
        try:
            async with self._turn(node):
                pipeline = self._client.pipeline()
                for command in commands:
                    pipeline.execute_command(*command, target_nodes=node)
                return _good(await pipeline.execute(raise_on_error=False, allow_redirections=False))
        except GONE:
            await self._look_around(node)
            raise

    @asynccontextmanager
    async def _turn(self, node: ClusterNode) -> AsyncIterator[None]:
        turns = self._turns[node.name]
        try:
            async with asyncio.timeout(self._patience_seconds):
                await turns.acquire()
        except TimeoutError as error:
            raise exceptions.MaxConnectionsError("none came free in time") from error
        try:
            yield
        finally:
            turns.release()

    async def _look_around(self, silent: ClusterNode) -> None:
        """Ask the others who has what now."""
        try:
            await self._client.nodes_manager.initialize(last_failed_node_name=silent.name)
        except (exceptions.RedisError, exceptions.RedisClusterException, OSError) as error:
            logger.debug("no node says who has what: %s", error)


def _good(replies: list[Any]) -> list[Any]:
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies
