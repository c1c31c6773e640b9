"""Stores that break one promise of the journal port each, in a way that somebody might write by mistake.

They prove that the contract suite bites: for each of them a test with the name of the promise fails, and
random programs find most of them as well. Each docstring says what the mistake is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, ClassVar

from outlast.adapters.memory.store import MemoryStore, StoredExecution
from outlast.core.errors import LeaseLost
from outlast.core.records import Status
from outlast.core.tags import changed, checked_changes
from outlast.ports.finding import EVERYTHING, Cursor, Where
from outlast.ports.journal import (
    Claim,
    Commit,
    Delivery,
    Head,
    Message,
    NewExecution,
    PresentWorker,
    Work,
    WorkerCard,
)


class BrokenStore(MemoryStore):
    """A store in memory with one mistake in it."""

    breaks: ClassVar[str]
    """The beginning, after `test_`, of the names of the tests that must catch it."""
    found_by_random_programs: ClassVar[bool] = True
    """True if a few hundred of them are enough. No random program looks for what needs two tasks at once, nor
    at who is present."""
    is_found_late: ClassVar[bool] = False
    """True if random programs need so many steps to find it that they look for it at night only."""


# Creating ----------------------------------------------------------------------------------------------


class ReplacesTheHead(BrokenStore):
    """Creating again takes over the new workflow and fingerprint."""

    breaks = "j1_"

    async def create(self, new: NewExecution, first: bytes, more: Sequence[bytes] = ()) -> tuple[Head, bool]:
        if (existing := self._medium.executions.get(new.id)) is not None:
            existing.new = new
        return await super().create(new, first, more)


class StartsAgainWhatHasEnded(BrokenStore):
    """An id is free as soon as its execution has ended."""

    breaks = "j1_"

    async def create(self, new: NewExecution, first: bytes, more: Sequence[bytes] = ()) -> tuple[Head, bool]:
        if new.id not in self._medium.running:
            self._medium.executions.pop(new.id, None)
        return await super().create(new, first, more)


class LooksBeforeItCreates(BrokenStore):
    """The look and the write are two operations, and the write does not look again."""

    breaks = "j2_"
    found_by_random_programs = False

    async def create(self, new: NewExecution, first: bytes, more: Sequence[bytes] = ()) -> tuple[Head, bool]:
        if new.id not in self._medium.executions:
            await asyncio.sleep(0)
            self._medium.executions.pop(new.id, None)
        return await super().create(new, first, more)


# Appending ---------------------------------------------------------------------------------------------


class KeepsTheLastRecordToItself(BrokenStore):
    """The last append is still in a buffer when the store is closed."""

    breaks = "j3_"

    async def __aenter__(self) -> MemoryStore:
        self._unwritten: dict[str, int] = {}
        return await super().__aenter__()

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        await super().append(claim, position, records, commit)
        self._unwritten[claim.execution_id] = position

    async def __aexit__(self, *_: object) -> None:
        for id, position in self._unwritten.items():
            if (execution := self._medium.executions.get(id)) is not None:
                del execution.records[position:]


class ReadsFromACache(BrokenStore):
    """A journal that was read once is never read again, though another worker writes."""

    breaks = "j3_"

    async def __aenter__(self) -> MemoryStore:
        self._cached: dict[str, Head | None] = {}
        return await super().__aenter__()

    async def head(self, execution_id: str) -> Head | None:
        if execution_id not in self._cached:
            self._cached[execution_id] = await super().head(execution_id)
        return self._cached[execution_id]

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        await super().append(claim, position, records, commit)
        self._cached.pop(claim.execution_id, None)


class IgnoresTokens(BrokenStore):
    """A worker that has claimed an execution once may write while anybody owns it."""

    breaks = "j4_"

    def _owned(self, claim: Claim) -> StoredExecution | None:
        execution = self._medium.running.get(claim.execution_id)
        return None if execution is None or execution.owner is None else execution


class ComparesWorkersInsteadOfTokens(BrokenStore):
    """A worker that lost its execution and got it again can write under the old claim."""

    breaks = "j4_"

    def _owned(self, claim: Claim) -> StoredExecution | None:
        execution = self._medium.running.get(claim.execution_id)
        return None if execution is None or execution.owner != claim.worker else execution


class IgnoresPositions(BrokenStore):
    """It appends at the end, wherever the writer thinks that is."""

    breaks = "j4_"

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        execution = self._medium.executions.get(claim.execution_id)
        end = position if execution is None else len(execution.records)
        await super().append(claim, end, records, commit)


class TakesARetryForASuccess(BrokenStore):
    """An append whose records are there already is silently taken for done."""

    breaks = "j4_"

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        there = await self.read(claim.execution_id, max(position, 0))
        if not (records and list(there) == list(records)):
            await super().append(claim, position, records, commit)


class LetsReleasedClaimsWrite(BrokenStore):
    """The token is still the newest one after a release."""

    breaks = "j4_"

    def _owned(self, claim: Claim) -> StoredExecution | None:
        execution = self._medium.running.get(claim.execution_id)
        return None if execution is None or execution.token != claim.token else execution


class RefusesALeaseThatRanOut(BrokenStore):
    """An owner that is late is refused although nobody took its execution over."""

    breaks = "j4_"

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        execution = self._owned(claim)
        if execution is not None and (execution.claimable_at or 0.0) <= self._clock.now():
            raise LeaseLost(claim.execution_id)
        await super().append(claim, position, records, commit)


class NumbersTokensPerExecution(BrokenStore):
    """Tokens begin again at 1 when a forgotten id is used again."""

    breaks = "j4_"
    is_found_late = True

    def _take(self, execution: StoredExecution, worker: str, lease_until: float) -> Claim:
        self._medium.last_token = execution.token
        return super()._take(execution, worker, lease_until)


class WritesRecordByRecord(BrokenStore):
    """A batch with a bad record in it leaves those before it."""

    breaks = "j5_"

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        for offset, record in enumerate(records):
            await super().append(claim, position + offset, [record], Commit())
        await super().append(claim, position + len(records), [], commit)


class IsCancelledBetweenTwoWrites(BrokenStore):
    """The records are one write and the commit is another, and the task can be cancelled in between."""

    breaks = "j5_"
    found_by_random_programs = False

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        await super().append(claim, position, records, Commit())
        await asyncio.sleep(0)
        await super().append(claim, position + len(records), [], commit)


class WritesOnAfterItWasCancelled(BrokenStore):
    """A cancelled caller is let go at once, while the write that it has begun is still under way."""

    breaks = "j5_"
    found_by_random_programs = False

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        async def write() -> None:
            for _ in range(3):
                await asyncio.sleep(0)
            await super(WritesOnAfterItWasCancelled, self).append(claim, position, records, commit)

        task = asyncio.ensure_future(write())
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(task)


class TakesMoreThanItsLimit(BrokenStore):
    """It takes records that are over the limit which it names."""

    breaks = "j6_"

    @property
    def limit_bytes(self) -> int:
        return super().limit_bytes - 1


class TakesForTheLimitWhatIsBelowIt(BrokenStore):
    """A record of exactly `limit_bytes` is refused."""

    breaks = "j6_"
    found_by_random_programs = False

    @property
    def limit_bytes(self) -> int:
        return super().limit_bytes + 1


class KeepsText(BrokenStore):
    """Bytes go through a text column."""

    breaks = "j7_"

    async def read(self, execution_id: str, after: int = 0, limit: int | None = None) -> Sequence[bytes]:
        return [
            record.decode(errors="replace").encode()
            for record in await super().read(execution_id, after, limit)
        ]


class SkipsEmptyRecords(BrokenStore):
    """An empty record is taken for none."""

    breaks = "j7_"

    async def read(self, execution_id: str, after: int = 0, limit: int | None = None) -> Sequence[bytes]:
        return [record for record in await super().read(execution_id, after, limit) if record]


class ForgetsTheJournalAtTheEnd(BrokenStore):
    """Only the last record of an execution that has ended is kept."""

    breaks = "j7_"

    async def read(self, execution_id: str, after: int = 0, limit: int | None = None) -> Sequence[bytes]:
        records = await super().read(execution_id, after, limit)
        return records if execution_id in self._medium.running else records[-1:]


class ReadsFurtherThanItWasAsked(BrokenStore):
    """The limit of a read counts from the first record."""

    breaks = "j11_"

    async def read(self, execution_id: str, after: int = 0, limit: int | None = None) -> Sequence[bytes]:
        return (await super().read(execution_id, 0, limit))[after:]


class ReadsAllMessages(BrokenStore):
    """The limit is ignored."""

    breaks = "i4_"
    is_found_late = True

    async def messages(self, execution_id: str, after: int, limit: int | None = None) -> Sequence[Delivery]:
        return await super().messages(execution_id, after)


class ShowsWhatWasConsumed(BrokenStore):
    """Messages that an append has consumed are still there."""

    breaks = "i5_"
    found_by_random_programs = False

    async def messages(self, execution_id: str, after: int, limit: int | None = None) -> Sequence[Delivery]:
        execution = self._medium.executions.get(execution_id)
        return [] if execution is None else execution.inbox[after:][:limit]


class LeavesTheNote(BrokenStore):
    """A reason stays when the next append has none."""

    breaks = "a_reason_"
    is_found_late = True

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        execution = self._medium.executions.get(claim.execution_id)
        reason = commit.reason or (None if execution is None else execution.reason)
        await super().append(claim, position, records, replace(commit, reason=reason))


# Messages ----------------------------------------------------------------------------------------------


class SortsMessagesById(BrokenStore):
    """The order is that of the ids that the senders made up."""

    breaks = "i1_"

    async def messages(self, execution_id: str, after: int, limit: int | None = None) -> Sequence[Delivery]:
        deliveries = await super().messages(execution_id, after, limit)
        by_id = sorted(deliveries, key=lambda delivery: delivery.message.id)
        return [replace(delivery, number=after + place) for place, delivery in enumerate(by_id, start=1)]


class KeepsMessagesInTheProcess(BrokenStore):
    """Messages that nobody read are gone when the store is closed."""

    breaks = "i1_"

    async def __aexit__(self, *_: object) -> None:
        for execution in self._medium.executions.values():
            del execution.inbox[execution.consumed :]


class ForgetsTheIdsOfConsumedMessages(BrokenStore):
    """A message that is sent again after it was consumed is delivered again."""

    breaks = "i2_"
    is_found_late = True

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        await super().append(claim, position, records, commit)
        execution = self._medium.executions[claim.execution_id]
        execution.message_ids = {delivery.message.id for delivery in execution.inbox[execution.consumed :]}


class ReplacesTheBody(BrokenStore):
    """A message that is sent again brings its new body."""

    breaks = "i2_"

    async def send(self, execution_id: str, message: Message) -> None:
        await super().send(execution_id, message)
        inbox = self._medium.executions[execution_id].inbox
        inbox[:] = [replace(d, message=message) if d.message.id == message.id else d for d in inbox]


class SharesMessageIds(BrokenStore):
    """Message ids are unique in the whole store, not per execution."""

    breaks = "i2_"

    async def send(self, execution_id: str, message: Message) -> None:
        everywhere = self._medium.executions.values()
        if execution_id not in self._medium.running or not any(
            message.id in e.message_ids for e in everywhere
        ):
            await super().send(execution_id, message)


class SaysNothingOfAMissingExecution(BrokenStore):
    """A message to nobody is lost without a word."""

    breaks = "i3_"

    async def send(self, execution_id: str, message: Message) -> None:
        if execution_id in self._medium.executions:
            await super().send(execution_id, message)


class DeliversToTheEnded(BrokenStore):
    """An execution that has ended takes messages that nobody will ever read."""

    breaks = "i3_"

    async def send(self, execution_id: str, message: Message) -> None:
        execution = self._medium.executions.get(execution_id)
        if execution is None or execution.status is Status.RUNNING:
            return await super().send(execution_id, message)
        execution.inbox.append(Delivery(len(execution.inbox) + 1, message))


class TakesBackWhatWasConsumed(BrokenStore):
    """The last commit sets the number of consumed messages, even to a lower one."""

    breaks = "messages_are_consumed_"
    found_by_random_programs = False

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        if (execution := self._owned(claim)) is not None and commit.consumed is not None:
            execution.consumed = 0
        await super().append(claim, position, records, commit)


# Leases ------------------------------------------------------------------------------------------------


class LooksBeforeItClaims(BrokenStore):
    """Two workers that look at the same time both claim the executions that they saw."""

    breaks = "l1_"
    found_by_random_programs = False

    async def claim(self, *args: Any, **options: Any) -> Work:
        seen = {id: execution.claimable_at for id, execution in self._medium.running.items()}
        await asyncio.sleep(0)
        for id, claimable_at in seen.items():
            self._medium.running[id].claimable_at = claimable_at
        return await super().claim(*args, **options)


class UsesTheSameTokenAgain(BrokenStore):
    """A takeover keeps the token."""

    breaks = "l1_"

    def _take(self, execution: StoredExecution, worker: str, lease_until: float) -> Claim:
        self._medium.last_token = 0
        return super()._take(execution, worker, lease_until)


class ClaimsBeforeTheLeaseRanOut(BrokenStore):
    """Leases end a little early."""

    breaks = "l2_"

    def _take(self, execution: StoredExecution, worker: str, lease_until: float) -> Claim:
        return super()._take(execution, worker, lease_until - 0.5)


class LetsMessagesEndLeases(BrokenStore):
    """A message makes an execution claimable although somebody owns it."""

    breaks = "l2_"

    async def send(self, execution_id: str, message: Message) -> None:
        await super().send(execution_id, message)
        self._medium.executions[execution_id].claimable_at = self._clock.now()


class ClaimsTheEnded(BrokenStore):
    """An execution that has ended is still in the index of those that wait."""

    breaks = "l2_"

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        await super().append(claim, position, records, commit)
        if commit.status is not None:
            ended = self._medium.running[claim.execution_id] = self._medium.executions[claim.execution_id]
            ended.claimable_at = self._clock.now()


class NeverSaysRecovered(BrokenStore):
    """A takeover looks like any claim."""

    breaks = "l3_"

    def _take(self, execution: StoredExecution, worker: str, lease_until: float) -> Claim:
        return replace(super()._take(execution, worker, lease_until), recovered_from=None)


class SaysRecoveredForAnyEarlierOwner(BrokenStore):
    """A claim after a release looks like a takeover."""

    breaks = "l3_"

    def _take(self, execution: StoredExecution, worker: str, lease_until: float) -> Claim:
        earlier = "somebody" if execution.token > 0 else None
        return replace(super()._take(execution, worker, lease_until), recovered_from=earlier)


class NamesItselfAsTheLostOwner(BrokenStore):
    """The owner is overwritten before anybody asks who it was."""

    breaks = "l3_"

    def _take(self, execution: StoredExecution, worker: str, lease_until: float) -> Claim:
        claim = super()._take(execution, worker, lease_until)
        return replace(claim, recovered_from=worker if claim.recovered else None)


class TakesAWaitForADate(BrokenStore):
    """A wait of some seconds goes by the wall clock."""

    breaks = "l9_"
    found_by_random_programs = False

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        if commit.wake_in is not None:
            commit = replace(commit, wake_at=self._clock.now() + commit.wake_in, wake_in=None)
        await super().append(claim, position, records, commit)


class WaitsForTheDateOfAStart(BrokenStore):
    """A new execution can be claimed from the date at which it was created."""

    breaks = "l9_"
    found_by_random_programs = False

    async def create(self, new: NewExecution, first: bytes, more: Sequence[bytes] = ()) -> tuple[Head, bool]:
        head, is_new = await super().create(new, first, more)
        if is_new:
            execution = self._medium.executions[new.id]
            execution.claimable_at, execution.is_date = self._clock.now(), True
        return head, is_new


class WaitsForTheDateOfAMessage(BrokenStore):
    """A message makes an execution claimable from the date at which it was sent."""

    breaks = "l9_"
    found_by_random_programs = False

    async def send(self, execution_id: str, message: Message) -> None:
        await super().send(execution_id, message)
        execution = self._medium.executions[execution_id]
        if execution.owner is None and execution.claimable_at is not None and not execution.is_date:
            execution.claimable_at, execution.is_date = self._clock.now(), True


class RenewsForAnybody(BrokenStore):
    """The loser of a takeover lengthens the winner's lease."""

    breaks = "l4_"

    async def renew(self, claims: Collection[Claim], lease_seconds: float) -> frozenset[str]:
        for claim in claims:
            execution = self._medium.running.get(claim.execution_id)
            if execution is not None and execution.owner is not None:
                execution.claimable_at = self._clock.now() + lease_seconds
        return await super().renew(claims, lease_seconds)


class RevivesReleasedClaims(BrokenStore):
    """Renewing a claim that was released makes its worker the owner again."""

    breaks = "l4_"

    async def renew(self, claims: Collection[Claim], lease_seconds: float) -> frozenset[str]:
        for claim in claims:
            execution = self._medium.running.get(claim.execution_id)
            if execution is not None and execution.token == claim.token:
                execution.owner = claim.worker
        return await super().renew(claims, lease_seconds)


class GivesUpExpiredClaims(BrokenStore):
    """A lease that ran out cannot be renewed although nobody took it."""

    breaks = "l4_"

    async def renew(self, claims: Collection[Claim], lease_seconds: float) -> frozenset[str]:
        now = self._clock.now()
        alive = [c for c in claims if (e := self._owned(c)) is not None and (e.claimable_at or now) > now]
        await super().renew(alive, lease_seconds)
        return frozenset({claim.execution_id for claim in claims} - {claim.execution_id for claim in alive})


class NamesNobodyAsLost(BrokenStore):
    """Renewing never returns a claim that was lost."""

    breaks = "l4_"

    async def renew(self, claims: Collection[Claim], lease_seconds: float) -> frozenset[str]:
        await super().renew(claims, lease_seconds)
        return frozenset()


class WaitsFromTheCallOn(BrokenStore):
    """Changes between the claim and the wait are missed."""

    breaks = "l5_"
    found_by_random_programs = False

    async def wait(self, version: int, timeout_seconds: float) -> None:
        await super().wait(self._medium.version, timeout_seconds)


class AnnouncesNoMessage(BrokenStore):
    """A message wakes nobody."""

    breaks = "l5_"
    found_by_random_programs = False

    async def send(self, execution_id: str, message: Message) -> None:
        version = self._medium.version
        await super().send(execution_id, message)
        self._medium.version = version


class AnnouncesNoRelease(BrokenStore):
    """The others do not learn that there is a new wake-up time to wait for."""

    breaks = "l5_"
    found_by_random_programs = False

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        version = self._medium.version
        await super().append(claim, position, records, commit)
        self._medium.version = version


class WakesOneOfAll(BrokenStore):
    """A notification that the first one who waits takes away from the others."""

    breaks = "l5_"
    found_by_random_programs = False

    async def wait(self, version: int, timeout_seconds: float) -> None:
        await super().wait(version, timeout_seconds)
        self._medium.version = version


class WaitsForEver(BrokenStore):
    """The timeout of a wait is ignored."""

    breaks = "l5_"
    found_by_random_programs = False

    async def wait(self, version: int, timeout_seconds: float) -> None:
        await super().wait(version, 1e9)


# Holding -----------------------------------------------------------------------------------------------


class CountsEveryClaim(BrokenStore):
    """A claim after a release counts as one that was lost."""

    breaks = "l6_"

    def _take(self, execution: StoredExecution, worker: str, lease_until: float) -> Claim:
        execution.fruitless += execution.owner is None and execution.token > 0
        return super()._take(execution, worker, lease_until)


class CountsInTheProcess(BrokenStore):
    """A store knows only of the claims that were lost while it was open."""

    breaks = "l6_"

    async def __aenter__(self) -> MemoryStore:
        self._counted: dict[str, int] = {}
        return await super().__aenter__()

    def _take(self, execution: StoredExecution, worker: str, lease_until: float) -> Claim:
        before = self._counted.get(execution.new.id, 0)
        claim = super()._take(execution, worker, lease_until)
        self._counted[execution.new.id] = execution.fruitless = before + claim.recovered
        return replace(claim, fruitless=execution.fruitless)


class LetsTheWorkerCount(BrokenStore):
    """The number grows in the claim that the worker gets, and nobody writes it down."""

    breaks = "l6_"

    def _take(self, execution: StoredExecution, worker: str, lease_until: float) -> Claim:
        claim = super()._take(execution, worker, lease_until)
        execution.fruitless -= claim.recovered
        return claim


class TakesEveryAppendForProgress(BrokenStore):
    """Each append sets the count to 0, also one that must leave it."""

    breaks = "l6_"

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        await super().append(claim, position, records, replace(commit, fruitless=commit.fruitless or 0))


class NeverBeginsToCountAnew(BrokenStore):
    """An append makes the count no smaller."""

    breaks = "l6_"

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        execution = self._owned(claim)
        count = max(commit.fruitless or 0, 0 if execution is None else execution.fruitless)
        await super().append(claim, position, records, replace(commit, fruitless=count))


class OverlooksMessages(BrokenStore):
    """An append does not look for messages that its writer has not seen."""

    breaks = "j14_"
    found_by_random_programs = False  # That takes them a minute.

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        await super().append(claim, position, records, replace(commit, seen=None))


class CountsUnreadMessagesOnly(BrokenStore):
    """It compares the number that was seen with how many messages are unread."""

    breaks = "j14_"
    found_by_random_programs = False  # That takes them a minute.

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        execution = self._owned(claim)
        if commit.seen is not None and execution is not None:
            commit = replace(commit, seen=commit.seen + execution.consumed)
        await super().append(claim, position, records, commit)


class HoldsForTheTimeBeing(BrokenStore):
    """A held execution is claimed after a while, as if its owner had been lost."""

    breaks = "l7_"
    is_found_late = True

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        if commit.hold and commit.wake_at is None and commit.wake_in is None:
            commit = replace(commit, wake_at=self._clock.now() + 5.0)
        await super().append(claim, position, records, commit)


class HoldsForEver(BrokenStore):
    """The wake-up time of a held execution does not count."""

    breaks = "l7_"
    is_found_late = True

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        wake_at = None if commit.hold else commit.wake_at
        await super().append(claim, position, records, replace(commit, wake_at=wake_at))


class HoldsWhatHasNoMailOnly(BrokenStore):
    """An unread message makes an execution claimable although it is held."""

    breaks = "l7_"
    is_found_late = True

    def _claimable_at(self, execution: StoredExecution, wake_at: float | None) -> float | None:
        return self._clock.now() if execution.has_mail else super()._claimable_at(execution, wake_at)


class HoldsOnceAndForAll(BrokenStore):
    """No message makes an execution claimable once it was held."""

    breaks = "l7_"

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        execution = self._owned(claim)
        hold = commit.release and (commit.hold or (execution is not None and execution.ignores_mail))
        await super().append(claim, position, records, replace(commit, hold=hold))


class WakesWhatIsHeld(BrokenStore):
    """A message makes an execution claimable although it is held."""

    breaks = "l7_"
    is_found_late = True

    async def send(self, execution_id: str, message: Message) -> None:
        await super().send(execution_id, message)
        execution = self._medium.executions[execution_id]
        if execution.ignores_mail and execution.owner is None:
            execution.claimable_at = self._clock.now()


class RefusesMessagesToWhatIsHeld(BrokenStore):
    """A message to an execution that is held is lost."""

    breaks = "l7_"

    async def send(self, execution_id: str, message: Message) -> None:
        execution = self._medium.executions.get(execution_id)
        if execution is None or not execution.ignores_mail:
            await super().send(execution_id, message)


class DoesNotSayThatItIsHeld(BrokenStore):
    """The head of a held execution looks like that of an execution that waits."""

    breaks = "l7_"
    is_found_late = True

    async def head(self, execution_id: str) -> Head | None:
        head = await super().head(execution_id)
        return None if head is None else replace(head, held=False)


class ResumesWithTheOldCount(BrokenStore):
    """A resumed execution is held again after one more lost claim."""

    breaks = "l8_"
    is_found_late = True

    async def resume(self, execution_id: str) -> bool:
        before = await self.head(execution_id)
        was_held = await super().resume(execution_id)
        if before is not None and was_held:
            self._medium.executions[execution_id].fruitless = before.fruitless
        return was_held


class ResumesForMessagesOnly(BrokenStore):
    """A resumed execution waits for the next message, or for the one that it has."""

    breaks = "l8_"
    is_found_late = True

    async def resume(self, execution_id: str) -> bool:
        was_held = await super().resume(execution_id)
        execution = self._medium.executions[execution_id]
        if was_held and not execution.has_mail:
            execution.claimable_at = None
        return was_held


class ResumesWhatIsNotHeld(BrokenStore):
    """Any execution is claimable afterwards, whoever owns it."""

    breaks = "l8_"

    async def resume(self, execution_id: str) -> bool:
        was_held = await super().resume(execution_id)
        self._medium.executions[execution_id].claimable_at = self._clock.now()
        return was_held


class ResumesWhatHasAnOwner(BrokenStore):
    """An execution that was held, and has been claimed since, is taken from its owner."""

    breaks = "l8_"

    async def resume(self, execution_id: str) -> bool:
        execution = self._medium.running.get(execution_id)
        if execution is not None and execution.ignores_mail:
            execution.owner = None
        return await super().resume(execution_id)


class ResumesWhatHasEnded(BrokenStore):
    """Nobody asks whether there is still anything to go on with."""

    breaks = "l8_"

    async def resume(self, execution_id: str) -> bool:
        execution = self._medium.executions.get(execution_id)
        if execution is not None and execution.status is not Status.RUNNING:
            return False
        return await super().resume(execution_id)


class ResumesInSilence(BrokenStore):
    """Nobody who waits for work learns that something was resumed."""

    breaks = "l5_"
    found_by_random_programs = False

    async def resume(self, execution_id: str) -> bool:
        version = self._medium.version
        was_held = await super().resume(execution_id)
        self._medium.version = version
        return was_held


# Waiting and waking ------------------------------------------------------------------------------------


class ClaimsTheNewestFirst(BrokenStore):
    """The execution that has waited longest starves."""

    breaks = "the_executions_that_have_waited_longest"

    async def claim(
        self, worker: str, workflows: Collection[str], task_queue: str, *, limit: int, lease_seconds: float
    ) -> Work:
        running = self._medium.running
        now = self._clock.now()
        waiting = {id: e.claimable_at for id, e in running.items() if (e.claimable_at or now + 1) <= now}
        for id, claimable_at in waiting.items():
            running[id].claimable_at = now - 1 / (now + 1 - (claimable_at or now))
        work = await super().claim(worker, workflows, task_queue, limit=limit, lease_seconds=lease_seconds)
        for id in waiting.keys() - {claim.execution_id for claim in work.claims}:
            running[id].claimable_at = waiting[id]
        return work


class ServesOneWorkflowAfterTheOther(BrokenStore):
    """While there is anything of the first workflow, nobody gets to the second."""

    breaks = "the_executions_that_have_waited_longest_are_claimed_first_across"
    found_by_random_programs = False

    async def claim(
        self, worker: str, workflows: Collection[str], task_queue: str, *, limit: int, lease_seconds: float
    ) -> Work:
        claims: tuple[Claim, ...] = ()
        for workflow in sorted(workflows):
            room = limit - len(claims)
            work = await super().claim(
                worker, [workflow], task_queue, limit=room, lease_seconds=lease_seconds
            )
            claims += work.claims
        work = await super().claim(worker, workflows, task_queue, limit=0, lease_seconds=lease_seconds)
        return replace(work, claims=claims)


class LetsAPastWakeUpTimeJumpTheQueue(BrokenStore):
    """An execution released with an old wake-up time comes before all that really wait."""

    breaks = "the_executions_that_have_waited_longest"
    found_by_random_programs = False

    def _claimable_at(self, execution: StoredExecution, wake_at: float | None) -> float | None:
        return self._clock.now() if execution.has_mail else wake_at


class IgnoresTaskQueues(BrokenStore):
    """Every worker gets everything of its workflows."""

    breaks = "only_executions_"
    found_by_random_programs = False

    async def create(self, new: NewExecution, first: bytes, more: Sequence[bytes] = ()) -> tuple[Head, bool]:
        head, created = await super().create(replace(new, task_queue="default"), first, more)
        return replace(head, task_queue=new.task_queue), created

    async def claim(
        self, worker: str, workflows: Collection[str], task_queue: str, *, limit: int, lease_seconds: float
    ) -> Work:
        return await super().claim(worker, workflows, "default", limit=limit, lease_seconds=lease_seconds)


class SleepsOverUnreadMessages(BrokenStore):
    """A message that came just before the release waits for the wake-up time, or for ever."""

    breaks = "a_release_with_unread_messages_"
    is_found_late = True

    def _claimable_at(self, execution: StoredExecution, wake_at: float | None) -> float | None:
        return None if wake_at is None else max(wake_at, self._clock.now())


class SleepsOverNewMessages(BrokenStore):
    """A message does not wake an execution that waits for its wake-up time."""

    breaks = "a_message_wakes_"
    is_found_late = True

    async def send(self, execution_id: str, message: Message) -> None:
        execution = self._medium.executions.get(execution_id)
        before = None if execution is None else execution.claimable_at
        await super().send(execution_id, message)
        if execution is not None and before is not None:
            execution.claimable_at = before


class WakesEarly(BrokenStore):
    """Wake-up times are rounded to whole seconds."""

    breaks = "a_released_execution_waits_"

    def _claimable_at(self, execution: StoredExecution, wake_at: float | None) -> float | None:
        claimable_at = super()._claimable_at(execution, wake_at)
        return None if claimable_at is None else float(int(claimable_at))


class DoesNotListMail(BrokenStore):
    """The owner does not see messages to the executions that it works on."""

    breaks = "mail_"

    async def claim(self, *args: Any, **options: Any) -> Work:
        return replace(await super().claim(*args, **options), mail=frozenset())


class DoesNotReturnTheNextWakeUp(BrokenStore):
    """The worker does not learn of wake-up times."""

    breaks = "next_wake_at_"

    async def claim(self, *args: Any, **options: Any) -> Work:
        return replace(await super().claim(*args, **options), next_wake_at=None)


# Amending ----------------------------------------------------------------------------------------------


class AmendsWhateverTheLength(BrokenStore):
    """A caller who read the journal earlier writes behind what has happened since."""

    breaks = "j8_"
    found_by_random_programs = False

    async def amend(self, execution_id: str, position: int, record: bytes, status: Status) -> bool:
        execution = self._medium.executions.get(execution_id)
        length = position if execution is None else len(execution.records)
        return await super().amend(execution_id, length, record, status)


class CreatesWhatHasEndedAsRunning(BrokenStore):
    """An execution that was created with its end is claimed all the same."""

    breaks = "j13_"
    is_found_late = True

    async def create(self, new: NewExecution, first: bytes, more: Sequence[bytes] = ()) -> tuple[Head, bool]:
        head, created = await super().create(new, first, more)
        if created and new.ended is not None:
            execution = self._medium.running[new.id] = self._medium.executions[new.id]
            execution.claimable_at = self._clock.steady()
        return head, created


class KeepsForEverWhatWasCreatedWithItsEnd(BrokenStore):
    """No time is kept for the end of an execution that is created with it."""

    breaks = "j13_"
    is_found_late = True

    async def create(self, new: NewExecution, first: bytes, more: Sequence[bytes] = ()) -> tuple[Head, bool]:
        head, created = await super().create(new, first, more)
        if created and new.ended is not None:
            self._medium.executions[new.id].ended_at = None
        return head, created


class LetsTheOwnerWriteOn(BrokenStore):
    """The claim on an execution that was ended from outside stays good."""

    breaks = "j9_"
    found_by_random_programs = False

    async def amend(self, execution_id: str, position: int, record: bytes, status: Status) -> bool:
        execution = self._medium.executions.get(execution_id)
        owner = None if execution is None else execution.owner
        done = await super().amend(execution_id, position, record, status)
        if execution is not None and done and status is not Status.RUNNING:
            execution.owner = owner
            self._medium.running[execution_id] = execution
        return done


class EndsTwice(BrokenStore):
    """An execution that has completed can still be terminated."""

    breaks = "j9_"
    found_by_random_programs = False

    async def amend(self, execution_id: str, position: int, record: bytes, status: Status) -> bool:
        execution = self._medium.executions.get(execution_id)
        if execution is not None and execution.status is not Status.RUNNING:
            execution.status = Status.RUNNING
            self._medium.running[execution_id] = execution
        return await super().amend(execution_id, position, record, status)


class OpensAgainWithTheOldEnd(BrokenStore):
    """An execution that was opened again is forgotten as one that has ended."""

    breaks = "j10_"
    found_by_random_programs = False

    async def amend(self, execution_id: str, position: int, record: bytes, status: Status) -> bool:
        ended_at = self._medium.executions[execution_id].ended_at
        done = await super().amend(execution_id, position, record, status)
        if done and status is Status.RUNNING:
            self._medium.executions[execution_id].ended_at = ended_at
        return done


class OpensAgainInSilence(BrokenStore):
    """No worker learns that there is work again."""

    breaks = "j10_"
    found_by_random_programs = False

    async def amend(self, execution_id: str, position: int, record: bytes, status: Status) -> bool:
        version = self._medium.version
        done = await super().amend(execution_id, position, record, status)
        self._medium.version = version
        return done


# Presence ----------------------------------------------------------------------------------------------


class KnowsItsOwnWorkersOnly(BrokenStore):
    """The list of workers that are alive is kept in the process."""

    breaks = "p1_"
    found_by_random_programs = False

    async def announce(self, card: WorkerCard, lease_seconds: float) -> None:
        self._own = [*getattr(self, "_own", []), PresentWorker(card, ())]

    async def workers(self) -> Sequence[PresentWorker]:
        return list(getattr(self, "_own", []))


class ListsTheDead(BrokenStore):
    """A worker that says nothing is taken to be alive until it leaves."""

    breaks = "p1_"
    found_by_random_programs = False

    async def announce(self, card: WorkerCard, lease_seconds: float) -> None:
        await super().announce(card, 1e9)


class TakesTheFirstCardForGood(BrokenStore):
    """Announcing again makes the time longer, and changes nothing else."""

    breaks = "p2_"
    found_by_random_programs = False

    async def announce(self, card: WorkerCard, lease_seconds: float) -> None:
        known, _ = self._medium.announced.get(card.identity, (card, 0.0))
        await super().announce(known, lease_seconds)


class NeverShortensAnAnnouncement(BrokenStore):
    """The longest time counts, not the last one."""

    breaks = "p2_"
    found_by_random_programs = False

    async def announce(self, card: WorkerCard, lease_seconds: float) -> None:
        _, until = self._medium.announced.get(card.identity, (card, 0.0))
        await super().announce(card, max(lease_seconds, until - self._clock.now()))


class KeepsThoseWhoLeft(BrokenStore):
    """A worker that has stopped is listed until its time has passed."""

    breaks = "p3_"
    found_by_random_programs = False

    async def leave(self, identity: str) -> None:
        return None


class FreesWhatALeavingWorkerOwns(BrokenStore):
    """To leave gives up every claim."""

    breaks = "p3_"
    found_by_random_programs = False

    async def leave(self, identity: str) -> None:
        await super().leave(identity)
        for execution in self._medium.running.values():
            if execution.owner == identity:
                execution.release(self._clock.now())


class CountsOnlyGoodLeases(BrokenStore):
    """An execution whose lease ran out is nobody's, though its head names an owner."""

    breaks = "p4_"
    found_by_random_programs = False

    def _owned_by(self, worker: str) -> tuple[str, ...]:
        running, now = self._medium.running, self._clock.now()
        return tuple(id for id in super()._owned_by(worker) if (running[id].claimable_at or 0.0) > now)


# Looking and forgetting --------------------------------------------------------------------------------


class ListsTheOldestFirst(BrokenStore):
    """Heads come in the order of creation."""

    breaks = "k2_"

    async def heads(
        self, where: Where = EVERYTHING, *, limit: int = 100, after: Cursor | None = None
    ) -> Sequence[Head]:
        everything = await super().heads(where, limit=10**9, after=after)
        return list(reversed(everything))[:limit]


class SkipsWhatIsEquallyOld(BrokenStore):
    """A cursor is a time: what was created at the same moment as the last of a page is in no page."""

    breaks = "k2_"

    async def heads(
        self, where: Where = EVERYTHING, *, limit: int = 100, after: Cursor | None = None
    ) -> Sequence[Head]:
        everything = await super().heads(where, limit=10**9)
        return [head for head in everything if after is None or head.created_at < after.created_at][:limit]


class LosesItsPlace(BrokenStore):
    """A cursor is an id: when that execution is forgotten, the list begins again."""

    breaks = "k2_"
    found_by_random_programs = False  # none forgets between two pages

    async def heads(
        self, where: Where = EVERYTHING, *, limit: int = 100, after: Cursor | None = None
    ) -> Sequence[Head]:
        everything = list(await super().heads(where, limit=10**9))
        ids = [head.id for head in everything]
        begin = ids.index(after.id) + 1 if after is not None and after.id in ids else 0
        return everything[begin : begin + limit]


class FiltersThePage(BrokenStore):
    """The limit cuts the list, and the filter leaves out some of what is left."""

    breaks = "k2_"
    is_found_late = True

    async def heads(
        self, where: Where = EVERYTHING, *, limit: int = 100, after: Cursor | None = None
    ) -> Sequence[Head]:
        page = await super().heads(limit=limit, after=after)
        found = {head.id for head in await super().heads(where, limit=10**9)}
        return [head for head in page if head.id in found]


class BrokenFilters(MemoryStore):
    """A store that finds the executions for which `finds` is true."""

    def finds(self, execution: StoredExecution, where: Where) -> bool:
        raise NotImplementedError

    async def heads(
        self, where: Where = EVERYTHING, *, limit: int = 100, after: Cursor | None = None
    ) -> Sequence[Head]:
        everything = await super().heads(limit=10**9, after=after)
        return [head for head in everything if self.finds(self._medium.executions[head.id], where)][:limit]


class FindsAnyOfTheTags(BrokenFilters, BrokenStore):
    """One tag of the filter is enough."""

    breaks = "k3_"

    def finds(self, execution: StoredExecution, where: Where) -> bool:
        has_one = not where.tags or bool(where.tags.items() & execution.tags.items())
        return has_one and execution.matches(replace(where, tags={}))


class JoinsNamesAndValues(BrokenFilters, BrokenStore):
    """The index of tags has name and value in one text, with nothing that keeps them apart."""

    breaks = "k3_"
    found_by_random_programs = False

    def finds(self, execution: StoredExecution, where: Where) -> bool:
        wanted = {name + value for name, value in where.tags.items()}
        own = {name + value for name, value in execution.tags.items()}
        return wanted <= own and execution.matches(replace(where, tags={}))


class FindsTheHeldAmongTheRunning(BrokenFilters, BrokenStore):
    """An execution that is held has the status running, in the index too."""

    breaks = "k3_"
    is_found_late = True

    def finds(self, execution: StoredExecution, where: Where) -> bool:
        return where.status in (None, execution.status) and execution.matches(replace(where, status=None))


class FindsByPatterns(BrokenFilters, BrokenStore):
    """The beginning of an id is a pattern, in which some characters stand for others."""

    breaks = "k3_"
    found_by_random_programs = False

    def finds(self, execution: StoredExecution, where: Where) -> bool:
        pattern = f"{where.id_prefix or ''}*"
        return fnmatchcase(execution.new.id, pattern) and execution.matches(replace(where, id_prefix=None))


class LeavesOutTheFirstMoment(BrokenFilters, BrokenStore):
    """A bound excludes what was created exactly then."""

    breaks = "k3_"
    found_by_random_programs = False

    def finds(self, execution: StoredExecution, where: Where) -> bool:
        is_later = where.first_at is None or execution.created_at > where.first_at + 0.001
        return is_later and execution.matches(where)


class StillWaitsAfterTheEnd(BrokenStore):
    """Nobody takes away what an execution waited for when it has ended."""

    breaks = "j12_"

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        await super().append(claim, position, records, commit)
        if commit.status is not None and commit.waiting is not None:
            self._medium.executions[claim.execution_id].waiting = commit.waiting or None


class WaitsOnWhenItIsResumed(BrokenStore):
    """A resumed execution still waits for somebody to resume it."""

    breaks = "j12_"
    is_found_late = True

    async def resume(self, execution_id: str) -> bool:
        execution = self._medium.executions.get(execution_id)
        waiting = None if execution is None else execution.waiting
        resumed = await super().resume(execution_id)
        if execution is not None:
            execution.waiting = waiting
        return resumed


class DropsTheSummaryThatIsNotGivenAgain(BrokenStore):
    """An append without an overview takes the last one away."""

    breaks = "j12_"

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        await super().append(claim, position, records, commit)
        self._medium.executions[claim.execution_id].overview = commit.overview


class TagsBeforeItLooks(BrokenStore):
    """Tags are written first, and then the claim is checked."""

    breaks = "j12_"

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        if (execution := self._medium.executions.get(claim.execution_id)) is not None:
            execution.tags = changed(execution.tags, commit.tags)
        await super().append(claim, position, records, commit)


class ReplacesAllTags(BrokenStore):
    """A change of tags is the whole of them."""

    breaks = "k4_"

    async def tag(self, execution_id: str, changes: Mapping[str, str | None]) -> None:
        if (execution := self._medium.executions.get(execution_id)) is not None:
            execution.tags = {}
        await super().tag(execution_id, changes)


class TagsOnlyTheRunning(BrokenStore):
    """An execution that has ended does not change any more."""

    breaks = "k4_"

    async def tag(self, execution_id: str, changes: Mapping[str, str | None]) -> None:
        if execution_id in self._medium.running:
            await super().tag(execution_id, changes)


class ReadsTagsBeforeItWrites(BrokenStore):
    """Reading the tags and writing them are two operations."""

    breaks = "k4_"
    found_by_random_programs = False

    async def tag(self, execution_id: str, changes: Mapping[str, str | None]) -> None:
        execution = self._medium.executions.get(execution_id)
        known = {} if execution is None else dict(execution.tags)
        await asyncio.sleep(0)
        if execution is not None:
            execution.tags = known
        await super().tag(execution_id, changes)


class LetsTagsBecomeMany(BrokenStore):
    """Nobody counts the tags that there are already."""

    breaks = "k4_"
    found_by_random_programs = False

    async def tag(self, execution_id: str, changes: Mapping[str, str | None]) -> None:
        if (execution := self._medium.executions.get(execution_id)) is None:
            return await super().tag(execution_id, changes)
        execution.tags = changed(execution.tags, checked_changes(changes))
        return None


class FollowsFromTheCallOn(BrokenStore):
    """Following waits for the next append even if there are records to read."""

    breaks = "following_does_not_wait_"
    found_by_random_programs = False

    async def follow(self, execution_id: str, length: int, timeout_seconds: float) -> None:
        execution = self._medium.executions.get(execution_id)
        await super().follow(execution_id, len(execution.records) if execution else length, timeout_seconds)


class FollowsPastTheEnd(BrokenStore):
    """Following waits for more records of an execution that has ended."""

    breaks = "following_to_the_end_"
    found_by_random_programs = False

    async def follow(self, execution_id: str, length: int, timeout_seconds: float) -> None:
        def is_longer() -> bool:
            execution = self._medium.executions.get(execution_id)
            return execution is not None and len(execution.records) > length

        await self._until(is_longer, timeout_seconds)


class ForgetsTheRunning(BrokenStore):
    """An old execution is forgotten whether it has ended or not."""

    breaks = "k1_"

    def _is_over(self, execution: StoredExecution, ended_before: float | None) -> bool:
        is_old = ended_before is not None and execution.created_at < ended_before
        return is_old or super()._is_over(execution, ended_before)


class ForgetsWhatShouldBeKept(BrokenStore):
    """`ended_before` beats `keep_seconds`."""

    breaks = "k1_"

    def _is_over(self, execution: StoredExecution, ended_before: float | None) -> bool:
        is_before = None not in (ended_before, execution.ended_at)
        return super()._is_over(execution, ended_before) or (
            is_before and (execution.ended_at or 0.0) < (ended_before or 0.0)
        )


class ForgetsOnlyTheJournal(BrokenStore):
    """The head and the messages of a forgotten execution stay behind."""

    breaks = "k1_"

    async def prune(self, ended_before: float | None = None) -> int:
        executions = self._medium.executions.values()
        over = [execution for execution in executions if self._is_over(execution, ended_before)]
        for execution in over:
            execution.records.clear()
        return len(over)


BROKEN_STORES: tuple[type[BrokenStore], ...] = tuple(BrokenStore.__subclasses__())
