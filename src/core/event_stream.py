"""The event stream of an execution: its journal, as somebody who watches the execution reads it.

Each record is at most one event, and an event's position is that of its record, counted from 1: the stream
is complete and ordered because the journal is, and can be read from any position by any process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, Self, assert_never

from pydantic import ValidationError

from outlast.core.approvals import DECISION_SIGNAL
from outlast.core.errors import StorageCorrupt
from outlast.core.events import (
    ActivityCompletedData,
    ActivityFailedData,
    ActivityStartedData,
    AnyEventData,
    ApprovalGivenData,
    AskedCallData,
    AttemptFailedData,
    CancelRequestedData,
    ChildCompletedData,
    ChildFailedData,
    ChildStartedData,
    EventKind,
    ExecutionCancelledData,
    ExecutionCompletedData,
    ExecutionFailedData,
    ExecutionForkedData,
    ExecutionHeldData,
    ExecutionPausedData,
    ExecutionRecoveredData,
    ExecutionReopenedData,
    ExecutionResumedData,
    ExecutionStartedData,
    ExecutionTerminatedData,
    ModelFailedData,
    ModelRepliedData,
    SignalReceivedData,
    SummaryFailedData,
    SummaryMadeData,
    SummaryStartedData,
    TextDeltaData,
    TimerFiredData,
    TimerStartedData,
    ToolCalledData,
    ToolFailedData,
    ToolReturnedData,
    TurnStartedData,
    UpdateAcceptedData,
    UpdateCompletedData,
    UpdateFailedData,
)
from outlast.core.json import JSON, encode
from outlast.core.notebook_html import fact_table
from outlast.core.records import (
    REQUESTS,
    AnyRecord,
    AttemptFailed,
    CancelRequested,
    ChildStarted,
    EventEmitted,
    ExecutionEnded,
    ExecutionForked,
    ExecutionHeld,
    ExecutionPaused,
    ExecutionRecovered,
    ExecutionReopened,
    ExecutionResumed,
    ExecutionStarted,
    SignalReceived,
    Status,
    StepCompleted,
    StepFailed,
    StepKind,
    StepScheduled,
    TimerFired,
    TimerStarted,
    UpdateAccepted,
    UpdateCompleted,
    UpdateNotAccepted,
)
from outlast.core.replies import arguments_in, parsed_arguments
from outlast.core.step_keys import place_in
from outlast.core.tool_output import ToolOutput
from outlast.core.values import faults


@dataclass(frozen=True, slots=True)
class Event:
    """One item of an execution's event stream.

    Positions never go down, and may leave gaps; a piece of live text has that of the event before it.
    """

    position: int
    at: datetime
    data: AnyEventData
    """The fields of the event; their class is that of the event's kind (see `outlast.events`)."""

    @property
    def kind(self) -> EventKind:
        """The kind of the event."""
        return self.data.kind

    def _repr_html_(self) -> str:
        data = encode(self.data.to_data("json")).decode()
        return fact_table(f"event {self.position}: {self.kind}", [("at", self.at), ("data", data)])


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the text of one attempt at a step."""

    key: str
    """The step's key in its execution; see `text_key`."""
    attempt: int
    """A higher attempt's text takes the place of all text of lower ones."""
    sequence: int
    """The pieces of an attempt are numbered from 1, without gaps."""
    text: str
    """Valid Unicode, without half a character."""
    at: float
    """The time when it was published, in seconds since the epoch."""


def text_key(key: str, reopened: int) -> str:
    """Return the key of the text of a step in an execution that has been opened again so many times.

    Each time attempts are counted from 1, and the text of the attempts of before may still be there.
    """
    return f"{reopened}!{key}" if reopened else key


def _reopened_and_step(delta: Delta) -> tuple[int, str]:
    """Return how often the execution was opened again, and the step: the inverse of `text_key`."""
    reopened, mark, key = delta.key.partition("!")
    return (int(reopened), key) if mark and reopened.isdecimal() else (0, delta.key)


_Calls = dict[str, str | dict[str, JSON]]
"""The arguments of calls by their ids."""


class _StepEvents(NamedTuple):
    """The events of a step: when it is scheduled, when it has a result, when it failed for good."""

    begun: Callable[..., AnyEventData]
    completed: Callable[..., AnyEventData]
    failed: Callable[..., AnyEventData]


_STEPS = {
    StepKind.ACTIVITY: _StepEvents(ActivityStartedData, ActivityCompletedData, ActivityFailedData),
    StepKind.MODEL: _StepEvents(TurnStartedData, ModelRepliedData, ModelFailedData),
    StepKind.TOOL: _StepEvents(ToolCalledData, ToolReturnedData, ToolFailedData),
    StepKind.SUMMARY: _StepEvents(SummaryStartedData, SummaryMadeData, SummaryFailedData),
    StepKind.CHILD: _StepEvents(ChildStartedData, ChildCompletedData, ChildFailedData),
}


class _StepAbout(NamedTuple):
    """A step without a result."""

    kind: StepKind
    name: str
    about: dict[str, Any]
    """The fields that every event of the step has."""

    @classmethod
    def of(cls, step: StepScheduled) -> Self:
        if step.kind is StepKind.ACTIVITY:
            return cls(step.kind, step.name, {"key": step.key, "name": step.name})
        if step.kind is StepKind.CHILD:
            return cls(step.kind, step.name, {"key": step.key, "workflow": step.name})
        place = place_in(step.key)
        call = {"call_id": place.call_id, "tool": step.name} if step.kind is StepKind.TOOL else {}
        about = {"key": step.key, "run": place.run, "turn": place.turn, **call, **step.about}
        return cls(step.kind, step.name, about)


class EventReader:
    """Turns records, given in order from the first, into events."""

    def __init__(self, at: float = 0.0) -> None:
        self.position = 0
        """The number of the last record read, from 1."""
        self._at = at
        """The time of the last record that has one."""
        self._steps: dict[str, _StepAbout] = {}
        self._asked: dict[str, _Calls] = {}
        """The arguments of the calls in the last reply of each run, by run and call: as the model wrote
        them, or as a person edited them. The journal holds them only there."""
        self._asked_before: list[tuple[int, str, _Calls | None]] = []
        """The position and the run of each change of `_asked`, with the former value: a retry may make the
        change void."""
        self._updates: dict[str, str] = {}
        """The names of the updates, by id."""
        self._reopened = 0
        """How often the execution was opened again."""
        self._replied: set[str] = set()
        """The model steps that have ended since then."""
        self._attempts: dict[str, int] = {}
        """The highest attempt whose text was read, by step."""
        self._failed: dict[str, int] = {}
        """The last attempt that failed since then, by step."""
        self._waiting: list[Delta] = []
        """Text that was read and is not an event yet."""
        self.ended = False
        """True after the last event of the stream."""

    def read(self, record: AnyRecord) -> Iterator[Event]:
        """Yield the event that `record` is, if it is one.

        Raises:
            StorageCorrupt: other code wrote the record, and no event can be made of it.
        """
        match record:
            case StepCompleted(key=key) | StepFailed(key=key):
                yield from self.text(key)
            case AttemptFailed(key=key, attempt=attempt):
                yield from self.text(key, attempt)
        self.position += 1
        if not isinstance(record, REQUESTS):
            self._at = record.at
        try:
            data = self._data_of(record)
        except ValueError as error:
            raise _unreadable(self.position, error) from error
        if data is not None:
            yield Event(self.position, datetime.fromtimestamp(self._at, UTC), data)

    @property
    def awaits_reply(self) -> bool:
        """True while a model call is open, so that there may be text to read."""
        return any(step.kind is StepKind.MODEL for step in self._steps.values())

    def take_text(self, deltas: Sequence[Delta]) -> None:
        """Take pieces of text, which become events before the reply that they are part of.

        Text that a later attempt has replaced is left out, and so is text that comes after its reply.
        """
        for delta in deltas:
            reopened, key = _reopened_and_step(delta)
            if reopened > self._reopened or (reopened == self._reopened and key not in self._replied):
                self._waiting.append(delta)
                self._attempts[delta.key] = max(delta.attempt, self._attempts.get(delta.key, 0))

    def read_beside(self, failed: AttemptFailed) -> Iterator[Event]:
        """Yield the event of a failed attempt that is not a record of this journal.

        It has the position of the event before it, as text has.
        """
        yield from self.text(failed.key, failed.attempt)
        data = self._data_of(failed)
        if data is not None:
            yield Event(self.position, datetime.fromtimestamp(failed.at, UTC), data)

    def text(self, key: str | None = None, attempt: int | None = None) -> Iterator[Event]:
        """Yield the events of the text of open steps; with a key, of that step alone, up to this attempt."""
        waiting, self._waiting = self._waiting, []
        for delta in waiting:
            reopened, written = _reopened_and_step(delta)
            if reopened < self._reopened:
                continue
            step = self._steps.get(written) if reopened == self._reopened else None
            if step is None or key not in (None, written) or delta.attempt > (attempt or delta.attempt):
                self._waiting.append(delta)
            elif delta.attempt == self._attempts[delta.key]:
                data = TextDeltaData(
                    **step.about, attempt=delta.attempt, sequence=delta.sequence, text=delta.text
                )
                yield Event(self.position, datetime.fromtimestamp(delta.at, UTC), data)

    def _data_of(self, record: AnyRecord) -> AnyEventData | None:
        match record:
            case ExecutionStarted():
                parent = None if record.parent is None else record.parent.id
                return ExecutionStartedData(
                    workflow=record.workflow, arguments=record.arguments, parent=parent
                )
            case StepScheduled(kind=StepKind.CHILD):
                self._steps[record.key] = _StepAbout.of(record)
                return None  # It is an event when the child exists.
            case StepScheduled():
                return self._begun(record)
            case ChildStarted(key=key, child=child):
                self._steps[key].about["child"] = child
                return ChildStartedData(**self._steps[key].about)
            case StepCompleted():
                return self._completed(self._end(record.key), record.result)
            case StepFailed():
                step = self._end(record.key)
                return _STEPS[step.kind].failed(**step.about, failure=record.failure)
            case AttemptFailed(key=key):
                open_step = self._steps.get(key)
                if open_step is None or self._failed.get(key) == record.attempt:
                    return None  # A second record of one attempt corrects a date.
                self._failed[key] = record.attempt
                return _attempt_failed(open_step, record)
            case SignalReceived(name=name) if name == DECISION_SIGNAL:
                return None  # A decision is an event when it is applied, once.
            case SignalReceived():
                return SignalReceivedData(name=record.name, arguments=record.arguments, named=record.named)
            case UpdateAccepted():
                self._updates[record.update_id] = record.name
                return UpdateAcceptedData(
                    id=record.update_id, name=record.name, arguments=record.arguments, named=record.named
                )
            case UpdateCompleted():
                about = {"id": record.update_id, "name": self._updates[record.update_id]}
                if record.failure is not None:
                    return UpdateFailedData(**about, failure=record.failure)
                return UpdateCompletedData(**about, result=record.result)
            case UpdateNotAccepted():
                return None  # A rejected update has changed nothing, and on Temporal it leaves no trace.
            case CancelRequested():
                return CancelRequestedData()
            case TimerStarted():
                return TimerStartedData(key=record.key, due_at=record.due_at)
            case TimerFired():
                return TimerFiredData(key=record.key)
            case EventEmitted():
                return self._emitted(record.event_data())
            case ExecutionEnded():
                self.ended = True
                return _ended(record)
            case ExecutionRecovered():
                return ExecutionRecoveredData(
                    worker=record.worker, successor=record.successor, last_words=record.last_words
                )
            case ExecutionHeld(reason=reason):
                return ExecutionHeldData(reason=reason)
            case ExecutionPaused(reason=reason):
                return ExecutionPausedData(reason=reason)
            case ExecutionResumed():
                return ExecutionResumedData()
            case ExecutionReopened():
                self._reopen(record)
                return ExecutionReopenedData(valid=record.position, failed=record.failed)
            case ExecutionForked():
                return ExecutionForkedData(
                    source=record.source, source_position=record.position, edited=record.edited
                )
            case _:
                assert_never(record)

    def _reopen(self, record: ExecutionReopened) -> None:
        """Go back to where the records end that are not void."""
        self.ended = False
        self._reopened += 1
        # A child that goes on is still known by its id.
        known = {key: step for key, step in self._steps.items() if step.kind is StepKind.CHILD}
        self._steps = {step.key: known.get(step.key) or _StepAbout.of(step) for step in record.open}
        # Attempts are counted anew, and so is their text.
        self._replied.clear()
        self._failed.clear()
        while self._asked_before and self._asked_before[-1][0] > record.position:
            _, run, calls = self._asked_before.pop()
            if calls is None:
                del self._asked[run]
            else:
                self._asked[run] = calls

    def _ask(self, run: str, calls: _Calls) -> None:
        self._asked_before.append((self.position, run, self._asked.get(run)))
        self._asked[run] = calls

    def _begun(self, scheduled: StepScheduled) -> AnyEventData:
        step = self._steps[scheduled.key] = _StepAbout.of(scheduled)
        given: dict[str, Any] = {}
        if step.kind is StepKind.TOOL:
            given = self._arguments(step.about["run"], step.about["call_id"])
        elif step.kind is StepKind.ACTIVITY and scheduled.arguments is not None:
            given = {"arguments": scheduled.arguments}
        elif step.kind is StepKind.MODEL:
            given = {"model": scheduled.model}
        return _STEPS[step.kind].begun(**step.about, **given)

    def _completed(self, step: _StepAbout, result: JSON) -> AnyEventData:
        if step.kind is StepKind.TOOL and "source" in step.about:
            output = ToolOutput.model_validate(result)
            if output.failure is not None:
                return ToolFailedData(**step.about, failure=output.failure)
            result = output.value
        elif step.kind is StepKind.MODEL and isinstance(result, dict):
            self._ask(step.about["run"], {**arguments_in(result)})
        return _STEPS[step.kind].completed(**step.about, result=result)

    def _end(self, key: str) -> _StepAbout:
        step = self._steps.pop(key)
        if step.kind is StepKind.MODEL:
            self._replied.add(key)
            self._attempts.pop(text_key(key, self._reopened), None)
        return step

    def _emitted(self, data: AnyEventData) -> AnyEventData:
        """Return an event that workflow code emitted, with the arguments of the call that it is about."""
        if not isinstance(data, AskedCallData):
            return data
        asked = data.with_(**self._arguments(data.run, data.call_id))
        if isinstance(data, ApprovalGivenData) and data.edited_arguments is not None:
            self._ask(data.run, {**self._asked.get(data.run, {}), data.call_id: data.edited_arguments})
        return asked

    def _arguments(self, run: str, call_id: str) -> dict[str, Any]:
        """Return the fields that say what a call is asked with."""
        asked = self._asked.get(run, {}).get(call_id, {})
        if isinstance(asked, dict):
            return {"arguments": asked}
        arguments = parsed_arguments(asked)
        return {"arguments_text": asked} if arguments is None else {"arguments": arguments}


def without_void(events: Iterable[Event]) -> list[Event]:
    """Return the events, given from the first, that a retry has not made void."""
    valid: list[Event] = []
    for event in events:
        if isinstance(event.data, ExecutionReopenedData):
            last = event.data.valid
            valid = [one for one in valid if one.position <= last]
        valid.append(event)
    return valid


def _attempt_failed(step: _StepAbout, record: AttemptFailed) -> AttemptFailedData:
    about = {"name": step.name, **step.about}
    about.pop("source", None)
    return AttemptFailedData(**about, attempt=record.attempt, failure=record.failure)


def _ended(
    record: ExecutionEnded,
) -> ExecutionCompletedData | ExecutionFailedData | ExecutionCancelledData | ExecutionTerminatedData:
    match record.status:
        case Status.COMPLETED:
            return ExecutionCompletedData(result=record.result)
        case Status.FAILED:
            return ExecutionFailedData.model_validate({"failure": record.failure})
        case Status.CANCELLED:
            return ExecutionCancelledData()
        case Status.TERMINATED:
            return ExecutionTerminatedData(reason=record.reason or "")
        case _:
            assert_never(record.status)


def _unreadable(position: int, error: ValueError) -> StorageCorrupt:
    why = "; ".join(faults(error)) if isinstance(error, ValidationError) else str(error)
    return StorageCorrupt(
        f"record {position} of a journal cannot be read as an event ({why}); "
        "other code wrote it, or it is damaged: restore the journal from a copy"
    )
