"""The system's clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from outlast.ports.clock import Clock, Timer


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

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        return _Timer(self.steady() + seconds, callback)


class _Timer:
    """One call that is to come when the monotonic clock has come to a time."""

    __slots__ = ("_callback", "_handle", "_until")

    def __init__(self, until: float, callback: Callable[[], object]) -> None:
        self._until = until
        self._callback = callback
        self._wait()

    def cancel(self) -> None:
        self._handle.cancel()

    def _wait(self) -> None:
        left = max(0.0, self._until - time.monotonic())
        self._handle = asyncio.get_running_loop().call_later(left, self._fire)

    def _fire(self) -> None:
        # asyncio may call too early, by the resolution of its clock.
        if time.monotonic() < self._until:
            self._wait()
        else:
            self._callback()
