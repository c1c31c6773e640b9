"""Places for text that break one promise each: what `deltas_contract` must find."""

from __future__ import annotations

import asyncio
from collections import Counter
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


class CountsBySequence(MemoryDeltas):
    """X1: its place is the number of a piece in its step, and another step has the same numbers."""

    async def read(self, execution_id: str, after: str) -> tuple[Sequence[Delta], str]:
        found, _ = await super().read(execution_id, "")
        new = [delta for delta in found if delta.sequence > int(after or -1)]
        return new, str(new[-1].sequence) if new else after


class CountsStepByStep(MemoryDeltas):
    """X1: its place is one count, though each step is counted by itself."""

    async def read(self, execution_id: str, after: str) -> tuple[Sequence[Delta], str]:
        found, _ = await super().read(execution_id, "")
        counts: Counter[str] = Counter()
        new, place = [], int(after or 0)
        for delta in found:
            counts[delta.key] += 1
            if counts[delta.key] > place:
                new.append(delta)
        return new, str(max(counts.values(), default=place))


class SortsBySteps(MemoryDeltas):
    """X1: the text of one step comes before that of another, whatever was published first."""

    async def read(self, execution_id: str, after: str) -> tuple[Sequence[Delta], str]:
        found, place = await super().read(execution_id, after)
        return sorted(found, key=lambda delta: delta.key), place


class KeepsTheNewestStep(MemoryDeltas):
    """X1: a step that begins takes the text of the others away."""

    async def publish(self, execution_id: str, delta: Delta) -> None:
        kept = self._kept.get(execution_id, [])
        kept[:] = [one for one in kept if one[1].key == delta.key]
        await super().publish(execution_id, delta)


class NumbersBeforeItWrites(MemoryDeltas):
    """X1: a number is taken first, and its piece is written after pieces with later numbers."""

    async def publish(self, execution_id: str, delta: Delta) -> None:
        number = next(self._numbers)
        for _ in range(3 if number % 2 else 0):
            await asyncio.sleep(0)
        kept = self._kept.setdefault(execution_id, [])
        kept.append((number, delta))
        kept.sort(key=lambda one: one[0])


class ReplacesAStepThatIsNumberedAlike(MemoryDeltas):
    """X1: a piece is kept under its number in its step, and two steps of one execution meet there."""

    async def publish(self, execution_id: str, delta: Delta) -> None:
        kept = self._kept.get(execution_id, [])
        kept[:] = [one for one in kept if one[1].sequence != delta.sequence]
        await super().publish(execution_id, delta)


class KnowsItsPlacesOnce(MemoryDeltas):
    """X1: a place is good for one reading, as that of a subscription is."""

    async def read(self, execution_id: str, after: str) -> tuple[Sequence[Delta], str]:
        found, place = await super().read(execution_id, after)
        used = self.__dict__.setdefault("used", set())
        if after and after in used:
            return [], after
        used.add(after)
        return found, place


BROKEN = (
    Forgetful,
    Disorderly,
    Repetitive,
    Hasty,
    Indiscreet,
    Deaf,
    Inattentive,
    Stubborn,
    CountsBySequence,
    CountsStepByStep,
    SortsBySteps,
    KeepsTheNewestStep,
    NumbersBeforeItWrites,
    ReplacesAStepThatIsNumberedAlike,
    KnowsItsPlacesOnce,
)
