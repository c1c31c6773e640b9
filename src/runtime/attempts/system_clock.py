"""The system's clock."""

from __future__ import annotations

import asyncio
import time

from outlast.ports.clock import Clock


class SystemClock(Clock):
    """Wall-clock time; waiting is `asyncio.sleep`, checked against the wall clock so that C2 holds."""

    def now(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        until = self.now() + seconds
        await asyncio.sleep(max(0.0, seconds))
        # asyncio sleeps by the monotonic clock, which may run a little ahead of the wall clock.
        # A condition that only time brings about: there is no event to wait for.
        while (left := until - self.now()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left)
