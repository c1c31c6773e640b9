"""A clock whose time moves only when a test moves it, or by itself when nothing else can run.

`advance` moves the time by hand and works on any event loop. With `auto=True` the time jumps to the next
sleeper as soon as the event loop is idle, so that a program of sleeps runs as fast as it computes and in the
order of its due times. A plain loop does not say when it is idle; an automatic clock needs an
`IdleAwareEventLoop`, whose selector sees it: a loop blocks in its selector exactly when no callback is ready
(the idea of trio's `MockClock`, from public parts of asyncio).

    with asyncio.Runner(loop_factory=IdleAwareEventLoop) as runner:
        runner.run(program(VirtualClock(auto=True)))

A pytest module gets such loops by a fixture `anyio_backend` that returns
`("asyncio", {"loop_factory": IdleAwareEventLoop})`.

A loop is busy while it has ready callbacks, sockets and pipes with data to read, or calls in an executor
(`asyncio.to_thread`). A loop cannot know that somebody outside will answer: another process, a server, a
thread started otherwise. An automatic clock jumps past them. Wrap the waiting for such an answer in
`with clock.held():`, or let the clock wait `quiet_seconds` of real time for a sign of life before each jump;
the latter is a guess, the former is not. Real timers (`asyncio.sleep`, `asyncio.timeout`) neither hold the
clock nor are moved by it. A thread that waits for this clock's time holds it for ever; use a task instead.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import selectors
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import TypeVar, TypeVarTuple, Unpack

from outlast.ports.clock import Clock

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

START = 1_700_000_000.0
"""The first time of a virtual clock, in seconds since the epoch."""

TURNS = 20
"""The number of turns that a plain event loop gets after each step of `advance`."""


class VirtualClock(Clock):
    """Time that stands still unless it is moved. All its sleepers are in one event loop at a time."""

    def __init__(self, start: float = START, *, auto: bool = False, quiet_seconds: float = 0.0) -> None:
        self._now = start
        """The steady time."""
        self._ahead = 0.0
        """The seconds by which the wall clock was stepped."""
        self._auto = auto
        self._quiet_seconds = quiet_seconds
        self._holds = 0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def now(self) -> float:
        return self._now + self._ahead

    def steady(self) -> float:
        return self._now

    def step(self, seconds: float) -> None:
        """Let the wall clock jump forward or back, as NTP does; no time passes."""
        self._ahead += seconds

    def stand_still(self, seconds: float) -> None:
        """Let time pass in which nothing runs, as for a process that is stopped; who is due wakes later."""
        self._now += seconds

    async def sleep(self, seconds: float) -> None:
        """Return once the time was moved on by `seconds`.

        Raises:
            RuntimeError: the clock is automatic and the running loop does not know when it is idle.
        """
        if seconds <= 0:
            return await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        if self._auto:
            if not isinstance(loop, IdleAwareEventLoop):
                raise RuntimeError(
                    "an automatic VirtualClock needs an event loop that knows when it is idle; "
                    "run this with asyncio.Runner(loop_factory=IdleAwareEventLoop)"
                )
            loop.when_idle(self._jump, self._quiet_seconds)
        waking: asyncio.Future[None] = loop.create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), waking))
        await waking

    async def advance(self, seconds: float) -> None:
        """Move the time by `seconds`, waking sleepers in the order in which they are due.

        After each due time, and in the end, the woken tasks may run until they wait for something again: on
        an `IdleAwareEventLoop` until it is idle, on another loop for `TURNS` turns. A task that takes longer
        and then sleeps, sleeps from a later time.
        """
        target = self._now + seconds
        await self._settle()
        while (due := self._next_due()) is not None and due <= target:
            self._wake(due)
            await self._settle()
        self._now = max(self._now, target)
        await self._settle()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep an automatic clock from jumping, while an answer is due that the event loop cannot know of."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1

    def _next_due(self) -> float | None:
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else None

    def _wake(self, due: float) -> None:
        """Move the time to `due` and wake all who are due then, in the order in which they went to sleep."""
        self._now = max(self._now, due)
        while (next_due := self._next_due()) is not None and next_due <= self._now:
            heapq.heappop(self._sleepers)[2].set_result(None)

    def _jump(self) -> bool:
        """Wake the sleepers that are due next; return False if nobody sleeps or the clock is held."""
        due = self._next_due()
        if due is None:
            return False
        loop = asyncio.get_running_loop()
        assert isinstance(loop, IdleAwareEventLoop)
        loop.when_idle(self._jump, self._quiet_seconds)
        if self._holds:
            return False
        self._wake(due)
        return True

    async def _settle(self) -> None:
        loop = asyncio.get_running_loop()
        if isinstance(loop, IdleAwareEventLoop):
            await loop.idle()
        else:
            for _ in range(TURNS):
                await asyncio.sleep(0)


class IdleAwareEventLoop(asyncio.SelectorEventLoop):
    """An event loop that can say when no callback is ready and nothing has come from outside."""

    def __init__(self) -> None:
        self._idle_callbacks: dict[Callable[[], bool], float] = {}
        self._awaiting_idle: list[asyncio.Future[None]] = []
        self._calls_in_executors = 0
        super().__init__(_IdleSelector(self))

    def when_idle(self, callback: Callable[[], bool], quiet_seconds: float = 0.0) -> None:
        """Call `callback` once, when the loop has been idle for a time; it returns whether it did anything.

        The loop is not idle in this sense while a call is under way in an executor. Registering a callback
        again while it waits changes nothing.
        """
        self._idle_callbacks.setdefault(callback, quiet_seconds)

    async def idle(self) -> None:
        """Return when no callback is ready, even if calls run in executors."""
        idle = self.create_future()
        self._awaiting_idle.append(idle)
        await idle

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Arguments]], T], *args: *Arguments
    ) -> asyncio.Future[T]:
        call = super().run_in_executor(executor, func, *args)
        self._calls_in_executors += 1
        call.add_done_callback(self._call_returned)
        return call

    def woke_those_who_await_idleness(self) -> bool:
        """Wake the tasks that wait in `idle`; return False if there were none. For the selector."""
        awaiting, self._awaiting_idle = self._awaiting_idle, []
        for idle in awaiting:
            if not idle.done():
                idle.set_result(None)
        return bool(awaiting)

    def quiet_seconds(self) -> float | None:
        """Return how long the loop must be idle before it calls back, or None if it must not."""
        return None if self._calls_in_executors else max(self._idle_callbacks.values(), default=None)

    def has_called_back(self) -> bool:
        """Call all idle callbacks; return whether one did anything. For the selector."""
        callbacks, self._idle_callbacks = self._idle_callbacks, {}
        return True in [callback() for callback in callbacks]

    def _call_returned(self, _: object) -> None:
        self._calls_in_executors -= 1


class _IdleSelector(selectors.DefaultSelector):
    """A selector that gives the loop something to do, if it can, before it blocks."""

    def __init__(self, loop: IdleAwareEventLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if events or (timeout is not None and timeout <= 0):
            return events
        if self._loop.woke_those_who_await_idleness():
            return []
        quiet_seconds = self._loop.quiet_seconds()
        if quiet_seconds is None:
            return super().select(timeout)
        if quiet_seconds > 0:
            events = super().select(quiet_seconds if timeout is None else min(timeout, quiet_seconds))
            if events or (timeout is not None and timeout <= quiet_seconds):
                return events
        return [] if self._loop.has_called_back() else super().select(timeout)
