"""The journaled backend: durability made from the replayer and any store."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Self, TypeVar

from outlast.core.approvals import (
    DECISION_SIGNAL,
    PendingApproval,
    Verdict,
    decision_on,
    pending_in,
)
from outlast.core.errors import (
    DefinitionError,
    ExecutionAlreadyEnded,
    ExecutionAlreadyExists,
    ExecutionCancelled,
    ExecutionFailed,
    ExecutionNotFound,
    ExecutionTerminated,
    InvalidArguments,
    NotSupported,
    OutlastError,
    PayloadTooLarge,
    StorageCorrupt,
    StorageTooNew,
    UnknownDefinition,
    Unserialisable,
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
    Status,
    decode_record,
    encode_record,
)
from outlast.core.tags import checked_changes, checked_tags
from outlast.core.updates import UpdateTrace
from outlast.core.waiting import Overview
from outlast.ports.clock import Clock
from outlast.ports.definitions import HandlerDefinition, check_options
from outlast.ports.deltas import Deltas
from outlast.ports.durability.backend import Backend, ExecutionPage, WorkerDescription, check_limit
from outlast.ports.durability.execution import Execution, ExecutionDescription
from outlast.ports.durability.workflow_context import WorkflowInfo
from outlast.ports.finding import EVERYTHING, Cursor, Where
from outlast.ports.journal import (
    DEFAULT_TASK_QUEUE,
    ENDLESS,
    PAUSED,
    Head,
    Message,
    NewExecution,
    PresentWorker,
    Store,
    check_id,
    is_id,
)
from outlast.runtime.attempts.observing import calling_span
from outlast.runtime.definitions.codec import Codec, Misfit
from outlast.runtime.definitions.workflow import definition_of, known_definition
from outlast.runtime.executions.handler_calls import known_handler
from outlast.runtime.executions.inbox_messages import (
    AnyMessage,
    CancelMessage,
    PauseMessage,
    ResumeMessage,
    SignalMessage,
    UpdateMessage,
)
from outlast.runtime.executions.loading import RECORDS_AT_ONCE, decoded, departure_in, load, read_journal
from outlast.runtime.executions.lost_workers import LastWords, PartIn, Witness, no_last_words, no_part
from outlast.runtime.executions.outside_view import needs_worker, waiting_for
from outlast.runtime.executions.rerunning import Rerunner, fingerprint_of
from outlast.runtime.executions.store_retry import patiently
from outlast.runtime.executions.text_listener import Listener
from outlast.runtime.executions.worker import Worker, WorkerOptions

T = TypeVar("T")

PATIENCE_SECONDS = 5.0
"""The time for which a waiting caller relies on announcements before it reads the store itself."""


WORKER = "worker"
"""The word for the wait for a worker. No execution is stored with it."""

ENVELOPE_BYTES = 256
"""The most bytes by which the record of a message may be longer than the message."""


class JournaledBackend(Backend):
    """Executions in a store, replayed by our own engine.

    Without `deltas`, the text of a reply is in the stream only when the reply is complete.
    """

    def __init__(self, store: Store, clock: Clock, deltas: Deltas | None = None) -> None:
        self._store = store
        self._clock = clock
        self._deltas = deltas
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._store)
        if self._deltas is not None:
            await self._stack.enter_async_context(self._deltas)
        return self

    async def __aexit__(self, *details: object) -> None:
        await self._stack.aclose()

    async def start(
        self,
        workflow: type[Any] | str,
        /,
        *args: Any,
        id: str | None = None,
        task_queue: str = DEFAULT_TASK_QUEUE,
        tags: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> Execution:
        definition = definition_of(workflow)
        options = {"id": id, "task_queue": None if task_queue == DEFAULT_TASK_QUEUE else task_queue}
        check_options(f"workflow {definition.name}", definition.signature, args, **options, tags=tags)
        checked = checked_tags(tags or {})
        arguments = definition.signature.dump_arguments(*args, **kwargs)
        fingerprint = fingerprint_of(definition.name, arguments)
        caller = calling_span()
        started = ExecutionStarted(
            at=self._clock.now(),
            workflow=definition.name,
            arguments=arguments,
            trace=None if caller is None else caller.traceparent,
        )
        first = encode_record(started)
        _check_size(f"the input of workflow {definition.name!r}", first, self._store.limit_bytes)
        if id is not None and not id.strip():
            raise DefinitionError("an execution's id must not be empty; leave it out to get one made")
        try:
            new = NewExecution(
                id=id or uuid.uuid4().hex,
                workflow=definition.name,
                fingerprint=fingerprint,
                task_queue=task_queue,
                keep_seconds=definition.keep_seconds,
                tags=checked,
            )
        except ValueError as error:
            raise DefinitionError(str(error)) from error
        head, created = await self._store.create(new, first)
        if not created:
            if head.workflow != new.workflow:
                raise ExecutionAlreadyExists(new.id, "workflow")
            if head.fingerprint != new.fingerprint:
                raise ExecutionAlreadyExists(new.id, "input")
        return self._execution(new.id)

    async def get(self, execution_id: str) -> Execution:
        if not is_id(execution_id) or await self._store.head(execution_id) is None:
            raise ExecutionNotFound(execution_id)
        return self._execution(execution_id)

    async def list(
        self, where: Where | None = None, *, limit: int = 100, cursor: str | None = None
    ) -> ExecutionPage:
        check_limit(limit)
        after = None if cursor is None else Cursor.of(cursor)
        if where is not None and where.waiting_for == WORKER:
            raise NotSupported(
                "executions cannot be found by waiting_for='worker': that is known only of executions that "
                "are looked at; list what is running, and look at the descriptions"
            )
        if not limit:
            return ExecutionPage(())
        # One more shows whether there is another page.
        heads = await self._store.heads(where or EVERYTHING, limit=limit + 1, after=after)
        more = Cursor(heads[limit - 1].created_at, heads[limit - 1].id) if len(heads) > limit else None
        shown = heads[:limit]
        alive = await self._store.workers() if any(map(needs_worker, shown)) else ()
        descriptions = [await self._execution(head.id).describe_head(head, alive) for head in shown]
        return ExecutionPage(tuple(descriptions), None if more is None else more.to_text())

    async def prune(self, older_than: timedelta) -> int:
        return await self._store.prune(self._clock.now() - older_than.total_seconds())

    async def workers(self) -> Sequence[WorkerDescription]:
        return [
            WorkerDescription(
                identity=present.card.identity,
                task_queue=present.card.task_queue,
                workflows=present.card.workflows,
                started_at=datetime.fromtimestamp(present.card.started_at, UTC),
                executions=present.executions,
            )
            for present in await self._store.workers()
        ]

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
        last_words: LastWords = no_last_words,
        part: PartIn = no_part,
        holding_limit: timedelta | None = None,
    ) -> Worker:
        """Return a worker, as every backend does.

        `last_words` is asked what a lost worker left behind, and `part` whether the code of the execution was
        at work then, when this one takes an execution over from it.
        `holding_limit` is the time for which code may hold the event loop before it is interrupted: by
        default a third of the lease, and at least half a second.
        """
        options = WorkerOptions(
            lease,
            max_concurrent_executions,
            max_concurrent_activities,
            max_cached_executions,
            task_queue,
            graceful_shutdown_timeout,
            identity,
            holding_limit,
        )
        return Worker(self._store, self._clock, workflows, options, self._deltas, Witness(last_words, part))

    async def import_(self, lines: Iterable[str], *, id: str | None = None) -> Execution:
        return self._execution(await Rerunner(self._store, self._clock).import_(lines, id=id))

    def _execution(self, execution_id: str) -> JournaledExecution:
        return JournaledExecution(execution_id, self._store, self._clock, self._deltas)


class JournaledExecution(Execution):
    """A handle on an execution in a store; it goes on waiting when the store fails for a short time."""

    def __init__(self, execution_id: str, store: Store, clock: Clock, deltas: Deltas | None = None) -> None:
        self._id = execution_id
        self._store = store
        self._clock = clock
        self._deltas = deltas
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
            raise failed from end.failure.error()
        definition = known_definition(head.workflow)
        return end.result if definition is None else definition.signature.load_result(end.result)

    async def signal(self, name: str, /, *args: Any, **kwargs: Any) -> None:
        definition = known_definition((await self._head()).workflow)
        handler = None if definition is None else known_handler(definition.signals, "signal", name)
        arguments, named = _given(f"signal {name}", handler, name, args, kwargs)
        message = SignalMessage(name=name, arguments=arguments, named=named)
        await self._send(f"signal {name!r}", message)

    async def update(self, name: str, /, *args: Any, id: str | None = None, **kwargs: Any) -> Any:
        head = await self._head()
        definition = known_definition(head.workflow)
        handler = None if definition is None else known_handler(definition.updates, "update", name)
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
        events = without_void([event async for event in self.events(follow=False)])
        return pending_in(event.data for event in events)

    async def decide(
        self,
        call_id: str,
        verdict: Verdict,
        reason: str | None = None,
        *,
        edited_arguments: Mapping[str, Any] | None = None,
        by: str | None = None,
    ) -> None:
        head = await self._head()
        if head.status is not Status.RUNNING:
            raise ExecutionAlreadyEnded(self._id, head.status)
        waiting = await self.pending()
        decision = decision_on(self._id, waiting, call_id, verdict, reason, edited_arguments, by)
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
        return JournaledExecution(forked, self._store, self._clock, self._deltas)

    async def departure(self) -> OutlastError | None:
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
        _check_size(what, body, self._store.limit_bytes - ENVELOPE_BYTES)
        return body

    async def query(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Return the answer of a query handler about the present state.

        The journal is replayed here, in the caller's process, without side effects: a query needs no worker,
        costs the workers nothing, and works on executions that have ended too. The workflow must be defined
        in this process (`UnknownDefinition` otherwise).
        """
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
        overview = Overview.of(head.summary)
        ended_badly = head.status in (Status.FAILED, Status.TERMINATED)
        end = await self._closing(head) if ended_badly else None
        failure, reason = (None, head.reason) if end is None else (end.failure, end.reason)
        error = reason if failure is None else f"{failure.kind}: {failure.message}"
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
        )

    async def events(self, after: int = 0, *, follow: bool = True) -> AsyncIterator[Event]:
        reader, length = EventReader(), 0
        listener = Listener(self._deltas, self._id)
        await self._head()
        while True:
            page = partial(self._store.read, self._id, length, RECORDS_AT_ONCE)
            records = await self._patiently(page)
            # Text is read after the records, so that the text of a reply among them is complete.
            deltas = await listener.read() if follow and (records or reader.awaits_reply) else ()
            reader.take_text(deltas)
            async for record in decoded(records):
                is_wanted = reader.position >= after
                for event in reader.read(record):
                    if is_wanted:
                        yield event
            for event in reader.text():
                yield event
            length += len(records)
            is_all = len(records) < RECORDS_AT_ONCE
            # An end may be followed by the record that makes it void.
            if is_all and (reader.ended or not follow):
                return
            if not (records or deltas):
                news = self._patiently(partial(self._store.follow, self._id, length, PATIENCE_SECONDS))
                await (listener.until_more(news, PATIENCE_SECONDS) if reader.awaits_reply else news)
                # If the execution was forgotten, no end will ever come.
                await self._patiently(self._head)

    async def records(self) -> AsyncIterator[AnyRecord]:
        written = await read_journal(self._store, self._clock, self._id)
        if not written:
            raise ExecutionNotFound(self._id)
        async for record in decoded(written):
            yield record

    async def _head(self) -> Head:
        head = await self._store.head(self._id)
        if head is None:
            raise ExecutionNotFound(self._id)
        return head

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


def _check_size(what: str, data: bytes, limit: int) -> None:
    if len(data) > limit:
        raise PayloadTooLarge(what, len(data), limit)


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
