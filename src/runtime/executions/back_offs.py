"""Back-offs of one execution, measured by a clock that is never set.

The journal has the date at which the next attempt may begin, so that a back-off goes on after a crash. But
the wall clock can be set back meanwhile, by an hour or a year, and the date is then that much later. So a
worker remembers for each back-off when it is over by the steady clock. A worker that has not seen its
beginning knows at least how long it was meant to be, and never makes it longer than that.

A step also waits while a server wants to be left alone. That is not journaled: another worker may ask it.
"""

from __future__ import annotations

from outlast.core.workflow_machine import OpenStep
from outlast.ports.clock import Clock

TOLERANCE_SECONDS = 1.0
"""A difference between the two clocks that is not taken for a step."""


class BackOffs:
    """Knows when the steps that wait for their next attempt may begin it."""

    def __init__(self) -> None:
        self._over_at: dict[str, tuple[int, float]] = {}
        """By step, the number of the next attempt, and the steady time."""
        self._held_until: dict[str, float] = {}
        """By step, the steady time until which the model that it asks is left alone."""

    def hold(self, key: str, seconds: float, clock: Clock) -> None:
        """Begin no attempt at a step for that time."""
        self._held_until[key] = clock.steady() + seconds

    def seconds_held(self, key: str, clock: Clock) -> float:
        """Return the time for which a step is held back; 0 if it is not."""
        now = clock.steady()
        return max(0.0, self._held_until.get(key, now) - now)

    def seconds_left(self, key: str, opened: OpenStep, clock: Clock) -> float:
        """Return the time until the next attempt at a step may begin; 0 if it may."""
        failed, held = opened.last_failure, self.seconds_held(key, clock)
        if failed is None:
            return held
        attempt, over_at = self._over_at.get(key, (0, 0.0))
        if attempt != opened.attempt:
            left = min(failed.retry_at - clock.now(), failed.retry_at - failed.at)
            over_at = clock.steady() + left
            self._over_at[key] = opened.attempt, over_at
        return max(held, over_at - clock.steady())

    def forget(self, key: str) -> None:
        """Forget a step that has its outcome."""
        self._over_at.pop(key, None)
        self._held_until.pop(key, None)

    def is_too_long(self, key: str, opened: OpenStep, clock: Clock) -> bool:
        """Return whether the date in the journal would make the back-off longer than it was meant to be."""
        left = opened.retry_at - clock.now()
        return left > self.seconds_left(key, opened, clock) + TOLERANCE_SECONDS
