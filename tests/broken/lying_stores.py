"""Backends that break one promise each, since a store that lies stands before the real one."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import ClassVar

from outlast.core.records import Status
from outlast.ports.clock import Clock
from outlast.ports.finding import EVERYTHING, Cursor, Where
from outlast.ports.journal import (
    Claim,
    Commit,
    Delivery,
    Head,
    Message,
    NewExecution,
    Store,
    Work,
    WorkerCard,
)
from outlast.runtime.executions.journaled_backend import JournaledBackend
from outlast.testing.lifeline import Lifeline
from tests.broken.broken_backend import BrokenBackend


class TakesAnyStartForTheSame(BrokenBackend):
    """An id that exists is enough; workflow and input are not compared."""

    breaks = "d1_"

    class lifeline(Lifeline):
        async def create(
            self, new: NewExecution, first: bytes, more: Sequence[bytes] = ()
        ) -> tuple[Head, bool]:
            head, created = await super().create(new, first, more)
            return replace(head, workflow=new.workflow, fingerprint=new.fingerprint), created


class RefusesEverySecondStart(BrokenBackend):
    """An id that exists is an error, also for the same start."""

    breaks = "d1_"

    class lifeline(Lifeline):
        async def create(
            self, new: NewExecution, first: bytes, more: Sequence[bytes] = ()
        ) -> tuple[Head, bool]:
            head, created = await super().create(new, first, more)
            return (head if created else replace(head, fingerprint="another")), created


class WritesBehind(BrokenBackend):
    """An append is acknowledged at once, and written when the next call comes."""

    breaks = "d3_"

    class lifeline(Lifeline):
        _behind: tuple[Claim, int, Sequence[bytes], Commit] | None = None

        async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
            await self._catch_up()
            if commit.release or commit.status is not None:
                await super().append(claim, position, records, commit)
            else:
                self._behind = (claim, position, records, commit)

        async def _catch_up(self) -> None:
            behind, self._behind = self._behind, None
            if behind is not None:
                await super().append(*behind)

        async def renew(self, claims: Collection[Claim], lease_seconds: float) -> frozenset[str]:
            await self._catch_up()
            return await super().renew(claims, lease_seconds)


class TakesEveryClaimForARegularOne(BrokenBackend):
    """Nobody asks whether the last owner was lost, so an attempt that may have run is made once more."""

    breaks = "d4_"

    class lifeline(Lifeline):
        async def claim(
            self,
            worker: str,
            workflows: Collection[str],
            task_queue: str,
            *,
            limit: int,
            lease_seconds: float,
        ) -> Work:
            work = await super().claim(
                worker, workflows, task_queue, limit=limit, lease_seconds=lease_seconds
            )
            return replace(work, claims=tuple(replace(claim, recovered_from=None) for claim in work.claims))


class DoesNotFence(BrokenBackend):
    """A worker whose lease was lost writes all the same, behind whatever is there by now."""

    breaks = "d6_"

    class lifeline(Lifeline):
        async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
            async def write() -> None:
                execution = self._store._medium.executions[claim.execution_id]  # type: ignore[attr-defined]
                if execution.status is Status.RUNNING:
                    valid = replace(claim, token=execution.token)
                    await self._store.append(valid, len(execution.records), records, commit)
                else:
                    execution.records.extend(records)

            await self._pass_on("append", write)


class RenewsWhatIsLost(BrokenBackend):
    """A worker that cannot renew a lease gives up all the work it does."""

    breaks = "d6_"

    class lifeline(Lifeline):
        async def renew(self, claims: Collection[Claim], lease_seconds: float) -> frozenset[str]:
            if lost := await super().renew(claims, lease_seconds):
                raise RuntimeError(f"lost {lost}")
            return lost


class LeasesForEver(BrokenBackend):
    """The lease is far longer than it was asked to be."""

    breaks = "d7_"

    class lifeline(Lifeline):
        async def claim(
            self,
            worker: str,
            workflows: Collection[str],
            task_queue: str,
            *,
            limit: int,
            lease_seconds: float,
        ) -> Work:
            return await super().claim(
                worker, workflows, task_queue, limit=limit, lease_seconds=100 * lease_seconds
            )


class _HastyClock(Clock):
    """A clock that is right in the beginning, and runs too fast."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = clock.now()

    def now(self) -> float:
        return self._began + 1.5 * (self._clock.now() - self._began)

    def steady(self) -> float:
        return self._clock.steady()

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds / 1.5)


class FiresTimersEarly(BrokenBackend):
    """Timers go by a clock that is faster than the world's."""

    breaks = "d8_"

    def backend_on(self, store: Store) -> JournaledBackend:
        return JournaledBackend(store, _HastyClock(self.clock), self.open_deltas())


class ForgetsTimers(BrokenBackend):
    """A released execution is only woken by messages."""

    breaks = "d8_"

    class lifeline(Lifeline):
        async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
            await super().append(claim, position, records, replace(commit, wake_at=None))


class LosesASignal(BrokenBackend):
    """Of several messages that wait, the first is taken and all are counted as consumed."""

    breaks = "d9_"

    class lifeline(Lifeline):
        async def messages(
            self, execution_id: str, after: int, limit: int | None = None
        ) -> Sequence[Delivery]:
            waiting = await super().messages(execution_id, after, limit)
            return [replace(waiting[0], number=waiting[-1].number)] if waiting else []


class AppliesASignalTwice(BrokenBackend):
    """The number of the last consumed message is forgotten with the worker."""

    breaks = "d9_"

    class lifeline(Lifeline):
        _read: ClassVar[defaultdict[str, dict[int, Delivery]]] = defaultdict(dict)
        """All messages that were read, by execution and number: those that were consumed come again."""

        async def messages(
            self, execution_id: str, after: int, limit: int | None = None
        ) -> Sequence[Delivery]:
            is_first = not self.calls["messages"]
            read = self._read[execution_id]
            read.update((one.number, one) for one in await super().messages(execution_id, after, limit))
            return [one for number, one in sorted(read.items()) if is_first or number > after][:limit]


class ReversesSignals(BrokenBackend):
    """The newest message comes first."""

    breaks = "d9_"

    class lifeline(Lifeline):
        async def messages(
            self, execution_id: str, after: int, limit: int | None = None
        ) -> Sequence[Delivery]:
            waiting = await super().messages(execution_id, after, limit)
            numbers = [delivery.number for delivery in waiting]
            turned = [delivery.message for delivery in reversed(waiting)]
            return [Delivery(number, message) for number, message in zip(numbers, turned, strict=True)]


class IgnoresCancellation(BrokenBackend):
    """A request to cancel is taken for sent, and is not."""

    breaks = "d10_"

    class lifeline(Lifeline):
        async def send(self, execution_id: str, message: Message) -> None:
            if b'"cancel"' not in message.body:
                await super().send(execution_id, message)


class LosesUpdates(BrokenBackend):
    """An update is delivered only where a worker owns the execution already."""

    breaks = "d18_"

    class lifeline(Lifeline):
        async def send(self, execution_id: str, message: Message) -> None:
            head = await self.head(execution_id)
            if b'"update"' not in message.body or (head is not None and head.owner is not None):
                await super().send(execution_id, message)


class DoesNotSayWhatDeparts(BrokenBackend):
    """An execution that cannot go on looks like any other."""

    breaks = "d11_"

    class lifeline(Lifeline):
        async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
            await super().append(claim, position, records, replace(commit, reason=None))


class ForgetsARecoveryThatCannotGoOn(BrokenBackend):
    """The wrong code takes an execution over from a lost worker, and gives it back as if nothing had run."""

    breaks = "d11_"

    class lifeline(Lifeline):
        async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
            kept = () if commit.reason is not None else records
            await super().append(claim, position, kept, commit)


class KnowsNoLimit(BrokenBackend):
    """Nothing is measured before it is given to the store."""

    breaks = "d12_"

    class lifeline(Lifeline):
        @property
        def limit_bytes(self) -> int:
            return 1 << 40


class StoresItsSurroundings(BrokenBackend):
    """The start of an execution stores the environment of its process."""

    breaks = "d14_"

    class lifeline(Lifeline):
        async def create(
            self, new: NewExecution, first: bytes, more: Sequence[bytes] = ()
        ) -> tuple[Head, bool]:
            return await super().create(
                replace(new, fingerprint=f"{new.fingerprint} {os.environ}"), first, more
            )


class StopsWithoutAWord(BrokenBackend):
    """A worker that stops drops everything; its leases run out by themselves."""

    breaks = "d15_"

    class lifeline(Lifeline):
        async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
            if not commit.release:
                await super().append(claim, position, records, commit)


class TakesAllThereIs(BrokenBackend):
    """A worker claims more executions than its options allow."""

    breaks = "d16_"

    class lifeline(Lifeline):
        async def claim(
            self,
            worker: str,
            workflows: Collection[str],
            task_queue: str,
            *,
            limit: int,
            lease_seconds: float,
        ) -> Work:
            return await super().claim(
                worker, workflows, task_queue, limit=limit + 100, lease_seconds=lease_seconds
            )


class AnnouncesItsWorkersOnce(BrokenBackend):
    """A worker that lives longer than a lease is taken for dead."""

    breaks = "workers_that_are_alive_"

    class lifeline(Lifeline):
        async def announce(self, card: WorkerCard, lease_seconds: float) -> None:
            if not self.calls["announce"]:
                await super().announce(card, lease_seconds)


class StopsWithoutLeaving(BrokenBackend):
    """A worker that has stopped is listed until its lease has run out."""

    breaks = "workers_that_are_alive_"

    class lifeline(Lifeline):
        async def leave(self, identity: str) -> None:
            return None


class PagesByTime(BrokenBackend):
    """The next page begins after the time of the last execution: others of that time are in no page."""

    breaks = "d26_"

    class lifeline(Lifeline):
        async def heads(
            self, where: Where = EVERYTHING, *, limit: int = 100, after: Cursor | None = None
        ) -> Sequence[Head]:
            return await super().heads(where, limit=limit, after=after and replace(after, id=""))


class FiltersWhatItGot(BrokenBackend):
    """The store is asked for a page, and then some of it is left out."""

    breaks = "d26_"

    class lifeline(Lifeline):
        async def heads(
            self, where: Where = EVERYTHING, *, limit: int = 100, after: Cursor | None = None
        ) -> Sequence[Head]:
            page = await super().heads(limit=limit, after=after)
            return [head for head in page if where.workflow in (None, head.workflow)]


class LosesTheTagsOfCode(BrokenBackend):
    """Tags from code are in the stream, and nothing else knows them."""

    breaks = "d26_"

    class lifeline(Lifeline):
        async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
            await super().append(claim, position, records, replace(commit, tags={}))


class ForgetsTagsWhereItCopies(BrokenBackend):
    """A fork, and an import, begin without tags."""

    breaks = "d26_"

    class lifeline(Lifeline):
        async def create(
            self, new: NewExecution, first: bytes, more: Sequence[bytes] = ()
        ) -> tuple[Head, bool]:
            return await super().create(replace(new, tags={}) if more else new, first, more)
