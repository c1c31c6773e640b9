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
    R4  What a server asked to leave alone for a while is left alone by the whole worker: `held_back` returns
        the time that is left of it. It is bounded, and no step of the wall clock changes it.
    """

    @abstractmethod
    async def get(self, key: Hashable, make: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        """Return the thing for `key`, opening it with `make` if it is not open."""

    @abstractmethod
    def hold_back(self, key: Hashable, seconds: float) -> None:
        """Leave what `key` names alone for that time; a longer time that was noted before still counts."""

    @abstractmethod
    def held_back(self, key: Hashable) -> float:
        """Return the seconds for which what `key` names is still to be left alone; 0.0 if it is not."""
