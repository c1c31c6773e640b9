"""Allowances that grow with time, for messages and text of a server that nobody asked for."""

from __future__ import annotations

import time


class Allowance:
    """An allowance of `at_once`, of which what was spent comes back at `per_second`."""

    def __init__(self, per_second: float, at_once: float) -> None:
        self._per_second = per_second
        self._at_once = at_once
        self._left = at_once
        self._at = time.monotonic()

    def left(self) -> float:
        """Return what may be spent now; it is negative if too much was spent."""
        now = time.monotonic()
        self._left = min(self._at_once, self._left + (now - self._at) * self._per_second)
        self._at = now
        return self._left

    def spend(self, amount: float) -> float:
        """Spend `amount`, also if it is not there; return the seconds until the allowance is not negative."""
        self._left = self.left() - amount
        return max(0.0, -self._left / self._per_second)
