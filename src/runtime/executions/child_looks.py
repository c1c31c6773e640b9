"""When to look whether the children of an execution have ended.

Whoever ends a child sends its parent a message, a hint to look. A process can be lost between the two, so the
parent looks also without a hint: seldom, and less often the longer its children take.
"""

from __future__ import annotations

from collections.abc import Collection

from outlast.ports.clock import Clock

FIRST_SECONDS = 5.0
LAST_SECONDS = 300.0


class Looks:
    """The children of one execution that are to be looked at."""

    def __init__(self) -> None:
        self._hinted: set[str] = set()
        self._wait_seconds = FIRST_SECONDS
        self._next_at: float | None = None
        """The steady time of the next look at all children; None if it is to be at once."""

    def hint(self, child: str) -> None:
        """Look at this child next: it seems to have ended."""
        self._hinted.add(child)

    def seconds_left(self, clock: Clock) -> float:
        """Return the time until the next look is due; 0 if it is."""
        if self._hinted or self._next_at is None:
            return 0.0
        return max(0.0, self._next_at - clock.steady())

    def take(self, children: Collection[str], clock: Clock, *, more_start: bool) -> list[str]:
        """Return those of these children that are to be looked at now.

        If more of them start at this moment, one may have ended before its parent knows that it has started.
        """
        hinted = self._hinted.intersection(children)
        self._hinted = self._hinted - hinted if more_start else set()
        if self._next_at is not None and clock.steady() < self._next_at:
            return [child for child in children if child in hinted]
        self._next_at = clock.steady() + self._wait_seconds
        self._wait_seconds = min(self._wait_seconds * 2, LAST_SECONDS)
        return list(children)

    def found(self) -> None:
        """Note that a child has ended: look more often again."""
        self._wait_seconds = FIRST_SECONDS
