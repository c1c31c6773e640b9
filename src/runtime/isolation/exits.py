"""Turning every exception of user code into a failure of that code alone.

A worker runs the code of many executions in one process. `sys.exit()`, which argparse, click and many `main`
functions call, raises `SystemExit`. asyncio lets that and `KeyboardInterrupt` through every task and out of
the loop, and so one tool call would end the worker with all its executions. Other classes that are not
`Exception`s pass each `except Exception` and end a task that somebody waits for.

`contained()` therefore stands around each entry into user code. The code inside may raise anything; only
`Exception`s and the following, which are not the code's own, come out:

- exceptions that unwind the code: a cancellation that somebody asked for, those of a backend (`unwinds`), and
  that of the watchdog;
- exceptions of a signal handler of the process, raised inside the code: Ctrl-C still ends the process.

Where asyncio itself runs user code, in the tasks and callbacks of a workflow, the loop does the same.
"""

from __future__ import annotations

import asyncio
import dis
import functools
import signal
import threading
from collections.abc import Callable, Iterator
from types import CodeType, TracebackType
from typing import Any

from outlast.core.errors import CodeInterrupted, ForeignError
from outlast.core.failure import Failure, leaves_of

Unwinds = Callable[[BaseException], bool]
"""Returns whether a backend ends code by an exception; see `StepContext.unwinds`."""

_RAISE = dis.opmap["RAISE_VARARGS"]


def only_cancellation(error: BaseException) -> bool:
    """Return whether asyncio or a closed generator unwinds the code, as it does outside of workflows."""
    return isinstance(error, (asyncio.CancelledError, GeneratorExit))


class contained:
    """A context in which user code runs; its exceptions come out as `Exception`s.

    An exception of another class is replaced by a `ForeignError` with its class name, its message, and itself
    as the cause.
    """

    __slots__ = ("_unwinds",)

    def __init__(self, unwinds: Unwinds = only_cancellation) -> None:
        self._unwinds = unwinds

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, (Exception, CodeInterrupted)):
            return
        if isinstance(error, asyncio.CancelledError):
            if _is_cancelled():
                return
            # If it were passed on, it would silently end a task that somebody waits for.
            raise ForeignError("CancelledError", "the code let a CancelledError of its own escape") from error
        if not any(self._unwinds(leaf) or raised_by_signal(leaf) for leaf in leaves_of(error)):
            replaced = Failure.of(error)
            raise ForeignError(replaced.kind, replaced.message) from error


def raised_by_signal(error: BaseException) -> bool:
    """Return whether a signal handler of this process raised `error`, and not the code itself.

    The handler of the watchdog does not count: what it raises concerns the code alone.
    """
    trace = error.__traceback__
    if (
        trace is None
        or isinstance(error, CodeInterrupted)
        or threading.current_thread() is not threading.main_thread()
    ):
        return False
    handlers = set(_handlers())
    last = trace
    while trace is not None:
        if trace.tb_frame.f_code in handlers:
            return True
        last, trace = trace, trace.tb_next
    # Python's own handler of SIGINT leaves no frame: it raises between two instructions of the running code.
    return (
        isinstance(error, KeyboardInterrupt)
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        and last.tb_frame.f_code.co_code[last.tb_lasti] != _RAISE
    )


def _is_cancelled() -> bool:
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop runs
        return False
    return task is not None and task.cancelling() > 0


def _handlers() -> Iterator[CodeType]:
    """Yield the code of the functions that this process has made handlers of signals."""
    for number in signal.valid_signals():
        handler: Any = signal.getsignal(number)
        while isinstance(handler, functools.partial):
            handler = handler.func
        handler = getattr(handler, "__func__", handler)
        code = getattr(handler, "__code__", None)
        if code is None and handler is not None and not isinstance(handler, int):
            code = getattr(type(handler).__call__, "__code__", None)
        if isinstance(code, CodeType):
            yield code
