"""Executions, workers, events and records as the JSON that the page reads."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from outlast.core.approvals import PendingApproval
from outlast.core.event_stream import Event
from outlast.core.events import ApprovalRequestedData
from outlast.core.json import encode
from outlast.core.records import AnyRecord
from outlast.core.step_keys import call_key
from outlast.ports.durability.backend import WorkerDescription
from outlast.ports.durability.execution import ExecutionDescription

LARGE_BYTES = 100_000
"""A document over this size has its long texts cut; the page loads the whole one when asked to."""
TEXT_CHARACTERS_MAX = 2_000
ITEMS_MAX = 200
"""The longest text, list and object of a document that is cut."""


def execution_document(found: ExecutionDescription) -> dict[str, Any]:
    """Return an execution as a list and a page show it."""
    return {
        "id": found.id,
        "workflow": found.workflow,
        "status": "held" if found.held else str(found.status),
        "created_at": _time(found.created_at),
        "ended_at": None if found.ended_at is None else _time(found.ended_at),
        "error": found.error,
        "tags": dict(found.tags),
        "waiting_for": [
            {"kind": str(one.kind), "text": one.text, "step": one.step} for one in found.waiting_for
        ],
        "failure": None if found.failure is None else found.failure.model_dump(),
    }


def worker_document(worker: WorkerDescription) -> dict[str, Any]:
    """Return a worker that is alive."""
    return {
        "identity": worker.identity,
        "task_queue": worker.task_queue,
        "workflows": list(worker.workflows),
        "started_at": _time(worker.started_at),
        "executions": list(worker.executions),
    }


def approval_document(id: str, waiting: PendingApproval) -> dict[str, Any]:
    """Return a call that waits for a decision.

    Its arguments are text, as somebody edits them: the page would lose digits of long numbers.
    """
    return {
        "id": id,
        "key": waiting.key,
        "call_id": waiting.call_id,
        "agent": waiting.agent,
        "tool": waiting.tool,
        "arguments": encode(waiting.arguments).decode(),
        "parameters": waiting.parameters,
    }


def event_document(event: Event, *, whole: bool = False) -> dict[str, Any]:
    """Return an event; a large one is cut, unless it is wanted whole.

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
    return document if whole else _cut_if_large(document, "data")


def record_document(position: int, record: AnyRecord, *, whole: bool = False) -> dict[str, Any]:
    """Return a record of a journal with its position; a large one is cut, unless it is wanted whole."""
    document = {"position": position, "record": record.to_data()}
    return document if whole else _cut_if_large(document, "record")


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
