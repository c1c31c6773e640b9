"""Running plain functions in threads."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


async def in_thread(fn: Callable[[], T], *, name: str = "activity") -> T:
    """Return what `fn()` returns, run in a daemon thread of its own, in a copy of the present context.

    Cancelling the wait leaves the thread running: Python cannot stop one. Threads are daemons so that an
    activity that hangs for ever does not keep a stopped process alive; a pool would be used up by such.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()

    def settle(set_outcome: Callable[[Any], None], value: Any) -> None:
        if not outcome.done():
            set_outcome(value)

    def work() -> None:
        report: Callable[[Any], None]
        value: Any
        try:
            report, value = outcome.set_result, context.run(fn)
        except BaseException as error:
            report, value = outcome.set_exception, _storable(error)
        try:
            loop.call_soon_threadsafe(settle, report, value)
        except RuntimeError:  # the loop has been closed: nobody waits any more
            return

    threading.Thread(target=work, name=name, daemon=True).start()
    return await outcome


def _storable(error: BaseException) -> BaseException:
    """A future refuses StopIteration; everything else is kept as it is."""
    return RuntimeError(f"raised {error!r}") if isinstance(error, StopIteration) else error
