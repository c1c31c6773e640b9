"""Worker processes share the executions: the oldest come first, and no worker is idle.

The order of claims, not a number of seconds, says when a worker has its turn.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import outlast
from outlast.adapters.redis import RedisSettings
from outlast.testing.contracts.crash.effects import PATIENCE_SECONDS
from outlast.testing.contracts.crash.programs import GatedProgram
from tests.adapters.redis_servers import VALKEY, shared_server, shared_url
from tests.crash.processes import Processes
from tests.crash.program import Flood, Late

pytestmark = [pytest.mark.crash, pytest.mark.server]

WORKERS = 3
AT_ONCE = 2
"""The number of executions that each of them carries on at a time."""


@pytest.fixture
def shards() -> int:
    return 3


@pytest.fixture
async def processes(shards: int, tmp_path: Path) -> AsyncIterator[Processes]:
    url = f"{shared_url(VALKEY)}?prefix={uuid.uuid4().hex}&shards={shards}"
    # Nobody dies here, and a process that the machine keeps waiting is not to be taken for dead.
    processes = Processes(url, tmp_path, lease_seconds=PATIENCE_SECONDS)
    try:
        yield processes
    finally:
        await processes.close()


@pytest.mark.parametrize("shards", [1, 3])
async def test_an_execution_that_comes_in_the_middle_of_a_flood_is_claimed_in_the_middle(
    shards: int, processes: Processes
) -> None:
    effects = processes.effects
    async with outlast.connect(processes.url) as backend:
        names = [f"flood {number}" for number in range(90)]
        names[30:30] = ["late 0"]
        names[60:60] = ["late 1", "late 2"]
        executions = [
            await backend.start(Late if name.startswith("late") else Flood, name, id=name) for name in names
        ]
        for _ in range(WORKERS):
            processes.begin(max_concurrent_executions=AT_ONCE)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.gather(*(execution.result() for execution in executions))
    assert len(effects.attempts("late 0")) == 1
    by_shard = claims(processes.url)
    assert len(by_shard) == shards
    for claimed in by_shard.values():
        assert claimed == [name for name in names if name in claimed]


def claims(url: str) -> dict[bytes, list[str]]:
    """Return the claims of each shard in their order: within a shard, the token of each claim is greater."""
    prefix = RedisSettings.from_url(url).prefix
    found: dict[bytes, list[tuple[int, str]]] = {}
    with shared_server(VALKEY).client() as client:
        for key in client.scan_iter(f"{prefix}:*:head:*", count=1000):
            _, shard, _, id = key.split(b":")
            found.setdefault(shard, []).append((int(client.hget(key, "token") or 0), id.decode()))
    return {shard: [id for _, id in sorted(claimed)] for shard, claimed in found.items()}


async def test_a_flood_of_one_task_queue_does_not_keep_another_waiting(processes: Processes) -> None:
    effects = processes.effects
    async with outlast.connect(processes.url) as backend:
        flood = [await backend.start(GatedProgram, task_queue="flood") for _ in range(20)]
        late = await backend.start(Late, "late", task_queue="late")
        for task_queue in ("flood", "flood", "late"):
            processes.begin(max_concurrent_executions=AT_ONCE, task_queue=task_queue)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await effects.until(lambda: len(effects.attempts("gate")) == 2 * AT_ONCE)
            # Nobody has passed the gate, and nobody of the flood's workers has room.
            assert await late.result() == "late done"
            assert effects.attempts("after") == []
            effects.path.with_name("gate").touch()
            await asyncio.gather(*(execution.result() for execution in flood))


async def test_no_worker_idles_while_others_have_more_than_they_can_do(processes: Processes) -> None:
    effects = processes.effects
    async with outlast.connect(processes.url) as backend:
        executions = [await backend.start(GatedProgram) for _ in range(20)]
        processes.begin(max_concurrent_executions=AT_ONCE)
        await effects.until(lambda: len(effects.attempts("gate")) == AT_ONCE)
        # Later workers find the rest, and claim only as many as they have room for.
        for _ in range(WORKERS - 1):
            processes.begin(max_concurrent_executions=AT_ONCE)
        await effects.until(lambda: len(effects.attempts("gate")) == WORKERS * AT_ONCE)
        assert [len(worker.executions) for worker in await backend.workers()] == [AT_ONCE] * WORKERS
        effects.path.with_name("gate").touch()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.gather(*(execution.result() for execution in executions))
    assert len(effects.attempts("after")) == len(executions)
    effects.check()
