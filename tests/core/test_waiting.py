"""The waits of an execution: after any records, as its worker and its journal alone show them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.core.events import EventKind
from outlast.core.failure import Failure
from outlast.core.json import JSON
from outlast.core.records import (
    AnyRecord,
    AttemptFailed,
    EventEmitted,
    ExecutionForked,
    ExecutionStarted,
    Status,
    StepCompleted,
    StepKind,
    StepScheduled,
    TimerStarted,
)
from outlast.core.usage import Usage
from outlast.core.waiting import (
    AGENT_CHARACTERS_MAX,
    OVERVIEW_BYTES_MAX,
    WAITS_MAX,
    Overview,
    WaitingFor,
    WaitingKind,
    overview_in,
    overview_of,
    pause_in_words,
    time_of,
)
from tests.core.programs import Recording, executions
from tests.core.strategies import any_text

STARTED = ExecutionStarted(at=1.0, workflow="w", arguments={})
FAILURE = Failure(kind="ValueError", message="no")
ORDER = list(WaitingKind)

times = st.none() | st.datetimes(timezones=st.just(UTC))
waits = st.builds(
    WaitingFor,
    kind=st.sampled_from(WaitingKind),
    text=any_text,
    step=st.none() | any_text,
    attempt=st.none() | st.integers(1, 9),
    since=times,
    until=times,
)


def scheduled(key: str, kind: StepKind = StepKind.ACTIVITY) -> StepScheduled:
    """Return a request for a step."""
    return StepScheduled(key=key, kind=kind, name="search")


def call_event(kind: EventKind, call_id: str) -> EventEmitted:
    """Return an event about a tool call."""
    data: dict[str, JSON] = {"run": "1", "call_id": call_id, "agent": "clerk", "tool": "pay"}
    return EventEmitted(key=f"{kind} {call_id}", kind=kind, data=data)


def test_the_vocabulary_is_closed() -> None:
    assert " ".join(WaitingKind) == (
        "held paused code worker approval answer attempt retry child timer signal condition"
    )


@given(executions())
def test_an_open_execution_waits_for_exactly_what_its_code_has_open(recording: Recording) -> None:
    assert recording.last is not None
    machine = recording.last.machine
    found = overview_of(machine, takes_messages=True).waiting_for
    if machine.end is not None:
        assert found == ()
        return
    steps = [wait for wait in found if wait.kind in (WaitingKind.ATTEMPT, WaitingKind.RETRY)]
    timers = [wait for wait in found if wait.kind is WaitingKind.TIMER]
    assert {wait.step: wait.attempt for wait in steps} == {
        key: opened.attempt for key, opened in machine.steps.items()
    }
    assert all((wait.kind is WaitingKind.RETRY) == (wait.attempt != 1) for wait in steps)
    assert {wait.step: wait.until for wait in timers} == {
        key: time_of(due) for key, due in machine.timers.items()
    }
    assert all(wait.since is not None for wait in steps)
    others = [wait for wait in found if wait not in (*steps, *timers)]
    assert others == ([] if steps or timers else [WaitingFor(WaitingKind.SIGNAL)])
    assert [ORDER.index(wait.kind) for wait in found] == sorted(ORDER.index(wait.kind) for wait in found)


@given(executions())
def test_a_journal_alone_shows_all_that_its_code_has_open(recording: Recording) -> None:
    assert recording.last is not None
    machine = recording.last.machine
    live, read = overview_of(machine), overview_in(recording.journal)
    assert (live.turns, live.usage, live.forked_from) == (read.turns, read.usage, read.forked_from)
    assert live.agent == read.agent
    if machine.end is not None:
        assert read.waiting_for == ()
        return
    known = {wait.step for wait in read.waiting_for}
    assert set(machine.steps) | set(machine.timers) <= known


@given(st.lists(waits, max_size=WAITS_MAX + 2), st.integers(0, 10**6), st.none() | any_text)
def test_an_overview_survives_as_text_that_every_store_takes(
    some: list[WaitingFor], turns: int, source: str | None
) -> None:
    usage = Usage(prompt_tokens=turns, total_tokens=turns)
    text = Overview(tuple(some), turns, usage, source).to_text()
    assert len(text.encode()) <= OVERVIEW_BYTES_MAX
    assert "\0" not in text
    found = Overview.of(text)
    assert (found.turns, found.usage) == (turns, usage)
    kinds = [wait.kind for wait in some[:WAITS_MAX]]
    assert [wait.kind for wait in found.waiting_for] == kinds[: len(found.waiting_for)]
    assert [wait.until for wait in found.waiting_for] == [
        wait.until for wait in some[: len(found.waiting_for)]
    ]
    assert Overview.of(found.to_text()) == found


def test_long_overviews_lose_their_last_waits_and_then_the_rest() -> None:
    many = tuple(WaitingFor(WaitingKind.ATTEMPT, "x" * 500, "k" * 500, number) for number in range(1, 9))
    found = Overview.of(Overview(many, 1).to_text()).waiting_for
    assert [wait.attempt for wait in found] == [1, 2, 3]
    usage = Usage(connectors={f"connector {number}": 1 for number in range(200)})
    assert Overview.of(Overview(many, 7, usage).to_text()) == Overview((), 7)
    assert Overview.of(Overview(many, 7, usage, '"' * 1000).to_text()) == Overview((), 7)
    assert Overview.of(Overview(many, 7, usage, '"' * 900, "é" * 900).to_text()) == Overview(
        (), 7, agent="é" * AGENT_CHARACTERS_MAX
    )


@pytest.mark.parametrize("text", [None, "", "{}", "[]", '{"waiting_for": [{"kind": "luck"}]}'])
def test_text_that_says_nothing_is_an_empty_overview(text: str | None) -> None:
    assert Overview.of(text) == Overview()


def test_times_that_no_calendar_has_are_left_out() -> None:
    assert time_of(0.0) == datetime(1970, 1, 1, tzinfo=UTC)
    assert time_of(1e300) is None
    found = overview_in([STARTED, TimerStarted(key="t", due_at=1e15)])
    assert found.waiting_for == (WaitingFor(WaitingKind.TIMER, step="t"),)


def test_turns_and_tokens_are_those_of_replies_and_summaries() -> None:
    journal: list[AnyRecord] = [
        STARTED,
        *(scheduled("1", StepKind.MODEL), scheduled("2", StepKind.SUMMARY), scheduled("3", StepKind.TOOL)),
        *(scheduled("4", StepKind.MODEL), scheduled("5", StepKind.MODEL)),
        StepCompleted(at=2.0, key="1", result={"usage": {"prompt_tokens": 2, "total_tokens": 3}}),
        StepCompleted(at=2.0, key="2", result={"usage": {"total_tokens": 5}}),
        StepCompleted(at=2.0, key="3", result={"usage": {"total_tokens": 7}}),
        StepCompleted(at=2.0, key="4", result={"usage": {"total_tokens": "many"}}),
        StepCompleted(at=2.0, key="5", result=None),
        ExecutionForked(at=3.0, source="e-0", position=4),
    ]
    found = overview_in(journal)
    assert (found.turns, found.usage) == (3, Usage(prompt_tokens=2, total_tokens=8))
    assert found.forked_from == "e-0"
    assert [wait.kind for wait in found.waiting_for] == [WaitingKind.CONDITION]
    assert Overview.of(found.to_text()) == found


def test_the_agent_is_the_one_whose_turn_began_last() -> None:
    abouts: list[dict[str, JSON]] = [{"agent": "clerk"}, {"agent": "x" * 500}, {}, {"agent": 7}]
    turns = [
        StepScheduled(key=f"{number}", kind=StepKind.MODEL, name="call_model", about=about)
        for number, about in enumerate(abouts)
    ]
    tool = StepScheduled(key="tool", kind=StepKind.TOOL, name="pay", about={"agent": "nobody"})
    assert overview_in([STARTED, tool]).agent is None
    assert overview_in([STARTED, turns[0], tool]).agent == "clerk"
    found = overview_in([STARTED, *turns, tool])
    assert found.agent == "x" * 500
    assert Overview.of(found.to_text()).agent == "x" * AGENT_CHARACTERS_MAX


def test_approvals_come_before_steps_until_they_are_settled() -> None:
    asked = [call_event(EventKind.APPROVAL_REQUESTED, call) for call in "abc"]
    journal: list[AnyRecord] = [
        STARTED,
        scheduled("s"),
        *asked,
        call_event(EventKind.APPROVAL_GIVEN, "a"),
        call_event(EventKind.RESULT_UNSENT, "b"),
    ]
    approval, attempt = overview_in(journal).waiting_for
    assert (approval.kind, approval.text, approval.step) == (
        WaitingKind.APPROVAL,
        "tool pay of agent clerk",
        "c",
    )
    assert approval.since == attempt.since == time_of(1.0)
    failed = AttemptFailed(at=2.0, key="s", attempt=1, failure=FAILURE, retry_at=9.0)
    [_, retry] = overview_in([*journal, failed]).waiting_for
    assert (retry.kind, retry.attempt, retry.until) == (WaitingKind.RETRY, 2, time_of(9.0))


def test_statuses_are_not_kinds_of_waits_except_paused() -> None:
    assert {str(kind) for kind in WaitingKind} & {str(status) for status in Status} == {"paused"}


def test_a_journal_of_several_runs_goes_on_from_one_to_the_next() -> None:
    found = overview_in([STARTED, scheduled("s"), STARTED.with_(at=2.0), scheduled("t")])
    assert [wait.step for wait in found.waiting_for] == ["s", "t"]


def test_a_pause_says_why_if_somebody_gave_a_reason() -> None:
    assert pause_in_words(None) == "paused"
    assert pause_in_words("the bank is closed") == "paused: the bank is closed"
