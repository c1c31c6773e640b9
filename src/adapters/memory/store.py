"""The store in memory: the readable reference implementation of the journal port, used by `memory:`.

A store keeps its data in a `Medium`, which stays when the store is closed. Two stores on one medium are like
two stores of two workers on one database.

A method that writes contains no `await`. So it happens whole or not at all, also when it is cancelled. For
the same reason, all stores on one medium must be used in one event loop.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from outlast.core.errors import (
    ExecutionAlreadyEnded,
    ExecutionNotFound,
    LeaseLost,
    MessagesUnseen,
    check_size,
)
from outlast.core.records import Status
from outlast.core.tags import TAGS_MAX, changed, checked_changes, too_many
from outlast.ports.clock import Clock
from outlast.ports.finding import EVERYTHING, Cursor, Where
from outlast.ports.journal import (
    Claim,
    Commit,
    Delivery,
    Head,
    Message,
    NewExecution,
    PresentWorker,
    Store,
    Work,
    WorkerCard,
)

LIMIT_BYTES = 2 * 1024 * 1024


@dataclass(slots=True)
class StoredExecution:
    """Everything that a medium keeps about one execution."""

    new: NewExecution
    created_at: float
    claimable_at: float | None
    """The time from which it is claimable; None if only a message makes it so. Used while it is running."""
    records: list[bytes]
    inbox: list[Delivery] = field(default_factory=list)
    message_ids: set[str] = field(default_factory=set)
    consumed: int = 0
    status: Status = Status.RUNNING
    ended_at: float | None = None
    reason: str | None = None
    owner: str | None = None
    token: int = 0
    """The token of its newest claim; 0 before the first claim."""
    fruitless: int = 0
    is_date: bool = False
    """True if `claimable_at` is a date; otherwise it is a time of the steady clock."""
    ignores_mail: bool = False
    """True if its last owner released it with `hold`. Used only while it has no owner."""
    tags: dict[str, str] = field(default_factory=dict)
    overview: str | None = None
    waiting: str | None = None

    @property
    def place(self) -> tuple[float, str]:
        """Its place in a list."""
        return self.created_at, self.new.id

    @property
    def has_mail(self) -> bool:
        return len(self.inbox) > self.consumed

    @property
    def is_held(self) -> bool:
        return self.ignores_mail and self.claimable_at is None and self.status is Status.RUNNING

    def release(self, claimable_at: float | None, *, is_date: bool = False) -> None:
        self.owner = None
        self.claimable_at = claimable_at
        self.is_date = is_date

    def head(self) -> Head:
        return Head(
            id=self.new.id,
            workflow=self.new.workflow,
            fingerprint=self.new.fingerprint,
            task_queue=self.new.task_queue,
            status=self.status,
            length=len(self.records),
            created_at=self.created_at,
            ended_at=self.ended_at,
            reason=self.reason,
            owner=self.owner,
            fruitless=self.fruitless,
            held=self.is_held,
            tags=dict(self.tags),
            overview=self.overview,
            waiting=self.waiting,
        )

    def matches(self, where: Where) -> bool:
        status = Status.PAUSED if self.is_held else self.status
        return (
            where.workflow in (None, self.new.workflow)
            and where.status in (None, status)
            and where.tags.items() <= self.tags.items()
            and self.new.id.startswith(where.id_prefix or "")
            and (where.first_at is None or self.created_at >= where.first_at)
            and (where.end_at is None or self.created_at < where.end_at)
            and where.waiting_for in (None, self.waiting)
        )


@dataclass(slots=True)
class Medium:
    """The data of stores in memory. It stays when a store is closed."""

    executions: dict[str, StoredExecution] = field(default_factory=dict)
    running: dict[str, StoredExecution] = field(default_factory=dict)
    """The executions that have not ended. A claim looks only at these."""
    announced: dict[str, tuple[WorkerCard, float]] = field(default_factory=dict)
    """Workers by identity, each with the time until which it counts as alive."""
    last_token: int = 0
    version: int = 0
    """Grows with every change that `Leases.wait` announces."""
    waiters: dict[str | None, dict[MediumWaiter, None]] = field(default_factory=dict)
    """Those who wait for the journal of an execution, by its id, and for claimable work, by None.

    They are woken in the order in which they came; a set would have the order of their addresses."""

    def changed(self, execution: StoredExecution, *, announce: bool) -> None:
        """Wake who waits for that: for a longer journal, or its end; with `announce`, for work."""
        self.version += announce
        length = len(execution.records) if execution.status is Status.RUNNING else math.inf
        for waiter in self.waiters.get(execution.new.id, ()):
            if length > waiter.beyond:
                waiter.woken.set()
        if announce:
            for waiter in self.waiters.get(None, ()):
                waiter.woken.set()


@dataclass(eq=False, slots=True)
class MediumWaiter:
    """One caller that waits."""

    beyond: float
    """The length of the journal that is not enough to wake it."""
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    is_late: bool = False
    """True if it has waited as long as it wanted to."""

    def time_is_up(self) -> None:
        self.is_late = True
        self.woken.set()


class MemoryStore(Store):
    """A store in the memory of this process. Its data is lost when the process ends."""

    def __init__(self, clock: Clock, *, medium: Medium | None = None, limit_bytes: int = LIMIT_BYTES) -> None:
        self._clock = clock
        self._medium = Medium() if medium is None else medium
        self._limit_bytes = limit_bytes

    async def __aenter__(self) -> MemoryStore:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    # Journal ---------------------------------------------------------------------------------------------

    @property
    def limit_bytes(self) -> int:
        return self._limit_bytes

    async def create(self, new: NewExecution, first: bytes, more: Sequence[bytes] = ()) -> tuple[Head, bool]:
        existing = self._medium.executions.get(new.id)
        if existing is not None:
            return existing.head(), False
        records = [first, *more]
        for record in records:
            check_size(f"a first record of execution {new.id!r}", len(record), self._limit_bytes)
        now = self._clock.now()
        created = StoredExecution(new=new, created_at=now, claimable_at=self._clock.steady(), records=records)
        created.tags, created.overview, created.waiting = dict(new.tags), new.overview, new.waiting or None
        if new.reason is not None:
            created.claimable_at, created.ignores_mail, created.reason = None, True, new.reason
        self._medium.executions[new.id] = created
        if new.ended is None:
            self._medium.running[new.id] = created
        else:
            created.claimable_at, created.status, created.ended_at = None, new.ended, now
        self._medium.changed(created, announce=True)
        return created.head(), True

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        execution = self._owned(claim)
        if execution is None or len(execution.records) != position:
            raise LeaseLost(claim.execution_id)
        if commit.seen is not None and len(execution.inbox) > commit.seen:
            raise MessagesUnseen(claim.execution_id, commit.seen)
        for record in records:
            check_size(f"a record of execution {claim.execution_id!r}", len(record), self._limit_bytes)
        execution.records.extend(records)
        execution.reason = commit.reason
        if commit.fruitless is not None:
            execution.fruitless = commit.fruitless
        if commit.consumed is not None:
            execution.consumed = max(execution.consumed, commit.consumed)
        if commit.overview is not None:
            execution.overview = commit.overview
        if commit.waiting is not None:
            execution.waiting = commit.waiting or None
        execution.tags = changed(execution.tags, commit.tags)
        if commit.status is not None:
            execution.status, execution.waiting = commit.status, None
            execution.ended_at = self._clock.now()
            execution.release(claimable_at=None)
            del self._medium.running[claim.execution_id]
        elif commit.release:
            execution.ignores_mail = commit.hold
            now = self._clock.now()
            at = self._claimable_at(
                execution, commit.wake_at if commit.wake_in is None else now + commit.wake_in
            )
            is_date = commit.wake_at is not None and at is not None and at > now
            steady_at = None if at is None else self._clock.steady() + (at - now)
            execution.release(at if is_date else steady_at, is_date=is_date)
        self._medium.changed(execution, announce=commit.release)

    async def amend(self, execution_id: str, position: int, record: bytes, status: Status) -> bool:
        execution = self._medium.executions.get(execution_id)
        if execution is None:
            raise ExecutionNotFound(execution_id)
        if status is not Status.RUNNING and execution.status is not Status.RUNNING:
            raise ExecutionAlreadyEnded(execution_id, execution.status)
        if len(execution.records) != position:
            return False
        check_size(f"a record of execution {execution_id!r}", len(record), self._limit_bytes)
        execution.records.append(record)
        execution.status, execution.reason, execution.fruitless = status, None, 0
        execution.ignores_mail, execution.waiting = False, None
        if status is Status.RUNNING:
            execution.ended_at = None
            execution.release(claimable_at=self._clock.steady())
            self._medium.running[execution_id] = execution
        else:
            execution.ended_at = self._clock.now()
            execution.release(claimable_at=None)
            del self._medium.running[execution_id]
        self._medium.changed(execution, announce=True)
        return True

    async def read(self, execution_id: str, after: int = 0, limit: int | None = None) -> Sequence[bytes]:
        execution = self._medium.executions.get(execution_id)
        return () if execution is None else execution.records[after : _end(after, limit)]

    async def follow(self, execution_id: str, length: int, timeout_seconds: float) -> None:
        def is_longer() -> bool:
            execution = self._medium.executions.get(execution_id)
            if execution is None:
                return False
            return len(execution.records) > length or execution.status is not Status.RUNNING

        await self._until(is_longer, timeout_seconds, execution_id, length)

    # Inbox -----------------------------------------------------------------------------------------------

    async def send(self, execution_id: str, message: Message) -> None:
        execution = self._medium.executions.get(execution_id)
        if execution is None:
            raise ExecutionNotFound(execution_id)
        if message.id in execution.message_ids:
            return
        if execution.status is not Status.RUNNING:
            raise ExecutionAlreadyEnded(execution_id, execution.status)
        check_size(f"a message to execution {execution_id!r}", len(message.body), self._limit_bytes)
        execution.message_ids.add(message.id)
        execution.inbox.append(Delivery(number=len(execution.inbox) + 1, message=message))
        is_free = execution.owner is None and not execution.ignores_mail
        if is_free and (execution.claimable_at is None or self._seconds_until(execution) > 0):
            execution.claimable_at, execution.is_date = self._clock.steady(), False
        self._medium.changed(execution, announce=True)

    async def messages(self, execution_id: str, after: int, limit: int | None = None) -> Sequence[Delivery]:
        execution = self._medium.executions.get(execution_id)
        if execution is None:
            return ()
        # Those that were consumed are left out, as where they take up room.
        after = max(after, execution.consumed)
        return execution.inbox[after : _end(after, limit)]

    # Leases ----------------------------------------------------------------------------------------------

    async def claim(
        self, worker: str, workflows: Collection[str], task_queue: str, *, limit: int, lease_seconds: float
    ) -> Work:
        candidates = [
            (self._seconds_until(execution), execution)
            for execution in self._medium.running.values()
            if execution.claimable_at is not None
            and execution.new.workflow in workflows
            and execution.new.task_queue == task_queue
        ]
        candidates.sort(key=lambda candidate: candidate[0])
        ready = [execution for seconds, execution in candidates if seconds <= 0][:limit]
        lease_until = self._clock.steady() + lease_seconds
        claims = tuple(self._take(execution, worker, lease_until) for execution in ready)
        left = [seconds for seconds, execution in candidates if execution not in ready]
        left += [lease_seconds] if ready else []
        return Work(
            claims=claims,
            mail=frozenset(
                execution.new.id
                for execution in self._medium.running.values()
                if execution.owner == worker and execution.has_mail
            ),
            next_wake_at=None if not left else self._clock.now() + min(left),
            version=self._medium.version,
        )

    async def renew(self, claims: Collection[Claim], lease_seconds: float) -> frozenset[str]:
        lost = set()
        for claim in claims:
            execution = self._owned(claim)
            if execution is None:
                lost.add(claim.execution_id)
            else:
                execution.claimable_at = self._clock.steady() + lease_seconds
        return frozenset(lost)

    async def wait(self, version: int, timeout_seconds: float) -> None:
        await self._until(lambda: self._medium.version != version, timeout_seconds)

    async def resume(self, execution_id: str) -> bool:
        execution = self._medium.executions.get(execution_id)
        if execution is None:
            raise ExecutionNotFound(execution_id)
        if execution.status is not Status.RUNNING:
            raise ExecutionAlreadyEnded(execution_id, execution.status)
        if execution.owner is not None or not execution.ignores_mail:
            return False
        execution.ignores_mail, execution.fruitless = False, 0
        execution.reason = execution.waiting = None
        execution.claimable_at, execution.is_date = self._clock.steady(), False
        self._medium.changed(execution, announce=True)
        return True

    # Presence --------------------------------------------------------------------------------------------

    async def announce(self, card: WorkerCard, lease_seconds: float) -> None:
        self._forget_the_dead()
        self._medium.announced[card.identity] = (card, self._clock.steady() + lease_seconds)

    async def leave(self, identity: str) -> None:
        self._medium.announced.pop(identity, None)

    async def workers(self) -> Sequence[PresentWorker]:
        self._forget_the_dead()
        cards = sorted(
            (card for card, _ in self._medium.announced.values()),
            key=lambda card: (card.started_at, card.identity),
        )
        return [PresentWorker(card, self._owned_by(card.identity)) for card in cards]

    # Catalogue -------------------------------------------------------------------------------------------

    async def head(self, execution_id: str) -> Head | None:
        execution = self._medium.executions.get(execution_id)
        return None if execution is None else execution.head()

    async def heads(
        self, where: Where = EVERYTHING, *, limit: int = 100, after: Cursor | None = None
    ) -> Sequence[Head]:
        found = [
            execution
            for execution in self._medium.executions.values()
            if execution.matches(where) and (after is None or execution.place < (after.created_at, after.id))
        ]
        found.sort(key=lambda execution: execution.place, reverse=True)
        return [execution.head() for execution in found[:limit]]

    async def tag(self, execution_id: str, changes: Mapping[str, str | None]) -> None:
        execution = self._medium.executions.get(execution_id)
        if execution is None:
            raise ExecutionNotFound(execution_id)
        tags = changed(execution.tags, checked_changes(changes))
        if len(tags) > max(TAGS_MAX, len(execution.tags)):
            raise too_many(len(tags))
        execution.tags = tags

    async def prune(self, ended_before: float | None = None) -> int:
        ended_enough = [
            id for id, execution in self._medium.executions.items() if self._is_over(execution, ended_before)
        ]
        for id in ended_enough:
            del self._medium.executions[id]
        return len(ended_enough)

    # Helpers ---------------------------------------------------------------------------------------------

    def _owned(self, claim: Claim) -> StoredExecution | None:
        """Return the execution of a valid claim; None if the claim is stale."""
        execution = self._medium.running.get(claim.execution_id)
        if execution is None or execution.owner is None or execution.token != claim.token:
            return None
        return execution

    def _owned_by(self, worker: str) -> tuple[str, ...]:
        running = self._medium.running.values()
        return tuple(sorted(execution.new.id for execution in running if execution.owner == worker))

    def _forget_the_dead(self) -> None:
        now, announced = self._clock.steady(), self._medium.announced
        for identity in [identity for identity, (_, until) in announced.items() if until <= now]:
            del announced[identity]

    def _take(self, execution: StoredExecution, worker: str, lease_until: float) -> Claim:
        recovered_from = execution.owner
        execution.fruitless += recovered_from is not None
        self._medium.last_token += 1
        execution.token = self._medium.last_token
        execution.owner = worker
        execution.claimable_at, execution.is_date = lease_until, False
        return Claim(
            execution_id=execution.new.id,
            workflow=execution.new.workflow,
            worker=worker,
            token=execution.token,
            length=len(execution.records),
            consumed=execution.consumed,
            recovered_from=recovered_from,
            fruitless=execution.fruitless,
        )

    def _seconds_until(self, execution: StoredExecution) -> float:
        """Return the time until an execution is claimable; negative if it has waited since."""
        assert execution.claimable_at is not None
        now = self._clock.now() if execution.is_date else self._clock.steady()
        return execution.claimable_at - now

    def _claimable_at(self, execution: StoredExecution, wake_at: float | None) -> float | None:
        """Return the date from which a released execution is claimable; None: only after a message."""
        now = self._clock.now()
        if execution.has_mail and not execution.ignores_mail:
            return now
        return None if wake_at is None else max(now, wake_at)

    def _is_over(self, execution: StoredExecution, ended_before: float | None) -> bool:
        if execution.ended_at is None:
            return False
        if execution.new.keep_seconds is not None:
            return execution.ended_at + execution.new.keep_seconds <= self._clock.now()
        return ended_before is not None and execution.ended_at < ended_before

    async def _until(
        self,
        condition: Callable[[], bool],
        timeout_seconds: float,
        topic: str | None = None,
        beyond: float = -math.inf,
    ) -> None:
        """Return once `condition()` is true, or after the timeout; it is checked when the topic changes."""
        waiter = MediumWaiter(beyond)
        waiters = self._medium.waiters.setdefault(topic, {})
        waiters[waiter] = None
        timer = self._clock.call_later(timeout_seconds, waiter.time_is_up)
        try:
            while not condition() and not waiter.is_late:
                waiter.woken.clear()
                await waiter.woken.wait()
        finally:
            timer.cancel()
            del waiters[waiter]
            if not waiters:
                self._medium.waiters.pop(topic, None)


def _end(after: int, limit: int | None) -> int | None:
    return None if limit is None else after + limit
