"""The storage of the store in memory: the model for the storage of another store."""

from __future__ import annotations

from outlast.adapters.memory.store import Medium, MemoryStore
from outlast.testing.contracts.journal.storage import Storage
from outlast.testing.virtual_clock import VirtualClock


class MemoryStorage(Storage):
    """A medium that every store opens, and a clock that a test can move.

    A medium belongs to one event loop: this storage lacks `PARALLEL_OPENING`.
    """

    def __init__(self) -> None:
        self._clock = VirtualClock()
        self.medium = Medium()

    @property
    def clock(self) -> VirtualClock:
        return self._clock

    def open(self) -> MemoryStore:
        return MemoryStore(self._clock, medium=self.medium)

    async def dispose(self) -> None:
        self.medium.executions.clear()
