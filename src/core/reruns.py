"""Running an execution again: which records of a journal count, and how a journal is continued or copied.

A journal is append-only, and still it can be mended. A *retry* appends a record which says that everything
from a position on is void; the code is then run from the prefix that counts. A *fork* copies a prefix into
the journal of a new execution. Both rest on one property of the workflow machine: any prefix of a journal
gives the same requests again, so any prefix can be gone on from.

What is void was done nevertheless, and no completed step may run again. From that follows:

- A step that was asked for before that position, and completed after it, has its result. It is delivered
  again (`undelivered`), and so are signals and accepted updates: their senders rely on them.
- An activity of the void part that is asked for again, with the same key and arguments, gets the result that
  it had (`recalled`). This does not hold for model and tool calls: their inputs follow from earlier records,
  of which one is another now.
- Any other step that gets a key which a void step had has another idempotency key
  (`StepScheduled.idempotency_key`): outside, the key may stand for what was done then.
- A step that was open when the execution ended may have been under way. It is in doubt, as after a crash.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from outlast.core.children import ends_with_parent
from outlast.core.errors import ActivityFailed, CannotRerun, WouldRepeat
from outlast.core.failure import Failure
from outlast.core.json import JSON
from outlast.core.records import (
    INPUTS,
    AnyRecord,
    CancelRequested,
    ExecutionEnded,
    ExecutionForked,
    ExecutionHeld,
    ExecutionReopened,
    ExecutionStarted,
    SignalReceived,
    Status,
    StepCompleted,
    StepFailed,
    StepKind,
    StepScheduled,
    UpdateAccepted,
)

INPUT = "input"
"""The key under which a fork edits the arguments of the execution."""


@dataclass(frozen=True, slots=True)
class Counted:
    """The part of a journal that counts."""

    records: tuple[AnyRecord, ...]
    """Without what is void, and without an end that workflow code did not ask for."""
    length: int
    """The number of all records of the journal."""
    reopened: int
    """How often it was re-opened."""
    inherited: frozenset[str]
    """The keys of the steps that ended in another execution, of which this one is a fork."""
    places: Sequence[int] = ()
    """For each of the records, the number of records before it in the journal."""
    outlived: frozenset[str] = frozenset()
    """The keys of the steps that ended before it was last re-opened."""
    mail: int = 0
    """The number of the last message of which only a signal still counts."""
    undelivered: tuple[SignalReceived | UpdateAccepted | StepCompleted, ...] = ()
    """The inputs of void parts that are still awaited and were not delivered again yet, in order."""
    void: Mapping[str, StepScheduled] = field(default_factory=dict)
    """The last void step with each key."""
    recalled: Mapping[str, StepCompleted] = field(default_factory=dict)
    """How void activities completed, by key."""


def counted(records: Sequence[AnyRecord]) -> Counted:
    """Return what counts of the records of a journal, given from the first."""
    if not any(isinstance(record, (ExecutionReopened, ExecutionForked)) for record in records):
        whole = tuple(records[:-1] if records and _is_termination(records[-1]) else records)
        return Counted(whole, len(records), 0, frozenset(), range(len(whole)))
    valid = _valid(records)
    kept = {position for position, _ in valid}
    still_open = _open_steps([record for _, record in valid])
    known = {_message_of(record) for _, record in valid}
    undelivered: dict[str, SignalReceived | UpdateAccepted | StepCompleted] = {}
    void: dict[str, StepScheduled] = {}
    recalled: dict[str, StepCompleted] = {}
    asked: dict[str, StepScheduled | None] = {}  # by key, the last step if that is void
    for position, record in enumerate(records):
        if isinstance(record, StepScheduled):
            asked[record.key] = None if position in kept else record
        if position in kept:
            continue
        match record:
            case StepScheduled(key=key):
                void[key] = record
                recalled.pop(key, None)
            case StepCompleted(key=key) if (step := asked[key]) is not None:
                if step.arguments is not None:
                    recalled[key] = record
            case StepCompleted(key=key) if key in still_open:
                undelivered[f"step {key}"] = record
            case SignalReceived() | UpdateAccepted() if (message := _message_of(record)) not in known:
                undelivered[message] = record
    for key, step in void.items():
        # Such a child has ended with its parent: the same step asks for another one.
        if step.kind is StepKind.CHILD and key not in recalled and ends_with_parent(step):
            void[key] = step.with_(arguments=None)
    inherited = outlived = frozenset[str]()
    ended: list[str] = []
    for _, record in valid:
        match record:
            case StepCompleted(key=key) | StepFailed(key=key):
                ended.append(key)
            case ExecutionForked():
                inherited = frozenset(ended)
            case ExecutionReopened():
                outlived = frozenset(ended)
    counting = [(position, record) for position, record in valid if not _is_termination(record)]
    return Counted(
        records=tuple(record for _, record in counting),
        places=tuple(position for position, _ in counting),
        length=len(records),
        reopened=sum(isinstance(record, ExecutionReopened) for record in records),
        inherited=inherited,
        outlived=outlived,
        mail=max((record.mail for record in records if isinstance(record, ExecutionReopened)), default=0),
        undelivered=tuple(undelivered.values()),
        void=void,
        recalled=recalled,
    )


def retried(
    execution_id: str, records: Sequence[AnyRecord], at: float, *, again: bool = False, mail: int = 0
) -> ExecutionReopened:
    """Return the record that re-opens an execution which has ended; its journal holds `records`.

    - If a step failed and that ended the execution, the step is open again, and so is each step that failed
      after it.
    - If code raised, the code gets its last input again.
    - If it was cancelled, it goes on as if nobody had asked for that.
    - If it was terminated, it goes on from where it was.

    `mail` is the number of the last message in its inbox.

    Raises:
        CannotRerun: the execution has not ended, or has completed.
        WouldRepeat: without `again`, a step may be done twice that must not be.
    """
    valid = _valid(records)
    end = valid[-1][1] if valid else None
    if not isinstance(end, ExecutionEnded):
        raise CannotRerun(f"execution {execution_id!r} has not ended; only what has ended can be retried")
    if end.status is Status.COMPLETED:
        raise CannotRerun(f"execution {execution_id!r} has completed; fork it to run a part of it again")
    position = _goes_on_from(valid, end)
    before = [record for index, record in valid if index < position]
    still_open = _open_steps(before)
    anew = [
        still_open[record.key]
        for index, record in valid
        if index >= position and isinstance(record, StepFailed) and record.key in still_open
    ]
    if not again:
        _refuse_to_repeat(execution_id, anew)
    return ExecutionReopened(
        at=at,
        position=position,
        mail=mail,
        failed=tuple(step.key for step in anew),
        open=tuple(still_open.values()),
    )


def held_at_failure(
    execution_id: str, records: Sequence[AnyRecord], at: float, *, reason: str
) -> tuple[ExecutionReopened, ExecutionHeld] | None:
    """Return the records that hold an execution which has just failed, so that it goes on as in a retry.

    `records` is its journal with the end. It is None if the execution has to end: if somebody has cancelled
    it, or if going on would repeat a step that must be done only once.
    """
    if any(isinstance(record, CancelRequested) for _, record in _valid(records)):
        return None
    try:
        reopened = retried(execution_id, records, at)
    except WouldRepeat:
        return None
    return reopened, ExecutionHeld(at=at, reason=reason)


def forked(
    execution_id: str,
    records: Sequence[AnyRecord],
    at: float,
    *,
    position: int | None = None,
    edits: Mapping[str, JSON] | None = None,
    again: bool = False,
) -> tuple[AnyRecord, ...]:
    """Return the journal of a fork: of the first `position` records, what counts, with `edits`.

    `edits` replaces results of steps by their keys, and arguments under the key `INPUT`. Without a position,
    the copy ends with the first result that is edited; without edits, where a retry would go on from.

    Raises:
        CannotRerun: the position or an edit does not fit the journal.
        WouldRepeat: without `again`, a step may be done twice that must not be.
    """
    edits = dict(edits or {})
    if position is None and edits:
        position = _first_edited(execution_id, records, edits)
    elif position is None:
        valid = _valid(records)
        end = valid[-1][1] if valid else None
        position = _goes_on_from(valid, end) if isinstance(end, ExecutionEnded) else len(records)
    if not 1 <= position <= len(records):
        raise CannotRerun(
            f"execution {execution_id!r} has positions 1 to {len(records)}; it cannot be forked at {position}"
        )
    left_out = (ExecutionEnded, ExecutionReopened)
    kept = [record for _, record in _valid(records[:position]) if not isinstance(record, left_out)]
    edited = [_edited(record, edits, execution_id) for record in kept]
    missing = sorted(edits.keys() - {_edit_key(record) for record in kept})
    if missing:
        raise CannotRerun(
            f"up to position {position}, execution {execution_id!r} has no result to edit for "
            f"{', '.join(missing)}; an edit names the key of a step that has ended, or {INPUT!r}"
        )
    if not again:
        _refuse_to_repeat(execution_id, list(_open_steps(edited).values()))
    note = ExecutionForked(at=at, source=execution_id, position=position, edited=tuple(sorted(edits)))
    return (*edited, note)


def _valid(records: Sequence[AnyRecord]) -> list[tuple[int, AnyRecord]]:
    """Return the records that are not void, each with its position, counted from 0."""
    valid: list[tuple[int, AnyRecord]] = []
    for index, record in enumerate(records):
        if isinstance(record, ExecutionReopened):
            while valid and valid[-1][0] >= record.position:
                valid.pop()
        valid.append((index, record))
    return valid


def _is_termination(record: AnyRecord) -> bool:
    return isinstance(record, ExecutionEnded) and record.status is Status.TERMINATED


def _message_of(record: AnyRecord) -> str:
    match record:
        case SignalReceived(message_id=message_id):
            return f"signal {message_id}"
        case UpdateAccepted(update_id=update_id):
            return f"update {update_id}"
    return ""


def _goes_on_from(valid: Sequence[tuple[int, AnyRecord]], end: ExecutionEnded) -> int:
    """Return the position from which the journal of an execution that has ended is void in a retry."""
    match end.status:
        case Status.TERMINATED | Status.COMPLETED:
            return valid[-1][0]
        case Status.CANCELLED:
            return next(index for index, record in valid if isinstance(record, CancelRequested))
        case _:
            return _failed_at(valid, end.failure)


def _failed_at(valid: Sequence[tuple[int, AnyRecord]], failure: Failure | None) -> int:
    """Return from where the journal of an execution that failed is void.

    The failure of the step that ended it is among the causes of its own, or in a group of errors there; then
    all steps of the group count. If there is no trace of it, it is the step whose failure was the last input.
    """
    failed = [(index, record.failure) for index, record in valid if isinstance(record, StepFailed)]
    causes = [*_causes(failure)]
    for _, last in reversed(failed):
        for cause in causes:
            if _identity(last) in cause:
                return _first_of(cause, failed)
    at = max(index for index, record in valid if isinstance(record, INPUTS))
    return at if failed and failed[-1][0] == at else at + 1


_Identity = tuple[JSON, JSON]
"""The kind and the message of a failure."""


def _causes(failure: Failure | None) -> Iterator[Counter[_Identity]]:
    """Yield how often each failure of a step stands at each level of a chain of causes."""
    while failure is not None:
        yield Counter(map(_identity, failure.group or (failure,)))
        failure = failure.cause


def _identity(failure: Failure) -> _Identity:
    wrapped = failure.details if failure.kind == ActivityFailed.__name__ else None
    if wrapped is None:
        return failure.kind, failure.message
    return wrapped.get("kind"), wrapped.get("message")


def _first_of(cause: Counter[_Identity], failed: Sequence[tuple[int, Failure]]) -> int:
    """Return the first position of the last steps that failed so, as many as there are in the cause."""
    first, left = 0, cause.copy()
    for index, failure in reversed(failed):
        if left[_identity(failure)] > 0:
            left[_identity(failure)] -= 1
            first = index
    return first


def _open_steps(records: Sequence[AnyRecord]) -> dict[str, StepScheduled]:
    steps: dict[str, StepScheduled] = {}
    for record in records:
        match record:
            case StepScheduled(key=key):
                steps[key] = record
            case StepCompleted(key=key) | StepFailed(key=key):
                steps.pop(key, None)
    return steps


def _refuse_to_repeat(execution_id: str, steps: Sequence[StepScheduled]) -> None:
    once = [f"{step.name} ({step.key})" for step in steps if step.effect == "once"]
    if once:
        raise WouldRepeat(execution_id, once)


def _edit_key(record: AnyRecord) -> str | None:
    match record:
        case ExecutionStarted():
            return INPUT
        case StepCompleted(key=key) | StepFailed(key=key):
            return key
    return None


def _first_edited(execution_id: str, records: Sequence[AnyRecord], edits: Mapping[str, JSON]) -> int:
    for index, record in _valid(records):
        if _edit_key(record) in edits:
            return index + 1
    raise CannotRerun(f"execution {execution_id!r} has no result to edit for {', '.join(sorted(edits))}")


def _edited(record: AnyRecord, edits: Mapping[str, JSON], execution_id: str) -> AnyRecord:
    key = _edit_key(record)
    match record:
        case ExecutionStarted():
            arguments = edits.get(INPUT, record.arguments)
            if not isinstance(arguments, dict):
                raise CannotRerun("the input of an execution is an object: its arguments by name")
            # Nobody waits for the fork of a child.
            return record.with_(arguments=arguments, seed=record.seed or execution_id, parent=None)
        case StepCompleted() | StepFailed() if key in edits:
            return StepCompleted(at=record.at, key=record.key, result=edits[record.key])
        case StepScheduled():
            # The mark is one of the original; the fork counts how often it was opened again from 0.
            return record.with_(reopened=None)
    return record
