"""Very many executions while workers are killed and paused at random: none is lost, and no step is repeated.

`OUTLAST_SEED` repeats a run as far as the machine does.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.adapters.redis_servers import VALKEY, RedisServer, ServerOptions, temporary_server
from tests.adapters.temporal_server import new_namespace, shared_server
from tests.crash.chaos import Trouble, carry_out
from tests.crash.processes import Processes

pytestmark = [pytest.mark.crash, pytest.mark.server]

REST_SECONDS = {100: 0.1, 2_000: 20.0, 10_000: 10.0}
"""How long nothing goes wrong between two faults, at most, by the number of executions.

Whoever loses its worker five times in a row, before it gets any further, is held. Among very many executions,
that must be too unlikely to happen by chance.
"""


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    with temporary_server(VALKEY, ServerOptions(append_only=True)) as server:
        yield server


@pytest.fixture
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    match request.param:
        case "sqlite":
            return f"sqlite:///{tmp_path / 'runs.db'}"
        case "redis":
            server = request.getfixturevalue("redis_server")
            return f"{server.url()}?prefix={uuid.uuid4().hex}"
    address = shared_server()
    return f"temporal://{address}/{await new_namespace(address)}"


@pytest.fixture
async def trouble(url: str, count: int, tmp_path: Path, chance: random.Random) -> AsyncIterator[Trouble]:
    processes = Processes(url, tmp_path)
    try:
        yield Trouble(processes, chance, rest_seconds=REST_SECONDS[count])
    finally:
        await processes.close()


@pytest.mark.parametrize(
    ("url", "count"),
    [
        pytest.param("sqlite", 100, id="sqlite, a few"),
        pytest.param("sqlite", 10_000, id="sqlite, very many", marks=pytest.mark.nightly),
        pytest.param("redis", 10_000, id="redis, very many", marks=pytest.mark.nightly),
        pytest.param("temporal", 2_000, id="temporal, very many", marks=pytest.mark.nightly),
    ],
    indirect=["url"],
)
async def test_executions_under_kills_are_neither_lost_nor_done_twice_nor_late(
    count: int, url: str, trouble: Trouble
) -> None:
    await carry_out(count, url, trouble)
