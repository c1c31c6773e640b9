"""The outside world that the contract's activities change: their side effects, and gates to wait at."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from outlast.core.json import JSON
from outlast.ports.clock import Clock
from outlast.runtime.definitions.activity import activity


@dataclass(frozen=True, slots=True)
class WorldEffect:
    """One thing that an attempt did."""

    activity: str
    key: str
    attempt: int
    what: JSON
    at: float


class World:
    """The side effects of one execution, outside of every backend; they outlive all processes of a test."""

    def __init__(self) -> None:
        self.effects: list[WorldEffect] = []
        self.clock: Clock | None = None
        self._gates: dict[str, asyncio.Event] = {}
        self._changed = asyncio.Event()
        self.running = 0
        """Attempts that are under way."""
        self.most_running = 0

    def happen(self, what: JSON) -> None:
        """Note that the running attempt did this."""
        info = activity.info()
        at = 0.0 if self.clock is None else self.clock.now()
        self.effects.append(WorldEffect(info.activity, info.idempotency_key, info.attempt, what, at))
        self._change()

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Count an attempt as under way during the block."""
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            yield
        finally:
            self.running -= 1
            self._change()

    async def idle(self) -> None:
        """Return when no attempt is under way: one that was given up may end a moment later."""
        while self.running:
            await self._changed.wait()

    def gate(self, name: str) -> asyncio.Event:
        """Return a gate; it is closed at first."""
        return self._gates.setdefault(name, asyncio.Event())

    async def happened(self, what: JSON, times: int = 1) -> None:
        """Return when that has happened `times` times."""
        while self.count(what) < times:
            await self._changed.wait()

    async def happened_in_all(self, times: int) -> None:
        """Return when `times` things have happened."""
        while len(self.effects) < times:
            await self._changed.wait()

    def count(self, what: JSON) -> int:
        """Return the number of times that this has happened."""
        return sum(effect.what == what for effect in self.effects)

    def attempts(self, what: JSON) -> list[int]:
        """Return the numbers of all attempts that did that."""
        return [effect.attempt for effect in self.effects if effect.what == what]

    def _change(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


worlds: defaultdict[str, World] = defaultdict(World)
"""The world of each execution, by id."""


def here() -> World:
    """Return the world of the running activity."""
    return worlds[activity.info().execution_id]
