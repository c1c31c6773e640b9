"""Listening to the text that models are writing, for the readers of an event stream."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence

from outlast.core.errors import StorageError
from outlast.core.event_stream import Delta
from outlast.ports.deltas import Deltas

logger = logging.getLogger("outlast.events")


class Listener:
    """The position of one reader in the text of one execution. Without `deltas` it never reads any text.

    Text that cannot be read is left out, and a line is logged: the reader goes on without it. Text is read
    again when the place that holds it is available again, unless that can never happen.
    """

    def __init__(self, deltas: Deltas | None, execution_id: str) -> None:
        self._deltas = deltas
        self._execution_id = execution_id
        self.place = ""
        """The place behind the last text that was read; only the port of deltas reads it."""
        self._has_complained = False

    async def read(self) -> Sequence[Delta]:
        """Return the text that was published since the last call."""
        if self._deltas is None:
            return ()
        try:
            deltas, self.place = await self._deltas.read(self._execution_id, self.place)
        except StorageError as error:
            self._complain(error)
            return ()
        return deltas

    async def until_more(self, other: Awaitable[None], timeout_seconds: float) -> None:
        """Return when there is more text, or `other` returns or raises; `other` ends with this call."""
        waiting = asyncio.ensure_future(other)
        following = asyncio.create_task(self._follow(timeout_seconds))
        try:
            await asyncio.wait({waiting, following}, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                waiting.result()
        finally:
            for task in (waiting, following):
                task.cancel()
            await asyncio.gather(waiting, following, return_exceptions=True)

    async def _follow(self, timeout_seconds: float) -> None:
        if self._deltas is not None:
            try:
                await self._deltas.follow(self._execution_id, self.place, timeout_seconds)
                return
            except StorageError as error:
                self._complain(error)
        await asyncio.Event().wait()  # The caller that waits beside this decides when to read again.

    def _complain(self, error: StorageError) -> None:
        if not self._has_complained:
            logger.warning("execution %s: its text cannot be read: %s", self._execution_id, error)
            self._has_complained = True
        if not error.retryable:
            self._deltas = None
