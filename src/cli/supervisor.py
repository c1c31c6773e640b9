"""The supervisor of `outlast worker`: it keeps worker processes alive, and replaces those that end or hang.

Some code cannot be stopped from inside its process: a segmentation fault, `os._exit`, or a function written
in C that holds the interpreter, such as a regular expression that backtracks for ever. No thread and no
signal handler of Python runs meanwhile. So the workers are processes of their own. This process runs no code
of a user and looks after them:

- Each child has one end of a socket pair. It writes a byte twice a second, from the event loop that carries
  its executions. A child whose loop is silent for too long is given up: SIGABRT makes it write the stack of
  every thread (`faulthandler`, which needs no interpreter), and SIGKILL ends it. That happens when its leases
  have run out, so that the others have its executions already.
- A child that has ended is replaced, at once if it lived for a while, else after a back-off.
- The stack, and how the process ended, are kept as its *last words*, for the notes of the executions that it
  carried: see `last_words`.
- The other direction of the socket pair is a lifeline: when this process is gone, in whatever way, the
  children see its end, and stop.

Silence is counted in looks at the child, not by a clock: if this process or the whole machine is suspended,
that is one look. A child that somebody stopped (SIGSTOP, a debugger) is not silent.

A child that ends with an error before it has begun to work, while no other child ever began, had a wrong
setting. It has printed what is wrong, so this process ends too, with the same exit code.

Rejected: to fork the children. They would inherit threads, connections and locks of a process that has
imported the user's code; and a module that ends its process when it is imported would end this one.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import signal
import socket
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from outlast.cli.health import Address, Health, WorkerHealth, served
from outlast.cli.last_words import forget_old, marks_beside, say_last
from outlast.runtime.isolation.at_work import find_fault

logger = logging.getLogger("outlast.supervisor")

DEFAULT_PROCESSES: Final = 0 if sys.platform == "win32" else 1
"""The number of children that `outlast worker` has by default. A child gets sockets from its parent. Windows
cannot pass them on; there, the command works without children."""
BEAT_SECONDS: Final = 0.5
"""The time between two signs of life of a child, and between two looks at it."""
SILENCE_SECONDS_MIN: Final = 2.0
"""A child is silent for at least this long before it is given up, also where a lease is shorter."""
WAITING_SECONDS_MIN: Final = 15.0
"""The same for a child that does not compute: its code makes a call that blocks. Such a call mostly ends by
itself, or by the watchdog inside the child."""
BUSY_SHARE: Final = 0.05
"""The share of the time that a child must compute, to count as busy; a busy machine gives it no more."""
ABORT_SECONDS: Final = 2.0
"""The time that a child has to write its stack."""
BACK_OFF_SECONDS: Final = (0.1, 10.0)
"""The first and the longest time between the end of a short-lived child and the next; each doubles it."""
LONG_LIFE_SECONDS: Final = 10.0
"""A child that has lived for that long is replaced at once. After one that has begun to work, a lease is long
enough, and no wait is longer: its executions wait for the next one."""
FAULTS: Final = (signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV, signal.SIGSYS)
"""The signals by which a process is ended for what its code did. Others come from outside; so does SIGKILL,
unless there was no memory left."""
COUNTERS: Final = Path("/proc/vmstat")
"""The file in which Linux counts the processes that it has killed for want of memory."""
READY: Final = b"r"
BEAT: Final = b"."
STORE_ANSWERS: Final = b"u"
STORE_IS_SILENT: Final = b"d"


@dataclass(frozen=True, slots=True)
class Terms:
    """The children of a supervisor, and the times that it waits for them."""

    processes: int
    command: Callable[[str], Sequence[str]]
    """Returns the command line of a child, by the argument of its `Link`."""
    environment: dict[str, str]
    lease_seconds: float
    stop_seconds: float = 40.0
    """The time in which children stop in order; those that need longer are killed."""
    health: Address | None = None
    """The place where the health of the children is served, if it is."""

    @property
    def silence_seconds(self) -> float:
        return max(self.lease_seconds, SILENCE_SECONDS_MIN)

    @property
    def waiting_seconds(self) -> float:
        return max(1.5 * self.lease_seconds, WAITING_SECONDS_MIN)


@dataclass(slots=True, eq=False)
class _Child:
    """One worker process."""

    name: str
    process: asyncio.subprocess.Process
    link: socket.socket
    words: Path
    ended: asyncio.Task[int]
    began_at: float = field(default_factory=time.monotonic)
    listening: asyncio.Task[None] | None = None
    is_ready: bool = False
    was_heard: bool = False
    heard_at: float = 0.0
    store_answers: bool | None = None
    memory_kills: int = 0
    """The number of processes that the machine had killed for want of memory, at the last look."""
    is_leaving: bool = False
    """True once it has closed its end of the link: its loop has ended."""
    given_up: str | None = None

    @property
    def id(self) -> int:
        return self.process.pid

    @property
    def computed(self) -> float:
        """The CPU time that the process has used, in seconds; where nobody knows, as if it never waited."""
        try:
            fields = Path(f"/proc/{self.id}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return time.monotonic()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def is_stopped(self) -> bool:
        """True if somebody has stopped the process for a while (SIGSTOP), where that can be seen."""
        if not hasattr(os, "waitid"):
            return False
        try:
            return os.waitid(os.P_PID, self.id, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return False

    async def listen(self) -> None:
        """Note the signs of life, until the child closes its end."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                received = await loop.sock_recv(self.link, 4096)
            except OSError:
                received = b""
            if not received:
                self.is_leaving = True
                return
            self.was_heard = True
            self.heard_at = time.monotonic()
            self.is_ready = self.is_ready or READY in received
            up, down = received.rfind(STORE_ANSWERS), received.rfind(STORE_IS_SILENT)
            if up != down:
                self.store_answers = up > down

    @property
    def health(self) -> WorkerHealth:
        silent = time.monotonic() - self.heard_at if self.is_ready else 0.0
        return WorkerHealth(self.id, self.is_ready, silent, self.store_answers)

    def send(self, number: signal.Signals) -> None:
        if not self.ended.done():
            self.process.send_signal(number)


class ProcessSupervisor:
    """Keeps as many worker processes alive as the terms say, until it is asked to stop."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._stopping = asyncio.Event()
        self._children: set[_Child] = set()
        self._somebody_began = False
        self._exit_code = 0

    async def run(self) -> int:
        """Return the exit code, once SIGINT or SIGTERM came and every child has ended.

        0: all children stopped in order. 1: a child had to be killed. Any other: no child could begin, and
        this is the exit code of one.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop)
        with ExitStack() as stack:
            if self._terms.health is not None:
                port = stack.enter_context(served(self._terms.health, self.health))
                logger.info("health is served on %s port %d", self._terms.health.host, port)
            temporary = tempfile.TemporaryDirectory(prefix="outlast-", ignore_cleanup_errors=True)
            folder = stack.enter_context(temporary)
            keeping = [
                asyncio.create_task(self._keep_one_alive(Path(folder))) for _ in range(self._terms.processes)
            ]
            try:
                await asyncio.gather(*keeping)
            finally:
                for task in keeping:
                    task.cancel()
                for child in self._children:
                    child.send(signal.SIGKILL)
        return self._exit_code

    def health(self) -> Health:
        """Return how the children are; any thread may ask."""
        children = sorted(self._children, key=lambda child: child.began_at)
        return Health(tuple(child.health for child in children), self._stopping.is_set())

    def _stop(self) -> None:
        """Ask the children to stop; the second time, end them at once."""
        was_asked = self._stopping.is_set()
        self._stopping.set()
        for child in self._children:
            child.send(signal.SIGKILL if was_asked else signal.SIGTERM)
            if was_asked:
                child.given_up = "was not waited for, since the supervisor was asked twice to stop"
                self._exit_code = self._exit_code or 1

    async def _keep_one_alive(self, folder: Path) -> None:
        back_off = BACK_OFF_SECONDS[0]
        while not self._stopping.is_set():
            child = await self._begin(folder)
            code = await self._look_after(child)
            await self._bury(child, code)
            forget_old(folder)
            if self._stopping.is_set():
                return
            if code > 0 and not child.is_ready and not self._somebody_began:
                self._exit_code = code
                self._stop()
                return
            most = self._terms.lease_seconds if child.is_ready else math.inf
            lived_long = time.monotonic() - child.began_at >= min(LONG_LIFE_SECONDS, most)
            back_off = BACK_OFF_SECONDS[0] if lived_long else min(2 * back_off, BACK_OFF_SECONDS[1], most)
            pause = 0.0 if lived_long else back_off / 2
            logger.info("the next worker process begins in %.1f s", pause)
            await _passed(pause, self._stopping)

    async def _begin(self, folder: Path) -> _Child:
        name = uuid.uuid4().hex[:8]
        words = folder / name
        link, theirs = socket.socketpair()
        link.setblocking(False)
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *self._terms.command(f"{theirs.fileno()},{words}"),
                env=self._terms.environment,
                pass_fds=[theirs.fileno()],
            )
        child = _Child(name, process, link, words, asyncio.create_task(process.wait()))
        child.listening = asyncio.create_task(child.listen())
        self._children.add(child)
        if self._stopping.is_set():  # The request came while the process was being started.
            child.send(signal.SIGTERM)
        return child

    async def _look_after(self, child: _Child) -> int:
        """Return the child's exit code, once it has ended or was given up."""
        silent = busy = 0
        stop_by: float | None = None
        while not child.ended.done():
            child.was_heard, computed, child.memory_kills = False, child.computed, memory_kills(COUNTERS)
            await asyncio.wait({child.ended}, timeout=BEAT_SECONDS)
            self._somebody_began = self._somebody_began or child.is_ready
            if self._stopping.is_set():
                stop_by = stop_by or time.monotonic() + self._terms.stop_seconds
                if time.monotonic() >= stop_by:
                    await self._give_up(child, "did not stop in order when it was asked to")
                    continue
            if child.was_heard or not child.is_ready or child.is_leaving or child.is_stopped:
                if silent:
                    find_fault(marks_beside(child.words), False)
                silent = busy = 0
                continue
            silent += 1
            find_fault(marks_beside(child.words), True)
            busy += child.computed - computed >= BUSY_SHARE * BEAT_SECONDS
            waited = silent * BEAT_SECONDS
            if busy * BEAT_SECONDS >= self._terms.silence_seconds or waited >= self._terms.waiting_seconds:
                await self._give_up(child, f"gave no sign of life for {waited:.0f} s")
        return child.ended.result()

    async def _give_up(self, child: _Child, why: str) -> None:
        """End a child that cannot end itself; it writes its stack before."""
        child.given_up = why
        if self._stopping.is_set():
            self._exit_code = self._exit_code or 1
        child.send(signal.SIGABRT)
        await asyncio.wait({child.ended}, timeout=ABORT_SECONDS)
        child.send(signal.SIGKILL)
        await asyncio.wait({child.ended})

    async def _bury(self, child: _Child, code: int) -> None:
        self._children.discard(child)
        assert child.listening is not None
        child.listening.cancel()
        await asyncio.wait({child.listening})
        child.link.close()
        if self._stopping.is_set() and child.given_up is None:
            child.words.unlink(missing_ok=True)
            return
        had_no_memory = code == -signal.SIGKILL and memory_kills(COUNTERS) > child.memory_kills
        is_at_fault = child.given_up is not None or code >= 0 or -code in FAULTS or had_no_memory
        find_fault(marks_beside(child.words), is_at_fault)
        logger.error("%s", say_last(child.words, _fate(child, code, had_no_memory)))


def memory_kills(counters: Path) -> int:
    """Return how many processes the machine has killed for want of memory; 0 where nobody counts them."""
    try:
        lines = counters.read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


def _fate(child: _Child, code: int, had_no_memory: bool) -> str:
    """Return what became of a child."""
    if had_no_memory and child.given_up is None:
        return f"worker process {child.id} was ended by SIGKILL, since there was no memory left"
    if child.given_up is not None:
        return f"worker process {child.id} {child.given_up}, and was ended"
    if code >= 0:
        return f"worker process {child.id} ended by itself with exit code {code}"
    try:
        by = signal.Signals(-code).name
    except ValueError:
        by = f"signal {-code}"
    return f"worker process {child.id} was ended by {by}"


async def _passed(seconds: float, event: asyncio.Event) -> None:
    """Return when the time has passed, or the event is set."""
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)


def supervise(terms: Terms) -> int:
    """Run a supervisor in this process, and return its exit code."""
    return asyncio.run(ProcessSupervisor(terms).run())
