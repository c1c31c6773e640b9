"""The resources port: SDK clients, connections and processes that are opened once and shared."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Hashable
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

T = TypeVar("T")


class Resources(Protocol):
    """Things that live as long as their worker.

    R1  For one key, `make` is entered once, however many callers ask at the same time; all get one thing.
    R2  If entering fails, all callers that wait get the error, and the next caller tries again.
    R3  When the worker stops, all are exited, the last first, each in the task that entered it.
    """

    @abstractmethod
    async def get(self, key: Hashable, make: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        """Return the thing for `key`, opening it with `make` if it is not open."""
