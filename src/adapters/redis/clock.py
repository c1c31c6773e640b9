"""The clock of the Redis server: workers on many machines use this one clock.

A server has only a wall clock, which somebody can set. Leases must neither end nor last longer because of
that (D20). Nobody who asks for the time once can see that it was set; but a client that has asked before can,
since between two answers the time follows its own monotonic clock. It then writes a *correction* to the
server: so many seconds are to be added to the server's clock, from now on, by everybody. The time of all
clients goes on as if the clock had not been set. The same happens when another server, whose clock differs,
takes over.

Corrections have versions. A client that sees a newer version than it knows takes it as it is; a client that
knows the newest version, and sees a step, makes the next one. So a client that has connected after the step
does not undo the correction of those that know better.

Until one of them has noticed the step, for `STEP_NOTICED_SECONDS` at most, a client that connects just then
has the stepped time. It may claim executions whose leases have not run out, if the clock was set forward.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from outlast.ports.clock import Clock

logger = logging.getLogger("outlast.redis")

PROBES = 3
STEP_NOTICED_SECONDS: Final = 10.0
"""The time between two synchronisations."""
STEP_SECONDS: Final = 0.5
"""A greater difference between an answer and the time that was expected is a step, a smaller one is drift."""


@dataclass(frozen=True, slots=True)
class Correction:
    """The seconds to add to the clock of the server, and the number of this correction."""

    version: int = 0
    seconds: float = 0.0


Correct = Callable[[int, float | None], Awaitable[Correction]]
"""Returns the newest correction, after making the seconds the next one if the given version is the newest."""


class ServerClock(Clock):
    """The time of the server, exact to about half a network round trip.

    Leases, timers and wake-up times are compared with times that other machines wrote. With this clock, a
    worker whose own clock is wrong by minutes does no harm.

    Between two synchronisations the time follows the monotonic clock of this machine. Before the first
    synchronisation it is this machine's own time.
    """

    def __init__(self) -> None:
        self._ahead_seconds = time.time() - time.monotonic()
        self._correction: Correction | None = None

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

    async def synchronise(self, server_time: Callable[[], Awaitable[float]], correct: Correct) -> None:
        """Ask the server for its time several times and use the fastest answer (Cristian's algorithm).

        `server_time` returns seconds since the epoch. Whatever it or `correct` raises is raised here.
        """
        best_round_trip, ahead = float("inf"), 0.0
        for _ in range(PROBES):
            asked = time.monotonic()
            answer = await server_time()
            answered = time.monotonic()
            if answered - asked < best_round_trip:
                best_round_trip = answered - asked
                ahead = answer - (asked + answered) / 2
        known = self._correction
        newest = await correct(0 if known is None else known.version, None)
        step = ahead + newest.seconds - self._ahead_seconds
        if newest == known and abs(step) > STEP_SECONDS + best_round_trip:
            logger.warning("the server's clock was set by %+.1f s; everybody corrects its time by that", step)
            newest = await correct(newest.version, newest.seconds - step)
        self._correction = newest
        self._ahead_seconds = ahead + newest.seconds
