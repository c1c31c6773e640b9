"""The outcome of one update in a journal: the caller's side of D18."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from outlast.core.errors import (
    ExecutionAlreadyEnded,
    ForeignError,
    UpdateAbandoned,
    UpdateFailed,
    UpdateRejected,
)
from outlast.core.failure import Failure
from outlast.core.records import (
    AnyRecord,
    ExecutionEnded,
    Status,
    UpdateAccepted,
    UpdateCompleted,
    UpdateNotAccepted,
)
from outlast.core.updates import UpdateTrace
from tests.core.programs import Recording, executions

FAILURE = Failure(kind="ValueError", message="no")
ACCEPTED = UpdateAccepted(at=1.0, update_id="a", name="set")
REJECTED = UpdateNotAccepted(at=1.0, update_id="a", failure=FAILURE)
ANSWERED = UpdateCompleted(update_id="a", result=[1])
FAILED = UpdateCompleted(update_id="a", failure=FAILURE)
ENDED = ExecutionEnded(status=Status.CANCELLED)


def trace_of(*records: AnyRecord, update_id: str = "a", sent: bool = True) -> UpdateTrace:
    """Return the trace of an update that was sent before all records."""
    trace = UpdateTrace(update_id)
    if sent:
        trace.try_again()
    for record in records:
        trace.read(record)
    return trace


def outcome(trace: UpdateTrace) -> object:
    """Return the answer, or the class of the error."""
    try:
        return trace.answer("e-1", "set")
    except (UpdateFailed, UpdateRejected, ExecutionAlreadyEnded) as error:
        raised = error
    assert raised.execution_id == "e-1"
    assert getattr(raised, "update", "set") == "set"
    return type(raised)


@given(executions(), st.sampled_from(["a", "b", "c"]))
def test_an_update_has_the_answer_that_the_journal_holds(recording: Recording, update_id: str) -> None:
    trace = trace_of(*recording.journal, update_id=update_id)
    of_it = [one for one in recording.journal if getattr(one, "update_id", None) == update_id]
    event(" ".join(sorted({one.type for one in of_it})))
    ended = isinstance(recording.journal[-1], ExecutionEnded)
    assert trace.was_accepted == any(isinstance(one, UpdateAccepted) for one in of_it)
    if (answers := [one for one in of_it if isinstance(one, UpdateCompleted)]) != []:
        assert outcome(trace) == (UpdateFailed if answers[0].failure else answers[0].result)
    elif any(isinstance(one, UpdateNotAccepted) for one in of_it):
        assert outcome(trace) is UpdateRejected
    elif ended:
        assert outcome(trace) is (UpdateAbandoned if of_it else ExecutionAlreadyEnded)
    else:
        assert not trace.is_over


@given(executions(), st.sampled_from(["a", "b", "c"]))
def test_every_try_is_a_message_of_its_own_for_every_sender(recording: Recording, update_id: str) -> None:
    """Two callers who know of the same rejections send the same message, others another one."""
    one, other = UpdateTrace(update_id), UpdateTrace(update_id)
    sent = [one.try_again()]
    assert other.try_again() == sent[0]
    for record in recording.journal:
        one.read(record)
        other.read(record)
        is_rejection = isinstance(record, UpdateNotAccepted) and record.update_id == update_id
        message = one.try_again()
        assert (message != sent[-1]) == is_rejection
        assert other.try_again() == message
        sent.append(message)
    for before, after in pairwise(dict.fromkeys(sent)):
        assert (before, after) == (before, f"update:{update_id}:{int(before.rpartition(':')[2]) + 1}")


def test_an_earlier_rejection_does_not_count_until_the_update_is_sent() -> None:
    trace = trace_of(REJECTED, sent=False)
    assert not trace.is_over
    assert trace.try_again() == "update:a:1"
    assert not trace.is_over
    trace.read(REJECTED)
    assert trace.is_over
    assert outcome(trace) is UpdateRejected


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([ACCEPTED, ANSWERED, ENDED], [1]),
        ([ACCEPTED, FAILED, ENDED], UpdateFailed),
        ([REJECTED, ENDED], UpdateRejected),
        ([REJECTED, ACCEPTED, ANSWERED], [1]),
        ([ACCEPTED, ENDED], UpdateAbandoned),
        ([ENDED], ExecutionAlreadyEnded),
    ],
)
def test_the_caller_gets_the_outcome_in_the_journal(records: list[AnyRecord], expected: object) -> None:
    trace = trace_of(*records)
    assert trace.is_over
    assert outcome(trace) == expected


def test_errors_have_what_was_raised_for_their_cause() -> None:
    for records, kind in (([FAILED], UpdateFailed), ([REJECTED], UpdateRejected)):
        with pytest.raises(kind) as caught:
            trace_of(*records).answer("e-1", "set")
        cause = caught.value.__cause__
        assert isinstance(cause, ForeignError)
        assert (cause.kind, cause.message) == ("ValueError", "no")


def test_records_of_another_update_are_ignored() -> None:
    trace = trace_of(ACCEPTED, REJECTED, ANSWERED, update_id="b")
    assert not trace.was_accepted
    assert not trace.is_over
