"""Journal records: everything that happened durably to one execution, in order.

There are three sorts. *Inputs* came to workflow code from outside: delivering them again in the same order
makes the same code do the same. *Requests* are the things that the code then asked for; they are written in
one append with the input that caused them. *Notes* are records of the engine's own, and are never delivered.

A step's input is derived, not journaled, wherever it follows from earlier records (a model call, a tool
call): a record holds what is new, so that a run of T turns writes O(T) bytes. All times are seconds since
the epoch (UTC).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any, Literal, Self, cast

from pydantic import Discriminator, Field, TypeAdapter, ValidationError

from outlast.core.errors import StorageCorrupt, StorageTooNew
from outlast.core.events import AnyEventData, event_data
from outlast.core.failure import Failure
from outlast.core.json import JSON, decode, encode, quickly_encoded
from outlast.core.record_layout import Layout
from outlast.core.values import Value, faults

FORMAT = 2
"""The format of the journals that this code writes. It reads every earlier one, too.

1: each record is an object of JSON with the names of its fields, as it still is in an export.
2: the first record is such an object, with the format; every other one is a list (`core.record_layout`).
"""


class Status(StrEnum):
    """The status of an execution. `running` and `paused` are open: every other status is final.

    A journal and a store do not have `paused`: there such an execution is running, and held.
    """

    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TERMINATED = "terminated"


class StepKind(StrEnum):
    """The sort of a step; it decides which events a reader of the execution sees."""

    ACTIVITY = "activity"
    MODEL = "model"
    TOOL = "tool"
    SUMMARY = "summary"
    CHILD = "child"


class ParentLink(Value):
    """The step of another execution that a child was started for.

    `key` is the step's idempotency key, and `since` the start of the parent, which differs from that of an
    execution that had the same id before.
    """

    id: str
    key: str
    since: float


# Inputs ------------------------------------------------------------------------------------------------


class ExecutionStarted(Value):
    """The first record: which workflow runs, with what arguments (by parameter name).

    `seed` is the id whose random numbers the code gets, if that is another one: a copy of a journal replays
    only with those of the original. `trace` is the trace that the caller's span belongs to, as a
    `traceparent`, if the caller has one. `parent` is there if another execution started this one.
    """

    type: Literal["execution_started"] = "execution_started"
    at: float
    workflow: str
    arguments: dict[str, JSON]
    seed: str | None = None
    trace: str | None = None
    parent: ParentLink | None = None


class StepCompleted(Value):
    """The step has its result, for ever."""

    type: Literal["step_completed"] = "step_completed"
    at: float
    key: str
    result: JSON


class StepFailed(Value):
    """The step failed for good, after `attempts` attempts."""

    type: Literal["step_failed"] = "step_failed"
    at: float
    key: str
    attempts: int
    failure: Failure


class ChildStarted(Value):
    """The child that a step asks for exists, with the id `child`. The step ends when the child has ended."""

    type: Literal["child_started"] = "child_started"
    at: float
    key: str
    child: str


class TimerFired(Value):
    """The timer was due."""

    type: Literal["timer_fired"] = "timer_fired"
    at: float
    key: str


class SignalReceived(Value):
    """A signal was taken; `message_id` is the sender's, or else made from its place among the signals."""

    type: Literal["signal_received"] = "signal_received"
    at: float
    message_id: str
    name: str
    arguments: tuple[JSON, ...] = ()
    named: dict[str, JSON] = Field(default_factory=dict)


class UpdateAccepted(Value):
    """An update was taken from the inbox, and its validator did not reject it; its handler begins.

    The caller chose `update_id`: an execution accepts only one update with an id.
    """

    type: Literal["update_accepted"] = "update_accepted"
    at: float
    update_id: str
    name: str
    arguments: tuple[JSON, ...] = ()
    named: dict[str, JSON] = Field(default_factory=dict)


class CancelRequested(Value):
    """Somebody asked the execution to end."""

    type: Literal["cancel_requested"] = "cancel_requested"
    at: float
    message_id: str


# Requests ----------------------------------------------------------------------------------------------


class StepScheduled(Value):
    """Workflow code asked for a step; from here on an attempt may have run.

    `arguments` is None where they follow from earlier records. `about` has the fields of the step's events
    that its key does not say: the agent (the key says run, turn and call id). `effect` is "once" if a retry
    or a fork must not repeat the step without being asked to. `reopened` is how often the execution had been
    re-opened by then, if at all: another step may have had the same key in the part that is void. `model` is
    the model that is asked; later code may ask another one.
    """

    type: Literal["step_scheduled"] = "step_scheduled"
    key: str
    kind: StepKind
    name: str
    arguments: JSON = None
    about: dict[str, JSON] = Field(default_factory=dict)
    effect: Literal["once"] | None = None
    reopened: int | None = None
    model: str | None = None

    @property
    def idempotency_key(self) -> str:
        """The key of the step among all steps of the execution, those of a void part included."""
        return self.key if self.reopened is None else f"{self.key}~{self.reopened}"


class TimerStarted(Value):
    """Workflow code waits until `due_at`."""

    type: Literal["timer_started"] = "timer_started"
    key: str
    due_at: float


class EventEmitted(Value):
    """Workflow code adds an event to the stream. `kind` and `data` are those of `core.events`, as JSON."""

    type: Literal["event_emitted"] = "event_emitted"
    key: str
    kind: str
    data: dict[str, JSON]

    @classmethod
    def of(cls, key: str, data: AnyEventData) -> Self:
        """Return the record of an event."""
        return cls(key=key, kind=str(data.kind), data=data.to_data())

    def event_data(self) -> AnyEventData:
        """Return the data of the event; raises ValueError if `of` did not make the record."""
        return event_data(self.kind, self.data)


class UpdateCompleted(Value):
    """The handler of an accepted update has ended, with a result or a failure, which its caller gets."""

    type: Literal["update_completed"] = "update_completed"
    update_id: str
    result: JSON = None
    failure: Failure | None = None

    @property
    def key(self) -> str:
        """The key of the request: it is the answer to this update."""
        return f"update:{self.update_id}"


class ExecutionEnded(Value):
    """The last record: how the execution ended. Workflow code does not ask for an end as terminated."""

    type: Literal["execution_ended"] = "execution_ended"
    key: Literal["end"] = "end"
    status: Literal[Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.TERMINATED]
    result: JSON = None
    failure: Failure | None = None
    reason: str | None = None
    """Why it was terminated, in the words of whoever did that."""


# Notes -------------------------------------------------------------------------------------------------


class AttemptFailed(Value):
    """An attempt failed; the next one may begin at `retry_at`. `heartbeat` has its last details.

    A second record of the same attempt corrects `retry_at`, after the wall clock was set back.
    """

    type: Literal["attempt_failed"] = "attempt_failed"
    at: float
    key: str
    attempt: int
    failure: Failure
    retry_at: float
    heartbeat: JSON = None


class UpdateNotAccepted(Value):
    """The worker did not accept an update; workflow code never sees it.

    It is a note because it changes nothing in the workflow. It is there for the caller, who cannot see the
    rejection otherwise when worker and caller are two processes. The same id may be tried again.
    """

    type: Literal["update_not_accepted"] = "update_not_accepted"
    at: float
    update_id: str
    failure: Failure


class Part(StrEnum):
    """The part that the code of an execution had in the loss of its worker."""

    ABSENT = "absent"
    """It was not at work then; other code was."""
    PRESENT = "present"
    """It was at work, and so was other code, or the loss came from outside."""
    ALONE = "alone"
    """It alone was at work, and the process was ended or held up by the code that it ran."""
    IDLE = "idle"
    """No code of any execution was at work."""
    TRIED = "tried"
    """It was not at work, and other code was; but the process was ended or held up from inside while this
    execution was tried apart from the others, since it was under suspicion."""


class ExecutionRecovered(Value):
    """A worker took over from one that was lost: attempts that were under way may have taken effect.

    `worker` is the one that was lost, and `last_words` is the text that it left, such as a stack, if any.
    `part` is None if nobody knows whose code was at work. `successor` is the worker that took over.
    """

    type: Literal["execution_recovered"] = "execution_recovered"
    at: float
    worker: str | None = None
    last_words: str | None = None
    part: Part | None = None
    successor: str | None = None


class ExecutionHeld(Value):
    """The execution cannot go on, or failed with `on_failure="hold"`: no worker takes it before a resume."""

    type: Literal["execution_held"] = "execution_held"
    at: float
    reason: str


class ExecutionPaused(Value):
    """Somebody has paused the execution: no worker takes it until somebody resumes it."""

    type: Literal["execution_paused"] = "execution_paused"
    at: float
    reason: str | None = None


class ExecutionResumed(Value):
    """A worker has taken the execution again, since somebody resumed it."""

    type: Literal["execution_resumed"] = "execution_resumed"
    at: float


class ExecutionReopened(Value):
    """Somebody retries the execution after its end: the records from `position` on are void.

    `position` is the number of records before them. `failed` are the keys of the failed steps that are open
    again, as if they had not been tried. `open` are all steps that are open again, in order. `mail` is the
    number of the last message that came before the end: up to there, cancel requests are void, and so are
    updates, whose callers know that the execution ended without them.
    """

    type: Literal["execution_reopened"] = "execution_reopened"
    at: float
    position: int
    mail: int = 0
    failed: tuple[str, ...] = ()
    open: tuple[StepScheduled, ...] = ()


class ExecutionForked(Value):
    """The records before this one are a copy of the first `position` records of `source`.

    `edited` are the keys of the steps whose results were replaced.
    """

    type: Literal["execution_forked"] = "execution_forked"
    at: float
    source: str
    position: int
    edited: tuple[str, ...] = ()


Input = (
    ExecutionStarted
    | StepCompleted
    | StepFailed
    | ChildStarted
    | TimerFired
    | SignalReceived
    | UpdateAccepted
    | CancelRequested
)
Request = StepScheduled | TimerStarted | EventEmitted | UpdateCompleted | ExecutionEnded
Note = (
    AttemptFailed
    | UpdateNotAccepted
    | ExecutionRecovered
    | ExecutionHeld
    | ExecutionPaused
    | ExecutionResumed
    | ExecutionReopened
    | ExecutionForked
)

AnyRecord = Input | Request | Note
Record = Annotated[AnyRecord, Discriminator("type")]

INPUTS = (
    ExecutionStarted,
    StepCompleted,
    StepFailed,
    ChildStarted,
    TimerFired,
    SignalReceived,
    UpdateAccepted,
    CancelRequested,
)
REQUESTS = (StepScheduled, TimerStarted, EventEmitted, UpdateCompleted, ExecutionEnded)
NOTES = (
    AttemptFailed,
    UpdateNotAccepted,
    ExecutionRecovered,
    ExecutionHeld,
    ExecutionPaused,
    ExecutionResumed,
    ExecutionReopened,
    ExecutionForked,
)

_record: TypeAdapter[Any] = TypeAdapter(Record)

LAYOUTS = (
    Layout("s", StepScheduled, "key", "kind", "name", "about", "model", "arguments", "effect", "reopened"),
    Layout("d", StepCompleted, "at", "key", "result"),
    Layout("f", StepFailed, "at", "key", "attempts", "failure"),
    Layout("c", ChildStarted, "at", "key", "child"),
    Layout("t", TimerStarted, "key", "due_at"),
    Layout("r", TimerFired, "at", "key"),
    Layout("m", SignalReceived, "at", "message_id", "name", "named", "arguments"),
    Layout("u", UpdateAccepted, "at", "update_id", "name", "named", "arguments"),
    Layout("a", UpdateCompleted, "update_id", "result", "failure"),
    Layout("x", CancelRequested, "at", "message_id"),
    Layout("e", EventEmitted, "key", "kind", "data"),
    Layout("z", ExecutionEnded, "status", "result", "failure", "reason"),
    Layout("F", AttemptFailed, "at", "key", "attempt", "failure", "retry_at", "heartbeat"),
    Layout("U", UpdateNotAccepted, "at", "update_id", "failure"),
    Layout("R", ExecutionRecovered, "at", "worker", "last_words", "part", "successor"),
    Layout("H", ExecutionHeld, "at", "reason"),
    Layout("P", ExecutionPaused, "at", "reason"),
    Layout("G", ExecutionResumed, "at"),
    Layout("O", ExecutionReopened, "at", "position", "mail", "failed", "open"),
    Layout("C", ExecutionForked, "at", "source", "position", "edited"),
)
"""How records are written in a journal; those of notes have capital letters. The first record has none: it is
an object, which code of every version can look at for the format."""

_BY_CLASS = {layout.cls: layout for layout in LAYOUTS}
_BY_TAG = {layout.tag: layout for layout in LAYOUTS}


def encode_record(record: AnyRecord) -> bytes:
    """Return the record as a journal stores it; raises ValueError when it is nested too deep."""
    if isinstance(record, ExecutionStarted):
        named = {"type": record.type, "format": FORMAT, **record.to_data()}
        return quickly_encoded(named) or encode(named)
    return _BY_CLASS[type(record)].written(record)


class Encoder:
    """Encodes each record only once: to check its size, and for the append that follows."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[AnyRecord, bytes]] = {}

    def size(self, record: AnyRecord) -> int:
        """Return how many bytes the record takes; raises ValueError when it is nested too deep."""
        data = encode_record(record)
        self._kept[id(record)] = record, data  # the record is kept, so its id is not given to another
        return len(data)

    def forget(self) -> None:
        """Drop the records that were checked and are in the journal already."""
        self._kept.clear()

    def take(self, records: Iterable[AnyRecord]) -> list[bytes]:
        """Return the records as a journal stores them, and drop all that were checked so far."""
        kept, self._kept = self._kept, {}
        return [kept[id(record)][1] if id(record) in kept else encode_record(record) for record in records]


def decode_record(data: bytes) -> AnyRecord:
    """Return the record in `data`, which is in this format or in an earlier one.

    Raises:
        StorageTooNew: it begins a journal in a newer format.
        StorageCorrupt: it is not a record of any format.
    """
    try:
        value = decode(data)
    except ValueError as error:
        raise _corrupt("not JSON") from error
    return read_record(value)


def read_record(value: Any) -> AnyRecord:
    """Return the record that a JSON value stands for; raises the errors of `decode_record`."""
    record: AnyRecord
    where = ""
    try:
        match value:
            case {"format": int(format)} if format > FORMAT:
                raise StorageTooNew(
                    f"a journal is in format {format}, this code reads up to {FORMAT}; upgrade outlast"
                )
            case {"type": "execution_started", "format": int(), **started}:
                record = ExecutionStarted.model_validate(started)
            case [str(tag), *items] if tag in _BY_TAG:
                where = f"{_BY_TAG[tag].cls.__name__}: "
                record = cast(AnyRecord, _BY_TAG[tag].read(items))
            case _:
                record = _record.validate_python(value)
    except ValueError as error:
        why = "; ".join(faults(error)) if isinstance(error, ValidationError) else str(error)
        raise _corrupt(where + why) from error
    return record


def _corrupt(why: str) -> StorageCorrupt:
    return StorageCorrupt(
        f"a journal holds bytes that are not a record of this library ({why}); "
        "it was written by other code, or damaged: restore it from a copy"
    )
