"""Keeping an execution that was exported from any backend (D25).

What is open begins as a held run, with the journal as its input. What has ended must have its end at once,
and run nothing. On Temporal only a worker can end a run with a result or a failure, and only from its task
queue. So such a run is started on a queue of its own, where nobody else can take its one workflow task;
whoever imports takes that, and completes it with the end that the journal has. A retry or a fork then goes to
the queue from which the export came.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta

from temporalio.api.command.v1 import (
    CancelWorkflowExecutionCommandAttributes,
    Command,
    CompleteWorkflowExecutionCommandAttributes,
    FailWorkflowExecutionCommandAttributes,
)
from temporalio.api.common.v1 import Payloads
from temporalio.api.enums.v1 import CommandType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    PollWorkflowTaskQueueRequest,
    RespondWorkflowTaskCompletedRequest,
)
from temporalio.client import Client, WorkflowExecution
from temporalio.service import RPCError, RPCStatusCode

from outlast.adapters.temporal.failures import application_error
from outlast.adapters.temporal.journal_start import start, start_request
from outlast.adapters.temporal.memo import HELD, QUEUE
from outlast.adapters.temporal.refusals import translated
from outlast.core.exports import imported, read_export
from outlast.core.records import ExecutionEnded, Status

_QUEUES = "outlast-import-"

POLL_SECONDS = 70.0
"""The longest time for which Temporal leaves a poll open, and a little more."""


async def import_execution(client: Client, lines: Iterable[str], id: str | None, now: float) -> str:
    """Keep an execution that was exported, and return its id; nothing of it runs.

    Raises the errors of `Executions.import_`.
    """
    export = read_export(lines)
    new_id = id or export.header.id
    records, end, queue = imported(export, new_id, now), export.end, export.header.task_queue
    tags = export.header.tags
    if end is None:
        reason = (
            "imported: it does not run by itself. Look at it, fork it, or resume it to let it go on here, "
            "where its steps may happen a second time"
        )
        request = await start_request(
            client, new_id, records, queue, uuid.uuid4().hex, held=reason, memo={HELD: reason}, tags=tags
        )
        with translated(new_id):
            await start(client, request)
        return new_id
    own_queue = f"{_QUEUES}{uuid.uuid4().hex}"
    # Temporal's own end takes the place of a termination.
    journal = records[:-1] if end.status is Status.TERMINATED else records
    request = await start_request(
        client, new_id, journal, own_queue, uuid.uuid4().hex, memo={QUEUE: queue}, tags=tags
    )
    with translated(new_id):
        run_id = await start(client, request)
        try:
            await _end(client, new_id, run_id, own_queue, end)
        except BaseException:
            # Nothing would ever end it, because nobody else knows its queue.
            with suppress(RPCError):
                await client.get_workflow_handle(new_id, run_id=run_id).terminate(reason="not imported")
            raise
    return new_id


def is_import_of_an_end(found: WorkflowExecution) -> bool:
    """Return whether the execution was imported after its end: then its journal is its input, and whole."""
    return found.task_queue.startswith(_QUEUES)


async def _end(client: Client, id: str, run_id: str, queue: str, end: ExecutionEnded) -> None:
    if end.status is Status.TERMINATED:
        await client.get_workflow_handle(id, run_id=run_id).terminate(reason=end.reason or "")
        return
    poll = PollWorkflowTaskQueueRequest(
        namespace=client.namespace, task_queue=TaskQueue(name=queue), identity=client.identity
    )
    token = b""
    while not token:
        try:
            answer = await client.workflow_service.poll_workflow_task_queue(
                poll, timeout=timedelta(seconds=POLL_SECONDS)
            )
            token = answer.task_token
        except RPCError as error:
            if error.status not in (RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.UNAVAILABLE):
                raise
    await client.workflow_service.respond_workflow_task_completed(
        RespondWorkflowTaskCompletedRequest(
            namespace=client.namespace,
            task_token=token,
            identity=client.identity,
            commands=[await _command(client, end)],
        ),
        retry=True,
    )


async def _command(client: Client, end: ExecutionEnded) -> Command:
    """Return the command that a worker gives to Temporal at such an end."""
    if end.status is Status.CANCELLED:
        return Command(
            command_type=CommandType.COMMAND_TYPE_CANCEL_WORKFLOW_EXECUTION,
            cancel_workflow_execution_command_attributes=CancelWorkflowExecutionCommandAttributes(),
        )
    if end.failure is not None:
        failed = FailWorkflowExecutionCommandAttributes()
        await client.data_converter.encode_failure(application_error(end.failure), failed.failure)
        return Command(
            command_type=CommandType.COMMAND_TYPE_FAIL_WORKFLOW_EXECUTION,
            fail_workflow_execution_command_attributes=failed,
        )
    result = Payloads(payloads=await client.data_converter.encode([end.result]))
    return Command(
        command_type=CommandType.COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION,
        complete_workflow_execution_command_attributes=CompleteWorkflowExecutionCommandAttributes(
            result=result
        ),
    )
