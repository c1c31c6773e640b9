"""The children of one claimed execution: started, looked at, sent messages, and ended with their parent.

All of it can be repeated without harm. A child is created under an id that is made from its parent's, a
message has the id of the step that sends it, and how a child has ended stands in its journal.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from outlast.core.children import QUEUE, OnParentEnd, OpenChild, left_behind
from outlast.core.errors import (
    ChildFailed,
    DefinitionError,
    ExecutionAlreadyExists,
    PayloadTooLarge,
)
from outlast.core.failure import Failure
from outlast.core.fingerprints import execution_fingerprint
from outlast.core.records import (
    ChildStarted,
    ExecutionEnded,
    ExecutionStarted,
    Input,
    ParentLink,
    Status,
    StepCompleted,
    StepFailed,
    decode_record,
    encode_record,
)
from outlast.core.waiting import overview_in
from outlast.ports.journal import NewExecution
from outlast.runtime.definitions.known_workflows import known_definition
from outlast.runtime.executions.lease import Lease
from outlast.runtime.executions.live_execution import LiveExecution
from outlast.runtime.executions.rerunning import Rerunner
from outlast.runtime.executions.services import Services
from outlast.runtime.executions.store_retry import patiently

T = TypeVar("T")


class Children:
    """The children of one driver's execution."""

    def __init__(self, live: LiveExecution, execution_id: str, services: Services, lease: Lease) -> None:
        self._live = live
        self._machine = live.machine
        self._id = execution_id
        self._services = services
        self._lease = lease
        self._begun: set[str] = set()
        self.news: deque[Input] = deque()
        """The inputs that say what has become of children, for the code."""

    @property
    def seconds_left(self) -> float | None:
        """The time until there is something to do without a message; None if there will be nothing."""
        children = self._machine.children
        if not children or self._machine.end is not None:
            return None
        if any(child.id is None and key not in self._begun for key, child in children.items()):
            return 0.0
        return self._live.looks.seconds_left(self._services.clock)

    async def begin(self) -> None:
        """Start the children that were asked for; what they are asked for with is durable."""
        for key, child in list(self._machine.children.items()):
            if child.id is None and key not in self._begun:
                self._begun.add(key)
                await self._start(key, child)

    async def look(self) -> None:
        """Look at the children that may have ended."""
        if not self._machine.children or self._machine.end is not None:
            return
        clock, looks = self._services.clock, self._live.looks
        if looks.seconds_left(clock) > 0:
            return
        started = {child.id: key for key, child in self._machine.children.items() if child.id is not None}
        more_start = len(started) < len(self._machine.children)
        for child in looks.take(started, clock, more_start=more_start):
            key = started[child]
            if (ended := await self._ended(key, child, self._machine.children[key])) is not None:
                looks.found()
                self.news.append(ended)

    async def leave(self) -> None:
        """Cancel and terminate the children that end with this execution, which has ended."""
        rerunner = Rerunner(self._services.store, self._services.clock)
        for child, fate in list(self._left()):
            await rerunner.end_child(child, fate, parent=self._id)

    @property
    def are_left(self) -> bool:
        """True if the execution has ended, and children end with it."""
        return self._machine.end is not None and any(True for _ in self._left())

    def _left(self) -> Iterable[tuple[str, OnParentEnd]]:
        is_fork = self._machine.tally.forked_from is not None
        return left_behind(self._machine.children.values(), self._id, is_fork=is_fork)

    async def _start(self, key: str, child: OpenChild) -> None:
        scheduled, now = child.scheduled, self._services.clock.now()
        id = child.id_in(self._id, is_fork=self._machine.tally.forked_from is not None)
        if (done := self._live.recalled(scheduled)) is not None:
            self.news += [ChildStarted(at=now, key=key, child=id), done.with_(at=now)]
            return
        assert isinstance(scheduled.arguments, dict)
        assert self._live.started is not None
        link = ParentLink(id=self._id, key=scheduled.idempotency_key, since=self._live.started.at)
        started = ExecutionStarted(
            at=now,
            workflow=scheduled.name,
            arguments=scheduled.arguments,
            trace=self._live.child_context(child).traceparent,
            parent=link,
        )
        definition = known_definition(scheduled.name)
        try:
            new = NewExecution(
                id=id,
                workflow=scheduled.name,
                fingerprint=execution_fingerprint(scheduled.name, scheduled.arguments),
                task_queue=str(scheduled.about.get(QUEUE, self._live.task_queue)),
                keep_seconds=None if definition is None else definition.keep_seconds,
                overview=overview_in([started]).to_text(),
            )
        except ValueError as error:
            self._refuse(key, DefinitionError(f"the child cannot be started: {error}"))
            return
        await self._lease.confirm()
        store = self._services.store
        try:
            _, is_new = await self._patiently(lambda: store.create(new, encode_record(started)))
        except PayloadTooLarge as error:
            self._refuse(key, error)
            return
        if is_new or await self._is_child(id, link):
            self.news.append(ChildStarted(at=now, key=key, child=id))
            if not is_new:
                self._live.looks.hint(id)
        else:
            self._refuse(key, ExecutionAlreadyExists(id, "parent"))

    def _refuse(self, key: str, error: Exception) -> None:
        now = self._services.clock.now()
        self.news.append(StepFailed(at=now, key=key, attempts=1, failure=Failure.of(error)))

    async def _is_child(self, id: str, link: ParentLink) -> bool:
        first = await self._patiently(lambda: self._services.store.read(id, 0, 1))
        started = decode_record(first[0]) if first else None
        return isinstance(started, ExecutionStarted) and started.parent == link

    async def _ended(self, key: str, id: str, child: OpenChild) -> Input | None:
        """Return how a child has ended, if it has."""
        store, now = self._services.store, self._services.clock.now()
        head = await self._patiently(lambda: store.head(id))
        if head is None:
            return _failed(key, child, now, ChildFailed(id, child.scheduled.name, "forgotten"))
        if head.status is Status.RUNNING:
            return None
        closing = await self._patiently(lambda: store.read(id, head.length - 1, 1))
        end = decode_record(closing[0]) if closing else None
        if not isinstance(end, ExecutionEnded):
            return None
        if end.status is not Status.COMPLETED:
            return _failed(key, child, now, _error_of(end, id, child), end.failure)
        completed = StepCompleted(at=now, key=key, result=end.result)
        size, limit = self._live.encoder.size(completed), store.limit_bytes
        if size > limit:
            what = f"the result of child {id!r}"
            return _failed(key, child, now, PayloadTooLarge(what, size, limit))
        return completed

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        return await patiently(call, self._services.clock, doing=f"children of execution {self._id}")


def _error_of(end: ExecutionEnded, id: str, child: OpenChild) -> ChildFailed:
    failure = end.failure
    if failure is None:
        return ChildFailed(id, child.scheduled.name, end.status.value, "", end.reason or "")
    return ChildFailed(id, child.scheduled.name, "failed", failure.kind, failure.message)


def _failed(
    key: str, child: OpenChild, at: float, error: Exception, cause: Failure | None = None
) -> StepFailed:
    return StepFailed(at=at, key=key, attempts=1, failure=Failure.of(error).with_(cause=cause))
