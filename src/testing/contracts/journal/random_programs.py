"""Random programs against a store, compared step by step with a model made of lists.

The model is written from the definitions in `ports.journal`, not from any store: what can be claimed follows
from facts that it keeps (who owns it, until when, its wake-up time, what is unread) each time it is asked.
Two stores are open on the storage at any time, and every step picks one: what one has written the other sees.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from outlast.core.errors import ExecutionAlreadyEnded, ExecutionNotFound, LeaseLost, PayloadTooLarge
from outlast.core.records import Status
from outlast.ports.journal import Claim, Commit, Delivery, Head, Message, NewExecution, Store
from outlast.testing.contracts.journal.storage import Storage

T = TypeVar("T")

CLOCK_TOLERANCE_SECONDS = 0.001
"""The precision with which a store must keep a time."""

IDS = ("e", "f")

ids = st.sampled_from(IDS)
workflows = st.sampled_from(["v", "w"])
workers = st.sampled_from(["a", "b"])
seconds = st.sampled_from([0.0, 0.25, 1.0, 5.0, 10.0])
leases = st.sampled_from([1.0, 5.0, 10.0])
contents = st.binary(max_size=8)
batches = st.lists(contents, max_size=2)
shares = st.sampled_from([1.0, None, 0.5, 0.0])
"""The share of the messages that an append consumes."""
wake_ins = st.sampled_from([None, 0.0, 5.25, 100.0, -100.0])
counts = st.sampled_from([None, 0, 1, 3])
"""The value of `fruitless` in an append."""
reasons = st.none() | st.sampled_from(["", "a reason", "ünïcode 'quoted'"])
ends = st.sampled_from([status for status in Status if status is not Status.RUNNING])
nths = st.integers(min_value=0, max_value=len(IDS) - 1)


@dataclass
class ModelExecution:
    """The facts about one execution."""

    new: NewExecution
    created_at: float
    records: list[bytes]
    inbox: list[tuple[Message, float]] = field(default_factory=list)
    """Messages, and the times when they were sent."""
    consumed: int = 0
    status: Status = Status.RUNNING
    ended_at: float | None = None
    reason: str | None = None
    fruitless: int = 0
    ignores_mail: bool = False
    claim: Claim | None = None
    lease_until: float = 0.0
    free_since: float = 0.0
    """The time when it was created or released last."""
    wake_at: float | None = 0.0

    def claimable_since(self) -> float | None:
        """Return the time when it became claimable, or will become so by itself."""
        if self.status is not Status.RUNNING:
            return None
        if self.claim is not None:
            return self.lease_until
        unread = [] if self.ignores_mail else self.inbox[self.consumed :]
        reasons = [sent_at for _, sent_at in unread]
        if self.wake_at is not None:
            reasons.append(self.wake_at)
        return max(self.free_since, min(reasons)) if reasons else None

    def is_over(self, ended_before: float | None, now: float) -> bool:
        if self.ended_at is None:
            return False
        if self.new.keep_seconds is not None:
            return now - self.ended_at >= self.new.keep_seconds
        return ended_before is not None and self.ended_at < ended_before

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
            owner=None if self.claim is None else self.claim.worker,
            fruitless=self.fruitless,
            held=self.is_set_aside() and self.wake_at is None,
        )

    def is_set_aside(self) -> bool:
        return self.ignores_mail and self.claim is None and self.status is Status.RUNNING

    def deliveries(self) -> list[Delivery]:
        return [Delivery(number, message) for number, (message, _) in enumerate(self.inbox, start=1)]


@dataclass(frozen=True)
class Moment:
    """The time of a step, and the open store that it uses."""

    store: int
    after_seconds: float
    reopens: bool = False
    """The store is closed and opened first. A worker still owns its executions until their leases run out."""


moments = st.builds(
    Moment,
    store=st.sampled_from([0, 1]),
    after_seconds=st.sampled_from([0.0, 0.0, 0.25, 5.0, 10.0]),
    reopens=st.sampled_from([False, False, False, True]),
)
NOW = Moment(store=0, after_seconds=0.0)


class JournalMachine(RuleBasedStateMachine):
    """One random program. It has an event loop and storage of its own, and gives both back."""

    new_storage: ClassVar[Callable[[], Storage]]
    claims: Bundle[Claim] = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.storage = type(self).new_storage()
        self.stores: list[Store] = []
        self.model: dict[str, ModelExecution] = {}
        self.last_token: dict[str, int] = {}
        try:
            for _ in range(2):
                self.stores.append(self.opened())
        except BaseException:
            self.teardown()
            raise

    def call(self, operation: Coroutine[Any, Any, T]) -> T:
        return self.runner.get_loop().run_until_complete(operation)

    def good_claims(self) -> list[Claim]:
        return [execution.claim for execution in self.model.values() if execution.claim is not None]

    def good_claim(self, nth: int) -> Claim:
        good_claims = self.good_claims()
        return good_claims[nth % len(good_claims)]

    def store_at(self, moment: Moment) -> Store:
        if moment.after_seconds:
            self.call(self.storage.clock.advance(moment.after_seconds))
        if moment.reopens:
            self.call(self.stores[moment.store].__aexit__(None, None, None))
            self.stores[moment.store] = self.opened()
        return self.stores[moment.store]

    def opened(self) -> Store:
        return self.call(self.storage.open().__aenter__())

    @property
    def now(self) -> float:
        return self.storage.clock.now()

    def owned(self, claim: Claim) -> ModelExecution | None:
        execution = self.model.get(claim.execution_id)
        return execution if execution is not None and execution.claim == claim else None

    @initialize(target=claims, limit=st.integers(min_value=0, max_value=len(IDS)))
    def begin(self, limit: int) -> MultipleResults[Claim]:
        """Create an execution and claim it, as most programs need."""
        for id, keep_seconds in zip(IDS, (None, 20.0), strict=True):
            self.create(NOW, id, "w", "1", keep_seconds, b"first")
        return multiple(*self.take(self.stores[0], "a", {"w"}, limit, 5.0))

    @rule(
        moment=moments,
        id=ids,
        workflow=workflows,
        fingerprint=st.sampled_from(["1", "2"]),
        keep_seconds=st.sampled_from([None, 0.0, 20.0]),
        first=contents,
    )
    def create(
        self,
        moment: Moment,
        id: str,
        workflow: str,
        fingerprint: str,
        keep_seconds: float | None,
        first: bytes,
    ) -> None:
        new = NewExecution(id, workflow, fingerprint, keep_seconds=keep_seconds)
        head, created = self.call(self.store_at(moment).create(new, first))
        assert created == (id not in self.model)
        if created:
            self.model[id] = ModelExecution(new, self.now, [first], free_since=self.now, wake_at=self.now)
        self.assert_equal(head, self.model[id].head())

    @rule(
        target=claims,
        moment=moments,
        worker=workers,
        names=st.sampled_from([{"v", "w"}, {"v", "w"}, {"v"}, {"w"}, set()]),
        limit=st.sampled_from([3, 2, 1, 0]),
        lease_seconds=leases,
    )
    def claim(
        self, moment: Moment, worker: str, names: set[str], limit: int, lease_seconds: float
    ) -> MultipleResults[Claim]:
        return multiple(*self.take(self.store_at(moment), worker, names, limit, lease_seconds))

    def take(
        self, store: Store, worker: str, names: set[str], limit: int, lease_seconds: float
    ) -> tuple[Claim, ...]:
        waiting = {
            id: since
            for id, execution in self.model.items()
            if execution.new.workflow in names and (since := execution.claimable_since()) is not None
        }
        ready = sorted(since for since in waiting.values() if since <= self.now)
        work = self.call(store.claim(worker, names, "default", limit=limit, lease_seconds=lease_seconds))
        # Among executions that have waited equally long, any may be taken.
        self.assert_times([waiting.get(claim.execution_id) for claim in work.claims], ready[:limit])
        assert len({claim.execution_id for claim in work.claims}) == len(work.claims)
        for claim in work.claims:
            execution = self.model[claim.execution_id]
            execution.fruitless += execution.claim is not None
            assert claim.token > self.last_token.get(claim.execution_id, 0)
            assert claim == Claim(
                execution_id=claim.execution_id,
                workflow=execution.new.workflow,
                worker=worker,
                token=claim.token,
                length=len(execution.records),
                consumed=execution.consumed,
                recovered_from=None if execution.claim is None else execution.claim.worker,
                fruitless=execution.fruitless,
            )
            self.last_token[claim.execution_id] = claim.token
            execution.claim = claim
            execution.lease_until = self.now + lease_seconds
            waiting[claim.execution_id] = execution.lease_until
        assert work.mail == {
            id
            for id, execution in self.model.items()
            if execution.claim is not None
            and execution.claim.worker == worker
            and len(execution.inbox) > execution.consumed
        }
        # A store may count the leases of the worker itself, or not.
        others = [at for id, at in waiting.items() if not self.is_owned_by(id, worker)]
        assert self.is_next(work.next_wake_at, waiting.values()) or self.is_next(work.next_wake_at, others)
        return work.claims

    @precondition(lambda self: self.good_claims())
    @rule(moment=moments, nth=nths, records=batches, consumed=shares, fruitless=counts)
    def append(
        self, moment: Moment, nth: int, records: list[bytes], consumed: float | None, fruitless: int | None
    ) -> None:
        store = self.store_at(moment)
        self.write(store, self.good_claim(nth), 0, records, Commit(fruitless=fruitless), consumed)

    @precondition(lambda self: self.good_claims())
    @rule(
        moment=moments,
        nth=nths,
        records=batches,
        consumed=shares,
        wake_in=wake_ins,
        by_date=st.booleans(),
        reason=reasons,
        fruitless=counts,
        hold=st.sampled_from([False, False, True]),
    )
    def release(
        self,
        moment: Moment,
        nth: int,
        records: list[bytes],
        consumed: float | None,
        wake_in: float | None,
        by_date: bool,
        reason: str | None,
        fruitless: int | None,
        hold: bool,
    ) -> None:
        store = self.store_at(moment)
        commit = Commit(release=True, reason=reason, fruitless=fruitless, hold=hold)
        if wake_in is not None:
            commit = (
                replace(commit, wake_at=self.now + wake_in) if by_date else replace(commit, wake_in=wake_in)
            )
        self.write(store, self.good_claim(nth), 0, records, commit, consumed)

    @precondition(lambda self: self.good_claims())
    @rule(moment=moments, nth=nths, records=batches, status=ends)
    def close(self, moment: Moment, nth: int, records: list[bytes], status: Status) -> None:
        store = self.store_at(moment)
        self.write(store, self.good_claim(nth), 0, records, Commit(status=status), None)

    @rule(
        moment=moments,
        claim=claims,
        off_by=st.sampled_from([0, 0, 0, -1, 1]),
        records=batches,
        repeats_last=st.booleans(),
        too_long_at=st.sampled_from([None, None, None, 0, 1]),
        commit=st.builds(Commit, release=st.booleans(), status=st.none() | ends),
        consumed=shares,
    )
    def append_what_may_be_refused(
        self,
        moment: Moment,
        claim: Claim,
        off_by: int,
        records: list[bytes],
        repeats_last: bool,
        too_long_at: int | None,
        commit: Commit,
        consumed: float | None,
    ) -> None:
        """Append under any earlier claim, at a position that is right or slightly wrong."""
        store = self.store_at(moment)
        if repeats_last and off_by == -1 and claim.execution_id in self.model:
            records = self.model[claim.execution_id].records[-1:]
        if too_long_at is not None:
            records = [
                *records[:too_long_at],
                bytes(store.limit_bytes + 1),
                *records[too_long_at:],
            ]
        self.write(store, claim, off_by, records, commit, consumed)

    def write(
        self,
        store: Store,
        claim: Claim,
        off_by: int,
        records: list[bytes],
        commit: Commit,
        share: float | None,
    ) -> None:
        known, execution = self.model.get(claim.execution_id), self.owned(claim)
        if execution is not None and share is not None:
            commit = replace(commit, consumed=round(share * len(execution.inbox)))
        position = off_by + (claim.length if known is None else len(known.records))
        outcome = self.outcome(store.append(claim, position, records, commit))
        refusals: list[type[Exception]] = []
        if execution is None or off_by:
            refusals.append(LeaseLost)
        if any(len(record) > store.limit_bytes for record in records):
            refusals.append(PayloadTooLarge)
        if refusals:
            assert type(outcome) in refusals
            return
        assert outcome is None
        assert execution is not None
        execution.records += records
        execution.reason = commit.reason
        if commit.fruitless is not None:
            execution.fruitless = commit.fruitless
        execution.consumed = max(execution.consumed, commit.consumed or 0)
        if commit.status is not None:
            execution.status, execution.ended_at = commit.status, self.now
        if commit.status is not None or commit.release:
            wake_at = commit.wake_at if commit.wake_in is None else self.now + commit.wake_in
            execution.claim, execution.free_since, execution.wake_at = None, self.now, wake_at
            execution.ignores_mail = commit.hold

    @rule(moment=moments, id=ids)
    def resume(self, moment: Moment, id: str) -> None:
        store = self.store_at(moment)
        execution = self.model.get(id)
        if execution is None or execution.status is not Status.RUNNING:
            refusal = self.outcome(store.resume(id))
            assert isinstance(refusal, ExecutionNotFound if execution is None else ExecutionAlreadyEnded)
            return
        assert self.call(store.resume(id)) == execution.is_set_aside()
        if execution.is_set_aside():
            execution.ignores_mail, execution.fruitless, execution.reason = False, 0, None
            execution.free_since = execution.wake_at = self.now

    @rule(moment=moments, id=ids, message_id=st.sampled_from("nom"), body=contents)
    def send(self, moment: Moment, id: str, message_id: str, body: bytes) -> None:
        store, message = self.store_at(moment), Message(message_id, body)
        outcome = self.outcome(store.send(id, message))
        execution = self.model.get(id)
        if execution is None:
            assert isinstance(outcome, ExecutionNotFound)
        elif any(sent.id == message_id for sent, _ in execution.inbox):
            assert outcome is None or (
                execution.status is not Status.RUNNING and isinstance(outcome, ExecutionAlreadyEnded)
            )
        elif execution.status is not Status.RUNNING:
            assert isinstance(outcome, ExecutionAlreadyEnded)
        else:
            assert outcome is None
            execution.inbox.append((message, self.now))

    @rule(moment=moments, claim=claims, other=claims, lease_seconds=leases)
    def renew(self, moment: Moment, claim: Claim, other: Claim, lease_seconds: float) -> None:
        store = self.store_at(moment)
        one_each = list({held.execution_id: held for held in (claim, other)}.values())
        lost = self.call(store.renew(one_each, lease_seconds))
        assert lost == {claim.execution_id for claim in one_each if self.owned(claim) is None}
        for claim in one_each:
            if (execution := self.owned(claim)) is not None:
                execution.lease_until = self.now + lease_seconds

    @precondition(lambda self: any(execution.ended_at for execution in self.model.values()))
    @rule(moment=moments, ago=st.none() | seconds)
    def prune(self, moment: Moment, ago: float | None) -> None:
        store = self.store_at(moment)
        ended_before = None if ago is None else self.now - ago
        over = [id for id, execution in self.model.items() if execution.is_over(ended_before, self.now)]
        assert self.call(store.prune(ended_before)) == len(over)
        for id in over:
            del self.model[id]

    @invariant()
    def both_stores_agree_with_the_model(self) -> None:
        self.call(self.check())

    async def check(self) -> None:
        one, other = self.stores
        await self.check_heads(one, workflow="v", status=Status.RUNNING)
        await self.check_heads(other)
        await self.check_wake_up(other)
        for id in IDS:
            await self.check_execution(one, id, after=0)
            await self.check_execution(other, id, after=2)

    async def check_heads(
        self, store: Store, *, workflow: str | None = None, status: Status | None = None
    ) -> None:
        heads = await store.heads(workflow=workflow, status=status)
        created = [head.created_at for head in heads]
        assert created == sorted(created, reverse=True)
        assert sorted(head.id for head in heads) == sorted(
            id
            for id, execution in self.model.items()
            if workflow in (None, execution.new.workflow) and status in (None, execution.status)
        )

    async def check_wake_up(self, store: Store) -> None:
        """Check the time that a worker without room for more may sleep."""
        work = await store.claim("idle", {"v", "w"}, "default", limit=0, lease_seconds=1.0)
        assert (work.claims, work.mail) == ((), frozenset())
        times = [execution.claimable_since() for execution in self.model.values()]
        assert self.is_next(work.next_wake_at, [time for time in times if time is not None])

    async def check_execution(self, store: Store, id: str, after: int) -> None:
        execution, head = self.model.get(id), await store.head(id)
        if execution is None:
            assert head is None
            return
        self.assert_equal(head, execution.head())
        assert list(await store.read(id, after)) == execution.records[after:]
        assert list(await store.read(id, after, 2)) == execution.records[after : after + 2]
        if execution.status is Status.RUNNING:
            unread = await store.messages(id, execution.consumed)
            assert list(unread) == execution.deliveries()[execution.consumed :]
            assert list(await store.messages(id, execution.consumed, 2)) == list(unread)[:2]

    def teardown(self) -> None:
        try:
            self.call(self.close_all())
        finally:
            self.runner.close()

    async def close_all(self) -> None:
        async with AsyncExitStack() as closing:
            closing.push_async_callback(self.storage.dispose)
            for store in self.stores:
                closing.push_async_exit(store)

    def outcome(self, operation: Coroutine[Any, Any, object]) -> Exception | None:
        try:
            self.call(operation)
        except (ExecutionAlreadyEnded, ExecutionNotFound, LeaseLost, PayloadTooLarge) as refusal:
            return refusal
        return None

    def is_owned_by(self, id: str, worker: str) -> bool:
        claim = self.model[id].claim
        return claim is not None and claim.worker == worker

    def is_next(self, time: float | None, expected: Collection[float]) -> bool:
        next_time = min(expected, default=None)
        if time is None or next_time is None or next_time > self.now:
            return self.is_near(time, next_time)
        return time <= self.now

    def is_near(self, time: float | None, expected: float | None) -> bool:
        if time is None or expected is None:
            return time is expected
        return abs(time - expected) <= CLOCK_TOLERANCE_SECONDS

    def assert_times(self, times: Sequence[float | None], expected: Sequence[float]) -> None:
        assert len(times) == len(expected)
        assert all(self.is_near(*pair) for pair in zip(times, expected, strict=True)), (times, expected)

    def assert_equal(self, head: Head | None, expected: Head) -> None:
        assert head is not None
        assert self.is_near(head.created_at, expected.created_at)
        assert self.is_near(head.ended_at, expected.ended_at)
        assert replace(head, created_at=0.0, ended_at=None) == replace(
            expected, created_at=0.0, ended_at=None
        )
