"""Calls of a store that fails for a short time: waiting for it, and appending exactly once."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from outlast.core.errors import LeaseLost, StorageError
from outlast.ports.clock import Clock
from outlast.ports.journal import Claim, Commit, Store

T = TypeVar("T")

logger = logging.getLogger("outlast.worker")

FIRST_DELAY_SECONDS = 0.05
LAST_DELAY_SECONDS = 5.0


async def patiently(call: Callable[[], Awaitable[T]], clock: Clock, *, doing: str) -> T:
    """Return what `call()` returns; if the store fails for a short time, try again for about ten seconds.

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


async def append_once(
    store: Store, clock: Clock, claim: Claim, position: int, records: Sequence[bytes], commit: Commit
) -> None:
    """Append as `Journal.append` does; if the store fails for a short time, try again.

    Raises:
        LeaseLost: another worker owns the execution; nothing was written.
        StorageError: trying again does not help, or has not helped for long enough.
    """
    in_question = False

    async def write() -> None:
        nonlocal in_question
        try:
            await store.append(claim, position, records, commit)
        except LeaseLost:
            # An append that raised may have been written nevertheless; then this one is refused.
            if not in_question or not await is_written():
                raise
        except StorageError:
            in_question = True
            raise

    async def is_written() -> bool:
        # Another owner's first record would be a recovery. Without records, only our own release refuses it,
        # and our own end.
        written = await store.read(claim.execution_id, position, max(1, len(records)))
        return list(written[: len(records)]) == list(records) and (
            bool(records) or commit.release or commit.status is not None
        )

    await patiently(write, clock, doing=f"execution {claim.execution_id}")
