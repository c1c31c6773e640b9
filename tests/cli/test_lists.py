"""Executions in a table: readable on a terminal of 100 columns, and whole where nothing may be left out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from outlast.cli.rendering.tables import LEFT_OUT, WAITS, executions_table
from outlast.cli.rendering.text import local_time
from outlast.cli.rendering.waits import wait_line
from outlast.core.records import Status
from outlast.core.usage import Usage
from outlast.core.waiting import WaitingFor, WaitingKind
from outlast.ports.durability.execution import ExecutionDescription
from tests.core.strategies import any_text

AT = datetime(2026, 11, 26, 7, 0, 0, 500_000, tzinfo=UTC)
APPROVAL = WaitingFor(WaitingKind.APPROVAL, "tool pay of agent clerk", "c-1", since=AT)

BUSY = ExecutionDescription(
    id="2b1e5f0c9d7a4e6f8b3a1c5d7e9f0a2b",
    workflow="deal_analysis",
    status=Status.RUNNING,
    created_at=AT,
    ended_at=None,
    error=None,
    tags={"team": "research", "customer": "acme"},
    waiting_for=(APPROVAL, WaitingFor(WaitingKind.TIMER, until=AT)),
    turns=12,
    usage=Usage(total_tokens=34_567),
    agent="deal-coordinator",
)
FAILED = replace(
    BUSY,
    status=Status.FAILED,
    ended_at=AT + timedelta(minutes=3),
    error="ValueError: out of stock, and out of patience with everybody who asks",
    waiting_for=(),
)

texts = any_text.map(lambda text: text or "x")
waits = st.builds(
    WaitingFor,
    kind=st.sampled_from(WaitingKind),
    text=any_text,
    attempt=st.none() | st.integers(1, 9),
    since=st.none() | st.just(AT),
    until=st.none() | st.datetimes(datetime(2026, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC)),
)
descriptions = st.builds(
    ExecutionDescription,
    id=texts,
    workflow=texts,
    status=st.sampled_from(Status),
    created_at=st.just(AT),
    ended_at=st.none() | st.just(AT),
    error=st.none() | any_text,
    tags=st.dictionaries(texts, any_text, max_size=2),
    waiting_for=st.lists(waits, max_size=2).map(tuple),
    turns=st.none() | st.integers(0, 10**6),
    usage=st.none() | st.builds(Usage, total_tokens=st.integers(0, 10**9)),
    agent=st.none() | any_text,
)


def titles(executions: list[ExecutionDescription], width: int | None, *, full: bool = False) -> list[str]:
    return [str(column.header) for column in executions_table(executions, width=width, full=full).columns]


def shown(executions: list[ExecutionDescription], width: int, *, full: bool = False) -> list[str]:
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        console.print(executions_table(executions, width=None if full else width, full=full))
    return [line.rstrip() for line in captured.get().splitlines()]


def test_what_matters_most_fits_into_100_columns() -> None:
    header, running, *more = shown([BUSY, FAILED], 100)
    assert header.split("  ")[0] == "id"
    assert titles([BUSY, FAILED], 100) == ["id", "workflow", "status", "started", WAITS]
    assert running.startswith(f"{BUSY.id}  deal_analysis  running  ")
    assert "approval: tool pay" in running
    assert all(len(line) <= 100 for line in (header, running, *more))


@pytest.mark.parametrize(
    ("width", "columns"),
    [
        (100, ["agent", "turns", "tokens", "tags"]),
        (80, ["tags"]),
        (60, []),
        (120, ["took", "agent", "turns", "tokens", "tags"]),
    ],
)
def test_the_room_that_short_ids_leave_is_used(width: int, columns: list[str]) -> None:
    short = [
        replace(one, id=f"d-{number}", workflow="deal", tags={"a": "b"}, agent="clerk")
        for number, one in enumerate((BUSY, FAILED))
    ]
    assert [title for title in titles(short, width) if title in LEFT_OUT] == columns


def test_the_cost_of_an_execution_is_shown_and_what_is_missing_from_it() -> None:
    usages = [
        Usage(cost=Decimal("0.125")),
        Usage(cost=Decimal(2), unpriced={"m": 1}),
        Usage(unpriced={"m": 1}),
    ]
    executions = [replace(BUSY, id=f"d-{n}", usage=usage) for n, usage in enumerate(usages)]
    assert "cost" in titles(executions, None)
    table = "\n".join(shown(executions, 200, full=True))
    assert all(f" {cost} " in table for cost in ("$0.1250", "$2.0000+", "?"))


def test_a_column_with_nothing_in_it_is_left_out() -> None:
    plain = replace(BUSY, tags={}, turns=None, usage=Usage(), agent=None)
    assert titles([plain], None) == ["id", "workflow", "status", "started", WAITS]


@given(st.lists(descriptions, min_size=1, max_size=3), st.integers(40, 200))
def test_columns_go_in_one_order_and_only_for_want_of_room(
    executions: list[ExecutionDescription], width: int
) -> None:
    whole, some = titles(executions, None), titles(executions, width)
    assert [title for title in whole if title not in LEFT_OUT] == [
        "id",
        "workflow",
        "status",
        "started",
        WAITS,
    ]
    gone = [title for title in LEFT_OUT if title in whole and title not in some]
    assert gone == [title for title in LEFT_OUT if title in whole][: len(gone)]
    assert [title for title in whole if title in some] == some
    assert titles(executions, width, full=True) == whole
    for line in shown(executions, width):
        assert line.isprintable()


def test_a_full_list_shows_every_wait_and_the_seconds() -> None:
    text = "\n".join(shown([BUSY], 250, full=True))
    assert local_time(AT) in text
    assert "approval: tool pay of agent clerk" in text
    assert "timer" in text
    assert " and 1 more" in "\n".join(shown([BUSY], 250))


@pytest.mark.parametrize(
    ("wait", "in_show", "in_list"),
    [
        (APPROVAL, "approval: tool pay of agent clerk, for 2 min", "approval: tool pay of agent clerk"),
        (
            WaitingFor(WaitingKind.RETRY, "search", "k", 3, until=AT + timedelta(hours=3, minutes=2)),
            f"retry (attempt 3): search, at {local_time(AT + timedelta(hours=3, minutes=2))} (in 3 h)",
            "retry (attempt 3): search, in 3 h",
        ),
        (WaitingFor(WaitingKind.ATTEMPT, "call_model", "k", 1), "attempt: call_model", "attempt: call_model"),
        (WaitingFor(WaitingKind.TIMER, until=AT), f"timer, at {local_time(AT)} (due)", "timer, due"),
        (WaitingFor(WaitingKind.SIGNAL), "signal", "signal"),
        (WaitingFor(WaitingKind.PAUSED, "paused: no milk"), "paused: no milk", "paused: no milk"),
        (WaitingFor(WaitingKind.HELD, "\x1b[2Jgone"), "held:  [2Jgone", "held:  [2Jgone"),
    ],
)
def test_a_wait_is_a_line(wait: WaitingFor, in_show: str, in_list: str) -> None:
    now = AT + timedelta(minutes=2)
    assert wait_line(wait, now) == in_show
    assert wait_line(wait, now, in_list=True) == in_list
