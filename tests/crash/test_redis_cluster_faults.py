"""Nodes of a cluster fail, change places and hand slots on under executions: nothing is lost or done twice.

What activities do is counted in a file outside. Moments are chosen by a seed that is printed;
`OUTLAST_SEED` repeats one.
"""

from __future__ import annotations

import asyncio
import functools
import random
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from redis import Redis

import outlast
from outlast.adapters.redis import RedisSettings, RedisStore
from outlast.core.errors import StorageUnavailable
from outlast.core.records import Status
from outlast.ports.journal import Claim, Commit, Head, Message, NewExecution, Work
from outlast.testing.contracts.crash.effects import PATIENCE_SECONDS, Effects
from outlast.testing.contracts.crash.programs import GatedProgram
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
from tests.adapters.redis_servers import REDIS, VALKEY, RedisServer, ServerOptions
from tests.crash.carrying import check_once, meanwhile, running, url_of
from tests.crash.processes import insist

pytestmark = [pytest.mark.crash, pytest.mark.server]

LEASE = timedelta(seconds=10)
"""Longer than it takes until a replica is in the place of its primary, so that who works goes on working."""
SHARDS = 16
IN_TIME_SECONDS = 10.0
"""Far more than the timeout, for a machine that has much to do; what never ends takes longer."""
OPTIONS = ServerOptions(append_only=True, settings={"cluster-node-timeout": "1000"})

Nodes = Sequence[RedisServer]


@pytest.fixture(scope="module", params=[VALKEY, pytest.param(REDIS, marks=pytest.mark.nightly)], ids=str)
def whole(request: pytest.FixtureRequest) -> Iterator[Nodes]:
    with cluster(request.param, OPTIONS, replicas=1) as nodes:
        yield nodes


@pytest.fixture
def nodes(whole: Nodes) -> Nodes:
    """Three nodes and a replica, in whatever places the last test left them."""
    for node in whole:
        if not node.is_running:
            node.start()
        node.ask("CONFIG", "SET", "cluster-require-full-coverage", "yes")
    until(lambda: is_caught_up(pair_of(whole)[1]), "the replica does not catch up")
    until(lambda: all_are_well(whole), "the cluster does not come together")
    return whole


def all_are_well(nodes: Nodes) -> bool:
    return all(is_well(node, len(nodes)) for node in nodes)


@pytest.fixture
def prefix() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def url(nodes: Nodes, prefix: str) -> str:
    return url_of(nodes[2].port, prefix=prefix, timeout="2")


def pair_of(nodes: Nodes) -> tuple[RedisServer, RedisServer]:
    """Return the primary that has a replica, and that."""
    return (nodes[0], nodes[3]) if is_primary(nodes[0]) else (nodes[3], nodes[0])


async def change_places(nodes: Nodes) -> None:
    primary, replica = pair_of(nodes)
    await asyncio.to_thread(take_over, replica)
    await asyncio.to_thread(until, lambda: is_caught_up(primary), "it does not become a replica")


def slots(nodes: Nodes, prefix: str) -> list[int]:
    return [slot_of(nodes, f"{prefix}:{{{shard}}}:token") for shard in range(SHARDS)]


# Nodes ---------------------------------------------------------------------------------------------------


async def test_a_node_that_is_killed_and_comes_back_has_lost_nothing(
    nodes: Nodes, url: str, effects: Effects, chance: random.Random
) -> None:
    async with running(url, count=6, lease=LEASE) as results:
        for node in chance.sample(nodes[:3], 2):
            await meanwhile(results, chance.uniform(0.02, 0.2))
            await asyncio.to_thread(node.restart)
    check_once(effects, count=6)


async def test_a_replica_that_is_made_primary_goes_on(
    nodes: Nodes, url: str, effects: Effects, chance: random.Random
) -> None:
    async with running(url, count=6, lease=LEASE) as results:
        for _ in range(4):
            await meanwhile(results, chance.uniform(0.02, 0.1))
            await change_places(nodes)
    check_once(effects, count=6)


async def test_a_replica_takes_over_from_a_primary_that_is_killed(
    nodes: Nodes, url: str, effects: Effects
) -> None:
    ids = [f"x-{number}" for number in range(20)]
    primary, replica = pair_of(nodes)
    async with outlast.connect(url) as backend:
        executions = [await backend.start(GatedProgram, id=id) for id in ids]
        async with backend.worker([GatedProgram], lease=LEASE):
            await effects.until(lambda: len(effects.attempts("gate")) == len(ids))
            assert primary.ask("WAIT", 1, int(PATIENCE_SECONDS * 1000)) == 1
            primary.kill()
            effects.path.with_name("gate").touch()
            results = asyncio.gather(*(insist(execution.result) for execution in executions))
            async with asyncio.timeout(PATIENCE_SECONDS):
                assert await results == [["before done", "gate done", "after done"]] * len(ids)
            assert is_primary(replica)
    assert {what: effects.attempts(what) for what in ("before", "gate", "after")} == {
        what: [1] * len(ids) for what in ("before", "gate", "after")
    }
    await asyncio.to_thread(primary.start)
    await asyncio.to_thread(until, lambda: is_caught_up(primary), "it does not come back as a replica")


async def test_while_a_node_is_down_what_the_others_have_is_claimed(nodes: Nodes, url: str) -> None:
    down = nodes[1]
    for node in nodes:
        node.ask("CONFIG", "SET", "cluster-require-full-coverage", "no")
    async with RedisStore(RedisSettings.from_url(url)) as store:
        for number in range(60):
            await store.create(NewExecution(f"x-{number}", "w", "f"), b"first")

        async def claim_all() -> Work:
            return await store.claim("a", ["w"], "default", limit=60, lease_seconds=60.0)

        down.kill()
        work = await claim_all()
        assert 0 < len(work.claims) < 60
        # It says that there may be more, soon.
        assert work.next_wake_at is not None
        assert work.next_wake_at < store.clock.now() + 1.0
        for claim in work.claims:
            await store.append(claim, 1, [b"second"], Commit(status=Status.COMPLETED))
        await asyncio.to_thread(down.start)
        claimed = len(work.claims)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while claimed < 60:
                claimed += len((await insist(claim_all)).claims)


async def test_a_node_that_is_silent_is_an_error_in_time_and_no_hang(nodes: Nodes, url: str) -> None:
    ids = [f"x-{number}" for number in range(20)]
    async with RedisStore(RedisSettings.from_url(f"{url}&timeout=0.5")) as store:
        for id in ids:
            await store.create(NewExecution(id, "w", "f"), b"first")
        nodes[1].pause()
        try:
            async with asyncio.timeout(IN_TIME_SECONDS):
                answers = await asyncio.gather(*(store.head(id) for id in ids), return_exceptions=True)
        finally:
            nodes[1].resume()
        assert {type(answer) for answer in answers} <= {Head, StorageUnavailable}
        assert any(isinstance(answer, StorageUnavailable) for answer in answers)
        for id in ids:
            assert await insist(functools.partial(store.head, id))


async def test_a_follower_gets_announcements_after_the_node_that_published_them_is_gone(
    nodes: Nodes, url: str
) -> None:
    async with (
        RedisStore(RedisSettings.from_url(url)) as store,
        RedisStore(RedisSettings.from_url(url)) as other,
    ):
        await store.create(NewExecution("x", "w", "f"), b"first")
        [claim] = (await other.claim("a", ["w"], "default", limit=1, lease_seconds=60.0)).claims
        for length in (1, 2):
            follow = functools.partial(store.follow, "x", length, 10 * PATIENCE_SECONDS)
            following = asyncio.create_task(insist(follow))
            await asyncio.to_thread(until, lambda: bool(subscribed(nodes)), "nobody listens")
            for node in subscribed(nodes):
                await asyncio.to_thread(node.restart)
            # A node that does not reach another yet loses announcements: a follower would look late.
            await asyncio.to_thread(until, lambda: all_are_well(nodes), "the cluster does not come together")
            await asyncio.to_thread(until, lambda: bool(subscribed(nodes)), "nobody listens again")
            assert not following.done()
            await insist(lambda length=length: appended(other, claim, length))  # type: ignore[misc]  # bound now
            async with asyncio.timeout(PATIENCE_SECONDS):
                await following


def subscribed(nodes: Nodes) -> list[RedisServer]:
    """Return the nodes where somebody listens."""
    return [node for node in nodes if node.ask("CLIENT", "LIST", "TYPE", "pubsub")]


async def appended(store: RedisStore, claim: Claim, length: int) -> None:
    """Append one record, unless an earlier try has done so that was not answered."""
    if len(await store.read(claim.execution_id)) == length:
        await store.append(claim, length, [b"more"], Commit())


# Slots ---------------------------------------------------------------------------------------------------


async def test_slots_that_move_at_once_move_under_executions(
    nodes: Nodes, url: str, prefix: str, effects: Effects, chance: random.Random
) -> None:
    if nodes[0].kind is not VALKEY:
        pytest.skip("this server can only move slots key by key")
    async with running(url, count=6, lease=LEASE) as results:
        for slot in slots(nodes, prefix):
            await meanwhile(results, chance.uniform(0.0, 0.05))
            await asyncio.to_thread(move_slot_at_once, nodes, slot, another(nodes, slot, chance))
    check_once(effects, count=6)


async def test_slots_that_move_key_by_key_move_under_executions(
    nodes: Nodes, url: str, prefix: str, effects: Effects, chance: random.Random
) -> None:
    async with running(url, count=6, lease=LEASE) as results:
        for slot in chance.sample(slots(nodes, prefix), 5):
            for _ in move_slot_key_by_key(nodes, slot, another(nodes, slot, chance)):
                await meanwhile(results, chance.uniform(0.0, 0.02))
    check_once(effects, count=6)


async def test_while_a_slot_moves_key_by_key_everything_is_refused_whole(
    nodes: Nodes, url: str, prefix: str, chance: random.Random
) -> None:
    async with RedisStore(RedisSettings.from_url(f"{url}&shards=1")) as store:
        ids = [f"x-{number}" for number in range(3)]
        for id in ids:
            await store.create(NewExecution(id, "w", "f"), b"first")
            await store.send(id, Message("m", b"body"))
        claims = (await store.claim("a", ["w"], "default", limit=2, lease_seconds=60.0)).claims
        claimed = {claim.execution_id for claim in claims}
        [unclaimed] = [id for id in ids if id not in claimed]
        ends = Commit(consumed=1, status=Status.COMPLETED)
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: store.create(NewExecution("new", "w", "f"), b"first"),
            lambda: store.create(NewExecution(unclaimed, "w", "f"), b"first"),
            lambda: store.send(unclaimed, Message("n", b"body")),
            lambda: store.append(claims[0], 1, [b"second"], Commit(consumed=1)),
            lambda: store.append(claims[1], 1, [b"second"], ends),
            lambda: store.claim("b", ["w"], "default", limit=9, lease_seconds=60.0),
            lambda: store.renew(claims, 120.0),
            lambda: store.prune(store.clock.now() + 1.0),
        ]
        [slot] = {slot_of(nodes, f"{prefix}:{{0}}:token")}
        before = contents(nodes, slot)
        for moved in move_slot_key_by_key(nodes, slot, another(nodes, slot, chance)):
            for call in calls:
                with pytest.raises(StorageUnavailable, match="moving slots"):
                    await call()
            if moved % 3 == 0:
                assert contents(nodes, slot) == before
        assert await store.renew(claims, 120.0) == frozenset()
        await store.append(claims[0], 1, [b"second"], Commit(consumed=1))
        await store.append(claims[1], 1, [b"second"], ends)
        rest = await store.claim("b", ["w"], "default", limit=9, lease_seconds=60.0)
        assert {claim.execution_id for claim in rest.claims} == set(ids) - claimed


def another(nodes: Nodes, slot: int, chance: random.Random) -> RedisServer:
    owner = owner_of(nodes, slot)
    return chance.choice([node for node in nodes if node is not owner and is_primary(node)])


def contents(nodes: Nodes, slot: int) -> dict[bytes, bytes]:
    """Return the keys of a slot on any node, with their values."""
    found: dict[bytes, bytes] = {}
    for node in nodes:
        if not is_primary(node):
            continue
        with node.client(single_connection_client=True) as client:
            for key in client.cluster("GETKEYSINSLOT", slot, 1000):
                assert key not in found
                kind = ask_here(client, "TYPE", key)
                # Redis 7.0 dumps a set in an order that each node chooses by chance.
                members = ask_here(client, "SMEMBERS", key) if kind == b"set" else ()
                found[key] = b" ".join(sorted(members)) or ask_here(client, "DUMP", key)
    return found


def ask_here(client: Redis, *command: str | bytes) -> Any:
    """Return the node's answer for a key that it has, also if the key has only just come."""
    client.execute_command("ASKING")  # type: ignore[no-untyped-call]  # redis-py's
    return client.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py's


# Waiting for the disk ------------------------------------------------------------------------------------


async def test_a_write_that_waits_for_the_append_only_file_of_its_node_survives_it(
    nodes: Nodes, url: str, effects: Effects, chance: random.Random
) -> None:
    if nodes[0].kind is not VALKEY:
        pytest.skip("this server may be too old to wait for its append-only file")
    async with running(f"{url}&wait_aof=local", count=4, lease=LEASE) as results:
        await meanwhile(results, chance.uniform(0.02, 0.2))
        await asyncio.to_thread(chance.choice(nodes[:3]).restart)
    check_once(effects, count=4)


@pytest.mark.nightly
async def test_a_write_that_waits_for_a_replica_survives_its_node(
    effects: Effects, chance: random.Random
) -> None:
    """A replica says only once a second what it has synced, so each step takes about as long."""
    with cluster(VALKEY, OPTIONS, replicas=3) as nodes:
        url = url_of(nodes[0].port, wait_aof="replica", timeout="4")
        async with running(url, count=3, lease=LEASE) as results:
            await meanwhile(results, chance.uniform(1.0, 4.0))
            for primary, replica in zip(nodes[:3], nodes[3:], strict=True):
                primary.kill()
                await asyncio.to_thread(until, functools.partial(is_primary, replica), "nobody takes over")
                await asyncio.to_thread(primary.start)
                await asyncio.to_thread(until, functools.partial(is_caught_up, primary), "no replica")
    check_once(effects, count=3)
