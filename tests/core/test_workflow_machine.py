"""Deterministic replay: the workflow machine, for random programs and everything that can happen to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st

from outlast.core.errors import IllegalTransition, NonDeterminismError
from outlast.core.events import LimitReachedData, ToolFailedData
from outlast.core.failure import Failure
from outlast.core.json import JSON
from outlast.core.records import (
    INPUTS,
    NOTES,
    REQUESTS,
    AnyRecord,
    AttemptFailed,
    CancelRequested,
    EventEmitted,
    ExecutionEnded,
    ExecutionHeld,
    ExecutionPaused,
    ExecutionRecovered,
    ExecutionResumed,
    ExecutionStarted,
    Part,
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
from outlast.core.workflow_machine import OPERATIONS, MachinePhase, WorkflowMachine, skimmed
from tests.core.programs import (
    Arrow,
    Call,
    Emit,
    Instruction,
    Listen,
    Program,
    Recording,
    Sleep,
    WatchedMachine,
    executions,
    instructions,
    replay,
)

STARTED = ExecutionStarted(at=1.0, workflow="w", arguments={})
FAILURE = Failure(kind="ValueError", message="no", retryable=True)


def scheduled(key: str, arguments: JSON = None) -> StepScheduled:
    """Return a request for a step."""
    return StepScheduled(key=key, kind=StepKind.ACTIVITY, name="search", arguments=arguments)


def live_machine(*asked: str) -> WorkflowMachine:
    """Return a machine whose code has started, and has asked for these steps; they are durable."""
    machine = WorkflowMachine("e-1", [])
    assert machine.advance() is None
    assert machine.accept(STARTED)
    for key in asked:
        machine.request(scheduled(key))
    machine.take_batch()
    return machine


def view(machine: WorkflowMachine) -> tuple[object, ...]:
    """Return the parts of a machine that a driver can see."""
    steps = {
        key: (one.scheduled, one.attempt, one.in_doubt, one.retry_at, one.last_failure)
        for key, one in machine.steps.items()
    }
    return machine.phase, machine.now, steps, machine.timers, machine.end, machine.position


# Replaying ---------------------------------------------------------------------------------------------


@given(executions())
def test_a_replayed_machine_is_in_the_state_of_the_live_one(recording: Recording) -> None:
    assert recording.last is not None
    again = replay(recording.program, recording.journal)
    event(again.machine.phase)
    assert view(again.machine) == view(recording.last.machine)


@given(executions())
def test_replaying_a_whole_journal_asks_for_nothing_new(recording: Recording) -> None:
    machine = replay(recording.program, recording.journal).machine
    batch = machine.take_batch()
    assert (batch.records, batch.steps) == ((), ())
    if isinstance(recording.journal[-1], ExecutionEnded):
        assert machine.phase is MachinePhase.ENDED


@given(executions(), st.integers(min_value=0))
def test_any_prefix_of_the_journal_leads_to_the_same_requests(recording: Recording, cut: int) -> None:
    cut %= len(recording.journal) + 1
    resumed = replay(recording.program, recording.journal[:cut])
    written: list[AnyRecord] = [*recording.journal[:cut], *resumed.machine.take_batch().records]
    for record in recording.journal[cut:]:
        if isinstance(record, INPUTS):
            assert resumed.offer(record)
            written += resumed.machine.take_batch().records
    assert [r for r in written if not isinstance(r, NOTES)] == [
        r for r in recording.journal if not isinstance(r, NOTES)
    ]


@given(executions(), st.integers(min_value=0))
def test_a_crash_before_a_write_loses_only_what_nobody_has_acted_upon(recording: Recording, cut: int) -> None:
    """Whatever the cut, no step is begun by the resumed machine that the journal does not hold."""
    cut %= len(recording.journal) + 1
    machine = replay(recording.program, recording.journal[:cut]).machine
    held = {record.key for record in recording.journal[:cut] if isinstance(record, StepScheduled)}
    fresh = {record.key for record in machine.take_batch().records if isinstance(record, StepScheduled)}
    assert set(machine.steps) <= held | fresh
    assert not held & fresh


# Departing ---------------------------------------------------------------------------------------------


def asks(instruction: Instruction) -> bool:
    """Return whether the instruction leaves a record of its own."""
    return not isinstance(instruction, Listen)


def other(instruction: Instruction) -> st.SearchStrategy[Instruction]:
    """Instructions that ask for something else than this one."""
    return instructions.filter(lambda new: bool(asks(new) and repr(new) != repr(instruction)))


completed = executions(complete=True).filter(
    lambda recording: any(asks(instruction) for task in recording.program.tasks for instruction in task)
)


def mutated(draw: st.DataObject, program: Program) -> Program:
    """Draw one change of the program that its journal must show."""
    places = [(t, i) for t, task in enumerate(program.tasks) for i, one in enumerate(task) if asks(one)]
    number, position = draw.draw(st.sampled_from(places))
    task = list(program.tasks[number])
    match draw.draw(st.sampled_from(["change", "leave out", "add", "swap"])):
        case "change":
            task[position] = draw.draw(other(task[position]))
        case "leave out":
            del task[position]
        case "add":
            place = draw.draw(st.integers(0, len(task)))
            task.insert(place, draw.draw(other(task[place] if place < len(task) else Listen())))
        case _:
            swap = draw.draw(st.sampled_from([i for t, i in places if t == number]))
            assume(repr(task[swap]) != repr(task[position]))
            task[position], task[swap] = task[swap], task[position]
    tasks = list(program.tasks)
    tasks[number] = tuple(task)
    return Program(tuple(tasks))


@given(completed, st.data())
def test_any_change_of_the_program_is_found(recording: Recording, data: st.DataObject) -> None:
    changed = mutated(data, recording.program)
    with pytest.raises(NonDeterminismError) as caught:
        replay(changed, recording.journal)
    departure = caught.value
    assert departure.execution_id == "e-1"
    named = recording.journal[departure.position - 1]
    event(f"at {named.type}")
    sort = named.type.partition("_")[0]
    words = "end as completed" if isinstance(named, ExecutionEnded) else getattr(named, "key", sort)
    assert words in departure.recorded
    assert "usual cause" in str(departure)
    assert "the order of a set of strings" in str(departure)
    assert departure.attempted in str(departure)


@given(completed, st.data())
def test_a_changed_request_is_named_with_every_field_that_differs(
    recording: Recording, data: st.DataObject
) -> None:
    calls = [record for record in recording.journal if isinstance(record, StepScheduled)]
    assume(calls)
    assert isinstance(recording.journal[-1], ExecutionEnded)
    call = data.draw(st.sampled_from(calls))
    number, position = (int(part) for part in call.key.split("."))
    task = list(recording.program.tasks[number])
    was = task[position]
    assert isinstance(was, Call)
    new_name = data.draw(st.sampled_from(["search", "send"]))
    others: list[JSON] = [1, True, 1.0, [1], [1.0], {"x": None}, None]
    new_arguments = data.draw(st.sampled_from(others))
    assume((new_name, repr(new_arguments)) != (was.name, repr(was.arguments)))
    task[position] = replace(was, name=new_name, arguments=new_arguments)
    tasks = list(recording.program.tasks)
    tasks[number] = tuple(task)
    with pytest.raises(NonDeterminismError) as caught:
        replay(Program(tuple(tasks)), recording.journal)
    assert recording.journal[caught.value.position - 1] == call
    fields = [line.split(":")[0] for line in caught.value.difference]
    assert ("name" in fields) == (new_name != was.name)
    assert ("arguments" in fields) == (repr(new_arguments) != repr(was.arguments))
    assert set(fields) <= {"name", "arguments"}


def test_a_departure_reads_like_this() -> None:
    journal: list[AnyRecord] = [
        STARTED,
        scheduled("0.0", {"q": "tides"}),
        TimerStarted(key="1.0", due_at=6.0),
    ]
    program = Program(((Call("search", {"q": "tide tables"}),), (Sleep(5.0),)))
    with pytest.raises(NonDeterminismError) as caught:
        replay(program, journal)
    assert str(caught.value).splitlines()[:4] == [
        "execution e-1 departed from its journal at record 2",
        """  recorded:  activity 'search' at 0.0, {"arguments":{"q":"tides"}}""",
        """  attempted: activity 'search' at 0.0, {"arguments":{"q":"tide tables"}}""",
        """  differs:   arguments: {"q":"tides"} is not {"q":"tide tables"}""",
    ]


def test_a_request_left_out_at_the_end_of_the_journal_is_compared_with_the_one_made_instead() -> None:
    journal: list[AnyRecord] = [STARTED, EventEmitted(key="0.0", kind="text", data={"n": 1})]
    machine = WorkflowMachine("e-1", journal)
    machine.advance()
    machine.request(EventEmitted(key="1.0", kind="text", data={"n": 1}))
    with pytest.raises(NonDeterminismError) as caught:
        machine.advance()
    assert (caught.value.position, caught.value.difference) == (2, ('key: "0.0" is not "1.0"',))


def test_an_execution_that_has_ended_takes_no_more_records() -> None:
    ended = replay(Program(((Emit("text", 1),),)), [STARTED]).machine.take_batch().records
    with pytest.raises(NonDeterminismError, match="end as completed") as caught:
        replay(Program(((Emit("text", 1), Emit("text", 2)),)), [STARTED, *ended])
    assert caught.value.position == 3


def test_code_that_asks_for_less_than_its_journal_says_has_departed() -> None:
    with pytest.raises(NonDeterminismError, match="the code waits or has ended"):
        replay(Program(((Listen(),),)), [STARTED, scheduled("0.0")])


def test_code_that_asks_twice_under_one_key_has_departed() -> None:
    machine = live_machine("0.0")
    with pytest.raises(NonDeterminismError) as caught:
        machine.request(scheduled("0.0"))
    assert caught.value.position == 2
    assert "same key" in caught.value.recorded


MARKER = EventEmitted(key="patch:p", kind="patched", data={"patch": "p"})


def test_a_patch_counts_where_an_execution_comes_for_the_first_time_and_is_journaled() -> None:
    machine = live_machine("a")
    assert machine.takes_patch("p")
    assert machine.takes_patch("p")
    assert machine.take_batch().records == (MARKER,)


@pytest.mark.parametrize("asks_first", [False, True])
def test_a_patch_does_not_count_where_the_journal_goes_on_without_it(asks_first: bool) -> None:
    machine = WorkflowMachine("e-1", [STARTED, scheduled("a"), StepCompleted(at=2, key="a", result=1)])
    machine.advance()
    if asks_first:
        assert not machine.takes_patch("p")
    machine.request(scheduled("a"))
    assert not machine.takes_patch("p")
    machine.advance()
    assert machine.advance() is None
    # The first answer is the answer.
    assert not machine.takes_patch("p")
    assert machine.take_batch().records == ()


def test_a_patch_counts_at_the_end_of_a_journal_once_all_that_it_holds_was_asked_for() -> None:
    for asks_first in (True, False):
        machine = WorkflowMachine("e-1", [STARTED, scheduled("a")])
        machine.advance()
        if asks_first:
            machine.request(scheduled("a"))
        assert machine.takes_patch("p") is asks_first


@pytest.mark.parametrize("is_taken", [True, False])
def test_a_server_that_keeps_the_history_says_whether_a_patch_counts(is_taken: bool) -> None:
    machine, asked = live_machine("a"), list[str]()

    def takes(patch: str) -> bool:
        asked.append(patch)
        return is_taken

    assert machine.takes_patch("p", takes) is is_taken
    assert machine.takes_patch("p", takes) is is_taken
    assert asked == ["p"]
    assert machine.take_batch().records == ((MARKER,) if is_taken else ())


def test_a_patch_that_is_journaled_counts_in_every_replay() -> None:
    machine = WorkflowMachine("e-1", [STARTED, MARKER, scheduled("a"), CancelRequested(at=2, message_id="m")])
    machine.advance()
    assert machine.takes_patch("p")
    machine.request(scheduled("a"))
    machine.advance()
    assert machine.advance() is None
    assert machine.takes_patch("p")


def test_code_whose_patch_was_taken_out_too_early_has_departed() -> None:
    machine = WorkflowMachine("e-1", [STARTED, MARKER])
    machine.advance()
    with pytest.raises(NonDeterminismError, match="patched"):
        machine.advance()


def test_code_that_asks_before_anything_has_happened_has_departed() -> None:
    with pytest.raises(NonDeterminismError, match="no input has come yet"):
        WorkflowMachine("e-1", [STARTED]).request(scheduled("0.0"))


def test_code_that_asks_too_early_is_shown_the_input_it_should_have_waited_for() -> None:
    signal = SignalReceived(at=2.0, message_id="m", name="go", arguments=())
    machine = WorkflowMachine("e-1", [STARTED, signal, scheduled("0.0")])
    machine.advance()
    with pytest.raises(NonDeterminismError, match="signal 'go'") as caught:
        machine.request(scheduled("0.0"))
    assert caught.value.position == 2


@pytest.mark.parametrize(
    "journal",
    [
        [scheduled("0.0")],
        [TimerFired(at=1.0, key="0.0")],
        [CancelRequested(at=0.0, message_id="c")],
        [ExecutionRecovered(at=0.0), SignalReceived(at=0.0, message_id="m", name="s", arguments=())],
        [STARTED, STARTED],
        [STARTED, StepCompleted(at=1.0, key="9.9", result=None)],
        [STARTED, StepFailed(at=1.0, key="9.9", attempts=1, failure=FAILURE)],
        [STARTED, TimerFired(at=1.0, key="9.9")],
    ],
    ids=lambda journal: " ".join(record.type for record in journal),
)
def test_a_journal_that_no_code_could_have_caused_is_refused(journal: list[AnyRecord]) -> None:
    with pytest.raises(NonDeterminismError) as caught:
        replay(Program(((Listen(),),)), journal)
    assert caught.value.position == len(journal)


def test_nothing_follows_the_end() -> None:
    end = ExecutionEnded(status=Status.CANCELLED, result=[[]])
    cancelled = CancelRequested(at=1.0, message_id="c")
    with pytest.raises(NonDeterminismError, match="cancel requested"):
        replay(Program(((Listen(),),)), [STARTED, cancelled, end, cancelled])
    machine = live_machine("0.0")
    machine.request(scheduled("0.1"))
    machine.request(ExecutionEnded(status=Status.COMPLETED))
    for misplaced in (lambda: machine.accept(cancelled), lambda: machine.request(scheduled("0.2"))):
        with pytest.raises(IllegalTransition, match="ending"):
            misplaced()
    batch = machine.take_batch()
    assert [record.type for record in batch.records] == ["step_scheduled", "execution_ended"]
    assert batch.steps == ()
    assert machine.phase is MachinePhase.ENDED


# Inputs that nobody waits for --------------------------------------------------------------------------


@given(executions())
def test_a_late_or_unwanted_answer_is_refused_and_changes_nothing(recording: Recording) -> None:
    live = replay(recording.program, recording.journal)
    assume(live.machine.phase is MachinePhase.LIVE)
    before = view(live.machine)
    answered = [r.key for r in recording.journal if isinstance(r, (StepCompleted, StepFailed, TimerFired))]
    abandoned = [
        r.key
        for r in recording.journal
        if isinstance(r, (StepScheduled, TimerStarted))
        and r.key not in {*live.machine.steps, *live.machine.timers}
    ]
    for key in ["never asked for", *answered, *abandoned]:
        assert not live.offer(StepCompleted(at=9e9, key=key, result=None))
        assert not live.offer(StepFailed(at=9e9, key=key, attempts=1, failure=FAILURE))
        assert not live.offer(TimerFired(at=9e9, key=key))
        live.machine.note(AttemptFailed(at=9e9, key=key, attempt=1, failure=FAILURE, retry_at=9e9))
    assert not live.offer(STARTED)
    assert view(live.machine) == before
    assert live.machine.take_batch().records == ()


def test_an_abandoned_step_is_neither_started_nor_answered() -> None:
    machine = live_machine()
    machine.request(scheduled("0.0"))
    machine.request(scheduled("0.1"))
    machine.abandon("0.0")
    machine.abandon("never asked for")
    batch = machine.take_batch()
    assert batch.records == (scheduled("0.0"), scheduled("0.1"))
    assert batch.steps == ("0.1",)
    assert not machine.accept(StepCompleted(at=2.0, key="0.0", result=None))


def test_nothing_but_the_start_is_accepted_first() -> None:
    machine = WorkflowMachine("e-1", [])
    assert machine.advance() is None
    assert not machine.accept(SignalReceived(at=1.0, message_id="m", name="s", arguments=()))
    assert not machine.accept(CancelRequested(at=1.0, message_id="c"))
    assert machine.accept(STARTED)
    assert not machine.accept(STARTED)


# The table ---------------------------------------------------------------------------------------------


END = ExecutionEnded(status=Status.COMPLETED)
RECOVERED = ExecutionRecovered(at=3.0)
CALLS: dict[str, Callable[[WorkflowMachine], object]] = {
    "abandon": lambda machine: machine.abandon("a"),
    "accept": lambda machine: machine.accept(CancelRequested(at=9.0, message_id="c")),
    "advance": lambda machine: machine.advance(),
    "note": lambda machine: machine.note(RECOVERED),
    "request": lambda machine: machine.request(scheduled("b")),
    "take_batch": lambda machine: machine.take_batch(),
    "takes_patch": lambda machine: machine.takes_patch("p"),
    "takes_update": lambda machine: machine.takes_update("u"),
}
"""A call of each operation."""


def machine_in(phase: MachinePhase) -> WatchedMachine:
    """Return a machine in that phase, whose code has asked for a step."""
    machine = WatchedMachine("e-1", [STARTED, scheduled("a")])
    machine.advance()
    machine.request(scheduled("a"))
    if phase is not MachinePhase.REPLAYING:
        machine.advance()
    if phase in (MachinePhase.ENDING, MachinePhase.ENDED):
        machine.request(END)
    if phase is MachinePhase.ENDED:
        machine.take_batch()
    assert machine.phase is phase
    return machine


def test_every_operation_is_in_the_table() -> None:
    public = {name for name, value in vars(WorkflowMachine).items() if callable(value) and name[0] != "_"}
    assert public == CALLS.keys() == {operation for allowed in OPERATIONS.values() for operation in allowed}


@pytest.mark.parametrize("operation", CALLS)
@pytest.mark.parametrize("phase", MachinePhase)
def test_an_operation_that_a_phase_does_not_allow_is_refused_and_changes_nothing(
    phase: MachinePhase, operation: str
) -> None:
    machine = machine_in(phase)
    before = view(machine)
    if operation in OPERATIONS[phase]:
        CALLS[operation](machine)
    else:
        with pytest.raises(IllegalTransition, match=f"{operation}.*{phase}"):
            CALLS[operation](machine)
        assert view(machine) == before


def arrows() -> set[Arrow]:
    """Return the arrows of the table."""
    return {
        (phase, operation, after)
        for phase, operations in OPERATIONS.items()
        for operation, following in operations.items()
        for after in following
    }


def test_every_arrow_of_the_table_is_walked_and_no_other() -> None:
    walked: set[Arrow] = set()
    for phase, operations in OPERATIONS.items():
        for operation in operations:
            machine = machine_in(phase)
            CALLS[operation](machine)
            walked |= machine.arrows
    for recorded in ((), (END,)):
        machine = WatchedMachine("e-1", [STARTED, *recorded])
        machine.advance()
        machine.request(END)
        walked |= machine.arrows
    assert walked == arrows()


@given(executions(), st.integers(min_value=0))
def test_every_execution_stays_within_the_table(recording: Recording, cut: int) -> None:
    assert recording.last is not None
    resumed = replay(recording.program, recording.journal[: cut % (len(recording.journal) + 1)])
    resumed.machine.take_batch()
    for walked in (recording.last.machine.arrows, resumed.machine.arrows):
        event(str(len(walked)))
        assert walked <= arrows()


def test_a_phase_that_the_table_does_not_have_is_not_entered() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(OPERATIONS, MachinePhase.LIVE, {"request": frozenset({MachinePhase.LIVE})})
        with pytest.raises(IllegalTransition, match="request, which leads to phase ending"):
            machine_in(MachinePhase.LIVE).request(END)


# The order in which things become durable --------------------------------------------------------------


@given(executions())
def test_an_input_and_the_requests_it_caused_are_in_one_batch(recording: Recording) -> None:
    alone = replay(recording.program, [])
    written: list[AnyRecord] = []
    for record in recording.journal:
        if isinstance(record, INPUTS):
            assert alone.offer(record)
            batch = alone.machine.take_batch()
            assert batch.records[0] == record
            assert all(isinstance(one, REQUESTS) for one in batch.records[1:])
            assert batch.position == len(written)
            assert set(batch.steps) <= {r.key for r in batch.records if isinstance(r, StepScheduled)}
            assert set(batch.steps) <= set(alone.machine.steps)
            written += batch.records


@given(executions())
def test_batches_are_the_journal_cut_in_pieces_without_gap_or_overlap(recording: Recording) -> None:
    position = len(recording.journal) - sum(len(batch.records) for batch in recording.batches)
    assert position in (0, 1)
    for batch in recording.batches:
        assert batch.position == position
        assert recording.journal[position : position + len(batch.records)] == list(batch.records)
        position += len(batch.records)


@given(executions())
def test_workflow_time_is_that_of_the_latest_input(recording: Recording) -> None:
    machine = WorkflowMachine("e-1", recording.journal)
    latest = machine.now
    assert latest == 0.0
    assert recording.last is not None
    for record in recording.journal:
        latest = max(latest, record.at) if isinstance(record, INPUTS) else latest
    assert recording.last.machine.now == latest


# Updates (D18) ---------------------------------------------------------------------------------------


def accepted(update_id: str) -> UpdateAccepted:
    """Return an update as a worker accepts it."""
    return UpdateAccepted(at=2.0, update_id=update_id, name="set", arguments=(1,))


@given(executions())
def test_d18_an_update_is_accepted_once_and_answered_at_most_once(recording: Recording) -> None:
    ids = [record.update_id for record in recording.journal if isinstance(record, UpdateAccepted)]
    answered = [record.update_id for record in recording.journal if isinstance(record, UpdateCompleted)]
    event(f"{len(ids)} updates, {len(answered)} answers")
    assert len(set(ids)) == len(ids)
    assert len(set(answered)) == len(answered)
    assert set(answered) <= set(ids)


@given(executions())
def test_d18_a_replayed_machine_knows_the_updates_that_were_accepted(recording: Recording) -> None:
    machine = replay(recording.program, recording.journal).machine
    known = {record.update_id for record in recording.journal if isinstance(record, UpdateAccepted)}
    is_open = machine.phase is MachinePhase.LIVE
    for update_id in ("a", "b", "c", "never sent"):
        assert not is_open or machine.takes_update(update_id) == (update_id not in known)


@given(executions())
def test_d18_rejections_change_nothing(recording: Recording) -> None:
    without = [record for record in recording.journal if not isinstance(record, UpdateNotAccepted)]
    event(f"{len(recording.journal) - len(without)} rejections")
    whole = replay(recording.program, recording.journal).machine
    bare = replay(recording.program, without).machine
    assert view(whole)[:-1] == view(bare)[:-1]


@given(executions())
def test_d18_nothing_is_written_behind_the_end(recording: Recording) -> None:
    ends = [number for number, one in enumerate(recording.journal) if isinstance(one, ExecutionEnded)]
    assert ends in ([], [len(recording.journal) - 1])


def test_d18_an_update_is_not_taken_before_the_start_nor_after_the_end() -> None:
    machine = WorkflowMachine("e-1", [])
    machine.advance()
    assert not machine.takes_update("u")
    machine.accept(STARTED)
    assert machine.takes_update("u")
    machine.request(ExecutionEnded(status=Status.COMPLETED))
    with pytest.raises(IllegalTransition, match=r"takes_update.*ending"):
        machine.takes_update("u")
    machine.note(UpdateNotAccepted(at=3.0, update_id="u", failure=FAILURE))
    assert isinstance(machine.take_batch().records[-1], ExecutionEnded)


def test_d18_an_answer_that_differs_has_departed_but_words_of_a_failure_may_differ() -> None:
    def departure(recorded: UpdateCompleted, asked: UpdateCompleted) -> Sequence[str]:
        machine = WorkflowMachine("e-1", [STARTED, accepted("u"), recorded])
        machine.advance()
        machine.advance()
        try:
            machine.request(asked)
        except NonDeterminismError as error:
            return error.difference
        return ()

    one, other = (UpdateCompleted(update_id="u", result=result) for result in (1, 2))
    failed = UpdateCompleted(update_id="u", failure=FAILURE)
    reworded = UpdateCompleted(update_id="u", failure=FAILURE.with_(message="<object at 0x7f>"))
    unlike = UpdateCompleted(update_id="u", failure=FAILURE.with_(kind="KeyError"))
    assert departure(one, one) == departure(failed, reworded) == ()
    assert departure(one, other) == ("result: 1 is not 2",)
    assert departure(one, failed) == ('failure: null is not "ValueError"', "result: 1 is not null")
    assert departure(failed, unlike) == ('failure: "ValueError" is not "KeyError"',)


def test_d18_code_without_the_answer_that_its_journal_holds_has_departed() -> None:
    answer = UpdateCompleted(update_id="u", failure=FAILURE)
    machine = WorkflowMachine("e-1", [STARTED, accepted("u"), answer])
    machine.advance()
    machine.advance()
    with pytest.raises(NonDeterminismError, match="answer at update:u with ValueError"):
        machine.advance()


def test_d18_an_update_that_the_journal_accepts_twice_is_named_by_its_id() -> None:
    machine = WorkflowMachine("e-1", [STARTED, accepted("u"), accepted("u")])
    machine.advance()
    machine.advance()
    with pytest.raises(NonDeterminismError, match="update accepted of id 'u'"):
        machine.advance()


# Attempts (D4, D5) -------------------------------------------------------------------------------------


@given(executions())
def test_d4_no_two_attempts_of_a_step_have_the_same_number(recording: Recording) -> None:
    for attempts in recording.attempts.values():
        numbers = [number for number, _ in attempts]
        event(f"{len(numbers)} attempts")
        assert numbers == sorted(set(numbers))
        assert numbers[0] == 1 or attempts[0][1]


def test_d4_after_a_crash_a_durable_step_is_in_doubt_and_its_attempt_is_counted() -> None:
    machine = replay(Program(((Call("search", 1),),)), [STARTED]).machine
    machine.take_batch()
    machine.note(ExecutionRecovered(at=2.0))
    assert (machine.steps["0.0"].attempt, machine.steps["0.0"].in_doubt) == (2, True)


def test_d4_a_step_first_asked_for_by_the_recovering_worker_is_not_in_doubt_then_or_ever() -> None:
    program = Program(((Call("search", 1),),))
    first = replay(program, [STARTED])
    first.machine.note(ExecutionRecovered(at=2.0))
    batch = first.machine.take_batch()
    assert [record.type for record in batch.records] == ["execution_recovered", "step_scheduled"]
    again = replay(program, [STARTED, *batch.records])
    for machine in (first.machine, again.machine):
        assert (machine.steps["0.0"].attempt, machine.steps["0.0"].in_doubt) == (1, False)
    again.machine.note(ExecutionRecovered(at=3.0))
    assert (again.machine.steps["0.0"].attempt, again.machine.steps["0.0"].in_doubt) == (2, True)


def test_d19_attempts_that_were_lost_in_a_row_are_counted_by_step() -> None:
    machine = live_machine("0.0", "0.1")
    assert machine.losses == 0
    for lost in (1, 2):
        machine.note(ExecutionRecovered(at=2.0))
        assert (machine.steps["0.0"].losses, machine.losses) == (lost, lost)
    failed = AttemptFailed(at=3.0, key="0.0", attempt=3, failure=FAILURE, retry_at=9.0)
    machine.note(failed)
    assert (machine.steps["0.0"].losses, machine.losses) == (0, 2)
    machine.note(ExecutionRecovered(at=4.0))
    assert (machine.steps["0.0"].losses, machine.steps["0.1"].losses) == (0, 3)
    assert machine.accept(StepCompleted(at=5.0, key="0.1", result=1))
    assert machine.losses == 0


def test_d19_a_loss_that_other_code_caused_does_not_count_for_the_policy() -> None:
    def attempts(machine: WorkflowMachine) -> tuple[int, int, int]:
        opened = machine.steps["0.0"]
        return opened.attempt, opened.counted, opened.losses

    machine = live_machine("0.0", "0.1")
    for part in (Part.ABSENT, Part.PRESENT, Part.ALONE, None):
        machine.note(ExecutionRecovered(at=2.0, part=part))
    assert attempts(machine) == (5, 4, 4)
    machine.note(AttemptFailed(at=3.0, key="0.0", attempt=5, failure=FAILURE, retry_at=9.0))
    assert attempts(machine) == (6, 5, 0)
    # It was backing off, so there was no attempt to lose.
    machine.note(ExecutionRecovered(at=4.0, part=Part.ABSENT))
    assert attempts(machine) == (6, 5, 0)


def test_d24_a_pause_lasts_until_somebody_resumes_the_execution() -> None:
    pause = ExecutionPaused(at=3.0, reason="why")
    journal: list[AnyRecord] = [STARTED, scheduled("0.0")]
    paused = replay(Program(((Call("search", None),),)), journal).machine
    paused.note(pause)
    assert paused.take_batch().records == (pause,)
    for machine in (paused, replay(Program(((Call("search", None),),)), [*journal, pause]).machine):
        assert machine.is_held
        assert not machine.steps["0.0"].in_doubt
        machine.note(ExecutionResumed(at=3.5))
        assert not machine.is_held


def test_d19_after_a_hold_losses_are_counted_anew_and_what_was_in_doubt_still_is() -> None:
    hold = ExecutionHeld(at=3.0, reason="why")
    journal: list[AnyRecord] = [STARTED, scheduled("0.0"), ExecutionRecovered(at=2.0)]
    held = replay(Program(((Call("search", None),),)), journal).machine
    held.note(hold)
    for machine in (held, replay(Program(((Call("search", None),),)), [*journal, hold]).machine):
        opened = machine.steps["0.0"]
        assert (opened.losses, opened.in_doubt, opened.attempt) == (0, True, 2)
        assert machine.is_held
        machine.take_batch()
        machine.note(ExecutionResumed(at=3.5))
        assert not machine.is_held
        assert machine.take_batch().records == (ExecutionResumed(at=3.5),)
        machine.note(ExecutionRecovered(at=4.0))
        assert machine.losses == 1


@pytest.mark.parametrize(("delay", "in_doubt"), [(0.0, True), (10.0, False)])
def test_d20_a_clock_that_was_set_back_hides_no_attempt_that_may_have_begun(
    delay: float, in_doubt: bool
) -> None:
    failed = AttemptFailed(at=9.0, key="0.0", attempt=1, failure=FAILURE, retry_at=9.0 + delay)
    journal: list[AnyRecord] = [STARTED, scheduled("0.0"), failed]
    recovered = ExecutionRecovered(at=3.0)
    machine = replay(Program(((Call("search", None),),)), journal).machine
    machine.note(recovered)
    again = replay(Program(((Call("search", None),),)), [*journal, recovered]).machine
    for one in (machine, again):
        assert (one.steps["0.0"].in_doubt, one.steps["0.0"].attempt) == (in_doubt, 2 + in_doubt)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 10.0])), max_size=6))
def test_d5_failed_attempts_count_on_and_back_off_also_across_a_crash(
    notes: list[tuple[bool, float]],
) -> None:
    machine = live_machine("0.0")
    journal: list[AnyRecord] = [STARTED, scheduled("0.0")]
    now, attempt, in_doubt, retry_at = 2.0, 1, False, 0.0
    for crashed, delay in notes:
        now += 5.0
        if crashed:
            note: AttemptFailed | ExecutionRecovered = ExecutionRecovered(at=now)
            if retry_at <= now:  # While it backs off, no attempt is under way.
                attempt, in_doubt = attempt + 1, True
        else:
            retry_at = now + delay
            note = AttemptFailed(at=now, key="0.0", attempt=attempt, failure=FAILURE, retry_at=retry_at)
            attempt, in_doubt = attempt + 1, False
        machine.note(note)
        journal += machine.take_batch().records
        again = replay(Program(((Call("search", None),),)), journal).machine
        for one in (machine.steps["0.0"], again.steps["0.0"]):
            assert (one.attempt, one.in_doubt, one.retry_at) == (attempt, in_doubt, retry_at)


# Words for people --------------------------------------------------------------------------------------


def test_a_failure_is_repeated_by_its_kind_alone() -> None:
    """Its message may hold an address, or be worded by another version of this library."""
    before, after = (Failure(kind="ValueError", message=f"<object at {at}>") for at in ("0x1", "0x2"))
    call: dict[str, Any] = {"run": "r", "agent": "a", "turn": 1, "call_id": "c", "tool": "t"}
    limits = [
        LimitReachedData(run="r", agent="a", turn=1, limit=limit) for limit in ("5 turns", "five turns")
    ]
    for recorded, repeated in (
        (
            EventEmitted.of("event:1", ToolFailedData(**call, failure=before)),
            EventEmitted.of("event:1", ToolFailedData(**call, failure=after)),
        ),
        (EventEmitted.of("event:1", limits[0]), EventEmitted.of("event:1", limits[1])),
        (
            ExecutionEnded(status=Status.FAILED, failure=before),
            ExecutionEnded(status=Status.FAILED, failure=after),
        ),
    ):
        machine = WorkflowMachine("e-1", [STARTED, recorded])
        machine.advance()
        machine.request(repeated)
        assert machine.advance() is None
        # It ended as the journal says.
        assert machine.end in (None, recorded)


def test_another_kind_of_failure_is_a_departure() -> None:
    failed = ExecutionEnded(status=Status.FAILED, failure=FAILURE)
    machine = WorkflowMachine("e-1", [STARTED, failed])
    machine.advance()
    with pytest.raises(NonDeterminismError, match="failure"):
        machine.request(failed.with_(failure=FAILURE.with_(kind="KeyError")))


def test_skimming_passes_over_an_input_that_nobody_waits_for() -> None:
    machine = skimmed([STARTED, scheduled("0.0"), StepCompleted(at=5.0, key="void", result=1)])
    assert [*machine.steps] == ["0.0"]
