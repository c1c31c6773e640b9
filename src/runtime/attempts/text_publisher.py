"""Publishing the text of a reply while the model is writing it."""

from __future__ import annotations

import asyncio
import logging
from types import TracebackType

from outlast.core.errors import StorageError
from outlast.core.event_stream import Delta
from outlast.ports.clock import Clock
from outlast.ports.deltas import Deltas

logger = logging.getLogger("outlast.worker")

LAST_SECONDS = 1.0
"""The time for which a complete reply waits until the last of its text is published."""


class Publisher:
    """Publishes the text of one attempt, in its order.

    One piece is under way at a time; text that comes meanwhile becomes the next piece. So a slow store gets
    few long pieces, and nobody ever waits for it. If a piece cannot be published, the rest is left out.
    """

    def __init__(self, deltas: Deltas, clock: Clock, execution_id: str, key: str, attempt: int) -> None:
        self._deltas = deltas
        self._clock = clock
        self._execution_id = execution_id
        self._key = key
        self._attempt = attempt
        self._sequence = 0
        self._waiting: list[str] = []
        self._publishing: asyncio.Task[None] | None = None
        self._is_broken = False

    def publish(self, text: str) -> None:
        """Publish the next piece of text, some time soon."""
        if not text or self._is_broken:
            return
        self._waiting.append(text)
        if self._publishing is None or self._publishing.done():
            self._publishing = asyncio.create_task(self._publish())

    async def _publish(self) -> None:
        while self._waiting:
            text = "".join(self._waiting)
            self._waiting.clear()
            self._sequence += 1
            delta = Delta(self._key, self._attempt, self._sequence, text, self._clock.now())
            try:
                await self._deltas.publish(self._execution_id, delta)
            except StorageError as error:
                self._is_broken = True
                logger.warning("execution %s: its text could not be published: %s", self._execution_id, error)
                return

    async def __aenter__(self) -> Publisher:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Wait until the last piece is published; the text of a failed attempt is dropped."""
        if self._publishing is None:
            return
        try:
            if error is None:
                await asyncio.wait([self._publishing], timeout=LAST_SECONDS)
        except asyncio.CancelledError:
            # The reply is complete and must be kept: a cancellation now only ends the waiting.
            pass
        self._publishing.cancel()
