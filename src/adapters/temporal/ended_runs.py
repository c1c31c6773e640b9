"""The records of executions that ended in this process, for callers that wait for them here.

To read the records of an execution that has ended, a worker must run its code over the whole history again.
But a caller that waits for one mostly has the worker that ends it in the same process, which has the records
in memory. They are handed over, and kept as long as the handle that waited for the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from weakref import WeakValueDictionary

EVENTS_OF_AN_END = 2
"""The number of events that a plain end adds to a history: the task's end and the workflow's end."""


class EndedRun(NamedTuple):
    """The records that the code of an execution left when it ended."""

    run_id: str
    records: Sequence[bytes]
    before: int
    """The number of records in the execution's earlier histories."""
    length: int
    """The number of events in the history before its end."""

    def is_all_of(self, run_id: str | None, history_length: int) -> bool:
        """Return whether these are all records of an execution that has ended with such a history.

        An end that Temporal did not accept, because something else had happened meanwhile, is not the end of
        that history.
        """
        return (self.run_id, self.length + EVENTS_OF_AN_END) == (run_id, history_length) and not self.before


@dataclass(eq=False, slots=True, weakref_slot=True)
class Waiter:
    """The place for the end of an execution."""

    ended: EndedRun | None = None


class EndedRuns:
    """The waiters, by execution. Used from any thread."""

    def __init__(self) -> None:
        self._waiters: WeakValueDictionary[str, Waiter] = WeakValueDictionary()

    def waiter(self, execution_id: str) -> Waiter:
        """Return the waiter that gets the end of the execution, if that comes while the waiter is kept."""
        return self._waiters.setdefault(execution_id, Waiter())

    def end(self, execution_id: str, run: EndedRun) -> None:
        """Keep the end of an execution, if somebody waits for it."""
        if (waiter := self._waiters.get(execution_id)) is not None:
            waiter.ended = run
