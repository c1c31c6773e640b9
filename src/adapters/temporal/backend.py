"""The Temporal backend: the durability port, from outside."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import re
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, Self

from temporalio.api.enums.v1 import EventType
from temporalio.api.failure.v1 import Failure as TemporalFailure
from temporalio.api.history.v1 import ActivityTaskScheduledEventAttributes
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import (
    Client,
    WorkflowExecution,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowHistoryEventFilterType,
    WorkflowQueryFailedError,
)
from temporalio.common import WorkflowIDReusePolicy
from temporalio.converter import DataConverter, PayloadCodec
from temporalio.exceptions import CancelledError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from durable_agents.adapters.temporal.failures import failure_in
from durable_agents.adapters.temporal.payloads import TellingCodec, check_size, data_converter, limit_of
from durable_agents.adapters.temporal.worker import TemporalWorker, WorkerOptions
from durable_agents.adapters.temporal.workflows import RECORDS_QUERY, sent
from durable_agents.core.approvals import (
    DECISION_SIGNAL,
    PendingApproval,
    Verdict,
    decision_on,
    pending_in,
)
from durable_agents.core.errors import (
    ConfigurationError,
    DefinitionError,
    DurableAgentsError,
    ExecutionAlreadyExists,
    ExecutionCancelled,
    ExecutionClosed,
    ExecutionFailed,
    ExecutionNotFound,
    InvalidArguments,
    MissingCredentials,
    NotSupported,
    StorageError,
    StorageUnavailable,
    Unserialisable,
)
from durable_agents.core.failure import Failure
from durable_agents.core.json import JSON, canonical, encode
from durable_agents.core.records import Status, decode_record
from durable_agents.ports.definitions import HandlerDefinition
from durable_agents.ports.durability import (
    Backend,
    Event,
    Execution,
    ExecutionDescription,
    WorkerDescription,
)
from durable_agents.ports.journal import DEFAULT_TASK_QUEUE, check_id
from durable_agents.ports.toolkit import Toolkit

FINGERPRINT = "durable_agents_input"
"""The memo field that tells whether two starts with one id mean the same."""

CONNECT_SECONDS = 30.0
"""How long connecting may take in all."""

_CONNECTION = frozenset(inspect.signature(Client.connect).parameters) - {
    *("target_host", "namespace", "data_converter", "lazy")
}

PAUSE_SECONDS = 0.5
"""How long a reader waits for a worker, without which nobody answers queries."""

_STATUS = {
    WorkflowExecutionStatus.RUNNING: Status.RUNNING,
    WorkflowExecutionStatus.CONTINUED_AS_NEW: Status.RUNNING,
    WorkflowExecutionStatus.COMPLETED: Status.COMPLETED,
    WorkflowExecutionStatus.CANCELED: Status.CANCELLED,
    WorkflowExecutionStatus.FAILED: Status.FAILED,
    WorkflowExecutionStatus.TERMINATED: Status.FAILED,
    WorkflowExecutionStatus.TIMED_OUT: Status.FAILED,
}
_VISIBLE = {
    Status.RUNNING: "ExecutionStatus = 'Running'",
    Status.COMPLETED: "ExecutionStatus = 'Completed'",
    Status.CANCELLED: "ExecutionStatus = 'Canceled'",
    Status.FAILED: "ExecutionStatus IN ('Failed', 'Terminated', 'TimedOut')",
}
_NEWS = frozenset(
    {
        EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT,
    }
)
"""History events after which there may be new records."""


class TemporalBackend(Backend):
    """Executions on a Temporal service; an execution's id is its workflow id.

    Args:
        address: Host and port of the service.
        namespace: It must exist.
        toolkit: The runtime's part; see `ports.toolkit`.
        data_converter: Instead of ours. A variant of `adapters.temporal.data_converter` keeps the order of
            keys, which models read; with `external_storage` in it, values may have any size.
        payload_codec: What encrypts or compresses whatever Temporal stores of arguments and results.
        options: Whatever else `temporalio.client.Client.connect` takes: `tls`, `api_key`, `interceptors`,
            `runtime` (metrics), `plugins`, `rpc_metadata` and so on. Workers use them as well.
    """

    def __init__(
        self,
        address: str,
        namespace: str,
        toolkit: Toolkit,
        *,
        data_converter: DataConverter = data_converter,
        payload_codec: PayloadCodec | None = None,
        **options: Any,
    ) -> None:
        if payload_codec is not None:
            data_converter = replace(data_converter, payload_codec=TellingCodec(payload_codec))
        unknown = sorted(options.keys() - _CONNECTION)
        if unknown:
            known = ", ".join(sorted(_CONNECTION))
            raise ConfigurationError(f"Temporal's client has no option {', '.join(unknown)}; it has {known}")
        self._address = address
        self._namespace = namespace
        self._toolkit = toolkit
        self._converter = data_converter
        self._limit_bytes = limit_of(data_converter)
        self._options = options
        self._connected: Client | None = None

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                client = await Client.connect(
                    self._address, namespace=self._namespace, data_converter=self._converter, **self._options
                )
                await client.workflow_service.describe_namespace(
                    DescribeNamespaceRequest(namespace=self._namespace), retry=True
                )
        except (RuntimeError, TimeoutError) as error:
            # What Temporal's client raises may quote headers.
            raise StorageUnavailable(
                f"no Temporal service answers at {self._address}; start it, or correct the URL "
                "(a service with TLS needs tls=true)"
            ) from (error if "api_key" not in self._options else None)
        except ValueError as error:
            raise ConfigurationError(
                f"Temporal's client refuses the connection's options: {error}"
            ) from error
        except RPCError as error:
            raise self._refused(error) from error
        self._connected = client
        return self

    def _refused(self, error: RPCError) -> DurableAgentsError:
        place = f"namespace {self._namespace!r} at {self._address}"
        if error.status is RPCStatusCode.NOT_FOUND:
            return ConfigurationError(
                f"Temporal has no {place}; correct the URL, or create it: "
                f"temporal operator namespace create --namespace {self._namespace}"
            )
        if error.status in (RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNAUTHENTICATED):
            return MissingCredentials(
                f"Temporal refuses access to {place}: {error.message}; check the API key or the certificate, "
                "and that it is meant for this namespace"
            )
        return StorageUnavailable(f"Temporal does not answer for {place}: {error.message}")

    async def __aexit__(self, *_: object) -> None:
        self._connected = None

    @property
    def client(self) -> Client:
        """Temporal's own client, for what this port does not offer."""
        if self._connected is None:
            raise StorageUnavailable("the backend is not connected; use it in an `async with` block")
        return self._connected

    async def start(
        self,
        workflow: type[Any] | str,
        *args: Any,
        id: str | None = None,
        task_queue: str = DEFAULT_TASK_QUEUE,
        **kwargs: Any,
    ) -> Execution:
        definition = self._toolkit.definition_of(workflow)
        arguments = definition.signature.dump_arguments(*args, **kwargs)
        check_size(f"the input of workflow {definition.name!r}", arguments, self._limit_bytes)
        fingerprint = hashlib.sha256(canonical([definition.name, arguments]).encode()).hexdigest()
        execution_id = uuid.uuid4().hex if id is None else id
        try:
            if not execution_id.strip():
                raise ValueError("an execution's id must not be empty; leave it out to get one made")
            check_id(execution_id)
        except ValueError as error:
            raise DefinitionError(str(error)) from error
        execution = self._execution(self.client.get_workflow_handle(execution_id))
        with _translated(execution_id):
            try:
                await self.client.start_workflow(
                    definition.name,
                    arguments,
                    id=execution_id,
                    task_queue=task_queue,
                    id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                    memo={FINGERPRINT: fingerprint},
                )
            except WorkflowAlreadyStartedError:
                existing = await execution.handle.describe()
                if existing.workflow_type != definition.name:
                    raise ExecutionAlreadyExists(execution_id, "workflow") from None
                if await existing.memo_value(FINGERPRINT, None) != fingerprint:
                    raise ExecutionAlreadyExists(execution_id, "input") from None
        return execution

    async def get(self, execution_id: str) -> Execution:
        execution = self._execution(self.client.get_workflow_handle(execution_id))
        with _translated(execution_id):
            await execution.handle.describe()
        return execution

    async def list(
        self, *, workflow: str | None = None, status: Status | str | None = None, limit: int = 100
    ) -> Sequence[ExecutionDescription]:
        conditions = [] if workflow is None else [f"WorkflowType = {_quoted(workflow)}"]
        if status is not None:
            conditions.append(_VISIBLE[Status(status)])
        found: list[WorkflowExecution] = []
        with _translated(""):
            async for one in self.client.list_workflows(" AND ".join(conditions), limit=limit):
                found.append(one)
        found.sort(key=lambda one: one.start_time, reverse=True)
        handles = [self.client.get_workflow_handle(one.id, run_id=one.run_id) for one in found]
        return [
            await self._execution(handle).described(one) for handle, one in zip(handles, found, strict=True)
        ]

    def _execution(self, handle: WorkflowHandle[Any, Any]) -> TemporalExecution:
        return TemporalExecution(handle, self._toolkit, self._converter)

    async def prune(self, older_than: timedelta) -> int:
        raise NotSupported(
            "Temporal forgets ended executions by itself: set the namespace's retention period instead"
        )

    async def workers(self) -> Sequence[WorkerDescription]:
        raise NotSupported(
            "Temporal knows its workers by task queue: "
            f"run `temporal task-queue describe --task-queue {DEFAULT_TASK_QUEUE}` instead"
        )

    def worker(
        self,
        workflows: Sequence[type[Any]],
        *,
        lease: timedelta = timedelta(seconds=10),
        max_concurrent_executions: int = 100,
        max_concurrent_activities: int = 100,
        max_cached_executions: int = 1000,
        task_queue: str = DEFAULT_TASK_QUEUE,
        graceful_shutdown_timeout: timedelta = timedelta(seconds=30),
        identity: str | None = None,
    ) -> TemporalWorker:
        definitions = [self._toolkit.definition_of(workflow) for workflow in workflows]
        options = WorkerOptions(
            lease,
            max_concurrent_executions,
            max_concurrent_activities,
            max_cached_executions,
            task_queue,
            graceful_shutdown_timeout,
            identity,
        )
        by_name = {definition.name: definition for definition in definitions}
        if len(by_name) < len(set(map(id, definitions))):
            raise DefinitionError("two workflows of one worker have the same name; give each its own")
        return TemporalWorker(self.client, self._toolkit, by_name, options)


class TemporalExecution(Execution):
    """A handle on an execution that is a Temporal workflow."""

    def __init__(self, handle: WorkflowHandle[Any, Any], toolkit: Toolkit, converter: DataConverter) -> None:
        self.handle = handle
        self._toolkit = toolkit
        self._converter = converter

    def __repr__(self) -> str:
        return f"<execution {self.id}>"

    @property
    def id(self) -> str:
        return self.handle.id

    async def result(self) -> Any:
        with _translated(self.id):
            name = (await self.handle.describe()).workflow_type
            try:
                result = await self.handle.result()
            except WorkflowFailureError as error:
                if isinstance(error.cause, CancelledError):
                    raise ExecutionCancelled(self.id) from None
                failure = failure_in(error.cause)
                raise ExecutionFailed(self.id, failure.kind, failure.message) from failure.error()
        definition = self._toolkit.known_definition(name)
        return result if definition is None else definition.signature.load_result(result)

    async def signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        handler = await self._handler("signal", name)
        message = _message(f"signal {name}", handler, args, kwargs, limit_of(self._converter))
        with _translated(self.id):
            await self._while_running(self.handle.signal(name, message))

    async def query(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Return what a query handler says; a worker that runs this workflow answers."""
        handler = await self._handler("query", name)
        message = _message(f"query {name}", handler, args, kwargs, limit_of(self._converter))
        with _translated(self.id):
            told = await self.handle.query(name, message)
        if "failure" in told:
            raise Failure.model_validate(told["failure"]).error()
        return told["answer"] if handler is None else handler.signature.load_result(told["answer"])

    async def pending(self) -> Sequence[PendingApproval]:
        """Return the calls that wait; a worker that runs this workflow tells."""
        return pending_in([(event.kind, event.data) async for event in self.events(follow=False)])

    async def decide(
        self,
        call_id: str,
        verdict: Verdict,
        reason: str | None = None,
        *,
        edited_arguments: Mapping[str, Any] | None = None,
    ) -> None:
        status = (await self.describe()).status
        if status is not Status.RUNNING:
            raise ExecutionClosed(self.id, status)
        decision = decision_on(self.id, await self.pending(), call_id, verdict, reason, edited_arguments)
        message = sent((), decision.model_dump(mode="json"))
        check_size("a decision", message, limit_of(self._converter))
        with _translated(self.id):
            await self._while_running(self.handle.signal(DECISION_SIGNAL, message))

    async def cancel(self) -> None:
        with _translated(self.id):
            # Temporal takes a second request even after the end, and does nothing about it.
            status = _STATUS[(await self.handle.describe()).status or WorkflowExecutionStatus.RUNNING]
            if status is not Status.RUNNING:
                raise ExecutionClosed(self.id, status)
            await self._while_running(self.handle.cancel())

    async def describe(self) -> ExecutionDescription:
        with _translated(self.id):
            return await self.described(await self.handle.describe())

    async def described(self, found: WorkflowExecution) -> ExecutionDescription:
        """Return what Temporal's description, and the last event if it failed, tell."""
        status = _STATUS[found.status or WorkflowExecutionStatus.RUNNING]
        error = None
        if status is Status.FAILED:
            failure = await self._failure()
            error = f"{failure.kind}: {failure.message}"
        elif (
            isinstance(found, WorkflowExecutionDescription)
            and found.raw_description.pending_workflow_task.attempt > 1
        ):
            error = f"execution {self.id} cannot go on: {await self._obstacle()}"
        return ExecutionDescription(
            found.id, found.workflow_type, status, found.start_time, found.close_time, error
        )

    async def events(self, after: int = 0, *, follow: bool = True) -> AsyncIterator[Event]:
        """Yield the events. The records behind them are asked of a worker; the history says when."""
        reader, length = self._toolkit.record_reader(), 0
        news = self.handle.fetch_history_events(wait_new_event=True)
        while True:
            page, history_length = await self._records(length)
            for record in page:
                for event in reader.read(decode_record(record.encode())):
                    if event.position > after:
                        yield event
            length += len(page)
            if reader.ended or (not page and not follow):
                return
            if not page:
                with _translated(self.id):
                    async for past in news:
                        if past.event_id > history_length and past.event_type in _NEWS:
                            break
                    else:
                        return

    async def _records(self, position: int) -> tuple[Sequence[str], int]:
        while True:
            try:
                with _translated(self.id):
                    told = await self.handle.query(RECORDS_QUERY, position)
                return told["records"], told["history_length"]
            except StorageError:
                await asyncio.sleep(PAUSE_SECONDS)

    async def _failure(self) -> Failure:
        closing = WorkflowHistoryEventFilterType.CLOSE_EVENT
        async for event in self.handle.fetch_history_events(event_filter_type=closing):
            if event.HasField("workflow_execution_failed_event_attributes"):
                failed = event.workflow_execution_failed_event_attributes.failure
                return failure_in(await self._converter.decode_failure(failed))
            return Failure(kind="Stopped", message=EventType.Name(event.event_type))
        return failure_in(None)

    async def _obstacle(self) -> str:
        """Return why the last workflow task failed; Temporal tries it again until the code is right."""
        message, activities = "its workflow task fails", dict[int, ActivityTaskScheduledEventAttributes]()
        async for event in self.handle.fetch_history_events():
            if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                activities[event.event_id] = event.activity_task_scheduled_event_attributes
            elif event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
                message = _told(event.workflow_task_failed_event_attributes.failure) or message
        # Temporal tells where the code departed from the history by a number only.
        place = re.search(r"HistoryEvent\(id: (\d+)", message)
        recorded = activities.get(int(place[1])) if place else None
        if recorded is None:
            return message
        told = f"{message}; recorded there: activity {recorded.activity_type.name!r}"
        if recorded.HasField("input"):
            arguments = await self._converter.decode(recorded.input.payloads)
            told += f" with arguments {encode(arguments[0]).decode()}"
        return told

    async def _handler(self, sort: str, name: str) -> HandlerDefinition | None:
        """Return the handler, if this process defines the workflow; raises if that has none of the name."""
        with _translated(self.id):
            definition = self._toolkit.known_definition((await self.handle.describe()).workflow_type)
        if definition is None:
            return None
        handlers = definition.signals if sort == "signal" else definition.queries
        if name not in handlers:
            known = ", ".join(sorted(handlers)) or "none"
            raise InvalidArguments(f"{sort} {name}", [f"no such {sort}; the workflow has {known}"])
        return handlers[name]

    async def _while_running(self, sending: Any) -> None:
        try:
            await sending
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            status = _STATUS[(await self.handle.describe()).status or WorkflowExecutionStatus.RUNNING]
            raise ExecutionClosed(self.id, status) from error


@contextmanager
def _translated(execution_id: str) -> Iterator[None]:
    """Turn what the service or the network raises inside into our errors."""
    try:
        yield
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise ExecutionNotFound(execution_id) from error
        if error.status in (RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNAUTHENTICATED):
            raise MissingCredentials(
                f"Temporal refuses access: {error.message}; check the credentials"
            ) from error
        if error.status is RPCStatusCode.INVALID_ARGUMENT:
            raise DefinitionError(f"Temporal refuses it: {error.message}") from error
        raise StorageUnavailable(f"Temporal does not answer: {error.message}") from error
    except WorkflowQueryFailedError as error:
        raise StorageUnavailable(f"no worker can answer: {error}") from error


def _told(failure: TemporalFailure) -> str:
    """Return the messages of a failure and of its causes."""
    messages = [failure.message]
    while failure.HasField("cause"):
        failure = failure.cause
        messages.append(failure.message)
    return ": ".join(filter(None, messages))


def _message(
    what: str,
    handler: HandlerDefinition | None,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    limit_bytes: int,
) -> dict[str, Any]:
    try:
        named: dict[str, JSON] = dict(kwargs)
        if handler is not None:
            named = handler.signature.dump_arguments(*args, **kwargs)
            args = ()
        message = sent(args, named)
        encode(message)
    except TypeError as error:
        if handler is not None:
            raise InvalidArguments(what, [str(error)]) from None
        raise Unserialisable(f"an argument of {what}", "object", str(error)) from error
    except ValueError as error:
        raise Unserialisable(f"an argument of {what}", "object", str(error)) from error
    check_size(what, message, limit_bytes)
    return message


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
