"""Sizes at which a store may begin to cut what it returns: long journals, full inboxes, many executions."""

from __future__ import annotations

import asyncio

from outlast.core.records import Status
from outlast.ports.finding import Where
from outlast.ports.journal import DEFAULT_TASK_QUEUE, Claim, Commit, Message, Store, WorkerCard
from outlast.testing.contracts.journal.stage import FIRST, JournalContractBase, new_execution
from outlast.testing.contracts.journal.storage import Storage

RECORDS_OF_A_LONG_JOURNAL = 2500
MESSAGES_OF_A_FULL_INBOX = 1200
MANY_EXECUTIONS = 250
AT_ONCE = 50
"""The calls that a test makes at the same time, to be done soon."""


class SizesContract(JournalContractBase):
    async def test_j11_a_long_journal_is_read_whole_and_in_portions(
        self, storage: Storage, store: Store
    ) -> None:
        records = [b"record %d" % number for number in range(1, RECORDS_OF_A_LONG_JOURNAL)]
        await store.create(new_execution(), FIRST)
        claim = await self.claim_one(store)
        for begin in range(0, len(records), 500):
            await store.append(claim, 1 + begin, records[begin : begin + 500], Commit())
        whole = [FIRST, *records]
        assert (await self.head(store)).length == len(whole)
        async with storage.open() as second:
            assert list(await second.read("e")) == whole
            assert list(await second.read("e", 0, 10 * len(whole))) == whole
            for after in (1, 999, 1000, 1001, 2000, len(whole) - 1, len(whole)):
                assert list(await second.read("e", after)) == whole[after:]
                assert list(await second.read("e", after, 1400)) == whole[after : after + 1400]

    async def test_j5_an_append_of_many_records_is_written_whole(
        self, storage: Storage, store: Store
    ) -> None:
        records = [b"%d" % number for number in range(RECORDS_OF_A_LONG_JOURNAL)]
        await store.create(new_execution(), FIRST, records[:1200])
        claim = await self.claim_one(store)
        assert claim.length == 1201
        await store.append(claim, 1201, records[1200:], Commit(reason="the end of it"))
        async with storage.open() as second:
            assert list(await second.read("e")) == [FIRST, *records]
            assert (await self.head(second)).reason == "the end of it"

    async def test_i4_a_full_inbox_is_read_whole_and_in_portions(
        self, storage: Storage, store: Store
    ) -> None:
        await store.create(new_execution(), FIRST)
        for begin in range(0, MESSAGES_OF_A_FULL_INBOX, AT_ONCE):
            numbers = range(begin, begin + AT_ONCE)
            await asyncio.gather(*(store.send("e", Message(f"m{n}", b"body %d" % n)) for n in numbers))
        async with storage.open() as second:
            whole = list(await second.messages("e", 0))
            assert [delivery.number for delivery in whole] == list(range(1, MESSAGES_OF_A_FULL_INBOX + 1))
            assert {(delivery.message.id, delivery.message.body) for delivery in whole} == {
                (f"m{n}", b"body %d" % n) for n in range(MESSAGES_OF_A_FULL_INBOX)
            }
            for after in (1, 99, 999, 1000, 1001, MESSAGES_OF_A_FULL_INBOX):
                assert list(await second.messages("e", after)) == whole[after:]
                assert list(await second.messages("e", after, 600)) == whole[after : after + 600]

    async def test_i2_a_full_inbox_knows_every_id_that_was_consumed(self, store: Store) -> None:
        await store.create(new_execution(), FIRST)
        claim = await self.claim_one(store)
        for begin in range(0, MESSAGES_OF_A_FULL_INBOX, AT_ONCE):
            numbers = range(begin, begin + AT_ONCE)
            await asyncio.gather(*(store.send("e", Message(f"m{n}", b"")) for n in numbers))
        await store.append(claim, 1, [], Commit(consumed=MESSAGES_OF_A_FULL_INBOX, release=True))
        for number in (0, 1, 100, 199, 700, 1000, 1199):
            await store.send("e", Message(f"m{number}", b"again"))
        assert list(await store.messages("e", MESSAGES_OF_A_FULL_INBOX)) == []
        assert (await self.claim(store)).claims == ()

    async def test_l1_many_executions_are_claimed_at_once(self, storage: Storage, store: Store) -> None:
        ids = await self._create_many(store)
        work = await self.claim(store, limit=2 * MANY_EXECUTIONS)
        assert sorted(claim.execution_id for claim in work.claims) == ids
        async with storage.open() as second:
            assert (await self.claim(second, worker="b", limit=2 * MANY_EXECUTIONS)).claims == ()

    async def test_l4_many_claims_are_renewed_at_once(self, storage: Storage, store: Store) -> None:
        ids = await self._create_many(store)
        claims = await self._claim_all(store)
        ended = [claims[id] for id in ids[::3]]
        await self._append_to_all(store, ended, Commit(status=Status.COMPLETED))
        lost = {claim.execution_id for claim in ended}
        assert await store.renew(list(claims.values()), 20 * self.lease_seconds) == lost
        await storage.clock.advance(self.lease_seconds)
        assert (await self.claim(store, worker="b", limit=2 * MANY_EXECUTIONS)).claims == ()

    async def test_the_mail_of_many_executions_is_reported_at_once(self, store: Store) -> None:
        ids = await self._create_many(store)
        await self._claim_all(store)
        for begin in range(0, len(ids), AT_ONCE):
            await asyncio.gather(*(store.send(id, Message("m", b"")) for id in ids[begin : begin + AT_ONCE]))
        assert (await self.claim(store, limit=0)).mail == set(ids)

    async def test_p4_a_worker_owns_many_executions(self, storage: Storage, store: Store) -> None:
        ids = await self._create_many(store)
        await store.announce(WorkerCard("a", ("w",), DEFAULT_TASK_QUEUE, storage.clock.now()), 60.0)
        await self._claim_all(store)
        [worker] = await store.workers()
        assert list(worker.executions) == ids

    async def test_k2_many_executions_are_listed_on_one_page(self, storage: Storage, store: Store) -> None:
        ids = await self._create_many(store)
        async with storage.open() as second:
            for where in (Where(), Where(workflow="w"), Where(tags={"of": "many"}), Where(status="running")):
                page = await second.heads(where, limit=2 * MANY_EXECUTIONS)
                assert sorted(head.id for head in page) == ids
                assert [head.id for head in await second.heads(where, limit=201)] == [
                    head.id for head in page[:201]
                ]
            assert len(await second.heads()) == 100

    async def test_k1_many_executions_are_forgotten_at_once(self, storage: Storage, store: Store) -> None:
        ids = await self._create_many(store)
        claims = await self._claim_all(store)
        kept = ids[:3]
        await self._append_to_all(
            store, [claims[id] for id in ids if id not in kept], Commit(status=Status.COMPLETED)
        )
        await storage.clock.advance(1.0)
        assert await store.prune(storage.clock.now()) == len(ids) - len(kept)
        assert sorted(head.id for head in await store.heads(limit=2 * MANY_EXECUTIONS)) == kept

    async def _create_many(self, store: Store) -> list[str]:
        """Create the executions, and return their ids, sorted."""
        ids = [f"e{number:03}" for number in range(MANY_EXECUTIONS)]
        for begin in range(0, len(ids), AT_ONCE):
            await asyncio.gather(
                *(
                    store.create(new_execution(id, tags={"of": "many"}), FIRST)
                    for id in ids[begin : begin + AT_ONCE]
                )
            )
        return ids

    async def _claim_all(self, store: Store) -> dict[str, Claim]:
        work = await self.claim(store, limit=MANY_EXECUTIONS, lease_seconds=10 * self.lease_seconds)
        assert len(work.claims) == MANY_EXECUTIONS
        return {claim.execution_id: claim for claim in work.claims}

    async def _append_to_all(self, store: Store, claims: list[Claim], commit: Commit) -> None:
        for begin in range(0, len(claims), AT_ONCE):
            await asyncio.gather(
                *(store.append(claim, 1, [b"last"], commit) for claim in claims[begin : begin + AT_ONCE])
            )
