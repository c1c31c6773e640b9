"""The timeline of an execution: each step once, no two bars in one place, and sums that are the usage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.core import events
from outlast.core.event_stream import Event, EventReader
from outlast.core.events import AnyEventData, EventKind
from outlast.core.failure import Failure
from outlast.core.records import AnyRecord, EventEmitted, StepScheduled
from outlast.core.timeline import (
    MARKS,
    WAITS,
    WORKFLOW_CODE,
    Bar,
    BarKind,
    BarState,
    Begins,
    Ends,
    Lane,
    Point,
    Timeline,
    edge_of,
    rows_of,
)
from outlast.core.usage import Usage, usage_in
from outlast.core.waiting import overview_in
from tests.core.programs import Recording, executions
from tests.core.strategies import any_event_data, data_of_kind
from tests.core.test_reopened_stream import Journal, journals

AT = datetime(2026, 11, 29, 10, tzinfo=UTC)
FAILURE = Failure(kind="LookupError", message="no")
STEPS = {BarKind.MODEL, BarKind.SUMMARY, BarKind.TOOL, BarKind.ACTIVITY}


def timeline_of(read: Iterable[Event]) -> Timeline:
    timeline = Timeline()
    for event in read:
        timeline.take(event)
    return timeline


def read(records: Sequence[AnyRecord]) -> list[Event]:
    reader = EventReader()
    return [event for record in records for event in reader.read(record)]


def after(*timed: tuple[float, AnyEventData]) -> Timeline:
    """Return the timeline of events that came so many seconds after the first."""
    return timeline_of(
        Event(position, AT + timedelta(seconds=seconds), data)
        for position, (seconds, data) in enumerate(timed, 1)
    )


def check_rows(timeline: Timeline) -> None:
    """Each bar stands in one row of its lane, and no two of a row are under way at the same time."""
    shown = []
    for lane in timeline.lanes():
        assert list(lane.bars)
        for row in lane.rows:
            for bar, following in pairwise(row):
                assert bar.ended is not None
                assert bar.last_position <= following.begun.position
        shown += [id(bar) for bar in lane.bars]
        assert {bar.lane for bar in lane.bars} == {lane.lane}
    assert sorted(shown) == sorted(map(id, timeline.bars))


# Any journal -------------------------------------------------------------------------------------------


@given(journals())
def test_every_step_of_a_journal_is_one_bar_and_the_sums_are_the_usage(journal: Journal) -> None:
    timeline = timeline_of(read(journal.records))
    check_rows(timeline)
    scheduled = [record for record in journal.records if isinstance(record, StepScheduled)]
    steps = [bar for bar in timeline.bars if bar.kind in STEPS]
    assert [bar.key for bar in steps] == [f"step {record.key}" for record in scheduled]
    told = overview_in(journal.records)
    sums = timeline.sums()
    assert (sums.turns, sums.usage) == (told.turns, told.usage)
    by_lane = [timeline.sums(lane.bars) for lane in timeline.lanes()]
    assert sum(one.turns for one in by_lane) == sums.turns
    assert sum(one.usage.total_tokens for one in by_lane) == sums.usage.total_tokens
    paid = sum(
        usage_in(event.data.result).total_tokens
        for event in read(journal.records)
        if isinstance(event.data, events.ModelRepliedData)
    )
    assert paid == sums.usage.total_tokens + timeline.void_usage.total_tokens


@given(journals())
def test_the_steps_that_are_open_are_those_of_the_journal(journal: Journal) -> None:
    timeline = timeline_of(read(journal.records))
    steps = {bar.key for bar in timeline.open if bar.kind in STEPS}
    assert steps == {f"step {key}" for key in journal.open()}
    assert all(bar.state is BarState.OPEN and not bar.is_void for bar in timeline.open)


@given(executions())
def test_that_holds_for_any_program_with_crashes_timers_and_updates(recording: Recording) -> None:
    journal = [record for record in recording.journal if not isinstance(record, EventEmitted)]
    timeline = timeline_of(read(journal))
    check_rows(timeline)
    scheduled = [record for record in journal if isinstance(record, StepScheduled)]
    steps = [bar for bar in timeline.bars if bar.kind in STEPS]
    assert [bar.key for bar in steps] == [f"step {record.key}" for record in scheduled]
    assert all(bar.seconds() >= 0.0 for bar in timeline.bars)
    if timeline.has_ended:
        assert timeline.open == ()
    seen = sum(record.type == "execution_recovered" for record in journal)
    assert len(timeline.crashes) == seen
    if recording.last is not None and not timeline.has_ended:
        waited = {f"timer {key}" for key in recording.last.machine.timers}
        now = timeline.last
        assert now is not None
        due = {
            bar.key for bar in timeline.bars if bar.due_at is not None and bar.due_at <= now.at.timestamp()
        }
        assert waited - due <= {bar.key for bar in timeline.open}


@given(st.lists(any_event_data, max_size=30))
def test_no_events_in_any_order_put_two_bars_in_one_place(stream: list[AnyEventData]) -> None:
    timeline = after(*((float(number), data) for number, data in enumerate(stream)))
    check_rows(timeline)
    assert all((bar.ended is None) == (bar.state is BarState.OPEN) for bar in timeline.bars)
    assert {id(bar) for bar in timeline.open} <= {id(bar) for bar in timeline.bars}


@pytest.mark.parametrize("kind", EventKind)
@given(data=st.data())
def test_an_event_begins_a_bar_or_ends_one_or_is_a_moment(kind: EventKind, data: st.DataObject) -> None:
    of = data.draw(data_of_kind(kind))
    edge = edge_of(of)
    assert edge is None or kind not in MARKS
    if isinstance(edge, Begins):
        assert edge == edge_of(of)
        timeline = after((0.0, of))
        assert [bar.key for bar in timeline.open] == [edge.key]
    elif isinstance(edge, Ends):
        assert edge.state in (BarState.DONE, BarState.FAILED)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5) | st.none()), max_size=12))
def test_there_are_as_few_rows_as_bars_at_the_same_time(spans: list[tuple[int, int | None]]) -> None:
    bars = []
    for number, (gap, length) in enumerate(spans):
        begun = number * 2 + gap % 2
        ended = None if length is None else begun + length
        end = None if ended is None else Point(ended, AT)
        bars.append(Bar(str(number), BarKind.TOOL, "t", WORKFLOW_CODE, Point(begun, AT), end))
    rows = rows_of(bars)
    assert sum(map(len, rows)) == len(bars)
    busiest = max(
        (sum(one.begun.position <= bar.begun.position < one.last_position for one in bars) for bar in bars),
        default=0,
    )
    assert len(rows) == busiest


# One thing at a time -----------------------------------------------------------------------------------


def turn(number: int, agent: str = "a", run: str = "run0") -> dict[str, Any]:
    return {"run": run, "agent": agent, "turn": number, "key": f"{run}/t{number}/model"}


def call(call_id: str = "c", run: str = "run0") -> dict[str, Any]:
    return {"run": run, "agent": "a", "turn": 1, "call_id": call_id, "tool": "t"}


def reply(tokens: int) -> dict[str, Any]:
    return {"entries": [], "usage": {"total_tokens": tokens}}


def test_lanes_are_those_of_agents_and_runs_have_numbers_if_there_are_several() -> None:
    timeline = after(
        (0, events.ActivityStartedData(key="0", name="n")),
        (0, events.TurnStartedData(**turn(1))),
        (1, events.ModelRepliedData(**turn(1), result=reply(5))),
        (1, events.TurnStartedData(**turn(2, "b"))),
    )
    assert [(lane.lane, lane.name) for lane in timeline.lanes()] == [
        (WORKFLOW_CODE, "workflow code"),
        (Lane("run0", "a"), "a"),
        (Lane("run0", "b"), "b"),
    ]
    both = after(
        (0, events.TurnStartedData(**turn(1))), (0, events.TurnStartedData(**turn(1, run="run0/run1")))
    )
    assert [lane.name for lane in both.lanes()] == ["a, run 1", "a, run 2"]


def test_sums_are_of_models_tools_and_waits() -> None:
    timeline = after(
        (0, events.SummaryStartedData(**turn(1))),
        (1, events.SummaryMadeData(**turn(1), result=reply(3))),
        (1, events.TurnStartedData(**turn(1))),
        (3, events.ModelRepliedData(**turn(1), result=reply(5))),
        (3, events.ApprovalRequestedData(**call(), fingerprint="f")),
        (13, events.ApprovalGivenData(**call())),
        (13, events.ToolCalledData(**call())),
        (14, events.ToolReturnedData(**call(), result=1)),
        (14, events.UpdateAcceptedData(id="u", name="set")),
        (20, events.UpdateCompletedData(id="u", name="set", result=1)),
        (20, events.TurnStartedData(**turn(2))),
    )
    sums = timeline.sums(now=AT + timedelta(seconds=27))
    assert (sums.turns, sums.usage.total_tokens) == (1, 8)
    assert (sums.model_seconds, sums.tool_seconds, sums.wait_seconds) == (10.0, 1.0, 10.0)
    assert timeline.sums().model_seconds == 3.0


def test_attempts_that_failed_belong_to_their_step_and_strays_to_nothing() -> None:
    about: dict[str, Any] = {"name": "t", "failure": FAILURE}
    timeline = after(
        (0, events.ToolCalledData(**call())),
        (1, events.AttemptFailedData(key="run0/t1/c", attempt=1, **about)),
        (2, events.AttemptFailedData(key="stray", attempt=1, **about)),
        (2, events.ToolReturnedData(**call("stray"), result=1)),
        (3, events.ToolFailedData(**call(), failure=FAILURE)),
    )
    [bar] = timeline.bars
    assert [(one.number, one.kind, one.moment.position) for one in bar.failed_attempts] == [
        (1, "LookupError", 2)
    ]
    assert (bar.state, bar.seconds()) == (BarState.FAILED, 3.0)


def test_a_crash_says_who_died_who_took_over_what_was_kept_and_what_was_under_way() -> None:
    timeline = after(
        (0, events.ActivityStartedData(key="0", name="first")),
        (1, events.ActivityCompletedData(key="0", name="first", result=1)),
        (1, events.ActivityStartedData(key="1", name="second")),
        (1, events.TimerStartedData(key="t", due_at=AT.timestamp() + 60)),
        (9, events.ExecutionRecoveredData(worker="w-1", successor="w-2")),
        (9, events.ExecutionCompletedData(result=1)),
    )
    [crash] = timeline.crashes
    assert (crash.lost, crash.successor, crash.kept) == ("w-1", "w-2", 1)
    assert [bar.name for bar in crash.under_way] == ["second"]
    assert (crash.before.position, crash.moment.position) == (4, 5)
    assert [mark.kind for mark in timeline.marks] == [EventKind.EXECUTION_COMPLETED]
    assert timeline.first is not None
    alone = after((0, events.ExecutionRecoveredData()))
    assert alone.crashes[0].before == alone.crashes[0].moment


def test_what_is_open_at_the_end_is_left_and_a_timer_takes_no_time_then() -> None:
    timeline = after(
        (0, events.ActivityStartedData(key="0", name="n")),
        (0, events.TimerStartedData(key="t", due_at=AT.timestamp() + 60)),
        (5, events.ExecutionFailedData(failure=FAILURE)),
    )
    assert [(bar.state, bar.seconds()) for bar in timeline.bars] == [
        (BarState.LEFT, 5.0),
        (BarState.LEFT, 0.0),
    ]
    assert timeline.open == ()
    assert timeline.has_ended


def test_a_timer_that_is_due_is_dropped_until_it_fires_after_all() -> None:
    begun: list[tuple[float, AnyEventData]] = [
        (0, events.TimerStartedData(key="t", due_at=AT.timestamp() + 5)),
        (6, events.SignalReceivedData(name="s")),
    ]
    [dropped] = after(*begun).bars
    assert (dropped.state, dropped.seconds()) == (BarState.LEFT, 0.0)
    [fired] = after(*begun, (7, events.TimerFiredData(key="t"))).bars
    assert (fired.state, fired.seconds()) == (BarState.DONE, 7.0)


def test_a_result_that_comes_too_late_ends_the_wait_for_a_decision() -> None:
    timeline = after(
        (0, events.ApprovalRequestedData(**call(), fingerprint="f")),
        (0, events.ApprovalRequestedData(**call("d"), fingerprint="f")),
        (0, events.ToolCalledData(**call("c", "run1"))),
        (2, events.ResultUnsentData(run="run0", call_id="c", text="late")),
    )
    assert [bar.state for bar in timeline.bars] == [BarState.LEFT, BarState.OPEN, BarState.OPEN]
    assert all((bar.kind in WAITS) == (bar.kind is BarKind.APPROVAL) for bar in timeline.bars)


def test_a_retry_makes_what_came_later_void_and_opens_what_had_ended() -> None:
    timeline = after(
        (0, events.TurnStartedData(**turn(1))),
        (1, events.ActivityStartedData(key="0", name="n")),
        (2, events.ActivityFailedData(key="0", name="n", failure=FAILURE)),
        (2, events.ModelRepliedData(**turn(1), result=reply(5))),
        (2, events.TurnStartedData(**turn(2))),
        (4, events.ModelRepliedData(**turn(2), result=reply(7))),
        (5, events.ExecutionFailedData(failure=FAILURE)),
        (9, events.ExecutionReopenedData(valid=3, failed=("0",))),
        (9, events.TurnStartedData(**turn(2))),
    )
    first, activity, void, again = timeline.bars
    assert (first.state, first.usage, activity.state) == (BarState.OPEN, Usage(), BarState.OPEN)
    assert (void.is_void, again.is_void) == (True, False)
    assert timeline.void_usage.total_tokens == 12
    assert timeline.sums().usage == Usage()
    assert not timeline.has_ended
    further = after(
        (0, events.TurnStartedData(**turn(1))),
        (1, events.ExecutionReopenedData(valid=0)),
        (1, events.ExecutionReopenedData(valid=0)),
    )
    assert [bar.is_void for bar in further.bars] == [True]


def test_the_time_between_an_end_and_a_retry_is_nobodys() -> None:
    timeline = after(
        (0, events.TurnStartedData(**turn(1))),
        (1, events.ActivityStartedData(key="0", name="n")),
        (3, events.ActivityFailedData(key="0", name="n", failure=FAILURE)),
        (4, events.ExecutionFailedData(failure=FAILURE)),
        (30, events.ExecutionReopenedData(valid=2, failed=("0",))),
        (31, events.ActivityCompletedData(key="0", name="n", result=None)),
        (32, events.ModelRepliedData(**turn(1), result=reply(5))),
    )
    assert (timeline.sums().tool_seconds, timeline.sums().model_seconds) == (3.0, 6.0)


def test_a_bar_that_begins_twice_leaves_the_first_one() -> None:
    started = events.ActivityStartedData(key="0", name="n")
    first, second = after((0, started), (1, started)).bars
    assert (first.state, second.state) == (BarState.LEFT, BarState.OPEN)


def test_text_that_is_being_written_is_not_in_it() -> None:
    timeline = after((0, events.TextDeltaData(**turn(1), attempt=1, sequence=1, text="x")))
    assert (timeline.bars, timeline.first, timeline.lanes()) == ([], None, ())
