"""Agents in workflows that users write for Temporal themselves.

An interceptor of the worker gives such a workflow the context that `Runner.run` and activities look for, its
event stream and its approvals. Everything else is the user's: signals, timers, child workflows, versions.
"""

from __future__ import annotations

import asyncio
from typing import Any

from temporalio import workflow
from temporalio.worker import (
    ExecuteWorkflowInput,
    HandleQueryInput,
    HandleSignalInput,
    HandleUpdateInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
)

from outlast.adapters.temporal.context import TemporalContext
from outlast.adapters.temporal.failures import application_error
from outlast.adapters.temporal.kept_records import RECORDS_QUERY
from outlast.adapters.temporal.loop_repairs import repair_loop
from outlast.adapters.temporal.messages import read_sent
from outlast.adapters.temporal.payloads import LIMIT_BYTES
from outlast.adapters.temporal.workflows import Host, host
from outlast.core.approvals import DECISION_SIGNAL, read_decision
from outlast.core.errors import DefinitionError, InvalidArguments, OutlastError
from outlast.core.failure import failure_of
from outlast.core.json import DEPTH_MAX, JSON, encode
from outlast.core.records import ExecutionEnded, ExecutionStarted, SignalReceived, Status
from outlast.ports.durability.workflow_context import current_context


class UsersHost(Host):
    """The things that a worker, or a replay, lends to workflows that do not know of it."""

    def workflow_interceptor_class(
        self, input: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor] | None:
        super().workflow_interceptor_class(input)
        return AgentsInbound


class AgentsInbound(WorkflowInboundInterceptor):
    """Stands around the code of one workflow.

    An error of ours that leaves the code ends the workflow. Temporal tries the workflow task again after
    exceptions that it does not know, which cannot help with ours.
    """

    _context: TemporalContext | None = None

    def _enter(self) -> TemporalContext:
        if self._context is None:
            lent = host()
            self._context = TemporalContext(
                lent.steps, lent.lease, lent.limit_bytes, lent.writes_json, lent.toolkit.contained
            )
            repair_loop()
        current_context.set(self._context)
        return self._context

    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
        context = self._enter()
        workflow.set_query_handler(RECORDS_QUERY, context.records.page)
        workflow.set_signal_handler(DECISION_SIGNAL, self._decide)
        name = workflow.info().workflow_type
        context.record(ExecutionStarted(at=context.time, workflow=name, arguments={}))
        try:
            result = await super().execute_workflow(input)
        except asyncio.CancelledError:
            context.record(ExecutionEnded(status=Status.CANCELLED))
            raise
        except BaseException as error:
            if _unwinds(context, error):
                raise
            failure = failure_of(error, LIMIT_BYTES)
            context.record(ExecutionEnded(status=Status.FAILED, failure=failure))
            if _is_ours(error):
                raise application_error(failure) from None
            raise
        context.record(ExecutionEnded(status=Status.COMPLETED, result=_as_json(result)))
        return result

    async def handle_signal(self, input: HandleSignalInput) -> None:
        context = self._enter()
        try:
            await super().handle_signal(input)
        except BaseException as error:
            if _unwinds(context, error):
                raise
            raise _translated(error) from None

    async def handle_query(self, input: HandleQueryInput) -> Any:
        self._enter()
        return await super().handle_query(input)

    async def handle_update_handler(self, input: HandleUpdateInput) -> Any:
        context = self._enter()
        try:
            return await super().handle_update_handler(input)
        except BaseException as error:
            if _unwinds(context, error):
                raise
            raise _translated(error) from None

    def _decide(self, message: Any) -> None:
        context = self._enter()
        _, named = read_sent([message])
        context.record(
            SignalReceived(
                at=context.time,
                message_id=f"signal:{len(context.records)}",
                name=DECISION_SIGNAL,
                named=dict(named),
            )
        )
        try:
            context.decisions.keep(read_decision(named))
        except (InvalidArguments, DefinitionError) as error:
            workflow.logger.warning("a decision is dropped: %s", error)


def _unwinds(context: TemporalContext, error: BaseException) -> bool:
    return not isinstance(error, Exception) and context.unwinds(error)


def _is_ours(error: BaseException) -> bool:
    """Return whether Temporal would try the same again and again after `error`, or end the worker."""
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(OutlastError) is not None
    return isinstance(error, OutlastError) or not isinstance(error, Exception)


def _translated(error: BaseException) -> BaseException:
    return application_error(failure_of(error, LIMIT_BYTES)) if _is_ours(error) else error


def _as_json(result: Any) -> JSON:
    """Return the form of a result for the event stream; a user's result may be anything."""
    try:
        encode(result, depth_max=DEPTH_MAX)
    except (TypeError, ValueError):
        return None
    told: JSON = result
    return told
