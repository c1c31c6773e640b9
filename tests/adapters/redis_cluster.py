"""Several servers that belong together: a cluster of three or more, and a server with its replica."""

from __future__ import annotations

import atexit
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from redis.exceptions import ResponseError

from tests.adapters.redis_servers import LOOPBACK, PATIENCE_SECONDS, Kind, RedisServer, ServerOptions

SLOTS = 16384
NODES = 3
TRIES = 5


@contextmanager
def cluster(
    kind: Kind, options: ServerOptions | None = None, *, replicas: int = 0
) -> Iterator[Sequence[RedisServer]]:
    """Run three nodes that share all slots among them; yield them when each says that all is well.

    The first `replicas` of them have a replica each, which follow in the sequence and have caught up.
    """
    options = options or ServerOptions()
    settings = {"cluster-enabled": "yes", "cluster-node-timeout": "3000", **options.settings}
    with tempfile.TemporaryDirectory(prefix=f"outlast-{kind}-") as directory, ExitStack() as stack:
        nodes = [
            stack.enter_context(
                RedisServer(kind, Path(directory) / f"node-{number}", replace(options, settings=settings))
            )
            for number in range(NODES + replicas)
        ]
        for number, node in enumerate(nodes[:NODES]):
            first, behind = number * SLOTS // NODES, (number + 1) * SLOTS // NODES
            node.ask("CLUSTER", "ADDSLOTSRANGE", first, behind - 1)
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in nodes[1:]:
            node.ask("CLUSTER", "MEET", LOOPBACK, nodes[0].port, nodes[0].bus_port)
        until(lambda: all(is_well(node, len(nodes)) for node in nodes), "the nodes do not come together")
        for primary, replica in zip(nodes, nodes[NODES:], strict=False):
            replica.ask("CLUSTER", "REPLICATE", id_of(primary))
            until(partial(is_caught_up, replica), f"{replica!r} does not catch up")
        yield nodes


_shared = ExitStack()
atexit.register(_shared.close)


@cache
def shared_cluster(kind: Kind) -> Sequence[RedisServer]:
    """Return the cluster of this kind that the tests of this process share. Nobody stops it or flushes it."""
    return _shared.enter_context(cluster(kind))


def is_well(node: RedisServer, nodes: int = NODES) -> bool:
    """Return whether the node serves its slots and reaches every other: so it passes on what is published."""
    reply = _information(node)
    if (reply["cluster_state"], reply["cluster_known_nodes"]) != ("ok", str(nodes)):
        return False
    reached = [link for link in node.ask("CLUSTER", "LINKS") if link[b"direction"] == b"to"]
    return len(reached) == nodes - 1


def id_of(node: RedisServer) -> str:
    return str(node.ask("CLUSTER", "MYID").decode())


def slot_of(nodes: Sequence[RedisServer], key: str) -> int:
    return int(nodes[0].ask("CLUSTER", "KEYSLOT", key))


def serves(node: RedisServer, slot: int) -> bool:
    """Return whether it is this node, by its own words, that serves the slot."""
    return node.is_running and any(
        first <= slot <= last and primary[1] == node.port
        for first, last, primary, *_ in node.ask("CLUSTER", "SLOTS")
    )


def owner_of(nodes: Sequence[RedisServer], slot: int) -> RedisServer:
    until(lambda: any(serves(node, slot) for node in nodes), f"nobody serves slot {slot}")
    return next(node for node in nodes if serves(node, slot))


def is_primary(node: RedisServer) -> bool:
    return bool(node.ask("ROLE")[0] == b"master")


def move_slot_key_by_key(nodes: Sequence[RedisServer], slot: int, target: RedisServer) -> Iterator[int]:
    """Move a slot as `redis-cli --cluster reshard` does; yield how many keys have moved, after each."""
    source = owner_of(nodes, slot)
    say(target, slot, "IMPORTING", id_of(source))
    say(source, slot, "MIGRATING", id_of(target))
    moved = 0
    yield moved
    while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 1):
        source.ask("MIGRATE", LOOPBACK, target.port, "", 0, int(PATIENCE_SECONDS * 1000), "KEYS", *keys)
        moved += 1
        yield moved
    for node in (target, source, *nodes):
        if is_primary(node):
            say(node, slot, "NODE", id_of(target))


def say(node: RedisServer, slot: int, what: str, other: str) -> None:
    """Send a node a command about a slot. It refuses as long as its replica does not know it, too."""

    def is_said() -> bool:
        try:
            node.ask("CLUSTER", "SETSLOT", slot, what, other)
        except ResponseError as refusal:
            if "NOREPLICAS" not in str(refusal):
                raise
            return False
        return True

    until(is_said, f"{node!r} does not note that slot {slot} is {what}")


def move_slot_at_once(nodes: Sequence[RedisServer], slot: int, target: RedisServer) -> None:
    """Move a slot as Valkey 9 can: all its keys change hands in one moment."""
    source = owner_of(nodes, slot)
    source.ask("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", id_of(target))
    until(lambda: serves(target, slot) and not serves(source, slot), f"slot {slot} does not move")


def _information(node: RedisServer) -> dict[str, str]:
    with node.client() as client:
        reply: dict[str, str] = client.cluster("INFO")
    return reply


@contextmanager
def replicated(kind: Kind, options: ServerOptions | None = None) -> Iterator[tuple[RedisServer, RedisServer]]:
    """Run a server and a replica of it, which has caught up; yield both."""
    options = options or ServerOptions()
    with tempfile.TemporaryDirectory(prefix=f"outlast-{kind}-") as directory, ExitStack() as stack:
        primary = stack.enter_context(RedisServer(kind, Path(directory) / "primary", options))
        settings = {"replicaof": f"{LOOPBACK} {primary.port}", **options.settings}
        replica = stack.enter_context(
            RedisServer(kind, Path(directory) / "replica", replace(options, settings=settings))
        )
        until(lambda: is_caught_up(replica), f"{replica!r} does not catch up")
        yield primary, replica


def is_caught_up(replica: RedisServer) -> bool:
    with replica.client() as client:
        reply = client.info("replication")
    return reply.get("master_link_status") == "up" and not reply["master_sync_in_progress"]


def promote(replica: RedisServer) -> None:
    """Make it a server of its own, which takes writes."""
    replica.ask("REPLICAOF", "NO", "ONE")


def take_over(replica: RedisServer) -> None:
    """Make a replica primary, as operators do before an upgrade: nothing that was acknowledged is lost."""
    for _ in range(TRIES):
        replica.ask("CLUSTER", "FAILOVER")
        # If the two do not come to terms in five seconds, they go on as they were.
        with suppress(TimeoutError):
            return until(lambda: is_primary(replica), "", seconds=PATIENCE_SECONDS / TRIES)
    raise TimeoutError(f"{replica!r} does not take over")


def until(holds: Callable[[], bool], complaint: str, *, seconds: float = PATIENCE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(complaint)
        time.sleep(0.01)
