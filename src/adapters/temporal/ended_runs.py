"""The records of executions that ended in this process, for whoever waits for them here.

To read the records of an execution that has ended, a worker must run its code over the whole history again.
But whoever waits for one mostly has the worker that ends it in the same process, and there the records lie at
hand. They are handed over, and kept as long as the handle by which the end was waited for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from weakref import WeakValueDictionary

EVENTS_OF_AN_END = 2
"""How many events a plain end adds to a history: the workflow task is completed, and then the workflow."""


class EndedRun(NamedTuple):
    """What the code of an execution has left when it ended."""

    run_id: str
    records: Sequence[bytes]
    before: int
    """How many records the execution's earlier histories hold."""
    length: int
    """How many events the history had before its end."""

    def is_all_of(self, run_id: str | None, history_length: int) -> bool:
        """Return whether these are the records of an execution that has ended with such a history.

        An end that Temporal did not accept, because something else had happened meanwhile, is not the end of
        that history.
        """
        return (self.run_id, self.length + EVENTS_OF_AN_END) == (run_id, history_length) and not self.before


@dataclass(eq=False, slots=True, weakref_slot=True)
class Waiter:
    """Where the end of an execution is put."""

    ended: EndedRun | None = None


class EndedRuns:
    """Those who wait, by execution. Used from any thread."""

    def __init__(self) -> None:
        self._waiters: WeakValueDictionary[str, Waiter] = WeakValueDictionary()

    def waiter(self, execution_id: str) -> Waiter:
        """Return where the end of the execution is put, if it comes while the waiter is kept."""
        return self._waiters.setdefault(execution_id, Waiter())

    def end(self, execution_id: str, run: EndedRun) -> None:
        """Put down how an execution has ended, if somebody waits for that."""
        if (waiter := self._waiters.get(execution_id)) is not None:
            waiter.ended = run
