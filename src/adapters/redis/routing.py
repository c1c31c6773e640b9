"""Sends commands to the server that has their key: a single server, or one node of a cluster.

On a cluster, redis-py's own routing has two faults for us. While a slot is moved key by key, redis-py follows
the answer ASK to a node that has only some of the keys; a script there would take the others for missing. And
redis-py sends WAITAOF on any connection, but it must be the connection that wrote. So this module finds the
node of each key and sends to that node directly.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from contextvars import Context
from copy import copy
from typing import Any, Protocol, TypeVar

from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.cluster import ClusterNode, RedisCluster

T = TypeVar("T")
Argument = str | bytes | int
Command = Sequence[Argument]

PIPELINE_MAX = 100
"""The most commands that go as one pipeline: a server runs them with nothing else in between."""

logger = logging.getLogger("outlast.redis")

NODE_ERRORS = (exceptions.ConnectionError, exceptions.TimeoutError, exceptions.ClusterDownError, OSError)
"""Errors after which another node may serve the slots of the node that was asked."""


def is_read_only(error: exceptions.ResponseError) -> bool:
    """Return whether a server refused a write because it is a replica; a script has the words further on."""
    return isinstance(error, exceptions.ReadOnlyError) or "READONLY" in str(error)


class Route(Protocol):
    """The way to the server or the nodes that have the keys."""

    async def send(self, key: str, *commands: Command) -> list[Any]:
        """Send commands to the server that has `key`, in order, on one connection; return their replies.

        Each command runs at most once.

        Raises:
            RedisError, OSError: the first error; the commands may have run all the same.
        """

    def subscriber(self) -> PubSub:
        """Return a connection, not yet open, that receives what is published on any server."""

    async def information(self) -> Sequence[dict[str, Any]]:
        """Return the reply to INFO of each server that has keys."""

    async def close(self) -> None: ...


class OneServer(Route):
    """The way to a single server, which has all keys.

    After a failover the old primary may live on as a replica, with our connections still open, while the
    address leads to the new primary. It answers READONLY then; so that answer ends the connections, and the
    address is looked up again for the next one.

    Single commands that are sent in one turn of the event loop go as one pipeline: what they cost is mostly
    to take a connection and to wake up for the reply.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._waiting: list[tuple[Command, asyncio.Future[Any]]] = []
        self._at_work: set[asyncio.Task[None]] = set()

    async def send(self, key: str, *commands: Command) -> list[Any]:
        try:
            return await self._send(commands)
        except exceptions.ResponseError as error:
            if not is_read_only(error):
                raise
            logger.warning("the server is a replica now (%s); looking its address up again", error)
            # Those that are in use now meet the same answer, and come back here.
            await self._client.connection_pool.disconnect(inuse_connections=False)
        return await self._send(commands)  # A replica has carried out nothing.

    async def _send(self, commands: Sequence[Command]) -> list[Any]:
        if len(commands) == 1:
            return [await self._together(commands[0])]
        return _good(await self._pipelined(commands))

    def _together(self, command: Command) -> asyncio.Future[Any]:
        """Send a command together with others of this turn of the loop; return its reply, when awaited."""
        loop = asyncio.get_running_loop()
        replied = loop.create_future()
        if not self._waiting:
            # In no context: the commands of others do not belong to the attempt that sends the first one.
            loop.call_soon(self._begin, context=Context())
        self._waiting.append((command, replied))
        return replied

    def _begin(self) -> None:
        waiting, self._waiting = self._waiting, []
        wanted = [(command, replied) for command, replied in waiting if not replied.done()]
        for group in _batched(wanted, PIPELINE_MAX):
            task = asyncio.create_task(self._answer(group))
            self._at_work.add(task)
            task.add_done_callback(self._at_work.discard)

    async def _answer(self, group: Sequence[tuple[Command, asyncio.Future[Any]]]) -> None:
        try:
            replies = await self._pipelined([command for command, _ in group])
        except (exceptions.RedisError, OSError) as error:
            replies = [copy(error) for _ in group]
        except BaseException:
            for _, replied in group:
                replied.cancel()
            raise
        for (_, replied), reply in zip(group, replies, strict=True):
            if replied.done():
                continue
            if isinstance(reply, Exception):
                replied.set_exception(reply)
            else:
                replied.set_result(reply)

    async def _pipelined(self, commands: Sequence[Command]) -> list[Any]:
        """Return the replies to commands; those that a server refuses are errors in the list."""
        if len(commands) == 1:
            return [await self._client.execute_command(*commands[0])]  # type: ignore[no-untyped-call]
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        replies: list[Any] = await pipeline.execute(raise_on_error=False)
        return replies

    def subscriber(self) -> PubSub:
        return self._client.pubsub()

    async def information(self) -> Sequence[dict[str, Any]]:
        return [await self._client.info("everything")]

    async def close(self) -> None:
        await self._client.aclose()


class Nodes(Route):
    """The way to the nodes of a cluster.

    The table of slots is corrected when a node answers MOVED, and read again when a node does not answer.
    """

    def __init__(self, client: RedisCluster, *, concurrency_max: int, timeout_seconds: float) -> None:
        self._client = client
        self._timeout_seconds = timeout_seconds
        # redis-py raises when all connections to a node are in use; with a semaphore, the caller waits.
        self._permits: defaultdict[str, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(concurrency_max)
        )

    async def send(self, key: str, *commands: Command) -> list[Any]:
        await self._client.initialize()
        try:
            return await self._send(self._node_of(key), commands)
        except exceptions.MovedError as moved:
            # The first command did not run, and the commands after it have no key.
            await self._client.nodes_manager.move_slot(moved)
        return await self._send(self._node_of(key), commands)

    def subscriber(self) -> PubSub:
        # Every node receives everything that is published. A random choice avoids a node that stays down.
        return self._client.pubsub(node=random.choice(self._client.get_nodes()))

    async def information(self) -> Sequence[dict[str, Any]]:
        asked = (self._send(node, [("INFO", "everything")]) for node in self._client.get_primaries())
        return [replies[0] for replies in await asyncio.gather(*asked)]

    async def close(self) -> None:
        await self._client.aclose()

    def _node_of(self, key: str) -> ClusterNode:
        node = self._client.get_node_from_key(key)
        assert node is not None  # redis-py returns None only when it is asked for a replica.
        return node

    async def _send(self, node: ClusterNode, commands: Sequence[Command]) -> list[Any]:
        try:
            async with self._permit(node):
                pipeline = self._client.pipeline()
                for command in commands:
                    pipeline.execute_command(*command, target_nodes=node)
                return _good(await pipeline.execute(raise_on_error=False, allow_redirections=False))
        except NODE_ERRORS:
            await self._read_slots(node)
            raise

    @asynccontextmanager
    async def _permit(self, node: ClusterNode) -> AsyncIterator[None]:
        permits = self._permits[node.name]
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await permits.acquire()
        except TimeoutError as error:
            raise exceptions.MaxConnectionsError("no connection became free in time") from error
        try:
            yield
        finally:
            permits.release()

    async def _read_slots(self, failed: ClusterNode) -> None:
        """Ask the other nodes which node has which slots now."""
        try:
            await self._client.nodes_manager.initialize(last_failed_node_name=failed.name)
        except (exceptions.RedisError, exceptions.RedisClusterException, OSError) as error:
            logger.debug("no node of the cluster could say which node has which slots: %s", error)


def _good(replies: list[Any]) -> list[Any]:
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies


def _batched(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield the items in order, up to `size` at a time."""
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]
