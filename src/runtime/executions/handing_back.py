"""Handing back: a worker gives up an execution that it, or any worker, cannot carry on for now."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from outlast.core.errors import LeaseLost, StorageError
from outlast.core.records import AnyRecord, ExecutionHeld, ExecutionRecovered, encode_record
from outlast.core.waiting import WaitingKind
from outlast.ports.clock import Clock
from outlast.ports.journal import Claim, Commit, Store, as_reason
from outlast.runtime.executions.journal_reading import decoded, read_journal
from outlast.runtime.executions.lost_workers import (
    Witness,
    kept,
    lost_reason,
    recovery,
    stuck_reason,
    waiting_reason,
)
from outlast.runtime.executions.store_retry import append_once
from outlast.runtime.executions.suspects import FRUITLESS_MAX

logger = logging.getLogger("outlast.worker")


@dataclass(frozen=True, slots=True)
class HandingBack:
    """Releases claims in one append each, so that no fact about them is lost.

    Every method raises `LeaseLost` if another worker owns the execution.
    """

    store: Store
    clock: Clock
    witness: Witness
    lease_seconds: float
    """The lease of the worker. What cannot go on is left alone for so long before the next try."""

    async def record_recovery(self, claim: Claim, commit: Commit) -> int:
        """Record a recovery, if the claim was taken from a lost worker; return the journal's length."""
        now = self.clock.now()
        records = [encode_record(recovery(claim, now, self.witness))] if claim.recovered else []
        await append_once(self.store, self.clock, claim, claim.length, records, commit)
        return claim.length + len(records)

    async def keep_count(self, claim: Claim) -> None:
        """Write down what the losses so far count; from then on the loss of this claim may count too."""
        commit = Commit(fruitless=kept(claim.fruitless))
        await append_once(self.store, self.clock, claim, claim.length, [], commit)

    async def give_back(self, claim: Claim, after_seconds: float) -> None:
        """Release an execution that was not begun; a worker with room may claim it after that time."""
        reason = as_reason(waiting_reason(claim.fruitless)) if after_seconds else None
        commit = Commit(
            release=True,
            hold=after_seconds > 0,
            wake_in=after_seconds,
            reason=reason,
            fruitless=kept(claim.fruitless),
        )
        await self.record_recovery(claim, commit)

    async def put_off(
        self,
        claim: Claim,
        reason: str,
        *,
        in_doubt: bool,
        fruitless: int,
        waiting: WaitingKind | None = None,
    ) -> None:
        """Release an execution that cannot go on, and leave it alone for a lease, even if it gets messages.

        If given, `waiting` is what it waits for from now on.
        Attempts that were under way have been cut short. If the journal does not say how they ended, a record
        says that they are `in_doubt`: the next worker cannot see that from a released claim.
        """
        now = self.clock.now()
        commit = Commit(
            release=True,
            hold=True,
            wake_in=self.lease_seconds,
            reason=as_reason(reason),
            fruitless=kept(fruitless),
            waiting=waiting,
        )
        await self._release(claim, [ExecutionRecovered(at=now)] if in_doubt else [], commit)

    async def hold_stuck(
        self, claim: Claim, problem: str, *, in_doubt: bool, times: int, is_readable: bool
    ) -> None:
        """Hold an execution that workers could not carry on several times in a row.

        Nothing is appended to a journal that is not `is_readable`: somebody may be able to repair it.
        """
        now = self.clock.now()
        reason = as_reason(stuck_reason(claim.execution_id, times, problem))
        logger.error("execution %s is held: %s", claim.execution_id, reason)
        records: list[AnyRecord] = [ExecutionRecovered(at=now)] if in_doubt else []
        records.append(ExecutionHeld(at=now, reason=reason))
        await self._release(
            claim,
            records if is_readable else [],
            Commit(release=True, hold=True, reason=reason, fruitless=kept(times), waiting=WaitingKind.HELD),
        )

    async def hold_lost(self, claim: Claim) -> None:
        """Hold an execution whose workers were lost; its code does not run, not even after the next claim."""
        now = self.clock.now()
        news = [recovery(claim, now, self.witness)] if claim.recovered else []
        # If reading the journal is what ends the process, the next worker does not read it.
        await self.keep_count(claim)
        known = await self._records(claim.execution_id) if claim.fruitless <= FRUITLESS_MAX else []
        reason = as_reason(lost_reason(claim.execution_id, claim.fruitless, [*known, *news], self.witness))
        logger.error("execution %s is held: %s", claim.execution_id, reason)
        records = [*map(encode_record, news), encode_record(ExecutionHeld(at=now, reason=reason))]
        commit = Commit(
            release=True, hold=True, reason=reason, fruitless=kept(claim.fruitless), waiting=WaitingKind.HELD
        )
        await append_once(self.store, self.clock, claim, claim.length, records, commit)

    async def _records(self, execution_id: str) -> Sequence[AnyRecord]:
        """Return the records of a journal, as far as they can be read."""
        try:
            return [
                record async for record in decoded(await read_journal(self.store, self.clock, execution_id))
            ]
        except Exception as error:
            logger.warning("the journal of execution %s cannot be read: %s", execution_id, error)
            return []

    async def _release(self, claim: Claim, records: Sequence[AnyRecord], commit: Commit) -> None:
        try:
            head = await self.store.head(claim.execution_id)
            if head is not None:
                encoded = [encode_record(record) for record in records]
                await self.store.append(claim, head.length, encoded, commit)
        except LeaseLost:
            raise
        except StorageError as error:
            logger.warning("execution %s keeps its lease for now: %s", claim.execution_id, error)
