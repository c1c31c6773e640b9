"""Executions that this process carries on while something is done to their server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from urllib.parse import urlencode

import outlast
from outlast.testing.contracts.crash.effects import PATIENCE_SECONDS, Effects
from outlast.testing.contracts.crash.programs import GatedProgram, Program
from tests.adapters.tcp_proxy import LOOPBACK

STEPS = 3
EXPECTED = [
    *(f"first {step} done" for step in range(STEPS)),
    *(f"at once {step} done" for step in range(STEPS)),
    *(f"in a thread {step} done" for step in range(STEPS)),
    *("0", "1", "2", "last done"),
]
LEASE = timedelta(seconds=1)
SOON = "0.25"
"""The time-out of those who are to notice soon that a server is silent; a busy machine can be so as well."""


def url_of(port: int, *, timeout: str = str(PATIENCE_SECONDS), **options: str) -> str:
    query = urlencode({"timeout": timeout, **options})
    return f"redis://{LOOPBACK}:{port}/0?{query}"


@asynccontextmanager
async def running(
    url: str, *, through: str | None = None, count: int = 3, lease: timedelta = LEASE
) -> AsyncIterator[asyncio.Future[list[object]]]:
    """Carry executions on in this process, `through` another URL than they are started by; yield results."""
    async with outlast.connect(url) as starting, outlast.connect(through or url) as working:
        executions = [await started(starting, f"x-{number}") for number in range(count)]
        async with working.worker([Program, GatedProgram], lease=lease):
            results = asyncio.gather(*(execution.result() for execution in executions))
            yield results
            async with asyncio.timeout(PATIENCE_SECONDS):
                assert await results == [EXPECTED] * count


async def started(backend: outlast.Backend, id: str) -> outlast.Execution:
    """Start an execution and send it its signals, before anything fails."""
    execution = await backend.start(Program, STEPS, id=id)
    for letter in range(3):
        await execution.signal("put", letter)
    return execution


async def meanwhile(results: asyncio.Future[list[object]], seconds: float) -> None:
    """Let the executions go on for a while."""
    await asyncio.wait([results], timeout=seconds)


def check(effects: Effects, count: int = 3) -> None:
    """Every step was done, and no attempt twice."""
    effects.check()
    keys = {key for key, _, _, _ in effects.lines()}
    assert len(keys) == count * (3 * STEPS + 1)


def check_once(effects: Effects, count: int) -> None:
    """Every step was done, and at the first attempt: nothing was in doubt for anybody."""
    check(effects, count)
    assert {attempt for _, attempt, _, _ in effects.lines()} == {1}
