"""The server's clock, so that workers on many machines live by one time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from outlast.ports.clock import Clock

PROBES = 3


class ServerClock(Clock):
    """The time of the server, as well as it can be told from here: to about half a round trip.

    Leases, timers and wake-up times are compared with what other machines wrote. By this clock a worker
    whose own machine is minutes off does no harm. Between synchronisations it follows the machine's monotonic
    clock; one may set it back, as the server's own clock may be. Before the first one it is the machine's.
    """

    def __init__(self) -> None:
        self._ahead_seconds = time.time() - time.monotonic()

    def now(self) -> float:
        return time.monotonic() + self._ahead_seconds

    async def sleep(self, seconds: float) -> None:
        until = self.now() + seconds
        await asyncio.sleep(max(0.0, seconds))
        # The clock may have been set back a little meanwhile. Only time brings this about: there is no event.
        while (left := until - self.now()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left)

    async def synchronise(self, server_time: Callable[[], Awaitable[float]]) -> None:
        """Ask the server for its time a few times, and believe the quickest answer (Cristian's algorithm).

        Raises what `server_time` raises.
        """
        best_round_trip = float("inf")
        for _ in range(PROBES):
            asked = time.monotonic()
            answer = await server_time()
            answered = time.monotonic()
            if answered - asked < best_round_trip:
                best_round_trip = answered - asked
                self._ahead_seconds = answer - (asked + answered) / 2
