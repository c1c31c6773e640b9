"""The system's clock in the place of a virtual one, for storage whose time no test can move."""

from __future__ import annotations

from outlast.runtime.attempts.system_clock import SystemClock
from outlast.testing.contracts.journal.storage import MovableClock


class RealClock(SystemClock, MovableClock):
    """Real time: to advance it is to wait."""

    async def advance(self, seconds: float) -> None:
        await self.sleep(seconds)

    def step(self, seconds: float) -> None:
        raise NotImplementedError("the clock of this machine cannot be stepped; leave STEADY_LEASES out")
