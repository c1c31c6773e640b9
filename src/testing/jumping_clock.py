"""A clock whose time moves only when it is moved, and which knows who waits for it."""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Callable
from datetime import UTC, datetime

from outlast.testing.virtual_clock import START, VirtualClock


class JumpingClock(VirtualClock):
    """Time that stands still until `jump` moves it; see `Environment`."""

    def __init__(self, start: float = START) -> None:
        super().__init__(start)
        self._wanted: list[tuple[float, int, asyncio.Future[None]]] = []

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            return await asyncio.sleep(0)
        await self._sleeper(seconds)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> asyncio.Future[None]:
        sleeper = self._sleeper(max(0.0, seconds))
        sleeper.add_done_callback(lambda slept: None if slept.cancelled() else callback())
        return sleeper

    async def pass_time(self, seconds: float) -> None:
        """Return once `seconds` have passed: time that the program under test is to notice."""
        sleeper = self._sleeper(seconds)
        heapq.heappush(self._wanted, (self._now + seconds, next(self._order), sleeper))
        await sleeper

    def next_sleeper(self) -> float:
        """Return when the next sleeper is due; infinity if there is none."""
        due = self._next_due()
        return math.inf if due is None else due

    def next_wanted(self) -> float:
        """Return when somebody is due for whom time is to pass; infinity if there is nobody."""
        while self._wanted and self._wanted[0][2].done():
            heapq.heappop(self._wanted)
        return self._wanted[0][0] if self._wanted else math.inf

    def jump(self, until: float) -> None:
        """Move the time to `until`, and wake all who are due by then, in the order of their due times."""
        self._wake(until)

    @property
    def date(self) -> datetime:
        """The present time (UTC)."""
        return datetime.fromtimestamp(self.now(), UTC)

    def _sleeper(self, seconds: float) -> asyncio.Future[None]:
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), sleeper))
        return sleeper
