"""What the records of a journal are to someone who watches."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from outlast.core.event_stream import Event, EventReader
from outlast.core.failure import Failure
from outlast.core.json import JSON
from outlast.core.records import (
    AnyRecord,
    AttemptFailed,
    CancelRequested,
    EventEmitted,
    ExecutionEnded,
    ExecutionRecovered,
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
    UpdateRefused,
)

FAILURE = Failure(kind="ValueError", message="no")
STARTED = ExecutionStarted(at=10.0, workflow="w", arguments={"n": 1})


def read(*records: AnyRecord) -> list[Event]:
    reader = EventReader()
    return [event for record in records for event in reader.read(record)]


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (StepKind.ACTIVITY, ["activity_started", "activity_completed", "activity_failed"]),
        (StepKind.MODEL, ["turn_started", "model_replied", "model_failed"]),
        (StepKind.TOOL, ["tool_called", "tool_returned", "tool_failed"]),
    ],
)
def test_a_step_is_called_by_its_kind_and_its_end_tells_what_it_was_about(
    kind: StepKind, told: list[str]
) -> None:
    about: dict[str, JSON] = {"agent": "a", "turn": 1}
    named = {"tool": "n"} if kind is StepKind.TOOL else {}
    events = read(
        STARTED,
        StepScheduled(key="1", kind=kind, name="n", arguments={"x": 1}, about=about),
        StepScheduled(key="2", kind=kind, name="n", about=about),
        StepCompleted(at=11.0, key="1", result="r"),
        StepFailed(at=12.0, key="2", attempts=2, failure=FAILURE),
    )
    assert [event.kind for event in events[1:]] == [told[0], told[0], told[1], told[2]]
    assert events[1].data == {"name": "n", "key": "1", **named, **about, "arguments": {"x": 1}}
    assert events[2].data == {"name": "n", "key": "2", **named, **about}
    assert events[3].data == {"name": "n", "key": "1", **named, **about, "result": "r"}
    assert events[4].data["failure"] == FAILURE.model_dump(mode="json")


def test_an_event_has_the_position_of_its_record_and_the_time_of_what_caused_it() -> None:
    events = read(
        STARTED,
        TimerStarted(key="t", due_at=20.0),
        EventEmitted(key="event:1", kind="mood", data={"is": "good"}),
        TimerFired(at=20.5, key="t"),
        SignalReceived(at=21.0, message_id="m", name="s", arguments=(1,), named={"a": 2}),
        CancelRequested(at=22.0, message_id="n"),
        ExecutionRecovered(at=23.0),
        ExecutionEnded(status=Status.CANCELLED),
    )
    assert [(event.position, event.kind) for event in events] == [
        (1, "execution_started"),
        (2, "timer_started"),
        (3, "mood"),
        (4, "timer_fired"),
        (5, "signal_received"),
        (6, "cancel_requested"),
        (7, "execution_recovered"),
        (8, "execution_cancelled"),
    ]
    assert [event.at.timestamp() for event in events] == [10.0, 10.0, 10.0, 20.5, 21.0, 22.0, 23.0, 23.0]
    assert events[0].at == datetime.fromtimestamp(10.0, UTC)
    assert events[4].data == {"name": "s", "arguments": [1], "named": {"a": 2}}


def test_an_update_is_told_with_its_name_and_its_answer_and_a_rejection_is_not() -> None:
    events = read(
        STARTED,
        UpdateAccepted(at=11.0, update_id="u", name="set", arguments=(1,), named={"a": 2}),
        UpdateAccepted(at=12.0, update_id="v", name="get"),
        UpdateRefused(at=13.0, update_id="w", failure=FAILURE),
        UpdateCompleted(update_id="v", failure=FAILURE),
        UpdateCompleted(update_id="u", result=[3]),
    )
    failure = FAILURE.model_dump(mode="json")
    assert [(event.position, event.kind, event.data) for event in events[1:]] == [
        (2, "update_accepted", {"id": "u", "name": "set", "arguments": [1], "named": {"a": 2}}),
        (3, "update_accepted", {"id": "v", "name": "get", "arguments": [], "named": {}}),
        (5, "update_failed", {"id": "v", "name": "get", "failure": failure}),
        (6, "update_completed", {"id": "u", "name": "set", "result": [3]}),
    ]


def test_an_attempt_that_failed_is_told_while_its_step_is_open() -> None:
    failed = AttemptFailed(at=11.0, key="1", attempt=1, failure=FAILURE, retry_at=12.0)
    (_, _, told) = read(STARTED, StepScheduled(key="1", kind=StepKind.ACTIVITY, name="n"), failed)
    assert (told.kind, told.data["attempt"]) == ("attempt_failed", 1)
    assert len(read(STARTED, failed)) == 1


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.FAILED, Status.CANCELLED])
def test_the_stream_ends_with_the_end_of_the_execution(status: Status) -> None:
    reader = EventReader()
    list(reader.read(STARTED))
    assert not reader.ended
    failure = FAILURE if status is Status.FAILED else None
    closed = ExecutionEnded(status=status, result=None, failure=failure)  # type: ignore[arg-type]  # the two agree
    (event,) = reader.read(closed)
    assert reader.ended
    assert event.kind == f"execution_{status}"
    assert (event.data["failure"] is None) == (failure is None)
