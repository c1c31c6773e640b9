"""Waits of an execution on Temporal: from its records, and from the server's view of its activities."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.client import Client, WorkflowExecutionDescription, WorkflowExecutionStatus

from outlast.adapters.temporal.memo import queue_of
from outlast.adapters.temporal.steps import key_of
from outlast.adapters.temporal.worker_presence import is_worked_on
from outlast.core.errors import NotSupported
from outlast.core.waiting import Overview, WaitingFor, WaitingKind

_OF_STEPS = (WaitingKind.ATTEMPT, WaitingKind.RETRY)


async def is_served(client: Client, found: WorkflowExecutionDescription) -> bool:
    """Return whether a worker of the execution is alive; True if the service does not know."""
    try:
        return await is_worked_on(client, await queue_of(found), found.workflow_type)
    except NotSupported:
        return True


def shown_with(overview: Overview, found: WorkflowExecutionDescription, *, is_served: bool) -> Overview:
    """Return an overview, made from records, with what the server's description says of open steps."""
    if found.status is not WorkflowExecutionStatus.RUNNING:
        return replace(overview, waiting_for=())
    steps = tuple(_steps(found))
    others = [wait for wait in overview.waiting_for if wait.kind not in _OF_STEPS]
    approvals = [wait for wait in others if wait.kind is WaitingKind.APPROVAL]
    rest = [wait for wait in others if wait.kind is WaitingKind.TIMER or not steps]
    rest = [wait for wait in rest if wait.kind is not WaitingKind.APPROVAL]
    waits = (*approvals, *steps, *rest)
    if not is_served:
        why = f"no live worker runs workflow {found.workflow_type!r} of task queue {found.task_queue!r}"
        waits = (WaitingFor(WaitingKind.WORKER, why), *waits)
    return replace(overview, waiting_for=waits)


def _steps(found: WorkflowExecutionDescription) -> Iterator[WaitingFor]:
    pending = found.raw_description.pending_activities
    for one in sorted(pending, key=lambda one: one.attempt > 1):
        name, key = one.activity_type.name, key_of(one.activity_id)
        if one.attempt > 1:
            yield WaitingFor(WaitingKind.RETRY, name, key, one.attempt, until=_time(_begins(one)))
        else:
            yield WaitingFor(WaitingKind.ATTEMPT, name, key, 1, since=_time(one.scheduled_time))


def _begins(one: PendingActivityInfo) -> Timestamp:
    """Return when the attempt begins, or has begun."""
    is_next = one.HasField("next_attempt_schedule_time")
    return one.next_attempt_schedule_time if is_next else one.last_started_time


def _time(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(UTC)
