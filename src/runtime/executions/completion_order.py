"""The order in which `asyncio.as_completed` makes its tasks.

It puts the coroutines that it is given into a set before it wraps them into tasks, one by one. A set orders
them by address, so their tasks would have other places in the program in every process. Therefore the loop
makes all of these tasks, in the order of the argument, when `as_completed` asks for the first one.

This relies on the code of CPython 3.11 to 3.14: `as_completed` wraps coroutines by `ensure_future`, and its
argument is in a local variable.
"""

import asyncio
import sys
from collections.abc import Coroutine, Sequence
from typing import Any

from outlast.core.errors import DeterminismError

ENSURE_FUTURE = getattr(asyncio.tasks, "_ensure_future", asyncio.ensure_future).__code__
"""The code that asks a loop for a task where `as_completed` does."""

_ITERATOR = getattr(asyncio.tasks, "_AsCompletedIterator", None)
_CODE = (asyncio.as_completed if _ITERATOR is None else _ITERATOR.__init__).__code__
_ARGUMENT = "fs" if _ITERATOR is None else "aws"


def coroutines_completed() -> Sequence[Coroutine[Any, Any, Any]]:
    """Return the coroutines that `as_completed` was given, in order; none if it is not the caller.

    Call it from `create_task`, when `ensure_future` has called that.

    Raises:
        DeterminismError: they are in no fixed order.
    """
    given = _given()
    if given is None:
        return ()
    if not isinstance(given, list | tuple) or not all(
        asyncio.isfuture(awaitable) or asyncio.iscoroutine(awaitable) for awaitable in given
    ):
        raise DeterminismError(
            "asyncio.as_completed() over anything but a list of tasks and coroutines",
            "it would start them in no fixed order; make a list, with asyncio.create_task() around each",
        )
    return [awaitable for awaitable in given if asyncio.iscoroutine(awaitable)]


def _given() -> object:
    """Return the argument of the `as_completed` that called `ensure_future`; None if something else did."""
    frame = sys._getframe(3).f_back
    for _ in range(3):
        if frame is None:
            return None
        if frame.f_code is _CODE:
            return frame.f_locals[_ARGUMENT]
        frame = frame.f_back
    return None
