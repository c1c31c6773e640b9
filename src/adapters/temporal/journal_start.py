"""Starting a run that begins with a journal: so an execution is retried, forked and imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from temporalio.api.common.v1 import Memo, Payloads
from temporalio.api.enums.v1 import WorkflowIdReusePolicy
from temporalio.api.workflowservice.v1 import StartWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.converter import encode_search_attributes
from temporalio.service import RPCError, RPCStatusCode

from outlast.adapters.temporal.carried import Carried
from outlast.adapters.temporal.memo import FINGERPRINT, FORKED_FROM
from outlast.adapters.temporal.payloads import check_payload, limit_of
from outlast.adapters.temporal.search_attributes import attributes_of, is_missing, not_registered
from outlast.core.errors import DefinitionError, ExecutionAlreadyExists
from outlast.core.fingerprints import execution_fingerprint
from outlast.core.json import JSON, encode
from outlast.core.records import AnyRecord, ExecutionForked, ExecutionStarted
from outlast.ports.journal import check_id


async def start_request(
    client: Client,
    id: str,
    journal: Sequence[AnyRecord],
    task_queue: str,
    request_id: str,
    *,
    held: str | None = None,
    memo: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> StartWorkflowExecutionRequest:
    """Return the request to start a run of an execution; see `Carried` for the journal and `held`.

    Raises:
        DefinitionError: no execution can have that id.
        PayloadTooLarge: Temporal does not take so long a journal.
    """
    started = journal[0]
    assert isinstance(started, ExecutionStarted)
    try:
        check_id(id)
    except ValueError as error:
        raise DefinitionError(str(error)) from error
    converter = client.data_converter
    values = _input(started, Carried(journal=journal, held=held), limit_of(converter))
    check_payload(f"the journal of execution {id!r}", values, limit_of(converter))
    fields = {FINGERPRINT: execution_fingerprint(started.workflow, started.arguments), **(memo or {})}
    fields.update((FORKED_FROM, one.source) for one in journal if isinstance(one, ExecutionForked))
    payloads = await converter.encode([*fields.values(), *values])
    request = StartWorkflowExecutionRequest(
        namespace=client.namespace,
        workflow_id=id,
        input=Payloads(payloads=payloads[len(fields) :]),
        identity=client.identity,
        request_id=request_id,
        workflow_id_reuse_policy=WorkflowIdReusePolicy.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE,
        memo=Memo(fields=dict(zip(fields, payloads, strict=False))),
    )
    request.workflow_type.name = started.workflow
    request.task_queue.name = task_queue
    if tags:
        encode_search_attributes(attributes_of(tags), request.search_attributes)
    return request


def _input(started: ExecutionStarted, carried: Carried, limit_bytes: int) -> list[JSON]:
    """Return the input of the run; what is small enough stays readable in Temporal's own tools."""
    values = [started.arguments, carried.written()]
    if len(encode(values)) > limit_bytes:
        values[1] = carried.written(is_packed=True)
    return values


async def start(client: Client, request: StartWorkflowExecutionRequest) -> str:
    """Start the run, and return its run id.

    Raises:
        ExecutionAlreadyExists: the id is in use.
        NotSupported: it has tags, and the namespace is not set up for them.
    """
    try:
        response = await client.workflow_service.start_workflow_execution(request, retry=True)
    except RPCError as error:
        if is_missing(error):
            raise not_registered(client.namespace, "tags") from error
        if error.status is not RPCStatusCode.ALREADY_EXISTS:
            raise
        raise ExecutionAlreadyExists(request.workflow_id, "journal") from None
    return response.run_id
