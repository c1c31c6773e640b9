"""Processes of `outlast worker`, which the demonstration starts, watches and kills."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

STOP_SECONDS = 10.0
_TAIL_LINES = 20


@dataclass(slots=True)
class WorkerProcess:
    """A worker that runs as a process of its own and logs to a file."""

    name: str
    log: Path
    process: asyncio.subprocess.Process
    ended: asyncio.Task[int]
    """Done once the process has ended, with its return code."""

    @classmethod
    async def start(
        cls, name: str, log: Path, *arguments: str, environment: Mapping[str, str]
    ) -> WorkerProcess:
        """Start `outlast worker` with `arguments`."""
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                # The demonstration kills the process that works.
                *(sys.executable, "-m", "outlast.cli", "worker", "--processes", "0", *arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **environment},
            )
        return cls(name, log, process, asyncio.create_task(process.wait()))

    @property
    def id(self) -> int:
        """The process id."""
        return self.process.pid

    async def kill(self) -> int:
        """Kill the process with SIGKILL, which it cannot handle; return the signal that ended it."""
        self.process.kill()
        return -await self.ended

    async def stop(self) -> None:
        """Ask the process to stop, and wait until it has; one that takes too long is killed."""
        if self.ended.done():
            return
        self.process.send_signal(signal.SIGTERM)
        await asyncio.wait({self.ended}, timeout=STOP_SECONDS)
        if not self.ended.done():
            await self.kill()

    def last_words(self) -> str:
        """Return the last lines that the process logged."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])
