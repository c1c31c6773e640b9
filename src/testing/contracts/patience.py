"""Waiting in a test: only for a limited time, and then with an error that names what did not come."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from reprlib import Repr

LOOK_SECONDS = 5.0
"""The longest that a look at the storage may take once a test has failed."""

_short = Repr()
_short.maxstring = _short.maxother = 60


@asynccontextmanager
async def at_most(
    seconds: float, waited_for: str, state: Callable[[], Awaitable[str]] | None = None
) -> AsyncIterator[None]:
    """Limit the real time of the block.

    Raises:
        AssertionError: the time is up. It names what the block waited for, and `state` as it is then.
    """
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        found = "" if state is None else f"\n{await _look(state)}"
        raise AssertionError(f"waited {seconds:g} s in vain for {waited_for}{found}") from error


async def _look(state: Callable[[], Awaitable[str]]) -> str:
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            return await state()
    except Exception as error:
        return f"(and looking at the storage failed: {error!r})"


def in_words(awaited: object) -> str:
    """Return the name of what is awaited, and its arguments if it has not begun yet."""
    coroutine = awaited.get_coro() if isinstance(awaited, asyncio.Task) else awaited
    if not inspect.iscoroutine(coroutine):
        return _short.repr(awaited)
    frame = coroutine.cr_frame
    if frame is None or inspect.getcoroutinestate(coroutine) != inspect.CORO_CREATED:
        return f"{coroutine.__qualname__}()"
    names = [name for name in inspect.getargs(frame.f_code).args if name != "self"]
    arguments = ", ".join(f"{name}={_short.repr(frame.f_locals[name])}" for name in names)
    return f"{coroutine.__qualname__}({arguments})"
