"""The gain by more workers: executions a second by 1, 2 and 4 worker processes.

An execution is five turns with a tool that takes 20 ms, and a worker carries few of them at once, so that
waiting counts and not the processors of the machine.
"""

from __future__ import annotations

import asyncio
import time

import outlast
from benchmarks.figures import Figure
from benchmarks.redis import TURNS, LookUps, workers
from outlast.ports.finding import Where

GROUP = "Executions a second, by worker processes"


async def by_workers(urls: dict[str, str], numbers: tuple[int, ...], executions: int) -> list[Figure]:
    """Measure each number of workers on each backend; `urls` have a place for the number."""
    figures = []
    for name, url in urls.items():
        for number in numbers:
            at = url.format(number=number)
            async with outlast.connect(at) as backend, workers(at, number, backend):
                began = time.perf_counter()
                for _ in range(executions):
                    await backend.start(LookUps, TURNS)
                while await backend.list(Where(status="running"), limit=1):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
                rate = executions / (time.perf_counter() - began)
            label = f"{name}, {number} {'worker' if number == 1 else 'workers'}"
            alone = None if number == numbers[0] else f"{name}, 1 worker"
            figures.append(Figure(GROUP, label, "per s", (rate,), floor=alone))
    return figures
