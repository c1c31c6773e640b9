"""Tasks that stand in the same order in every replay.

asyncio keeps tasks in sets: `TaskGroup` those that it cancels when one fails, `wait` those that it returns.
The order in a set is that of hashes, and a task's hash is its address. Temporal's loop leaves it at that; a
workflow that cancels an activity and a timer together would then now and then depart from its own history.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from itertools import count
from typing import Any


class _Task(asyncio.Task[Any]):
    __slots__ = ("_number",)

    def __init__(
        self, coro: Coroutine[Any, Any, Any], number: int, loop: Any, context: Context | None
    ) -> None:
        self._number = number  # asyncio asks for the hash while it makes the task
        super().__init__(coro, loop=loop, context=context)

    def __hash__(self) -> int:
        return self._number


class _Future(asyncio.Future[Any]):
    __slots__ = ("_number",)

    def __init__(self, number: int, loop: Any) -> None:
        self._number = number
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._number


def keep_order() -> None:
    """Number the tasks and futures that the running workflow makes from now on."""
    loop: Any = asyncio.get_running_loop()
    numbers = count(1)

    def create_task(
        coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[Any]:
        task = _Task(coro, next(numbers), loop, context)
        loop._register_task(task, name=name)  # what Temporal's own `create_task` does, by another class
        return task

    def create_future() -> asyncio.Future[Any]:
        return _Future(next(numbers), loop)

    loop.create_task = create_task
    loop.create_future = create_future
