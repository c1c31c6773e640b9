"""An execution as a trace: the same in every process, nothing twice, and one tree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.core import events
from outlast.core.failure import Failure
from outlast.core.json import JSON
from outlast.core.records import (
    INPUTS,
    AnyRecord,
    AttemptFailed,
    EventEmitted,
    ExecutionEnded,
    ExecutionForked,
    ExecutionRecovered,
    ExecutionReopened,
    ExecutionStarted,
    SignalReceived,
    Status,
    StepCompleted,
    StepFailed,
    StepKind,
    StepScheduled,
    UpdateAccepted,
    UpdateCompleted,
)
from outlast.core.reruns import forked
from outlast.core.spans import (
    ABANDONED,
    WORKER_LOST,
    Operation,
    Span,
    SpanReader,
    attempt_context,
    trace_in,
    trace_of,
)
from outlast.core.step_keys import call_key, model_key
from outlast.core.trace_context import TraceContext
from tests.core.programs import Recording, executions
from tests.core.test_reopened_stream import Journal, journals

FAILURE = Failure(kind="ValueError", message="no")
STARTED = ExecutionStarted(at=1.0, workflow="w", arguments={})
CALLER = TraceContext(0xABC, 0xDEF)


def new_spans(records: Sequence[AnyRecord], written: int = 0, execution_id: str = "e-1") -> list[Span]:
    """Return the spans that a process makes which takes over when so many records are written.

    It reads these, then it writes the others, each input together with what follows from it.
    """
    reader, spans = SpanReader(execution_id), list[Span]()
    for position, record in enumerate(records, 1):
        spans += reader.read(record)
        if position == len(records) or isinstance(records[position], INPUTS):
            spans += reader.come_to_rest()
        if position == written:
            spans = []
    return spans


def spans_of(records: Sequence[AnyRecord], execution_id: str = "e-1") -> list[Span]:
    """Return all spans of an execution, as one process makes them that writes the whole journal."""
    return new_spans(records, 0, execution_id)


def boundaries(records: Sequence[AnyRecord]) -> list[int]:
    """Return the numbers of records after which another process can take over."""
    return [
        0,
        *(position for position, record in enumerate(records) if isinstance(record, INPUTS)),
        len(records),
    ]


def ended(*records: AnyRecord) -> list[AnyRecord]:
    return [STARTED, *records, ExecutionEnded(status=Status.COMPLETED, result=1)]


def by_operation(spans: Sequence[Span], operation: Operation) -> list[Span]:
    return [span for span in spans if span.operation is operation]


def check_tree(spans: Sequence[Span]) -> None:
    """Every span has an id of its own, and its parent is another span of the trace."""
    ids = [span.context for span in spans]
    assert len(ids) == len(set(ids)), "two spans have one id"
    for span in spans:
        assert span.began_at <= span.ended_at
        assert span.parent is None or span.parent in ids or span.parent == CALLER
        assert span.operation is Operation.INVOKE_WORKFLOW or span.parent is not None


# Any execution -----------------------------------------------------------------------------------------


@given(executions(complete=True))
def test_each_attempt_of_any_execution_is_one_span_of_one_tree(recording: Recording) -> None:
    spans = spans_of(recording.journal)
    check_tree(spans)
    [root] = by_operation(spans, Operation.INVOKE_WORKFLOW)
    assert root.context == trace_of("e-1")
    assert root.parent is None
    begun = {(key, number) for key, attempts in recording.attempts.items() for number, _ in attempts}
    shown = {
        (str(span.attributes["outlast.step.key"]), span.attributes["outlast.attempt"])
        for span in by_operation(spans, Operation.RUN_ACTIVITY)
    }
    steps = {record.key for record in recording.journal if isinstance(record, StepScheduled)}
    assert {key for key, _ in shown} == steps
    assert begun <= shown
    completed = sum(isinstance(record, StepCompleted) for record in recording.journal)
    assert sum(span.error is None for span in by_operation(spans, Operation.RUN_ACTIVITY)) == completed
    updates = sum(isinstance(record, UpdateCompleted) for record in recording.journal)
    assert len(by_operation(spans, Operation.HANDLE_UPDATE)) == updates


@given(executions(), st.data())
def test_a_process_that_takes_over_goes_on_with_the_same_trace(
    recording: Recording, data: st.DataObject
) -> None:
    journal = recording.journal
    cut = data.draw(st.sampled_from(boundaries(journal)))
    assert spans_of(journal) == [*spans_of(journal[:cut]), *new_spans(journal, cut)]


@given(journals(), st.data())
def test_that_holds_for_runs_of_agents_that_were_opened_again(journal: Journal, data: st.DataObject) -> None:
    records = journal.records
    cut = data.draw(st.sampled_from(boundaries(records)))
    assert spans_of(records) == [*spans_of(records[:cut]), *new_spans(records, cut)]
    check_tree(spans_of([*records, ExecutionEnded(status=Status.COMPLETED)]))


@given(executions(complete=True), st.data())
def test_a_fork_is_a_trace_of_its_own_and_shows_only_what_is_new(
    recording: Recording, data: st.DataObject
) -> None:
    at = data.draw(st.integers(1, len(recording.journal) - 1))
    copied = forked("e-1", recording.journal, 5000.0, position=at, again=True)
    news: list[AnyRecord] = [
        StepCompleted(at=6000.0, key="0.0", result=1),
        ExecutionEnded(status=Status.COMPLETED),
    ]
    spans = new_spans([*copied, *news], len(copied), "e-2")
    check_tree(spans)
    root = by_operation(spans, Operation.INVOKE_WORKFLOW)[0]
    assert root.links == (trace_of("e-1"),)
    assert {span.context.trace_id for span in spans} == {trace_of("e-2").trace_id}
    assert all(span.began_at >= 5000.0 for span in spans)


# One thing at a time -----------------------------------------------------------------------------------


def model(run: str, turn: int, agent: str = "a", model: str | None = "m") -> StepScheduled:
    key = model_key(run, turn)
    return StepScheduled(key=key, kind=StepKind.MODEL, name="session", about={"agent": agent}, model=model)


def tool(run: str, turn: int, call_id: str = "c") -> StepScheduled:
    about = {"agent": "a", "tool": "t"}
    return StepScheduled(
        key=call_key(run, turn, call_id), kind=StepKind.TOOL, name="t", arguments={"n": 1}, about=dict(about)
    )


def activity(key: str = "0.0") -> StepScheduled:
    return StepScheduled(key=key, kind=StepKind.ACTIVITY, name="send", arguments={"n": 1})


REPLY: dict[str, JSON] = {
    "entries": [],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}


def test_a_run_is_a_span_around_its_turns_and_calls() -> None:
    records = ended(
        model("run:0", 1),
        StepCompleted(at=2.0, key=model_key("run:0", 1), result=REPLY),
        tool("run:0", 1),
        StepCompleted(at=4.0, key=call_key("run:0", 1, "c"), result="r"),
        model("run:0", 2, model=None),
        StepCompleted(at=5.0, key=model_key("run:0", 2), result=REPLY),
        SignalReceived(at=9.0, message_id="m", name="s"),
    )
    spans = spans_of(records)
    check_tree(spans)
    [run] = by_operation(spans, Operation.INVOKE_AGENT)
    assert (run.name, run.began_at, run.ended_at, run.seconds) == ("invoke_agent a", 1.0, 5.0, 4.0)
    assert run.attributes["gen_ai.usage.input_tokens"] == 6
    assert run.attributes["gen_ai.usage.output_tokens"] == 4
    first, second = by_operation(spans, Operation.CHAT)
    assert (first.name, second.name) == ("chat m", "chat session")
    assert first.attributes["gen_ai.usage.input_tokens"] == 3
    said = {"role": "assistant", "parts": [], "finish_reason": "stop"}
    assert first.content == {"gen_ai.output.messages": [said]}
    [call] = by_operation(spans, Operation.EXECUTE_TOOL)
    assert (call.name, call.began_at, call.ended_at) == ("execute_tool t", 2.0, 4.0)
    assert call.attributes["gen_ai.tool.call.id"] == "c"
    assert call.content == {"gen_ai.tool.call.arguments": {"n": 1}, "gen_ai.tool.call.result": "r"}
    assert {span.parent for span in (first, second, call)} == {run.context}
    assert run.parent == trace_of("e-1")


def test_each_agent_of_a_run_has_a_span_of_its_own() -> None:
    records = ended(
        model("run:0", 1),
        StepCompleted(at=2.0, key=model_key("run:0", 1), result=REPLY),
        model("run:0", 2, agent="b"),
        StepCompleted(at=3.0, key=model_key("run:0", 2), result=REPLY),
    )
    spans = spans_of(records)
    check_tree(spans)
    assert [span.subject for span in by_operation(spans, Operation.INVOKE_AGENT)] == ["a", "b"]


def test_a_run_within_a_run_has_that_as_its_parent() -> None:
    inner = "run:0/run:1"
    records = ended(
        model("run:0", 1),
        model(inner, 1, agent="b"),
        StepCompleted(at=2.0, key=model_key(inner, 1), result={"usage": {"prompt_tokens": "many"}}),
        StepCompleted(at=3.0, key=model_key("run:0", 1), result={"usage": None}),
    )
    spans = spans_of(records)
    check_tree(spans)
    within, around = by_operation(spans, Operation.INVOKE_AGENT)
    assert (within.subject, around.subject) == ("b", "a")
    assert within.parent == around.context
    assert "gen_ai.usage.input_tokens" not in around.attributes


@pytest.mark.parametrize("was", [events.ApprovalGivenData, events.ApprovalDeniedData])
def test_a_call_that_waits_for_a_person_keeps_its_run_open(
    was: type[events.ApprovalGivenData | events.ApprovalDeniedData],
) -> None:
    about = {"run": "run:0", "agent": "a", "turn": 1, "call_id": "c", "tool": "t"}
    asked = events.ApprovalRequestedData.model_validate(about | {"fingerprint": "f"})
    decided = EventEmitted.of("d", was.model_validate(about))
    records = ended(
        model("run:0", 1),
        StepCompleted(at=2.0, key=model_key("run:0", 1), result=REPLY),
        EventEmitted.of("a", asked),
        SignalReceived(at=60.0, message_id="m", name="decide"),
        decided,
        decided,
        EventEmitted(key="other", kind="text", data={}),
    )
    spans = spans_of(records)
    check_tree(spans)
    [waiting] = by_operation(spans, Operation.AWAIT_APPROVAL)
    assert (waiting.began_at, waiting.ended_at) == (2.0, 60.0)
    assert waiting.attributes["outlast.approval"] == was.kind
    [run] = by_operation(spans, Operation.INVOKE_AGENT)
    assert (waiting.parent, run.ended_at) == (run.context, 60.0)


def test_an_approval_outside_of_a_known_run_belongs_to_the_execution() -> None:
    about = {"run": "run:7", "agent": "a", "turn": 1, "call_id": "c", "tool": "t"}
    asked = events.ApprovalRequestedData.model_validate(about | {"fingerprint": "f"})
    decided = events.ApprovalGivenData.model_validate(about)
    spans = spans_of(ended(EventEmitted.of("a", asked), EventEmitted.of("d", decided)))
    check_tree(spans)
    assert by_operation(spans, Operation.AWAIT_APPROVAL)[0].parent == trace_of("e-1")


def test_a_crash_ends_the_attempt_that_was_under_way_and_not_one_that_backs_off() -> None:
    failed = AttemptFailed(at=2.0, key="0.1", attempt=1, failure=FAILURE, retry_at=100.0)
    records = ended(
        activity("0.0"),
        activity("0.1"),
        failed,
        ExecutionRecovered(at=30.0),
        failed.with_(at=31.0, retry_at=40.0),
        StepCompleted(at=50.0, key="0.0", result=1),
        StepCompleted(at=51.0, key="0.1", result=1),
    )
    spans = spans_of(records)
    check_tree(spans)
    assert [
        (span.attributes["outlast.step.key"], span.attributes["outlast.attempt"], span.error, span.began_at)
        for span in by_operation(spans, Operation.RUN_ACTIVITY)
    ] == [
        ("0.1", 1, "ValueError", 1.0),
        ("0.0", 1, WORKER_LOST, 1.0),
        ("0.0", 2, None, 30.0),
        ("0.1", 2, None, 40.0),
    ]


def test_an_attempt_that_never_began_is_no_span() -> None:
    lost: list[AnyRecord] = [activity(), ExecutionRecovered(at=5.0)]
    spans = spans_of(ended(*lost, StepFailed(at=6.0, key="0.0", attempts=1, failure=FAILURE)))
    assert [span.error for span in by_operation(spans, Operation.RUN_ACTIVITY)] == [WORKER_LOST]
    # Records of steps that nobody knows say nothing.
    strays: list[AnyRecord] = [
        StepCompleted(at=7.0, key="x", result=1),
        StepFailed(at=7.0, key="x", attempts=1, failure=FAILURE),
        AttemptFailed(at=7.0, key="x", attempt=1, failure=FAILURE, retry_at=8.0),
        UpdateCompleted(update_id="x"),
    ]
    assert len(spans_of(ended(*strays))) == 1


def test_a_step_that_is_open_at_the_end_is_abandoned() -> None:
    waiting = AttemptFailed(at=2.0, key="0.1", attempt=1, failure=FAILURE, retry_at=100.0)
    spans = spans_of(ended(activity("0.0"), activity("0.1"), waiting))
    assert [span.error for span in by_operation(spans, Operation.RUN_ACTIVITY)] == ["ValueError", ABANDONED]


def test_a_retry_adds_to_the_trace_and_shows_the_attempts_before_it() -> None:
    began: list[AnyRecord] = [STARTED, activity("0.0"), activity("0.1")]
    failed: list[AnyRecord] = [
        *began,
        StepFailed(at=4.0, key="0.0", attempts=1, failure=FAILURE),
        ExecutionEnded(status=Status.FAILED, failure=FAILURE),
    ]
    reopened = ExecutionReopened(
        at=50.0, position=3, failed=("0.0",), open=(activity("0.0"), activity("0.1"), activity("0.2"))
    )
    records: list[AnyRecord] = [
        *failed,
        reopened,
        StepCompleted(at=60.0, key="0.0", result=1),
        StepCompleted(at=60.0, key="0.1", result=1),
        StepCompleted(at=60.0, key="0.2", result=1),
        ExecutionEnded(status=Status.COMPLETED, result=1),
    ]
    spans = spans_of(records)
    check_tree(spans)
    first, second = by_operation(spans, Operation.INVOKE_WORKFLOW)
    assert (first.error, second.error, second.links) == ("ValueError", None, (first.context,))
    assert second.began_at == 50.0
    assert [
        (span.attributes["outlast.step.key"], span.attributes["outlast.attempt"], span.error)
        for span in by_operation(spans, Operation.RUN_ACTIVITY)
    ] == [
        ("0.0", 1, "ValueError"),
        ("0.1", 1, ABANDONED),
        ("0.0", 1, None),
        ("0.1", 2, None),
        ("0.2", 1, None),
    ]


def test_a_step_that_still_backs_off_when_it_is_opened_again_keeps_its_number() -> None:
    records: list[AnyRecord] = [
        STARTED,
        activity(),
        AttemptFailed(at=2.0, key="0.0", attempt=1, failure=FAILURE, retry_at=100.0),
        ExecutionEnded(status=Status.TERMINATED, reason="why"),
        ExecutionReopened(at=50.0, position=3, open=(activity(),)),
        StepCompleted(at=110.0, key="0.0", result=1),
    ]
    [*_, last] = spans_of(records)
    assert (last.attributes["outlast.attempt"], last.began_at) == (2, 100.0)


@pytest.mark.parametrize("status", [Status.CANCELLED, Status.TERMINATED])
def test_an_end_that_somebody_asked_for_is_an_error_of_that_name(
    status: Literal[Status.CANCELLED, Status.TERMINATED],
) -> None:
    [root] = spans_of([STARTED, ExecutionEnded(status=status)])
    assert (root.error, root.attributes["outlast.execution.status"]) == (status.value, status.value)


def test_an_execution_is_a_part_of_its_callers_trace() -> None:
    started = STARTED.with_(trace=CALLER.traceparent)
    spans = spans_of([started, activity(), ExecutionEnded(status=Status.COMPLETED)])
    check_tree(spans)
    assert {span.context.trace_id for span in spans} == {CALLER.trace_id}
    assert spans[-1].parent == CALLER
    assert trace_in("e-1", [started, activity()]) == CALLER
    copy = ExecutionForked(at=9.0, source="e-1", position=2)
    assert trace_in("e-2", [started, activity(), copy]) == trace_of("e-2")
    assert trace_in("e-1", [STARTED]) == trace_in("e-1", []) == trace_of("e-1")
    [_, root] = spans_of([started, activity(), copy, ExecutionEnded(status=Status.COMPLETED)], "e-2")
    assert root.parent is None
    assert root.links == (TraceContext(CALLER.trace_id, trace_of("e-1").span_id),)


def test_an_update_is_a_span_from_its_acceptance_to_its_answer() -> None:
    records = ended(
        UpdateAccepted(at=2.0, update_id="u", name="set"),
        UpdateAccepted(at=3.0, update_id="v", name="set"),
        UpdateCompleted(update_id="u", result=1),
        UpdateCompleted(update_id="v", failure=FAILURE),
    )
    first, second = by_operation(spans_of(records), Operation.HANDLE_UPDATE)
    assert (first.name, first.began_at, first.ended_at, first.error) == ("handle_update set", 2.0, 3.0, None)
    assert second.error == "ValueError"


def test_a_model_call_outside_of_a_run_is_shown_all_the_same() -> None:
    call = StepScheduled(key="0.0", kind=StepKind.MODEL, name="session")
    [span, _] = spans_of(ended(call, StepCompleted(at=2.0, key="0.0", result=REPLY)))
    assert (span.name, span.parent) == ("chat session", trace_of("e-1"))
    assert span.attributes["gen_ai.usage.output_tokens"] == 2


def test_a_list_of_tools_is_no_part_of_a_run() -> None:
    listing = StepScheduled(key="tools", kind=StepKind.TOOL, name="list tools")
    [span, _] = spans_of(ended(listing, StepCompleted(at=2.0, key="tools", result=1)))
    assert (span.name, span.parent) == ("execute_tool list tools", trace_of("e-1"))


@pytest.mark.parametrize("caller", [None, CALLER])
def test_a_run_in_a_plain_script_has_no_execution_around_it(caller: TraceContext | None) -> None:
    reader = SpanReader.of_run("r-1", caller, 5.0)
    spans: list[Span] = []
    key = model_key("run:0", 1)
    for batch in ([model("run:0", 1)], [StepCompleted(at=7.0, key=key, result=REPLY)]):
        for record in batch:
            spans += reader.read(record)
        spans += reader.come_to_rest()
    chat, run = spans
    assert (run.parent, chat.parent) == (caller, run.context)
    assert (run.began_at, run.ended_at) == (5.0, 7.0)
    trace = trace_of("r-1") if caller is None else caller
    assert {span.context.trace_id for span in spans} == {trace.trace_id}
    assert chat.context == attempt_context(trace, f"r-1/{key}", 1)
    assert not any("outlast.execution.id" in span.attributes for span in spans)


# Contexts ----------------------------------------------------------------------------------------------


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans())
def test_a_context_survives_as_text(trace_id: int, span_id: int, sampled: bool) -> None:
    context = TraceContext(trace_id, span_id, sampled)
    assert TraceContext.of(context.traceparent) == context


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        f"00-{0:032x}-{1:016x}-01",
        f"00-{1:032x}-{0:016x}-01",
        f"ff-{1:032x}-{1:016x}-01",
        "00-xyz-1-01",
    ],
)
def test_what_is_no_context_is_left_alone(text: str) -> None:
    assert TraceContext.of(text) is None
    assert trace_in("e-1", [STARTED.with_(trace=text)]) == trace_of("e-1")
    assert spans_of([STARTED.with_(trace=text), ExecutionEnded(status=Status.COMPLETED)])[0].parent is None


def test_attempts_at_one_step_have_different_ids() -> None:
    ids = {attempt_context(CALLER, key, number) for key in ("e-1/0.0", "e-1/0.1") for number in (1, 2)}
    assert len(ids) == 4
