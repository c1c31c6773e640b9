"""Running plain functions in threads."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
import weakref
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from outlast.runtime.isolation.at_work import MARKS, marked
from outlast.runtime.isolation.exits import contained

T = TypeVar("T")

_outcomes: weakref.WeakSet[asyncio.Future[Any]] = weakref.WeakSet()
"""The outcomes of calls in threads for which somebody waits."""


async def called(fn: Callable[[], Any], *, is_async: bool, name: str = "activity") -> Any:
    """Return the result of `fn`: an async function is called on this loop, any other in a thread.

    A plain function may return an awaitable, for example when it wraps an async function. The awaitable is
    awaited on this loop, in the context that the function has left.
    """
    if is_async:
        return await fn()
    context = contextvars.copy_context()
    value = await in_thread(fn, name=name, context=context)
    if inspect.isawaitable(value):
        value = await asyncio.get_running_loop().create_task(_awaited(value), context=context)
    return value


async def _awaited(value: Awaitable[T]) -> T:
    with contained():
        return await value


def are_awaited(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether somebody waits on this loop for a call in a thread: its end comes from outside."""
    return any(outcome.get_loop() is loop and not outcome.done() for outcome in _outcomes)


async def in_thread(
    fn: Callable[[], T], *, name: str = "activity", context: contextvars.Context | None = None
) -> T:
    """Return the result of `fn()`, run in a daemon thread of its own, by default in a copy of this context.

    Cancelling the wait leaves the thread running if it has called `fn`: Python cannot stop one. Threads are
    daemons so that an activity that hangs for ever does not keep a stopped process alive; such activities
    would use up a pool.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()
    _outcomes.add(outcome)
    context = contextvars.copy_context() if context is None else context

    def settle(set_outcome: Callable[[Any], None], value: Any) -> None:
        if not outcome.done():
            set_outcome(value)

    def work() -> None:
        if outcome.cancelled():  # The caller gave up waiting before this thread could begin.
            return
        report: Callable[[Any], None]
        value: Any
        try:
            with MARKS.at_work(context.get(marked, 0)):
                report, value = outcome.set_result, context.run(fn)
        except BaseException as error:
            report, value = outcome.set_exception, storable(error)
        try:
            loop.call_soon_threadsafe(settle, report, value)
        except RuntimeError:  # the loop has been closed: nobody waits any longer
            return

    threading.Thread(target=work, name=name, daemon=True).start()
    return await outcome


def storable(error: BaseException) -> BaseException:
    """Return an error that a future can hold: it refuses StopIteration, and takes any other."""
    return RuntimeError(f"raised {error!r}") if isinstance(error, StopIteration) else error
