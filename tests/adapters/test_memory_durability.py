"""Executions in memory keep the durability port's promises."""

from __future__ import annotations

from durable_agents.adapters.memory import Medium, MemoryStore
from durable_agents.testing.clock import VirtualClock
from durable_agents.testing.durability.in_store import InStore
from durable_agents.testing.durability_contract import DurabilityContract


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
