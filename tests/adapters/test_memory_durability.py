"""Executions in memory keep the durability port's promises."""

from __future__ import annotations

from outlast.testing import DurabilityContract, InStore, MemoryStorage


def in_memory() -> InStore:
    return InStore(MemoryStorage())


class TestMemoryDurability(DurabilityContract):
    new_storage = in_memory
