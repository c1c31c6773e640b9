"""Good executions beside bad ones of every kind, while workers are killed and paused at random (D19, D20).

Every good one completes, with each step done once. Every bad one fails or is held, and says why. Workers
stay, or are replaced. `OUTLAST_SEED` repeats a run as far as the machine does.
"""

from __future__ import annotations

import asyncio
import random
import re
import socket
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from redis.asyncio import Redis

import outlast
from outlast.adapters.memory import store as memory
from outlast.adapters.redis import store as redis
from outlast.adapters.sqlite import store as sqlite
from outlast.adapters.temporal import payloads as temporal
from outlast.core.errors import StorageCorrupt
from outlast.core.records import Status
from outlast.testing.contracts.crash.effects import Effects
from outlast.testing.contracts.crash.processes import LEASE_SECONDS
from tests.adapters.redis_servers import VALKEY, shared_server
from tests.adapters.temporal_server import new_namespace
from tests.adapters.temporal_server import shared_server as shared_temporal_server
from tests.crash.bad_neighbours import DIED, KINDS, SPOILINGS, BadNeighbour, Grounds, Harm, Kind
from tests.crash.chaos import Fault, Trouble, carried_out, check_effects, check_events, made
from tests.crash.processes import Processes, insist
from tests.crash.program import Brief
from tests.crash.supervised import Supervised, Untroubled

pytestmark = [pytest.mark.crash, pytest.mark.server]

CACHED = 10
"""So few executions stay in the memory of a worker that others must leave it."""


REST_SECONDS = 1.0
"""So long that an execution makes some progress between two losses of its worker, or is to blame for both."""


@dataclass(frozen=True, slots=True)
class Size:
    """The number of executions, and the time that they may take."""

    good: int
    bad: int
    """Those of each kind."""
    signals: int
    seconds: float
    held_at_most: int = 0
    """How many good ones, and how many bad ones, may lose five workers in a row by mere bad luck, or find no
    time to compute in; they are resumed."""

    def __str__(self) -> str:
        return f"{self.good} beside {self.bad} of each kind"


SMALL = Size(good=20, bad=1, signals=1000, seconds=165)
FEW = Size(good=10, bad=1, signals=500, seconds=165)
"""On Temporal each step is a round trip to its server, and each lost workflow task costs ten seconds."""
FULL = Size(good=200, bad=20, signals=60_000, seconds=3600, held_at_most=20)
"""One flood is of that many signals, and the others of a hundredth."""

SIZES = [SMALL, pytest.param(FULL, marks=pytest.mark.nightly)]


@pytest.fixture
def hanging_url() -> Iterator[str]:
    """Yield the URL of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


class InThisProcess(Trouble):
    """Workers in one process, which go at once or in good order, and others come."""

    def __init__(self, backend: outlast.Backend, chance: random.Random, effects: Effects) -> None:
        super().__init__(Processes("memory:", effects.path.parent), chance, rest_seconds=REST_SECONDS)
        self.backend = backend
        self.alive: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        self.alive.append(asyncio.create_task(self._work()))

    def faults(self) -> list[Fault]:
        return [self.worker_is_dropped, self.worker_is_stopped]

    async def supervise(self) -> None:
        """Fail if a worker ends by itself: nobody is there to begin another one."""
        while True:
            for task in self.alive:
                assert not task.done()
            await asyncio.sleep(0.05)

    async def worker_is_dropped(self) -> None:
        """Cancel its stop too: it leaves its leases as they are."""
        await self._end(2)

    async def worker_is_stopped(self) -> None:
        await self._end(1)

    async def _end(self, times: int) -> None:
        worker = self.alive.pop(self.chance.randrange(len(self.alive)))
        for _ in range(times):
            worker.cancel()
            await asyncio.sleep(0)
        await asyncio.wait([worker])
        self.begin()

    async def _work(self) -> None:
        lease = timedelta(seconds=LEASE_SECONDS)
        async with self.backend.worker(
            [Brief, BadNeighbour], lease=lease, max_cached_executions=CACHED
        ) as worker:
            await worker.run()

    async def close(self) -> None:
        for worker in self.alive:
            worker.cancel()
        await asyncio.gather(*self.alive, return_exceptions=True)


class BadLuck:
    """The executions that were held for what others did; there may be so many."""

    def __init__(self, most: int) -> None:
        self._most = most

    async def resume(self, kind: Kind, execution: outlast.Execution, said: str) -> None:
        assert self._most > 0, (kind, said)
        self._most -= 1
        print(f"{execution.id} was held and is resumed: {said}")
        await insist(execution.resume)


async def until_ended(kind: Kind, execution: outlast.Execution, luck: BadLuck) -> None:
    """Return when an execution has ended as one of its kind must."""
    while True:
        status, held, said = await looked_at(kind, execution)
        # Whoever lives beside executions that end their process can lose five workers in a row to them.
        if (held or status is Status.FAILED) and re.search(f"{kind.says}|{DIED}", said):
            return
        if held:
            await luck.resume(kind, execution, said)
        assert held or status is Status.RUNNING, (kind, status, said)
        await asyncio.sleep(0.1)  # a journal that cannot be read announces nothing


async def looked_at(kind: Kind, execution: outlast.Execution) -> tuple[Status, bool, str]:
    """Return the status of an execution, whether it is held, and why."""
    try:
        described = await insist(execution.describe)
    except StorageCorrupt as error:
        # Nobody has tried to carry it on since its keys were spoilt.
        if not kind.has_keys:
            raise
        return Status.PAUSED, True, str(error)
    return described.status, described.held, described.error or ""


async def live_side_by_side(
    backend: outlast.Backend,
    trouble: Trouble,
    kinds: Sequence[Kind],
    size: Size,
    grounds: Grounds,
    effects: Effects,
) -> None:
    """Carry good executions out beside bad ones, and check what becomes of all."""
    ids = [f"good-{number}" for number in range(size.good)]

    async def misbehave(kind: Kind, number: int) -> None:
        few = replace(grounds, signals=max(1, grounds.signals // 100))
        id = f"{kind.name}-{number}".replace(" ", "-")
        execution = await kind.start(backend, id, number, few if number else grounds)
        await until_ended(kind, execution, luck)
        print(f"{time.monotonic() - began:6.1f} s  {id} has ended")

    began, luck = time.monotonic(), BadLuck(size.held_at_most)
    async with made(trouble, size.seconds), asyncio.TaskGroup() as group:
        for kind in kinds:
            for number in range(max(size.bad, kind.least)):
                group.create_task(misbehave(kind, number))
        results = await carried_out(backend, ids, held_at_most=size.held_at_most)
        print(f"{len(ids)} good executions: {len(ids) / (time.monotonic() - began):.1f} per second")
    # The executions that misbehaved have left workers that still work.
    async with made(trouble, 60):
        results = {**results, **await carried_out(backend, ["afterwards"])}
        check_effects(effects, results)
        await check_events(backend, results)


@pytest.mark.parametrize("size", SIZES, ids=str)
async def test_d19_neighbours_in_one_process(
    size: Size, chance: random.Random, effects: Effects, hanging_url: str
) -> None:
    grounds = Grounds(hanging_url, size.signals, memory.LIMIT_BYTES)
    async with outlast.connect("memory:") as backend:
        trouble = InThisProcess(backend, chance, effects)
        try:
            await live_side_by_side(
                backend, trouble, kinds_on("memory", Harm.ITSELF, Harm.HOLDS_LOOP), size, grounds, effects
            )
        finally:
            await trouble.close()


@pytest.fixture
async def processes(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Processes]:
    match request.param:
        case "sqlite":
            url = f"sqlite:///{tmp_path / 'runs.db'}"
        case "redis":
            url = f"{shared_server(VALKEY).url()}?prefix={uuid.uuid4().hex}"
        case _:
            address = shared_temporal_server()
            url = f"temporal://{address}/{await new_namespace(address)}"
    processes = Processes(url, tmp_path, max_cached_executions=CACHED)
    try:
        yield processes
    finally:
        await processes.close()


def grounds_of(processes: Processes, size: Size, hanging_url: str) -> Grounds:
    """Return the surroundings of executions on the backend of those processes."""

    async def spoil(id: str, number: int) -> None:
        shard = processes.url.partition("prefix=")[2] + ":{0}:"
        async with Redis.from_url(shared_server(VALKEY).url()) as client:
            match number % SPOILINGS:
                case 0:
                    await client.delete(f"{shard}journal:{id}")
                case 1:
                    await client.set(f"{shard}journal:{id}", "junk")
                case 2:
                    await client.hset(f"{shard}head:{id}", "sent", "junk")
                case _:
                    await client.delete(f"{shard}message-ids:{id}")
                    await client.set(f"{shard}message-ids:{id}", "junk")

    limits = {"sqlite": sqlite.LIMIT_BYTES, "redis": redis.LIMIT_BYTES, "temporal": temporal.LIMIT_BYTES}
    # Temporal ends a history at 51,200 events.
    signals = min(size.signals, 5_000) if processes.backend == "temporal" else size.signals
    return Grounds(hanging_url, signals, limits[processes.backend], spoil)


def kinds_on(backend: str, *harms: Harm) -> list[Kind]:
    """Return the kinds that have their end on a backend."""
    kinds = [kind for kind in KINDS if kind.harm in harms and (backend == "redis" or not kind.has_keys)]
    if backend == "temporal":
        # A workflow task that does not end is tried again without end: Temporal holds nothing.
        kinds = [kind for kind in kinds if not kind.name.startswith(("never", "loops"))]
    return kinds


@pytest.mark.nightly
@pytest.mark.parametrize("processes", ["sqlite", "redis", "temporal"], indirect=True)
async def test_d19_neighbours_in_worker_processes(
    processes: Processes, chance: random.Random, hanging_url: str
) -> None:
    """The workers are killed and paused, but by nobody that they carry.

    On Temporal, a worker that is lost in the middle of a workflow task costs ten seconds.
    """
    is_temporal = processes.backend == "temporal"
    harms = [Harm.ITSELF] if is_temporal else [Harm.ITSELF, Harm.HOLDS_LOOP]
    trouble = Trouble(processes, chance, rest_seconds=20 * REST_SECONDS if is_temporal else REST_SECONDS)
    size = FEW if is_temporal else SMALL
    grounds = grounds_of(processes, size, hanging_url)
    kinds = kinds_on(processes.backend, *harms)
    async with outlast.connect(processes.url) as backend:
        await live_side_by_side(backend, trouble, kinds, size, grounds, processes.effects)


@pytest.mark.parametrize(
    ("processes", "size"),
    [
        pytest.param("sqlite", SMALL, id="sqlite, a few"),
        pytest.param("sqlite", FULL, id="sqlite, many", marks=pytest.mark.nightly),
        pytest.param("redis", FULL, id="redis, many", marks=pytest.mark.nightly),
        pytest.param("temporal", FULL, id="temporal, many", marks=pytest.mark.nightly),
    ],
    indirect=["processes"],
)
async def test_d19_neighbours_in_processes_that_outlast_worker_replaces(
    size: Size, processes: Processes, chance: random.Random, hanging_url: str
) -> None:
    """When there are few, nobody else kills or pauses their workers."""
    harms, trouble = [*Harm], Supervised(processes, chance, rest_seconds=REST_SECONDS)
    if size is SMALL:
        harms, trouble = [Harm.ENDS_PROCESS, Harm.BLOCKS_PROCESS], Untroubled(processes, chance)
        processes.lease_seconds = 2 * LEASE_SECONDS
    grounds = grounds_of(processes, size, hanging_url)
    try:
        async with outlast.connect(processes.url) as backend:
            kinds = kinds_on(processes.backend, *harms)
            await live_side_by_side(backend, trouble, kinds, size, grounds, processes.effects)
    finally:
        await trouble.close()
