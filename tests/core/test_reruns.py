"""Retries, forks and exports of any execution, at any place."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.core.errors import ActivityFailed, CannotRerun, NonDeterminismError, StorageTooNew, WouldRepeat
from outlast.core.event_stream import EventReader, without_void
from outlast.core.exports import Export, ExportHeader, exported, imported, read_export, split_exports
from outlast.core.failure import Failure
from outlast.core.records import (
    INPUTS,
    AnyRecord,
    AttemptFailed,
    CancelRequested,
    ExecutionEnded,
    ExecutionForked,
    ExecutionHeld,
    ExecutionRecovered,
    ExecutionReopened,
    ExecutionStarted,
    Input,
    SignalReceived,
    Status,
    StepCompleted,
    StepFailed,
    StepKind,
    StepScheduled,
    TimerFired,
    UpdateAccepted,
    UpdateCompleted,
    decode_record,
    encode_record,
)
from outlast.core.reruns import INPUT, counted, forked, held_at_failure, retried
from outlast.core.updates import UpdateTrace
from outlast.core.workflow_machine import MachinePhase, WorkflowMachine
from tests.core.programs import Code, Program, Recording, executions

LATER = 5000.0
BOOM = Failure(kind="ValueError", message="boom")
BANG = Failure(kind="ValueError", message="bang")
LAST = Failure(kind="KeyError", message="last")
STARTED = ExecutionStarted(at=1.0, workflow="w", arguments={"n": 1})


class Rerun:
    """The code of a program that is run from the part of a journal that counts, as a worker does it."""

    def __init__(self, program: Program, journal: Sequence[AnyRecord]) -> None:
        self.journal = [decode_record(encode_record(record)) for record in journal]
        self.counted = counted(self.journal)
        self.machine = WorkflowMachine(
            "e-1",
            self.counted.records,
            length=self.counted.length,
            reopened=self.counted.reopened,
            void=self.counted.void,
        )
        self.code = Code(program, self.machine)
        while (record := self.machine.advance()) is not None:
            self.code.deliver(record)
        for message in self.counted.undelivered:
            self.offer(message.with_(at=LATER))

    def offer(self, record: Input) -> None:
        if self.machine.phase is MachinePhase.LIVE and self.machine.accept(record):
            self.code.deliver(record)

    def write(self) -> None:
        batch = self.machine.take_batch()
        assert batch.position == len(self.journal)
        self.journal += batch.records

    def finish(self) -> None:
        """Give the code all that it waits for, to its end."""
        while self.machine.phase is MachinePhase.LIVE:
            for key in list(self.machine.steps):
                self.offer(StepCompleted(at=LATER, key=key, result=None))
            for key in list(self.machine.timers):
                self.offer(TimerFired(at=LATER, key=key))
            name = f"more {len(self.journal)}"
            self.offer(SignalReceived(at=LATER, message_id=name, name="s"))
            self.offer(UpdateAccepted(at=LATER, update_id=name, name="set"))
            self.write()
        if self.machine.phase is MachinePhase.ENDING:
            self.write()
        assert isinstance(self.journal[-1], ExecutionEnded)


def cut_before_the_end(recording: Recording, cut: int) -> list[AnyRecord]:
    journal: list[AnyRecord] = [
        record for record in recording.journal if not isinstance(record, ExecutionEnded)
    ]
    return journal[: 1 + cut % len(journal)]


def completed(records: Sequence[AnyRecord]) -> set[str]:
    return {record.key for record in records if isinstance(record, StepCompleted)}


def messages(records: Sequence[AnyRecord]) -> list[str]:
    found = []
    for record in records:
        match record:
            case SignalReceived(message_id=id) | UpdateAccepted(update_id=id):
                found.append(id)
    return found


def machine_of(journal: Sequence[AnyRecord]) -> WorkflowMachine:
    found = counted(journal)
    return WorkflowMachine(
        "e-1", found.records, length=found.length, reopened=found.reopened, void=found.void
    )


# Counting ----------------------------------------------------------------------------------------------


@given(executions())
def test_all_of_a_journal_counts_that_was_never_reopened(recording: Recording) -> None:
    found = counted(recording.journal)
    assert found.records == tuple(recording.journal)
    assert (found.length, found.reopened, found.undelivered) == (len(recording.journal), 0, ())
    assert not found.inherited


# Retries -----------------------------------------------------------------------------------------------


@given(executions(), st.integers(0), st.lists(st.integers(0), min_size=1, max_size=3))
def test_d22_what_was_terminated_goes_on_from_where_it_was(
    recording: Recording, cut: int, more: list[int]
) -> None:
    journal = cut_before_the_end(recording, cut)
    for reopened, _ in enumerate(more, 1):
        ended = ExecutionEnded(status=Status.TERMINATED, reason="enough")
        journal = [*journal, ended]
        journal.append(retried("e-1", journal, LATER))
        rerun = Rerun(recording.program, journal)
        assert rerun.counted.reopened == reopened
        assert not rerun.counted.undelivered
        assert not completed(journal) & rerun.machine.steps.keys()
        rerun.write()
        journal = rerun.journal
        if rerun.machine.phase is not MachinePhase.LIVE:
            return
    Rerun(recording.program, journal).finish()


@given(executions(), st.integers(0))
def test_d22_code_that_raised_gets_its_last_input_again(recording: Recording, cut: int) -> None:
    journal = cut_before_the_end(recording, cut)
    inputs = [index for index, record in enumerate(journal) if isinstance(record, INPUTS)]
    # The requests that came with the end are void: today's code may ask for something else.
    journal = [*journal, ExecutionEnded(status=Status.FAILED, failure=BOOM)]
    reopened = retried("e-1", journal, LATER)
    last = journal[inputs[-1]]
    # If the last input was the failure of a step, that is what ended the execution.
    tried_anew = (last.key,) if isinstance(last, StepFailed) else ()
    assert (reopened.position, reopened.failed) == (inputs[-1] + 1 - len(tried_anew), tried_anew)
    rerun = Rerun(recording.program, [*journal, reopened])
    assert not completed(journal) & rerun.machine.steps.keys()
    rerun.write()
    rerun.finish()


@given(executions(), st.data())
def test_d22_a_failed_step_is_open_again_and_no_completed_one(
    recording: Recording, data: st.DataObject
) -> None:
    journal: list[AnyRecord] = [
        record.with_(message_id=f"m{index}") if isinstance(record, SignalReceived) else record
        for index, record in enumerate(recording.journal)
        if not isinstance(record, (ExecutionEnded, CancelRequested))
    ]
    failed = [index for index, record in enumerate(journal) if isinstance(record, StepFailed)]
    if not failed:
        return
    step = journal[data.draw(st.sampled_from(failed))]
    assert isinstance(step, StepFailed)
    own = Failure(kind="Mine", message="too bad", cause=Failure(kind="E", message="", cause=step.failure))
    journal = [*journal, ExecutionEnded(status=Status.FAILED, failure=own)]
    reopened = retried("e-1", journal, LATER)
    last = journal[reopened.position]
    assert isinstance(last, StepFailed)
    assert last.key in reopened.failed
    rerun = Rerun(recording.program, [*journal, reopened])
    for key in reopened.failed:
        opened = rerun.machine.steps.get(key)
        assert opened is None or (opened.attempt, opened.in_doubt, opened.retry_at) == (1, False, 0.0)
    done = {
        record.key
        for record in journal
        if isinstance(record, StepCompleted) and record.key in {step.key for step in reopened.open}
    }
    assert not done & rerun.machine.steps.keys()
    rerun.write()
    assert {*messages(journal[reopened.position :])} <= {*messages(counted(rerun.journal).records)}
    assert not counted(rerun.journal).undelivered
    rerun.finish()


def test_d22_a_void_activity_that_is_asked_for_again_has_its_result() -> None:
    slow, quick = scheduled("0.0", "slow"), scheduled("1.0", "quick")
    after = scheduled("1.1", "after quick")
    journal: list[AnyRecord] = [
        STARTED,
        slow,
        quick,
        StepFailed(at=2.0, key="0.0", attempts=1, failure=BOOM),
        StepCompleted(at=2.0, key="1.0", result="quick"),
        after,
        StepCompleted(at=3.0, key="1.1", result="after"),
        ExecutionEnded(status=Status.FAILED, failure=BOOM),
    ]
    journal.append(retried("e-1", journal, LATER))
    found = counted(journal)
    assert found.records == (STARTED, slow, quick, journal[-1])
    assert found.undelivered == (journal[4],)
    assert found.recalled == {"1.1": journal[6]}
    machine = machine_of(journal)
    machine.advance()
    machine.request(slow)
    machine.request(quick)
    assert machine.advance() is None
    assert machine.accept(found.undelivered[0])
    other = after.with_(arguments={"n": "another"})
    assert machine.request(after) == after
    with pytest.raises(NonDeterminismError):
        machine.request(other)


def scheduled(key: str, what: str) -> StepScheduled:
    return StepScheduled(key=key, kind=StepKind.ACTIVITY, name="do", arguments={"what": what})


@given(executions(), st.integers(0))
def test_d22_what_was_cancelled_goes_on_as_if_nobody_had_asked(recording: Recording, cut: int) -> None:
    before = cut_before_the_end(recording, cut)
    before = before[
        : next((i for i, one in enumerate(before) if isinstance(one, CancelRequested)), len(before))
    ]
    journal = [*before, CancelRequested(at=LATER, message_id="c"), ExecutionEnded(status=Status.CANCELLED)]
    reopened = retried("e-1", journal, LATER)
    assert reopened.position == len(before)
    Rerun(recording.program, [*journal, reopened]).finish()


def test_d22_a_key_that_a_void_step_had_is_another_idempotency_key() -> None:
    step = StepScheduled(key="0.0", kind=StepKind.ACTIVITY, name="pay")
    journal: list[AnyRecord] = [STARTED, step, ExecutionEnded(status=Status.FAILED, failure=BOOM)]
    journal.append(retried("e-1", journal, LATER))
    machine = machine_of(journal)
    assert machine.advance() == STARTED
    asked = machine.request(step)
    assert isinstance(asked, StepScheduled)
    assert (step.idempotency_key, asked.idempotency_key) == ("0.0", "0.0~1")
    assert machine.advance() is None
    journal += machine.take_batch().records
    machine = machine_of(journal)
    machine.advance()
    assert machine.request(step) == asked


def test_d22_a_step_that_was_under_way_at_the_end_is_in_doubt() -> None:
    step = StepScheduled(key="0.0", kind=StepKind.ACTIVITY, name="pay")
    journal: list[AnyRecord] = [STARTED, step, ExecutionEnded(status=Status.TERMINATED, reason="no")]
    journal.append(retried("e-1", journal, LATER))
    machine = machine_of(journal)
    machine.advance()
    machine.request(step)
    assert machine.advance() is None
    opened = machine.steps["0.0"]
    assert (opened.attempt, opened.in_doubt) == (2, True)


def failures_of_steps(*failures: Failure) -> list[AnyRecord]:
    """Return a journal in which one step after the other fails like that, the last input being a signal."""
    keys = [f"0.{number}" for number in range(len(failures))]
    return [
        STARTED,
        *(scheduled(key, "slow") for key in keys),
        *(
            StepFailed(at=2.0, key=key, attempts=1, failure=failure)
            for key, failure in zip(keys, failures, strict=True)
        ),
        SignalReceived(at=3.0, message_id="m", name="s"),
    ]


def as_raised(failure: Failure) -> Failure:
    return Failure.of(ActivityFailed("slow", 1, failure.kind, failure.message))


@pytest.mark.parametrize(
    ("ended_by", "anew"),
    [
        (Failure(kind="ExceptionGroup", message="two", group=(as_raised(BOOM),)), (2, 3)),
        (Failure(kind="ExceptionGroup", message="two", group=(as_raised(BOOM), as_raised(BANG))), (1, 2, 3)),
        (Failure(kind="ExceptionGroup", message="two", group=(as_raised(BOOM),) * 2), (0, 1, 2, 3)),
        (Failure(kind="ExceptionGroup", message="one", group=(BANG,)), (1, 2, 3)),
        (Failure(kind="KeyError", message="no", cause=as_raised(BANG)), (1, 2, 3)),
        (Failure(kind="KeyError", message="no", cause=as_raised(LAST).with_(cause=BANG)), (3,)),
        (Failure(kind="ActivityFailed", message="boom").with_(cause=LAST), (3,)),
        (Failure(kind="KeyError", message="no"), ()),
    ],
)
def test_d22_every_step_is_tried_anew_that_had_a_part_in_the_failure(
    ended_by: Failure, anew: tuple[int, ...]
) -> None:
    journal = failures_of_steps(BOOM, BANG, BOOM, LAST)
    journal.append(ExecutionEnded(status=Status.FAILED, failure=ended_by))
    reopened = retried("e-1", journal, LATER)
    assert reopened.failed == tuple(f"0.{number}" for number in anew)
    assert reopened.position == (5 + anew[0] if anew else len(journal) - 1)


def test_d22_attempts_are_counted_anew_and_those_of_before_are_not_forgotten() -> None:
    step = scheduled("0.0", "slow")
    journal: list[AnyRecord] = [STARTED, step]
    for _ in range(2):
        journal += [
            AttemptFailed(at=2.0, key="0.0", attempt=1, failure=BOOM, retry_at=2.0),
            StepFailed(at=2.0, key="0.0", attempts=2, failure=BOOM),
            ExecutionEnded(status=Status.FAILED, failure=BOOM),
        ]
        journal.append(retried("e-1", journal, LATER))
    machine = machine_of(journal)
    machine.advance()
    machine.request(step)
    assert machine.advance() is None
    assert (machine.steps["0.0"].attempt, machine.steps["0.0"].earlier) == (1, 4)


def test_d23_the_marks_of_the_original_are_not_those_of_a_fork() -> None:
    marked = scheduled("0.0", "other").with_(reopened=1)
    journal: list[AnyRecord] = [
        STARTED,
        scheduled("0.0", "slow"),
        ExecutionEnded(status=Status.FAILED, failure=BOOM),
        ExecutionReopened(at=LATER, position=1),
        marked,
    ]
    assert marked.idempotency_key == "0.0~1"
    copy = forked("e-1", journal, LATER)
    (step,) = [record for record in copy if isinstance(record, StepScheduled)]
    assert step.idempotency_key == "0.0"


def test_d22_steps_that_ended_before_a_retry_are_known() -> None:
    journal: list[AnyRecord] = [
        STARTED,
        scheduled("0.0", "slow"),
        StepCompleted(at=2.0, key="0.0", result=1),
        scheduled("0.1", "slow"),
        StepFailed(at=3.0, key="0.1", attempts=1, failure=BOOM),
        ExecutionEnded(status=Status.FAILED, failure=BOOM),
    ]
    assert counted(journal).outlived == frozenset()
    journal.append(retried("e-1", journal, LATER))
    journal.append(StepCompleted(at=LATER, key="0.1", result=1))
    assert counted(journal).outlived == {"0.0"}


def test_d22_a_void_call_of_a_model_is_made_again() -> None:
    reply = StepScheduled(key="run:0/t1/model", kind=StepKind.MODEL, name="call_model")
    slow = scheduled("0.0", "slow")
    journal: list[AnyRecord] = [
        STARTED,
        slow,
        StepFailed(at=2.0, key="0.0", attempts=1, failure=BOOM),
        reply,
        StepCompleted(at=3.0, key=reply.key, result={"entries": []}),
        ExecutionEnded(status=Status.FAILED, failure=BOOM),
    ]
    journal.append(retried("e-1", journal, LATER))
    found = counted(journal)
    assert (found.recalled, found.undelivered) == ({}, ())
    machine = machine_of(journal)
    machine.advance()
    machine.request(slow)
    assert machine.advance() is None
    assert machine.request(reply) == reply.with_(reopened=1)


def test_d22_a_step_that_backed_off_at_the_end_is_not_in_doubt() -> None:
    step = scheduled("0.0", "slow")
    failed = AttemptFailed(at=2.0, key="0.0", attempt=1, failure=BOOM, retry_at=LATER + 60.0)
    journal: list[AnyRecord] = [STARTED, step, failed, ExecutionEnded(status=Status.TERMINATED, reason="no")]
    journal.append(retried("e-1", journal, LATER))
    machine = machine_of(journal)
    machine.advance()
    machine.request(step)
    assert machine.advance() is None
    opened = machine.steps["0.0"]
    assert (opened.attempt, opened.in_doubt, opened.retry_at) == (2, False, LATER + 60.0)


def test_d22_the_events_that_count_are_those_that_a_retry_has_not_made_void() -> None:
    journal: list[AnyRecord] = [
        STARTED,
        SignalReceived(at=2.0, message_id="a", name="kept"),
        ExecutionEnded(status=Status.FAILED, failure=BOOM),
    ]
    journal.append(retried("e-1", journal, LATER))
    journal.append(SignalReceived(at=LATER, message_id="b", name="new"))
    reader = EventReader()
    events = [event for record in journal for event in reader.read(record)]
    assert [event.position for event in without_void(events)] == [1, 2, 4, 5]
    assert not reader.ended


def test_d18_an_update_goes_on_when_its_execution_is_opened_again() -> None:
    update = UpdateAccepted(at=2.0, update_id="u", name="set")
    trace = UpdateTrace("u")
    for record in (STARTED, update, ExecutionEnded(status=Status.FAILED, failure=BOOM)):
        trace.read(record)
    assert trace.is_over
    trace.read(ExecutionReopened(at=LATER, position=2))
    assert not trace.is_over
    for result in (3, 4):  # A second retry may make the first answer void; the callers have it.
        trace.read(UpdateCompleted(update_id="u", result=result))
        assert trace.answer("e-1", "set") == 3


def test_d18_an_update_that_came_too_late_for_the_end_is_another_message_after_a_retry() -> None:
    sent = set()
    for update_id, reopened in (("u", 0), ("u", 1), ("u", 2), ("u:0", 0), ("u:0", 1), ("u:0+1", 0)):
        trace = UpdateTrace(update_id)
        for _ in range(reopened):
            trace.read(ExecutionReopened(at=LATER, position=1))
        sent.add(trace.try_again())
    assert len(sent) == 6


def test_d22_only_what_has_ended_without_a_result_is_retried() -> None:
    with pytest.raises(CannotRerun, match="has not ended"):
        retried("e-1", [STARTED], LATER)
    with pytest.raises(CannotRerun, match="has not ended"):
        retried("e-1", [], LATER)
    with pytest.raises(CannotRerun, match="has completed; fork it"):
        retried("e-1", [STARTED, ExecutionEnded(status=Status.COMPLETED)], LATER)


def test_d22_a_step_that_must_be_done_once_is_repeated_only_when_asked_for() -> None:
    step = StepScheduled(key="0.0", kind=StepKind.ACTIVITY, name="pay", effect="once")
    journal: list[AnyRecord] = [
        STARTED,
        step,
        StepFailed(at=2.0, key="0.0", attempts=1, failure=BOOM),
        ExecutionEnded(status=Status.FAILED, failure=BOOM),
    ]
    with pytest.raises(WouldRepeat, match=r"pay \(0\.0\).*again=True"):
        retried("e-1", journal, LATER)
    assert retried("e-1", journal, LATER, again=True).open == (step,)
    with pytest.raises(WouldRepeat):
        forked("e-1", journal, LATER, position=2)
    assert forked("e-1", journal, LATER, position=2, again=True)[:2] == (STARTED.with_(seed="e-1"), step)


def test_d24_a_hold_at_a_failure_is_a_retry_that_somebody_must_resume() -> None:
    step = StepScheduled(key="0.0", kind=StepKind.ACTIVITY, name="send")
    failed = StepFailed(at=2.0, key="0.0", attempts=3, failure=BOOM)
    end = ExecutionEnded(status=Status.FAILED, failure=BOOM)
    journal: list[AnyRecord] = [STARTED, step, failed, end]
    held = held_at_failure("e-1", journal, LATER, reason="failed")
    assert held == (retried("e-1", journal, LATER), ExecutionHeld(at=LATER, reason="failed"))
    again = held_at_failure("e-1", [*journal, *held, failed, end], LATER, reason="failed")
    assert again is not None
    assert again[0].failed == ("0.0",)
    machine = WorkflowMachine("e-1", counted([*journal, *held]).records)
    assert machine.advance() == STARTED
    machine.request(step)
    assert machine.advance() is None
    assert machine.is_held
    assert (machine.steps["0.0"].attempt, machine.end) == (1, None)


def test_d24_what_was_cancelled_or_must_be_done_once_is_not_held_at_its_failure() -> None:
    end = ExecutionEnded(status=Status.FAILED, failure=BOOM)
    cancelled: list[AnyRecord] = [STARTED, CancelRequested(at=2.0, message_id="m-1"), end]
    assert held_at_failure("e-1", cancelled, LATER, reason="failed") is None
    step = StepScheduled(key="0.0", kind=StepKind.ACTIVITY, name="pay", effect="once")
    once: list[AnyRecord] = [STARTED, step, StepFailed(at=2.0, key="0.0", attempts=1, failure=BOOM), end]
    assert held_at_failure("e-1", once, LATER, reason="failed") is None


# Forks -------------------------------------------------------------------------------------------------


@given(executions(), st.integers(0), st.integers(0))
def test_d23_any_position_of_any_journal_can_be_forked_and_forked_again(
    recording: Recording, cut: int, second: int
) -> None:
    position = 1 + cut % len(recording.journal)
    journal = forked("e-1", recording.journal, LATER, position=position)
    rerun = Rerun(recording.program, journal)
    prefix = recording.journal[:position]
    assert completed(prefix) <= {*rerun.counted.inherited}
    assert not completed(prefix) & rerun.machine.steps.keys()
    for opened in rerun.machine.steps.values():
        assert (opened.attempt, opened.in_doubt, opened.retry_at) == (1, False, 0.0)
    rerun.write()
    rerun.finish()
    again = forked("f-1", rerun.journal, LATER, position=1 + second % len(rerun.journal))
    assert isinstance(again[0], ExecutionStarted)
    assert again[0].seed == "e-1"
    Rerun(recording.program, again).finish()


@given(executions(), st.integers(0))
def test_d23_a_fork_of_what_was_retried_has_only_what_counts(recording: Recording, cut: int) -> None:
    journal = [*cut_before_the_end(recording, cut), ExecutionEnded(status=Status.FAILED, failure=BOOM)]
    journal.append(retried("e-1", journal, LATER))
    rerun = Rerun(recording.program, journal)
    rerun.write()
    rerun.finish()
    copy = forked("e-1", rerun.journal, LATER)
    assert not any(isinstance(record, (ExecutionEnded, ExecutionReopened)) for record in copy)
    Rerun(recording.program, copy).finish()


@given(executions(), st.data())
def test_d23_an_edit_replaces_a_result_and_the_copy_ends_there(
    recording: Recording, data: st.DataObject
) -> None:
    ended = [record for record in recording.journal if isinstance(record, (StepCompleted, StepFailed))]
    key = data.draw(st.sampled_from([INPUT, *(record.key for record in ended)]))
    copy = forked("e-1", recording.journal, LATER, edits={key: {"edited": True}})
    *_, last, note = copy
    assert isinstance(note, ExecutionForked)
    assert note.edited == (key,)
    if key == INPUT:
        assert last == STARTED.with_(at=1000.0, arguments={"edited": True}, seed="e-1")
    else:
        assert isinstance(last, StepCompleted)
        assert (last.key, last.result) == (key, {"edited": True})
    Rerun(recording.program, copy).finish()


def test_d23_what_does_not_fit_is_refused() -> None:
    journal: list[AnyRecord] = [STARTED, ExecutionEnded(status=Status.COMPLETED)]
    for position in (0, 3, -1):
        with pytest.raises(CannotRerun, match="positions 1 to 2"):
            forked("e-1", journal, LATER, position=position)
    with pytest.raises(CannotRerun, match=r"no result to edit for 0\.0"):
        forked("e-1", journal, LATER, edits={"0.0": 1})
    with pytest.raises(CannotRerun, match=r"has no result to edit for 0\.0"):
        forked("e-1", journal, LATER, position=1, edits={"0.0": 1})
    with pytest.raises(CannotRerun, match="is an object"):
        forked("e-1", journal, LATER, edits={INPUT: 1})


# Exports -----------------------------------------------------------------------------------------------


@given(executions())
def test_d25_an_export_that_is_read_is_what_was_exported(recording: Recording) -> None:
    header = ExportHeader(
        id="e-1", workflow="w", task_queue="q", exported_at=LATER, records=len(recording.journal)
    )
    export = read_export([*exported(header, recording.journal), ""])
    assert (export.header, list(export.records)) == (header, recording.journal)
    last = recording.journal[-1]
    assert export.status is (last.status if isinstance(last, ExecutionEnded) else Status.RUNNING)


@given(st.lists(executions(), max_size=4))
def test_d25_exports_that_follow_each_other_are_kept_apart(recordings: list[Recording]) -> None:
    lines: list[str] = []
    for number, recording in enumerate(recordings):
        header = ExportHeader(
            id=f"e-{number}", workflow="w", task_queue="q", exported_at=LATER, records=len(recording.journal)
        )
        lines += [*exported(header, recording.journal), ""]
    parts = list(split_exports(lines))
    if not recordings:
        assert parts == [[]]
        return
    exports = [read_export(part) for part in parts]
    assert [list(export.records) for export in exports] == [one.journal for one in recordings]
    assert [export.header.id for export in exports] == [f"e-{number}" for number in range(len(recordings))]


@given(
    st.lists(st.sampled_from(["{", "{}", "", '{"records": -1}', "HEADER", "NEGATIVE", "RECORD"]), max_size=8)
)
def test_d25_no_line_is_lost_whatever_the_lines_are(kinds: list[str]) -> None:
    texts = {
        "HEADER": HEADER.to_json().decode(),
        "NEGATIVE": HEADER.with_(records=-7).to_json().decode(),
        "RECORD": START_LINE,
    }
    lines = [texts.get(kind, kind) for kind in kinds]
    assert [line for part in split_exports(lines) for line in part] == [line for line in lines if line]


HEADER = ExportHeader(id="e-1", workflow="w", task_queue="q", exported_at=1.0, records=1)


def test_d25_an_execution_that_was_reopened_is_running() -> None:
    journal: list[AnyRecord] = [STARTED, ExecutionEnded(status=Status.FAILED, failure=BOOM)]
    assert Export(HEADER, tuple(journal)).status is Status.FAILED
    journal.append(retried("e-1", journal, LATER))
    assert Export(HEADER, tuple(journal)).status is Status.RUNNING


def test_d25_an_open_execution_is_kept_as_after_a_crash_and_with_the_random_numbers_of_its_id() -> None:
    export = Export(HEADER, (STARTED,))
    recovered = ExecutionRecovered(at=LATER)
    assert imported(export, "e-1", LATER) == (STARTED, recovered)
    renamed = STARTED.with_(seed="e-1")
    assert imported(export, "e-2", LATER) == (renamed, recovered)
    assert imported(Export(HEADER, (renamed,)), "e-3", LATER) == (renamed, recovered)
    end = ExecutionEnded(status=Status.COMPLETED)
    assert imported(Export(HEADER, (STARTED, end)), "e-1", LATER) == (STARTED, end)


START_LINE = encode_record(STARTED).decode()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "empty"),
        (["", " "], "empty"),
        (["{"], "not the header of an export .it is something else"),
        (["{}"], "not the header of an export .it is something else"),
        (['{"type": "outlast_export", "id": 7}'], "id: Input should be a valid string"),
        ([HEADER.to_json().decode()], "not whole: its header counts 1 records, and it has 0"),
        ([HEADER.to_json().decode(), "{}"], "record 1 of the export of 'e-1' is damaged"),
        ([HEADER.with_(workflow="v").to_json().decode(), START_LINE], "does not begin with the start of 'v'"),
        ([HEADER.with_(records=0).to_json().decode()], "does not begin"),
    ],
)
def test_d25_what_is_not_an_export_is_refused(lines: list[str], message: str) -> None:
    with pytest.raises(CannotRerun, match=message):
        read_export(lines)


def test_d25_an_export_of_a_newer_version_is_refused() -> None:
    newer = HEADER.with_(format=99).to_json().decode()
    with pytest.raises(StorageTooNew, match="format 99"):
        read_export([newer, START_LINE])
    with pytest.raises(StorageTooNew):
        read_export([HEADER.to_json().decode(), START_LINE.replace('"format":2', '"format":99')])


def test_d11_a_departure_in_a_journal_that_was_reopened_has_the_position_that_people_see() -> None:
    step = StepScheduled(key=":0", kind=StepKind.ACTIVITY, name="pack")
    journal: list[AnyRecord] = [STARTED, step, ExecutionEnded(status=Status.TERMINATED)]
    journal.append(retried("e-1", journal, LATER))
    journal += [StepCompleted(at=LATER, key=":0", result=1), step.with_(key=":1")]
    known = counted(journal)
    assert [journal[place] for place in known.places] == list(known.records)
    machine = WorkflowMachine("e-1", known.records, length=known.length, places=known.places)
    assert machine.advance() == STARTED
    machine.request(step)
    assert machine.advance() == journal[4]
    with pytest.raises(NonDeterminismError) as caught:
        machine.request(step.with_(key=":1", name="send"))
    assert caught.value.position == 6
