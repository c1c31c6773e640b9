"""The workflow machine: deterministic replay, without a loop and without a clock.

Workflow code is an ordinary coroutine, and a coroutine cannot be stored. To bring it back after a crash it is
run again from its beginning, and given what it was given the first time. That works if the code then does
what it did the first time; and if it does not, nobody may act upon it. This machine stands between the code,
which runs somewhere else on a loop that does nothing by itself, and the journal. It sees to three things.

*The code gets its inputs again, in order.* A journal is a sequence of inputs, each with the requests that it
caused (and notes of the engine's own, which the code never sees). `advance` returns the next input; the code
gets it and runs until it can go no further. Time is that of the last input (`now`), never a clock's.

*The code must ask for what it asked for then.* The requests between one input and the next are the *window*
of that input. A request is looked up in the window by its key, not by its place, because a key says what a
step is (its place in its own task, or its turn and call within its agent run): branches that run at the same
time may ask in any order. What is in the window and not asked for, or asked for and not in it, is a
departure. Only the window of the last input is open: the journal stops there because a worker stopped there,
so the code may ask for more than was written. `departures` says how a difference is found and worded.

*What the code asks for is durable before anything of it is done.* `take_batch` returns what must be appended
in one write, an input with the requests that it caused, and which steps may start once it is written. So a
journal never holds half of what an input caused, and a step that is not in the journal has not been started.
To write each request at once was rejected: it takes an append for each, and a crash between two of them would
leave the code in a state that it never was in.

A step that is in the journal may have been started, and its worker may have died in the middle of an attempt.
`OpenStep` counts the attempts and knows whether one is in doubt; the driver decides what follows.

The machine is in one of four phases, and `OPERATIONS` says what each allows:

- REPLAYING: the journal is not used up.
- LIVE: every record has been matched. The driver offers inputs as they come, and the code goes on.
- ENDING: the code has asked for the end of the execution, which is not written yet. Nothing reaches the code.
- ENDED: the end is in the journal, or has been handed out to be written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from outlast.core.children import OpenChild
from outlast.core.departures import departure, differences
from outlast.core.errors import IllegalTransition, NonDeterminismError
from outlast.core.events import PatchedData
from outlast.core.records import (
    INPUTS,
    NOTES,
    REQUESTS,
    AnyRecord,
    AttemptFailed,
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
    Input,
    Note,
    Part,
    Request,
    StepCompleted,
    StepFailed,
    StepKind,
    StepScheduled,
    TimerFired,
    TimerStarted,
    UpdateAccepted,
)
from outlast.core.tally import Tally


class MachinePhase(StrEnum):
    """The phase of a machine."""

    REPLAYING = "replaying"
    LIVE = "live"
    ENDING = "ending"
    ENDED = "ended"


OPERATIONS: dict[MachinePhase, dict[str, frozenset[MachinePhase]]] = {
    MachinePhase.REPLAYING: {
        "advance": frozenset({MachinePhase.REPLAYING, MachinePhase.LIVE}),
        "request": frozenset({MachinePhase.REPLAYING, MachinePhase.ENDING, MachinePhase.ENDED}),
        "takes_patch": frozenset({MachinePhase.REPLAYING}),
        "abandon": frozenset({MachinePhase.REPLAYING}),
    },
    MachinePhase.LIVE: {
        "accept": frozenset({MachinePhase.LIVE}),
        "takes_update": frozenset({MachinePhase.LIVE}),
        "request": frozenset({MachinePhase.LIVE, MachinePhase.ENDING}),
        "takes_patch": frozenset({MachinePhase.LIVE}),
        "abandon": frozenset({MachinePhase.LIVE}),
        "note": frozenset({MachinePhase.LIVE}),
        "take_batch": frozenset({MachinePhase.LIVE}),
    },
    MachinePhase.ENDING: {
        "advance": frozenset({MachinePhase.ENDING}),
        "abandon": frozenset({MachinePhase.ENDING}),
        "note": frozenset({MachinePhase.ENDING}),
        "take_batch": frozenset({MachinePhase.ENDED}),
    },
    MachinePhase.ENDED: {
        "advance": frozenset({MachinePhase.ENDED}),
        "abandon": frozenset({MachinePhase.ENDED}),
        "take_batch": frozenset({MachinePhase.ENDED}),
    },
}
"""For each phase the operations that it allows, and the phases that each may lead to."""


@dataclass(slots=True)
class OpenStep:
    """A step without a result: its next attempt, and whether the one before it is in doubt.

    It is in doubt if its worker was lost: it may have had its side effect, and nobody knows.
    """

    scheduled: StepScheduled
    position: int
    """That of its record, as far as it is known before it is written."""
    attempt: int = 1
    earlier: int = 0
    """The attempts under the same idempotency key that are no longer counted, since a retry began anew."""
    in_doubt: bool = False
    losses: int = 0
    """The number of last attempts in a row that ended with their worker; 0 again after a hold."""
    spared: int = 0
    """The attempts that do not count for the policy: other code ended their worker while they waited."""
    retry_at: float = 0.0
    last_failure: AttemptFailed | None = None

    def begin_anew(self, *, earlier: int = 0) -> None:
        """Forget the attempts that were made, but for their number."""
        self.earlier = earlier
        self.attempt, self.in_doubt, self.losses, self.spared = 1, False, 0, 0
        self.retry_at, self.last_failure = 0.0, None

    @property
    def counted(self) -> int:
        """The number of the next attempt, as the policy counts them."""
        return self.attempt - self.spared

    def may_be_under_way(self, at: float) -> bool:
        """Return whether the next attempt can have begun by that date; it cannot while the step backs off.

        An attempt that needed no wait can have begun, whatever a clock says that has been set back since.
        """
        failed_at = at if self.last_failure is None else self.last_failure.at
        return self.retry_at <= max(at, failed_at)


@dataclass(frozen=True, slots=True)
class Batch:
    """Records that must be appended at `position`, in one write; afterwards `steps` may start."""

    position: int
    records: tuple[AnyRecord, ...]
    steps: tuple[str, ...]


@dataclass(slots=True)
class _JournalWindow:
    """The requests that, by the journal, the last input caused: by key, each with its position.

    An open window is the last one, and has no end of the execution in it: the code may ask for more.
    """

    expected: dict[str, tuple[int, Request]] = field(default_factory=dict)
    end: int = 0
    is_open: bool = False


class WorkflowMachine:
    """Matches one execution's workflow code with its journal, and says what to write next."""

    def __init__(
        self,
        execution_id: str,
        records: Sequence[AnyRecord],
        *,
        length: int | None = None,
        places: Sequence[int] | None = None,
        reopened: int = 0,
        void: Mapping[str, StepScheduled] | None = None,
    ) -> None:
        """Begin to replay the records that count, of a journal of `length` records; see `reruns.counted`.

        `places` are the numbers of records before each of them in that journal.
        """
        self._id = execution_id
        self._reopened = reopened
        self._void = void or {}
        self._records: list[AnyRecord] = list(records)
        self._places = range(len(records)) if places is None else places
        self._next = 0
        self._window = _JournalWindow()
        self._fresh: list[AnyRecord] = []
        self._to_start: dict[str, None] = {}
        self._seen: dict[str, int] = {}
        self._has_started = False
        self._patches: dict[str, bool] = {}
        self._updates: set[str] = set()
        self.position = len(records) if length is None else length
        """The number of records that are durable, or have been handed out by `take_batch`."""
        self.phase = MachinePhase.REPLAYING
        self._allowed = OPERATIONS[self.phase]
        self.now = 0.0
        """Workflow time: that of the last input, in seconds since the epoch."""
        self.steps: dict[str, OpenStep] = {}
        """The steps that were asked for and have no result, by key, but for children."""
        self.children: dict[str, OpenChild] = {}
        """The children that were asked for and have not ended, by the key of the step. After the end of the
        execution, they are those that were left at its end."""
        self.timers: dict[str, float] = {}
        """The timers that have not fired and are still wanted, by key, each with its due time."""
        self.tally = Tally()
        self.end: ExecutionEnded | None = None
        """The end of the execution, once the code has asked for it."""
        self.is_held = False
        """True if the journal ends with a hold or a pause: somebody must have resumed the execution."""

    # The table -------------------------------------------------------------------------------------------

    def _check(self, operation: str) -> None:
        if operation not in self._allowed:
            raise IllegalTransition(self.phase, operation)

    def _enter(self, phase: MachinePhase, operation: str) -> None:
        if phase not in self._allowed[operation]:
            raise IllegalTransition(self.phase, f"{operation}, which leads to phase {phase},")
        self.phase, self._allowed = phase, OPERATIONS[phase]

    # Replaying -------------------------------------------------------------------------------------------

    def advance(self) -> Input | None:
        """Return the next input that workflow code must be given; None once the journal is used up.

        Call it when the code has come to rest after the last one.

        Raises:
            NonDeterminismError: the journal holds a request that the code did not make, or an input that
                the code does not wait for.
        """
        self._check("advance")
        if self._window.expected:
            asked_instead = next((record for record in self._fresh if isinstance(record, REQUESTS)), None)
            raise self._departure(
                *next(iter(self._window.expected.values())),
                asked_instead or "nothing more: the code waits or has ended",
            )
        while self._next < len(self._records):
            record = self._records[self._next]
            if isinstance(record, INPUTS):
                if not self._awaited(record):
                    place = self._places[self._next]
                    raise self._departure(place, record, "nothing: the code does not wait for that")
                self._next += 1
                self._look_ahead()
                self._take(record)
                return record
            if isinstance(record, NOTES):
                self._note(record, self._places[self._next])
            elif self._next >= self._window.end:
                place = self._places[self._next]
                raise self._departure(place, record, "nothing: no input has come yet")
            self._next += 1
        self._records.clear()
        self._enter(MachinePhase.LIVE if self.end is None else self.phase, "advance")
        return None

    def _look_ahead(self) -> None:
        """Collect the requests up to the next input; notes between them do not end a window."""
        expected: dict[str, tuple[int, Request]] = {}
        end, has_end = self._next, False
        while end < len(self._records) and not isinstance(record := self._records[end], INPUTS):
            if not isinstance(record, NOTES):
                expected[record.key] = (self._places[end], record)
                has_end = has_end or isinstance(record, ExecutionEnded)
            end += 1
        self._window = _JournalWindow(expected, end, is_open=end == len(self._records) and not has_end)

    # Requests of workflow code ---------------------------------------------------------------------------

    def request(self, asked: Request) -> Request:
        """Take what the code asks for: matched with the journal while replaying, collected when live.

        Return the request as the journal has it. Its words may differ from those that were asked with.

        Raises:
            NonDeterminismError: the journal says that the code asked for something else here, or the code
                asks twice under one key.
            IllegalTransition: the code has asked for the end of the execution before.
        """
        self._check("request")
        key, expected = asked.key, self._window.expected
        if key in self._seen:
            raise self._departure(self._seen[key], "the same key, before", asked)
        if key in expected:
            position, recorded = expected.pop(key)
            if differences(recorded, asked):
                raise self._departure(position, recorded, asked)
            self._apply(recorded, position, MachinePhase.ENDED)
            return recorded
        if self.phase is MachinePhase.REPLAYING and not self._window.is_open:
            raise self._departure(*self._recorded_instead(), asked)
        position = self.position + len(self._fresh)
        if isinstance(asked, StepScheduled):
            if asked.kind is not StepKind.CHILD:
                self._to_start[key] = None
            if key in self._void:
                asked = self._marked(asked, self._void[key])
        self._fresh.append(asked)
        self._apply(asked, position, MachinePhase.ENDING)
        return asked

    def _marked(self, asked: StepScheduled, void: StepScheduled) -> StepScheduled:
        """Return the request with the mark that decides whether it is the same step as a void one."""
        is_same = asked.arguments is not None and not differences(void, asked)
        return asked.with_(reopened=void.reopened if is_same else self._reopened)

    def takes_patch(self, patch: str, is_taken: Callable[[str], bool] | None = None) -> bool:
        """Return whether the code behind `patch` is to run, not the code that was there before.

        It is where an execution comes to the patch for the first time, which the journal then says. It is not
        where the journal goes on without the patch, because the older code wrote that. The first answer is
        the answer for the rest of the execution. `is_taken` answers for what a server keeps, which comes
        after the journal.
        """
        self._check("takes_patch")
        if patch not in self._patches:
            marker = EventEmitted.of(f"patch:{patch}", PatchedData(patch=patch))
            is_new = self._is_new_patch() and (is_taken is None or is_taken(patch))
            self._patches[patch] = is_new or marker.key in self._window.expected
            if self._patches[patch]:
                self.request(marker)
        return self._patches[patch]

    def _is_new_patch(self) -> bool:
        return self.phase is not MachinePhase.REPLAYING or (
            self._window.is_open and not self._window.expected
        )

    def abandon(self, key: str) -> None:
        """Forget a step or timer that the code no longer waits for; a late result is not accepted."""
        self._check("abandon")
        self.steps.pop(key, None)
        self.tally.asked_at.pop(key, None)
        self.timers.pop(key, None)
        self._to_start.pop(key, None)

    def _recorded_instead(self) -> tuple[int, AnyRecord | str]:
        if self._window.expected:
            return next(iter(self._window.expected.values()))
        if self._window.end:
            return self._places[self._window.end], self._records[self._window.end]
        return 0, "nothing: no input has come yet"

    # Live ------------------------------------------------------------------------------------------------

    def accept(self, record: Input) -> bool:
        """Take an input from the outside; False when nobody waits for it, and then it must be dropped.

        When it returns True, give the input to the code at once, let it come to rest, then offer the next.
        """
        self._check("accept")
        if not self._awaited(record):
            return False
        self._fresh.append(record)
        self._take(record)
        return True

    def takes_update(self, update_id: str) -> bool:
        """Return whether `accept` would take an update with that id: the execution has accepted none yet."""
        self._check("takes_update")
        return self._is_new_update(update_id)

    def note(self, record: Note) -> None:
        """Take a piece of the engine's own bookkeeping, to be written with the next batch.

        An attempt of a step that nobody waits for leaves no note, nor does what comes after the end.
        """
        self._check("note")
        if isinstance(record, (ExecutionRecovered, ExecutionResumed)):
            # First in the batch: a step that this worker asked for while it caught up is not in doubt.
            self._fresh.insert(0, record)
        elif self.end is None and (not isinstance(record, AttemptFailed) or record.key in self.steps):
            self._fresh.append(record)
        self._note(record, self.position)

    def take_batch(self) -> Batch:
        """Return what is not durable yet, and count it as written: append it before acting on it."""
        self._check("take_batch")
        batch = Batch(self.position, tuple(self._fresh), tuple(self._to_start))
        self.position += len(self._fresh)
        self._fresh.clear()
        self._to_start.clear()
        if self.end is not None:
            self._enter(MachinePhase.ENDED, "take_batch")
        return batch

    @property
    def losses(self) -> int:
        """The number of attempts in a row that were lost at the open step that has lost most."""
        return max((opened.losses for opened in self.steps.values()), default=0)

    # Both ------------------------------------------------------------------------------------------------

    def _take(self, record: Input) -> None:
        self.now = max(self.now, record.at)
        match record:
            case StepCompleted(key=key) | StepFailed(key=key):
                opened = self.children.pop(key) if key in self.children else self.steps.pop(key)
                self.tally.asked_at.pop(key, None)
                if isinstance(record, StepCompleted):
                    self.tally.complete(opened.scheduled, record)
            case ChildStarted(key=key, child=child):
                self.children[key].id = child
            case TimerFired(key=key):
                del self.timers[key]
            case UpdateAccepted(update_id=update_id):
                self._updates.add(update_id)
            case ExecutionStarted(parent=parent):
                self._has_started = True
                self.tally.parent = None if parent is None else parent.id

    def _awaited(self, record: Input) -> bool:
        match record:
            case StepCompleted(key=key) | StepFailed(key=key):
                return key in self.steps or (key in self.children and self.end is None)
            case ChildStarted(key=key):
                return self.end is None and key in self.children and self.children[key].id is None
            case TimerFired(key=key):
                return key in self.timers
            case ExecutionStarted():
                return not self._has_started
            case UpdateAccepted(update_id=update_id):
                return self._is_new_update(update_id)
            case _:  # Signals and cancel requests come unasked, as long as there is code to take them.
                return self._has_started and self.end is None

    def _is_new_update(self, update_id: str) -> bool:
        return self._has_started and self.end is None and update_id not in self._updates

    def _apply(self, request: Request, position: int, phase_at_end: MachinePhase) -> None:
        self._seen[request.key] = position
        self.tally.ask(request, self.now)
        match request:
            case StepScheduled(key=key, kind=StepKind.CHILD):
                self.children[key] = OpenChild(request)
            case StepScheduled(key=key):
                self.steps[key] = OpenStep(request, position)
            case TimerStarted(key=key, due_at=due_at):
                self.timers[key] = due_at
            case ExecutionEnded():
                self.end = request
                self.steps.clear()
                self.timers.clear()
                self._to_start.clear()
                self._enter(phase_at_end, "request")

    def _note(self, note: Note, position: int) -> None:
        match note:
            case AttemptFailed(key=key):
                if (opened := self.steps.get(key)) is not None:
                    opened.attempt = note.attempt + 1
                    opened.retry_at = note.retry_at
                    opened.last_failure = note
                    opened.in_doubt = False
                    opened.losses = 0
            case ExecutionRecovered(part=part, worker=worker):
                if worker is None:  # It was imported, and its children may not be here.
                    for child in self.children.values():
                        child.id = None
                for opened in self.steps.values():
                    if opened.may_be_under_way(note.at) and opened.position < position:
                        opened.attempt += 1
                        opened.in_doubt = True
                        opened.losses += 1
                        opened.spared += part is Part.ABSENT
            case ExecutionHeld():
                self.is_held = True
                # Whoever resumes the execution has mended the cause, so its losses no longer count.
                for opened in self.steps.values():
                    opened.losses = 0
            case ExecutionPaused():
                self.is_held = True
            case ExecutionResumed():
                self.is_held = False
            case ExecutionReopened(failed=failed):
                self.is_held = False
                for key, opened in self.steps.items():
                    if key in failed:
                        opened.begin_anew(earlier=opened.earlier + opened.attempt)
                    elif opened.may_be_under_way(note.at):
                        opened.attempt += 1
                        opened.in_doubt = True
                for key, child in self.children.items():
                    child.reopen(has_failed=key in failed)
            case ExecutionForked(source=source):
                self.is_held = False
                self.tally.forked_from = source
                for opened in self.steps.values():
                    opened.begin_anew()
                for child in self.children.values():
                    child.begin_anew()
            case _:
                pass  # A rejected update changes nothing.

    def _departure(
        self, position: int, recorded: AnyRecord | str, attempted: AnyRecord | str
    ) -> NonDeterminismError:
        return departure(self._id, position, recorded, attempted)


def skimmed(records: Sequence[AnyRecord]) -> WorkflowMachine:
    """Return a machine that has taken records without code, only to be looked at.

    What the code no longer waits for is still open in it, because only the code can say so.
    """
    machine = WorkflowMachine("", ())
    for position, record in enumerate(records):
        if isinstance(record, NOTES):
            machine._note(record, position)
        elif isinstance(record, REQUESTS):
            machine._apply(record, position, MachinePhase.ENDED)
        elif machine._awaited(record):
            machine._take(record)
    return machine
