"""A host: what a simulated process has of its own, which is being alive, standing still, and a clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from outlast.ports.clock import Timer
from outlast.testing.contracts.journal.storage import MovableClock

START = 1_700_000_000.0
"""The first date of a simulation, in seconds since the epoch."""


class SimulatedMachine:
    """The time that all hosts share: the steady time of the loop, and a wall clock that can be set."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.ahead = 0.0
        """The seconds by which the wall clock was stepped."""


class SimulatedHost:
    """One simulated process, which can stand still."""

    def __init__(self, name: str, machine: SimulatedMachine) -> None:
        self.name = name
        self.machine = machine
        self.is_dead = False
        self._stands_until = 0.0

    def stand_still(self, seconds: float) -> None:
        """Let nothing of the process go on for so long."""
        self._stands_until = max(self._stands_until, self.machine.loop.time() + seconds)

    @property
    def standstill_seconds(self) -> float:
        """The time for which it still stands."""
        return self._stands_until - self.machine.loop.time()

    async def going(self) -> None:
        """Return once the process goes on, which may be at once."""
        while (seconds := self.standstill_seconds) > 0:  # noqa: ASYNC110 - the standstill may have become longer
            await asyncio.sleep(seconds)


class HostClock(MovableClock):
    """The clock of a host. Its timers do not go off while the host stands still."""

    def __init__(self, host: SimulatedHost) -> None:
        self._host = host
        self._machine = host.machine

    def now(self) -> float:
        return START + self._machine.loop.time() + self._machine.ahead

    def steady(self) -> float:
        return self._machine.loop.time()

    def step(self, seconds: float) -> None:
        self._machine.ahead += seconds

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(seconds, 0.0))
        await self._host.going()

    async def advance(self, seconds: float) -> None:
        await self.sleep(seconds)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        return _Alarm(self._host, max(seconds, 0.0), callback)


class _Alarm(Timer):
    """A call that is to come, when the host does not stand still."""

    def __init__(self, host: SimulatedHost, seconds: float, callback: Callable[[], object]) -> None:
        self._host = host
        self._callback = callback
        self._handle = host.machine.loop.call_later(seconds, self._ring)

    def cancel(self) -> object:
        self._handle.cancel()
        return None

    def _ring(self) -> None:
        seconds = self._host.standstill_seconds
        if seconds > 0:
            self._handle = self._host.machine.loop.call_later(seconds, self._ring)
        else:
            self._callback()
