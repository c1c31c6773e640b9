"""The messages of a parent to its children, sent by an activity of the parent."""

from __future__ import annotations

import hashlib

from temporalio.api.common.v1 import Payloads, WorkflowExecution
from temporalio.api.workflowservice.v1 import SignalWorkflowExecutionRequest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from outlast.adapters.temporal.messages import sent
from outlast.adapters.temporal.refusals import translated
from outlast.core.errors import ExecutionAlreadyEnded
from outlast.ports.durability.steps import MessageChild


async def message_child(client: Client, call: MessageChild, idempotency_key: str) -> None:
    """Send a child what its parent has to say, once: Temporal drops a signal with the same request id.

    Raises:
        ExecutionAlreadyEnded, ExecutionNotFound: it cannot get the signal.
    """
    handle = client.get_workflow_handle(call.child)
    with translated(call.child):
        found = await handle.describe()
        is_open = found.status is WorkflowExecutionStatus.RUNNING
        if call.signal is None:
            if is_open:
                await handle.cancel()
            return
        if is_open:
            payloads = await client.data_converter.encode([sent(call.arguments, call.named)])
            request = SignalWorkflowExecutionRequest(
                namespace=client.namespace,
                workflow_execution=WorkflowExecution(workflow_id=call.child),
                signal_name=call.signal,
                input=Payloads(payloads=payloads),
                identity=client.identity,
                request_id=hashlib.sha256(idempotency_key.encode()).hexdigest(),
            )
            try:
                await client.workflow_service.signal_workflow_execution(request)
                return
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
                found = await handle.describe()
    status = "completed" if found.status is None else found.status.name.lower()
    raise ExecutionAlreadyEnded(call.child, "cancelled" if status == "canceled" else status)
