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
from outlast.core.tags import changed
from outlast.ports.finding import Cursor, Where
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
summaries = st.none() | st.sampled_from(["", "a summary", "ünïcode 'quoted'"])
words = st.sampled_from([None, None, "", "timer", "signal"])
"""Words for a wait."""
taggings = st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from(["1", "2"]), max_size=2)
changes_of_tags = st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from(["1", "2", None]), max_size=2)
filters = st.builds(
    Where,
    workflow=st.sampled_from([None, None, "v", "w"]),
    status=st.sampled_from([None, None, *Status]),
    tags=st.just({}) | taggings,
    id_prefix=st.sampled_from([None, None, "", "e", "f", "fg"]),
    waiting_for=st.sampled_from([None, None, "timer", "signal"]),
)
ends = st.sampled_from([status for status in Status if status not in (Status.RUNNING, Status.PAUSED)])
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
    old_message_ids: set[str] = field(default_factory=set)
    """The ids of messages from before its end. After it, a store may know them or not."""
    tags: dict[str, str] = field(default_factory=dict)
    summary: str | None = None
    waiting: str | None = None

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
            held=self.is_held(),
            tags=self.tags,
            summary=self.summary,
            waiting=self.waiting,
        )

    def is_held(self) -> bool:
        return self.is_set_aside() and self.wake_at is None

    def matches(self, where: Where) -> bool:
        status = Status.PAUSED if self.is_held() else self.status
        own = (self.new.workflow, status, self.waiting)
        wanted = (where.workflow, where.status, where.waiting_for)
        return (
            all(want in (None, have) for want, have in zip(wanted, own, strict=True))
            and all(self.tags.get(name) == value for name, value in where.tags.items())
            and self.new.id.startswith(where.id_prefix or "")
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
        reason=st.sampled_from([None, None, None, None, "held"]),
        tags=taggings,
        summary=summaries,
        waiting=words,
    )
    def create(
        self,
        moment: Moment,
        id: str,
        workflow: str,
        fingerprint: str,
        keep_seconds: float | None,
        first: bytes,
        reason: str | None = None,
        tags: dict[str, str] | None = None,
        summary: str | None = None,
        waiting: str | None = None,
    ) -> None:
        new = NewExecution(
            id,
            workflow,
            fingerprint,
            keep_seconds=keep_seconds,
            reason=reason,
            tags=tags or {},
            summary=summary,
            waiting=waiting,
        )
        head, created = self.call(self.store_at(moment).create(new, first))
        assert created == (id not in self.model)
        if created:
            self.model[id] = execution = ModelExecution(
                new, self.now, [first], free_since=self.now, wake_at=self.now if reason is None else None
            )
            execution.reason, execution.ignores_mail = reason, reason is not None
            execution.tags, execution.summary, execution.waiting = tags or {}, summary, waiting or None
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
    @rule(
        moment=moments,
        nth=nths,
        records=batches,
        consumed=shares,
        commit=st.builds(
            Commit, fruitless=counts, summary=summaries, waiting=words, tags=st.just({}) | changes_of_tags
        ),
    )
    def append(
        self, moment: Moment, nth: int, records: list[bytes], consumed: float | None, commit: Commit
    ) -> None:
        self.write(self.store_at(moment), self.good_claim(nth), 0, records, commit, consumed)

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
        waiting=words,
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
        waiting: str | None,
    ) -> None:
        store = self.store_at(moment)
        commit = Commit(release=True, reason=reason, fruitless=fruitless, hold=hold, waiting=waiting)
        if wake_in is not None:
            commit = (
                replace(commit, wake_at=self.now + wake_in) if by_date else replace(commit, wake_in=wake_in)
            )
        self.write(store, self.good_claim(nth), 0, records, commit, consumed)

    @precondition(lambda self: self.good_claims())
    @rule(
        moment=moments,
        nth=nths,
        records=batches,
        commit=st.builds(Commit, status=ends, waiting=words, summary=summaries, tags=changes_of_tags),
    )
    def close(self, moment: Moment, nth: int, records: list[bytes], commit: Commit) -> None:
        self.write(self.store_at(moment), self.good_claim(nth), 0, records, commit, None)

    @rule(
        moment=moments,
        claim=claims,
        off_by=st.sampled_from([0, 0, 0, -1, 1]),
        records=batches,
        repeats_last=st.booleans(),
        too_long_at=st.sampled_from([None, None, None, 0, 1]),
        commit=st.builds(
            Commit, release=st.booleans(), status=st.none() | ends, waiting=words, tags=st.just({}) | taggings
        ),
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
        if commit.summary is not None:
            execution.summary = commit.summary
        if commit.waiting is not None:
            execution.waiting = commit.waiting or None
        execution.tags = changed(execution.tags, commit.tags)
        if commit.status is not None:
            execution.status, execution.ended_at, execution.waiting = commit.status, self.now, None
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
            execution.waiting = None
            execution.free_since = execution.wake_at = self.now

    @rule(
        moment=moments,
        id=ids,
        record=contents,
        off_by=st.sampled_from([0, 0, 0, -1, 1]),
        end=ends,
        reopens=st.sampled_from([True, True, False]),
    )
    def amend(self, moment: Moment, id: str, record: bytes, off_by: int, end: Status, reopens: bool) -> None:
        """Open an execution again that has ended, or end one from outside."""
        store, execution = self.store_at(moment), self.model.get(id)
        has_ended = execution is not None and execution.status is not Status.RUNNING
        status = Status.RUNNING if has_ended and reopens else end
        reopens = status is Status.RUNNING
        if execution is None or (has_ended and not reopens):
            refusal = self.outcome(store.amend(id, 1, record, status))
            assert isinstance(refusal, ExecutionNotFound if execution is None else ExecutionAlreadyEnded)
            return
        assert self.call(store.amend(id, len(execution.records) + off_by, record, status)) == (not off_by)
        if not off_by:
            execution.records.append(record)
            execution.status, execution.ended_at = status, None if reopens else self.now
            execution.claim, execution.ignores_mail, execution.fruitless = None, False, 0
            execution.reason = execution.waiting = None
            execution.free_since = execution.wake_at = self.now
            execution.old_message_ids = {message.id for message, _ in execution.inbox}

    @rule(moment=moments, id=ids, changes=changes_of_tags)
    def tag(self, moment: Moment, id: str, changes: dict[str, str | None]) -> None:
        outcome = self.outcome(self.store_at(moment).tag(id, changes))
        if (execution := self.model.get(id)) is None:
            assert isinstance(outcome, ExecutionNotFound)
            return
        assert outcome is None
        execution.tags = changed(execution.tags, changes)

    @rule(moment=moments, where=filters, limit=st.sampled_from([1, 2, 100]))
    def find(self, moment: Moment, where: Where, limit: int) -> None:
        self.call(self.check_heads(self.store_at(moment), where, limit))

    @rule(moment=moments, id=ids, message_id=st.sampled_from("nom"), body=contents)
    def send(self, moment: Moment, id: str, message_id: str, body: bytes) -> None:
        store, message = self.store_at(moment), Message(message_id, body)
        outcome = self.outcome(store.send(id, message))
        execution = self.model.get(id)
        if execution is None:
            assert isinstance(outcome, ExecutionNotFound)
        elif execution.status is Status.RUNNING and message_id in execution.old_message_ids:
            assert outcome is None
            if self.call(store.messages(id, len(execution.inbox))):
                execution.inbox.append((message, self.now))
                execution.old_message_ids.discard(message_id)
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
        await self.check_heads(one, Where(workflow="v", status=Status.RUNNING))
        await self.check_heads(other, Where())
        await self.check_wake_up(other)
        for id in IDS:
            await self.check_execution(one, id, after=0)
            await self.check_execution(other, id, after=2)

    async def check_heads(self, store: Store, where: Where, limit: int = 100) -> None:
        """Check what a filter finds, page by page."""
        heads: list[Head] = []
        while page := await store.heads(
            where, limit=limit, after=Cursor(heads[-1].created_at, heads[-1].id) if heads else None
        ):
            heads += page
            assert len(page) <= limit
            assert len(heads) <= len(self.model)
        places = [(head.created_at, head.id) for head in heads]
        assert places == sorted(places, reverse=True)
        assert sorted(head.id for head in heads) == sorted(
            id for id, execution in self.model.items() if execution.matches(where)
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
