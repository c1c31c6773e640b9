"""A stand-in for workflow code, and executions of it, recorded.

A `Program` is data: a few tasks, each a list of instructions that it goes through one after the other. `Code`
interprets it against a `WorkflowMachine`, as a loop with tasks would: it comes to rest when every task waits.
`executions` draws a program and a world around it (results, failures, signals, time, crashes), and keeps the
journal with all that the driver saw while it was written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from outlast.core.errors import ActivityInterrupted
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
    Input,
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
    decode_record,
    encode_record,
)
from outlast.core.workflow_machine import OPERATIONS, Batch, MachinePhase, OpenStep, WorkflowMachine

Arrow = tuple[MachinePhase, str, MachinePhase]
"""A phase, an operation, and the next phase."""


class WatchedMachine(WorkflowMachine):
    """A machine that remembers the arrows of the table that it has walked."""

    def __init__(self, execution_id: str, records: Sequence[AnyRecord]) -> None:
        super().__init__(execution_id, records)
        self.arrows: set[Arrow] = set()


def _watch(name: str) -> None:
    operation = getattr(WorkflowMachine, name)

    def watched(self: WatchedMachine, *arguments: Any) -> Any:
        before = self.phase
        result = operation(self, *arguments)
        self.arrows.add((before, name, self.phase))
        return result

    setattr(WatchedMachine, name, watched)


for _name in sorted({name for allowed in OPERATIONS.values() for name in allowed}):
    _watch(_name)


# Programs ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """Ask for a step and wait for it, at most `timeout` seconds if there is one."""

    name: str
    arguments: JSON
    timeout: float | None = None


@dataclass(frozen=True)
class Sleep:
    """Wait for a timer."""

    seconds: float


@dataclass(frozen=True)
class Emit:
    """Emit an event."""

    kind: str
    data: int


@dataclass(frozen=True)
class Listen:
    """Wait for a signal that nobody has taken yet."""


@dataclass(frozen=True)
class Answer:
    """Wait for an update that nobody has taken yet, and answer it."""


Instruction = Call | Sleep | Emit | Listen | Answer


@dataclass(frozen=True)
class Program:
    """The instructions of the tasks of a workflow. It ends after all of them, or when cancelled."""

    tasks: tuple[tuple[Instruction, ...], ...]


_arguments: list[JSON] = [1, True, [1], {"x": None}]
instructions: SearchStrategy[Instruction] = st.sampled_from(
    [
        *(Call(name, arguments) for name in ("search", "send") for arguments in _arguments),
        Call("search", 1, timeout=5.0),
        Call("send", [1], timeout=60.0),
        Sleep(5.0),
        Sleep(60.0),
        Emit("text", 1),
        Emit("text", 2),
        Emit("note", 1),
        Listen(),
        Answer(),
    ]
)
programs = st.lists(st.lists(instructions, min_size=1, max_size=4).map(tuple), min_size=1, max_size=3).map(
    lambda tasks: Program(tuple(tasks))
)


class Code:
    """A program on its way, asking `machine` for what it needs."""

    def __init__(self, program: Program, machine: WorkflowMachine) -> None:
        self._machine = machine
        self._signals: list[JSON] = []
        self._updates: list[UpdateAccepted] = []
        self._answers: dict[str, JSON] = {}
        self._tasks = [self._run(number, task) for number, task in enumerate(program.tasks)]
        self._results: dict[int, list[JSON]] = {number: [] for number in range(len(self._tasks))}
        self._started = False

    def deliver(self, record: Input) -> None:
        """Take an input, and go on until every task waits."""
        match record:
            case ExecutionStarted():
                self._started = True
            case StepCompleted(key=key, result=result):
                self._answers[key] = result
            case StepFailed(key=key, failure=failure):
                self._answers[key] = failure.message
            case TimerFired(key=key):
                self._answers[key] = "fired"
            case SignalReceived(arguments=arguments):
                self._signals.append(list(arguments))
            case UpdateAccepted():
                self._updates.append(record)
            case CancelRequested():
                self._end(Status.CANCELLED)
                return
        for task in list(self._tasks):
            if next(task, "done") == "done":
                self._tasks.remove(task)
        if not self._tasks:
            self._end(Status.COMPLETED)

    def _run(self, number: int, task: Sequence[Instruction]) -> Iterator[str]:
        """Yield whenever the task must wait."""
        done = self._results[number]
        for position, instruction in enumerate(task):
            key = f"{number}.{position}"
            match instruction:
                case Call(name, arguments, timeout):
                    self._machine.request(
                        StepScheduled(key=key, kind=StepKind.ACTIVITY, name=name, arguments=arguments)
                    )
                    limit = f"{key}.timeout"
                    if timeout is not None:
                        self._machine.request(TimerStarted(key=limit, due_at=self._machine.now + timeout))
                    while key not in self._answers and limit not in self._answers:
                        yield "waits"
                    self._machine.abandon(key)
                    self._machine.abandon(limit)
                    done.append(self._answers.get(key))
                case Sleep(seconds):
                    self._machine.request(TimerStarted(key=key, due_at=self._machine.now + seconds))
                    while key not in self._answers:
                        yield "waits"
                case Emit(kind, data):
                    self._machine.request(EventEmitted(key=key, kind=kind, data={"n": data}))
                case Listen():
                    while not self._signals:
                        yield "waits"
                    done.append(self._signals.pop(0))
                case Answer():
                    while not self._updates:
                        yield "waits"
                    self._machine.request(_answer(self._updates.pop(0)))

    def _end(self, status: Literal[Status.COMPLETED, Status.CANCELLED]) -> None:
        result: JSON = [self._results[number] for number in sorted(self._results)]
        self._machine.request(ExecutionEnded(status=status, result=result))


def _answer(update: UpdateAccepted) -> UpdateCompleted:
    if update.name == "fail":
        failure = Failure(kind="ValueError", message="no")
        return UpdateCompleted(update_id=update.update_id, failure=failure)
    return UpdateCompleted(update_id=update.update_id, result=list(update.arguments))


# Replaying ---------------------------------------------------------------------------------------------


@dataclass
class Replayed:
    """Code and machine, caught up with a journal."""

    machine: WatchedMachine
    code: Code

    def offer(self, record: Input) -> bool:
        """Give the code an input, if it waits for it, as a live execution does."""
        accepted = self.machine.phase is MachinePhase.LIVE and self.machine.accept(record)
        if accepted:
            self.code.deliver(record)
        return accepted


def replay(program: Program, journal: Sequence[AnyRecord]) -> Replayed:
    """Return code and machine after the journal; what goes through storage goes through storage here."""
    machine = WatchedMachine("e-1", [decode_record(encode_record(record)) for record in journal])
    code = Code(program, machine)
    while (record := machine.advance()) is not None:
        code.deliver(record)
    return Replayed(machine, code)


# Recording ---------------------------------------------------------------------------------------------


@dataclass
class Recording:
    """A recorded execution: its program, its journal, and the view of its drivers."""

    program: Program
    journal: list[AnyRecord] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    attempts: dict[str, list[tuple[int, bool]]] = field(default_factory=dict)
    """The attempts that began, by key: each with its number, and whether it follows one in doubt."""
    last: Replayed | None = None
    now: float = 0.0

    def write(self, live: Replayed) -> None:
        """Append what is not durable yet, and begin the attempts that may."""
        batch = live.machine.take_batch()
        assert batch.position == len(self.journal)
        self.batches.append(batch)
        self.journal += batch.records
        assert live.machine.position == len(self.journal)

    def begin(self, live: Replayed, running: dict[str, OpenStep]) -> None:
        """Begin an attempt of every step that waits for one."""
        durable = {record.key for record in self.journal if isinstance(record, StepScheduled)}
        for key, opened in live.machine.steps.items():
            assert key in durable, "a step began before its record was durable"
            if key not in running and opened.retry_at <= self.now:
                running[key] = replace(opened)
                self.attempts.setdefault(key, []).append((opened.attempt, opened.in_doubt))


@st.composite
def executions(draw: st.DrawFn, max_moves: int = 18, complete: bool = False) -> Recording:
    """Executions with everything that can happen to one: also crashes before and after a write.

    With `complete` nobody cancels them, and in the end they get all that they wait for.
    """
    recording = Recording(draw(programs), now=1000.0)
    started = ExecutionStarted(at=recording.now, workflow="w", arguments={})
    if draw(st.booleans()):
        live = replay(recording.program, [])
        live.offer(started)
        recording.write(live)
    else:  # As a client does it, who does not run the code.
        recording.journal.append(started)
        live = replay(recording.program, [started])
    running: dict[str, OpenStep] = {}
    for _ in range(max_moves):
        if live.machine.phase is MachinePhase.ENDED:
            break
        chance = draw(st.integers(0, 15))
        if chance <= 4 or (live.machine.phase is MachinePhase.ENDING and chance < 15):
            recording.write(live)
            recording.begin(live, running)
        elif chance == 15:
            live = _take_over(draw, recording, live, running)
        else:
            recording.now += draw(st.sampled_from([0.0, 1.0, 10.0]))
            _happen(draw, recording, live, running, 12 if complete and chance == 14 else chance)
        running = {key: opened for key, opened in running.items() if key in live.machine.steps}
    while complete and live.machine.phase is MachinePhase.LIVE:
        recording.now += 60.0
        for key in list(live.machine.steps):
            live.offer(StepCompleted(at=recording.now, key=key, result=None))
        for key in list(live.machine.timers):
            live.offer(TimerFired(at=recording.now, key=key))
        live.offer(SignalReceived(at=recording.now, message_id="m", name="s", arguments=()))
        live.offer(UpdateAccepted(at=recording.now, update_id=f"at {recording.now}", name="set"))
    if live.machine.phase is not MachinePhase.ENDED:
        recording.write(live)
    recording.last = live
    return recording


def _take_over(
    draw: st.DrawFn, recording: Recording, live: Replayed, running: dict[str, OpenStep]
) -> Replayed:
    """Another worker takes over, from one that was lost or that hands over in good order."""
    in_order = not running and draw(st.booleans())
    if in_order:
        recording.write(live)
    running.clear()
    live = replay(recording.program, recording.journal)
    if not in_order and live.machine.phase is not MachinePhase.ENDED:
        live.machine.note(ExecutionRecovered(at=recording.now))
    return live


def _send_update(draw: st.DrawFn, recording: Recording, live: Replayed) -> None:
    """Somebody sends an update, of an id that may be known; the worker accepts it or does not."""
    update_id = draw(st.sampled_from(["a", "b", "c"]))
    if draw(st.integers(0, 3)) == 3:
        failure = Failure(kind="ValueError", message="no")
        live.machine.note(UpdateNotAccepted(at=recording.now, update_id=update_id, failure=failure))
        return
    is_news = live.machine.takes_update(update_id)
    update = UpdateAccepted(
        at=recording.now,
        update_id=update_id,
        name=draw(st.sampled_from(["set", "set", "fail"])),
        arguments=(draw(st.integers(0, 9)),),
    )
    assert live.offer(update) == is_news


def _happen(
    draw: st.DrawFn, recording: Recording, live: Replayed, running: dict[str, OpenStep], chance: int
) -> None:
    now, machine = recording.now, live.machine
    due = sorted(key for key, when in machine.timers.items() if when <= now)
    if chance >= 14:
        live.offer(CancelRequested(at=now, message_id="c")) if draw(st.integers(0, 5)) == 5 else None
    elif chance >= 12 and draw(st.booleans()):
        _send_update(draw, recording, live)
    elif chance >= 12:
        live.offer(SignalReceived(at=now, message_id="m", name="s", arguments=(draw(st.integers(0, 9)),)))
    elif chance >= 10 and due:
        assert live.offer(TimerFired(at=now, key=due[0]))
    elif running:
        key = draw(st.sampled_from(sorted(running)))
        attempt = running.pop(key).attempt
        if key not in machine.steps:
            return
        if chance >= 9:
            failure = Failure.of(ActivityInterrupted("a"))
            retry_at = now + draw(st.sampled_from([0.0, 10.0]))
            machine.note(AttemptFailed(at=now, key=key, attempt=attempt, failure=failure, retry_at=retry_at))
        elif chance >= 8:
            failure = Failure(kind="ValueError", message="no")
            assert live.offer(StepFailed(at=now, key=key, attempts=attempt, failure=failure))
        else:
            assert live.offer(StepCompleted(at=now, key=key, result=draw(st.sampled_from(["r", 1, None]))))
