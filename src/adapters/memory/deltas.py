"""Deltas in the memory of this process: the readable reference implementation of the deltas port."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Sequence
from itertools import count

from outlast.core.event_stream import Delta
from outlast.ports.clock import Clock
from outlast.ports.deltas import KEEP_SECONDS, Deltas

FORGET_EVERY_SECONDS = 10.0


class MemoryDeltas(Deltas):
    """Deltas that are lost when the process ends. Publishers and readers share one event loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._numbers = count(1)
        self._kept: dict[str, list[tuple[int, Delta]]] = {}
        self._forget_at = 0.0
        self._waiters: dict[str, dict[asyncio.Event, None]] = {}

    async def __aenter__(self) -> MemoryDeltas:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._kept.clear()

    async def publish(self, execution_id: str, delta: Delta) -> None:
        self._forget()
        self._kept.setdefault(execution_id, []).append((next(self._numbers), delta))
        for waiter in self._waiters.get(execution_id, ()):
            waiter.set()

    async def read(self, execution_id: str, after: str) -> tuple[Sequence[Delta], str]:
        kept = self._kept.get(execution_id, [])
        found = kept[bisect_right(kept, int(after or 0), key=lambda one: one[0]) :]
        return [delta for _, delta in found], str(found[-1][0]) if found else after

    async def follow(self, execution_id: str, after: str, timeout_seconds: float) -> None:
        waiter = asyncio.Event()
        waiters = self._waiters.setdefault(execution_id, {})
        waiters[waiter] = None
        time_is_up = asyncio.ensure_future(self._clock.sleep(timeout_seconds))
        time_is_up.add_done_callback(lambda _: waiter.set())
        try:
            if not (await self.read(execution_id, after))[0]:
                await waiter.wait()
        finally:
            time_is_up.cancel()
            del waiters[waiter]
            if not waiters:
                self._waiters.pop(execution_id, None)

    def _forget(self) -> None:
        """Forget the deltas of steps without a recent delta, at most once in `FORGET_EVERY_SECONDS`."""
        now = self._clock.now()
        if now < self._forget_at:
            return
        self._forget_at = now + FORGET_EVERY_SECONDS
        silent_since = now - KEEP_SECONDS
        for execution_id, kept in list(self._kept.items()):
            last = {delta.key: delta.at for _, delta in kept}
            self._kept[execution_id] = [one for one in kept if last[one[1].key] > silent_since]
            if not self._kept[execution_id]:
                del self._kept[execution_id]
