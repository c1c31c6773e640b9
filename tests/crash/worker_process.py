"""The worker processes of the tests."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import outlast
from outlast.adapters.redis.clock import ServerClock
from outlast.runtime.attempts.system_clock import SystemClock
from outlast.testing.contracts.crash.effects import EFFECTS
from outlast.testing.contracts.crash.processes import end_with_parent
from outlast.testing.contracts.crash.programs import Asking, GatedProgram, PoisonProgram, Program
from tests.crash.bad_neighbours import BadNeighbour
from tests.crash.program import Brief, Flood, Late, Talk, remember_looks_at_the_clock

WORKFLOWS = [Program, GatedProgram, Brief, Talk, Asking, Flood, Late, PoisonProgram, BadNeighbour]


def work_in_this_process(url: str, effects: str, lease_seconds: float, **options: Any) -> None:
    """Run a worker until the process gets a signal to stop."""
    end_with_parent()
    os.environ[EFFECTS] = effects
    remember_looks_at_the_clock(SystemClock)
    remember_looks_at_the_clock(ServerClock)
    announced = announcement(Path(effects), os.getpid())

    async def work() -> None:
        async with outlast.connect(url) as backend:
            begin = backend.worker

            @asynccontextmanager
            async def begin_and_announce(*given: Any, **options: Any) -> AsyncIterator[Any]:
                async with begin(*given, **options) as worker:
                    announced.touch()
                    yield worker

            backend.worker = begin_and_announce  # type: ignore[method-assign]
            lease = timedelta(seconds=lease_seconds)
            await outlast.run_worker(WORKFLOWS, backend, lease=lease, **options)

    asyncio.run(work())


def announcement(effects: Path, process_id: int) -> Path:
    """Return the file that is there once the worker of that process works."""
    return effects.with_name(f"worker-{process_id}-works")
