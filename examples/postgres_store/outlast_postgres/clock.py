"""The clock of the server: workers on many machines use this one clock.

Leases and wake-up times are compared with times that other machines wrote. With this clock, a worker whose
own clock is wrong by minutes does no harm. Between two answers of the server the time follows the monotonic
clock of this machine. When somebody sets the clock of the server, leases end earlier or later by as much.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import outlast

PROBES = 3


class ServerClock(outlast.SystemClock):
    """The time of the server, exact to about half a round trip; this machine's until the first answer."""

    def __init__(self) -> None:
        super().__init__()
        self._ahead_seconds = time.time() - self.steady()

    def now(self) -> float:
        return self.steady() + self._ahead_seconds

    async def synchronise(self, server_time: Callable[[], Awaitable[float]]) -> None:
        """Ask the server for its time and use the answer that came fastest (Cristian's algorithm)."""
        fastest = float("inf")
        for _ in range(PROBES):
            asked = self.steady()
            answer = await server_time()
            answered = self.steady()
            if answered - asked < fastest:
                fastest = answered - asked
                self._ahead_seconds = answer - (asked + answered) / 2
