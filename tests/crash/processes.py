"""Worker processes that tests kill, pause and stop, and the traces that they leave."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, TypeVar

from outlast.core.errors import StorageUnavailable
from tests.crash.worker_process import work_in_this_process

# Processes that are forked from one that has imported everything are there at once.
FORK_SERVER = multiprocessing.get_context("forkserver")
FORK_SERVER.set_forkserver_preload(
    ["tests.crash.worker_process", "outlast.adapters.redis", "outlast.adapters.sqlite"]
)

T = TypeVar("T")

LEASE_SECONDS = 1.0
PATIENCE_SECONDS = 60.0


async def insist(call: Callable[[], Awaitable[T]]) -> T:
    """Return the result of a call, which is repeated while the server does not answer."""
    while True:
        try:
            return await call()
        except StorageUnavailable:
            await asyncio.sleep(0.02)


class Effects:
    """The effects of attempts, by the file that they wrote."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> list[tuple[str, int, str, str]]:
        text = self.path.read_text() if self.path.exists() else ""
        split = (line.split("\t") for line in text.splitlines())
        return [(key, int(attempt), what, word) for key, attempt, what, word, _ in split]

    def attempts(self, what: str, word: str = "begin") -> list[int]:
        return [attempt for _, attempt, one, said in self.lines() if (one, said) == (what, word)]

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not holds():  # noqa: ASYNC110 - another process writes the file
                await asyncio.sleep(0.01)

    def check(self) -> None:
        """No attempt was made twice, and none after one that was known to have ended well."""
        begun = [(key, attempt) for key, attempt, _, word in self.lines() if word == "begin"]
        assert [again for again, times in Counter(begun).items() if times > 1] == []


class Processes:
    """The worker processes of one test, all on one backend."""

    def __init__(
        self, url: str, directory: Path, *, lease_seconds: float = LEASE_SECONDS, **options: Any
    ) -> None:
        self.url = url
        self.lease_seconds = lease_seconds
        self.options = options
        """The options of every worker."""
        self.effects = Effects(directory / "effects")
        self.alive: list[ForkServerProcess] = []

    @property
    def backend(self) -> str:
        """The scheme of its URL."""
        return self.url.partition(":")[0]

    def begin(self, **options: Any) -> ForkServerProcess:
        process = FORK_SERVER.Process(
            target=work_in_this_process,
            args=(self.url, str(self.effects.path), self.lease_seconds),
            kwargs={**self.options, **options},
        )
        process.start()
        self.alive.append(process)
        return process

    async def end(self, process: ForkServerProcess, by: signal.Signals) -> int | None:
        self.send(process, by)
        self.alive.remove(process)
        await asyncio.to_thread(process.join, PATIENCE_SECONDS)
        return process.exitcode

    def send(self, process: ForkServerProcess, what: signal.Signals) -> None:
        assert process.pid is not None
        with suppress(ProcessLookupError):  # It may have ended by itself.
            os.kill(process.pid, what)

    def supervise(self) -> int:
        """Begin another process for each that has ended by itself; return how many there were."""
        ended = [process for process in self.alive if process.exitcode is not None]
        for process in ended:
            self.alive.remove(process)
            self.begin()
        return len(ended)

    async def close(self) -> None:
        for process in list(self.alive):
            if process.exitcode is None:
                await self.end(process, signal.SIGKILL)
