"""The resources port: what is opened once and shared (SDK clients, connections, processes)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Hashable
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

T = TypeVar("T")


class Resources(Protocol):
    """Things that live as long as their worker.

    R1  For one key, `make` is entered once, however many ask at the same time; all get the same thing.
    R2  If entering fails, everyone who waits gets the error and the next one tries again.
    R3  All are left, last first, when the worker stops; each in the task that entered it.
    """

    @abstractmethod
    async def get(self, key: Hashable, make: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        """Return the thing for `key`, opening it with `make` if it is not open."""
