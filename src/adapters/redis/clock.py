"""The clock of the Redis server: workers on many machines use this one clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from outlast.ports.clock import Clock

PROBES = 3


class ServerClock(Clock):
    """The time of the server, exact to about half a network round trip.

    Leases, timers and wake-up times are compared with times that other machines wrote. With this clock, a
    worker whose own clock is wrong by minutes does no harm.

    Between two synchronisations the time follows the monotonic clock of this machine. Before the first
    synchronisation it is this machine's own time. A synchronisation can set it back.
    """

    def __init__(self) -> None:
        self._ahead_seconds = time.time() - time.monotonic()

    def now(self) -> float:
        return time.monotonic() + self._ahead_seconds

    def steady(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        until = self.steady() + seconds
        await asyncio.sleep(max(0.0, seconds))
        # asyncio may wake by the resolution of its clock too early.
        while (left := until - self.steady()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left)

    async def synchronise(self, server_time: Callable[[], Awaitable[float]]) -> None:
        """Ask the server for its time several times and use the fastest answer (Cristian's algorithm).

        `server_time` returns seconds since the epoch. Whatever it raises is raised here.
        """
        best_round_trip = float("inf")
        for _ in range(PROBES):
            asked = time.monotonic()
            answer = await server_time()
            answered = time.monotonic()
            if answered - asked < best_round_trip:
                best_round_trip = answered - asked
                self._ahead_seconds = answer - (asked + answered) / 2
