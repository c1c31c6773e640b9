"""A handle on one execution: the durability port, from outside."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from temporalio.api.enums.v1 import EventType
from temporalio.api.errordetails.v1 import WorkflowNotReadyFailure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import (
    Client,
    WorkflowExecution,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowHistoryEventFilterType,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.exceptions import ApplicationError, CancelledError, TerminatedError
from temporalio.service import RPCError, RPCStatusCode

from outlast.adapters.temporal.code_replay import CodeReplay
from outlast.adapters.temporal.ended_runs import EndedRuns
from outlast.adapters.temporal.failures import failure_in, is_rejection
from outlast.adapters.temporal.history import read_history, stopped_by
from outlast.adapters.temporal.holding import PAUSE_SIGNAL, RESUME_SIGNAL
from outlast.adapters.temporal.memo import FORKED_FROM, held_because, queue_of
from outlast.adapters.temporal.messages import TAG_SIGNAL, read_sent, sent
from outlast.adapters.temporal.obstacles import Obstacle, obstacle_in
from outlast.adapters.temporal.payloads import check_payload, limit_of
from outlast.adapters.temporal.record_source import ASK_AGAIN_SECONDS, answered
from outlast.adapters.temporal.refusals import translated
from outlast.adapters.temporal.rerunning import TemporalRerunner
from outlast.adapters.temporal.search_attributes import is_registered, not_registered, tags_in
from outlast.adapters.temporal.stream import EventStream
from outlast.adapters.temporal.waits import is_served, shown_with
from outlast.core.approvals import (
    DECISION_SIGNAL,
    AskedCalls,
    PendingApproval,
    Verdict,
    asked_in,
    decision_in,
    decision_on,
)
from outlast.core.errors import (
    BusyWorkflow,
    DefinitionError,
    ExecutionAlreadyEnded,
    ExecutionCancelled,
    ExecutionFailed,
    ExecutionTerminated,
    InvalidArguments,
    NonDeterminismError,
    NotSupported,
    OutlastError,
    StorageUnavailable,
    Unserialisable,
    UpdateAbandoned,
    UpdateFailed,
    UpdateRejected,
)
from outlast.core.event_stream import Event
from outlast.core.exports import ExportHeader, exported
from outlast.core.failure import Failure
from outlast.core.json import DEPTH_MAX, JSON, kept
from outlast.core.questions import ANSWER_UPDATE
from outlast.core.records import AnyRecord, SignalReceived, Status
from outlast.core.steering import INTERRUPT_UPDATE, SAY_UPDATE
from outlast.core.tags import TAGS_MAX, changed, checked_changes, too_many
from outlast.core.waiting import Overview, WaitingFor, WaitingKind, overview_in
from outlast.ports.definitions import HandlerDefinition, check_options
from outlast.ports.durability.execution import Execution, ExecutionDescription
from outlast.ports.journal import check_id
from outlast.ports.method_references import Handler, name_of
from outlast.ports.toolkit import Toolkit

T = TypeVar("T")

_ABANDONED = "AcceptedUpdateCompletedWorkflow"
"""Temporal's name for the end of a workflow before the end of an update's handler."""

_STATUS = {
    WorkflowExecutionStatus.RUNNING: Status.RUNNING,
    WorkflowExecutionStatus.CONTINUED_AS_NEW: Status.RUNNING,
    WorkflowExecutionStatus.COMPLETED: Status.COMPLETED,
    WorkflowExecutionStatus.CANCELED: Status.CANCELLED,
    WorkflowExecutionStatus.FAILED: Status.FAILED,
    WorkflowExecutionStatus.TERMINATED: Status.TERMINATED,
    WorkflowExecutionStatus.TIMED_OUT: Status.FAILED,
}


class TemporalExecution(Execution[Any]):
    """A handle on an execution that is a Temporal workflow."""

    def __init__(self, client: Client, execution_id: str, toolkit: Toolkit, ended: EndedRuns) -> None:
        self.handle: WorkflowHandle[Any, Any] = client.get_workflow_handle(execution_id)
        self._toolkit = toolkit
        self._client = client
        self._converter = client.data_converter
        self._ended = ended
        self._stream = EventStream(client, execution_id, toolkit, ended)
        self._reruns = TemporalRerunner(client, toolkit, execution_id, self._stream)

    def __repr__(self) -> str:
        return f"<execution {self.id}>"

    @property
    def id(self) -> str:
        return self.handle.id

    async def result(self) -> Any:
        self._stream.expect_end()
        with translated(self.id):
            name = (await self.handle.describe()).workflow_type
            try:
                result = await self.handle.result()
            except WorkflowFailureError as error:
                if isinstance(error.cause, CancelledError):
                    raise ExecutionCancelled(self.id) from None
                if isinstance(error.cause, TerminatedError):
                    raise ExecutionTerminated(self.id, str(error.cause)) from None
                failure = failure_in(error.cause)
                failed = ExecutionFailed(self.id, failure.kind, failure.message)
                failed.add_note(failure.traceback())
                raise failed from failure.error()
        definition = self._toolkit.known_definition(name)
        return result if definition is None else definition.signature.load_result(result)

    async def signal(self, signal: Handler, /, *args: Any, **kwargs: Any) -> None:
        name = name_of("signal", signal)
        handler = await self._handler("signal", name)
        message = _message(f"signal {name}", handler, args, kwargs, limit_of(self._converter))
        with translated(self.id):
            await self._while_running(self.handle.signal(name, message))

    async def query(self, query: Handler, /, *args: Any, **kwargs: Any) -> Any:
        """Return the answer of a query handler; code in this process gives it if no worker is there."""
        name = name_of("query", query)
        handler = await self._handler("query", name)
        message = _message(f"query {name}", handler, args, kwargs, limit_of(self._converter))
        with translated(self.id):
            found = await self.handle.describe()
            try:
                answer = await answered(self._client, found, self.handle.query(name, message))
            except StorageUnavailable:
                if handler is None:
                    raise
                return handler.signature.load_result(
                    await self._asked_here(found.workflow_type, name, message)
                )
        if "failure" in answer:
            raise Failure.model_validate(answer["failure"]).error()
        return answer["answer"] if handler is None else handler.signature.load_result(answer["answer"])

    async def _asked_here(self, workflow: str, name: str, message: Any) -> JSON:
        """Return the answer of the code in this process, run over the history."""
        definition = self._toolkit.known_definition(workflow)
        assert definition is not None
        history = await read_history((await self.handle.fetch_history()).events, self._converter)
        answers: list[JSON] = []
        replay = CodeReplay(self.id, history, limit_of(self._converter))
        arguments, named = read_sent([message])
        await replay.run(
            self._toolkit.live_code, definition, lambda live: answers.append(live.ask(name, arguments, named))
        )
        return answers[0]

    async def update(self, update: Handler, /, *args: Any, id: str | None = None, **kwargs: Any) -> Any:  # type: ignore[override]
        """Send an update, and return the result of its handler.

        Temporal keeps an update that no worker has accepted only as long as its caller waits. It keeps an id
        for one history: after continuing as new, the same id is a new update.
        """
        name = name_of("update", update)
        handler = await self._handler("update", name)
        if handler is not None:
            check_options(f"update {name}", handler.signature, args, id=id)
        message = _message(f"update {name}", handler, args, kwargs, limit_of(self._converter))
        update_id = uuid.uuid4().hex if id is None else id
        try:
            check_id(update_id)
        except ValueError as error:
            raise DefinitionError(f"that cannot be the id of an update: {error}") from error
        with translated(self.id):
            try:
                answer = await self._while_running(self._updated(name, message, update_id))
            except ExecutionAlreadyEnded:
                # Temporal knows only the updates of this run; the journal with which it began has others.
                completed = await self._reruns.answer_to(update_id)
                if completed is None:
                    raise
                if completed.failure is not None:
                    failure = completed.failure
                    raise UpdateFailed(self.id, name, failure.kind, failure.message) from failure.error()
                answer = completed.result
            except WorkflowUpdateRPCTimeoutOrCancelledError as error:
                if isinstance(error.__cause__, asyncio.CancelledError):
                    raise error.__cause__ from None
                raise StorageUnavailable(f"Temporal does not answer: {error.__cause__}") from error
            except WorkflowUpdateFailedError as error:
                raise await self._update_error(name, error.cause) from failure_in(error.cause).error()
        return answer if handler is None else handler.signature.load_result(answer)

    async def _updated(self, name: str, message: Any, update_id: str) -> Any:
        """Return the answer to an update.

        Temporal does not accept updates while a workflow task fails again and again, as it does when workers
        are lost: then they are sent again.
        """
        while True:
            try:
                return await self.handle.execute_update(name, message, id=update_id)
            except RPCError as error:
                not_ready = WorkflowNotReadyFailure.DESCRIPTOR
                if not any(detail.Is(not_ready) for detail in error.grpc_status.details):
                    raise
            await asyncio.sleep(ASK_AGAIN_SECONDS)

    async def _update_error(self, name: str, cause: BaseException | None) -> Exception:
        if isinstance(cause, ApplicationError) and cause.type == _ABANDONED:
            return UpdateAbandoned(self.id, (await self.describe()).status, name)
        failure = failure_in(cause)
        kind = UpdateRejected if is_rejection(cause) else UpdateFailed
        return kind(self.id, name, failure.kind, failure.message)

    async def pending(self) -> Sequence[PendingApproval]:
        """Return the calls that wait; a worker that runs this workflow answers."""
        return (await self._asked()).waiting

    async def _asked(self) -> AskedCalls:
        # The history comes first: a signal that a worker takes meanwhile is in the stream then.
        with translated(self.id):
            history = await read_history((await self.handle.fetch_history()).events, self._converter)
        untaken = (
            decision_in(one.name, one.named) for one in history.untaken if isinstance(one, SignalReceived)
        )
        return asked_in((event.data for event in await self._stream.events_now()), untaken)

    async def decide(
        self,
        call_id: str,
        verdict: Verdict,
        reason: str | None = None,
        *,
        edited_arguments: Mapping[str, Any] | None = None,
        by: str | None = None,
        fingerprint: str | None = None,
    ) -> None:
        status = (await self.describe()).status
        if status not in (Status.RUNNING, Status.PAUSED):
            raise ExecutionAlreadyEnded(self.id, status)
        asked = await self._asked()
        decision = decision_on(self.id, asked, call_id, verdict, reason, edited_arguments, by, fingerprint)
        message = sent((), decision.model_dump())
        check_payload("a decision", message, limit_of(self._converter))
        with translated(self.id):
            await self._while_running(self.handle.signal(DECISION_SIGNAL, message))

    async def cancel(self) -> None:
        with translated(self.id):
            # Temporal accepts a second request even after the end, and ignores it.
            status = _STATUS[(await self.handle.describe()).status or WorkflowExecutionStatus.RUNNING]
            if status is not Status.RUNNING:
                raise ExecutionAlreadyEnded(self.id, status)
            await self._while_running(self.handle.cancel())

    async def terminate(self, reason: str) -> None:
        with translated(self.id):
            await self._while_running(self.handle.terminate(reason=reason))

    async def tag(self, tags: Mapping[str, str | None]) -> None:
        """Change the tags; the change is seen when a worker has taken it."""
        changes = checked_changes(tags)
        with translated(self.id):
            described = await self.handle.describe()
            if not await is_registered(self._client):
                raise not_registered(self._client.namespace, "tags")
            if described.close_time is not None:
                raise NotSupported("Temporal keeps the tags of an execution as they were at its end")
            known = tags_in(described.typed_search_attributes)
            count = len(changed(known, changes))
            if count > max(TAGS_MAX, len(known)):
                raise too_many(count)
            await self._while_running(self.handle.signal(TAG_SIGNAL, sent((), changes)))

    async def retry(self, *, again: bool = False) -> None:
        """Start another run of the workflow id (see `rerunning`); a worker or this process needs its code."""
        await self._reruns.retry(again=again)

    async def fork(
        self,
        *,
        at: int | None = None,
        id: str | None = None,
        edits: Mapping[str, Any] | None = None,
        again: bool = False,
    ) -> Execution:
        forked = await self._reruns.fork(at=at, id=id, edits=edits, again=again)
        return TemporalExecution(self._client, forked, self._toolkit, self._ended)

    async def departure(self) -> OutlastError | None:
        """Return why the code in this process departs from the history of the newest run."""
        with translated(self.id):
            history = await read_history((await self.handle.fetch_history()).events, self._converter)
        replay = CodeReplay(self.id, history, limit_of(self._converter))
        try:
            await replay.run(self._toolkit.live_code, self._toolkit.definition_of(history.workflow))
        except (NonDeterminismError, BusyWorkflow) as error:
            return error
        return None

    async def export(self) -> Sequence[str]:
        """Return the execution as lines of JSON; a worker or this process must have its code."""
        with translated(self.id):
            found = await self.handle.describe()
        records = await self._reruns.journal()
        header = ExportHeader(
            id=self.id,
            workflow=found.workflow_type,
            task_queue=await queue_of(found),
            exported_at=time.time(),
            records=len(records),
            tags=tags_in(found.typed_search_attributes),
        )
        return list(exported(header, records))

    async def resume(self) -> bool:
        """Let an execution go on that was paused or imported; return whether it was.

        Temporal holds no other execution: its server tries a workflow task again without end, and an activity
        as often as its retry policy says, however many workers ended with it.
        """
        was_held = await self._held_because() is not None
        with translated(self.id):
            # A worker may be about to obey a request to pause.
            await self._while_running(self.handle.signal(RESUME_SIGNAL))
        return was_held

    async def pause(self, reason: str | None = None) -> bool:
        """Ask for a pause; Temporal's server goes on with the attempts at what is under way."""
        if await self._held_because() is not None:
            return False
        message = sent((), {"reason": reason})
        check_payload("a request to pause", message, limit_of(self._converter))
        with translated(self.id):
            await self._while_running(self.handle.signal(PAUSE_SIGNAL, message))
        return True

    async def _held_because(self) -> str | None:
        """Return why the execution is held; raises `ExecutionAlreadyEnded` if it has ended."""
        with translated(self.id):
            found = await self.handle.describe()
            status = _STATUS[found.status or WorkflowExecutionStatus.RUNNING]
            if status is not Status.RUNNING:
                raise ExecutionAlreadyEnded(self.id, status)
            return await held_because(found)

    async def describe(self) -> ExecutionDescription:
        with translated(self.id):
            found = await self.handle.describe()
            described = await self.described(found)
            if described.status is Status.PAUSED:
                return replace(
                    described,
                    waiting_for=(WaitingFor(WaitingKind.PAUSED, described.error or ""),),
                )
            if described.status is Status.RUNNING and described.error is not None:
                return described  # No code that could be asked carries it on.
            overview = await self._overview(found)
        return replace(
            described,
            waiting_for=overview.waiting_for,
            turns=overview.turns,
            usage=overview.usage,
            forked_from=described.forked_from or overview.forked_from,
            agent=overview.agent,
            parent=described.parent or overview.parent,
        )

    async def _overview(self, found: WorkflowExecutionDescription) -> Overview:
        definition = self._toolkit.known_definition(found.workflow_type)
        served = await is_served(self._client, found)
        overview = Overview()
        if served or definition is not None:
            takes_messages = definition is None or bool(definition.signals or definition.updates)
            overview = overview_in(
                [record async for record in self._stream.records()], takes_messages=takes_messages
            )
        return shown_with(overview, found, is_served=served)

    async def described(self, found: WorkflowExecution) -> ExecutionDescription:
        """Return a description made from Temporal's, and from the last event if the execution failed."""
        status = _STATUS[found.status or WorkflowExecutionStatus.RUNNING]
        error: str | None = None
        failure: Failure | None = None
        waits: tuple[WaitingFor, ...] = ()
        held = await held_because(found)
        if held is not None:
            error = held
        elif status is Status.TERMINATED:
            error = await self._reason()
        elif status is Status.FAILED:
            failure = await self._failure()
            error = failure.in_words
        elif (
            isinstance(found, WorkflowExecutionDescription)
            and found.raw_description.pending_workflow_task.attempt > 1
        ):
            obstacle = await self._obstacle(found.workflow_type)
            if obstacle is not None:
                error, waits = f"execution {self.id} cannot go on: {obstacle.text}", obstacle.waits
        return ExecutionDescription(
            found.id,
            found.workflow_type,
            status if held is None else Status.PAUSED,
            found.start_time,
            found.close_time,
            error,
            tags=tags_in(found.typed_search_attributes),
            failure=failure,
            waiting_for=waits,
            forked_from=await found.memo_value(FORKED_FROM, None),
            parent=found.parent_id,
        )

    def events(self, after: int = 0, *, follow: bool = True) -> AsyncIterator[Event]:
        return self._stream.events(after, follow=follow)

    def records(self) -> AsyncIterator[AnyRecord]:
        return self._stream.records()

    async def _failure(self) -> Failure:
        event = await self._last_event()
        if event is not None and event.HasField("workflow_execution_failed_event_attributes"):
            failed = event.workflow_execution_failed_event_attributes.failure
            return failure_in(await self._converter.decode_failure(failed))
        if event is not None:
            return Failure(kind="Stopped", message=EventType.Name(event.event_type))
        return failure_in(None)

    async def _reason(self) -> str | None:
        event = await self._last_event()
        end = None if event is None else stopped_by(event)
        return None if end is None else end.reason

    async def _last_event(self) -> HistoryEvent | None:
        closing = WorkflowHistoryEventFilterType.CLOSE_EVENT
        async for event in self.handle.fetch_history_events(event_filter_type=closing):
            return event
        return None

    async def _obstacle(self, workflow: str) -> Obstacle | None:
        """Return why the last workflow task failed; None if its worker was lost."""
        events = (await self.handle.fetch_history()).events
        definition = self._toolkit.known_definition(workflow)
        return await obstacle_in(self.id, events, self._converter, self._toolkit.live_code, definition)

    async def _handler(self, sort: str, name: str) -> HandlerDefinition | None:
        """Return the handler, if this process defines the workflow; raises if the name is unknown there.

        Every execution takes answers and steering, without a handler of its workflow.
        """
        with translated(self.id):
            definition = self._toolkit.known_definition((await self.handle.describe()).workflow_type)
        if definition is None or name in (ANSWER_UPDATE, SAY_UPDATE, INTERRUPT_UPDATE):
            return None
        sorts = {"signal": definition.signals, "query": definition.queries, "update": definition.updates}
        handlers = sorts[sort]
        if name not in handlers:
            known = ", ".join(sorted(handlers)) or "none"
            raise InvalidArguments(f"{sort} {name}", [f"no such {sort}; the workflow has {known}"])
        return handlers[name]

    async def _while_running(self, sending: Awaitable[T]) -> T:
        try:
            return await sending
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            status = _STATUS[(await self.handle.describe()).status or WorkflowExecutionStatus.RUNNING]
            raise ExecutionAlreadyEnded(self.id, status) from error


def _message(
    what: str,
    handler: HandlerDefinition | None,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    limit_bytes: int,
) -> dict[str, Any]:
    try:
        if handler is None:
            message = sent(*kept((list(args), dict(kwargs)), depth_max=DEPTH_MAX + 2))
        else:
            message = sent((), handler.signature.dump_arguments(*args, **kwargs))
    except TypeError as error:
        if handler is not None:
            raise InvalidArguments(what, [str(error)]) from None
        raise Unserialisable(f"an argument of {what}", "object", str(error)) from error
    except ValueError as error:
        raise Unserialisable(f"an argument of {what}", "object", str(error)) from error
    check_payload(what, message, limit_bytes)
    return message
