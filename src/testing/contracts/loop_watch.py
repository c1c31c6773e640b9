"""Watching, in a test, that the event loop goes on for everybody else."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

HELD_SECONDS_MAX = 0.5
"""The time of the processor for which the event loop may be held, on a slow machine."""
LOOK_SECONDS = 0.001


@asynccontextmanager
async def loop_that_goes_on(held_seconds_max: float = HELD_SECONDS_MAX) -> AsyncIterator[None]:
    """Fail if something in the block holds the event loop for longer than that, in time of the processor.

    Raises:
        AssertionError: it did; the block itself has ended without an exception.
    """
    held = 0.0

    async def watch() -> None:
        nonlocal held
        while True:
            began = time.thread_time()
            await asyncio.sleep(LOOK_SECONDS)
            held = max(held, time.thread_time() - began)

    # A collection of all that earlier tests have left would be counted as well.
    gc.collect()
    gc.freeze()
    watching = asyncio.create_task(watch())
    await asyncio.sleep(0)
    try:
        yield
        await asyncio.sleep(10 * LOOK_SECONDS)  # The watch looks once more.
    finally:
        gc.unfreeze()
        watching.cancel()
    assert held <= held_seconds_max, f"the event loop was held for {held:.2f} s"
