"""The tasks of attempts: those in which attempts run, and those that their code makes.

asyncio lets `SystemExit` and `KeyboardInterrupt` through every task and out of its loop, also from a task
that a tool made by `asyncio.create_task` or in a task group. `contained()` stands around the code of an
attempt, but not around such tasks. So for the time in which a worker uses a loop, the loop has a task
factory: it wraps the coroutine of each task that is made in the context of an attempt. Between two awaits of
the task, the wrapper turns an exit into a failure of that task, and marks a section for the watchdog.

`callbacks` does the same for what the code of an attempt hands to the loop outside of every task.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from contextvars import Context
from types import TracebackType
from typing import Any, TypeVar

from outlast.core.errors import ActivityBlocked, CodeInterrupted
from outlast.core.failure import Failure
from outlast.runtime.isolation.at_work import mark_of, marked
from outlast.runtime.isolation.callbacks import ContainedCallbacks, attempt_here
from outlast.runtime.isolation.exits import raised_by_signal
from outlast.runtime.isolation.watchdog import Section, watched, watching

T = TypeVar("T")

HOLDING_SECONDS = 10 / 3
"""The default for the time that an attempt may hold the loop: a third of the default lease."""


def attempt_task(
    attempt: Coroutine[Any, Any, T], activity: str, execution_id: str | None = None
) -> asyncio.Task[T]:
    """Return a task that makes an attempt at `activity`; what its code makes of tasks belongs to it."""
    token = attempt_here.set(activity)
    mark = marked.set(0 if execution_id is None else mark_of(execution_id))
    try:
        return asyncio.create_task(attempt, name=f"attempt at {activity}")
    finally:
        marked.reset(mark)
        attempt_here.reset(token)


@contextmanager
def isolated_attempts(limit_seconds: float) -> Iterator[None]:
    """Isolate the attempts that are made on the running loop from each other, for the time of the block.

    An attempt that holds the loop for longer than `limit_seconds` fails with `ActivityBlocked`, and an exit
    in one of its tasks is a failure of that task. Attempts outside of such a block get neither.
    """
    loop = asyncio.get_running_loop()
    found: Any = loop.get_task_factory()
    factory = found if isinstance(found, _Factory) else _Factory(found)
    if not factory.users:
        loop.set_task_factory(factory)
        factory.callbacks = ContainedCallbacks(loop)
        factory.callbacks.begin()
    factory.users += 1
    try:
        with watching(limit_seconds):
            yield
    finally:
        factory.users -= 1
        if not factory.users:
            factory.callbacks.end()
            current: Any = loop.get_task_factory()
            if current is factory:
                loop.set_task_factory(factory.before)


class _Factory:
    """Makes the tasks of a loop, by the factory that the loop had before."""

    callbacks: ContainedCallbacks

    def __init__(self, before: Any) -> None:
        self.before = before
        self.users = 0

    def __call__(
        self, loop: asyncio.AbstractEventLoop, coroutine: Any, context: Context | None = None, **options: Any
    ) -> Any:
        activity = attempt_here.get() if context is None else context.get(attempt_here)
        if activity is not None and inspect.iscoroutine(coroutine):
            mark = marked.get() if context is None else context.get(marked, 0)
            coroutine = _AttemptCoroutine(coroutine, activity, mark)
        if context is not None:
            options["context"] = context
        if self.before is None:
            return asyncio.Task(coroutine, loop=loop, **options)
        return self.before(loop, coroutine, **options)


class _AttemptCoroutine(Coroutine[Any, Any, T]):
    """The coroutine of a task in an attempt."""

    __slots__ = ("_activity", "_coroutine", "_last", "_mark")

    def __init__(self, coroutine: Coroutine[Any, Any, T], activity: str, mark: int) -> None:
        self._coroutine = coroutine
        self._activity = activity
        self._mark = mark
        self._last: Section | None = None
        """The last section in which the code was interrupted."""

    def send(self, value: Any) -> Any:
        return self._step(self._coroutine.send, value)

    def throw(
        self, kind: Any, value: BaseException | object = None, trace: TracebackType | None = None
    ) -> Any:
        if value is None and trace is None:
            return self._step(self._coroutine.throw, kind)
        return self._step(self._coroutine.throw, kind, value, trace)

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, T]:
        return self._coroutine.__await__()

    def __getattr__(self, name: str) -> Any:
        # For whoever inspects a task: its frames, its name, whether it was begun.
        return getattr(self._coroutine, name)

    def _step(self, step: Callable[..., Any], *arguments: Any) -> Any:
        """Run the code up to its next await.

        Code that catches the interruption goes on, and its result counts.
        """
        section = Section(self._mark)
        try:
            return watched(section, step, *arguments)
        except CodeInterrupted as error:
            # It may come out later than it was raised, after clean-up code that awaits something.
            at = section if section.interruptions or self._last is None else self._last
            raise ActivityBlocked(self._activity, at.seconds, at.place) from error
        except (SystemExit, KeyboardInterrupt) as error:
            if raised_by_signal(error):
                raise
            raise Failure.of(error).error() from error
        finally:
            if section.interruptions:
                self._last = section
