"""Handing back: how a worker gives up an execution that it does not carry on for now, or that nobody can."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from outlast.core.errors import LeaseLost, StorageError
from outlast.core.records import AnyRecord, ExecutionHeld, ExecutionRecovered, encode_record
from outlast.ports.clock import Clock
from outlast.ports.journal import Claim, Commit, Store, as_note
from outlast.runtime.executions.loading import decoded
from outlast.runtime.executions.lost_workers import LastWords, lost_note, recovery, stuck_note, waiting_note
from outlast.runtime.executions.store_retry import append_once
from outlast.runtime.executions.suspects import FRUITLESS_MAX

logger = logging.getLogger("outlast.worker")

PUT_OFF_SECONDS = 10.0
"""How long an execution that cannot go on is left alone before someone tries again."""


@dataclass(frozen=True, slots=True)
class HandingBack:
    """Releases claims in one append each, so that nothing of what must be known of them is lost.

    Every method passes `LeaseLost` on: then the execution is another worker's.
    """

    store: Store
    clock: Clock
    last_words: LastWords

    async def note_recovery(self, claim: Claim, commit: Commit) -> int:
        """Write down that the claim was taken from a lost worker, if it was; return the journal's length."""
        now = self.clock.now()
        records = [encode_record(recovery(claim, now, self.last_words))] if claim.recovered else []
        await append_once(self.store, self.clock, claim, claim.length, records, commit)
        return claim.length + len(records)

    async def give_back(self, claim: Claim, after_seconds: float) -> None:
        """Release an execution of which nothing was begun, for whoever has room for it by then."""
        wake_at = self.clock.now() + after_seconds
        note = as_note(waiting_note(claim.fruitless)) if after_seconds else None
        commit = Commit(release=True, hold=after_seconds > 0, wake_at=wake_at, note=note, fruitless=None)
        await self.note_recovery(claim, commit)

    async def put_off(self, claim: Claim, note: str, *, in_doubt: bool, fruitless: int | None) -> None:
        """Release an execution that cannot go on, and leave it alone for a while, whatever mail it gets.

        Attempts that were under way are cut short by now. If the journal does not say how they ended, they
        are written down as being `in_doubt`: whoever claims a released execution would not think so.
        """
        now = self.clock.now()
        commit = Commit(
            release=True, hold=True, wake_at=now + PUT_OFF_SECONDS, note=as_note(note), fruitless=fruitless
        )
        await self._release(claim, [ExecutionRecovered(at=now)] if in_doubt else [], commit)

    async def hold_stuck(
        self, claim: Claim, problem: str, *, in_doubt: bool, times: int, is_readable: bool
    ) -> None:
        """Hold an execution that workers could not carry on so many times in a row.

        Nothing is appended to a journal that is not `is_readable`: somebody may be able to mend it.
        """
        now = self.clock.now()
        note = as_note(stuck_note(claim.execution_id, times, problem))
        logger.error("execution %s is held: %s", claim.execution_id, note)
        records: list[AnyRecord] = [ExecutionRecovered(at=now)] if in_doubt else []
        records.append(ExecutionHeld(at=now, reason=note))
        await self._release(
            claim, records if is_readable else [], Commit(release=True, hold=True, note=note, fruitless=times)
        )

    async def hold_lost(self, claim: Claim) -> None:
        """Hold an execution whose workers were lost; no code of it is run, not even by the next claim."""
        now = self.clock.now()
        news = [recovery(claim, now, self.last_words)] if claim.recovered else []
        # Should reading the journal be what ends the process, the next worker does without.
        known = await self._records(claim.execution_id) if claim.fruitless <= FRUITLESS_MAX else []
        note = as_note(lost_note(claim.execution_id, claim.fruitless, [*known, *news]))
        logger.error("execution %s is held: %s", claim.execution_id, note)
        records = [*map(encode_record, news), encode_record(ExecutionHeld(at=now, reason=note))]
        commit = Commit(release=True, hold=True, note=note, fruitless=None)
        await append_once(self.store, self.clock, claim, claim.length, records, commit)

    async def _records(self, execution_id: str) -> Sequence[AnyRecord]:
        """Return the records of a journal, as far as they can be had."""
        try:
            return [record async for record in decoded(await self.store.read(execution_id))]
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
