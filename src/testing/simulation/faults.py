"""The fault model: everything that may go wrong in a simulation, and nothing else does."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class FaultKind(StrEnum):
    """A sort of fault; where it strikes is a number of calls, see `SimulatedFault`."""

    CRASH = "crash"
    """The worker's process ends, with all that it has in memory. `seconds` later another one begins."""
    PAUSE = "pause"
    """The worker's process stands still for `seconds`, as by SIGSTOP: it gets no answer, and no timer of it
    goes off. The store goes on; its leases run out."""
    CUT = "cut"
    """The connection breaks during the call: the worker gets an error, and does not know whether the call
    was carried out. With `after` it was; else it was not."""
    SLOW = "slow"
    """The call takes `seconds`: with `after` its answer is late, else the call itself is."""
    CLOCK_STEP = "clock step"
    """The wall clock of the machine jumps by `seconds`, forward or back. The steady clock does not."""
    LOST_WAKE_UP = "lost wake-up"
    """An announcement gets lost: a wait for work or for records ends by its timeout."""
    DUPLICATE = "duplicate"
    """A message to an execution is delivered twice."""


COSTLY: Final = frozenset({FaultKind.CRASH, FaultKind.PAUSE, FaultKind.SLOW})
"""The kinds that may cost a step an attempt."""


@dataclass(frozen=True, slots=True)
class SimulatedFault:
    """One fault, at one call of the store.

    Calls are counted from 0, over all hosts: for a lost wake-up the waits (`wait` and `follow`), for a
    duplicate the messages (`send`), for all others the other calls of workers.
    """

    kind: FaultKind
    call: int
    after: bool = False
    """True if it strikes when the store has carried the call out, and its caller does not know yet."""
    seconds: float = 0.0

    def __str__(self) -> str:
        place = "after" if self.after else "before"
        return f"{self.kind} {place} call {self.call}, {self.seconds:g} s"
