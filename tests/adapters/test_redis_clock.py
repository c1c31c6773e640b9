"""The clock of a Redis server is set while clients use it: no time jumps, and no lease is taken away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.adapters.redis import RedisSettings, RedisStore
from outlast.adapters.redis.clock import Correction, ServerClock
from outlast.ports.journal import Claim, Commit, NewExecution
from tests.adapters.redis_servers import VALKEY, shared_server
from tests.adapters.redis_storage import Prefix
from tests.adapters.tcp_proxy import LOOPBACK, TcpProxy

ABOUT_SECONDS = 0.2
"""The longest time that an answer may take here; steps are far greater."""


class FakeServer:
    """A clock that can be set, and the correction that its clients share."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.correction = Correction()

    async def time(self) -> float:
        return time.time() + self.ahead

    async def correct(self, version: int, seconds: float | None) -> Correction:
        if seconds is not None and version == self.correction.version:
            self.correction = Correction(version + 1, seconds)
        return self.correction


steps = st.sampled_from([-86_400.0, -3600.0, -2.0, 2.0, 3600.0])
deeds = st.one_of(
    st.tuples(st.just("step"), steps),
    st.tuples(st.just("synchronise"), st.integers(0, 4)),
    st.tuples(st.just("join"), st.just(0)),
)


@given(st.lists(deeds, max_size=25))
async def test_however_the_clock_is_set_the_time_of_clients_goes_on(done: list[tuple[str, float]]) -> None:
    """Somebody who was there before a step notices it before anybody else asks for the time."""
    server, clients = FakeServer(), [ServerClock() for _ in range(2)]
    began = time.time() - time.monotonic()
    for client in clients:
        await client.synchronise(server.time, server.correct)
    for what, detail in done:
        match what:
            case "step":
                server.ahead += detail
                await clients[0].synchronise(server.time, server.correct)
            case "synchronise":
                client = clients[int(detail) % len(clients)]
                await client.synchronise(server.time, server.correct)
            case _:
                clients.append(ServerClock())
                await clients[-1].synchronise(server.time, server.correct)
        for client in clients:
            assert abs(client.now() - client.steady() - began) < ABOUT_SECONDS


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
async def test_a_client_that_came_after_a_step_follows_those_who_know_better(step: float) -> None:
    server, old, new = FakeServer(), ServerClock(), ServerClock()
    began = time.time() - time.monotonic()
    await old.synchronise(server.time, server.correct)
    server.ahead += step
    await new.synchronise(server.time, server.correct)
    assert abs(new.now() - new.steady() - began - step) < ABOUT_SECONDS
    await old.synchronise(server.time, server.correct)
    for _ in range(2):
        await new.synchronise(server.time, server.correct)
        await old.synchronise(server.time, server.correct)
        for client in (old, new):
            assert abs(client.now() - client.steady() - began) < ABOUT_SECONDS


@pytest.fixture
async def proxy() -> AsyncIterator[TcpProxy]:
    async with TcpProxy(shared_server(VALKEY).port) as proxy:
        yield proxy


def set_clock(proxy: TcpProxy, days: int) -> None:
    """Let the server's clock differ by so many times 11.6 days, on the wire."""
    millions = int(time.time()) // 1_000_000
    told, instead = (f"\r\n$10\r\n{number}".encode() for number in (millions, millions + days))
    proxy.replace(told, instead)


@pytest.mark.server
@pytest.mark.parametrize("days", [-1, 1])
async def test_d20_no_lease_is_taken_when_the_clock_of_the_server_is_set(days: int, proxy: TcpProxy) -> None:
    storage = Prefix(f"redis://{LOOPBACK}:{proxy.port}/0")
    settings: RedisSettings = storage.settings
    try:
        async with RedisStore(settings) as first, RedisStore(settings) as second:
            await first.create(NewExecution("e", "w", "f"), b"first")
            [claim] = await claimed(first, "a")
            await first.create(NewExecution("waiting", "w", "f"), b"first")
            set_clock(proxy, days)
            await synchronise(first)
            await synchronise(second)
            async with RedisStore(settings) as third:
                assert await claimed_soon(third, "b") == ["waiting"]
                assert await claimed(second, "b") == []
                assert await first.renew([claim], 100.0) == frozenset()
                await first.create(NewExecution("later", "w", "f"), b"first")
                assert await claimed_soon(third, "c") == ["later"]
                await first.append(claim, 1, [b"second"], Commit(release=True, wake_in=0.0))
                assert await claimed_soon(second, "d") == ["e"]
    finally:
        proxy.heal()
        await storage.dispose()


async def claimed(store: RedisStore, worker: str) -> list[Claim]:
    work = await store.claim(worker, ["w"], "default", limit=10, lease_seconds=100.0)
    return list(work.claims)


async def claimed_soon(store: RedisStore, worker: str) -> list[str]:
    """Return the executions of the first claim that finds any: two clients know the time to a few ms."""
    async with asyncio.timeout(10.0):
        while not (claims := await claimed(store, worker)):
            pass
    return [claim.execution_id for claim in claims]


async def synchronise(store: RedisStore) -> None:
    assert isinstance(store.clock, ServerClock)
    await store._synchronise(store.clock)
