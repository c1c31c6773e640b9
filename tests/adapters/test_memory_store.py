"""The store in memory keeps the journal contract."""

from __future__ import annotations

from outlast.adapters.memory.store import Medium, MemoryStore
from outlast.testing.contracts.journal.contract import JournalContract
from outlast.testing.contracts.journal.storage import ALL, StoreCapability
from outlast.testing.virtual_clock import VirtualClock


class MemoryStorage:
    """A medium and a clock."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.medium = Medium()

    def open(self) -> MemoryStore:
        return MemoryStore(self.clock, medium=self.medium)

    async def dispose(self) -> None:
        self.medium.executions.clear()


class TestMemoryJournal(JournalContract):
    # A medium belongs to one event loop.
    capabilities = ALL - {StoreCapability.PARALLEL_OPENING}
    new_storage = MemoryStorage
