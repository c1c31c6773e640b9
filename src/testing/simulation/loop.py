"""An event loop in simulated time: whenever nothing is ready, the time jumps to the next timer.

It asks the system for nothing, so what runs on it runs the same way every time. Two habits of asyncio stand
against that, and are changed here: the time of the loop is the real one, and tasks are kept in sets, whose
order follows from addresses in memory. Here tasks are hashed by their number.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from contextvars import Context
from itertools import count
from typing import Any, TypeVarTuple, Unpack

from outlast.core.errors import OutlastError

Arguments = TypeVarTuple("Arguments")

TURNS_MAX = 2_000_000
"""The most turns of the loop; a simulation that needs more goes in a circle."""


class SimulationStuck(OutlastError):
    """Everything waits for something that never comes, or goes on without an end."""


class _NumberedTask(asyncio.Task[Any]):
    """A task whose place in a set follows from when it was made."""

    def __init__(self, coroutine: Any, *, number: int, **options: Any) -> None:
        self._number = number
        super().__init__(coroutine, **options)

    def __hash__(self) -> int:
        return self._number


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes only while everything waits. It starts at 0."""

    def __init__(self) -> None:
        self._simulated_seconds = 0.0
        self._numbers = count()
        super().__init__(_Jumping(self._jump))
        factory: Any = self._numbered
        self.set_task_factory(factory)
        self.turns = 0

    def time(self) -> float:
        return self._simulated_seconds

    def call_soon_threadsafe(
        self,
        callback: Callable[[Unpack[Arguments]], object],
        *args: *Arguments,
        context: Context | None = None,
    ) -> asyncio.Handle:
        # There is one thread. Waking the loop through a socket would be of no use.
        return self.call_soon(callback, *args, context=context)

    def run_in_executor(self, *_: object) -> Any:
        raise OutlastError("a simulation has one thread: let the program do without threads")

    def _numbered(
        self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Task[Any]:
        return _NumberedTask(coroutine, loop=loop, number=next(self._numbers), **options)

    def _jump(self, seconds: float | None) -> None:
        self.turns += 1
        if seconds is None:
            raise SimulationStuck("everything in the simulation waits, and no timer is left")
        if self.turns > TURNS_MAX:
            raise SimulationStuck(f"the simulation does not come to an end in {TURNS_MAX} turns")
        self._simulated_seconds += max(seconds, 0.0)


class _Jumping(selectors.DefaultSelector):
    """A selector that never looks at a file: it lets the time jump instead."""

    def __init__(self, jump: Callable[[float | None], None]) -> None:
        super().__init__()
        self._jump = jump

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._jump(timeout)
        return []
