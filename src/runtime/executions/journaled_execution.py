"""A handle on an execution in a store: everything that can be done to one from outside."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

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
    DefinitionError,
    ExecutionAlreadyEnded,
    ExecutionCancelled,
    ExecutionFailed,
    ExecutionNotFound,
    ExecutionTerminated,
    InvalidArguments,
    OutlastError,
    StorageCorrupt,
    StorageTooNew,
    UnknownDefinition,
    Unserialisable,
    check_size,
)
from outlast.core.event_stream import Event, EventReader, without_void
from outlast.core.failure import Failure
from outlast.core.json import JSON
from outlast.core.records import (
    AnyRecord,
    ExecutionEnded,
    ExecutionHeld,
    ExecutionReopened,
    ExecutionStarted,
    SignalReceived,
    Status,
    decode_record,
)
from outlast.core.reruns import counted
from outlast.core.tags import checked_changes
from outlast.core.updates import UpdateTrace
from outlast.core.waiting import Overview
from outlast.ports.clock import Clock
from outlast.ports.definitions import HandlerDefinition, check_options
from outlast.ports.durability.execution import Execution, ExecutionDescription
from outlast.ports.durability.workflow_context import WorkflowInfo
from outlast.ports.journal import (
    ENDLESS,
    PAUSED,
    Head,
    Message,
    PresentWorker,
    Store,
    check_id,
)
from outlast.ports.method_references import Handler, name_of
from outlast.runtime.definitions.codec import Codec, Misfit
from outlast.runtime.definitions.known_workflows import definition_of, known_definition
from outlast.runtime.executions.event_streams import PATIENCE_SECONDS, EventStreams
from outlast.runtime.executions.handler_calls import known_handler, known_update
from outlast.runtime.executions.head_waits import needs_worker, waiting_for
from outlast.runtime.executions.inbox_messages import (
    AnyMessage,
    CancelMessage,
    PauseMessage,
    ResumeMessage,
    SignalMessage,
    UpdateMessage,
    decode_message,
)
from outlast.runtime.executions.journal_reading import decoded, existing_head, read_existing, read_journal
from outlast.runtime.executions.rerunning import Rerunner
from outlast.runtime.executions.store_retry import patiently
from outlast.runtime.isolation.pace import Pace

T = TypeVar("T")

ENVELOPE_BYTES = 256
"""The most bytes by which the record of a message may be longer than the message."""


class JournaledExecution(Execution[Any]):
    """A handle on an execution in a store; it goes on waiting when the store fails for a short time."""

    def __init__(self, execution_id: str, store: Store, clock: Clock, streams: EventStreams) -> None:
        self._id = execution_id
        self._store = store
        self._clock = clock
        self._streams = streams
        self._reruns = Rerunner(store, clock)

    def __repr__(self) -> str:
        return f"<execution {self._id}>"

    @property
    def id(self) -> str:
        return self._id

    async def result(self) -> Any:
        head = await self._patiently(self._head)
        while head.status is Status.RUNNING:
            await self._patiently(partial(self._store.follow, self._id, ENDLESS, PATIENCE_SECONDS))
            head = await self._patiently(self._head)
        return self._outcome(await self._patiently(partial(self._closing, head)), head)

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        return await patiently(call, self._clock, doing=f"waiting for execution {self._id}")

    def _outcome(self, end: ExecutionEnded, head: Head) -> Any:
        if end.status is Status.CANCELLED:
            raise ExecutionCancelled(self._id)
        if end.status is Status.TERMINATED:
            raise ExecutionTerminated(self._id, end.reason or "")
        if end.failure is not None:
            failed = ExecutionFailed(self._id, end.failure.kind, end.failure.message)
            failed.add_note(end.failure.traceback())
            raise failed from end.failure.error()
        definition = known_definition(head.workflow)
        return end.result if definition is None else definition.signature.load_result(end.result)

    async def signal(self, signal: Handler, /, *args: Any, **kwargs: Any) -> None:
        name = name_of("signal", signal)
        definition = known_definition((await self._head()).workflow)
        handler = None if definition is None else known_handler(definition.signals, "signal", name)
        arguments, named = _given(f"signal {name}", handler, name, args, kwargs)
        message = SignalMessage(name=name, arguments=arguments, named=named)
        await self._send(f"signal {name!r}", message)

    async def update(self, update: Handler, /, *args: Any, id: str | None = None, **kwargs: Any) -> Any:  # type: ignore[override]
        name = name_of("update", update)
        head = await self._head()
        definition = known_definition(head.workflow)
        handler = None if definition is None else known_update(definition, name)
        if handler is not None:
            check_options(f"update {name}", handler.signature, args, id=id)
        arguments, named = _given(f"update {name}", handler, name, args, kwargs)
        update_id = uuid.uuid4().hex if id is None else _checked_id(id)
        message = UpdateMessage(id=update_id, name=name, arguments=arguments, named=named)
        body = self._body(f"update {name!r}", message)
        if id is None and head.status is not Status.RUNNING:
            raise ExecutionAlreadyEnded(self._id, head.status)
        # The journal cannot hold anything about a new id yet.
        after = head.length if id is None else 0
        answer: JSON = await self._answer(UpdateTrace(update_id), name, body, after)
        return answer if handler is None else handler.signature.load_result(answer)

    async def _answer(self, trace: UpdateTrace, name: str, body: bytes, length: int) -> JSON:
        """Return the answer to an update; send the update unless the journal already has it."""
        sent: str | None = None
        while True:
            records = await read_journal(self._store, self._clock, self._id, length)
            async for record in decoded(records):
                trace.read(record)
            length += len(records)
            if trace.is_over:
                return trace.answer(self._id, name)
            if not trace.was_accepted and sent != (message_id := trace.try_again()):
                # If the execution has ended meanwhile, the journal says so, and may hold the answer.
                with suppress(ExecutionAlreadyEnded):
                    await self._store.send(self._id, Message(message_id, body))
                sent = message_id
            await self._patiently(partial(self._store.follow, self._id, length, PATIENCE_SECONDS))
            # If the execution was forgotten, no answer will ever come.
            await self._patiently(self._head)

    async def pending(self) -> Sequence[PendingApproval]:
        return (await self._asked()).waiting

    async def _asked(self) -> AskedCalls:
        # The inbox comes first: a message that a worker takes meanwhile is in the journal then.
        inbox = await self._store.messages(self._id, 0)
        records = await self._reruns.records(self._id)
        reader, pace, events = EventReader(), Pace(), list[Event]()
        for record in records:
            if pace.is_due():
                await pace.pause()
            events += reader.read(record)
        taken = {record.message_id for record in records if isinstance(record, SignalReceived)}
        again = counted(records).undelivered
        sent = [_read_message(one.message.body) for one in inbox if one.message.id not in taken]
        untaken = [
            decision_in(one.name, one.named)
            for one in (*again, *sent)
            if isinstance(one, (SignalReceived, SignalMessage))
        ]
        return asked_in((event.data for event in without_void(events)), untaken)

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
        head = await self._head()
        if head.status is not Status.RUNNING:
            raise ExecutionAlreadyEnded(self._id, head.status)
        asked = await self._asked()
        decision = decision_on(self._id, asked, call_id, verdict, reason, edited_arguments, by, fingerprint)
        message = SignalMessage(name=DECISION_SIGNAL, named=decision.model_dump())
        await self._send("a decision", message)

    async def cancel(self) -> None:
        await self._send("a cancel request", CancelMessage())
        with suppress(ExecutionAlreadyEnded):  # the execution may have ended meanwhile
            await self._store.resume(self._id)

    async def pause(self, reason: str | None = None) -> bool:
        head = await self._head()
        if head.held:
            return False
        await self._send("a request to pause", PauseMessage(reason=reason))
        return True

    async def resume(self) -> bool:
        # It takes back the requests to pause that no worker has obeyed: also behind one that was obeyed.
        await self._send("a request to go on", ResumeMessage())
        return await self._store.resume(self._id)

    async def terminate(self, reason: str) -> None:
        await self._reruns.terminate(self._id, reason)

    async def retry(self, *, again: bool = False) -> None:
        await self._reruns.retry(self._id, again=again)

    async def fork(
        self,
        *,
        at: int | None = None,
        id: str | None = None,
        edits: Mapping[str, Any] | None = None,
        again: bool = False,
    ) -> Execution:
        forked = await self._reruns.fork(self._id, at=at, id=id, edits=edits, again=again)
        return JournaledExecution(forked, self._store, self._clock, self._streams)

    async def departure(self) -> OutlastError | None:
        from outlast.runtime.executions.loading import departure_in

        records = await self._reruns.records(self._id)
        started = records[0]
        assert isinstance(started, ExecutionStarted)
        return await departure_in(definition_of(started.workflow), self._id, records)

    async def export(self) -> Sequence[str]:
        return await self._reruns.export(self._id)

    async def tag(self, tags: Mapping[str, str | None]) -> None:
        await self._store.tag(self._id, checked_changes(tags))

    async def _send(self, what: str, message: AnyMessage) -> None:
        await self._store.send(self._id, Message(uuid.uuid4().hex, self._body(what, message)))

    def _body(self, what: str, message: AnyMessage) -> bytes:
        try:
            body = message.to_json()
        except (TypeError, ValueError) as error:
            raise Unserialisable(what, "JSON", str(error)) from error
        check_size(what, len(body), self._store.limit_bytes - ENVELOPE_BYTES)
        return body

    async def query(self, query: Handler, /, *args: Any, **kwargs: Any) -> Any:
        """Return the answer of a query handler about the present state.

        The journal is replayed here, in the caller's process, without side effects: a query needs no worker,
        costs the workers nothing, and works on executions that have ended too. The workflow must be defined
        in this process (`UnknownDefinition` otherwise).
        """
        from outlast.runtime.executions.loading import load

        name = name_of("query", query)
        head = await self._head()
        definition = known_definition(head.workflow)
        if definition is None:
            raise UnknownDefinition("workflow", head.workflow)
        handler = known_handler(definition.queries, "query", name)
        arguments, named = _given(f"query {name}", handler, name, args, kwargs)
        records = await read_journal(self._store, self._clock, self._id)
        info = WorkflowInfo(self._id, head.workflow, head.task_queue)
        live = await load(definition, info, records, limit_bytes=self._store.limit_bytes)
        try:
            return handler.signature.load_result(live.ask(name, arguments, named))
        finally:
            live.close()

    async def describe(self) -> ExecutionDescription:
        head = await self._head()
        return await self.describe_head(head, await self._store.workers() if needs_worker(head) else ())

    async def describe_head(self, head: Head, alive: Sequence[PresentWorker]) -> ExecutionDescription:
        """Return a description made from `head`, and from the last record if the execution failed.

        `alive` are the workers that are alive, if the execution needs one.
        """
        overview = Overview.of(head.overview)
        ended_badly = head.status in (Status.FAILED, Status.TERMINATED)
        end = await self._closing(head) if ended_badly else None
        failure, reason = (None, head.reason) if end is None else (end.failure, end.reason)
        error = reason if failure is None else failure.in_words
        if head.held and head.waiting != PAUSED:
            failure = await self._failure_before_hold(head)
        return ExecutionDescription(
            id=head.id,
            workflow=head.workflow,
            status=Status.PAUSED if head.held else head.status,
            created_at=datetime.fromtimestamp(head.created_at, UTC),
            ended_at=None if head.ended_at is None else datetime.fromtimestamp(head.ended_at, UTC),
            error=error,
            held=head.held and head.waiting != PAUSED,
            tags=head.tags,
            failure=failure,
            waiting_for=waiting_for(head, overview, alive),
            turns=overview.turns,
            usage=overview.usage,
            forked_from=overview.forked_from,
            parent=overview.parent,
            agent=overview.agent,
        )

    async def events(self, after: int = 0, *, follow: bool = True) -> AsyncIterator[Event]:
        async for event in self._streams.events(self._id, after, follow=follow):
            yield event

    async def records(self) -> AsyncIterator[AnyRecord]:
        async for record in decoded(await read_existing(self._store, self._clock, self._id)):
            yield record

    async def _head(self) -> Head:
        return await existing_head(self._store, self._id)

    async def _failure_before_hold(self, head: Head) -> Failure | None:
        """Return the failure at which an execution is held (`on_failure="hold"`), if that is why."""
        try:
            last = await self._store.read(self._id, max(0, head.length - 3), 3)
            records = list(map(decode_record, last))
        except (StorageCorrupt, StorageTooNew):
            return None  # It is held because of that, and the reason says so.
        match records:
            case [ExecutionEnded(failure=failure), ExecutionReopened(), ExecutionHeld()]:
                return failure
        return None

    async def _closing(self, head: Head) -> ExecutionEnded:
        records = await self._store.read(self._id, head.length - 1)
        if not records:
            raise ExecutionNotFound(self._id)
        # What comes after it was written since: somebody has opened the execution again.
        record = decode_record(records[0])
        assert isinstance(record, ExecutionEnded)
        return record


def _read_message(body: bytes) -> AnyMessage | None:
    """Return a message; None if a worker will not be able to read it either."""
    try:
        return decode_message(body)
    except StorageCorrupt:
        return None


def _checked_id(update_id: str) -> str:
    try:
        check_id(update_id)
        check_id(UpdateTrace(update_id).try_again())
    except ValueError as error:
        raise DefinitionError(f"that cannot be the id of an update: {error}") from error
    return update_id


def _given(
    what: str, handler: HandlerDefinition | None, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[JSON, ...], dict[str, JSON]]:
    """Return the arguments to send: by name, or as they are if this process does not know the handler."""
    if handler is None:
        codec = Codec(Any, owner=what)
        try:
            return tuple(map(codec.dump, args)), {key: codec.dump(value) for key, value in kwargs.items()}
        except Misfit as misfit:
            raise Unserialisable(f"an argument of {name!r}", "object", str(misfit)) from misfit
    try:
        return (), handler.signature.dump_arguments(*args, **kwargs)
    except TypeError as error:
        raise InvalidArguments(what, [str(error)]) from None
