"""The workers that are alive, and the executions that they own: P1 to P4."""

from __future__ import annotations

from dataclasses import replace

from outlast.core.records import Status
from outlast.ports.journal import Commit, PresentWorker, Store, WorkerCard
from outlast.testing.contracts.journal.creating import ODD_IDS
from outlast.testing.contracts.journal.stage import FIRST, JournalContractBase, new_execution
from outlast.testing.contracts.journal.storage import Storage, StoreCapability

CARD = WorkerCard("a", ("v", "w"), "default", started_at=1000.25)


class PresenceContract(JournalContractBase):
    async def listed(self, store: Store) -> list[str]:
        return [present.card.identity for present in await store.workers()]

    async def test_p1_every_store_lists_a_worker_that_announced_itself(
        self, storage: Storage, store: Store
    ) -> None:
        assert list(await store.workers()) == []
        await store.announce(CARD, self.lease_seconds)
        async with storage.open() as second:
            assert list(await second.workers()) == [PresentWorker(CARD, ())]
        async with storage.open() as third:
            assert list(await third.workers()) == [PresentWorker(CARD, ())]

    async def test_p1_a_worker_is_listed_until_its_time_has_passed(
        self, storage: Storage, store: Store
    ) -> None:
        self.require(StoreCapability.MOVABLE_CLOCK)
        await store.announce(CARD, self.lease_seconds)
        await storage.clock.advance(self.lease_seconds - 0.25)
        assert await self.listed(store) == ["a"]
        await storage.clock.advance(0.25)
        assert await self.listed(store) == []
        async with storage.open() as second:
            await second.announce(replace(CARD, identity="b"), self.lease_seconds)
            assert await self.listed(second) == ["b"]

    async def test_p1_the_worker_that_started_first_is_listed_first(self, store: Store) -> None:
        for identity, started_at in (("c", 30.0), ("b", 10.5), ("a", 10.5), ("d", 9.0)):
            await store.announce(WorkerCard(identity, (), "default", started_at), self.lease_seconds)
        assert await self.listed(store) == ["d", "a", "b", "c"]

    async def test_p1_an_identity_may_be_any_text(self, store: Store) -> None:
        cards = [WorkerCard(name, (name,), name, float(number)) for number, name in enumerate(ODD_IDS)]
        for card in cards:
            await store.announce(card, self.lease_seconds)
        assert list(await store.workers()) == [PresentWorker(card, ()) for card in cards]

    async def test_p2_the_last_announcement_counts(self, storage: Storage, store: Store) -> None:
        self.require(StoreCapability.MOVABLE_CLOCK)
        changed = replace(CARD, workflows=("u",), task_queue="q", started_at=2000.0)
        await store.announce(CARD, self.lease_seconds)
        await storage.clock.advance(self.lease_seconds / 2)
        async with storage.open() as second:
            await second.announce(changed, self.lease_seconds)
        await storage.clock.advance(self.lease_seconds - 0.25)
        assert list(await store.workers()) == [PresentWorker(changed, ())]
        await store.announce(changed, self.lease_seconds)
        await store.announce(changed, 0.25)
        await storage.clock.advance(0.25)
        assert await self.listed(store) == []

    async def test_p3_a_worker_that_has_left_is_not_listed(self, storage: Storage, store: Store) -> None:
        for identity in ("a", "b"):
            await store.announce(replace(CARD, identity=identity), self.lease_seconds)
        async with storage.open() as second:
            await second.leave("a")
            await second.leave("nobody")
            assert await self.listed(second) == await self.listed(store) == ["b"]
        await store.announce(CARD, self.lease_seconds)
        assert await self.listed(store) == ["a", "b"]

    async def test_p3_leaving_and_dying_give_up_no_claim(self, storage: Storage, store: Store) -> None:
        self.require(StoreCapability.MOVABLE_CLOCK)
        await store.create(new_execution(), FIRST)
        await store.announce(CARD, 0.25)
        claim = await self.claim_one(store, worker="a")
        await store.leave("a")
        assert (await self.claim(store, worker="b")).claims == ()
        await store.announce(CARD, 0.25)
        await storage.clock.advance(0.25)
        assert (await self.claim(store, worker="b")).claims == ()
        await store.append(claim, 1, [b"second"], Commit())

    async def test_p4_a_worker_is_listed_with_the_executions_that_it_owns(
        self, storage: Storage, store: Store
    ) -> None:
        ids = ("kept", "released", "asleep", "ended", "taken")
        for id in ids:
            await store.create(new_execution(id), FIRST)
        await store.announce(CARD, self.lease_seconds * 10)
        await store.announce(replace(CARD, identity="b"), self.lease_seconds * 10)
        claims = {claim.execution_id: claim for claim in (await self.claim(store, worker="a")).claims}
        [a, b] = await store.workers()
        assert (list(a.executions), list(b.executions)) == (sorted(ids), [])
        await store.append(claims["released"], 1, [], Commit(release=True))
        await store.append(claims["asleep"], 1, [], Commit(release=True, wake_at=4e9))
        await store.append(claims["ended"], 1, [], Commit(status=Status.COMPLETED))
        await store.append(claims["kept"], 1, [b"second"], Commit())
        await store.renew([claims["kept"]], self.lease_seconds * 10)
        await storage.clock.advance(self.lease_seconds)
        [a, b] = await store.workers()
        # A lease that ran out still belongs to its owner.
        assert (list(a.executions), list(b.executions)) == (["kept", "taken"], [])
        async with storage.open() as second:
            assert (await self.claim_one(second, worker="b")).execution_id == "taken"
            # An execution whose owner is not present is shown with no worker.
            await second.create(new_execution("another"), FIRST)
            await self.claim_one(second, worker="c")
        [a, b] = await store.workers()
        assert (list(a.executions), list(b.executions)) == (["kept"], ["taken"])
