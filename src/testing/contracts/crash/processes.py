"""Worker processes that tests kill, pause and stop."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from outlast.composition.backends import connect
from outlast.composition.running import run_worker
from outlast.ports.durability.backend import Backend
from outlast.testing.contracts.crash.effects import EFFECTS, PATIENCE_SECONDS, Effects
from outlast.testing.contracts.crash.programs import PROGRAMS

# Processes that are forked from one that has imported everything are there at once.
FORK_SERVER = multiprocessing.get_context("forkserver")
FORK_SERVER.set_forkserver_preload([__name__, "outlast.adapters.sqlite"])

LEASE_SECONDS = 1.0

Connect = Callable[[str], Backend]
"""From the URL of a place to its backend; a function at the top of a module, so that processes find it."""


def end_with_parent() -> None:
    """Let this process, which `multiprocessing` made, end at once when the one that asked for it is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def work_in_this_process(
    connect: Connect, url: str, effects: str, lease_seconds: float, **options: Any
) -> None:
    """Run a worker until the process gets a signal to stop."""
    end_with_parent()
    os.environ[EFFECTS] = effects

    async def work() -> None:
        async with connect(url) as backend:
            await run_worker(PROGRAMS, backend, lease=timedelta(seconds=lease_seconds), **options)

    asyncio.run(work())


class Processes:
    """The worker processes of one test, all on one backend.

    `target` is what each of them runs: it gets the URL, the path of the file of effects and the lease, and
    the options. `directory` is an empty directory for the file of effects and the gates.
    """

    def __init__(
        self,
        url: str,
        directory: Path,
        *,
        connect: Connect = connect,
        lease_seconds: float = LEASE_SECONDS,
        **options: Any,
    ) -> None:
        self.url = url
        self.lease_seconds = lease_seconds
        self.options = options
        """The options of every worker."""
        self.effects = Effects(directory / "effects")
        self.alive: list[ForkServerProcess] = []
        self._connect = connect

    @property
    def backend(self) -> str:
        """The scheme of its URL."""
        return self.url.partition(":")[0]

    def target(self) -> tuple[Callable[..., None], tuple[Any, ...]]:
        """Return the function that a process runs, and its arguments before the options."""
        return work_in_this_process, (self._connect, self.url, str(self.effects.path), self.lease_seconds)

    def begin(self, **options: Any) -> ForkServerProcess:
        """Begin one more worker process."""
        target, arguments = self.target()
        process = FORK_SERVER.Process(target=target, args=arguments, kwargs={**self.options, **options})
        process.start()
        self.alive.append(process)
        return process

    async def end(self, process: ForkServerProcess, by: signal.Signals) -> int | None:
        """Send a signal that ends the process; return its exit code once it has ended."""
        self.send(process, by)
        self.alive.remove(process)
        await asyncio.to_thread(process.join, PATIENCE_SECONDS)
        return process.exitcode

    def send(self, process: ForkServerProcess, what: signal.Signals) -> None:
        """Send a signal, unless the process has ended by itself."""
        assert process.pid is not None
        with suppress(ProcessLookupError):
            os.kill(process.pid, what)

    def supervise(self) -> int:
        """Begin another process for each that has ended by itself; return how many there were."""
        ended = [process for process in self.alive if process.exitcode is not None]
        for process in ended:
            self.alive.remove(process)
            self.begin()
        return len(ended)

    async def close(self) -> None:
        """Kill those that are alive."""
        for process in list(self.alive):
            if process.exitcode is None:
                await self.end(process, signal.SIGKILL)
