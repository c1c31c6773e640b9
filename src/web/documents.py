"""Executions, workers, events and records as the JSON that the page reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from outlast.core.agent_run import Phase
from outlast.core.agent_transitions import transitions
from outlast.core.approvals import PendingApproval
from outlast.core.errors import CannotRerun
from outlast.core.event_stream import Event
from outlast.core.events import ApprovalRequestedData
from outlast.core.json import encode
from outlast.core.questions import PendingQuestion
from outlast.core.records import AnyRecord, StepKind, StepScheduled
from outlast.core.reruns import retried
from outlast.core.run_phases import PhaseMove
from outlast.core.step_keys import call_key, place_in
from outlast.core.waiting import WaitingFor
from outlast.ports.durability.backend import WorkerDescription
from outlast.ports.durability.execution import ExecutionDescription

LARGE_BYTES = 100_000
"""A document over this size has its long texts cut; the page loads the whole one when asked to."""
TEXT_CHARACTERS_MAX = 2_000
ITEMS_MAX = 200
"""The longest text, list and object of a document that is cut."""


def listed_document(found: ExecutionDescription) -> dict[str, Any]:
    """Return an execution as a list shows it: of a long error, only the beginning."""
    return {
        "id": found.id,
        "workflow": found.workflow,
        "status": "held" if found.held else str(found.status),
        "created_at": _time(found.created_at),
        "ended_at": None if found.ended_at is None else _time(found.ended_at),
        "error": _cut(found.error),
        "tags": dict(found.tags),
        "waiting_for": [_wait_document(one) for one in found.waiting_for],
        "agent": found.agent,
        "turns": found.turns,
        "tokens": None if found.usage is None else found.usage.total_tokens,
        "cost": None if found.usage is None else found.usage.cost_in_words or None,
        "forked_from": found.forked_from,
        "parent": found.parent,
    }


def execution_document(found: ExecutionDescription) -> dict[str, Any]:
    """Return an execution as its own page shows it: with the failure, cut if it is large."""
    failure = None if found.failure is None else found.failure.model_dump()
    return _cut_if_large({**listed_document(found), "failure": failure}, "failure")


def _wait_document(one: WaitingFor) -> dict[str, Any]:
    return {
        "kind": str(one.kind),
        "text": one.text,
        "step": one.step,
        "attempt": one.attempt,
        "since": None if one.since is None else _time(one.since),
        "until": None if one.until is None else _time(one.until),
    }


def rerun_document(id: str, records: Sequence[AnyRecord]) -> dict[str, Any]:
    """Return what a retry would do, by the function that makes it: the names of steps, or why it cannot be.

    `anew` are steps that failed, `again` those whose outcome is not known, `once` those of both that are not
    repeated unless somebody asks for that.
    """
    try:
        reopened = retried(id, records, 0.0, again=True)
    except CannotRerun as error:
        return {"refusal": str(error), "anew": [], "again": [], "once": []}
    anew = [step for step in reopened.open if step.key in reopened.failed]
    again = [step for step in reopened.open if step.key not in reopened.failed]
    return {
        "refusal": None,
        "anew": [_named(step) for step in anew],
        "again": [_named(step) for step in again],
        "once": [_named(step) for step in anew if step.effect == "once"],
    }


def _named(step: StepScheduled) -> str:
    if step.kind is StepKind.MODEL:
        return f"turn {place_in(step.key).turn} of {step.about.get('agent', step.name)}"
    return step.name


def worker_document(worker: WorkerDescription) -> dict[str, Any]:
    """Return a worker that is alive."""
    return {
        "identity": worker.identity,
        "task_queue": worker.task_queue,
        "workflows": list(worker.workflows),
        "started_at": _time(worker.started_at),
        "executions": list(worker.executions),
    }


def approval_document(id: str, waiting: PendingApproval, *, whole: bool = False) -> dict[str, Any]:
    """Return a call that waits for a decision; large arguments are cut, unless they are wanted whole.

    They are text, as somebody edits them: the page would lose digits of long numbers.
    """
    document: dict[str, Any] = {
        "id": id,
        "key": waiting.key,
        "call_id": waiting.call_id,
        "agent": waiting.agent,
        "tool": waiting.tool,
        "fingerprint": waiting.fingerprint,
        "arguments": encode(waiting.arguments).decode(),
        "parameters": waiting.parameters,
    }
    if whole or (size := len(encode(document))) <= LARGE_BYTES:
        return document
    return {
        **document,
        "arguments": encode(_cut(waiting.arguments)).decode(),
        "parameters": {},
        "bytes": size,
    }


def question_document(id: str, waiting: PendingQuestion) -> dict[str, Any]:
    """Return a question that waits for an answer; a long one is cut."""
    document: dict[str, Any] = {
        "id": id,
        "key": waiting.key,
        "question": waiting.question,
        "schema": waiting.answer_schema,
        "to": waiting.to,
    }
    return _cut_if_large(document, "question")


def machine_document() -> dict[str, Any]:
    """Return the agent machine, as its own table has it: where a run begins, the phases, and all arrows."""
    return {
        "start": Phase.READY,
        "phases": [*Phase],
        "transitions": [one._asdict() for one in transitions()],
    }


def event_document(event: Event, moves: Iterable[PhaseMove] = (), *, whole: bool = False) -> dict[str, Any]:
    """Return an event, with the moves of runs that it shows; a large one is cut, unless it is wanted whole.

    The request of an approval has the key of its call, by which it is decided.
    """
    document = {
        "position": event.position,
        "kind": str(event.kind),
        "at": _time(event.at),
        "data": event.data.to_data(),
    }
    if isinstance(event.data, ApprovalRequestedData):
        document["call"] = call_key(event.data.run, event.data.turn, event.data.call_id)
    if shown := [one._asdict() for one in moves]:
        document["moves"] = shown
    return document if whole else _cut_if_large(document, "data")


def record_document(position: int, record: AnyRecord, *, whole: bool = False) -> dict[str, Any]:
    """Return a record of a journal with its position; a large one is cut, unless it is wanted whole."""
    document = {"position": position, "record": record.to_data()}
    return document if whole else _cut_if_large(document, "record")


def searched_texts(record: AnyRecord) -> tuple[str, str]:
    """Return the whole record as texts for a search: as JSON, and with its strings as they are."""
    data = record.to_data()
    return encode(data).decode(), _plain(data)


def _plain(value: Any) -> str:
    match value:
        case str():
            return f'"{value}"'
        case dict():
            return f"{{{','.join(f'{_plain(name)}:{_plain(item)}' for name, item in value.items())}}}"
        case list() | tuple():
            return f"[{','.join(map(_plain, value))}]"
    return encode(value).decode()


def _time(at: datetime) -> str:
    return at.isoformat()


def _cut_if_large(document: dict[str, Any], field: str) -> dict[str, Any]:
    size = len(encode(document))
    if size <= LARGE_BYTES:
        return document
    return {**document, field: _cut(document[field]), "bytes": size}


def _cut(value: Any) -> Any:
    match value:
        case str() if len(value) > TEXT_CHARACTERS_MAX:
            return f"{value[:TEXT_CHARACTERS_MAX]}… (cut: {len(value):,} characters)"
        case list() | tuple():
            more = [f"… ({len(value) - ITEMS_MAX:,} more)"] if len(value) > ITEMS_MAX else []
            return [*map(_cut, value[:ITEMS_MAX]), *more]
        case dict():
            kept = {name: _cut(item) for name, item in list(value.items())[:ITEMS_MAX]}
            return kept if len(value) <= ITEMS_MAX else {**kept, "…": f"{len(value) - ITEMS_MAX:,} more"}
    return value
