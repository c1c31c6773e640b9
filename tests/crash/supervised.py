"""The worker processes of `outlast worker`, which are killed and paused, and replaced by it."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from outlast.testing.contracts.crash.effects import EFFECTS
from tests.children import Child
from tests.crash.chaos import WORKERS, Fault, Trouble
from tests.crash.processes import Processes

RUNS = re.compile(r"^worker (\d+) runs", re.MULTILINE)


class Supervised(Trouble):
    """The worker processes of `outlast worker`, which replaces those that end or hang."""

    def __init__(self, processes: Processes, chance: random.Random, *, rest_seconds: float = 0.3) -> None:
        super().__init__(processes, chance, rest_seconds=rest_seconds)
        self.log = processes.effects.path.with_name("log")
        self.command: Child | None = None

    @property
    def workers(self) -> list[int]:
        """The process ids of the workers that have begun to work and are there.

        The number of one that has ended may be that of a process of somebody else by now.
        """
        assert self.command is not None
        begun = [int(number) for number in RUNS.findall(self.log.read_text())]
        return [number for number in begun if parent_of(number) == self.command.pid]

    def begin(self) -> None:
        if self.command is not None:
            return
        options = ["--backend", self.processes.url, "--lease", str(self.processes.lease_seconds)]
        with self.log.open("wb") as log:
            self.command = Child(
                [
                    *(sys.executable, "-m", "outlast.cli", "worker", "tests.crash.neighbourhood"),
                    *("--processes", str(WORKERS), *options),
                ],
                stdout=subprocess.DEVNULL,
                stderr=log,
                env={**os.environ, EFFECTS: str(self.processes.effects.path)},
            )

    async def supervise(self) -> None:
        """Fail if the supervisor itself ends."""
        assert self.command is not None
        while True:
            assert self.command.poll() is None, self.log.read_text()
            await asyncio.sleep(0.05)

    async def worker_is_killed(self) -> None:
        await self.send(signal.SIGKILL)

    async def worker_is_paused_past_its_lease(self) -> None:
        paused = await self.send(signal.SIGSTOP)
        try:
            await asyncio.sleep(1.5 * self.processes.lease_seconds)
        finally:
            with suppress(ProcessLookupError):
                os.kill(paused, signal.SIGCONT)

    async def send(self, what: signal.Signals) -> int:
        """Send a signal to any worker, as soon as all are there; return its number.

        On a busy machine it takes long until one has begun: the others must get something done meanwhile.
        """
        while True:
            if len(workers := self.workers) == WORKERS:
                chosen = self.chance.choice(workers)
                with suppress(ProcessLookupError):
                    os.kill(chosen, what)
                    return chosen
            await asyncio.sleep(0.05)

    async def close(self) -> None:
        if self.command is None:
            return
        self.command.terminate()
        for number in self.workers:
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGCONT)
        await asyncio.to_thread(self.command.wait)
        print(self.log.read_text()[-20_000:])


class Untroubled(Supervised):
    """Workers that nobody kills or pauses but their executions."""

    def faults(self) -> list[Fault]:
        return []


def parent_of(number: int) -> int | None:
    """Return the process id of a process's parent; None if there is no such process."""
    if sys.platform == "linux":
        try:
            return int(Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return None
    found = subprocess.run(["ps", "-o", "ppid=", "-p", str(number)], capture_output=True, check=False)
    return int(found.stdout) if found.stdout.strip() else None
