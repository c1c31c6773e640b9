"""Portions of inputs: in one workflow task of Temporal, the code gets so many of them and no more.

Temporal hands over at once all that has come since the last task, a thousand signals as well as one, and a
workflow has a few seconds for them. So whatever does not fit into a portion waits, in its order, and
with it all that comes later. A timer of the driver, which is in the history under the name `NEXT_INPUTS`,
brings the workflow task that gets the next portion.

A portion is a number and not a time, since a replay must give the code the same inputs in the same task, on a
machine of any speed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

from outlast.core.records import Input, TimerFired

INPUTS_AT_ONCE: Final = 100
"""The most inputs that the code gets in one workflow task."""

NEXT_INPUTS: Final = "next inputs"
"""The key of the timer after which the code gets further inputs; no timer of workflow code has such a key."""


def brings_next(record: Input) -> bool:
    """Return whether it is the input after which the code gets those that wait."""
    return isinstance(record, TimerFired) and record.key == NEXT_INPUTS


class Portions:
    """The inputs of one history that wait for a later workflow task."""

    def __init__(self) -> None:
        self._room = 0
        self._waiting: deque[Input] = deque()

    def __len__(self) -> int:
        """Return how many inputs wait."""
        return len(self._waiting)

    def begin_task(self) -> None:
        """Note that a workflow task begins: there is room for a whole portion."""
        self._room = INPUTS_AT_ONCE

    def has_room_for(self, record: Input) -> bool:
        """Return whether the code gets this input now; if not, it waits."""
        if self._waiting or not self._room:
            self._waiting.append(record)
            return False
        self._room -= 1
        return True

    def next(self) -> Iterator[Input]:
        """Yield the inputs that have waited and that the code gets now."""
        while self._waiting and self._room:
            self._room -= 1
            yield self._waiting.popleft()

    def rest(self) -> Iterator[Input]:
        """Yield the inputs that still wait, for whoever goes on in a new history."""
        while self._waiting:
            yield self._waiting.popleft()
