"""A server, and the way to it, fail under executions that run: nothing is lost, and nothing is done twice.

The faults are real: processes are killed, connections cut at a byte, memory is full. What activities do is
counted in a file outside. Moments are chosen by a seed that is printed; `OUTLAST_SEED` repeats one.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import outlast
from outlast.adapters.redis import RedisSettings, RedisStore
from outlast.core.errors import LeaseLost, StorageFull, StorageUnavailable
from outlast.ports.journal import Commit, Message, NewExecution
from outlast.testing.contracts.crash.effects import PATIENCE_SECONDS, Effects
from outlast.testing.contracts.crash.programs import GatedProgram, Program
from tests.adapters.redis_cluster import promote, replicated
from tests.adapters.redis_servers import REDIS, VALKEY, RedisServer, ServerOptions, temporary_server
from tests.adapters.tcp_proxy import Direction, TcpProxy
from tests.crash.carrying import LEASE, SOON, STEPS, check, meanwhile, running, url_of
from tests.crash.processes import insist

pytestmark = [pytest.mark.crash, pytest.mark.server]

IN_TIME_SECONDS = 10.0
"""Far more than that, for a machine that has much to do; what never ends takes longer."""


@pytest.fixture(params=[VALKEY, pytest.param(REDIS, marks=pytest.mark.nightly)], ids=str)
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with temporary_server(request.param, ServerOptions(append_only=True)) as server:
        yield server


@pytest.fixture
async def proxy(server: RedisServer) -> AsyncIterator[TcpProxy]:
    async with TcpProxy(server.port) as proxy:
        yield proxy


async def test_a_server_that_is_killed_and_comes_back_has_lost_nothing(
    server: RedisServer, effects: Effects, chance: random.Random
) -> None:
    async with running(url_of(server.port)) as results:
        for _ in range(3):
            await meanwhile(results, chance.uniform(0.02, 0.3))
            await asyncio.to_thread(server.restart)
    check(effects)


async def test_a_connection_that_is_cut_at_any_byte_of_a_script_or_its_answer_does_no_harm(
    server: RedisServer, proxy: TcpProxy, effects: Effects, chance: random.Random
) -> None:
    cuts = 0
    async with running(url_of(server.port), through=url_of(proxy.port)) as results:
        while not results.done():
            proxy.cut_after(chance.randrange(1500), chance.choice(list(Direction)))
            cut = asyncio.create_task(proxy.was_cut.wait())
            first: set[asyncio.Future[Any]] = {cut, results}
            await asyncio.wait(first, timeout=LEASE.total_seconds(), return_when=asyncio.FIRST_COMPLETED)
            cuts += proxy.was_cut.is_set()
            cut.cancel()
        proxy.heal()
    assert cuts
    check(effects)


async def test_a_start_and_a_message_that_are_cut_off_anywhere_happen_once(
    server: RedisServer, proxy: TcpProxy
) -> None:
    settings, sure_settings = (RedisSettings.from_url(url_of(port)) for port in (proxy.port, server.port))
    cuts = [(Direction.TO_CLIENT, count) for count in range(0, 12)]
    cuts += [(Direction.TO_SERVER, count) for count in range(0, 250, 13)]
    async with RedisStore(settings) as store, RedisStore(sure_settings) as sure:

        async def cut(direction: Direction, count: int) -> None:
            """Cut the connection during the next call; a cut right behind the answer does no harm."""
            proxy.drop()
            await insist(lambda: store.head("x-1"))
            proxy.cut_after(count, direction)

        for number, (direction, count) in enumerate(cuts, start=1):
            await cut(direction, count)
            await store.create(NewExecution(f"x-{number}", "w", "f"), b"first")
            assert list(await sure.read(f"x-{number}")) == [b"first"]
            await cut(direction, count)
            await store.send("x-1", Message(f"m-{number}", b"body"))
            deliveries = await sure.messages("x-1", 0)
            assert [one.message.id for one in deliveries] == [f"m-{sent}" for sent in range(1, number + 1)]
        assert len(await sure.heads()) == len(cuts)


@pytest.mark.parametrize("sort", ["normal", "pubsub"])
async def test_clients_that_the_operator_kills_come_back(
    sort: str, server: RedisServer, effects: Effects, chance: random.Random
) -> None:
    async with running(url_of(server.port)) as results:
        for _ in range(5):
            await meanwhile(results, chance.uniform(0.02, 0.1))
            server.ask("CLIENT", "KILL", "TYPE", sort)
    check(effects)


async def test_scripts_that_the_operator_flushes_are_loaded_again(
    server: RedisServer, effects: Effects, chance: random.Random
) -> None:
    async with running(url_of(server.port)) as results:
        for _ in range(5):
            await meanwhile(results, chance.uniform(0.02, 0.1))
            server.ask("SCRIPT", "FLUSH")
    check(effects)


async def test_a_replica_that_takes_over_goes_on_with_all_that_it_was_sent(effects: Effects) -> None:
    with replicated(VALKEY) as (primary, replica):
        async with TcpProxy(primary.port) as proxy, outlast.connect(url_of(proxy.port)) as backend:
            execution = await backend.start(GatedProgram, id="x")
            async with backend.worker([GatedProgram], lease=LEASE):
                await effects.until(lambda: effects.attempts("gate") == [1])
                assert primary.ask("WAIT", 1, int(PATIENCE_SECONDS * 1000)) == 1
                primary.kill()
                promote(replica)
                proxy.server_port = replica.port
                effects.path.with_name("gate").touch()
                async with asyncio.timeout(PATIENCE_SECONDS):
                    assert await execution.result() == ["before done", "gate done", "after done"]
    assert [effects.attempts(what) for what in ("before", "gate", "after")] == [[1], [1], [1]]


async def test_d6_a_claim_that_a_failover_lost_is_fenced_all_the_same() -> None:
    with replicated(VALKEY) as (primary, replica):
        async with RedisStore(RedisSettings.from_url(url_of(primary.port))) as store:
            await store.create(NewExecution("x", "w", "f"), b"first")
            assert primary.ask("WAIT", 1, int(PATIENCE_SECONDS * 1000)) == 1
            promote(replica)
            [lost] = (await store.claim("a", ["w"], "default", limit=1, lease_seconds=10.0)).claims
            primary.kill()
        async with RedisStore(RedisSettings.from_url(url_of(replica.port))) as store:
            [claim] = (await store.claim("b", ["w"], "default", limit=1, lease_seconds=10.0)).claims
            with pytest.raises(LeaseLost):
                await store.append(lost, 1, [b"stale"], Commit())
            await store.append(claim, 1, [b"second"], Commit())
            assert list(await store.read("x")) == [b"first", b"second"]


@pytest.mark.parametrize("wait_aof", ["local", pytest.param("replica", marks=pytest.mark.nightly)])
async def test_a_write_that_waits_for_the_append_only_file_survives_the_server(
    wait_aof: str, effects: Effects, chance: random.Random
) -> None:
    """A replica says only once a second what it has synced, so then each step takes about as long."""
    with replicated(VALKEY, ServerOptions(append_only=True)) as (primary, _):
        url = url_of(primary.port, wait_aof=wait_aof, timeout="4")
        async with running(url, count=2) as results:
            await meanwhile(results, chance.uniform(0.1, 0.5))
            await asyncio.to_thread(primary.restart)
    check(effects, count=2)


async def test_a_server_whose_memory_is_full_refuses_whole_and_goes_on_with_more(
    server: RedisServer, effects: Effects
) -> None:
    async with running(url_of(server.port)) as results, outlast.connect(url_of(server.port)) as backend:
        await effects.until(lambda: len(effects.lines()) > 4)
        server.ask("CONFIG", "SET", "maxmemory", 1)
        before = sorted(server.ask("KEYS", "*"))
        with pytest.raises(StorageFull, match="maxmemory"):
            await backend.start(Program, STEPS, id="refused")
        with pytest.raises(StorageFull):
            await (await backend.get("x-0")).signal("put", 4)
        await meanwhile(results, 0.2)
        assert not results.done()
        assert sorted(server.ask("KEYS", "*")) == before
        server.ask("CONFIG", "SET", "maxmemory", 0)
    check(effects)


async def test_changes_whose_announcements_are_lost_are_found_by_looking_now_and_then(
    server: RedisServer, proxy: TcpProxy, effects: Effects
) -> None:
    async with (
        outlast.connect(url_of(server.port)) as starting,
        outlast.connect(url_of(proxy.port)) as working,
        working.worker([GatedProgram], lease=LEASE),
    ):
        before = await starting.start(GatedProgram)
        await effects.until(lambda: len(effects.attempts("gate")) == 1)
        # From now on the worker takes announcements of its task queue for those of another.
        proxy.replace(b"work:default", b"work:unheard")
        executions = [before, await starting.start(GatedProgram)]
        effects.path.with_name("gate").touch()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.gather(*(execution.result() for execution in executions))
    assert len(effects.attempts("after")) == 2


async def test_a_server_that_is_silent_is_an_error_in_time_and_no_hang(
    server: RedisServer, proxy: TcpProxy
) -> None:
    async with outlast.connect(url_of(proxy.port, timeout=SOON)) as backend:
        execution = await insist(lambda: backend.start(GatedProgram, id="x"))
        for silence in (proxy.freeze, server.pause, proxy.refuse):
            silence()
            for call in (execution.describe, execution.cancel, backend.workers, backend.list):
                began = time.monotonic()
                with pytest.raises(StorageUnavailable):
                    await call()
                assert time.monotonic() - began < IN_TIME_SECONDS
            server.resume()
            proxy.heal()
            assert (await insist(execution.describe)).id == "x"
        proxy.freeze()
        began = time.monotonic()
        with pytest.raises(StorageUnavailable):
            await outlast.connect(url_of(proxy.port, timeout=SOON)).__aenter__()
        assert time.monotonic() - began < IN_TIME_SECONDS


async def test_a_worker_survives_a_server_that_is_silent_longer_than_its_lease(
    server: RedisServer, effects: Effects
) -> None:
    async with running(url_of(server.port), through=url_of(server.port, timeout=SOON)):
        await effects.until(lambda: len(effects.lines()) > 4)
        server.pause()
        await asyncio.sleep(1.5 * LEASE.total_seconds())
        server.resume()
    check(effects)
