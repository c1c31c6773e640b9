"""One millisecond before something is due, and when it is: leases, timers, presence, forgetting."""

from __future__ import annotations

from outlast.core.records import Status
from outlast.ports.journal import DEFAULT_TASK_QUEUE, Commit, Message, Store, WorkerCard
from outlast.testing.contracts.journal.stage import FIRST, JournalContractBase, new_execution
from outlast.testing.contracts.journal.storage import Storage, StoreCapability

MILLISECOND = 0.001
ODD_SECONDS = 0.437
"""Nothing begins on a full second, or a tenth of one."""


class MomentsContract(JournalContractBase):
    async def test_l2_nobody_claims_one_millisecond_before_the_lease_runs_out(
        self, storage: Storage, store: Store
    ) -> None:
        self.require(StoreCapability.MOVABLE_CLOCK)
        await storage.clock.advance(ODD_SECONDS)
        await store.create(new_execution(), FIRST)
        claim = await self.claim_one(store, worker="a")
        async with storage.open() as second:
            for renewed in (False, True):
                if renewed:
                    assert await store.renew([claim], self.lease_seconds) == frozenset()
                await storage.clock.advance(self.lease_seconds - MILLISECOND)
                for each in (store, second):
                    assert (await self.claim(each, worker="b")).claims == ()
            await storage.clock.advance(2 * MILLISECOND)
            assert (await self.claim_one(second, worker="b")).recovered_from == "a"

    async def test_l2_nobody_claims_one_millisecond_before_a_timer_is_due(
        self, storage: Storage, store: Store
    ) -> None:
        self.require(StoreCapability.MOVABLE_CLOCK)
        await storage.clock.advance(ODD_SECONDS)
        now = storage.clock.now()
        waits = {
            "by date": Commit(release=True, wake_at=now + 7.0),
            "in seconds": Commit(release=True, wake_in=7.0),
            "held by date": Commit(release=True, hold=True, wake_at=now + 7.0),
            "held in seconds": Commit(release=True, hold=True, wake_in=7.0),
        }
        for id, commit in waits.items():
            await store.create(new_execution(id), FIRST)
            await store.append(await self.claim_one(store), 1, [], commit)
        await storage.clock.advance(7.0 - MILLISECOND)
        async with storage.open() as second:
            for each in (store, second):
                work = await self.claim(each)
                assert work.claims == ()
                assert work.next_wake_at is not None
                assert abs(work.next_wake_at - (now + 7.0)) <= MILLISECOND
            await storage.clock.advance(2 * MILLISECOND)
            claimed = {claim.execution_id for claim in (await self.claim(second)).claims}
        assert claimed == set(waits)

    async def test_l7_a_message_one_millisecond_before_does_not_wake_what_is_held(
        self, storage: Storage, store: Store
    ) -> None:
        self.require(StoreCapability.MOVABLE_CLOCK)
        await storage.clock.advance(ODD_SECONDS)
        await self.create_and_hold(store, "e", wake_at=storage.clock.now() + 7.0)
        await storage.clock.advance(7.0 - MILLISECOND)
        await store.send("e", Message("m", b"body"))
        assert (await self.claim(store)).claims == ()
        await storage.clock.advance(2 * MILLISECOND)
        await self.claim_one(store)

    async def test_p1_a_worker_is_listed_one_millisecond_before_its_time_has_passed(
        self, storage: Storage, store: Store
    ) -> None:
        self.require(StoreCapability.MOVABLE_CLOCK)
        await storage.clock.advance(ODD_SECONDS)
        await store.announce(WorkerCard("a", ("w",), DEFAULT_TASK_QUEUE, storage.clock.now()), 7.0)
        await storage.clock.advance(7.0 - MILLISECOND)
        async with storage.open() as second:
            for each in (store, second):
                assert [worker.card.identity for worker in await each.workers()] == ["a"]
            await storage.clock.advance(2 * MILLISECOND)
            for each in (store, second):
                assert list(await each.workers()) == []

    async def test_k1_nothing_is_forgotten_one_millisecond_before_its_time(
        self, storage: Storage, store: Store
    ) -> None:
        self.require(StoreCapability.MOVABLE_CLOCK)
        await storage.clock.advance(ODD_SECONDS)
        await self.create_and_close(store, "its own time", Status.COMPLETED, keep_seconds=7.0)
        await self.create_and_close(store, "any time")
        ended_at = storage.clock.now()
        await storage.clock.advance(7.0 - MILLISECOND)
        assert await store.prune(ended_at - MILLISECOND) == 0
        assert await store.prune(ended_at + MILLISECOND) == 1
        assert [head.id for head in await store.heads()] == ["its own time"]
        await storage.clock.advance(2 * MILLISECOND)
        assert await store.prune() == 1
