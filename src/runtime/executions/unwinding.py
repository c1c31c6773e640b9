"""Unwinding suspended code whose execution leaves this process.

Python cannot discard a suspended coroutine: to free one, it resumes it. So the code is unwound by an
exception that it has no reason to catch. Code that catches it all the same and goes on is dropped where it
stands after some attempts, and stays in memory, because to free it would resume it.
"""

import asyncio
import inspect
import logging
from collections.abc import AsyncGenerator
from contextvars import Context
from typing import Any

from outlast.runtime.isolation.exits import raised_by_signal
from outlast.runtime.isolation.user_code import place_in

logger = logging.getLogger("outlast.workflow")

ATTEMPTS_MAX = 100
"""The number of times that unwound code may go on before it is dropped where it stands."""


class ExecutionEvicted(BaseException):
    """Unwinds workflow code whose execution leaves this process. It is not an error; do not catch it."""


class Unwinding:
    """Unwinds the code of one loop, when the loop is closed."""

    def __init__(self) -> None:
        self._refusals = 0
        self.dropped_at: list[str] = []
        """The places of code that did not end."""

    def unwind(
        self,
        loop: asyncio.AbstractEventLoop,
        task: asyncio.Task[Any] | None,
        context: Context,
        suspended: Any,
    ) -> None:
        """End a coroutine or asynchronous generator that nobody will resume, as if `task` resumed it."""
        if inspect.iscoroutine(suspended) and inspect.getcoroutinestate(suspended) == inspect.CORO_CREATED:
            # The coroutine that it was to await was not begun either, and Python would warn about it.
            for argument in inspect.getcoroutinelocals(suspended).values():
                if asyncio.iscoroutine(argument):
                    self.unwind(loop, task, context, argument)
        closing = suspended.aclose() if isinstance(suspended, AsyncGenerator) else suspended
        self._refusals = 0
        if task is not None:
            asyncio._enter_task(loop, task)  # timeouts and task groups need it
        try:
            if closing is not suspended:
                context.run(closing.send, None)
            for _ in range(ATTEMPTS_MAX):
                # This returns when the code awaits something.
                context.run(closing.throw, ExecutionEvicted())
        except (StopIteration, ExecutionEvicted):
            pass
        except BaseException as error:
            if raised_by_signal(error):
                raise
            logger.debug("the clean-up code of an execution that left this worker failed", exc_info=True)
        finally:
            if task is not None:
                asyncio._leave_task(loop, task)
        if is_unfinished(suspended):
            self.dropped_at.append(place_in(suspended))
            _keep_for_ever(suspended)
            _keep_for_ever(closing)

    def refuse(self) -> None:
        """Unwind the code that makes a request; after many attempts without success, let it await instead.

        Code that does not stand at an await cannot be left where it stands.
        """
        self._refusals += 1
        if self._refusals <= ATTEMPTS_MAX:
            raise ExecutionEvicted


def is_unfinished(suspended: Any) -> bool:
    """Return whether a coroutine or asynchronous generator has not ended."""
    names = ("cr_frame", "ag_frame", "gi_frame")
    return any(getattr(suspended, name, None) is not None for name in names)


def _keep_for_ever(suspended: Any) -> None:
    """Never free a coroutine: to free a suspended one, Python resumes it, even when the process ends."""
    import ctypes  # imported here because few processes need it

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(suspended))
