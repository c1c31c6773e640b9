"""The resources that a worker opens once and shares between its attempts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeVar

from outlast.ports.clock import Clock
from outlast.ports.resources import Resources
from outlast.runtime.attempts.system_clock import SystemClock
from outlast.runtime.isolation.exits import contained

T = TypeVar("T")

logger = logging.getLogger("outlast.worker")

HELD_BACK_SECONDS_MAX = 600.0
"""The longest time for which a server is left alone; then it is asked again, and may ask for more time."""


class SharedResources(Resources):
    """Resources of one worker (or one plain run), each owned by a task of its own.

    The same task enters and leaves a context manager, because anyio's cancel scopes (and so MCP's clients)
    demand it. A caller that asks for a resource only waits for that task.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = SystemClock() if clock is None else clock
        self._held_back_until: dict[Hashable, float] = {}
        """By key, the steady time."""
        self._owners: dict[Hashable, _Owner[Any]] = {}
        self._closed = False

    async def get(self, key: Hashable, make: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        if self._closed:
            raise RuntimeError("these resources are closed")
        owner: _Owner[T] | None = self._owners.get(key)
        if owner is None or owner.task.done():
            owner = self._owners[key] = _Owner(make())
        # The wait is shielded: a caller that gives up must not stop the opening for the others.
        return await asyncio.shield(owner.ready)

    def hold_back(self, key: Hashable, seconds: float) -> None:
        now = self._clock.steady()
        held = {other: until for other, until in self._held_back_until.items() if until > now}
        held[key] = max(held.get(key, now), now + min(seconds, HELD_BACK_SECONDS_MAX))
        self._held_back_until = held

    def held_back(self, key: Hashable) -> float:
        now = self._clock.steady()
        return max(0.0, self._held_back_until.get(key, now) - now)

    async def __aenter__(self) -> SharedResources:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close all that is open, the newest first.

        An error of the closing is logged: whoever used the resource has its results, which must not be lost.
        """
        self._closed = True
        interruption: BaseException | None = None
        while self._owners:
            owner = self._owners.popitem()[1]
            owner.leave.set()
            if not owner.ready.done():
                owner.task.cancel()  # nobody waits any longer for something that is still being opened
            await asyncio.wait([owner.task])
            owner.ready.cancel()  # a task that was cancelled before it began did not do this
            if not owner.task.cancelled() and (error := owner.task.exception()) is not None:
                logger.error("a resource could not be closed", exc_info=error)
                if not isinstance(error, Exception):
                    interruption = error
        if interruption is not None:
            raise interruption


class _Owner(Generic[T]):
    """A task that holds one resource open."""

    def __init__(self, manager: AbstractAsyncContextManager[T]) -> None:
        self.ready: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.leave = asyncio.Event()
        self.task = asyncio.create_task(self._hold(manager))

    async def _hold(self, manager: AbstractAsyncContextManager[T]) -> None:
        try:
            with contained():
                thing = await manager.__aenter__()
        except Exception as error:
            self.ready.set_exception(error)
            self.ready.exception()  # marked as seen: perhaps nobody waits any longer
            return
        except BaseException:
            self.ready.cancel()
            raise
        self.ready.set_result(thing)
        try:
            await self.leave.wait()
        finally:
            with contained():
                await manager.__aexit__(None, None, None)
