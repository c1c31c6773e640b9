"""Several servers that belong together: a cluster of three, and a server with its replica."""

from __future__ import annotations

import atexit
import functools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from tests.adapters.redis_servers import LOOPBACK, PATIENCE_SECONDS, Kind, RedisServer, ServerOptions

SLOTS = 16384
NODES = 3


@contextmanager
def cluster(kind: Kind, options: ServerOptions | None = None) -> Iterator[Sequence[RedisServer]]:
    """Run three nodes that share all slots among them; yield them when each says that all is well."""
    options = options or ServerOptions()
    settings = {"cluster-enabled": "yes", "cluster-node-timeout": "3000", **options.settings}
    with tempfile.TemporaryDirectory(prefix=f"durable-agents-{kind}-") as directory, ExitStack() as stack:
        nodes = [
            stack.enter_context(
                RedisServer(kind, Path(directory) / f"node-{number}", replace(options, settings=settings))
            )
            for number in range(NODES)
        ]
        for number, node in enumerate(nodes):
            first, behind = number * SLOTS // NODES, (number + 1) * SLOTS // NODES
            node.ask("CLUSTER", "ADDSLOTSRANGE", first, behind - 1)
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in nodes[1:]:
            node.ask("CLUSTER", "MEET", LOOPBACK, nodes[0].port, nodes[0].bus_port)
        _until(lambda: all(map(_is_whole, nodes)), "the nodes do not come together")
        yield nodes


_shared = ExitStack()
atexit.register(_shared.close)


@functools.cache
def shared_cluster(kind: Kind) -> Sequence[RedisServer]:
    """Return the cluster of this kind that the tests of this process share. Nobody stops it or flushes it."""
    return _shared.enter_context(cluster(kind))


def _is_whole(node: RedisServer) -> bool:
    told = str(node.ask("CLUSTER", "INFO"))
    return "cluster_state:ok" in told and f"cluster_known_nodes:{NODES}" in told


@contextmanager
def replicated(kind: Kind, options: ServerOptions | None = None) -> Iterator[tuple[RedisServer, RedisServer]]:
    """Run a server and a replica of it, which has caught up; yield both."""
    options = options or ServerOptions()
    with tempfile.TemporaryDirectory(prefix=f"durable-agents-{kind}-") as directory, ExitStack() as stack:
        primary = stack.enter_context(RedisServer(kind, Path(directory) / "primary", options))
        settings = {"replicaof": f"{LOOPBACK} {primary.port}", **options.settings}
        replica = stack.enter_context(
            RedisServer(kind, Path(directory) / "replica", replace(options, settings=settings))
        )
        _until(lambda: is_caught_up(replica), f"{replica!r} does not catch up")
        yield primary, replica


def is_caught_up(replica: RedisServer) -> bool:
    with replica.client() as client:
        told = client.info("replication")
    return bool(told["master_link_status"] == "up" and not told["master_sync_in_progress"])


def promote(replica: RedisServer) -> None:
    """Make it a server of its own, which takes writes."""
    replica.ask("REPLICAOF", "NO", "ONE")


def _until(holds: Callable[[], bool], complaint: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(complaint)
        time.sleep(0.01)
