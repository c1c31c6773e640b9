"""The Temporal workflow that runs every workflow of a user.

It is dynamic: it has every name, and looks up the user's workflow of that name. It gets the objects of its
worker through the extern functions of an interceptor, which Temporal offers for that.
"""

import asyncio
import functools
import inspect
import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RawValue
from temporalio.worker import (
    Interceptor,
    UnsandboxedWorkflowRunner,
    WorkflowInboundInterceptor,
    WorkflowInstance,
    WorkflowInstanceDetails,
    WorkflowInterceptorClassInput,
)

from outlast.adapters.temporal.context import TemporalContext, in_handler
from outlast.adapters.temporal.ended_runs import EndedRuns
from outlast.adapters.temporal.failures import application_error, rejection
from outlast.adapters.temporal.loop_repairs import repair_loop
from outlast.adapters.temporal.payloads import LIMIT_BYTES, check_size
from outlast.adapters.temporal.steps import OpenSteps
from outlast.core.approvals import DECISION_SIGNAL, read_decision
from outlast.core.errors import (
    DefinitionError,
    ForeignError,
    InvalidArguments,
    UnknownDefinition,
)
from outlast.core.failure import failure_of
from outlast.core.json import JSON
from outlast.core.records import (
    CancelRequested,
    ExecutionEnded,
    ExecutionStarted,
    SignalReceived,
    Status,
    UpdateAccepted,
    UpdateCompleted,
)
from outlast.core.updates import GAVE_UP
from outlast.ports.definitions import HandlerDefinition, WorkflowDefinition
from outlast.ports.durability.workflow_context import current_context
from outlast.ports.toolkit import Toolkit

logger = logging.getLogger("outlast.workflow")

RECORDS_QUERY = "outlast.records"
_HOST = "outlast.host"


@dataclass(frozen=True, eq=False)
class Host(Interceptor):
    """The things that a worker, or a replay, lends to the workflows that it runs."""

    toolkit: Toolkit
    definitions: Mapping[str, WorkflowDefinition]
    steps: OpenSteps
    lease: timedelta
    limit_bytes: int = LIMIT_BYTES
    writes_json: bool = False
    """True if the client's data converter writes JSON as we do; see `payloads.writes_json`."""
    ended: EndedRuns = field(default_factory=EndedRuns)
    """The waiters in this process for the ends of executions."""

    def workflow_interceptor_class(
        self, input: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor] | None:
        input.unsafe_extern_functions[_HOST] = lambda: self
        return None


def host() -> Host:
    """Return the things that the worker lends to the running workflow."""
    lent: Host = workflow.extern_functions()[_HOST]()
    return lent


class GuardedRunner(UnsandboxedWorkflowRunner):
    """Runs workflow code as it is, behind our own guard instead of in Temporal's sandbox.

    The sandbox imports every module again for each execution, SDKs included. Our guard refuses the same
    things at the call, with the same errors as on every other backend.
    """

    def __init__(self, toolkit: Toolkit) -> None:
        self._toolkit = toolkit

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        instance = super().create_instance(det)
        activate = instance.activate

        def guarded(act: Any) -> Any:
            with self._toolkit.workflow_code():
                return activate(act)

        instance.activate = guarded  # type: ignore[method-assign]  # there is no hook
        return instance


@workflow.defn(dynamic=True, sandboxed=False)
class DurableWorkflow:
    """Runs the entrypoint of the user's workflow.

    Raises:
        UnknownDefinition: this worker does not run that workflow. Temporal tries again, perhaps elsewhere.
    """

    @workflow.init
    def __init__(self, args: Sequence[RawValue]) -> None:
        self._begun = asyncio.Event()
        self._unready: Exception | None = None
        """The reason why this worker cannot run the workflow: its first task fails, for another to try."""
        try:
            self._prepare(args)
        except Exception as error:
            # If the constructor of a workflow raises, the SDK leaves a coroutine that nobody awaits.
            self._unready = error

    def _prepare(self, args: Sequence[RawValue]) -> None:
        self._host = host()
        name = workflow.info().workflow_type
        if name not in self._host.definitions:
            raise UnknownDefinition("workflow", name)
        self._definition = self._host.definitions[name]
        lent = self._host
        toolkit = lent.toolkit
        self._context = TemporalContext(
            lent.steps, lent.lease, lent.limit_bytes, lent.writes_json, toolkit.contained, toolkit.own_code
        )
        self._context.tell_timers()
        repair_loop()
        self._scope = copy_context()
        self._scope.run(current_context.set, self._context)
        values = _values(args)
        self._arguments: dict[str, JSON] = values[0] if values and isinstance(values[0], dict) else {}
        self._instance: Any = None
        self._broken: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        """Gets the exception of a signal handler, which ends the execution."""
        match values:
            case [_, {"keys": int(), "emitted": int(), "records": int()} as place]:
                self._context.go_on_from(place)
            case _:
                started = ExecutionStarted(at=self._context.time, workflow=name, arguments=self._arguments)
                self._context.record(started)
        self._unmade: Exception | None = None
        """The exception of the constructor of the user's class. It ends the execution when that begins."""
        try:
            # This happens now, because Temporal may ask a validator before the entrypoint begins.
            with self._contained():
                self._instance = self._scope.run(self._definition.cls)
        except Exception as error:
            self._unmade = error

    @workflow.run
    async def run(self, args: Sequence[RawValue]) -> Any:
        if self._unready is not None:
            raise self._unready
        main = asyncio.get_running_loop().create_task(self._main(), context=self._scope)
        ends: list[asyncio.Future[Any]] = [main, self._broken]
        try:
            await workflow.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._context.record(CancelRequested(at=self._context.time, message_id="cancel"))
            main.cancel()
            await workflow.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if main.done() and not main.cancelled():
            error = main.exception()
            if isinstance(error, workflow.ContinueAsNewError):
                raise error
        closed = self._outcome(main)
        self._context.record(closed)
        self._host.ended.end(workflow.info().workflow_id, self._context.ended())
        if closed.failure is not None:
            raise application_error(closed.failure)
        if closed.status is Status.CANCELLED:
            raise asyncio.CancelledError
        return closed.result

    async def _main(self) -> JSON:
        self._begun.set()
        if self._unmade is not None:
            raise self._unmade
        args, kwargs = self._definition.signature.load_arguments(self._arguments)
        result = await getattr(self._instance, self._definition.entrypoint)(*args, **kwargs)
        dumped: JSON = self._definition.signature.dump_result(result)
        check_size(f"the result of workflow {self._definition.name!r}", dumped, self._host.limit_bytes)
        return dumped

    def _outcome(self, main: asyncio.Task[JSON]) -> ExecutionEnded:
        if self._broken.done():
            return self._failed(self._broken.result())
        if main.cancelled():
            if workflow.cancellation_reason() is not None:
                return ExecutionEnded(status=Status.CANCELLED)
            lost = ForeignError("CancelledError", "the workflow let a CancelledError of its own escape")
            return self._failed(lost)
        error = main.exception()
        if error is not None:
            return self._failed(error)
        return ExecutionEnded(status=Status.COMPLETED, result=main.result())

    def _failed(self, error: BaseException) -> ExecutionEnded:
        failure = self._host.toolkit.failure_of(error, LIMIT_BYTES)
        if not workflow.unsafe.is_replaying():
            logger.error("execution %s failed:\n%s", workflow.info().workflow_id, failure.traceback())
        return ExecutionEnded(status=Status.FAILED, failure=failure)

    @workflow.signal(dynamic=True)
    async def signal(self, name: str, args: Sequence[RawValue]) -> None:
        # Temporal hands over early signals before the entrypoint begins; user code gets them afterwards.
        await self._begun.wait()
        arguments, named = read_sent(_values(args))
        self._context.record(
            SignalReceived(
                at=self._context.time,
                message_id=f"signal:{len(self._context.records)}",
                name=name,
                arguments=tuple(arguments),
                named=dict(named),
            )
        )
        try:
            if name == DECISION_SIGNAL:
                self._context.decide(read_decision(named))
                return
            method, given, by_name = self._handler(self._definition.signals, "signal", name, arguments, named)
        except (InvalidArguments, DefinitionError) as error:
            # The sender's mistake must not end an execution that others rely on.
            workflow.logger.warning("a signal is dropped: %s", error)
            return
        try:
            with self._contained():
                await self._handling(method, given, by_name)
        except Exception as error:
            if not self._broken.done():
                self._broken.set_result(error)

    @workflow.update(dynamic=True, unfinished_policy=workflow.HandlerUnfinishedPolicy.ABANDON)
    async def update(self, name: str, args: Sequence[RawValue]) -> Any:
        await self._begun.wait()
        arguments, named = read_sent(_values(args))
        info = workflow.current_update_info()
        assert info is not None
        self._context.record(
            UpdateAccepted(
                at=self._context.time,
                update_id=info.id,
                name=name,
                arguments=tuple(arguments),
                named=dict(named),
            )
        )
        completed = await self._answered(info.id, name, arguments, named)
        self._context.record(completed)
        if completed.failure is not None:
            raise application_error(completed.failure) from None
        return completed.result

    @update.validator
    def validate(self, name: str, args: Sequence[RawValue]) -> None:
        try:
            arguments, named = read_sent(_values(args))
            _, given, by_name = self._handler(self._definition.updates, "update", name, arguments, named)
            validator = self._definition.updates[name].validator
            if validator is not None:
                method = getattr(self._instance, validator)
                with self._contained():
                    self._scope.copy().run(functools.partial(method, *given, **by_name))
        except Exception as error:
            raise rejection(self._host.toolkit.failure_of(error, LIMIT_BYTES)) from None

    async def _answered(
        self, update_id: str, name: str, arguments: Sequence[JSON], named: Mapping[str, JSON]
    ) -> UpdateCompleted:
        """Return the end of an update's handler; the caller gets its exception."""
        try:
            method, given, by_name = self._handler(self._definition.updates, "update", name, arguments, named)
            with self._contained():
                answer = await self._handling(method, given, by_name)
                result = self._definition.updates[name].signature.dump_result(answer)
            check_size(f"the result of update {name!r}", result, self._host.limit_bytes)
            return UpdateCompleted(update_id=update_id, result=result)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # The execution leaves this process.
            failure = GAVE_UP
        except Exception as error:
            failure = self._host.toolkit.failure_of(error, LIMIT_BYTES)
        return UpdateCompleted(update_id=update_id, failure=failure)

    @workflow.query(dynamic=True)
    def query(self, name: str, args: Sequence[RawValue]) -> Any:
        try:
            handler = self._definition.queries.get(name)
            arguments, named = read_sent(_values(args))
            method, given, by_name = self._handler(self._definition.queries, "query", name, arguments, named)
            assert handler is not None
            with self._contained():
                answer = self._scope.copy().run(functools.partial(method, *given, **by_name))
                answer = handler.signature.dump_result(answer)
            check_size(f"the answer to query {name!r}", answer, self._host.limit_bytes)
            return {"answer": answer}
        except Exception as error:
            # Failures are returned as data, because Temporal keeps only the message of a query that fails.
            return {"failure": failure_of(error, LIMIT_BYTES).model_dump(mode="json")}

    @workflow.query(name=RECORDS_QUERY)
    def records(self, position: int, length: int) -> Any:
        return self._context.page(position, length)

    def _contained(self) -> AbstractContextManager[None]:
        return self._host.toolkit.contained(self._context.unwinds)

    def _handling(self, method: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> asyncio.Task[Any]:
        """Return the task in which the handler of a signal or an update runs."""
        scope = self._scope.copy()
        scope.run(in_handler.set, True)
        return asyncio.get_running_loop().create_task(_handled(method, args, kwargs), context=scope)

    def _handler(
        self,
        handlers: Mapping[str, HandlerDefinition],
        sort: str,
        name: str,
        arguments: Sequence[JSON],
        named: Mapping[str, JSON],
    ) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        handler = handlers.get(name)
        if handler is None:
            raise InvalidArguments(f"{sort} {name}", [f"the workflow has no {sort} of that name"])
        if self._instance is None:
            raise InvalidArguments(f"{sort} {name}", ["the workflow has not begun, or could not be made"])
        given, by_name = self._host.toolkit.handler_arguments(handler, arguments, named)
        return getattr(self._instance, handler.method), given, by_name


async def _handled(method: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    answer = method(*args, **kwargs)
    return await answer if inspect.isawaitable(answer) else answer


def _values(args: Sequence[RawValue]) -> list[Any]:
    converter = workflow.payload_converter()
    return [converter.from_payload(arg.payload) for arg in args]


def read_sent(values: Sequence[Any]) -> tuple[Sequence[JSON], Mapping[str, JSON]]:
    """Return positional and named arguments: of our own senders, which name them, or of `temporal signal`."""
    match values:
        case [{"outlast": {"arguments": list(arguments), "named": dict(named)}}]:
            return arguments, named
    return values, {}


def sent(arguments: Sequence[JSON], named: Mapping[str, JSON]) -> dict[str, Any]:
    """Return the payload for the arguments of a signal, a query or an update."""
    return {"outlast": {"arguments": list(arguments), "named": dict(named)}}
