"""Many executions on one server while everything fails at random: workers, server, connections, scripts.

None is lost and none ends twice. What their activities did is counted in a file outside, and is what the
promises say. `DURABLE_AGENTS_SEED` repeats a run as far as the machine does.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

import durable_agents as da
from tests.adapters.redis_servers import VALKEY, RedisServer, ServerOptions, temporary_server
from tests.adapters.tcp_proxy import LOOPBACK, Direction, TcpProxy
from tests.crash.processes import LEASE_SECONDS, Processes, insist
from tests.crash.program import Brief

pytestmark = [pytest.mark.crash, pytest.mark.server]

WORKERS = 2
AT_ONCE = 50
"""How many executions are under way at a time."""
RESULT = ["first done", "second done", "third done", "last done"]


class Trouble:
    """What may go wrong, and how it ends: each fault is over when its method returns."""

    def __init__(
        self, server: RedisServer, proxy: TcpProxy, processes: Processes, chance: random.Random
    ) -> None:
        self.server = server
        self.proxy = proxy
        self.processes = processes
        self.chance = chance
        self.happened: Counter[str] = Counter()

    async def make(self) -> None:
        """Let one thing after the other go wrong, until cancelled."""
        faults: list[Callable[[], Awaitable[None]]] = [
            self.worker_is_killed,
            self.worker_is_paused_past_its_lease,
            self.server_is_killed,
            self.connections_are_dropped,
            self.connection_is_cut,
            self.connection_is_cut,
            self.connections_are_refused,
            self.network_is_silent,
            self.clients_are_killed,
            self.scripts_are_flushed,
        ]
        while True:
            self.chance.shuffle(faults)
            for fault in faults:
                await asyncio.sleep(self.chance.uniform(0.0, 0.3))
                # A worker that cannot connect when it begins has ended, as it should.
                self.processes.supervise()
                self.happened[fault.__name__] += 1
                await fault()

    async def worker_is_killed(self) -> None:
        await self.processes.end(self.chance.choice(self.processes.alive), signal.SIGKILL)
        self.processes.begin()

    async def worker_is_paused_past_its_lease(self) -> None:
        paused = self.chance.choice(self.processes.alive)
        self.processes.send(paused, signal.SIGSTOP)
        await asyncio.sleep(1.5 * LEASE_SECONDS)
        self.processes.send(paused, signal.SIGCONT)

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
async def trouble(tmp_path: Path) -> AsyncIterator[Trouble]:
    seed = int(os.environ.get("DURABLE_AGENTS_SEED") or random.randrange(2**32))
    print(f"DURABLE_AGENTS_SEED={seed}")
    with temporary_server(VALKEY, ServerOptions(append_only=True)) as server:
        async with TcpProxy(server.port) as proxy:
            processes = Processes(f"redis://{LOOPBACK}:{proxy.port}/0?timeout=0.5", tmp_path)
            try:
                yield Trouble(server, proxy, processes, random.Random(seed))
            finally:
                await processes.close()


@pytest.mark.parametrize("count", [100, pytest.param(3000, marks=pytest.mark.nightly)])
async def test_executions_under_random_faults_are_neither_lost_nor_done_twice(
    count: int, trouble: Trouble
) -> None:
    processes, room = trouble.processes, asyncio.Semaphore(AT_ONCE)
    async with da.connect(f"redis://{LOOPBACK}:{trouble.server.port}/0?timeout=2") as backend:

        async def carry_out(number: int) -> None:
            async with room:
                execution = await insist(lambda: backend.start(Brief, id=f"x-{number}"))
                # A signal that was sent and not acknowledged is sent again, and does the same once more.
                await insist(lambda: execution.signal("release"))
                assert await insist(execution.result) == RESULT

        for _ in range(WORKERS):
            processes.begin()
        making = asyncio.create_task(trouble.make())
        async with asyncio.timeout(150 + count / 2), asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(carry_out(number))
        making.cancel()
        await asyncio.wait([making])
        trouble.proxy.heal()
        print(dict(trouble.happened))

        begun = Counter(
            (key, attempt) for key, attempt, _, word in processes.effects.lines() if word == "begin"
        )
        assert [attempt for attempt, times in begun.items() if times > 1] == []
        assert len({key for key, _ in begun}) == count * len(RESULT)
        for number in range(count):
            execution = await insist(lambda number=number: backend.get(f"x-{number}"))  # type: ignore[misc]
            told = Counter([event.kind async for event in execution.events()])
            assert told["activity_completed"] == told["activity_started"] == len(RESULT)
            assert (told["execution_completed"], told["timer_fired"]) == (1, 1)
        assert await backend.list(status="running") == []
