"""Places for text that break one promise each: what `deltas_contract` must find."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from outlast.adapters.memory.deltas import MemoryDeltas
from outlast.core.event_stream import Delta


class Forgetful(MemoryDeltas):
    """X1: gives each piece to one reader only."""

    async def read(self, execution_id: str, after: str) -> tuple[Sequence[Delta], str]:
        found = await super().read(execution_id, after)
        self._kept.pop(execution_id, None)
        return found


class Disorderly(MemoryDeltas):
    """X1: gives the newest piece first."""

    async def read(self, execution_id: str, after: str) -> tuple[Sequence[Delta], str]:
        found, place = await super().read(execution_id, after)
        return found[::-1], place


class Repetitive(MemoryDeltas):
    """X1: goes on from one piece too early."""

    async def read(self, execution_id: str, after: str) -> tuple[Sequence[Delta], str]:
        found, place = await super().read(execution_id, after)
        return found, str(int(place) - 1) if place else place


class Hasty(MemoryDeltas):
    """X1: forgets pieces by their own age, though their step goes on."""

    def _forget(self) -> None:
        for execution_id, kept in self._kept.items():
            now = self._clock.now()
            self._kept[execution_id] = [one for one in kept if one[1].at > now - 60]


class Indiscreet(MemoryDeltas):
    """X2: mixes executions."""

    async def publish(self, execution_id: str, delta: Delta) -> None:
        await super().publish("x", delta)

    async def read(self, execution_id: str, after: str) -> tuple[Sequence[Delta], str]:
        return await super().read("x", after)


class Deaf(MemoryDeltas):
    """Follows, and does not notice deltas that are published meanwhile."""

    async def follow(self, execution_id: str, after: str, timeout_seconds: float) -> None:
        if not (await self.read(execution_id, after))[0]:
            await self._clock.sleep(timeout_seconds)


class Inattentive(MemoryDeltas):
    """Follows, and misses what was published before."""

    async def follow(self, execution_id: str, after: str, timeout_seconds: float) -> None:
        _, place = await self.read(execution_id, after)
        await super().follow(execution_id, place, timeout_seconds)


class Stubborn(MemoryDeltas):
    """Cannot be cancelled while it follows."""

    async def follow(self, execution_id: str, after: str, timeout_seconds: float) -> None:
        try:
            await super().follow(execution_id, after, timeout_seconds)
        except asyncio.CancelledError:
            return


BROKEN = (Forgetful, Disorderly, Repetitive, Hasty, Indiscreet, Deaf, Inattentive, Stubborn)
