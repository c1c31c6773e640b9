"""The clock port: the only source of real time."""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol


class Clock(Protocol):
    """Real time, and waiting for it.

    C1  `now` is in seconds since the epoch (UTC).
    C2  `sleep` returns when at least that many seconds have passed by `now`, never before.
    C3  Cancelling a sleep ends it at once.
    """

    @abstractmethod
    def now(self) -> float:
        """Return the present time."""

    @abstractmethod
    async def sleep(self, seconds: float) -> None:
        """Return once `seconds` have passed; at the next turn of the event loop when not positive."""
