"""Executions in memory keep the durability port's promises."""

from __future__ import annotations

from outlast.adapters.memory.store import Medium, MemoryStore
from outlast.testing.contracts.durability.contract import DurabilityContract
from outlast.testing.contracts.durability.in_store import InStore
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


def in_memory() -> InStore:
    return InStore(MemoryStorage())


class TestMemoryDurability(DurabilityContract):
    new_storage = in_memory
