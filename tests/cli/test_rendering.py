"""The output of the command line, whatever a model has written."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.cli.rendering.documents import approval_json, event_json
from outlast.cli.rendering.event_lines import EventLines
from outlast.cli.rendering.sentences import agent_of, sentence_of
from outlast.cli.rendering.text import (
    duration,
    local_time,
    printable,
    printable_lines,
    printable_text,
    shortened,
)
from outlast.core.approvals import PendingApproval
from outlast.core.event_stream import Event
from outlast.core.events import (
    ActivityCompletedData,
    ActivityStartedData,
    AnyEventData,
    ApprovalDeniedData,
    ApprovalGivenData,
    ApprovalRequestedData,
    EventKind,
    ExecutionReopenedData,
    ExecutionTerminatedData,
    ModelRepliedData,
    SignalReceivedData,
    TimerFiredData,
    TimerStartedData,
    TurnStartedData,
)
from outlast.core.json import decode, encode
from tests.core.strategies import any_event_data, any_text, data_of_kind, json_objects

AT = datetime(2026, 11, 26, 7, 0, 0, 500_000, tzinfo=UTC)


@given(data=any_event_data)
def test_an_event_is_one_line_of_json_whatever_it_holds(data: AnyEventData) -> None:
    line = event_json(Event(7, AT, data))
    assert "\n" not in line
    assert json.loads(line.encode()) == {
        "position": 7,
        "kind": str(data.kind),
        "at": "2026-11-26T07:00:00.500000Z",
        "data": decode(encode(data.to_data())),
    }


@given(call_id=any_text, arguments=json_objects)
def test_a_call_that_waits_is_one_line_of_json(call_id: str, arguments: dict[str, Any]) -> None:
    approval = PendingApproval(
        key="k", call_id=call_id, agent="a", tool="t", arguments=arguments, fingerprint="f"
    )
    found = json.loads(approval_json("e", approval).encode())
    assert found == {"execution": "e", **approval.model_dump(), "arguments": arguments}


@given(data=any_event_data, text=any_text)
def test_a_line_for_people_has_no_terminal_control_characters(data: AnyEventData, text: str) -> None:
    entries: list[Any] = [
        {"type": "message.output", "content": text},
        {"type": "function.call", "name": text},
    ]
    reply = ModelRepliedData(run="r", agent=text, turn=1, key="k", result={"entries": entries})
    lines = EventLines()
    for position, shown in enumerate((data, reply), 1):
        for line in lines.lines(Event(position, AT, shown)):
            assert line.plain.isprintable()
            line.plain.encode()


@pytest.mark.parametrize("kind", EventKind)
@given(data=st.data())
def test_every_kind_of_event_says_something_to_people(kind: EventKind, data: st.DataObject) -> None:
    event = Event(1, AT, data.draw(data_of_kind(kind)))
    assert sentence_of(event)
    assert agent_of(event) == shortened(
        str(getattr(event.data, "agent", None) or getattr(event.data, "from_agent", "")), 18
    )


def shown_by(*timed: tuple[float, AnyEventData], full: bool = False) -> tuple[list[str], EventLines]:
    """Return the lines of events that came so many seconds after the first."""
    lines = EventLines(None) if full else EventLines()
    shown = []
    for position, (seconds, data) in enumerate(timed, 1):
        event = Event(position, AT + timedelta(seconds=seconds), data)
        shown += [line.plain for line in lines.lines(event)]
    return shown, lines


def turn(run: str, agent: str, key: str) -> dict[str, Any]:
    return {"run": run, "agent": agent, "turn": 1, "key": key}


def test_a_reply_has_its_time_its_tokens_and_its_cost() -> None:
    reply: dict[str, Any] = {
        "entries": [],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 234, "total_tokens": 1234},
    }
    priced: dict[str, Any] = {"entries": [], "usage": {"total_tokens": 7, "cost": "0.0315"}}
    shown, lines = shown_by(
        (0, TurnStartedData(**turn("r", "clerk", "k"))),
        (2.5, ModelRepliedData(**turn("r", "clerk", "k"), result=reply)),
        (3, TurnStartedData(**turn("r", "clerk", "l"))),
        (3.004, ModelRepliedData(**turn("r", "clerk", "l"), result=reply)),
        (3.1, ModelRepliedData(**turn("r", "clerk", "unknown"), result={"usage": "none"})),
        (3.2, ModelRepliedData(**turn("r", "clerk", "m"), result=priced)),
    )
    assert shown[1].endswith("(2.5 s, 1,234 tokens)")
    assert shown[3].endswith("(4 ms, 1,234 tokens)")
    assert "(" not in shown[4]
    assert shown[5].endswith("(7 tokens, $0.0315)")
    assert list(lines.open(AT)) == []


def test_runs_that_stand_side_by_side_are_numbered_and_a_single_one_is_not() -> None:
    started = [(0.0, TurnStartedData(**turn(run, "clerk", run))) for run in ("a", "b", "a")]
    shown, _ = shown_by(*started)
    assert ["run" in line for line in shown] == [False, True, True]
    assert "run 2: turn 1" in shown[1]
    assert "run 1: turn 1" in shown[2]


def test_a_new_day_has_a_line_of_its_own() -> None:
    day = 24 * 3600
    fired = TimerFiredData(key="t")
    shown, _ = shown_by(
        (0, TimerStartedData(key="t", due_at=0.0)), (0, fired), (2 * day, fired), (2 * day, fired)
    )
    dates = [line.strip() for line in shown if ":" not in line]
    assert dates == [(AT + timedelta(days=2)).astimezone().strftime("%Y-%m-%d")]


def test_what_has_begun_and_not_ended_is_open() -> None:
    due = (AT + timedelta(hours=3)).timestamp()
    asked: dict[str, Any] = {
        "run": "r",
        "agent": "clerk",
        "turn": 1,
        "call_id": "c",
        "tool": "pay",
        "fingerprint": "f",
    }
    events: list[tuple[float, AnyEventData]] = [
        (0.0, TimerStartedData(key="t", due_at=due)),
        (0.0, TimerStartedData(key="u", due_at=due)),
        (5.0, ApprovalRequestedData(**asked, arguments={"to": "Ann"})),
        (6.0, ActivityStartedData(key="a", name="pack")),
        (7.0, TimerFiredData(key="u")),
    ]
    _, lines = shown_by(*events)
    timer, approval, activity = lines.open(AT + timedelta(seconds=125))
    assert timer == f"timer started: it waits until {local_time(AT + timedelta(hours=3))} (3 h)"
    assert approval == 'approval of pay asked for: {"to":"Ann"}, 2 min ago'
    assert activity == "activity pack started, 119.0 s ago"
    _, lines = shown_by(*events, (8.0, ExecutionReopenedData(valid=2)))
    assert len(list(lines.open(AT))) == 1


def test_a_step_that_a_retry_tries_anew_has_not_lasted_since_before_the_end() -> None:
    shown, _ = shown_by(
        (0.0, ActivityStartedData(key="a", name="pack")),
        (1.0, ExecutionTerminatedData(reason="wrong")),
        (61.0, ExecutionReopenedData(valid=1)),
        (63.0, ActivityCompletedData(key="a", name="pack", result=None)),
    )
    assert shown[-1].endswith("activity pack completed: null (2.0 s)")


@given(st.floats(0, 1e10))
def test_a_duration_is_short_and_says_as_much_as_its_largest_unit(seconds: float) -> None:
    text = duration(seconds)
    assert len(text) <= 14
    units = {"ms": 0.001, "s": 1, "min": 60, "h": 3600, "d": 86400}
    parts = text.split(" ")
    read = sum(float(number) * units[unit] for number, unit in zip(parts[::2], parts[1::2], strict=True))
    assert abs(read - seconds) <= max(0.06, 0.03 * seconds)


def test_nothing_is_shortened_where_nothing_may_be() -> None:
    long = "x" * 500
    data = ActivityCompletedData(key="k", name="a", result=long)
    assert long not in shown_by((0, data))[0][0]
    assert long in shown_by((0, data), full=True)[0][0]
    named = TurnStartedData(**turn("r", long, "k"))
    assert long in shown_by((0, named), full=True)[0][0]


def test_the_arguments_of_messages_and_edits_are_shown_with_who_decided() -> None:
    call: dict[str, Any] = {
        "run": "r",
        "agent": "clerk",
        "turn": 1,
        "call_id": "c",
        "tool": "pay",
        "arguments": {},
    }
    shown: list[tuple[AnyEventData, str]] = [
        (SignalReceivedData(name="add", arguments=("tea",), named={"n": 2}), "signal add(tea, n=2) received"),
        (
            ApprovalGivenData(**call, by="Dora", edited_arguments={"n": 1}, reason="less"),
            'pay allowed by Dora with the arguments {"n":1}: less',
        ),
        (ApprovalDeniedData(**call, by="Dora"), "pay denied by Dora"),
        (ApprovalGivenData(**call), "pay allowed"),
    ]
    for data, sentence in shown:
        assert sentence_of(Event(1, AT, data)) == sentence


@pytest.mark.parametrize("show", [printable, printable_lines, printable_text])
@pytest.mark.parametrize(
    "character",
    ["\x1b", "\u202e", "\u200b", "\ufe0f", "\u034f", "\u3164", "\u115f", "\U000e0041", "\U000e0101"],
)
def test_a_character_that_nobody_sees_is_a_space_in_a_terminal(
    show: Callable[[str], str], character: str
) -> None:
    assert show(f"a{character}é中") == "a é中"
