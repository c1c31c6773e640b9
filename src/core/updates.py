"""Updates, as their callers follow them: what a journal says of one of them.

An update is accepted once and answered once, and both stand in the journal under its id. A rejection is kept
as a note, so that the caller hears of it; the id is then free to be tried again, as it is on Temporal, where
a rejection leaves nothing at all. Each try is a message of its own: the id of the message holds the number of
rejections that its sender knew of, so that the same try, sent by any number of processes, arrives once.
"""

from __future__ import annotations

from outlast.core.errors import (
    ExecutionClosed,
    UpdateAbandoned,
    UpdateFailed,
    UpdateRejected,
)
from outlast.core.failure import Failure
from outlast.core.json import JSON
from outlast.core.records import AnyRecord, ExecutionEnded, UpdateAccepted, UpdateCompleted, UpdateRefused

GAVE_UP = Failure(kind="CancelledError", message="the handler let a CancelledError of its own escape")
"""How a handler has failed that was cancelled; nobody else does that, so it was its own doing."""


class UpdateTrace:
    """What the records of an execution, read in order, say of the update with one id."""

    def __init__(self, update_id: str) -> None:
        self._id = update_id
        self._accepted: UpdateAccepted | None = None
        self._completed: UpdateCompleted | None = None
        self._rejections: list[Failure] = []
        self._heard: int | None = None
        self._end: ExecutionEnded | None = None

    @property
    def is_over(self) -> bool:
        """Whether `answer` has something to say: the answer, a rejection since the last try, or that there
        will be none since the execution has ended."""
        return self._completed is not None or self._end is not None or self._is_rejected

    @property
    def _is_rejected(self) -> bool:
        return self._heard is not None and len(self._rejections) > self._heard

    @property
    def was_accepted(self) -> bool:
        """Whether the handler has begun, so that there is nothing to send."""
        return self._accepted is not None

    def read(self, record: AnyRecord) -> None:
        """Take the next record."""
        match record:
            case UpdateAccepted(update_id=self._id):
                self._accepted = record
            case UpdateCompleted(update_id=self._id):
                self._completed = record
            case UpdateRefused(update_id=self._id, failure=failure):
                self._rejections.append(failure)
            case ExecutionEnded():
                self._end = record
            case _:
                pass

    def try_again(self) -> str:
        """Leave the rejections so far behind; return the id of the message that is the next try."""
        self._heard = len(self._rejections)
        return f"update:{self._id}:{self._heard}"

    def answer(self, execution_id: str, name: str) -> JSON:
        """Return the handler's result, once the trace `is_over`.

        Raises:
            UpdateFailed: the handler failed.
            UpdateRejected: it was not accepted.
            UpdateAbandoned: the execution ended before its handler did.
            ExecutionClosed: the execution ended before it was looked at.
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
        raise ExecutionClosed(execution_id, self._end.status)
