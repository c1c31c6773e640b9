"""Stores that are right for one caller at a time: a look and a write that others can come between.

The store in memory has no moment between the two; each of these makes one, as a database without the right
transaction, lock or condition has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any, ClassVar

from outlast.core.errors import LeaseLost
from outlast.core.records import Status
from outlast.ports.journal import Claim, Commit, Delivery, Message, Work
from tests.broken.stores import BrokenStore


class CrowdedStore(BrokenStore):
    """A store whose mistake needs two callers at once, which no random program has."""

    breaks = ""
    found_by_random_programs = False

    async def moment(self) -> None:
        """Let others come in between."""
        for _ in range(3):
            await asyncio.sleep(0)


# Readers beside a writer -------------------------------------------------------------------------------


class AppendsPieceByPiece(CrowdedStore):
    """Each record of an append is a transaction of its own, and the owner notices nothing."""

    breaks = "j5_a_reader_that_polls_"

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        for offset, record in enumerate(records[:-1]):
            await super().append(claim, position + offset, [record], Commit())
            await self.moment()
        written = max(len(records) - 1, 0)
        await super().append(claim, position + written, records[-1:], commit)


class ShowsTheLengthBeforeTheRecords(CrowdedStore):
    """The row of the execution is committed first, and then the rows of its records."""

    breaks = "j5_a_reader_that_polls_"
    _pending: ClassVar[dict[int, int]] = {}

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        await super().append(claim, position, records, commit)
        execution = self._medium.executions[claim.execution_id]
        self._pending[id(execution)] = position
        await self.moment()
        self._pending.pop(id(execution), None)

    async def read(self, execution_id: str, after: int = 0, limit: int | None = None) -> Sequence[bytes]:
        records = await super().read(execution_id, after, limit)
        shown = self._pending.get(id(self._medium.executions.get(execution_id)))
        return records if shown is None else records[: max(shown - after, 0)]


class ShowsTheLastRecordFirst(CrowdedStore):
    """Records become visible in any order, so that a reader for a moment sees one after a gap."""

    breaks = "j5_a_reader_that_polls_"
    _hidden: ClassVar[dict[int, int]] = {}

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        await super().append(claim, position, records, commit)
        execution = self._medium.executions[claim.execution_id]
        if len(records) > 1:
            self._hidden[id(execution)] = position
            await self.moment()
            self._hidden.pop(id(execution), None)

    async def read(self, execution_id: str, after: int = 0, limit: int | None = None) -> Sequence[bytes]:
        hidden = self._hidden.get(id(self._medium.executions.get(execution_id)))
        numbered = list(enumerate(await super().read(execution_id)))[after:]
        return [record for number, record in numbered if number != hidden][:limit]


class EndsBeforeTheLastRecords(CrowdedStore):
    """The end of an execution is committed before the records that lead to it."""

    breaks = "j5_a_reader_that_polls_"

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        await super().append(claim, position, records, commit)
        if commit.status is not None and records:
            execution = self._medium.executions[claim.execution_id]
            execution.records = execution.records[:position]
            await self.moment()
            execution.records += records


class ReadsMessagesBehindAGap(CrowdedStore):
    """A number is taken, and its message is written a moment later than the next one."""

    breaks = "i1_a_reader_that_polls_"
    _late: ClassVar[set[tuple[int, str]]] = set()

    async def send(self, execution_id: str, message: Message) -> None:
        await super().send(execution_id, message)
        inbox = self._medium.executions[execution_id].inbox
        if len(inbox) % 3 == 0:
            late = (id(self._medium), message.id)
            self._late.add(late)
            await self.moment()
            self._late.discard(late)

    async def messages(self, execution_id: str, after: int, limit: int | None = None) -> Sequence[Delivery]:
        deliveries = await super().messages(execution_id, after)
        medium = id(self._medium)
        return [one for one in deliveries if (medium, one.message.id) not in self._late][:limit]


class NumbersByTheTimeOfTheCall(CrowdedStore):
    """Messages are sorted by the time at which their transaction began, which is not that of its end."""

    breaks = "i1_a_reader_that_polls_"
    _begun: ClassVar[count[int]] = count()
    _numbers: ClassVar[dict[int, dict[str, int]]] = {}

    async def send(self, execution_id: str, message: Message) -> None:
        number = next(self._begun)
        if number % 2:
            await self.moment()
        await super().send(execution_id, message)
        execution = self._medium.executions[execution_id]
        begun = self._numbers.setdefault(id(execution), {})
        begun.setdefault(message.id, number)
        execution.inbox.sort(key=lambda delivery: begun.get(delivery.message.id, -1))
        execution.inbox[:] = [replace(one, number=place) for place, one in enumerate(execution.inbox, 1)]


# Between a check and its write -------------------------------------------------------------------------


class ChecksTheClaimBeforeItWrites(CrowdedStore):
    """The claim is checked in one statement, and the records are written in the next."""

    breaks = "j4_a_takeover_during_an_append_"

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        execution = self._owned(claim)
        if execution is None or len(execution.records) != position:
            raise LeaseLost(claim.execution_id)
        await self.moment()
        if execution.status is Status.RUNNING:
            execution.owner = execution.owner or claim.worker
            valid = replace(claim, token=execution.token)
            await super().append(valid, len(execution.records), records, commit)


class TakesOverWithAnOldLength(CrowdedStore):
    """A claim reads the length of the journal, and takes the execution a moment later."""

    breaks = "j4_a_takeover_during_an_append_"

    async def claim(self, *args: Any, **options: Any) -> Work:
        lengths = {id: len(execution.records) for id, execution in self._medium.running.items()}
        await self.moment()
        work = await super().claim(*args, **options)
        claims = [replace(one, length=lengths.get(one.execution_id, one.length)) for one in work.claims]
        return replace(work, claims=tuple(claims))


class ChecksTheClaimBeforeItRenews(CrowdedStore):
    """The claims that are good are looked up, and then the leases of their executions are written."""

    breaks = "l4_a_takeover_during_a_renewal_"

    async def renew(self, claims: Collection[Claim], lease_seconds: float) -> frozenset[str]:
        good = [claim for claim in claims if self._owned(claim) is not None]
        await self.moment()
        for claim in good:
            if (execution := self._medium.running.get(claim.execution_id)) is not None:
                execution.claimable_at = self._clock.steady() + lease_seconds
        return frozenset(claim.execution_id for claim in claims if claim not in good)


class TakesOverWhatWasRenewed(CrowdedStore):
    """Leases that ran out are looked up, and then taken without a second look at their end."""

    breaks = "l4_a_takeover_during_a_renewal_"

    async def claim(self, *args: Any, **options: Any) -> Work:
        running = self._medium.running.items()
        seen = {id: (one.claimable_at, one.token, one.owner) for id, one in running}
        await self.moment()
        for id, (claimable_at, token, owner) in seen.items():
            execution = self._medium.running.get(id)
            if execution is not None and owner is not None and execution.token == token:
                execution.claimable_at = claimable_at
        return await super().claim(*args, **options)


class ChecksTheLengthBeforeItAmends(CrowdedStore):
    """An amendment looks at the length of the journal, and writes a moment later."""

    breaks = "j8_an_append_during_an_amendment_"

    async def amend(self, execution_id: str, position: int, record: bytes, status: Status) -> bool:
        execution = self._medium.executions.get(execution_id)
        if execution is not None and len(execution.records) == position:
            await self.moment()
            position = len(execution.records)
        return await super().amend(execution_id, position, record, status)


class ChecksTheEndBeforeItSends(CrowdedStore):
    """A message finds the execution running, and is written when it has ended."""

    breaks = "i3_a_message_during_the_end_"

    async def send(self, execution_id: str, message: Message) -> None:
        execution = self._medium.executions.get(execution_id)
        is_running = execution is not None and execution.status is Status.RUNNING
        await self.moment()
        if execution is None or not is_running or execution.status is Status.RUNNING:
            return await super().send(execution_id, message)
        return None


class LooksIntoTheInboxBeforeItReleases(CrowdedStore):
    """A release asks whether there is mail, and says a moment later that there is none."""

    breaks = "l2_a_message_during_a_release_"

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        execution = self._medium.executions.get(claim.execution_id)
        had_mail = execution is not None and execution.has_mail
        await self.moment()
        await super().append(claim, position, records, commit)
        if execution is not None and commit.release and commit.wake_at is None and not had_mail:
            execution.claimable_at = None


class SkipsWhatIsLocked(CrowdedStore):
    """A claim skips the rows that somebody writes to, and does not look again."""

    breaks = "a_claim_passes_over_nothing_"
    _locked: ClassVar[set[tuple[int, str]]] = set()

    async def tag(self, execution_id: str, changes: Mapping[str, str | None]) -> None:
        lock = (id(self._medium), execution_id)
        self._locked.add(lock)
        await self.moment()
        self._locked.discard(lock)
        await super().tag(execution_id, changes)

    async def claim(self, *args: Any, **options: Any) -> Work:
        medium, running = self._medium, self._medium.running
        locked = {name: one for name, one in running.items() if (id(medium), name) in self._locked}
        medium.running = {name: one for name, one in running.items() if name not in locked}
        try:
            return await super().claim(*args, **options)
        finally:
            medium.running = running


class WritesBackWhatItRead(CrowdedStore):
    """To tag, the whole row is read and written again, with the owner that it had."""

    breaks = "a_claim_passes_over_nothing_"

    async def tag(self, execution_id: str, changes: Mapping[str, str | None]) -> None:
        execution = self._medium.executions[execution_id]
        owner, token, claimable_at = execution.owner, execution.token, execution.claimable_at
        await self.moment()
        execution.owner, execution.token, execution.claimable_at = owner, token, claimable_at
        await super().tag(execution_id, changes)


class LosesTagsToAClaim(CrowdedStore):
    """To claim, the whole row is read and written again, with the tags that it had."""

    breaks = "a_claim_passes_over_nothing_"

    async def claim(self, *args: Any, **options: Any) -> Work:
        tags = {id: dict(execution.tags) for id, execution in self._medium.running.items()}
        await self.moment()
        work = await super().claim(*args, **options)
        for claim in work.claims:
            self._medium.executions[claim.execution_id].tags = tags.get(claim.execution_id, {})
        return work


CROWDED_STORES: tuple[type[BrokenStore], ...] = tuple(CrowdedStore.__subclasses__())
