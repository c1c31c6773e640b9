"""The store in memory keeps the journal contract."""

from __future__ import annotations

from durable_agents.adapters.memory import Medium, MemoryStore
from durable_agents.testing.clock import VirtualClock
from durable_agents.testing.journal_contract import JournalContract
from durable_agents.testing.storage import ALL, Capability


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
    capabilities = ALL - {Capability.PARALLEL_OPENING}
    new_storage = MemoryStorage
