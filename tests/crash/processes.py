"""The worker processes of these tests: they run more workflows than those of the crash suite."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from outlast.core.errors import StorageUnavailable
from outlast.testing.contracts.crash.processes import FORK_SERVER
from outlast.testing.contracts.crash.processes import Processes as SuiteProcesses
from tests.crash.worker_process import announcement, work_in_this_process

FORK_SERVER.set_forkserver_preload(
    ["tests.crash.worker_process", "outlast.adapters.redis", "outlast.adapters.sqlite"]
)

T = TypeVar("T")


async def insist(call: Callable[[], Awaitable[T]]) -> T:
    """Return the result of a call, which is repeated while the server does not answer."""
    while True:
        try:
            return await call()
        except StorageUnavailable:
            await asyncio.sleep(0.02)


class Processes(SuiteProcesses):
    """The worker processes of one test, all on one backend."""

    def target(self) -> tuple[Callable[..., None], tuple[Any, ...]]:
        return work_in_this_process, (self.url, str(self.effects.path), self.lease_seconds)

    @property
    def are_all_at_work(self) -> bool:
        """True if the worker of every process has begun to work."""
        return all(
            process.pid is not None and announcement(self.effects.path, process.pid).exists()
            for process in self.alive
        )
