"""Lost workers: what their executions' journals say of them, and why an execution is held because of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from outlast.core.errors import loggable
from outlast.core.records import (
    AnyRecord,
    AttemptFailed,
    ExecutionHeld,
    ExecutionRecovered,
    Part,
    StepCompleted,
    StepFailed,
    StepScheduled,
)
from outlast.ports.journal import Claim
from outlast.runtime.executions.suspects import FRUITLESS_MAX

LastWords = Callable[[str], str | None]
"""Returns what the worker of that identity left behind when it was lost, such as a stack; None if nothing is
known of it. Whoever starts workers anew can pass it to them."""

PartIn = Callable[[str, str], Part | None]
"""Returns the part that an execution had in the loss of the worker of that identity, if it is known."""

LAST_WORDS_MAX: Final = 4000
"""The number of their characters that are kept: the last ones."""
STEPS_MAX: Final = 10
WORKERS_MAX: Final = 10
"""The most steps, and workers, that a reason names."""


def no_last_words(worker: str) -> str | None:
    """Nothing is known of any worker."""
    return None


def no_part(worker: str, execution_id: str) -> Part | None:
    """Nobody knows whose code was at work."""
    return None


@dataclass(frozen=True, slots=True)
class Witness:
    """The one who knows something of workers that were lost: whoever starts them anew."""

    last_words: LastWords = no_last_words
    part: PartIn = no_part


NOBODY: Final = Witness()
COUNTS: Final = {None: 1, Part.ABSENT: 0, Part.PRESENT: 1, Part.ALONE: 2}
"""How much the loss of a worker counts for an execution, by the part that its code had."""
ABSENT_COUNTS_ONCE_IN: Final = 4
"""Of so many losses, one counts also for an execution whose code was not at work."""


def judged(claim: Claim, witness: Witness) -> Claim:
    """Return a claim whose `fruitless` is as large as what is known of the last loss allows.

    The store has counted the loss as one, since a worker may die before it can count. It must write down the
    number in its next append.
    """
    before = claim.fruitless - 1
    if claim.recovered_from is None or before >= FRUITLESS_MAX:
        return claim
    part = witness.part(claim.recovered_from, claim.execution_id)
    counts = COUNTS[part]
    if part is Part.ABSENT and claim.token % ABSENT_COUNTS_ONCE_IN == 0:
        counts = 1
    return replace(claim, fruitless=min(before + counts, FRUITLESS_MAX))


def recovery(claim: Claim, at: float, witness: Witness = NOBODY) -> ExecutionRecovered:
    """Return the note that `claim` was taken from a worker that was lost."""
    lost = claim.recovered_from
    if lost is None:
        return ExecutionRecovered(at=at)
    words, part = _said(witness.last_words, lost), witness.part(lost, claim.execution_id)
    return ExecutionRecovered(at=at, worker=lost, last_words=words, part=part)


def _said(last_words: LastWords, worker: str) -> str | None:
    words = last_words(worker)
    return None if words is None else loggable(words.replace("\0", " ").strip())[-LAST_WORDS_MAX:] or None


def waiting_reason(fruitless: int) -> str:
    """Return why an execution was given back without having been begun."""
    return (
        f"{fruitless} workers in a row ended, or lost their lease, while they carried this execution; it "
        "waits for a worker that can try it apart from the others"
    )


def lost_reason(
    execution_id: str, fruitless: int, records: Sequence[AnyRecord], witness: Witness = NOBODY
) -> str:
    """Return why an execution is held whose workers were lost; `records` are as many as could be read.

    Of the workers that left last words, the reason has those of the last one. They may have been found only
    after the execution was claimed again, so each worker without them is asked for once more.
    """
    lost = _counted(_recoveries(records), fruitless)
    words = (
        (one.worker, one.last_words or _said(witness.last_words, str(one.worker))) for one in reversed(lost)
    )
    found = next(((worker, said) for worker, said in words if said is not None), None)
    # A worker that was lost before it wrote anything has left no record, and a count of one.
    unnamed = max(0, fruitless - sum(COUNTS[one.part] for one in lost))
    lines = [
        f"held: {len(lost) + unnamed} workers in a row ended, or lost their lease, while they carried "
        "this execution, and it made no progress",
        *_workers(lost),
        *_under_way(records),
        *([f"  last words of {found[0]}:\n{found[1]}"] if found is not None else []),
        _what_to_do(execution_id, "find out what ends the process, mend it"),
    ]
    return "\n".join(lines)


def stuck_reason(execution_id: str, times: int, problem: str) -> str:
    """Return why an execution is held that workers could not carry on, although they are still there."""
    return "\n".join(
        [
            problem,
            f"held: workers tried {times} times in a row to carry this execution on, and could not",
            _what_to_do(execution_id, "mend the cause"),
        ]
    )


def _recoveries(records: Sequence[AnyRecord]) -> list[ExecutionRecovered]:
    """Return the notes that a worker was lost, since the execution was held last."""
    found: list[ExecutionRecovered] = []
    for record in records:
        if isinstance(record, ExecutionHeld):
            found.clear()
        elif isinstance(record, ExecutionRecovered) and record.worker is not None:
            found.append(record)
    return found


def _counted(lost: Sequence[ExecutionRecovered], fruitless: int) -> list[ExecutionRecovered]:
    """Return the last of the losses, as many as make up the count; those that do not count are left out."""
    found: list[ExecutionRecovered] = []
    for one in reversed(lost):
        if fruitless <= 0:
            break
        if COUNTS[one.part]:
            found.append(one)
            fruitless -= COUNTS[one.part]
    return found[::-1]


def _workers(lost: Sequence[ExecutionRecovered]) -> list[str]:
    named = [f"{one.worker} (by {_time(one.at)})" for one in lost[-WORKERS_MAX:]]
    return [f"  workers: {', '.join(named)}"] if named else []


def _under_way(records: Sequence[AnyRecord]) -> list[str]:
    """Say which steps have no outcome, and on what attempt each was."""
    attempts: dict[str, int] = {}
    names: dict[str, str] = {}
    for record in records:
        match record:
            case StepScheduled(key=key):
                attempts[key], names[key] = 1, f"{record.kind.value} {record.name!r}"
            case StepCompleted(key=key) | StepFailed(key=key):
                attempts.pop(key, None)
            case AttemptFailed(key=key, attempt=attempt) if key in attempts:
                attempts[key] = attempt + 1
            case ExecutionRecovered():
                attempts = {key: attempt + 1 for key, attempt in attempts.items()}
    if not records:
        return []
    if not attempts:
        return ["  under way: no step, so it may be the workflow's own code, or what it read"]
    steps = [f"{names[key]} ({key}), attempt {attempt - 1}" for key, attempt in attempts.items()]
    more = f" and {len(steps) - STEPS_MAX} more" if len(steps) > STEPS_MAX else ""
    return [f"  under way: {'; '.join(steps[:STEPS_MAX])}{more}"]


def _what_to_do(execution_id: str, first: str) -> str:
    return f"  what to do: {first}, then `outlast resume {execution_id}` or `await execution.resume()`"


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
