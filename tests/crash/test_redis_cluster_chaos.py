"""Many executions on a cluster while nodes, their places and their slots change at random."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from tests.adapters.redis_cluster import (
    cluster,
    is_caught_up,
    is_primary,
    is_well,
    move_slot_at_once,
    move_slot_key_by_key,
    owner_of,
    slot_of,
    take_over,
    until,
)
from tests.adapters.redis_servers import VALKEY, RedisServer, ServerOptions
from tests.crash.carrying import url_of
from tests.crash.chaos import Fault, Trouble, carry_out
from tests.crash.processes import Processes

pytestmark = [pytest.mark.crash, pytest.mark.server]

SHARDS = 16
OPTIONS = ServerOptions(append_only=True, settings={"cluster-node-timeout": "2000"})


class ClusterTrouble(Trouble):
    """The faults of a cluster that loses nothing it has acknowledged.

    The node that has a replica is therefore not killed: it would be followed without its last writes.
    """

    def __init__(self, nodes: Sequence[RedisServer], processes: Processes, chance: random.Random) -> None:
        super().__init__(processes, chance)
        self.nodes = nodes

    def faults(self) -> list[Fault]:
        return [
            *super().faults(),
            self.node_is_killed,
            self.replica_takes_over,
            self.slot_moves_at_once,
            self.slot_moves_key_by_key,
            self.clients_are_killed,
            self.scripts_are_flushed,
        ]

    async def node_is_killed(self) -> None:
        await asyncio.to_thread(self.chance.choice(self.nodes[1:3]).restart)
        await asyncio.to_thread(until, self.is_well, "the cluster does not come together again")

    def is_well(self) -> bool:
        return all(is_well(node, len(self.nodes)) for node in self.nodes)

    async def replica_takes_over(self) -> None:
        pair = (self.nodes[0], self.nodes[3])
        primary, replica = pair if is_primary(pair[0]) else reversed(pair)
        await asyncio.to_thread(until, lambda: is_caught_up(replica), "the replica does not catch up")
        await asyncio.to_thread(take_over, replica)
        await asyncio.to_thread(until, lambda: is_caught_up(primary), "it does not become a replica")

    async def slot_moves_at_once(self) -> None:
        slot, target = await asyncio.to_thread(self.move)
        await asyncio.to_thread(move_slot_at_once, self.nodes, slot, target)

    async def slot_moves_key_by_key(self) -> None:
        slot, target = await asyncio.to_thread(self.move)
        await asyncio.to_thread(list, move_slot_key_by_key(self.nodes, slot, target))

    def move(self) -> tuple[int, RedisServer]:
        """Choose a slot that is in use, and a node that could have it."""
        slot = slot_of(self.nodes, f"outlast:{{{self.chance.randrange(SHARDS)}}}:token")
        owner = owner_of(self.nodes, slot)
        return slot, self.chance.choice(
            [node for node in self.nodes if node is not owner and is_primary(node)]
        )

    async def clients_are_killed(self) -> None:
        for sort in ("normal", "pubsub"):
            self.chance.choice(self.nodes).ask("CLIENT", "KILL", "TYPE", sort)

    async def scripts_are_flushed(self) -> None:
        self.chance.choice(self.nodes).ask("SCRIPT", "FLUSH")


@pytest.fixture
async def trouble(tmp_path: Path, chance: random.Random) -> AsyncIterator[ClusterTrouble]:
    with cluster(VALKEY, OPTIONS, replicas=1) as nodes:
        processes = Processes(url_of(nodes[0].port, timeout="2"), tmp_path, lease_seconds=2.0)
        try:
            yield ClusterTrouble(nodes, processes, chance)
        finally:
            await processes.close()


@pytest.mark.nightly
@pytest.mark.parametrize("count", [1000])
async def test_executions_on_a_changing_cluster_are_neither_lost_nor_done_twice(
    count: int, trouble: ClusterTrouble
) -> None:
    await carry_out(count, url_of(trouble.nodes[2].port, timeout="2"), trouble)
