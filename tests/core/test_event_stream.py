"""The events that a reader makes from the records of a journal."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.core import events
from outlast.core.approvals import DECISION_SIGNAL
from outlast.core.entries import FunctionCall, entries
from outlast.core.errors import StorageCorrupt
from outlast.core.event_stream import Delta, Event, EventReader
from outlast.core.events import DATA, AnyEventData, EventData, EventKind
from outlast.core.failure import Failure
from outlast.core.json import JSON, canonical, encode
from outlast.core.records import (
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
from outlast.core.replies import arguments_in, parsed_arguments, with_own_call_ids
from outlast.core.step_keys import call_key, model_key, summary_key
from outlast.core.tool_output import ToolOutput
from tests.core.strategies import any_text, json_objects, json_values, nested, replies

FAILURE = Failure(kind="ValueError", message="no")
STARTED = ExecutionStarted(at=10.0, workflow="w", arguments={"n": 1})
TURN: dict[str, Any] = {"run": "r", "agent": "a", "turn": 1}
CALL: dict[str, Any] = {**TURN, "call_id": "c", "tool": "t"}
MODEL_KEY, CALL_KEY, SUMMARY_KEY = model_key("r", 1), call_key("r", 1, "c"), summary_key("r", 1)
KEYS = {
    StepKind.ACTIVITY: "0.0",
    StepKind.MODEL: MODEL_KEY,
    StepKind.TOOL: CALL_KEY,
    StepKind.SUMMARY: SUMMARY_KEY,
    StepKind.CHILD: "0.1",
}
EXISTS = ChildStarted(at=11.0, key="0.1", child="e/0.1")


def read(*records: AnyRecord) -> list[Event]:
    reader = EventReader()
    return [event for record in records for event in reader.read(record)]


def data_in(*records: AnyRecord) -> list[AnyEventData]:
    return [event.data for event in read(*records)]


def begun(kind: StepKind, **about: JSON) -> StepScheduled:
    about = {} if kind is StepKind.ACTIVITY else {"agent": "a", **about}
    return StepScheduled(key=KEYS[kind], kind=kind, name="t", about=about)


def completed(kind: StepKind, result: JSON = "r") -> StepCompleted:
    return StepCompleted(at=11.0, key=KEYS[kind], result=result)


def failed(kind: StepKind) -> StepFailed:
    return StepFailed(at=11.0, key=KEYS[kind], attempts=2, failure=FAILURE)


def emitted(data: AnyEventData) -> EventEmitted:
    return EventEmitted.of("event:1", data)


def asks(*calls: tuple[str, str]) -> list[AnyRecord]:
    """Return a turn of a model that calls tools, each by an id and with these arguments."""
    wire: list[JSON] = [
        {"type": "function.call", "tool_call_id": call_id, "name": "t", "arguments": arguments}
        for call_id, arguments in calls
    ]
    return [begun(StepKind.MODEL), completed(StepKind.MODEL, {"entries": wire})]


# Every kind --------------------------------------------------------------------------------------------

ABOUT: dict[StepKind, dict[str, Any]] = {
    StepKind.ACTIVITY: {"key": "0.0", "name": "t"},
    StepKind.MODEL: {"key": MODEL_KEY, **TURN},
    StepKind.TOOL: {"key": CALL_KEY, **CALL},
    StepKind.SUMMARY: {"key": SUMMARY_KEY, **TURN},
    StepKind.CHILD: {"key": "0.1", "workflow": "t", "child": "e/0.1"},
}
UPDATE = UpdateAccepted(at=11.0, update_id="u", name="set", arguments=(1,), named={"a": 2})
EMITTED: list[AnyEventData] = [
    events.ToolExecutedData(run="r", turn=1, tool="web_search", entry="e"),
    events.ResultUnsentData(run="r", call_id="c", text="cancelled"),
    events.HandedOffData(run="r", turn=1, from_agent="a", to_agent="b"),
    events.ApprovalRequestedData(**CALL, fingerprint="f", parameters={"type": "object"}),
    events.ApprovalGivenData(**CALL, reason="fine"),
    events.ApprovalDeniedData(**CALL),
    events.MessageSaidData(**TURN, text="Hurry.", by="Ann"),
    events.RunInterruptedData(**TURN, reason="too far", by="Ann"),
    events.QuestionAskedData(key="q", question="Why?", answer_schema={"type": "string"}, to="ops"),
    events.QuestionAnsweredData(key="q", answer="So.", by="Ann"),
    events.QuestionWithdrawnData(key="q"),
    events.ReplyCutData(**TURN, reason="length"),
    events.LimitReachedData(**TURN, limit="that was all"),
    events.AnswerRejectedData(**TURN, reason="no number"),
    events.GuardrailRejectedData(run="r", agent="a", of="input", guardrail="g", reason="secret"),
    events.GuardrailReplacedData(run="r", agent="a", of="output", guardrail="g", text="***"),
    events.PatchedData(patch="p"),
    events.TaggedData.of({"team": "blue", "draft": None}),
]
STORIES: list[tuple[list[AnyRecord], AnyEventData]] = [
    ([STARTED], events.ExecutionStartedData(workflow="w", arguments={"n": 1})),
    ([begun(StepKind.MODEL)], events.TurnStartedData(**ABOUT[StepKind.MODEL])),
    ([begun(StepKind.TOOL)], events.ToolCalledData(**ABOUT[StepKind.TOOL])),
    ([begun(StepKind.SUMMARY)], events.SummaryStartedData(**ABOUT[StepKind.SUMMARY])),
    (
        [begun(StepKind.ACTIVITY).with_(arguments={"x": 1})],
        events.ActivityStartedData(**ABOUT[StepKind.ACTIVITY], arguments={"x": 1}),
    ),
    (
        [begun(StepKind.ACTIVITY), completed(StepKind.ACTIVITY)],
        events.ActivityCompletedData(**ABOUT[StepKind.ACTIVITY], result="r"),
    ),
    (
        [begun(StepKind.MODEL), completed(StepKind.MODEL, {"entries": []})],
        events.ModelRepliedData(**ABOUT[StepKind.MODEL], result={"entries": []}),
    ),
    (
        [begun(StepKind.TOOL), completed(StepKind.TOOL, {"x": [1]})],
        events.ToolReturnedData(**ABOUT[StepKind.TOOL], result={"x": [1]}),
    ),
    (
        [begun(StepKind.SUMMARY), completed(StepKind.SUMMARY, {"entries": []})],
        events.SummaryMadeData(**ABOUT[StepKind.SUMMARY], result={"entries": []}),
    ),
    (
        [begun(StepKind.ACTIVITY), failed(StepKind.ACTIVITY)],
        events.ActivityFailedData(**ABOUT[StepKind.ACTIVITY], failure=FAILURE),
    ),
    (
        [begun(StepKind.MODEL), failed(StepKind.MODEL)],
        events.ModelFailedData(**ABOUT[StepKind.MODEL], failure=FAILURE),
    ),
    (
        [begun(StepKind.TOOL), failed(StepKind.TOOL)],
        events.ToolFailedData(**ABOUT[StepKind.TOOL], failure=FAILURE),
    ),
    (
        [begun(StepKind.SUMMARY), failed(StepKind.SUMMARY)],
        events.SummaryFailedData(**ABOUT[StepKind.SUMMARY], failure=FAILURE),
    ),
    ([begun(StepKind.CHILD), EXISTS], events.ChildStartedData(**ABOUT[StepKind.CHILD])),
    (
        [begun(StepKind.CHILD), EXISTS, completed(StepKind.CHILD)],
        events.ChildCompletedData(**ABOUT[StepKind.CHILD], result="r"),
    ),
    (
        [begun(StepKind.CHILD), EXISTS, failed(StepKind.CHILD)],
        events.ChildFailedData(**ABOUT[StepKind.CHILD], failure=FAILURE),
    ),
    ([TimerStarted(key="k", due_at=20.0)], events.TimerStartedData(key="k", due_at=20.0)),
    ([TimerFired(at=20.0, key="k")], events.TimerFiredData(key="k")),
    (
        [SignalReceived(at=21.0, message_id="m", name="s", arguments=(1,), named={"a": 2})],
        events.SignalReceivedData(name="s", arguments=(1,), named={"a": 2}),
    ),
    ([UPDATE], events.UpdateAcceptedData(id="u", name="set", arguments=(1,), named={"a": 2})),
    (
        [UPDATE, UpdateCompleted(update_id="u", result=[3])],
        events.UpdateCompletedData(id="u", name="set", result=[3]),
    ),
    (
        [UPDATE, UpdateCompleted(update_id="u", failure=FAILURE)],
        events.UpdateFailedData(id="u", name="set", failure=FAILURE),
    ),
    ([CancelRequested(at=22.0, message_id="n")], events.CancelRequestedData()),
    (
        [ExecutionRecovered(at=23.0, worker="w-1", last_words="stack", successor="w-2")],
        events.ExecutionRecoveredData(worker="w-1", successor="w-2", last_words="stack"),
    ),
    ([ExecutionHeld(at=23.0, reason="why")], events.ExecutionHeldData(reason="why")),
    ([ExecutionPaused(at=23.0, reason="why")], events.ExecutionPausedData(reason="why")),
    ([ExecutionResumed(at=23.0)], events.ExecutionResumedData()),
    ([ExecutionEnded(status=Status.COMPLETED, result=[1])], events.ExecutionCompletedData(result=[1])),
    (
        [ExecutionEnded(status=Status.FAILED, failure=FAILURE)],
        events.ExecutionFailedData(failure=FAILURE),
    ),
    ([ExecutionEnded(status=Status.CANCELLED)], events.ExecutionCancelledData()),
    (
        [ExecutionEnded(status=Status.TERMINATED, reason="enough")],
        events.ExecutionTerminatedData(reason="enough"),
    ),
    (
        [ExecutionReopened(at=24.0, position=3, failed=("k",))],
        events.ExecutionReopenedData(valid=3, failed=("k",)),
    ),
    (
        [ExecutionForked(at=24.0, source="e", position=3, edited=("k",))],
        events.ExecutionForkedData(source="e", source_position=3, edited=("k",)),
    ),
    (
        [
            begun(StepKind.ACTIVITY),
            AttemptFailed(at=11.0, key="0.0", attempt=1, failure=FAILURE, retry_at=12.0),
        ],
        events.AttemptFailedData(key="0.0", name="t", attempt=1, failure=FAILURE),
    ),
]
STORIES += [([emitted(data)], data) for data in EMITTED]
"""Records, and the event that the last of them is."""


@pytest.mark.parametrize(("records", "data"), STORIES, ids=[data.kind for _, data in STORIES])
def test_a_record_is_an_event_with_its_data(records: list[AnyRecord], data: AnyEventData) -> None:
    *_, event = read(*records)
    assert event.kind is data.kind
    assert type(event.data) is DATA[event.kind]
    assert event.data == data


def test_every_kind_is_read_from_records_but_text_which_comes_from_deltas() -> None:
    assert {data.kind for _, data in STORIES} == {*EventKind} - {EventKind.TEXT_DELTA}
    reader = EventReader()
    list(reader.read(begun(StepKind.MODEL)))
    reader.take_text([Delta(MODEL_KEY, 2, 1, "Rain", 30.0)])
    [event] = reader.text()
    assert event.data == events.TextDeltaData(**ABOUT[StepKind.MODEL], attempt=2, sequence=1, text="Rain")
    assert event.at == datetime.fromtimestamp(30.0, UTC)


def test_text_is_taken_while_a_model_is_asked_and_not_after_its_reply() -> None:
    reader = EventReader()
    assert not reader.awaits_reply
    list(reader.read(begun(StepKind.MODEL)))
    assert reader.awaits_reply
    list(reader.read(completed(StepKind.MODEL, {"entries": []})))
    assert not reader.awaits_reply
    reader.take_text([Delta(MODEL_KEY, 1, 1, "too late", 30.0)])
    assert list(reader.text()) == []


def test_an_event_has_the_position_of_its_record_and_the_time_of_what_caused_it() -> None:
    found = read(
        STARTED,
        TimerStarted(key="t", due_at=20.0),
        emitted(events.PatchedData(patch="p")),
        TimerFired(at=20.5, key="t"),
        UpdateNotAccepted(at=21.0, update_id="w", failure=FAILURE),
        SignalReceived(at=21.5, message_id="m", name=DECISION_SIGNAL),
        CancelRequested(at=22.0, message_id="n"),
        ExecutionEnded(status=Status.CANCELLED),
    )
    assert [(event.position, event.kind) for event in found] == [
        (1, EventKind.EXECUTION_STARTED),
        (2, EventKind.TIMER_STARTED),
        (3, EventKind.PATCHED),
        (4, EventKind.TIMER_FIRED),
        (7, EventKind.CANCEL_REQUESTED),
        (8, EventKind.EXECUTION_CANCELLED),
    ]
    assert [event.at.timestamp() for event in found] == [10.0, 10.0, 10.0, 20.5, 22.0, 22.0]
    assert found[0].at == datetime.fromtimestamp(10.0, UTC)


def test_an_attempt_that_is_not_a_record_has_the_position_of_the_event_before_it() -> None:
    reader, failed = EventReader(), AttemptFailed(at=11.0, key="0.0", attempt=1, failure=FAILURE, retry_at=12)
    assert list(reader.read_beside(failed)) == []
    begun = list(reader.read(StepScheduled(key="0.0", kind=StepKind.ACTIVITY, name="t")))
    [event] = reader.read_beside(failed)
    assert event.data == events.AttemptFailedData(key="0.0", name="t", attempt=1, failure=FAILURE)
    assert (event.position, event.at.timestamp()) == (begun[0].position, 11.0)
    [after] = reader.read(StepCompleted(at=13.0, key="0.0", result=None))
    assert after.position == event.position + 1


def test_an_attempt_that_failed_is_an_event_while_its_step_is_open() -> None:
    for kind in (StepKind.MODEL, StepKind.TOOL, StepKind.SUMMARY):
        attempt = AttemptFailed(at=11.0, key=KEYS[kind], attempt=1, failure=FAILURE, retry_at=12.0)
        about = ABOUT[kind]
        source = {"source": "s"} if kind is StepKind.TOOL else {}
        *_, data = data_in(begun(kind, **source), attempt)
        assert data == events.AttemptFailedData(**about, name="t", attempt=1, failure=FAILURE)
        assert data_in(begun(kind), completed(kind, {}), attempt)[2:] == []


def test_a_record_that_corrects_the_date_of_the_next_attempt_is_no_event() -> None:
    first = AttemptFailed(at=11.0, key=KEYS[StepKind.TOOL], attempt=1, failure=FAILURE, retry_at=12.0)
    again = first.model_copy(update={"at": 9.0, "retry_at": 10.0})
    second = first.model_copy(update={"attempt": 2})
    told = data_in(begun(StepKind.TOOL), first, again, second)
    failed = [data.attempt for data in told if isinstance(data, events.AttemptFailedData)]
    assert failed == [1, 2]


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.FAILED, Status.CANCELLED])
def test_the_stream_ends_with_the_end_of_the_execution(status: Status) -> None:
    reader = EventReader()
    list(reader.read(STARTED))
    assert not reader.ended
    failure = FAILURE if status is Status.FAILED else None
    ended = ExecutionEnded(status=status, result=None, failure=failure)  # type: ignore[arg-type]  # the two agree
    (event,) = reader.read(ended)
    assert reader.ended
    assert event.kind == f"execution_{status}"


@pytest.mark.parametrize(
    "record",
    [
        EventEmitted(key="event:1", kind="mood", data={}),
        EventEmitted(key="event:1", kind="patched", data={"patch": 1}),
        StepScheduled(key="nowhere", kind=StepKind.TOOL, name="t"),
        StepScheduled(key=MODEL_KEY, kind=StepKind.MODEL, name="t"),
        ExecutionEnded(status=Status.FAILED),
    ],
)
def test_a_record_of_which_no_event_can_be_made_says_where_it_is(record: AnyRecord) -> None:
    with pytest.raises(StorageCorrupt, match="record 2 of a journal cannot be read as an event"):
        read(STARTED, record)


# Arguments ---------------------------------------------------------------------------------------------


@given(arguments=json_objects)
def test_arguments_are_an_object_however_the_call_is_made(arguments: dict[str, JSON]) -> None:
    written = encode(arguments).decode()
    for call in (begun(StepKind.TOOL), emitted(events.ToolCalledData(**CALL))):
        called = data_in(*asks(("c", written)), call)[-1]
        assert isinstance(called, events.ToolCalledData)
        assert canonical(called.arguments) == canonical(arguments)
        assert called.arguments_text is None


@given(arguments=any_text)
def test_arguments_that_are_not_an_object_are_shown_as_the_model_wrote_them(arguments: str) -> None:
    for asked in (events.ToolCalledData(**CALL), events.ApprovalRequestedData(**CALL, fingerprint="f")):
        *_, data = data_in(*asks(("c", arguments)), emitted(asked))
        assert isinstance(data, events.AskedCallData)
        if parsed_arguments(arguments) is None:
            assert (data.arguments, data.arguments_text) == ({}, arguments)
        else:
            assert (data.arguments, data.arguments_text) == ({}, None)


def test_a_person_sees_the_arguments_before_the_call_and_a_call_is_made_with_the_edited_ones() -> None:
    requested = events.ApprovalRequestedData(**CALL, fingerprint="f")
    allowed = events.ApprovalGivenData(**CALL, edited_arguments={"to": "Bob"})
    *_, asked, approved, called = data_in(
        *asks(("c", '{"to": "Ann"}')), emitted(requested), emitted(allowed), begun(StepKind.TOOL)
    )
    assert asked == requested.with_(arguments={"to": "Ann"})
    assert approved == allowed.with_(arguments={"to": "Ann"})
    assert called == events.ToolCalledData(**ABOUT[StepKind.TOOL], arguments={"to": "Bob"})


def test_edited_arguments_count_also_where_the_reply_was_not_read() -> None:
    approved = events.ApprovalGivenData(**CALL, edited_arguments={})
    *_, called = data_in(emitted(approved), begun(StepKind.TOOL))
    assert called == events.ToolCalledData(**ABOUT[StepKind.TOOL])


def test_arguments_are_those_of_the_own_run_and_of_its_last_reply() -> None:
    other = begun(StepKind.TOOL).with_(key=call_key("other", 1, "c"))
    *_, of_other, of_own = data_in(
        *asks(("c", '{"n": 1}')), *asks(("c", '{"n": 2}')), other, begun(StepKind.TOOL)
    )
    assert isinstance(of_other, events.ToolCalledData)
    assert isinstance(of_own, events.ToolCalledData)
    assert (of_other.arguments, of_own.arguments) == ({}, {"n": 2})


@given(reply=replies)
def test_the_calls_of_a_reply_are_found_without_making_entries_of_it(reply: Any) -> None:
    written: list[JSON] = [entry.to_wire() for entry in reply]
    found = arguments_in({"entries": written})
    whole = with_own_call_ids(entries.validate_python(written))
    assert found == {
        entry.tool_call_id: entry.arguments for entry in whole if isinstance(entry, FunctionCall)
    }


@given(reply=st.dictionaries(st.just("entries") | any_text, st.lists(json_values, max_size=2), max_size=2))
def test_a_reply_that_is_not_valid_has_no_calls(reply: dict[str, Any]) -> None:
    assert arguments_in(reply) == {}


# Results -----------------------------------------------------------------------------------------------


@given(result=json_values)
def test_a_result_is_the_value_that_it_was(result: JSON) -> None:
    *_, of_step = data_in(begun(StepKind.TOOL), completed(StepKind.TOOL, result))
    returned = events.ToolReturnedData(**CALL, result=result)
    *_, of_function = data_in(emitted(returned))
    for data in (of_step, of_function):
        assert isinstance(data, events.ToolReturnedData)
        assert canonical(data.result) == canonical(result)


TEXT = [{"type": "text", "text": "2 "}, {"type": "text", "text": "days"}]
IMAGE = [{"type": "image_url", "image_url": "data:image/png;base64,AA"}]


@pytest.mark.parametrize(
    ("output", "result"),
    [
        (ToolOutput(content="sunny"), "sunny"),
        (ToolOutput(content=""), ""),
        (ToolOutput(content="", structured=[1]), [1]),
        (ToolOutput(content='{"days":2}', structured={"days": 2}), {"days": 2}),
        (ToolOutput.model_validate({"content": TEXT}), "2 days"),
        (ToolOutput.model_validate({"content": IMAGE}), IMAGE),
    ],
)
def test_the_result_of_a_source_is_its_structure_or_its_content(output: ToolOutput, result: JSON) -> None:
    source = begun(StepKind.TOOL, source="server")
    *_, data = data_in(source, completed(StepKind.TOOL, output.to_data("json")))
    assert data == events.ToolReturnedData(**ABOUT[StepKind.TOOL], source="server", result=result)


def test_an_error_that_a_source_reports_is_a_failure() -> None:
    output = ToolOutput(content="no such city", is_error=True)
    source = begun(StepKind.TOOL, source="server")
    *_, data = data_in(source, completed(StepKind.TOOL, output.to_data("json")))
    failure = Failure(kind="ToolError", message="no such city")
    assert data == events.ToolFailedData(**ABOUT[StepKind.TOOL], source="server", failure=failure)


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (ToolOutput(content="sunny"), "sunny"),
        (ToolOutput(content=""), ""),
        (ToolOutput(content="", structured={"days": 2}), '{"days":2}'),
        (ToolOutput(content="", structured="two"), "two"),
        (ToolOutput(content="two days", structured={"days": 2}), "two days"),
        (ToolOutput.model_validate({"content": TEXT}), "2 days"),
        (ToolOutput.model_validate({"content": IMAGE}), encode(IMAGE).decode()),  # type: ignore[arg-type]  # JSON
        (
            ToolOutput.model_validate({"content": [{"type": "image_url", "image_url": "A" * 2000}]}),
            '[{"type":"image_url","image_url":"' + "A" * 40 + '… (2000 characters, not shown)"}]',
        ),
    ],
)
def test_a_model_reads_the_content_of_an_output_without_the_bytes_of_images(
    output: ToolOutput, text: str
) -> None:
    assert output.text == text


def test_the_deepest_result_that_a_record_can_carry_is_read() -> None:
    *_, data = data_in(begun(StepKind.ACTIVITY), completed(StepKind.ACTIVITY, nested(100)))
    assert isinstance(data, EventData)
    assert data == events.ActivityCompletedData(**ABOUT[StepKind.ACTIVITY], result=nested(100))
