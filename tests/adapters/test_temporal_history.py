"""Records are read from a history of Temporal: without a server, without a worker, and without code."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory

from outlast.adapters.temporal.history import TemporalHistory, read_history
from outlast.adapters.temporal.input_order import turn_of
from outlast.adapters.temporal.payloads import data_converter
from outlast.adapters.temporal.steps import key_of, name_in
from outlast.core.records import (
    INPUTS,
    AnyRecord,
    CancelRequested,
    ExecutionEnded,
    Input,
    SignalReceived,
    StepCompleted,
    StepScheduled,
    TimerFired,
    TimerStarted,
    UpdateAccepted,
)
from outlast.runtime.definitions.known_workflows import definition_of
from tests.adapters.temporal_histories import comparable, pinned, replayed_by_code
from tests.adapters.temporal_programs import WORKFLOWS

HISTORIES = {name: history for name, history in pinned().items() if not name.startswith("native")}
DEFINITIONS = {one.name: one for one in map(definition_of, WORKFLOWS)}

cuts = st.tuples(st.sampled_from(sorted(HISTORIES)), st.integers(min_value=3))


COMES = ("TASK_SCHEDULED", "TASK_STARTED", "TASK_COMPLETED", "SIGNALED", "CANCEL_REQUESTED", "TIMER_FIRED")
"""The ends of the names of events that come alone; others come with the end of a workflow task."""


def cut(name: str, length: int) -> WorkflowHistory:
    """Return the beginning of a history, as it was at some time."""
    events = HISTORIES[name].events
    end = 1 + length % len(events)
    while end < len(events) and not comes_alone(events[end]):
        end += 1
    return WorkflowHistory(name, events[:end])


def comes_alone(event: HistoryEvent) -> bool:
    """Return whether an event is written by itself, and not with the workflow task before it."""
    name = EventType.Name(event.event_type)
    return name.endswith(COMES) and not name.endswith(
        ("ACTIVITY_TASK_SCHEDULED", "ACTIVITY_TASK_CANCEL_REQUESTED")
    )


async def read(history: WorkflowHistory) -> TemporalHistory:
    return await read_history(history.events, data_converter)


@given(where=cuts)
async def test_a_beginning_of_a_history_gives_a_beginning_of_its_journal(where: tuple[str, int]) -> None:
    history = cut(*where)
    whole = comparable(await replayed_by_code(DEFINITIONS, HISTORIES[where[0]]))
    beginning = comparable(await replayed_by_code(DEFINITIONS, history))
    assert beginning == whole[: len(beginning)]


@given(where=cuts)
async def test_a_history_alone_has_the_inputs_and_requests_that_code_has(where: tuple[str, int]) -> None:
    history = cut(*where)
    found = await read(history)
    alone = list(found.records())
    by_code = await replayed_by_code(DEFINITIONS, history)
    if found.carried is None or not found.carried.journal:
        assert inputs(alone) == inputs(by_code)
    else:  # Inputs that a retry has made void are delivered again; only the code knows which.
        delivered = iter(inputs(by_code))
        assert all(record in delivered for record in inputs(alone))
    known = {record.key for record in by_code if isinstance(record, StepScheduled | TimerStarted)}
    asked = {record.key for record in alone if isinstance(record, StepScheduled | TimerStarted)}
    assert asked <= known
    ends = [[record for record in one if isinstance(record, ExecutionEnded)] for one in (alone, by_code)]
    assert ends[0] == ends[1]


def inputs(records: Sequence[AnyRecord]) -> list[AnyRecord]:
    return [record for record in records if isinstance(record, INPUTS)]


@pytest.mark.parametrize(
    ("activity_id", "key", "name"),
    [
        (":0", ":0", None),
        (":0#note#0a1b2c3d", ":0", "note"),
        ("0.1:3#a#b#0a1b2c3d", "0.1:3", "a#b"),
        ("c2~.0:1#note#0a1b2c3d", "c2~.0:1", "note"),
        ("run:0/t1/model", "run:0/t1/model", None),
        ("run0.1:0/t1/call#1:2#x", "run0.1:0/t1/call#1:2#x", None),
    ],
)
def test_the_id_of_an_activity_has_its_key_and_of_a_call_in_code_its_name(
    activity_id: str, key: str, name: str | None
) -> None:
    assert (key_of(activity_id), name_in(activity_id)) == (key, name)


def test_an_update_goes_to_the_code_after_all_else_that_its_workflow_task_brings() -> None:
    """A worker that takes an execution over gets both at once, where every later replay has two tasks."""
    update = UpdateAccepted(at=1.0, update_id="u", name="outlast.answer")
    others: list[Input] = [
        SignalReceived(at=1.0, message_id="m", name="s"),
        StepCompleted(at=1.0, key="0", result=None),
        TimerFired(at=1.0, key="t"),
        CancelRequested(at=1.0, message_id="cancel"),
    ]
    assert sorted([update, *others], key=lambda one: turn_of(one, ())) == [*others, update]
