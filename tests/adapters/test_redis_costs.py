"""The costs of work for a Redis server: one round trip for a step, next to none for waiting."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

import pytest

import outlast
from outlast.testing.contracts.durability import workflows
from outlast.testing.contracts.durability.waiting import Mailbox
from tests.adapters.redis_servers import VALKEY, RedisServer, temporary_server

pytestmark = pytest.mark.server

PATIENCE_SECONDS = 30.0
SCRIPTS = {"evalsha", "eval"}


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with temporary_server(VALKEY) as server:
        yield server


def calls(server: RedisServer) -> Counter[str]:
    """Return how often the server was asked to do what."""
    statistics = server.ask("INFO", "commandstats")
    return Counter({name.removeprefix("cmdstat_"): command["calls"] for name, command in statistics.items()})


async def scripts_of(server: RedisServer, steps: int) -> int:
    """Return how many scripts a worker ran for an execution with so many steps, while nobody watched it."""
    before = calls(server)
    async with outlast.connect(server.url()) as backend, backend.worker([workflows.Counter]):
        execution = await backend.start(workflows.Counter, steps)
        async with asyncio.timeout(PATIENCE_SECONDS):
            # Nobody watches it, so nobody can be told.
            while server.ask("EXISTS", "outlast:{0}:listed:running:contract.counter"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        asked = calls(server) - before
        assert await execution.result() == sum(range(steps))
    return sum(asked[name] for name in SCRIPTS)


async def test_a_step_is_one_script(server: RedisServer) -> None:
    await scripts_of(server, 1)  # what is asked for once: the scripts themselves are loaded
    few, many = await scripts_of(server, 10), await scripts_of(server, 60)
    # Some more may be looks for work that time has brought about meanwhile.
    assert 50 <= many - few <= 54


async def test_commands_of_one_moment_share_a_connection_and_each_gets_its_own_reply(
    server: RedisServer,
) -> None:
    async with outlast.connect(server.url()) as backend:
        started = [await backend.start(Mailbox, id=f"e{number}") for number in range(3)]
        before = server.ask("INFO", "stats")["total_connections_received"]
        ids = [f"e{number}" for number in range(300)]
        found = await asyncio.gather(*map(backend.get, ids), return_exceptions=True)
        opened = server.ask("INFO", "stats")["total_connections_received"] - before
    there, missing = found[:3], found[3:]
    assert [one.id for one in there if not isinstance(one, BaseException)] == [one.id for one in started]
    assert all(isinstance(one, outlast.ExecutionNotFound) for one in missing)
    # One for each pipeline of 100, one to ask the server, and one for what happens to come meanwhile.
    assert opened <= 5


async def test_a_caller_that_waits_for_a_result_gets_only_the_announcement_of_the_end(
    server: RedisServer,
) -> None:
    async with outlast.connect(server.url()) as backend, backend.worker([Mailbox]):
        execution = await backend.start(Mailbox)
        waiting = asyncio.create_task(execution.result())
        channel = f"outlast:end:{execution.id}"
        async with asyncio.timeout(PATIENCE_SECONDS):
            # Redis announces no subscription to others.
            while server.ask("PUBSUB", "NUMSUB", channel) != [channel.encode(), 1]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert server.ask("PUBSUB", "CHANNELS", f"*:{execution.id}") == [channel.encode()]
        await execution.signal("stop")
        assert await waiting == []


async def test_waiting_costs_no_more_than_signs_of_life(server: RedisServer) -> None:
    lease = timedelta(seconds=0.5)
    async with outlast.connect(server.url()) as backend, backend.worker([Mailbox], lease=lease):
        executions = [await backend.start(Mailbox) for _ in range(20)]
        await asyncio.sleep(2 * lease.total_seconds())
        before, began = calls(server), time.monotonic()
        await asyncio.sleep(4 * lease.total_seconds())
        asked, passed = calls(server) - before, time.monotonic() - began
        # In the time of a lease: four looks for work, three announcements, and calls that had begun before.
        assert sum(asked[name] for name in SCRIPTS) <= 7 * passed / lease.total_seconds() + 4
        assert asked["subscribe"] == 0
        for execution in executions:
            await execution.signal("stop")
            assert await execution.result() == []
