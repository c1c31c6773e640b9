"""Waiting for a store that is in passing trouble."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from outlast.core.errors import StorageError
from outlast.ports.clock import Clock

T = TypeVar("T")

logger = logging.getLogger("outlast.worker")

FIRST_DELAY_SECONDS = 0.05
LAST_DELAY_SECONDS = 5.0


async def patiently(call: Callable[[], Awaitable[T]], clock: Clock, *, doing: str) -> T:
    """Return what `call()` returns, trying again for about ten seconds while the store is in passing trouble.

    Raises:
        StorageError: trying again does not help, or has not helped for so long.
    """
    delay = FIRST_DELAY_SECONDS
    while True:
        try:
            return await call()
        except StorageError as error:
            if not error.retryable or delay > LAST_DELAY_SECONDS:
                raise
            logger.warning("%s: %s; trying again", doing, error)
        await clock.sleep(delay)
        delay *= 2
