"""Departures: workflow code asks for something else than its journal says.

A request and its record are compared field by field, as JSON. Python's `==` is not enough: to it 1, 1.0 and
True are one value, but in JSON they are three. Comparing the records as a whole would find a departure just
as well; the fields help the reader of the error. An argument that differs (the
code read a clock), another name (the code was changed) and another key (its order was changed) have different
causes, and the error shows which it was.

Words for people may differ. A failure is compared by its kind alone, and fields of events that are prose are
left out. A message often holds an address or a time, and we may word ours better in the next version; no
code can depend on it, because only those who read the journal see it, and the journal keeps the first one.
"""

from __future__ import annotations

from collections.abc import Mapping

from outlast.core.errors import NonDeterminismError
from outlast.core.events import repeated
from outlast.core.failure import Failure
from outlast.core.json import JSON, canonical
from outlast.core.records import (
    REQUESTS,
    AnyRecord,
    AttemptFailed,
    ChildStarted,
    EventEmitted,
    ExecutionEnded,
    ExecutionStarted,
    Request,
    SignalReceived,
    StepCompleted,
    StepFailed,
    StepScheduled,
    TimerFired,
    TimerStarted,
    UpdateAccepted,
    UpdateCompleted,
    UpdateNotAccepted,
)

SHOWN_CHARACTERS_MAX = 200
"""The most characters that an error shows of the arguments or the result of a record."""


def departure(
    execution_id: str, position: int, recorded: AnyRecord | str, attempted: AnyRecord | str
) -> NonDeterminismError:
    """Return the error which says that the code attempted something else than is recorded.

    `position` is the number of records before it. The error counts from 1, as everything that people see.
    A text takes the place of a record that does not exist.
    """
    lines: tuple[str, ...] = ()
    if isinstance(recorded, REQUESTS) and isinstance(attempted, REQUESTS):
        lines = differences(recorded, attempted)
    return NonDeterminismError(execution_id, position + 1, in_words(recorded), in_words(attempted), lines)


def differences(recorded: Request, attempted: Request) -> tuple[str, ...]:
    """Return one line for each field in which the two differ; empty if the code repeats its request."""
    if _is_same_text(recorded, attempted):
        return ()
    before, after = _compared(recorded), _compared(attempted)
    pairs = {
        name: (canonical(before.get(name)), canonical(after.get(name))) for name in sorted({*before, *after})
    }
    return tuple(f"{name}: {old} is not {new}" for name, (old, new) in pairs.items() if old != new)


def _is_same_text(recorded: Request, attempted: Request) -> bool:
    """Return whether pydantic writes both alike: that is much faster than comparing each field.

    False does not mean that they differ: the keys of a dict may have another order, and pydantic cannot write
    text with half a character in it.
    """
    try:
        return recorded.model_dump_json() == attempted.model_dump_json()
    except ValueError:
        return False


def _compared(request: Request) -> dict[str, JSON]:
    """Return the fields that code must repeat."""
    fields: dict[str, JSON] = request.model_dump()
    match request:
        case UpdateCompleted(failure=Failure(kind=kind)) | ExecutionEnded(failure=Failure(kind=kind)):
            fields["failure"] = kind
        case StepScheduled():
            del fields["effect"], fields["reopened"], fields["model"]  # They are for the engine.
        case EventEmitted():
            fields["data"] = repeated(request.kind, request.data)
        case _:
            pass
    return fields


def in_words(record: AnyRecord | str) -> str:
    """Return one line that names the record, with the fields that distinguish it from others of its kind."""
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
        case StepCompleted() | StepFailed() | ChildStarted() | TimerFired() | AttemptFailed():
            words = f"{words} at {record.key}"
        case SignalReceived():
            words = f"signal {record.name!r}"
        case UpdateAccepted() | UpdateNotAccepted():
            words = f"{words} of id {record.update_id!r}"
        case UpdateCompleted():
            failed = "" if record.failure is None else f" with {record.failure.kind}"
            shown, words = {"result": record.result}, f"answer at {record.key}{failed}"
        case ExecutionStarted():
            shown, words = record.arguments, f"start of workflow {record.workflow!r}"
    text = canonical(dict(shown)) if shown else ""
    if len(text) > SHOWN_CHARACTERS_MAX:
        text = text[:SHOWN_CHARACTERS_MAX] + "…"
    return f"{words}, {text}" if text else words
