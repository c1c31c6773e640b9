"""The system's clock."""

from __future__ import annotations

import asyncio
import time

from outlast.ports.clock import Clock


class SystemClock(Clock):
    """The wall clock and the monotonic clock of this machine; the latter is one for all of its processes."""

    def now(self) -> float:
        return time.time()

    def steady(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        until = self.steady() + seconds
        await asyncio.sleep(max(0.0, seconds))
        # asyncio may wake by the resolution of its clock too early.
        # A condition that only time brings about: there is no event to wait for.
        while (left := until - self.steady()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left)
