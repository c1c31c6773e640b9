"""The event stream of an execution: what its journal means to someone who watches.

Each record is at most one event, and an event's position is that of its record, counted from 1: the stream
is complete and ordered because the journal is, and can be read from any position by any process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from outlast.core import entries as wire
from outlast.core.approvals import DECISION_SIGNAL
from outlast.core.entries import FunctionCall
from outlast.core.failure import Failure
from outlast.core.json import JSON, encode
from outlast.core.records import (
    AnyRecord,
    AttemptFailed,
    CancelRequested,
    EventEmitted,
    ExecutionEnded,
    ExecutionRecovered,
    ExecutionStarted,
    SignalReceived,
    StepCompleted,
    StepFailed,
    StepKind,
    StepScheduled,
    TimerFired,
    TimerStarted,
    UpdateAccepted,
    UpdateCompleted,
    UpdateRefused,
)
from outlast.core.replies import with_own_call_ids
from outlast.core.step_keys import place_in


@dataclass(frozen=True, slots=True)
class Event:
    """One item of an execution's event stream. Positions grow; they need not be consecutive."""

    position: int
    kind: str
    at: datetime
    data: Mapping[str, JSON]


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the text that one attempt at a step has brought."""

    key: str
    """The step's key in its execution."""
    attempt: int
    """A higher attempt's text takes the place of all text of lower ones."""
    sequence: int
    """The pieces of an attempt are numbered from 1, without gaps."""
    text: str
    """Valid Unicode, without half a character."""
    at: float
    """When it was published, in seconds since the epoch."""


_KINDS: dict[StepKind, tuple[str, str, str]] = {
    StepKind.ACTIVITY: ("activity_started", "activity_completed", "activity_failed"),
    StepKind.MODEL: ("turn_started", "model_replied", "model_failed"),
    StepKind.TOOL: ("tool_called", "tool_returned", "tool_failed"),
    StepKind.SUMMARY: ("summary_started", "summary_made", "summary_failed"),
}
"""What the scheduling, the result and the failure of a step are called in the stream."""
_BEFORE_THE_CALL = frozenset({"approval_requested", "approval_given", "approval_refused"})


class EventReader:
    """Turns records, given in order from the first, into events."""

    def __init__(self, at: float = 0.0) -> None:
        self.position = 0
        """The number of the last record read, from 1."""
        self._at = at
        """When the last thing happened that has a time."""
        self._steps: dict[str, StepScheduled] = {}
        self._arguments: dict[tuple[JSON, JSON], JSON] = {}
        """What the last replies asked tools with, by run and call: the journal holds it only there."""
        self._updates: dict[str, str] = {}
        """The names of the updates that have no answer, by id."""
        self._replied: set[str] = set()
        """The model steps that have ended."""
        self._attempts: dict[str, int] = {}
        """The highest attempt that has told text, by step."""
        self._heard: list[Delta] = []
        """Text that was heard and not told."""
        self.ended = False
        """Whether the last event of the stream has been given."""

    def read(self, record: AnyRecord) -> Iterator[Event]:
        """Yield the event that `record` is, if it is one."""
        match record:
            case StepCompleted(key=key) | StepFailed(key=key):
                yield from self.text(key)
            case AttemptFailed(key=key, attempt=attempt):
                yield from self.text(key, attempt)
        self.position += 1
        self._at = getattr(record, "at", self._at)
        found = self._event(record)
        if found is not None:
            kind, data = found
            yield Event(self.position, kind, datetime.fromtimestamp(self._at, UTC), data)

    @property
    def awaits_reply(self) -> bool:
        """Whether a model is being asked, so that there may be text to hear."""
        return any(step.kind is StepKind.MODEL for step in self._steps.values())

    def hear(self, deltas: Sequence[Delta]) -> None:
        """Take pieces of text, to be told before the reply that they are of.

        Left out is what a later attempt has retracted, and what is heard after its reply was read.
        """
        for delta in deltas:
            if delta.key not in self._replied:
                self._heard.append(delta)
                self._attempts[delta.key] = max(delta.attempt, self._attempts.get(delta.key, 0))

    def text(self, key: str | None = None, attempt: int | None = None) -> Iterator[Event]:
        """Yield the events that the text of open steps is; or only of this one, up to this attempt."""
        heard, self._heard = self._heard, []
        for delta in heard:
            step = self._steps.get(delta.key)
            if step is None or key not in (None, delta.key) or delta.attempt > (attempt or delta.attempt):
                self._heard.append(delta)
            elif delta.attempt == self._attempts[delta.key]:
                piece: dict[str, JSON] = {"attempt": delta.attempt, "sequence": delta.sequence}
                data = {**_about(step), **piece, "text": delta.text}
                yield Event(self.position, "text_delta", datetime.fromtimestamp(delta.at, UTC), data)

    def _event(self, record: AnyRecord) -> tuple[str, dict[str, JSON]] | None:
        match record:
            case ExecutionStarted():
                return "execution_started", {"workflow": record.workflow, "arguments": dict(record.arguments)}
            case StepScheduled():
                self._steps[record.key] = record
                arguments = {} if record.arguments is None else {"arguments": record.arguments}
                return _KINDS[record.kind][0], self._with_arguments({**_about(record), **arguments})
            case StepCompleted():
                step = self._end(record.key)
                if step.kind is StepKind.MODEL:
                    self._remember_calls(place_in(record.key).get("run"), record.result)
                return _KINDS[step.kind][1], {**_about(step), "result": record.result}
            case StepFailed():
                step = self._end(record.key)
                return _KINDS[step.kind][2], {**_about(step), "failure": _data(record.failure)}
            case AttemptFailed(key=key) if key in self._steps:
                told = {**_about(self._steps[key]), "attempt": record.attempt}
                return "attempt_failed", {**told, "failure": _data(record.failure)}
            case SignalReceived(name=name) if name == DECISION_SIGNAL:
                return None  # What comes of a decision is told when it is applied, once.
            case SignalReceived():
                given: dict[str, JSON] = {"arguments": list(record.arguments), "named": dict(record.named)}
                return "signal_received", {"name": record.name, **given}
            case UpdateAccepted():
                given = {"arguments": list(record.arguments), "named": dict(record.named)}
                self._updates[record.update_id] = record.name
                return "update_accepted", {"id": record.update_id, "name": record.name, **given}
            case UpdateCompleted():
                told = {"id": record.update_id, "name": self._updates.pop(record.update_id)}
                if record.failure is not None:
                    return "update_failed", {**told, "failure": _data(record.failure)}
                return "update_completed", {**told, "result": record.result}
            case UpdateRefused():
                return None  # It has changed nothing, and on Temporal leaves nothing to be told.
            case CancelRequested():
                return "cancel_requested", {}
            case TimerStarted():
                return "timer_started", {"key": record.key, "due_at": record.due_at}
            case TimerFired():
                return "timer_fired", {"key": record.key}
            case EventEmitted():
                return record.kind, self._emitted(record)
            case ExecutionEnded():
                self.ended = True
                ending = {"result": record.result, "failure": _data(record.failure)}
                return f"execution_{record.status}", ending
            case ExecutionRecovered():
                return "execution_recovered", {}
            case AttemptFailed():
                return None

    def _end(self, key: str) -> StepScheduled:
        step = self._steps.pop(key)
        if step.kind is StepKind.MODEL:
            self._replied.add(key)
            self._attempts.pop(key, None)
        return step

    def _remember_calls(self, run: JSON, reply: JSON) -> None:
        written = reply.get("entries") if isinstance(reply, dict) else None
        for entry in with_own_call_ids(wire.entries.validate_python(written or ())):
            if isinstance(entry, FunctionCall):
                self._arguments[run, entry.tool_call_id] = entry.arguments

    def _with_arguments(self, data: Mapping[str, JSON]) -> dict[str, JSON]:
        """Return `data`, with the arguments as the model wrote them if it tells of a tool call being made."""
        call = (data.get("run"), data.get("call_id"))
        return {**data, "arguments": self._arguments.pop(call)} if call in self._arguments else dict(data)

    def _emitted(self, record: EventEmitted) -> dict[str, JSON]:
        """Return the data of an event of ours; a person is shown the arguments before the call is made."""
        call = (record.data.get("run"), record.data.get("call_id"))
        if record.kind not in _BEFORE_THE_CALL or call not in self._arguments:
            return self._with_arguments(record.data)
        if (edited := record.data.get("edited_arguments")) is not None:
            self._arguments[call] = encode(edited).decode()
            return dict(record.data)
        return {**record.data, "arguments": self._arguments[call]}


def _about(step: StepScheduled) -> dict[str, JSON]:
    place = {} if step.kind is StepKind.ACTIVITY else place_in(step.key)
    if step.kind is StepKind.TOOL:
        place["tool"] = step.name
    return {"name": step.name, "key": step.key, **place, **step.about}


def _data(failure: Failure | None) -> JSON:
    return None if failure is None else failure.model_dump(mode="json")
