"""The clock port: the only source of real time."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A call that is to come."""

    def cancel(self) -> object:
        """Let it not come; this changes nothing once it has."""


class Clock(Protocol):
    """Real time, and waiting for it.

    There are two times, because the wall clock jumps: NTP sets it, or a person does. A date is read from
    `now`. A duration (a lease, a time limit, a pause) is measured by `steady`: no jump changes it.

    C1  `now` is in seconds since the epoch (UTC).
    C2  `steady` is in seconds from some point in the past, and never goes back. All processes of a machine
        have the same one, until it is started again.
    C3  `sleep` returns when at least that many seconds have passed by `steady`, never before. By then, `now`
        may show any time: whoever waits for a date looks again.
    C4  Cancelling a sleep ends it at once.
    C5  `call_later` calls back as `sleep` returns, once, on the loop where it was called, unless it is
        cancelled.
    """

    @abstractmethod
    def now(self) -> float:
        """Return the present time."""

    @abstractmethod
    def steady(self) -> float:
        """Return the present time for measuring durations."""

    @abstractmethod
    async def sleep(self, seconds: float) -> None:
        """Return once `seconds` have passed; at the next turn of the event loop when not positive."""

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call back once `seconds` have passed. A clock overrides this if it can do so without a task."""
        sleeping = asyncio.ensure_future(self.sleep(seconds))
        sleeping.add_done_callback(lambda slept: None if slept.cancelled() else callback())
        return sleeping
