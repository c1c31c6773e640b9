"""Suspects: executions whose workers keep ending, and what a worker does with them.

Code can end the process that runs it: a segmentation fault, memory that is used up, `os._exit`, a watchdog
that gives the process up. Nothing in that process can write down who did it. What remains is that each
execution which it carried is claimed again when its lease has run out, and that the store counts how often
that happened to it in a row (`Claim.fruitless`). The culprit is among those with a high count. But so is
whoever was often carried beside one, such as an execution with a long activity, so the count alone must not
decide. The executions are tested as blood samples are, first in groups, then one by one:

| fruitless | the worker |
| --- | --- |
| 0, 1 | carries it like any other: one death is normal (a deployment, a machine that fails) |
| 2 | carries at most `GROUP_MAX` of these at once |
| 3, 4 | tries it *alone*: for the time of the trial, the worker begins no other execution |
| 5 | holds it |

Where nothing is known of lost workers, an execution that is held has ended two processes in a row, each
shortly after it was the last thing that was begun there. Where it is known whose code was at work, one that
was not is never held: see `lost_workers`. An execution that does not fit into a worker at the moment is given
back at once and not begun, so that another worker may take it.

A trial begins when the worker has begun no other execution for a while, so that no fresh culprit falls into
it; executions claimed together with it are given back. It lasts until the execution makes progress, or
comes through: its code has come to rest, its steps are under way, and a while later the process is still
there. Then it is carried on among the others, with a count of 1. That time grows with the number of
attempts that were lost at one step: most culprits end their process at once, and for the others there is a
longer trial the next time. A process that ends while it waits for a trial to begin changes nothing. After a
trial, the worker works for the others for as long as the trial took. With the shares below, no execution
waits for longer than about a lease because of a trial.

Rejected: a trial in a worker that carries nothing else at all. It would have to wait until the other
activities have ended, which may take an hour, or interrupt them, which does to them what the culprit does.

Progress means that no step waits for an attempt that gets further than those which were lost (`Driver`).
Inputs that are consumed, timers that fire and steps that complete beside such a step are not enough: a
workflow that sleeps in a loop beside it would never be held.

An activity that ends its process later than the longest trial lasts comes through each time. It is bounded
by its retry policy, which counts lost attempts too. Rejected: to hold an execution after some number of
lost attempts, even if it came through its trials. In a fleet of one worker, three culprits would end every
long activity beside them fifteen times.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum
from typing import Final

SUSPICIOUS: Final = 2
"""The number of fruitless claims from which an execution is carried in a small group."""
TRIED_ALONE: Final = 3
"""The number of fruitless claims from which an execution is tried alone."""
FRUITLESS_MAX: Final = 5
"""The number of fruitless claims after which an execution is held."""
CAME_THROUGH: Final = 1
"""The count of an execution that was tried alone, and whose process is still there."""
GROUP_MAX: Final = 10
"""The most suspects that a worker carries at once. An execution no longer counts when its code has come to
rest and the process is still alive after the time of a trial."""

TRIAL_SHARES: Final = (0.1, 0.5)
"""The first and the longest duration of a trial, as shares of the lease; each attempt in a row beyond
`TRIED_ALONE` that was lost at one step doubles it."""
SETTLING_SHARES: Final = (0.1, 0.5)
"""The time without new executions that must pass before the first, and the second, trial begins."""
BACK_SHARES: Final = (0.5, 1.5)
"""The bounds of the random time after which a returned suspect is claimable, as shares of the lease."""


class Placing(Enum):
    """The choices that a worker has for an execution that it has claimed."""

    CARRIED = "carried like any other"
    TRIED = "tried alone"
    GIVEN_BACK = "given back, not begun"
    HELD = "held"


@dataclass(slots=True)
class Suspects:
    """The suspects of one worker, and the place of each claim. Times are those of the worker's clock."""

    lease_seconds: float
    group: set[str]
    """Suspects that are carried at the moment."""
    on_trial: str | None = None
    """The execution that is tried, or waits for its trial to begin; nothing else is claimed meanwhile."""
    _taken_at: float = 0.0
    _begun_at: float = float("-inf")
    _next_trial_at: float = float("-inf")

    @classmethod
    def of(cls, lease_seconds: float) -> Suspects:
        """Return the suspects of a worker that has just begun: none so far."""
        return cls(lease_seconds, set())

    def place(self, execution_id: str, fruitless: int, now: float) -> Placing:
        """Decide about a claim, and remember it until it is `acquitted`."""
        if fruitless >= FRUITLESS_MAX:
            return Placing.HELD
        if self.on_trial is not None:
            return Placing.GIVEN_BACK
        if fruitless >= TRIED_ALONE:
            if now < self._next_trial_at:
                return Placing.GIVEN_BACK
            self.on_trial, self._taken_at = execution_id, now
            return Placing.TRIED
        if fruitless >= SUSPICIOUS:
            if len(self.group) >= GROUP_MAX:
                return Placing.GIVEN_BACK
            self.group.add(execution_id)
        self._begun_at = now
        return Placing.CARRIED

    def suspects(self, execution_id: str) -> bool:
        """Return whether an execution that is carried is a suspect."""
        return execution_id in self.group or execution_id == self.on_trial

    def settling_seconds(self, fruitless: int, now: float) -> float:
        """Return the time until the trial of an execution with that count may begin."""
        share = SETTLING_SHARES[min(fruitless - TRIED_ALONE, len(SETTLING_SHARES) - 1)]
        return max(0.0, self._begun_at + share * self.lease_seconds - now)

    def back_seconds(self, fruitless: int) -> float:
        """Return the seconds until an execution that was given back is claimable; at random if long."""
        return random.uniform(*BACK_SHARES) * self.lease_seconds if fruitless >= SUSPICIOUS else 0.0

    def trial_begins(self, now: float) -> None:
        """Note that the execution on trial is begun: the next trial must wait for some time after it."""
        self._begun_at = now

    def trial_seconds(self, losses: int) -> float:
        """Return the time for which an execution at rest is watched, by its lost attempts in a row."""
        first, longest = TRIAL_SHARES
        return min(first * 2.0 ** max(0, losses - TRIED_ALONE), longest) * self.lease_seconds

    def acquitted(self, execution_id: str, now: float) -> bool:
        """Remove an execution from the suspects: it made progress, came through, or is no longer carried.

        Returns whether there is room for another suspect now.
        """
        if execution_id in self.group:
            self.group.discard(execution_id)
            return True
        if self.on_trial == execution_id:
            self.on_trial, self._next_trial_at = None, now + (now - self._taken_at)
            return True
        return False
