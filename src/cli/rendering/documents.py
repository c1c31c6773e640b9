"""One JSON document a line, for programs: times are exact and in UTC, and nothing is shortened."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python

from outlast.core.approvals import PendingApproval
from outlast.core.event_stream import Event
from outlast.core.questions import PendingQuestion
from outlast.ports.durability.backend import WorkerDescription
from outlast.ports.durability.execution import ExecutionDescription


def value_json(value: Any) -> str:
    """Return a value as JSON; half a character, which a model may have written, is escaped."""
    try:
        return to_json(value).decode()
    except PydanticSerializationError:
        return json.dumps(value, default=to_jsonable_python, separators=(",", ":"))


def execution_json(execution: ExecutionDescription) -> str:
    """Return a description."""
    return value_json(
        {
            "id": execution.id,
            "workflow": execution.workflow,
            "status": execution.status,
            "created_at": execution.created_at,
            "ended_at": execution.ended_at,
            "error": execution.error,
            "held": execution.held,
            "tags": dict(execution.tags),
            "failure": None if execution.failure is None else execution.failure.model_dump(),
            "waiting_for": [asdict(wait) for wait in execution.waiting_for],
            "agent": execution.agent,
            "turns": execution.turns,
            "usage": None if execution.usage is None else execution.usage.model_dump(),
            "forked_from": execution.forked_from,
            "parent": execution.parent,
        }
    )


def worker_json(worker: WorkerDescription) -> str:
    """Return a worker."""
    return value_json(
        {
            "identity": worker.identity,
            "task_queue": worker.task_queue,
            "workflows": list(worker.workflows),
            "started_at": worker.started_at,
            "executions": list(worker.executions),
        }
    )


def event_json(event: Event) -> str:
    """Return an event."""
    return value_json(
        {"position": event.position, "kind": event.kind, "at": event.at, "data": event.data.to_data()}
    )


def question_json(execution_id: str, question: PendingQuestion) -> str:
    """Return a question that waits for an answer, with the execution that it belongs to."""
    return value_json({"execution": execution_id, **question.model_dump()})


def approval_json(execution_id: str, approval: PendingApproval) -> str:
    """Return a call that waits for a decision, with the execution that it belongs to."""
    return value_json({"execution": execution_id, **approval.model_dump()})
