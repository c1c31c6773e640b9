"""Children: their ids, what a retry and a fork make of them, and their ends with their parents."""

from __future__ import annotations

import pytest

from outlast.core import events
from outlast.core.children import OnParentEnd, OpenChild, child_id, left_behind
from outlast.core.departures import in_words
from outlast.core.errors import ChildFailed, ChildrenFailed, ExecutionAlreadyExists
from outlast.core.event_stream import EventReader
from outlast.core.failure import Failure
from outlast.core.json import JSON
from outlast.core.records import (
    AnyRecord,
    ChildStarted,
    ExecutionEnded,
    ExecutionForked,
    ExecutionRecovered,
    ExecutionReopened,
    ExecutionStarted,
    ParentLink,
    Status,
    StepCompleted,
    StepFailed,
    StepKind,
    StepScheduled,
    TimerFired,
    TimerStarted,
)
from outlast.core.reruns import counted, forked, retried
from outlast.core.spans import Operation, SpanReader, attempt_context, trace_of
from outlast.core.timeline import BarState, edge_of
from outlast.core.waiting import WAITS_MAX, Overview, WaitingFor, WaitingKind, overview_in, overview_of
from outlast.core.workflow_machine import MachinePhase, WorkflowMachine, skimmed

LINK = ParentLink(id="p", key=":0", since=1.0)
STARTED = ExecutionStarted(at=1.0, workflow="w", arguments={})
FAILURE = Failure.of(ChildFailed("e/:0", "c", "failed", "ValueError", "no"))
EXISTS = ChildStarted(at=2.0, key=":0", child="e/:0")
DONE = StepCompleted(at=3.0, key=":0", result=7)


def asked(on_parent_end: OnParentEnd = "cancel", key: str = ":0", id: str | None = None) -> StepScheduled:
    about: dict[str, JSON] = {} if id is None else {"id": id}
    if on_parent_end != "cancel":
        about["on_parent_end"] = on_parent_end
    return StepScheduled(key=key, kind=StepKind.CHILD, name="c", arguments={"n": 1}, about=about)


def live(*records: AnyRecord) -> WorkflowMachine:
    """Return a machine whose code asks for a child, at the end of a journal."""
    found = counted(records)
    machine = WorkflowMachine(
        "e", found.records, length=found.length, places=found.places, reopened=found.reopened, void=found.void
    )
    while (record := machine.advance()) is not None:
        if isinstance(record, ExecutionStarted):
            machine.request(asked())
    return machine


def test_the_id_of_a_child_is_made_of_its_parents_and_its_step() -> None:
    assert child_id("e", asked()) == "e/:0"
    assert child_id("e", asked(), 2) == "e/:0~2"
    assert child_id("e", asked().with_(reopened=1)) == "e/:0~1"
    assert child_id("e", asked(), is_fork=True) == "e/:0"


def test_an_id_that_code_has_given_is_that_of_a_child_but_not_in_a_fork() -> None:
    assert child_id("e", asked(id="mine")) == "mine"
    assert child_id("e", asked(id="mine"), 1) == "mine~1"
    assert child_id("e", asked(id="mine").with_(reopened=3)) == "mine~3"
    assert child_id("e", asked(id="mine"), is_fork=True) == "e/mine"


def test_children_end_with_their_parent_unless_it_has_abandoned_them() -> None:
    children = [
        OpenChild(asked("cancel", ":0"), "e/:0"),
        OpenChild(asked("terminate", ":1")),
        OpenChild(asked("abandon", ":2"), "e/:2"),
    ]
    assert list(left_behind(children, "e", is_fork=False)) == [("e/:0", "cancel"), ("e/:1", "terminate")]


def test_a_machine_takes_the_start_of_a_child_once_and_then_its_end() -> None:
    machine = live(STARTED)
    assert machine.take_batch().steps == ()
    assert machine.children[":0"].id is None
    assert machine.accept(EXISTS)
    assert not machine.accept(EXISTS)
    assert machine.children[":0"].id_in("e", is_fork=False) == "e/:0"
    assert machine.accept(DONE)
    assert not machine.accept(DONE)
    assert not machine.children
    assert machine.phase is MachinePhase.LIVE


def test_the_children_of_an_execution_that_has_ended_are_still_known() -> None:
    machine = skimmed([STARTED, asked(), EXISTS, ExecutionEnded(status=Status.COMPLETED)])
    assert machine.children[":0"].id == "e/:0"
    assert overview_in([STARTED, asked(), ExecutionEnded(status=Status.COMPLETED)]).waiting_for == ()


def test_losing_a_worker_does_not_count_for_a_child() -> None:
    machine = live(STARTED, asked(), ExecutionRecovered(at=2.0))
    assert machine.losses == 0
    assert not machine.steps


@pytest.mark.parametrize(("worker", "id"), [("w-1", "e/:0"), (None, None)])
def test_a_child_is_known_after_a_crash_but_not_after_an_import(worker: str | None, id: str | None) -> None:
    recovered = ExecutionRecovered(at=2.5, worker=worker)
    child = skimmed([STARTED, asked(), EXISTS, recovered]).children[":0"]
    assert (child.id, child.number) == (id, 0)


def test_only_the_first_of_very_many_children_are_named() -> None:
    many = [asked(key=f":{number}") for number in range(20)]
    assert len(overview_in([STARTED, *many]).waiting_for) == WAITS_MAX


@pytest.mark.parametrize(
    ("on_parent_end", "failed", "number"),
    [("cancel", (), 1), ("terminate", (), 1), ("abandon", (), 0), ("abandon", (":0",), 1)],
)
def test_a_retry_starts_another_child_unless_the_first_one_was_left_alone(
    on_parent_end: OnParentEnd, failed: tuple[str, ...], number: int
) -> None:
    reopened = ExecutionReopened(at=4.0, position=3, failed=failed, open=(asked(on_parent_end),))
    child = skimmed([STARTED, asked(on_parent_end), EXISTS, reopened]).children[":0"]
    assert (child.number, child.id) == (number, None if number else "e/:0")


def test_a_fork_has_not_started_its_children() -> None:
    forked_here = ExecutionForked(at=4.0, source="e", position=3)
    child = skimmed([STARTED, asked(), EXISTS, forked_here]).children[":0"]
    assert (child.number, child.id) == (0, None)


def test_the_fork_of_a_child_has_no_parent() -> None:
    started, *_ = forked("e", [STARTED.with_(parent=LINK), asked()], 2.0)
    assert isinstance(started, ExecutionStarted)
    assert started.parent is None


def test_a_retry_opens_the_child_whose_failure_ended_the_execution() -> None:
    failed = StepFailed(at=3.0, key=":0", attempts=1, failure=FAILURE)
    ended = ExecutionEnded(status=Status.FAILED, failure=FAILURE)
    reopened = retried("e", [STARTED, asked(), EXISTS, failed, ended], 5.0)
    assert (reopened.position, reopened.failed) == (3, (":0",))


@pytest.mark.parametrize(("on_parent_end", "reopened"), [("cancel", 1), ("abandon", None)])
def test_a_void_child_that_has_not_completed_is_the_same_only_if_it_was_left_alone(
    on_parent_end: OnParentEnd, reopened: int | None
) -> None:
    again = ExecutionReopened(at=4.0, position=1)
    machine = live_with(on_parent_end, STARTED, asked(on_parent_end), EXISTS, again)
    assert machine.children[":0"].scheduled.reopened == reopened


def test_a_void_child_that_completed_is_recalled() -> None:
    again = ExecutionReopened(at=4.0, position=1)
    journal: list[AnyRecord] = [STARTED, asked(), EXISTS, DONE, again]
    assert counted(journal).recalled == {":0": DONE}
    assert live(*journal).children[":0"].scheduled.reopened is None


def live_with(on_parent_end: OnParentEnd, *records: AnyRecord) -> WorkflowMachine:
    found = counted(records)
    machine = WorkflowMachine(
        "e", found.records, length=found.length, places=found.places, reopened=found.reopened, void=found.void
    )
    assert isinstance(machine.advance(), ExecutionStarted)
    machine.request(asked(on_parent_end))
    return machine


# What people see ---------------------------------------------------------------------------------------


def test_an_execution_that_waits_for_a_child_says_so_and_a_child_names_its_parent() -> None:
    [before] = overview_in([STARTED, asked()]).waiting_for
    assert (before.kind, before.text, before.step) == (WaitingKind.CHILD, "child c", ":0")
    [after] = overview_in([STARTED, asked(), EXISTS]).waiting_for
    assert after.step == "e/:0"
    found = overview_in([STARTED.with_(parent=LINK)])
    assert found.parent == "p"
    assert Overview.of(found.to_text()).parent == "p"


def test_time_is_not_known_of_a_child_that_nobody_asked_for() -> None:
    machine = skimmed([STARTED, asked()])
    machine.tally.asked_at.clear()
    assert overview_of(machine).waiting_for == (WaitingFor(WaitingKind.CHILD, "child c", ":0"),)


def test_a_child_that_goes_on_after_a_retry_keeps_its_id_in_the_stream() -> None:
    step = asked("abandon")
    records: list[AnyRecord] = [STARTED, step, EXISTS, ExecutionEnded(status=Status.FAILED, failure=FAILURE)]
    records += [ExecutionReopened(at=4.0, position=3, open=(step,)), DONE]
    reader = EventReader()
    *_, last = (event for record in records for event in reader.read(record))
    assert last.data == events.ChildCompletedData(key=":0", workflow="c", child="e/:0", result=7)


def test_the_first_event_of_a_child_names_its_parent() -> None:
    [first] = EventReader().read(STARTED.with_(parent=LINK))
    assert first.data == events.ExecutionStartedData(workflow="w", arguments={}, parent="p")


def test_a_child_is_a_bar_from_its_start_to_its_end() -> None:
    about = {"key": ":0", "workflow": "c"}
    begins = edge_of(events.ChildStartedData(**about, child="e/:0"))
    ends = edge_of(events.ChildCompletedData(key=":0", workflow="c", child="e/:0", result=1))
    failed = edge_of(events.ChildFailedData(key=":0", workflow="c", child="e/:0", failure=FAILURE))
    assert begins is not None
    assert ends is not None
    assert failed is not None
    assert begins.key == ends.key == failed.key
    assert getattr(failed, "state", None) is BarState.FAILED
    assert edge_of(events.ChildFailedData(key=":0", workflow="c", failure=FAILURE)) is None


def test_a_child_is_one_span_of_its_parents_trace_also_after_a_crash() -> None:
    reader = SpanReader("e")
    records: list[AnyRecord] = [STARTED, asked(), EXISTS, ExecutionRecovered(at=2.5), DONE]
    spans = [span for record in records for span in reader.read(record)]
    [span] = [span for span in spans if span.operation is Operation.RUN_CHILD]
    assert span.context == attempt_context(trace_of("e"), "e/:0", 1)
    assert span.error is None


def test_records_of_children_are_named_in_departures() -> None:
    assert in_words(asked()) == 'child \'c\' at :0, {"arguments":{"n":1}}'
    assert in_words(EXISTS) == "child started at :0"


# Errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ChildFailed("e/:0", "c", "failed", "ValueError", "no"), "failed with ValueError: no"),
        (ChildFailed("e/:0", "c", "cancelled"), "was cancelled"),
        (ChildFailed("e/:0", "c", "terminated", "", "enough"), "was terminated: enough"),
        (ChildFailed("e/:0", "c", "forgotten"), "keep it for longer"),
        (ChildrenFailed("c", 30, list(range(25)), ["no"]), "19 and 5 more: no"),
        (ChildrenFailed("c", 3, [1], ["no"]), "1 of 3 children"),
        (ExecutionAlreadyExists("e", "parent"), "not a child of this step"),
    ],
)
def test_errors_say_what_became_of_a_child(error: Exception, words: str) -> None:
    assert words in str(error)


def test_a_timer_beside_a_child_is_told_apart() -> None:
    timer = TimerStarted(key=":1", due_at=9.0)
    waits = overview_in([STARTED, asked(), timer]).waiting_for
    assert [wait.kind for wait in waits] == [WaitingKind.CHILD, WaitingKind.TIMER]
    assert skimmed([STARTED, timer, TimerFired(at=9.0, key=":1")]).timers == {}
