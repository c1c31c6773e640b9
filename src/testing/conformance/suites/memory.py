"""The suites on `memory:`. Its executions end with their process, so there is nothing that could crash."""

from __future__ import annotations

import pytest

from outlast.adapters.memory.deltas import MemoryDeltas
from outlast.ports.deltas import Deltas
from outlast.testing.contracts.deltas.contract import DeltasContract, DeltasPlace
from outlast.testing.contracts.durability.contract import DurabilityContract
from outlast.testing.contracts.durability.in_store import InStore, SharedDeltas
from outlast.testing.contracts.journal.contract import ALL, JournalContract, StoreCapability
from outlast.testing.contracts.journal.memory_storage import MemoryStorage
from outlast.testing.virtual_clock import VirtualClock


class SharedText(DeltasPlace):
    """One object that everybody shares."""

    def __init__(self) -> None:
        self._clock = VirtualClock()
        self._deltas = MemoryDeltas(self._clock)

    @property
    def clock(self) -> VirtualClock:
        return self._clock

    def open(self) -> Deltas:
        return SharedDeltas(self._deltas)


class TestMemoryJournal(JournalContract):
    # A medium belongs to one event loop, and nothing can come between it and its stores.
    capabilities = ALL - {StoreCapability.PARALLEL_OPENING, StoreCapability.BREAKABLE}
    new_storage = MemoryStorage


class TestMemoryDurability(DurabilityContract):
    @staticmethod
    def new_storage() -> InStore:
        return InStore(MemoryStorage())


class TestMemoryDeltas(DeltasContract):
    @pytest.fixture
    def place(self) -> DeltasPlace:
        return SharedText()
