"""Stores that are right for a few records, messages and executions, and for whole seconds, and no further.

Each cuts what it returns, or rounds a time, in a way that a test with small numbers does not see.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from outlast.adapters.memory.store import StoredExecution
from outlast.core.records import Status
from outlast.ports.finding import EVERYTHING, Cursor, Where
from outlast.ports.journal import Claim, Commit, Delivery, Head, Message, NewExecution, PresentWorker, Work
from tests.broken.stores import BrokenStore

ROWS_OF_A_QUERY = 1000
EXECUTIONS_OF_A_QUERY = 100


class SizedStore(BrokenStore):
    """A store whose mistake shows only at a size or a moment that random programs do not come to."""

    breaks = ""
    found_by_random_programs = False


# Sizes -------------------------------------------------------------------------------------------------


class ReadsOnePageOfRecords(SizedStore):
    """The query for the records has a limit of its own, and is not made again."""

    breaks = "j11_a_long_journal_"

    async def read(self, execution_id: str, after: int = 0, limit: int | None = None) -> Sequence[bytes]:
        return await super().read(execution_id, after, min(limit or ROWS_OF_A_QUERY, ROWS_OF_A_QUERY))


class SkipsARecordBetweenPages(SizedStore):
    """A long journal is read page by page, and the next page begins one record too late."""

    breaks = "j11_a_long_journal_"

    async def read(self, execution_id: str, after: int = 0, limit: int | None = None) -> Sequence[bytes]:
        records = list(await super().read(execution_id, after, limit))
        return [r for place, r in enumerate(records) if place % (ROWS_OF_A_QUERY + 1) != ROWS_OF_A_QUERY]


class NumbersRecordsInThreeDigits(SizedStore):
    """Records are sorted by their number as text, which has three digits at least."""

    breaks = "j11_a_long_journal_"

    async def read(self, execution_id: str, after: int = 0, limit: int | None = None) -> Sequence[bytes]:
        records = list(enumerate(await super().read(execution_id)))
        records.sort(key=lambda numbered: f"{numbered[0]:03}")
        return [r for number, r in records if number >= after][:limit]


class InsertsSoManyRowsAtMost(SizedStore):
    """A statement takes a limited number of values, and what is over that is dropped."""

    breaks = "j5_an_append_of_many_"

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        await super().append(claim, position, records[:ROWS_OF_A_QUERY], commit)


class CreatesWithSoManyRecordsAtMost(SizedStore):
    """The records of a fork or an import are one statement, which takes a limited number of values."""

    breaks = "j5_an_append_of_many_"

    async def create(self, new: NewExecution, first: bytes, more: Sequence[bytes] = ()) -> tuple[Head, bool]:
        return await super().create(new, first, more[: ROWS_OF_A_QUERY - 1])


class ReadsOnePageOfMessages(SizedStore):
    """The query for the messages has a limit of its own."""

    breaks = "i4_a_full_inbox_"

    async def messages(self, execution_id: str, after: int, limit: int | None = None) -> Sequence[Delivery]:
        return await super().messages(execution_id, after, min(limit or ROWS_OF_A_QUERY, ROWS_OF_A_QUERY))


class ForgetsTheOldestIds(SizedStore):
    """Only the newest thousand ids of an inbox are remembered."""

    breaks = "i2_a_full_inbox_"

    async def send(self, execution_id: str, message: Message) -> None:
        if (execution := self._medium.executions.get(execution_id)) is not None:
            known = [delivery.message.id for delivery in execution.inbox[-ROWS_OF_A_QUERY:]]
            execution.message_ids = set(known)
        await super().send(execution_id, message)


class ClaimsOnePage(SizedStore):
    """A claim takes a hundred executions at most, whatever the limit is."""

    breaks = "l1_many_"

    async def claim(self, *args: Any, limit: int, **options: Any) -> Work:
        return await super().claim(*args, limit=min(limit, EXECUTIONS_OF_A_QUERY), **options)


class RenewsOnePage(SizedStore):
    """Of many claims the first hundred are renewed, and the rest are taken for good."""

    breaks = "l4_many_"

    async def renew(self, claims: Collection[Claim], lease_seconds: float) -> frozenset[str]:
        return await super().renew(list(islice(claims, EXECUTIONS_OF_A_QUERY)), lease_seconds)


class ReportsOnePageOfMail(SizedStore):
    """The mail of a hundred executions is reported, and the rest waits for the next message."""

    breaks = "the_mail_of_many_"

    async def claim(self, *args: Any, **options: Any) -> Work:
        work = await super().claim(*args, **options)
        return replace(work, mail=frozenset(sorted(work.mail)[:EXECUTIONS_OF_A_QUERY]))


class OwnsOnePage(SizedStore):
    """A worker is shown with a hundred executions at most."""

    breaks = "p4_a_worker_owns_many_"

    async def workers(self) -> Sequence[PresentWorker]:
        shown = await super().workers()
        return [replace(one, executions=one.executions[:EXECUTIONS_OF_A_QUERY]) for one in shown]


class ListsTwoHundredAtMost(SizedStore):
    """A page is never longer than two hundred, so that a caller takes it for the last one."""

    breaks = "k2_many_"

    async def heads(
        self, where: Where = EVERYTHING, *, limit: int = 100, after: Cursor | None = None
    ) -> Sequence[Head]:
        return await super().heads(where, limit=min(limit, 200), after=after)


class ForgetsOnePage(SizedStore):
    """A call forgets a hundred executions, and returns as if there were no more."""

    breaks = "k1_many_"

    async def prune(self, ended_before: float | None = None) -> int:
        over = [
            id for id, execution in self._medium.executions.items() if self._is_over(execution, ended_before)
        ]
        for id in over[:EXECUTIONS_OF_A_QUERY]:
            del self._medium.executions[id]
        return min(len(over), EXECUTIONS_OF_A_QUERY)


class CountsOneBatchOfTheForgotten(SizedStore):
    """All are forgotten, and the number returned is that of the last statement."""

    breaks = "k1_many_"

    async def prune(self, ended_before: float | None = None) -> int:
        count = await super().prune(ended_before)
        return count % EXECUTIONS_OF_A_QUERY if count > EXECUTIONS_OF_A_QUERY else count


# Moments -----------------------------------------------------------------------------------------------


class LeasesInTenthsOfASecond(SizedStore):
    """The end of a lease is cut to a tenth of a second."""

    breaks = "l2_nobody_claims_one_millisecond_before_the_lease_"

    def _take(self, execution: StoredExecution, worker: str, lease_until: float) -> Claim:
        return super()._take(execution, worker, math.floor(lease_until * 10) / 10)


class RenewsInTenthsOfASecond(SizedStore):
    """A renewed lease is cut to a tenth of a second, and a new one is not."""

    breaks = "l2_nobody_claims_one_millisecond_before_the_lease_"

    async def renew(self, claims: Collection[Claim], lease_seconds: float) -> frozenset[str]:
        lost = await super().renew(claims, lease_seconds)
        for claim in claims:
            if (execution := self._owned(claim)) is not None and execution.claimable_at is not None:
                execution.claimable_at = math.floor(execution.claimable_at * 10) / 10
        return lost


class WakesAMomentEarly(SizedStore):
    """An execution that is due within some milliseconds is claimed now, to save a wait."""

    breaks = "l2_nobody_claims_one_millisecond_before_a_timer_"

    def _seconds_until(self, execution: StoredExecution) -> float:
        seconds = super()._seconds_until(execution)
        return 0.0 if execution.owner is None and 0 < seconds < 0.005 else seconds


class KeepsDatesInHundredths(SizedStore):
    """The date of a timer is rounded to a hundredth of a second."""

    breaks = "l2_nobody_claims_one_millisecond_before_a_timer_"

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        if commit.wake_at is not None:
            commit = replace(commit, wake_at=math.floor(commit.wake_at * 100) / 100)
        await super().append(claim, position, records, commit)


class WakesTheHeldWithAMessageThatComesLate(SizedStore):
    """A message makes claimable what is held and would wake very soon by itself."""

    breaks = "l7_a_message_one_millisecond_before_"

    async def send(self, execution_id: str, message: Message) -> None:
        await super().send(execution_id, message)
        execution = self._medium.executions[execution_id]
        is_held = execution.owner is None and execution.ignores_mail
        if is_held and execution.claimable_at is not None and self._seconds_until(execution) < 0.01:
            execution.claimable_at, execution.is_date = self._clock.steady(), False


class LosesWorkersEarly(SizedStore):
    """The time until which a worker is alive is cut to a tenth of a second."""

    breaks = "p1_a_worker_is_listed_one_millisecond_before_"

    async def workers(self) -> Sequence[PresentWorker]:
        for identity, (card, until) in self._medium.announced.items():
            self._medium.announced[identity] = (card, math.floor(until * 10) / 10)
        return await super().workers()


class KeepsWholeSeconds(SizedStore):
    """The time for which an execution is kept is compared in whole seconds."""

    breaks = "k1_nothing_is_forgotten_one_millisecond_before_"

    def _is_over(self, execution: StoredExecution, ended_before: float | None) -> bool:
        keep_seconds = execution.new.keep_seconds
        if execution.status is Status.RUNNING or keep_seconds is None:
            return super()._is_over(execution, ended_before)
        passed = self._clock.now() - (execution.ended_at or 0.0)
        return round(passed) >= keep_seconds


SIZED_STORES: tuple[type[BrokenStore], ...] = tuple(SizedStore.__subclasses__())
