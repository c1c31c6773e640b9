"""The heartbeat of one attempt: what it tells, and when.

Temporal hands the last heartbeat to the next attempt, and shows it to whoever looks at the execution. So it
tells first how many attempts did not count, and then what the attempt said of itself; of a model call, that
is the text of the reply that is being written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

from temporalio import activity

from outlast.adapters.temporal.context import SPARED_MAX
from outlast.core.json import JSON

HURRY_SECONDS = 0.05
"""The time between heartbeats of an attempt that nobody waits for; one of them hears that it is cancelled."""

TEXT_SECONDS = 0.25
"""The time between heartbeats of a reply that is being written."""

TEXT_CHARACTERS_MAX = 100_000
"""How much text of one reply heartbeats tell; whoever watches gets the rest with the reply."""


@dataclass(slots=True)
class TemporalHeartbeat:
    """What heartbeats tell of one attempt."""

    spared: int = 0
    details: tuple[JSON, ...] = ()
    _pieces: list[JSON] = field(default_factory=list)
    _waiting: list[str] = field(default_factory=list)
    _characters: int = 0
    _given_up: bool = False
    _stirred: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def after(cls, heartbeat: Sequence[Any]) -> Self:
        """Return the pulse of an attempt whose predecessor's last heartbeat told this."""
        return cls(heartbeat[0], tuple(heartbeat[1:])) if heartbeat else cls()

    def spare(self) -> bool:
        """Let this attempt not count; return False if too many did not, or nobody would know."""
        if activity.info().is_local or self.spared >= SPARED_MAX:
            return False
        self.spared += 1
        return True

    def publish(self, text: str) -> None:
        """Take the next piece of a reply's text; it is told with one of the next heartbeats."""
        self._characters += len(text)
        if self._characters <= TEXT_CHARACTERS_MAX:
            self._waiting.append(text)
            self._stirred.set()

    def give_up(self) -> None:
        """Beat fast from now on, to hear soon of being cancelled."""
        self._given_up = True
        self._stirred.set()

    def beat(self) -> None:
        """Tell Temporal what there is to tell."""
        if self._waiting:
            self._pieces.append("".join(self._waiting))
            self._waiting.clear()
            self.details = ({"attempt": activity.info().attempt, "text": list(self._pieces)},)
        if not activity.info().is_local:
            activity.heartbeat(self.spared, *self.details)

    async def go_on(self, seconds: float) -> None:
        """Beat at least every so many seconds, until cancelled."""
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
    """Return the attempt and the pieces of text that a heartbeat tells; attempt 0 if it tells none."""
    match heartbeat:
        case [_, {"attempt": int(attempt), "text": list(pieces)}]:
            return attempt, pieces
    return 0, ()
