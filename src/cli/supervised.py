"""The worker process that `outlast worker` runs: alone, or as the child of a supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Self

from outlast.cli.health import OwnPulse
from outlast.cli.last_words import identity_of, last_words_of, marks_beside, part_of
from outlast.cli.supervisor import BEAT, BEAT_SECONDS, READY, STORE_ANSWERS, STORE_IS_SILENT
from outlast.composition.durable_run import first_of, opened
from outlast.composition.running import stop_signals
from outlast.core.errors import ExecutionNotFound, OutlastError
from outlast.ports.durability.backend import Backend
from outlast.runtime.executions.journaled_backend import JournaledBackend
from outlast.runtime.isolation.at_work import MARKS, MarkingThreads

logger = logging.getLogger("outlast.worker")

PROBE_SECONDS = 5.0
"""The time between two questions whether the store answers, and the longest time for the answer."""
NOBODY = "outlast-health"
"""The id that is looked up for it. Nobody has it, or somebody does: either is an answer."""


class Link:
    """A child's end of the link to its supervisor, by the argument of `--supervised`."""

    def __init__(self, descriptor: int, words: Path) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.set_inheritable(False)
        self._socket.setblocking(False)
        self._words = words
        self._file = words.open("w")
        faulthandler.enable(self._file, all_threads=True)
        MARKS.keep_in(marks_beside(words))

    @classmethod
    def of(cls, argument: str) -> Self:
        descriptor, _, words = argument.partition(",")
        return cls(int(descriptor), Path(words))

    def options(self, backend: object) -> dict[str, Any]:
        """Return further options for a worker of `backend` in this process."""
        options: dict[str, Any] = {"identity": identity_of(self._words)}
        if isinstance(backend, JournaledBackend):
            options["last_words"] = partial(last_words_of, folder=self._words.parent)
            options["part"] = partial(part_of, folder=self._words.parent)
        return options

    @contextlib.asynccontextmanager
    async def kept(self, stop: asyncio.Event) -> AsyncIterator[None]:
        """Give signs of life for the time of the block; set `stop` when the supervisor is gone."""
        tasks = [asyncio.create_task(self._beat()), asyncio.create_task(self._hear(stop))]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def report(self, store_answers: bool) -> None:
        """Let the supervisor know whether the store answers."""
        self._send(STORE_ANSWERS if store_answers else STORE_IS_SILENT)

    def close(self) -> None:
        """Let the supervisor know that no further sign of life comes."""
        self._socket.close()

    async def _beat(self) -> None:
        self._send(READY)
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            self._send(BEAT)

    def _send(self, sign: bytes) -> None:
        # The supervisor may be suspended, so that nobody reads, or gone.
        with contextlib.suppress(OSError):
            self._socket.send(sign)

    async def _hear(self, stop: asyncio.Event) -> None:
        with contextlib.suppress(OSError):
            await asyncio.get_running_loop().sock_recv(self._socket, 1)
        stop.set()


async def ask_the_store(place: Backend, report: Callable[[bool], None]) -> None:
    """Report every few seconds whether the store answers."""
    while True:
        report(await _answers(place))
        await asyncio.sleep(PROBE_SECONDS)


async def _answers(place: Backend) -> bool:
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            await place.get(NOBODY)
    except ExecutionNotFound:
        return True
    except (OutlastError, OSError) as error:
        logger.warning("not ready: the store does not answer: %s", str(error) or type(error).__name__)
        return False
    return True


async def _beat(pulse: OwnPulse) -> None:
    while True:
        pulse.beat()
        await asyncio.sleep(BEAT_SECONDS)


async def work(
    workflows: Sequence[type[Any]],
    backend: str | None,
    link: Link | None,
    *,
    pulse: OwnPulse | None = None,
    reports_store: bool = False,
    stop_seconds: float,
    **options: Any,
) -> None:
    """Run a worker until SIGINT or SIGTERM, or until the supervisor is gone; then stop gracefully.

    A second signal ends a worker at once, unless it has a supervisor. A terminal and systemd send a signal to
    all processes of a group, and the supervisor passes on the one that it gets: so several come to a child.
    """
    stop = asyncio.Event()
    asyncio.get_running_loop().set_default_executor(MarkingThreads(thread_name_prefix="asyncio"))
    async with opened(backend) as place, contextlib.AsyncExitStack() as signals:
        signals.enter_context(stop_signals(stop))
        if link is not None:
            options |= link.options(place)
        options["graceful_shutdown_timeout"] = timedelta(seconds=stop_seconds)
        async with place.worker(workflows, **options) as worker, contextlib.AsyncExitStack() as stack:
            if link is not None:
                await stack.enter_async_context(link.kept(stop))
            if pulse is not None:
                stack.push_async_callback(_ended, asyncio.create_task(_beat(pulse)))
                asked = asyncio.create_task(ask_the_store(place, partial(setattr, pulse, "store_answers")))
                stack.push_async_callback(_ended, asked)
            elif link is not None and reports_store:
                stack.push_async_callback(_ended, asyncio.create_task(ask_the_store(place, link.report)))
            # All that is loaded by now stays, so full collections can leave it out. While one runs, nothing
            # else does: in a replay of 20,000 steps that was 100 ms before this line, and 40 ms with it.
            gc.collect()
            gc.freeze()
            await first_of(worker.run(), stop.wait())
            if pulse is not None:
                pulse.is_stopping = True
            if link is None:
                await signals.aclose()
            print(
                f"worker {os.getpid()} stops: what it cannot finish in {stop_seconds:g} s goes on in "
                "another worker, or in the next that starts",
                file=sys.stderr,
                flush=True,
            )


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


def run(workflows: Sequence[type[Any]], backend: str | None, link: Link | None, **options: Any) -> None:
    """Do the same in a loop of its own."""
    try:
        asyncio.run(work(workflows, backend, link, **options))
    finally:
        if link is not None:
            link.close()
