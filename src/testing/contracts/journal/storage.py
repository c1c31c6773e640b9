"""The inputs of the contract suites: storage that can be opened more than once, and its capabilities."""

from __future__ import annotations

from abc import abstractmethod
from enum import Enum
from typing import Protocol, runtime_checkable

from outlast.ports.clock import Clock
from outlast.ports.journal import Store


class StoreCapability(Enum):
    """A behaviour that storage may lack; the value is the reason that a skipped test prints."""

    MOVABLE_CLOCK = "time passes only when the test moves it"
    STEADY_LEASES = "leases go by a clock that no step of the wall clock changes"
    PUSH_WAKEUP = "wait and follow return as soon as another store object has written, not at their timeout"
    PARALLEL_OPENING = "it can be open in several threads at once, each with its own event loop"
    BREAKABLE = "it can be cut off from its stores and come back (`BreakableStorage`)"


ALL = frozenset(StoreCapability)


class MovableClock(Clock, Protocol):
    """A clock that a test can move."""

    @abstractmethod
    async def advance(self, seconds: float) -> None:
        """Return when `now` is at least `seconds` later and all sleepers that are due have woken.

        A real clock simply waits; then the storage lacks `MOVABLE_CLOCK`.
        """

    @abstractmethod
    def step(self, seconds: float) -> None:
        """Let `now` jump forward or back, while no time passes; needed for `STEADY_LEASES`."""


class Storage(Protocol):
    """A fresh, empty place for executions, made for one test and gone after `dispose`.

    It may be made outside an event loop and used in several ones, one after the other.
    """

    @property
    @abstractmethod
    def clock(self) -> MovableClock:
        """The clock of every store that `open` returns."""

    @abstractmethod
    def open(self) -> Store:
        """Return another store on the same data, not yet entered (`async with storage.open() as store`)."""

    @abstractmethod
    async def dispose(self) -> None:
        """Remove all data of the storage; every store has been closed."""


@runtime_checkable
class BreakableStorage(Storage, Protocol):
    """Storage that stores may lose for a while, as they lose a server; needed for `BREAKABLE`."""

    @abstractmethod
    async def cut_off(self) -> None:
        """Break the connections of all open stores, and refuse new ones, until `come_back`."""

    @abstractmethod
    async def come_back(self) -> None:
        """Return when stores can connect again, to all the data that was there before."""
