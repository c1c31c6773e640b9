"""The heartbeats of one attempt: their content and their times.

Temporal hands the last heartbeat to the next attempt, and shows it in the description of the execution. So it
holds first the number of attempts that did not count, and then the details of the attempt; for a model call,
these are the text of the reply that is being written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

from temporalio import activity

from outlast.adapters.temporal.requests import SPARED_MAX
from outlast.core.json import JSON

HURRY_SECONDS = 0.05
"""The time between heartbeats of an attempt that nobody waits for; Temporal's answer to one cancels it."""

TEXT_SECONDS = 0.25
"""The time between heartbeats of a reply that is being written."""

TEXT_CHARACTERS_MAX = 100_000
"""The most text of one reply that heartbeats carry; a reader gets the rest with the reply."""


@dataclass(slots=True)
class TemporalHeartbeat:
    """The content of the heartbeats of one attempt."""

    spared: int = 0
    details: tuple[JSON, ...] = ()
    _pieces: list[JSON] = field(default_factory=list)
    _waiting: list[str] = field(default_factory=list)
    _characters: int = 0
    _given_up: bool = False
    _stirred: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def after(cls, heartbeat: Sequence[Any]) -> Self:
        """Return the heartbeats of an attempt, after the last heartbeat of the attempt before it."""
        return cls(heartbeat[0], tuple(heartbeat[1:])) if heartbeat else cls()

    def spare(self) -> bool:
        """Leave this attempt uncounted; return False if too many were, or if heartbeats cannot say so."""
        if activity.info().is_local or self.spared >= SPARED_MAX:
            return False
        self.spared += 1
        return True

    def publish(self, text: str) -> None:
        """Take the next piece of a reply's text; one of the next heartbeats carries it."""
        self._characters += len(text)
        if self._characters <= TEXT_CHARACTERS_MAX:
            self._waiting.append(text)
            self._stirred.set()

    def give_up(self) -> None:
        """Beat fast from now on, so that a cancellation comes soon."""
        self._given_up = True
        self._stirred.set()

    def beat(self) -> None:
        """Send a heartbeat with all that came since the last one."""
        if self._waiting:
            self._pieces.append("".join(self._waiting))
            self._waiting.clear()
            self.details = ({"attempt": activity.info().attempt, "text": list(self._pieces)},)
        if not activity.info().is_local:
            activity.heartbeat(self.spared, *self.details)

    async def go_on(self, seconds: float) -> None:
        """Beat at least once in `seconds`, until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._stirred.wait()
            if self._stirred.is_set():
                await asyncio.sleep(HURRY_SECONDS if self._given_up else TEXT_SECONDS)
            self.beat()
            if not (self._given_up or self._waiting):
                self._stirred.clear()


def text_published(heartbeat: Sequence[Any]) -> tuple[int, Sequence[str]]:
    """Return the attempt and the pieces of text in a heartbeat; attempt 0 if it holds no text."""
    match heartbeat:
        case [_, {"attempt": int(attempt), "text": list(pieces)}]:
            return attempt, pieces
    return 0, ()
