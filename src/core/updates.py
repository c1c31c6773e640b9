"""Updates, as their callers follow them through the journal.

An update is accepted once and answered once, and the journal holds both under its id. A rejection is kept as
a note, so that the caller learns of it; the id can then be used again, as on Temporal, where a rejection
leaves nothing at all. Each try is a message of its own: the id of the message holds the number of rejections
that its sender knew of, so that the same try, sent by any number of processes, arrives once. It also holds
how often the execution was opened again after its end: an update that came too late is dropped then, so
it must be sent anew.

Where a retry makes an answer void, the handler runs again, and its second answer may be another one. Callers
have the first one, and it stays the answer.
"""

from __future__ import annotations

from outlast.core.errors import (
    ExecutionAlreadyEnded,
    UpdateAbandoned,
    UpdateFailed,
    UpdateRejected,
)
from outlast.core.failure import Failure
from outlast.core.json import JSON
from outlast.core.records import (
    AnyRecord,
    ExecutionEnded,
    ExecutionReopened,
    UpdateAccepted,
    UpdateCompleted,
    UpdateNotAccepted,
)

GAVE_UP = Failure(kind="CancelledError", message="the handler let a CancelledError of its own escape")
"""The failure of a handler that ended cancelled; nobody else cancels handlers, so it did so itself."""


class UpdateTrace:
    """The state of the update with one id, from the records of an execution, read in order."""

    def __init__(self, update_id: str) -> None:
        self._id = update_id
        self._accepted: UpdateAccepted | None = None
        self._completed: UpdateCompleted | None = None
        self._rejections: list[Failure] = []
        self._seen: int | None = None
        self._reopened = 0
        self._end: ExecutionEnded | None = None

    @property
    def is_over(self) -> bool:
        """True once `answer` can return or raise: the update was answered, or rejected since the last try, or
        the execution has ended."""
        return self._completed is not None or self._end is not None or self._is_rejected

    @property
    def _is_rejected(self) -> bool:
        return self._seen is not None and len(self._rejections) > self._seen

    @property
    def was_accepted(self) -> bool:
        """True if the handler has begun, so that nothing must be sent."""
        return self._accepted is not None

    def read(self, record: AnyRecord) -> None:
        """Take the next record."""
        match record:
            case UpdateAccepted(update_id=self._id):
                self._accepted = record
            case UpdateCompleted(update_id=self._id):
                self._completed = self._completed or record
            case UpdateNotAccepted(update_id=self._id, failure=failure):
                self._rejections.append(failure)
            case ExecutionEnded():
                self._end = record
            case ExecutionReopened():
                self._end = None
                self._reopened += 1
            case _:
                pass

    def try_again(self) -> str:
        """Ignore the rejections so far; return the id of the message for the next try."""
        self._seen = len(self._rejections)
        again = f"+{self._reopened}" if self._reopened else ""
        return f"update:{self._id}:{self._seen}{again}"

    def answer(self, execution_id: str, name: str) -> JSON:
        """Return the handler's result, once the trace `is_over`.

        Raises:
            UpdateFailed: the handler failed.
            UpdateRejected: the update was rejected.
            UpdateAbandoned: the execution ended before its handler did.
            ExecutionAlreadyEnded: the execution ended before it accepted or rejected the update.
        """
        if self._completed is not None:
            if (failure := self._completed.failure) is None:
                return self._completed.result
            raise UpdateFailed(execution_id, name, failure.kind, failure.message) from failure.error()
        if self._is_rejected:
            failure = self._rejections[-1]
            raise UpdateRejected(execution_id, name, failure.kind, failure.message) from failure.error()
        assert self._end is not None
        if self.was_accepted:
            raise UpdateAbandoned(execution_id, self._end.status, name)
        raise ExecutionAlreadyEnded(execution_id, self._end.status)
