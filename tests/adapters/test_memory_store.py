"""The store in memory keeps the journal contract."""

from __future__ import annotations

from outlast.testing import JournalContract, MemoryStorage, StoreCapability


class TestMemoryJournal(JournalContract):
    # A medium belongs to one event loop, and nothing can come between it and its stores.
    capabilities = frozenset(StoreCapability) - {StoreCapability.PARALLEL_OPENING, StoreCapability.BREAKABLE}
    new_storage = MemoryStorage
