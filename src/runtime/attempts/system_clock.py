"""The system's clock."""

from __future__ import annotations

import asyncio
import time

from outlast.ports.clock import Clock


class SystemClock(Clock):
    """The wall clock and the monotonic clock of this computer; all its processes share the latter."""

    def now(self) -> float:
        return time.time()

    def steady(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        until = self.steady() + seconds
        await asyncio.sleep(max(0.0, seconds))
        # asyncio may wake too early, by the resolution of its clock.
        # Only time makes this condition true: there is no event to wait for.
        while (left := until - self.steady()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left)
