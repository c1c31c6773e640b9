"""The journaled backend: the engine makes a backend of any store."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from outlast.core.errors import (
    DefinitionError,
    ExecutionAlreadyExists,
    ExecutionNotFound,
    NotSupported,
    check_size,
)
from outlast.core.fingerprints import execution_fingerprint
from outlast.core.records import ExecutionStarted, encode_record
from outlast.core.tags import checked_tags
from outlast.core.waiting import WaitingKind
from outlast.ports.clock import Clock
from outlast.ports.definitions import check_options
from outlast.ports.deltas import Deltas
from outlast.ports.durability.backend import Backend, ExecutionPage, WorkerDescription, check_page
from outlast.ports.durability.execution import Execution
from outlast.ports.finding import EVERYTHING, Cursor, Where
from outlast.ports.journal import DEFAULT_TASK_QUEUE, NewExecution, Store, is_id
from outlast.ports.method_references import Handler
from outlast.runtime.attempts.observing import calling_span
from outlast.runtime.definitions.known_workflows import definition_of
from outlast.runtime.executions.event_streams import EventStreams
from outlast.runtime.executions.head_waits import needs_worker
from outlast.runtime.executions.journaled_execution import JournaledExecution
from outlast.runtime.executions.lost_workers import LastWords, PartIn, Witness, no_last_words, no_part
from outlast.runtime.executions.rerunning import Rerunner

if TYPE_CHECKING:
    from outlast.runtime.executions.worker import Worker


class JournaledBackend(Backend):
    """Executions in a store, replayed by our own engine.

    Without `deltas`, the text of a reply is in the stream only when the reply is complete.
    """

    def __init__(self, store: Store, clock: Clock, deltas: Deltas | None = None) -> None:
        self._store = store
        self._clock = clock
        self._deltas = deltas
        self._streams = EventStreams(store, clock, deltas)
        self._stack = AsyncExitStack()

    @property
    def store(self) -> Store:
        """The store on which it stands; it is open as long as the backend is entered."""
        return self._store

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._store)
        if self._deltas is not None:
            await self._stack.enter_async_context(self._deltas)
        return self

    async def __aexit__(self, *details: object) -> None:
        await self._stack.aclose()

    async def start(  # type: ignore[override]
        self,
        workflow: type[Any] | Handler,
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
        fingerprint = execution_fingerprint(definition.name, arguments)
        caller = calling_span()
        started = ExecutionStarted(
            at=self._clock.now(),
            workflow=definition.name,
            arguments=arguments,
            trace=None if caller is None else caller.traceparent,
        )
        first = encode_record(started)
        check_size(f"the input of workflow {definition.name!r}", len(first), self._store.limit_bytes)
        try:
            if isinstance(id, str) and not id.strip():
                raise ValueError("an execution's id must not be empty; leave it out to get one made")
            new = NewExecution(
                id=uuid.uuid4().hex if id is None else id,
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
        check_page(where, limit)
        after = None if cursor is None else Cursor.of(cursor)
        if where is not None and where.waiting_for == WaitingKind.WORKER:
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
        from outlast.runtime.executions.worker import Worker, WorkerOptions  # Only workers need the engine.

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
        return JournaledExecution(execution_id, self._store, self._clock, self._streams)
