"""Random programs against a store, compared step by step with a model made of lists.

The model is written from the definitions in `ports.journal`, not from any store: what can be claimed follows
from facts that it keeps (who owns it, until when, its wake-up time, what is unread) each time it is asked.
Two stores are open on the storage at any time, and every step picks one: what one has written the other sees.
"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    initialize,
    multiple,
    precondition,
    rule,
)

from outlast.core.errors import (
    ExecutionAlreadyEnded,
    ExecutionNotFound,
    LeaseLost,
    MessagesUnseen,
    PayloadTooLarge,
)
from outlast.core.records import Status
from outlast.core.tags import changed
from outlast.ports.finding import Where
from outlast.ports.journal import Claim, Commit, Message, NewExecution, Store
from outlast.testing.contracts.journal.compared_stores import ComparedStores
from outlast.testing.contracts.journal.modelled import ModelExecution
from outlast.testing.contracts.journal.random_values import (
    IDS,
    NOW,
    Moment,
    batches,
    changes_of_tags,
    contents,
    counts,
    ends,
    filters,
    ids,
    leases,
    moments,
    nths,
    overviews,
    reasons,
    seconds,
    shares,
    taggings,
    wake_ins,
    words,
    workers,
    workflows,
)


class JournalMachine(ComparedStores):
    """One random program."""

    claims: Bundle[Claim] = Bundle("claims")

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
        overview=overviews,
        waiting=words,
        ended=st.none() | st.none() | ends,
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
        overview: str | None = None,
        waiting: str | None = None,
        ended: Status | None = None,
    ) -> None:
        if ended is not None:
            reason = waiting = None
        new = NewExecution(
            id,
            workflow,
            fingerprint,
            keep_seconds=keep_seconds,
            reason=reason,
            tags=tags or {},
            overview=overview,
            waiting=waiting,
            ended=ended,
        )
        head, created = self.call(self.store_at(moment).create(new, first))
        assert created == (id not in self.model)
        if created:
            self.model[id] = execution = ModelExecution(
                new, self.now, [first], free_since=self.now, wake_at=self.now if reason is None else None
            )
            execution.reason, execution.ignores_mail = reason, reason is not None
            execution.tags, execution.overview, execution.waiting = tags or {}, overview, waiting or None
            if ended is not None:
                execution.status, execution.ended_at = ended, self.now
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
            Commit, fruitless=counts, overview=overviews, waiting=words, tags=st.just({}) | changes_of_tags
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
    @rule(target=claims, moment=moments, nth=nths, worker=workers, lease_seconds=leases)
    def hold_for_no_time(
        self, moment: Moment, nth: int, worker: str, lease_seconds: float
    ) -> MultipleResults[Claim]:
        """Release with `hold` what can be claimed at once, and let somebody claim it."""
        store = self.store_at(moment)
        commit = Commit(release=True, hold=True, wake_in=0.0)
        self.write(store, self.good_claim(nth), 0, [], commit, None)
        return multiple(*self.take(store, worker, {"v", "w"}, len(IDS), lease_seconds))

    @precondition(lambda self: self.good_claims())
    @rule(
        moment=moments,
        nth=nths,
        records=batches,
        commit=st.builds(Commit, status=ends, waiting=words, overview=overviews, tags=changes_of_tags),
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
        seen=st.sampled_from([None, None, None, 1.0, 0.5]),
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
        seen: float | None,
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
        self.write(store, claim, off_by, records, commit, consumed, seen)

    def write(
        self,
        store: Store,
        claim: Claim,
        off_by: int,
        records: list[bytes],
        commit: Commit,
        consumed: float | None,
        seen: float | None = None,
    ) -> None:
        """Append, and compare; the last two are shares of the messages that there are."""
        known, execution = self.model.get(claim.execution_id), self.owned(claim)
        if execution is not None and consumed is not None:
            commit = replace(commit, consumed=round(consumed * len(execution.inbox)))
        if seen is not None:
            commit = replace(commit, seen=0 if execution is None else round(seen * len(execution.inbox)))
        position = off_by + (claim.length if known is None else len(known.records))
        outcome = self.outcome(store.append(claim, position, records, commit))
        refusals: list[type[Exception]] = []
        if execution is None or off_by:
            refusals.append(LeaseLost)
        elif commit.seen is not None and len(execution.inbox) > commit.seen:
            refusals.append(MessagesUnseen)
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
        if commit.overview is not None:
            execution.overview = commit.overview
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
