"""When an event loop has nothing to do: seen in its selector, on any loop of asyncio.

A loop blocks in its selector exactly when no callback is ready. `when_idle` stands before that block for as
long as its own block lasts, whoever made the loop: `asyncio.run`, anyio's or pytest-asyncio's plugin,
unittest. The selector of a loop is not public; `asyncio` has kept its name and its only method that matters
here since it is in the standard library. A loop of another make (uvloop) has none, and is refused with an
error that says so.

Calls in threads keep a loop busy, though no callback is ready: their ends come from outside.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from outlast.core.errors import ConfigurationError
from outlast.runtime.attempts import threads

Decide = Callable[[bool, float], float | None]
"""Called when a loop is idle, with two facts: whether a real timer or a socket may wake it, and for how many
seconds it has been silent since. It returns 0 if it has made something ready, None if the loop may sleep,
else the seconds of silence after which it wants to be asked again: more than there were."""


@contextmanager
def when_idle(decide: Decide) -> Iterator[None]:
    """Ask `decide` whenever the running loop is idle, for the time of the block.

    Raises:
        ConfigurationError: the loop does not show when it is idle.
    """
    loop: Any = asyncio.get_running_loop()
    selector: Any = getattr(loop, "_selector", None)
    if not hasattr(selector, "get_map"):
        raise ConfigurationError(
            f"a virtual clock needs an event loop of asyncio that has a selector, not {type(loop).__name__}; "
            "run this test on asyncio.SelectorEventLoop"
        )
    # A second block on one loop stands before the first, and leaves it in place.
    wait, run_in_executor = selector.select, loop.run_in_executor
    files, calls = len(selector.get_map()), 0

    def returned(_: object) -> None:
        nonlocal calls
        calls -= 1

    def counted(*arguments: Any) -> Any:
        nonlocal calls
        call = run_in_executor(*arguments)
        calls += 1
        call.add_done_callback(returned)
        return call

    def select(timeout: float | None = None) -> Any:
        events = wait(0)
        if events or (timeout is not None and timeout <= 0):
            return events
        if calls or threads.are_awaited(loop):
            return wait(timeout)
        is_waited_for = timeout is not None or len(selector.get_map()) > files
        silent = 0.0
        while True:
            seconds = decide(is_waited_for, silent)
            if seconds == 0:
                return []
            if seconds is None or (timeout is not None and timeout <= seconds - silent):
                return wait(timeout)
            if events := wait(seconds - silent):
                return events
            if timeout is not None:
                timeout -= seconds - silent
            silent = seconds

    selector.select, loop.run_in_executor = select, counted
    try:
        yield
    finally:
        selector.select, loop.run_in_executor = wait, run_in_executor
