"""The workflow machine: deterministic replay, as a machine without a clock or a loop.

Workflow code runs somewhere else, on an event loop that does nothing by itself. This machine stands between
that code and the journal. It is in one of three phases:

- REPLAYING: records are left. `advance` hands out the next input for the code to be given; what the code
  then asks for (`request`) is matched, key by key, with what the journal says it asked for at that point.
- LIVE: every record has been matched. The driver offers inputs as they come (`accept`); what the code asks
  for is collected. `take_batch` gives everything that must be durable *before* anything of it may be acted
  upon, and `Batch.steps` which steps may start once it is.
- CLOSED: the execution has ended, and its end is written.

What is legal stands in `OPERATIONS`.

The order is a promise: an input and the requests it caused are one batch, hence one append. So a journal
never holds half of what an input caused, and a step that is not in the journal has not been started.

A key says what a step *is* (its place in its own task, or its turn and call within its agent run), so that
branches which run at the same time never depend on the order in which they happened to be scheduled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from outlast.core.errors import IllegalTransition, NonDeterminismError
from outlast.core.events import PatchedData, repeated
from outlast.core.failure import Failure
from outlast.core.json import JSON, canonical
from outlast.core.records import (
    INPUTS,
    NOTES,
    REQUESTS,
    AnyRecord,
    AttemptFailed,
    EventEmitted,
    ExecutionEnded,
    ExecutionHeld,
    ExecutionRecovered,
    ExecutionResumed,
    ExecutionStarted,
    Input,
    Note,
    Request,
    SignalReceived,
    StepCompleted,
    StepFailed,
    StepScheduled,
    TimerFired,
    TimerStarted,
    UpdateAccepted,
    UpdateCompleted,
    UpdateRefused,
)


class MachinePhase(StrEnum):
    """Where a machine stands."""

    REPLAYING = "replaying"
    LIVE = "live"
    CLOSED = "closed"


OPERATIONS: dict[MachinePhase, dict[str, frozenset[MachinePhase]]] = {
    MachinePhase.REPLAYING: {
        "advance": frozenset({MachinePhase.REPLAYING, MachinePhase.LIVE, MachinePhase.CLOSED}),
        "request": frozenset({MachinePhase.REPLAYING}),
    },
    MachinePhase.LIVE: {
        "accept": frozenset({MachinePhase.LIVE}),
        "request": frozenset({MachinePhase.LIVE}),
        "note": frozenset({MachinePhase.LIVE}),
        "take_batch": frozenset({MachinePhase.LIVE, MachinePhase.CLOSED}),
    },
    MachinePhase.CLOSED: {
        "take_batch": frozenset({MachinePhase.CLOSED}),
    },
}
"""What a driver and the code may do in a phase, and the phases that it may lead to."""


@dataclass(slots=True)
class OpenStep:
    """A step without a result: its next attempt, and whether the one before it was lost without a word.

    The latter is `in_doubt`: that attempt may have taken effect, and nobody knows.
    """

    scheduled: StepScheduled
    position: int
    """That of its record, as far as it is known before it is written."""
    attempt: int = 1
    in_doubt: bool = False
    losses: int = 0
    """How many attempts in a row, up to the last, ended with their worker; counted anew after a hold."""
    retry_at: float = 0.0
    last_failure: AttemptFailed | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """What must be appended at `position`, in one write; afterwards `steps` may start."""

    position: int
    records: tuple[AnyRecord, ...]
    steps: tuple[str, ...]


@dataclass(slots=True)
class _Window:
    """The requests that the journal says the last input caused, by key, each with its position.

    Behind an open window the journal ends, and the code may ask for more than it says.
    """

    expected: dict[str, tuple[int, Request]] = field(default_factory=dict)
    end: int = 0
    is_open: bool = False


class WorkflowMachine:
    """Matches one execution's workflow code with its journal, and says what to write next."""

    def __init__(self, execution_id: str, records: Sequence[AnyRecord]) -> None:
        self._id = execution_id
        self._records: list[AnyRecord] = list(records)
        self._next = 0
        self._window = _Window()
        self._fresh: list[AnyRecord] = []
        self._to_start: dict[str, None] = {}
        self._seen: dict[str, int] = {}
        self._has_started = False
        self._patches: dict[str, bool] = {}
        self._updates: set[str] = set()
        self.position = len(records)
        """The number of records that are durable, or have been handed out by `take_batch`."""
        self.phase = MachinePhase.REPLAYING
        self.now = 0.0
        """Workflow time: that of the last input, in seconds since the epoch."""
        self.steps: dict[str, OpenStep] = {}
        """The steps that were asked for and have no result, by key."""
        self.timers: dict[str, float] = {}
        """The timers that have not fired and are still wanted, by key, each with its due time."""
        self.closed: ExecutionEnded | None = None
        self.is_held = False
        """Whether the journal ends with a hold, so that somebody must have resumed the execution."""

    # Replaying -----------------------------------------------------------------------------------------

    def advance(self) -> Input | None:
        """Return the next input that workflow code must be given; None once the journal is used up.

        Call it when the code has come to rest after the last one.

        Raises:
            NonDeterminismError: the journal holds a request that the code did not make.
        """
        self._check("advance")
        if self._window.expected:
            asked_instead = next((record for record in self._fresh if isinstance(record, REQUESTS)), None)
            raise self._departure(*next(iter(self._window.expected.values())), asked_instead)
        while self._next < len(self._records):
            record = self._records[self._next]
            if isinstance(record, INPUTS):
                if not self._awaited(record):
                    raise self._departure(self._next, record, "nothing: the code does not wait for that")
                self._next += 1
                self._look_ahead()
                self._take(record)
                return record
            if isinstance(record, NOTES):
                self._note(record, self._next)
            elif self._next >= self._window.end:
                raise self._departure(self._next, record, "nothing: no input has come yet")
            self._next += 1
        self._records.clear()
        # An end that is news must still be written, in `LIVE`.
        is_over = self.closed is not None and not self._fresh
        self.phase = MachinePhase.CLOSED if is_over else MachinePhase.LIVE
        return None

    def _look_ahead(self) -> None:
        """Collect the requests up to the next input; notes between them do not end a window."""
        expected: dict[str, tuple[int, Request]] = {}
        end, is_final = self._next, False
        while end < len(self._records) and not isinstance(record := self._records[end], INPUTS):
            if not isinstance(record, NOTES):
                expected[record.key] = (end, record)
                is_final = isinstance(record, ExecutionEnded)
            end += 1
        self._window = _Window(expected, end, is_open=end == len(self._records) and not is_final)

    # What workflow code asks for -------------------------------------------------------------------------

    def request(self, asked: Request) -> Request:
        """Take what the code asks for: matched with the journal while replaying, collected when live.

        Return the request as the journal has it. Its words may differ from those that were asked with.

        Raises:
            NonDeterminismError: the journal says that the code asked for something else here, or the code
                asks twice under one key.
            IllegalTransition: the code has asked for the end of the execution before.
        """
        if self.closed is not None:
            raise IllegalTransition(MachinePhase.CLOSED, "request")
        if asked.key in self._seen:
            raise self._departure(self._seen[asked.key], "the same key, before", asked)
        if asked.key in self._window.expected:
            position, recorded = self._window.expected.pop(asked.key)
            if _difference(recorded, asked):
                raise self._departure(position, recorded, asked)
            self._apply(recorded, position)
            return recorded
        if self.phase is MachinePhase.REPLAYING and not self._window.is_open:
            raise self._departure(*self._what_is_recorded_instead(), asked)
        position = self.position + len(self._fresh)
        self._fresh.append(asked)
        if isinstance(asked, StepScheduled):
            self._to_start[asked.key] = None
        self._apply(asked, position)
        return asked

    def patched(self, patch: str) -> bool:
        """Return whether the code that follows is to be what `patch` has made of it.

        It is, once this is in the journal; where the journal goes on without, the code before the patch made
        it, and whatever was answered first is answered always.
        """
        if patch not in self._patches:
            marker = EventEmitted.of(f"patch:{patch}", PatchedData(patch=patch))
            is_new = self.phase is not MachinePhase.REPLAYING or (
                self._window.is_open and not self._window.expected
            )
            self._patches[patch] = is_new or marker.key in self._window.expected
            if self._patches[patch]:
                self.request(marker)
        return self._patches[patch]

    def abandon(self, key: str) -> None:
        """Forget a step or timer that the code no longer waits for; a late answer is not accepted."""
        self.steps.pop(key, None)
        self.timers.pop(key, None)
        self._to_start.pop(key, None)

    def _what_is_recorded_instead(self) -> tuple[int, AnyRecord | str]:
        if self._window.expected:
            return next(iter(self._window.expected.values()))
        if self._window.end:
            return self._window.end, self._records[self._window.end]
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
        """Return whether an update of that id would be news: none was accepted, and there is an execution."""
        return self._has_started and self.closed is None and update_id not in self._updates

    def note(self, record: Note) -> None:
        """Take a piece of the engine's own bookkeeping, to be written with the next batch.

        An attempt of a step that nobody waits for leaves no note, nor does what comes after the end.
        """
        self._check("note")
        if isinstance(record, (ExecutionRecovered, ExecutionResumed)):
            # First in the batch: a step that this worker asked for while it caught up is not in doubt.
            self._fresh.insert(0, record)
        elif self.closed is None and (
            isinstance(record, (UpdateRefused, ExecutionHeld)) or record.key in self.steps
        ):
            self._fresh.append(record)
        self._note(record, self.position)

    def take_batch(self) -> Batch:
        """Return what is not durable yet, and count it as written: append it before acting on it."""
        self._check("take_batch")
        batch = Batch(self.position, tuple(self._fresh), tuple(self._to_start))
        self.position += len(self._fresh)
        self._fresh.clear()
        self._to_start.clear()
        if self.closed is not None:
            self.phase = MachinePhase.CLOSED
        return batch

    @property
    def losses(self) -> int:
        """How many attempts in a row were lost at the open step that has lost most."""
        return max((opened.losses for opened in self.steps.values()), default=0)

    @property
    def has_news(self) -> bool:
        """Whether `take_batch` would hold a record."""
        return bool(self._fresh)

    # Both ------------------------------------------------------------------------------------------------

    def _check(self, operation: str) -> None:
        if operation not in OPERATIONS[self.phase]:
            raise IllegalTransition(self.phase, operation)

    def _take(self, record: Input) -> None:
        self.now = max(self.now, record.at)
        match record:
            case StepCompleted(key=key) | StepFailed(key=key):
                del self.steps[key]
            case TimerFired(key=key):
                del self.timers[key]
            case UpdateAccepted(update_id=update_id):
                self._updates.add(update_id)
            case ExecutionStarted():
                self._has_started = True

    def _awaited(self, record: Input) -> bool:
        match record:
            case StepCompleted(key=key) | StepFailed(key=key):
                return key in self.steps
            case TimerFired(key=key):
                return key in self.timers
            case ExecutionStarted():
                return not self._has_started
            case UpdateAccepted(update_id=update_id):
                return self.takes_update(update_id)
            case _:  # Signals and cancellations wait for nobody to wait for them.
                return self._has_started and self.closed is None

    def _apply(self, request: Request, position: int) -> None:
        self._seen[request.key] = position
        match request:
            case StepScheduled(key=key):
                self.steps[key] = OpenStep(request, position)
            case TimerStarted(key=key, due_at=due_at):
                self.timers[key] = due_at
            case ExecutionEnded():
                self.closed = request
                self.steps.clear()
                self.timers.clear()
                self._to_start.clear()

    def _note(self, note: Note, position: int) -> None:
        match note:
            case AttemptFailed(key=key):
                if (opened := self.steps.get(key)) is not None:
                    opened.attempt = note.attempt + 1
                    opened.retry_at = note.retry_at
                    opened.last_failure = note
                    opened.in_doubt = False
                    opened.losses = 0
            case ExecutionRecovered():
                for opened in self.steps.values():
                    # A step that was still backing off when its worker was lost had no attempt under way.
                    if opened.retry_at <= note.at and opened.position < position:
                        opened.attempt += 1
                        opened.in_doubt = True
                        opened.losses += 1
            case ExecutionHeld():
                self.is_held = True
                # Whoever resumes it has mended something.
                for opened in self.steps.values():
                    opened.losses = 0
            case ExecutionResumed():
                self.is_held = False
            case _:
                pass  # A rejection changes nothing.

    def _departure(
        self, position: int, recorded: AnyRecord | str, attempted: AnyRecord | str | None
    ) -> NonDeterminismError:
        difference: tuple[str, ...] = ()
        if isinstance(recorded, REQUESTS) and isinstance(attempted, REQUESTS):
            difference = _difference(recorded, attempted)
        what = attempted or "nothing more: the code waits or has ended"
        return NonDeterminismError(self._id, position, _tell(recorded), _tell(what), difference)


def _difference(recorded: Request, asked: Request) -> tuple[str, ...]:
    """Return one line for each field in which the two differ, as JSON: 1, 1.0 and true are three values."""
    before, after = _compared(recorded), _compared(asked)
    pairs = {
        name: (canonical(before.get(name)), canonical(after.get(name))) for name in sorted({*before, *after})
    }
    return tuple(f"{name}: {old} is not {new}" for name, (old, new) in pairs.items() if old != new)


def _compared(request: Request) -> dict[str, JSON]:
    """Return the fields that code must repeat; of a failure that is the kind.

    A message may hold an address, and no code relies on it: only who reads the journal hears of it.
    """
    fields: dict[str, JSON] = request.model_dump()
    match request:
        case UpdateCompleted(failure=Failure(kind=kind)) | ExecutionEnded(failure=Failure(kind=kind)):
            fields["failure"] = kind
        case EventEmitted():
            fields["data"] = repeated(request.kind, request.data)
        case _:
            pass
    return fields


def _tell(record: AnyRecord | str) -> str:
    """Return one line that names the record in words, with the fields that tell it from others."""
    if isinstance(record, str):
        return record
    shown: Mapping[str, JSON] = {}
    words = record.type.replace("_", " ")
    match record:
        case StepScheduled():
            shown = {"arguments": record.arguments} if record.arguments is not None else {}
            words = f"{record.kind} {record.name!r} at {record.key}"
        case TimerStarted():
            shown, words = {"due_at": record.due_at}, f"timer at {record.key}"
        case EventEmitted():
            shown, words = record.data, f"event {record.kind!r} at {record.key}"
        case ExecutionEnded():
            shown, words = {"result": record.result}, f"end as {record.status}"
        case StepCompleted() | StepFailed() | TimerFired() | AttemptFailed():
            words = f"{words} at {record.key}"
        case SignalReceived():
            words = f"signal {record.name!r}"
        case UpdateAccepted() | UpdateRefused():
            words = f"{words} of id {record.update_id!r}"
        case UpdateCompleted():
            failed = "" if record.failure is None else f" with {record.failure.kind}"
            shown, words = {"result": record.result}, f"answer at {record.key}{failed}"
        case ExecutionStarted():
            shown, words = record.arguments, f"start of workflow {record.workflow!r}"
    text = canonical(dict(shown)) if shown else ""
    return words if not text else f"{words}, {text if len(text) <= 200 else text[:200] + '…'}"
