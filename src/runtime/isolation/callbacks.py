"""The callbacks of attempts: what their code hands to the loop, outside of every task.

asyncio logs the exception of a callback (`loop.call_soon`, `loop.call_later`, `Future.add_done_callback`) and
goes on, but `SystemExit` and `KeyboardInterrupt` it lets out of its loop, with all that runs there. So for
the time in which a worker uses a loop, each callback that is scheduled in the context of an attempt is run by
a function of this module. An exit is logged as any other exception of a callback; the attempt itself does not
learn of it, as it does not of those. A callback that holds the loop is interrupted like a task.

All ways lead through three methods of the loop, also those of asyncio itself: the instance gets others in
their place. The steps of tasks come by the same way and are passed on as they are, since `tasks` wraps their
coroutines. What is called when a file becomes readable or a signal comes (`loop.add_reader`,
`loop.add_signal_handler`) does not come by this way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context, ContextVar
from typing import Any, Final

from outlast.core.errors import ActivityBlocked, CodeInterrupted
from outlast.core.failure import Failure
from outlast.runtime.isolation.at_work import marked
from outlast.runtime.isolation.exits import raised_by_signal
from outlast.runtime.isolation.watchdog import Section, watched

attempt_here: Final[ContextVar[str | None]] = ContextVar("outlast_attempt_here", default=None)
"""The name of the activity or tool whose attempt this context belongs to."""


class ContainedCallbacks:
    """Contains the callbacks of attempts on one loop, between `begin` and `end`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ours: dict[str, Any] = {}
        self._before: dict[str, Any] = {}

    def begin(self) -> None:
        loop: Any = self._loop
        call_soon, threadsafe, call_at = loop.call_soon, loop.call_soon_threadsafe, loop.call_at

        def soon(callback: Callable[..., Any], *arguments: Any, context: Context | None = None) -> Any:
            return call_soon(*_contained(callback, arguments, context), context=context)

        def soon_threadsafe(
            callback: Callable[..., Any], *arguments: Any, context: Context | None = None
        ) -> Any:
            return threadsafe(*_contained(callback, arguments, context), context=context)

        def at(
            when: float, callback: Callable[..., Any], *arguments: Any, context: Context | None = None
        ) -> Any:
            return call_at(when, *_contained(callback, arguments, context), context=context)

        self._ours = {"call_soon": soon, "call_soon_threadsafe": soon_threadsafe, "call_at": at}
        self._before = {name: vars(loop)[name] for name in self._ours if name in vars(loop)}
        vars(loop).update(self._ours)

    def end(self) -> None:
        """Give the loop its own methods again; one that somebody has replaced meanwhile stays."""
        methods = vars(self._loop)
        for name, ours in self._ours.items():
            if methods.get(name) is not ours:
                continue
            if name in self._before:
                methods[name] = self._before[name]
            else:
                del methods[name]


def _contained(
    callback: Callable[..., Any], arguments: tuple[Any, ...], context: Context | None
) -> tuple[Any, ...]:
    """Return what is to be called in place of a callback, and its arguments."""
    activity = attempt_here.get() if context is None else context.get(attempt_here)
    if activity is None or isinstance(getattr(callback, "__self__", None), asyncio.Task):
        return callback, *arguments
    return _run_contained, activity, callback, *arguments


def _run_contained(activity: str, callback: Callable[..., Any], *arguments: Any) -> None:
    section = Section(marked.get())
    try:
        watched(section, callback, *arguments)
        return
    except CodeInterrupted:
        error: Exception = ActivityBlocked(activity, section.seconds, section.place)
    except (SystemExit, KeyboardInterrupt) as raised:
        if raised_by_signal(raised):
            raise
        error = Failure.of(raised).error()
        error.__cause__ = raised
    asyncio.get_running_loop().call_exception_handler(
        {"message": f"exception in a callback of activity {activity!r}: {callback!r}", "exception": error}
    )
