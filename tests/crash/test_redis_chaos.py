"""Many executions on one server while everything fails at random: workers, server, connections, scripts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from outlast.testing.contracts.crash.processes import LEASE_SECONDS
from tests.adapters.redis_servers import VALKEY, RedisServer, ServerOptions, temporary_server
from tests.adapters.tcp_proxy import LOOPBACK, Direction, TcpProxy
from tests.crash.chaos import Fault, Trouble, carry_out
from tests.crash.processes import Processes

pytestmark = [pytest.mark.crash, pytest.mark.server]


class ServerTrouble(Trouble):
    """The faults of a server and of the way to it."""

    def __init__(
        self, server: RedisServer, proxy: TcpProxy, processes: Processes, chance: random.Random
    ) -> None:
        super().__init__(processes, chance)
        self.server = server
        self.proxy = proxy

    def faults(self) -> list[Fault]:
        return [
            *super().faults(),
            self.server_is_killed,
            self.connections_are_dropped,
            self.connection_is_cut,
            self.connection_is_cut,
            self.connections_are_refused,
            self.network_is_silent,
            self.clients_are_killed,
            self.scripts_are_flushed,
        ]

    async def server_is_killed(self) -> None:
        await asyncio.to_thread(self.server.restart)

    async def connections_are_dropped(self) -> None:
        self.proxy.drop()

    async def connection_is_cut(self) -> None:
        self.proxy.cut_after(self.chance.randrange(3000), self.chance.choice(list(Direction)))
        with suppress(TimeoutError):
            await asyncio.wait_for(self.proxy.was_cut.wait(), LEASE_SECONDS)

    async def connections_are_refused(self) -> None:
        self.proxy.refuse()
        await asyncio.sleep(self.chance.uniform(0.0, 0.3))
        self.proxy.heal()

    async def network_is_silent(self) -> None:
        self.proxy.freeze()
        await asyncio.sleep(self.chance.uniform(0.0, 0.6))
        self.proxy.heal()

    async def clients_are_killed(self) -> None:
        for sort in ("normal", "pubsub"):
            self.server.ask("CLIENT", "KILL", "TYPE", sort)

    async def scripts_are_flushed(self) -> None:
        self.server.ask("SCRIPT", "FLUSH")


@pytest.fixture
async def trouble(tmp_path: Path, chance: random.Random) -> AsyncIterator[ServerTrouble]:
    with temporary_server(VALKEY, ServerOptions(append_only=True)) as server:
        async with TcpProxy(server.port) as proxy:
            processes = Processes(f"redis://{LOOPBACK}:{proxy.port}/0?timeout=0.5", tmp_path)
            try:
                yield ServerTrouble(server, proxy, processes, chance)
            finally:
                await processes.close()


@pytest.mark.parametrize("count", [100, pytest.param(3000, marks=pytest.mark.nightly)])
async def test_executions_under_random_faults_are_neither_lost_nor_done_twice(
    count: int, trouble: ServerTrouble
) -> None:
    await carry_out(count, f"redis://{LOOPBACK}:{trouble.server.port}/0?timeout=2", trouble)
