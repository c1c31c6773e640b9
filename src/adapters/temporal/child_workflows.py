"""The children of an execution: child workflows of Temporal, and how their ends read as ours.

The memo of a child names its parent, and the step that it was started for; so the history of the parent has
the key of the step, in the event that asks for the child.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from temporalio import workflow
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import (
    CancelledError,
    ChildWorkflowError,
    TerminatedError,
    TimeoutError,
    WorkflowAlreadyStartedError,
)

from outlast.adapters.temporal.failures import failure_in
from outlast.adapters.temporal.memo import FINGERPRINT
from outlast.adapters.temporal.payloads import check_payload
from outlast.adapters.temporal.requests import TRACE
from outlast.core.children import ON_PARENT_END, QUEUE, OpenChild
from outlast.core.errors import ChildFailed, DefinitionError, ExecutionAlreadyExists, PayloadTooLarge
from outlast.core.failure import Failure
from outlast.core.fingerprints import execution_fingerprint
from outlast.core.json import JSON
from outlast.core.records import ChildStarted, Input, ParentLink, StepCompleted, StepFailed
from outlast.ports.journal import check_id
from outlast.ports.live_code import LiveCode

PARENT: Final = "outlast_parent"
"""The memo field of a child that names its parent and the step."""
STEP: Final = "outlast_step"
"""The memo field of a child with the key of the step in its parent, and how the child was asked for."""

_Handle = workflow.ChildWorkflowHandle[Any, Any]

_FATES: Mapping[str, workflow.ParentClosePolicy] = {
    "cancel": workflow.ParentClosePolicy.REQUEST_CANCEL,
    "terminate": workflow.ParentClosePolicy.TERMINATE,
    "abandon": workflow.ParentClosePolicy.ABANDON,
}


class AskedChildren:
    """The children that one history has asked Temporal for; used from inside its workflow only."""

    def __init__(
        self,
        execution_id: str,
        since: float,
        live: LiveCode,
        limit_bytes: int,
        arrive: Callable[[Input], object],
    ) -> None:
        """Call `arrive` with what becomes of them, until they are closed."""
        self.keys: set[str] = set()
        """The keys of their steps."""
        self._id = execution_id
        self._since = since
        self._live = live
        self._limit_bytes = limit_bytes
        self._arrive = arrive
        self._is_closed = False

    def begin(self, key: str) -> Sequence[Input]:
        """Start the child for a step; return its start and its end, if these are known already."""
        child, at = self._live.machine.children[key], workflow.time()
        if child.id is not None:
            child.lose()  # Another history waits for it, and this one cannot.
        id, known = known_beforehand(self._id, self._live, key, at, self._limit_bytes)
        if known:
            return known
        link = ParentLink(id=self._id, key=child.scheduled.idempotency_key, since=self._since)
        trace = self._live.child_context(child).traceparent
        queue = workflow.info().task_queue
        starting = asyncio.get_running_loop().create_task(_start(id, child, link, trace, queue))
        self.keys.add(key)
        starting.add_done_callback(partial(self._started, key, id))
        return ()

    def close(self) -> None:
        """Let nothing arrive any more."""
        self._is_closed = True

    def _started(self, key: str, id: str, task: asyncio.Task[_Handle]) -> None:
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if self._is_closed:
            return
        if error is not None:
            self._arrive(not_started(key, workflow.time(), error, id))
            return
        self._arrive(ChildStarted(at=workflow.time(), key=key, child=id))
        task.result().add_done_callback(partial(self._ended, key, id))

    def _ended(self, key: str, id: str, task: asyncio.Task[JSON]) -> None:
        error = CancelledError("cancelled") if task.cancelled() else task.exception()
        child = self._live.machine.children.get(key)
        if self._is_closed or child is None:
            return
        at = workflow.time()
        if error is None:
            self._arrive(StepCompleted(at=at, key=key, result=task.result()))
        else:
            cause = error.cause if isinstance(error, ChildWorkflowError) else error
            self._arrive(ended_badly(key, at, id, child.scheduled.name, cause))


def known_beforehand(
    execution_id: str, live: LiveCode, key: str, at: float, limit_bytes: int
) -> tuple[str, Sequence[Input]]:
    """Return the id of a child, and what becomes of it if Temporal need not be asked for that."""
    child = live.machine.children[key]
    id = child.id_in(execution_id, is_fork=live.machine.tally.forked_from is not None)
    if (done := live.recalled(child.scheduled)) is not None:
        return id, (ChildStarted(at=at, key=key, child=id), done.with_(at=at))
    if (error := _obstacle(id, child, limit_bytes)) is not None:
        return id, (not_started(key, at, error, id),)
    return id, ()


async def _start(id: str, child: OpenChild, link: ParentLink, trace: str, queue: str) -> _Handle:
    scheduled = child.scheduled
    arguments = scheduled.arguments if isinstance(scheduled.arguments, dict) else {}
    return await workflow.start_child_workflow(
        scheduled.name,
        arguments,
        id=id,
        task_queue=str(scheduled.about.get(QUEUE, queue)),
        parent_close_policy=_FATES[str(scheduled.about.get(ON_PARENT_END, "cancel"))],
        cancellation_type=workflow.ChildWorkflowCancellationType.ABANDON,
        id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
        memo={
            FINGERPRINT: execution_fingerprint(scheduled.name, arguments),
            TRACE: trace,
            PARENT: link.to_data("json"),
            STEP: {"key": scheduled.key, "about": dict(scheduled.about)},
        },
    )


def _obstacle(id: str, child: OpenChild, limit_bytes: int) -> Exception | None:
    """Return the reason why Temporal would not take a child, if there is one."""
    try:
        check_id(id)
        check_payload(f"the input of child {id!r}", child.scheduled.arguments, limit_bytes)
    except PayloadTooLarge as error:
        return error
    except ValueError as error:
        return DefinitionError(f"the child cannot be started: {error}")
    return None


def not_started(key: str, at: float, error: BaseException, id: str) -> StepFailed:
    """Return the end of the step for a child that could not be started."""
    if isinstance(error, WorkflowAlreadyStartedError):
        error = ExecutionAlreadyExists(id, "parent")
    return StepFailed(at=at, key=key, attempts=1, failure=Failure.of(error))


def ended_badly(key: str, at: float, child: str, name: str, cause: BaseException | None) -> StepFailed:
    """Return the end of a child that did not complete, from Temporal's reason."""
    match cause:
        case CancelledError():
            failed = ChildFailed(child, name, "cancelled")
        case TerminatedError():
            failed = ChildFailed(child, name, "terminated", "", "the reason is kept with the child")
        case TimeoutError():
            failed = ChildFailed(child, name, "terminated", "", "it was ended by Temporal: timed_out")
        case _:
            failure = failure_in(cause)
            failed = ChildFailed(child, name, "failed", failure.kind, failure.message)
            return StepFailed(at=at, key=key, attempts=1, failure=Failure.of(failed).with_(cause=failure))
    return StepFailed(at=at, key=key, attempts=1, failure=Failure.of(failed))


def link_in(memo: Any) -> ParentLink | None:
    """Return the parent that a memo names, if it names one."""
    return ParentLink.model_validate(memo) if isinstance(memo, dict) else None
