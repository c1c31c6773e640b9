"""Repairs of Temporal's event loop: the same order in every replay, and `sys.exit` stays inside.

asyncio keeps tasks in sets: `TaskGroup` those that it cancels when one fails, `wait` those that it returns.
The order in a set depends on hashes, and a task's hash is its address. Temporal's loop does not change that,
so a workflow that cancels an activity and a timer together would sometimes depart from its own history.

If a workflow task brings signals or updates together with results, the SDK looks at conditions between them.
But whether they come together is not the same in every replay: to a worker that takes an execution over,
Temporal joins an update with the results of the workflow task before it, if that asked for nothing; once the
update is in the history, every replay gets it in a task of its own, after those results. So our driver must
see all that one task brings before it says what comes first.

`SystemExit` and `KeyboardInterrupt` pass through tasks and out of the loop, and Temporal's worker ends with
them. The task has kept the exception by then, so nothing is lost if the loop goes on.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
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


def repair_loop() -> None:
    """Number the tasks and futures that a workflow makes, and keep its callbacks from ending the loop."""
    loop: Any = asyncio.get_running_loop()
    numbers = count(1)

    def create_task(
        coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[Any]:
        task = _Task(coro, next(numbers), loop, context)
        loop._register_task(task, name=name)  # as in Temporal's own `create_task`, but with another class
        return task

    def create_future() -> asyncio.Future[Any]:
        return _Future(next(numbers), loop)

    run_soon = loop.call_soon

    def contained(callback: Callable[..., object], *args: Any) -> None:
        try:
            callback(*args)
        except (SystemExit, KeyboardInterrupt) as error:
            # Signal handlers of the process run in the main thread, workflows in others.
            if threading.current_thread() is threading.main_thread():
                raise
            if not isinstance(getattr(callback, "__self__", None), asyncio.Task):
                loop.call_exception_handler({"message": f"exception in {callback!r}", "exception": error})

    def call_soon(
        callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle: asyncio.Handle = run_soon(contained, callback, *args, context=context)
        return handle

    loop.call_soon = call_soon
    loop.create_task = create_task
    loop.create_future = create_future


def wait_for_all_that_arrives(instance: Any) -> Callable[[Any], None]:
    """Let a workflow's conditions be looked at only when all that a workflow task brings has arrived.

    Returns:
        What to call with each activation before it is handed to the instance.
    """
    run_once = instance._run_once
    is_more_to_come = False

    def begin(activation: Any) -> None:
        nonlocal is_more_to_come
        kinds = {job.WhichOneof("variant") for job in activation.jobs}
        is_more_to_come = bool(kinds & _MESSAGES and kinds - _MESSAGES - _BESIDE)

    def run(*, check_conditions: bool, jobs: Any) -> None:
        nonlocal is_more_to_come
        is_last = not is_more_to_come or instance._single_batch_activation
        if check_conditions:
            is_more_to_come = False
        run_once(check_conditions=check_conditions and is_last, jobs=jobs)

    instance._run_once = run
    return begin


_MESSAGES = frozenset({"signal_workflow", "do_update"})
"""The jobs of an activation that the SDK applies first."""
_BESIDE = frozenset({"notify_has_patch", "query_workflow"})
"""Those that it applies before, or alone."""
