"""The time when an execution can be claimed again, and the workers that are woken for it: L5."""

from __future__ import annotations

import asyncio

import pytest

from outlast.core.records import Status
from outlast.ports.journal import (
    ENDLESS,
    Commit,
    Message,
    Store,
)
from outlast.testing.contracts.journal.stage import FIRST, JournalContractBase, new_execution
from outlast.testing.contracts.journal.storage import Storage, StoreCapability


class WakingContract(JournalContractBase):
    async def test_a_released_execution_waits_for_its_wake_up_time(
        self, storage: Storage, store: Store
    ) -> None:
        self.require(StoreCapability.MOVABLE_CLOCK)
        await store.create(new_execution(), FIRST)
        claim = await self.claim_one(store)
        wake_at = storage.clock.now() + 100.5
        await store.append(claim, 1, [], Commit(release=True, wake_at=wake_at))
        for passed in (0.0, 100.0, 0.25):
            await storage.clock.advance(passed)
            work = await self.claim(store)
            assert work.claims == ()
            assert work.next_wake_at == pytest.approx(wake_at, abs=0.001)
        await storage.clock.advance(0.25)
        assert not (await self.claim_one(store)).recovered

    async def test_a_wake_up_time_that_has_passed_means_now(self, storage: Storage, store: Store) -> None:
        await store.create(new_execution(), FIRST)
        for wake_at in (0.0, storage.clock.now() - 100, storage.clock.now()):
            claim = await self.claim_one(store)
            await store.append(claim, 1, [], Commit(release=True, wake_at=wake_at))

    async def test_without_a_wake_up_time_only_a_message_wakes(self, storage: Storage, store: Store) -> None:
        await store.create(new_execution(), FIRST)
        claim = await self.claim_one(store)
        await store.append(claim, 1, [], Commit(release=True))
        await storage.clock.advance(self.lease_seconds * 5)
        work = await self.claim(store)
        assert (work.claims, work.next_wake_at) == ((), None)
        await store.send("e", Message("m", b"body"))
        assert not (await self.claim_one(store)).recovered

    async def test_a_message_wakes_before_the_wake_up_time(self, storage: Storage, store: Store) -> None:
        await store.create(new_execution(), FIRST)
        claim = await self.claim_one(store)
        wake_at = storage.clock.now() + 1000
        await store.append(claim, 1, [], Commit(release=True, wake_at=wake_at))
        await store.send("e", Message("m", b"body"))
        claim = await self.claim_one(store)
        await store.append(claim, 1, [], Commit(consumed=1, release=True, wake_at=wake_at))
        assert (await self.claim(store)).claims == ()

    async def test_a_release_with_unread_messages_leaves_it_claimable(
        self, storage: Storage, store: Store
    ) -> None:
        """A message that comes just before the release must not be missed."""
        await store.create(new_execution(), FIRST)
        for wake_at in (None, storage.clock.now() + 1000):
            claim = await self.claim_one(store)
            await store.send("e", Message(f"read {wake_at}", b"body"))
            seen = (await store.messages("e", claim.consumed))[-1].number
            await store.send("e", Message(f"unread {wake_at}", b"body"))
            await store.append(claim, claim.length, [], Commit(consumed=seen, release=True, wake_at=wake_at))

    async def test_a_message_that_races_with_a_release_leaves_it_claimable(
        self, storage: Storage, store: Store
    ) -> None:
        async with storage.open() as second:
            for turn in range(20):
                id = f"e{turn}"
                await store.create(new_execution(id), FIRST)
                claim = await self.claim_one(store)
                race = (
                    store.append(claim, 1, [b"second"], Commit(release=True)),
                    second.send(id, Message("m", b"body")),
                )
                await asyncio.gather(*(race if turn % 2 else reversed(race)))
                [woken] = (await self.claim(store, worker="b")).claims
                assert (woken.execution_id, woken.recovered) == (id, False)

    async def test_mail_names_the_executions_of_this_worker_with_unread_messages(
        self, storage: Storage, store: Store
    ) -> None:
        async def mail(worker: str, limit: int = 0) -> set[str]:
            return set((await self.claim(store, worker=worker, limit=limit)).mail)

        for id in ("e", "f", "g"):
            await store.create(new_execution(id), FIRST)
        await store.send("e", Message("m", b"body"))
        assert await mail("a") == set()
        work = await self.claim(store, worker="a", limit=2)
        assert work.mail == {"e"}
        claims = {claim.execution_id: claim for claim in work.claims}
        await self.claim_one(store, worker="b")
        async with storage.open() as second:
            for id in ("f", "g"):
                await second.send(id, Message("m", b"body"))
        assert await mail("a") == {"e", "f"}
        assert await mail("b") == {"g"}
        assert await mail("c") == set()
        await store.append(claims["e"], 1, [], Commit(consumed=1))
        assert await mail("a", limit=5) == {"f"}
        await store.send("e", Message("n", b"body"))
        assert await mail("a") == {"e", "f"}
        await store.append(claims["e"], 1, [], Commit(consumed=2, release=True))
        assert await mail("a") == {"f"}

    async def test_mail_does_not_depend_on_what_is_asked_for(self, store: Store) -> None:
        await store.create(new_execution("e", workflow="v", task_queue="q"), FIRST)
        await store.send("e", Message("m", b"body"))
        await self.claim(store, workflows=["v"], task_queue="q")
        assert (await self.claim(store, workflows=["w"], limit=0)).mail == {"e"}

    async def test_next_wake_at_is_the_earliest_wake_up_time_or_end_of_a_lease(
        self, storage: Storage, store: Store
    ) -> None:
        self.require(StoreCapability.MOVABLE_CLOCK)
        start = storage.clock.now()

        async def next_wake_at() -> float | None:
            return (await self.claim(store, worker="idle", limit=0)).next_wake_at

        assert await next_wake_at() is None
        await store.create(new_execution("e"), FIRST)
        assert await next_wake_at() == pytest.approx(start, abs=0.001)
        await store.create(new_execution("f"), FIRST)
        await store.create(new_execution("other", workflow="v"), FIRST)
        work = await self.claim(store, lease_seconds=60.0)
        assert work.next_wake_at is None or work.next_wake_at > start
        claims = {claim.execution_id: claim for claim in work.claims}
        assert await next_wake_at() == pytest.approx(start + 60, abs=0.001)
        await store.append(claims["f"], 1, [], Commit(release=True, wake_at=start + 30))
        assert await next_wake_at() == pytest.approx(start + 30, abs=0.001)
        await store.renew([claims["e"]], 20.0)
        assert await next_wake_at() == pytest.approx(start + 20, abs=0.001)
        await store.append(claims["e"], 1, [], Commit(status=Status.COMPLETED))
        assert await next_wake_at() == pytest.approx(start + 30, abs=0.001)

    async def test_l5_waiting_misses_nothing_that_happened_since_the_claim(
        self, storage: Storage, store: Store
    ) -> None:
        async with storage.open() as second:
            for each in (second, store):
                id = "by itself" if each is store else "by another"
                for event in self.announced(each, id):
                    version = (await self.claim(store, worker="idle", workflows=["x"], limit=0)).version
                    await event()
                    await self.ends(storage, asyncio.create_task(store.wait(version, 60.0)))

    async def test_l5_a_change_during_a_wait_ends_it(self, storage: Storage, store: Store) -> None:
        async with storage.open() as second:
            for each in (second, store):
                id = "by itself" if each is store else "by another"
                for event in self.announced(each, id):
                    version = (await self.claim(store, worker="idle", workflows=["x"], limit=0)).version
                    waiting = asyncio.create_task(store.wait(version, 60.0))
                    await asyncio.sleep(0)
                    await event()
                    await self.ends(storage, waiting)

    async def test_l5_every_waiting_worker_is_woken(self, storage: Storage, store: Store) -> None:
        await store.create(new_execution(), FIRST)
        claim = await self.claim_one(store)
        await store.append(claim, 1, [], Commit(release=True))
        async with storage.open() as second:
            versions = {each: (await self.claim(each, limit=0)).version for each in (store, second)}
            waiting = [
                asyncio.create_task(each.wait(version, 60.0))
                for each, version in versions.items()
                for _ in range(2)
            ]
            await asyncio.sleep(0)
            await store.send("e", Message("m", b"body"))
            for each in waiting:
                await self.ends(storage, each)

    async def test_l5_waiting_times_out(self, storage: Storage, store: Store) -> None:
        version = (await self.claim(store)).version
        await self.ends(storage, asyncio.create_task(store.wait(version, 0.5)), by_time=True)

    async def test_l5_a_cancelled_wait_leaves_the_store_usable(self, storage: Storage, store: Store) -> None:
        version = (await self.claim(store)).version
        for waiting in (store.wait(version, 60.0), store.follow("e", 0, 60.0)):
            task = asyncio.create_task(waiting)
            await asyncio.sleep(0)
            task.cancel()
            await self.within_patience(storage, asyncio.wait({task}))
        _, created = await store.create(new_execution(), FIRST)
        assert created

    async def test_following_does_not_wait_for_records_that_are_there(
        self, storage: Storage, store: Store
    ) -> None:
        await store.create(new_execution(), FIRST)
        await self.within_patience(storage, store.follow("e", 0, self.patience_seconds * 100))

    async def test_following_ends_with_the_next_append(self, storage: Storage, store: Store) -> None:
        await store.create(new_execution(), FIRST)
        claim = await self.claim_one(store)
        async with storage.open() as second:
            for length in range(1, 4):
                following = asyncio.create_task(second.follow("e", length, 60.0))
                await asyncio.sleep(0)
                await store.append(claim, length, [b"next"], Commit())
                await self.ends(storage, following)

    async def test_following_an_execution_that_is_not_there_yet_ends_when_it_is(
        self, storage: Storage, store: Store
    ) -> None:
        following = asyncio.create_task(store.follow("e", 0, 60.0))
        await asyncio.sleep(0)
        await store.create(new_execution(), FIRST)
        await self.ends(storage, following)

    async def test_following_to_the_end_ends_with_the_execution(self, storage: Storage, store: Store) -> None:
        await store.create(new_execution(), FIRST)
        claim = await self.claim_one(store)
        async with storage.open() as second:
            following = asyncio.create_task(second.follow("e", ENDLESS, 60.0))
            await asyncio.sleep(0)
            await store.append(claim, 1, [b"next"], Commit())
            await store.append(claim, 2, [b"last"], Commit(status=Status.COMPLETED))
            await self.ends(storage, following)
            await self.within_patience(storage, second.follow("e", ENDLESS, self.patience_seconds * 100))

    async def test_following_times_out(self, storage: Storage, store: Store) -> None:
        await store.create(new_execution(), FIRST)
        await self.ends(storage, asyncio.create_task(store.follow("e", 1, 0.5)), by_time=True)
