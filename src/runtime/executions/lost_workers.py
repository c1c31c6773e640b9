"""Lost workers: how much the loss of one counts for each of its executions, and why an execution is held.

A store adds one to its count whenever it gives an execution of a lost worker to another one, since that may
die before it can count (`Claim.fruitless`). But only code that was begun can have ended a process. So before
a worker begins such a claim, it writes down what the losses so far count, as `kept`; only then the code may
run. A claim that is lost earlier leaves the one that the store has added, and that is the mark by which the
next worker knows that the lost one had begun nothing: it does not count.

What the lost worker left (`Witness`) decides how much any other loss counts. Where it is known that the code
was not at work, a loss makes an execution suspicious and gets it tried alone, and nothing more. What is held
was at work when a worker was lost, or was tried as its process ended from inside, more than once. The second
is not needed for code that a mark shows; but code in a thread of its own making has none.
"""

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
from outlast.runtime.executions.suspects import FRUITLESS_MAX, TRIED_ALONE

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
COUNTS: Final = {None: 1, Part.IDLE: 1, Part.ABSENT: 0, Part.TRIED: 0, Part.PRESENT: 1, Part.ALONE: 2}
"""How much the loss of a worker counts for an execution, by the part that its code had."""
INNOCENT: Final = frozenset({Part.IDLE, Part.ABSENT})
"""The parts of code that was not at work. Their losses count up to `TRIED_ALONE`."""
ABSENT_COUNTS_ONCE_IN: Final = 4
"""Of so many losses, one counts also for an execution that was not at work while others were."""
_UNIT: Final = 1_000_000
"""The number in a store for each loss that counts; what is left over are claims that were lost unbegun."""


def kept(losses: int, *, is_begun: bool = True) -> int:
    """Return the number for `Commit.fruitless` that stands for so many losses, as `judged` counts them.

    If the claim is not begun, its loss will not count.
    """
    return losses * _UNIT + (0 if is_begun else 1)


def judged(claim: Claim, witness: Witness) -> Claim:
    """Return a claim with the number of losses that count in place of what the store has counted.

    Before the claim is begun, that number must be `kept`.
    """
    before, unbegun = divmod(claim.fruitless, _UNIT)
    if claim.recovered_from is None:
        counts = 0
    elif before >= FRUITLESS_MAX:
        counts = 1  # Its worker was to hold it, and was lost by what it read for that.
    elif unbegun > 1:
        counts = 0
    else:
        part = witness.part(claim.recovered_from, claim.execution_id)
        counts = COUNTS[part]
        if part in (Part.ABSENT, Part.TRIED) and claim.token % ABSENT_COUNTS_ONCE_IN == 0:
            counts = 1
        most = TRIED_ALONE if part in INNOCENT else FRUITLESS_MAX
        counts = max(0, min(counts, most - before))
    return replace(claim, fruitless=before + counts)


def recovery(claim: Claim, at: float, witness: Witness = NOBODY) -> ExecutionRecovered:
    """Return the note that `claim` was taken from a worker that was lost."""
    lost = claim.recovered_from
    if lost is None:
        return ExecutionRecovered(at=at)
    words, part = _said(witness.last_words, lost), witness.part(lost, claim.execution_id)
    return ExecutionRecovered(at=at, worker=lost, last_words=words, part=part, successor=claim.worker)


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
