"""Mutants of a store: the store that is examined, with one deliberate mistake around it.

They show that its suite bites, with the capabilities and the storage that somebody has given it: a suite that
skips what a store lacks may no longer see a mistake that the suite of another store sees. Each mutant names
the promise that it breaks, and is caught when a test of that promise fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import ClassVar

from outlast.core.errors import ExecutionAlreadyEnded, LeaseLost, PayloadTooLarge
from outlast.core.records import Status
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


class Mutant(Store):
    """Passes every call on; a subclass makes one mistake, which its docstring says."""

    breaks: ClassVar[str]
    """The promise, as in the names of tests after `test_`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def __aenter__(self) -> Mutant:
        await self._store.__aenter__()
        return self

    async def __aexit__(self, *details: object) -> None:
        await self._store.__aexit__(*details)

    @property
    def limit_bytes(self) -> int:
        return self._store.limit_bytes

    async def create(self, new: NewExecution, first: bytes, more: Sequence[bytes] = ()) -> tuple[Head, bool]:
        return await self._store.create(new, first, more)

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        await self._store.append(claim, position, records, commit)

    async def amend(self, execution_id: str, position: int, record: bytes, status: Status) -> bool:
        return await self._store.amend(execution_id, position, record, status)

    async def read(self, execution_id: str, after: int = 0, limit: int | None = None) -> Sequence[bytes]:
        return await self._store.read(execution_id, after, limit)

    async def follow(self, execution_id: str, length: int, timeout_seconds: float) -> None:
        await self._store.follow(execution_id, length, timeout_seconds)

    async def send(self, execution_id: str, message: Message) -> None:
        await self._store.send(execution_id, message)

    async def messages(self, execution_id: str, after: int, limit: int | None = None) -> Sequence[Delivery]:
        return await self._store.messages(execution_id, after, limit)

    async def claim(
        self, worker: str, workflows: Collection[str], task_queue: str, *, limit: int, lease_seconds: float
    ) -> Work:
        return await self._store.claim(
            worker, workflows, task_queue, limit=limit, lease_seconds=lease_seconds
        )

    async def renew(self, claims: Collection[Claim], lease_seconds: float) -> frozenset[str]:
        return await self._store.renew(claims, lease_seconds)

    async def wait(self, version: int, timeout_seconds: float) -> None:
        await self._store.wait(version, timeout_seconds)

    async def resume(self, execution_id: str) -> bool:
        return await self._store.resume(execution_id)

    async def announce(self, card: WorkerCard, lease_seconds: float) -> None:
        await self._store.announce(card, lease_seconds)

    async def leave(self, identity: str) -> None:
        await self._store.leave(identity)

    async def workers(self) -> Sequence[PresentWorker]:
        return await self._store.workers()

    async def head(self, execution_id: str) -> Head | None:
        return await self._store.head(execution_id)

    async def heads(
        self, where: Where = EVERYTHING, *, limit: int = 100, after: Cursor | None = None
    ) -> Sequence[Head]:
        return await self._store.heads(where, limit=limit, after=after)

    async def tag(self, execution_id: str, changes: Mapping[str, str | None]) -> None:
        await self._store.tag(execution_id, changes)

    async def prune(self, ended_before: float | None = None) -> int:
        return await self._store.prune(ended_before)


# The journal -------------------------------------------------------------------------------------------


class AlwaysSaysCreated(Mutant):
    """It says of an id that exists that it was created now."""

    breaks = "j1_"

    async def create(self, new: NewExecution, first: bytes, more: Sequence[bytes] = ()) -> tuple[Head, bool]:
        head, _ = await super().create(new, first, more)
        return head, True


class CreatesAfterALook(Mutant):
    """It looks for the id, and then says what it saw."""

    breaks = "j2_"

    async def create(self, new: NewExecution, first: bytes, more: Sequence[bytes] = ()) -> tuple[Head, bool]:
        is_new = await self.head(new.id) is None
        await asyncio.sleep(0)
        return (await super().create(new, first, more))[0], is_new


class LosesTheLastRecord(Mutant):
    """It does not keep the last record of an append."""

    breaks = "j3_"

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        await super().append(claim, position, records[:-1], commit)


class AppendsAtAnyPosition(Mutant):
    """It does not compare the position with the length of the journal."""

    breaks = "j4_"

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        head = await self.head(claim.execution_id)
        await super().append(claim, position if head is None else head.length, records, commit)


class HidesALostLease(Mutant):
    """It says nothing when an append is refused."""

    breaks = "j4_"

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        with suppress(LeaseLost):
            await super().append(claim, position, records, commit)


class AppendsOneByOne(Mutant):
    """It writes each record in a transaction of its own."""

    breaks = "j5_"

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        for number, record in enumerate(records[:-1]):
            await super().append(claim, position + number, [record], Commit(fruitless=None))
        written = max(len(records) - 1, 0)
        await super().append(claim, position + written, records[written:], commit)


class CutsWhatIsTooLong(Mutant):
    """It keeps the beginning of a record that is too long."""

    breaks = "j6_"

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        cut = [record[: self.limit_bytes] for record in records]
        await super().append(claim, position, cut, commit)


class AmendsAtAnyPosition(Mutant):
    """It does not compare the position when it adds a record without a claim."""

    breaks = "j8_"

    async def amend(self, execution_id: str, position: int, record: bytes, status: Status) -> bool:
        head = await self.head(execution_id)
        return await super().amend(execution_id, head.length if head else position, record, status)


class NeverOpensAgain(Mutant):
    """It adds the record that opens an execution again, and leaves it closed."""

    breaks = "j10_"

    async def amend(self, execution_id: str, position: int, record: bytes, status: Status) -> bool:
        head = await self.head(execution_id)
        if status is Status.RUNNING and head is not None and head.status is not Status.RUNNING:
            return head.length == position
        return await super().amend(execution_id, position, record, status)


class ReadsWithoutALimit(Mutant):
    """It returns all records, whatever the limit."""

    breaks = "j11_"

    async def read(self, execution_id: str, after: int = 0, limit: int | None = None) -> Sequence[bytes]:
        return await super().read(execution_id, after)


class ForgetsTheSummary(Mutant):
    """It does not keep what an append says for lists."""

    breaks = "j12_"

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        await super().append(claim, position, records, replace(commit, overview=None))


# Messages ----------------------------------------------------------------------------------------------


class ReturnsTheLastMessageFirst(Mutant):
    """It returns messages in the wrong order."""

    breaks = "i1_"

    async def messages(self, execution_id: str, after: int, limit: int | None = None) -> Sequence[Delivery]:
        found = await super().messages(execution_id, after, limit)
        return [
            replace(delivery, message=other.message)
            for delivery, other in zip(found, reversed(found), strict=True)
        ]


class KeepsADuplicate(Mutant):
    """It keeps a message again that is sent again."""

    breaks = "i2_"

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._sent = 0

    async def send(self, execution_id: str, message: Message) -> None:
        self._sent += 1
        await super().send(execution_id, replace(message, id=f"{message.id}-{self._sent}"))


class TakesMessagesAfterTheEnd(Mutant):
    """It says nothing when a message comes too late."""

    breaks = "i3_"

    async def send(self, execution_id: str, message: Message) -> None:
        with suppress(ExecutionAlreadyEnded):
            await super().send(execution_id, message)


class CutsALongMessage(Mutant):
    """It says nothing of a message that is too long."""

    breaks = "i3_"

    async def send(self, execution_id: str, message: Message) -> None:
        with suppress(PayloadTooLarge):
            await super().send(execution_id, message)


class DeliversWithoutALimit(Mutant):
    """It returns all messages, whatever the limit."""

    breaks = "i4_"

    async def messages(self, execution_id: str, after: int, limit: int | None = None) -> Sequence[Delivery]:
        return await super().messages(execution_id, after)


# Leases ------------------------------------------------------------------------------------------------


class ShortensLeases(Mutant):
    """Its leases last half as long as they should."""

    breaks = "l2_"

    async def claim(
        self, worker: str, workflows: Collection[str], task_queue: str, *, limit: int, lease_seconds: float
    ) -> Work:
        return await super().claim(
            worker, workflows, task_queue, limit=limit, lease_seconds=lease_seconds / 2
        )


class HidesThePreviousOwner(Mutant):
    """It does not say from whom an execution was taken."""

    breaks = "l3_"

    async def claim(
        self, worker: str, workflows: Collection[str], task_queue: str, *, limit: int, lease_seconds: float
    ) -> Work:
        work = await super().claim(worker, workflows, task_queue, limit=limit, lease_seconds=lease_seconds)
        return replace(work, claims=tuple(replace(claim, recovered_from=None) for claim in work.claims))


class HidesLostClaims(Mutant):
    """A renewal loses nothing, whatever was lost."""

    breaks = "l4_"

    async def renew(self, claims: Collection[Claim], lease_seconds: float) -> frozenset[str]:
        await super().renew(claims, lease_seconds)
        return frozenset()


class RenewsNothing(Mutant):
    """A renewal leaves the lease as it was."""

    breaks = "l4_"

    async def renew(self, claims: Collection[Claim], lease_seconds: float) -> frozenset[str]:
        return frozenset()


class WaitsForTheTimeout(Mutant):
    """Its waits notice nothing that happens."""

    breaks = "l5_"

    async def wait(self, version: int, timeout_seconds: float) -> None:
        await asyncio.Event().wait()


class ForgetsFruitlessClaims(Mutant):
    """It does not count the claims that were lost without progress."""

    breaks = "l6_"

    async def claim(
        self, worker: str, workflows: Collection[str], task_queue: str, *, limit: int, lease_seconds: float
    ) -> Work:
        work = await super().claim(worker, workflows, task_queue, limit=limit, lease_seconds=lease_seconds)
        return replace(work, claims=tuple(replace(claim, fruitless=0) for claim in work.claims))


class HoldsNothing(Mutant):
    """Messages wake an execution that was released with `hold`."""

    breaks = "l7_"

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        await super().append(claim, position, records, replace(commit, hold=False))


class ResumesInWordsOnly(Mutant):
    """It says that it has resumed an execution, and leaves it held."""

    breaks = "l8_"

    async def resume(self, execution_id: str) -> bool:
        head = await self.head(execution_id)
        return head is not None and head.held


# Workers and lists -------------------------------------------------------------------------------------


class ShowsDeadWorkers(Mutant):
    """It lists a worker for longer than was announced."""

    breaks = "p1_"

    async def announce(self, card: WorkerCard, lease_seconds: float) -> None:
        await super().announce(card, 1000 * lease_seconds)


class KeepsWhoHasLeft(Mutant):
    """It lists workers that have left."""

    breaks = "p3_"

    async def leave(self, identity: str) -> None:
        """Keep it."""


class HidesWhatWorkersDo(Mutant):
    """It lists workers without their executions."""

    breaks = "p4_"

    async def workers(self) -> Sequence[PresentWorker]:
        return [replace(worker, executions=()) for worker in await super().workers()]


class ForgetsOnlyToday(Mutant):
    """It forgets nothing that has ended."""

    breaks = "k1_"

    async def prune(self, ended_before: float | None = None) -> int:
        return 0


class BeginsEveryPageAnew(Mutant):
    """It takes no notice of the place in a list."""

    breaks = "k2_"

    async def heads(
        self, where: Where = EVERYTHING, *, limit: int = 100, after: Cursor | None = None
    ) -> Sequence[Head]:
        return await super().heads(where, limit=limit)


class FiltersAfterTheLimit(Mutant):
    """Its limit counts what the filter leaves out."""

    breaks = "k3_"

    async def heads(
        self, where: Where = EVERYTHING, *, limit: int = 100, after: Cursor | None = None
    ) -> Sequence[Head]:
        page = {head.id for head in await super().heads(limit=limit, after=after)}
        return [head for head in await super().heads(where, limit=limit, after=after) if head.id in page]


class RemovesNoTag(Mutant):
    """It adds and replaces tags, and removes none."""

    breaks = "k4_"

    async def tag(self, execution_id: str, changes: Mapping[str, str | None]) -> None:
        kept = {name: value for name, value in changes.items() if value is not None}
        await super().tag(execution_id, kept)


MUTANTS: tuple[type[Mutant], ...] = tuple(Mutant.__subclasses__())
