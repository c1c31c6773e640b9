"""Claims that are lost without progress, and executions that are held because of them: L6 to L8."""

from __future__ import annotations

from dataclasses import replace

import pytest

from outlast.core.errors import ExecutionAlreadyEnded, ExecutionNotFound, MessagesUnseen
from outlast.core.records import Status
from outlast.ports.finding import Where
from outlast.ports.journal import Commit, Message, Store
from outlast.testing.contracts.journal.stage import FIRST, MUCH_LATER, JournalContractBase, new_execution
from outlast.testing.contracts.journal.storage import Storage, StoreCapability


class HoldingContract(JournalContractBase):
    async def test_l6_each_claim_that_was_lost_counts(self, storage: Storage, store: Store) -> None:
        await store.create(new_execution(), FIRST)
        assert (await self.head(store)).fruitless == 0
        for turn in range(4):
            claim = await self.claim_one(store, worker=f"worker {turn}")
            assert claim.recovered == (turn > 0)
            assert claim.fruitless == (await self.head(store)).fruitless == turn
            await storage.clock.advance(self.lease_seconds)

    async def test_l6_the_count_is_that_of_every_store(self, storage: Storage) -> None:
        async with storage.open() as store:
            await store.create(new_execution(), FIRST)
            await self.claim_one(store)
        await storage.clock.advance(self.lease_seconds)
        async with storage.open() as store, storage.open() as second:
            assert (await self.claim_one(second, worker="b")).fruitless == 1
            await storage.clock.advance(self.lease_seconds)
            assert (await self.claim_one(store, worker="a")).fruitless == 2
            assert (await self.head(second)).fruitless == 2

    async def test_l6_a_claim_after_a_release_does_not_count(self, storage: Storage, store: Store) -> None:
        claim = await self.lose(storage, store, times=2)
        assert claim.fruitless == 2
        for _ in range(3):
            await store.append(claim, 1, [], Commit(release=True, wake_at=0.0, fruitless=None))
            claim = await self.claim_one(store)
            assert (claim.fruitless, claim.recovered) == (2, False)

    async def test_l6_neither_renewing_nor_a_message_changes_the_count(
        self, storage: Storage, store: Store
    ) -> None:
        claim = await self.lose(storage, store, times=1)
        assert await store.renew([claim], self.lease_seconds) == frozenset()
        await store.send("e", Message("m", b"body"))
        assert (await self.head(store)).fruitless == 1

    async def test_l6_an_append_sets_the_count_or_leaves_it(self, storage: Storage, store: Store) -> None:
        claim = await self.lose(storage, store, times=3)
        for length, (commit, count) in enumerate(
            [
                (Commit(fruitless=None), 3),
                (Commit(fruitless=2), 2),
                (Commit(fruitless=None), 2),
                (Commit(), 0),
                (Commit(fruitless=None), 0),
                (Commit(fruitless=7_000_000), 7_000_000),
            ],
            start=1,
        ):
            await store.append(claim, length, [b"more"], commit)
            assert (await self.head(store)).fruitless == count
        await storage.clock.advance(self.lease_seconds)
        assert (await self.claim_one(store, worker="b")).fruitless == 7_000_001

    async def test_l6_an_append_that_is_refused_leaves_the_count(
        self, storage: Storage, store: Store
    ) -> None:
        await self.lose(storage, store, times=1)
        await storage.clock.advance(self.lease_seconds)
        stale = await self.claim_one(store, worker="b")
        await storage.clock.advance(self.lease_seconds)
        await self.claim_one(store, worker="c")
        await self.assert_refused(store, stale, 1, [b"stale"], Commit())
        assert (await self.head(store)).fruitless == 3

    async def test_l7_a_held_execution_is_not_claimed_however_long_it_waits(
        self, storage: Storage, store: Store
    ) -> None:
        for id in ("e", "f"):
            await self.create_and_hold(store, id)
        for _ in range(3):
            await self.assert_nothing_claimable(store)
            await storage.clock.advance(self.lease_seconds * 2)
        assert await store.prune(storage.clock.now()) == 0

    async def test_l7_an_execution_held_until_a_time_is_claimed_then_and_by_no_message_before(
        self, storage: Storage, store: Store
    ) -> None:
        self.require(StoreCapability.MOVABLE_CLOCK)
        await store.create(new_execution(), FIRST)
        claim = await self.claim_one(store)
        await store.send("e", Message("before", b"one"))
        wake_at = storage.clock.now() + 10
        await store.append(claim, 1, [], Commit(release=True, hold=True, wake_at=wake_at, reason="for now"))
        await store.send("e", Message("after", b"two"))
        head = await self.head(store)
        assert (head.held, head.reason) == (False, "for now")
        for passed in (0.0, 9.75):
            await storage.clock.advance(passed)
            work = await self.claim(store)
            assert work.claims == ()
            assert work.next_wake_at == pytest.approx(wake_at, abs=0.001)
        await storage.clock.advance(0.25)
        assert not (await self.claim_one(store)).recovered

    async def test_l7_a_hold_is_over_with_the_next_claim(self, storage: Storage, store: Store) -> None:
        await self.create_and_hold(store, "e", wake_at=0.0)
        claim = await self.claim_one(store)
        assert not (await self.head(store)).held
        await store.append(claim, 1, [], Commit(release=True))
        assert not (await self.head(store)).held
        await store.send("e", Message("m", b"body"))
        claim = await self.claim_one(store)
        await store.append(claim, 1, [], Commit(consumed=1, release=True, hold=True, wake_at=0.0))
        claim = await self.claim_one(store)
        await store.append(claim, 1, [], Commit(status=Status.COMPLETED))
        assert not (await self.head(store)).held

    async def test_l7_messages_to_a_held_execution_are_kept_and_wake_nobody(
        self, storage: Storage, store: Store
    ) -> None:
        await store.create(new_execution(), FIRST)
        claim = await self.claim_one(store)
        await store.send("e", Message("before", b"one"))
        await store.append(claim, 1, [], Commit(release=True, hold=True))
        async with storage.open() as second:
            await second.send("e", Message("after", b"two"))
            await store.send("e", Message("after", b"once more"))
            for each in (store, second):
                await self.assert_nothing_claimable(each)
        assert [delivery.message.body for delivery in await store.messages("e", 0)] == [b"one", b"two"]
        assert await store.resume("e")
        work = await self.claim(store)
        assert [claim.execution_id for claim in work.claims] == list(work.mail) == ["e"]

    async def test_l7_the_head_says_that_it_is_held_and_why(self, storage: Storage) -> None:
        async with storage.open() as store:
            claim = await self.lose(storage, store, times=1)
            await store.append(
                claim, 1, [b"second"], Commit(release=True, hold=True, reason="why", fruitless=None)
            )
        async with storage.open() as store:
            head = await self.head(store)
            assert (head.held, head.reason, head.fruitless, head.length) == (True, "why", 1, 2)
            assert (head.status, head.owner, head.ended_at) == (Status.RUNNING, None, None)
            assert await store.heads(Where(status="paused")) == [head]
            await self.assert_refused(store, claim, 2, [b"third"], Commit())

    async def test_l8_a_resumed_execution_is_claimable_at_once_and_its_count_is_0(
        self, storage: Storage, store: Store
    ) -> None:
        claim = await self.lose(storage, store, times=2)
        hold = Commit(release=True, hold=True, reason="why", fruitless=None, wake_at=MUCH_LATER)
        await store.append(claim, 1, [], hold)
        async with storage.open() as second:
            assert await second.resume("e")
        head = await self.head(store)
        assert (head.held, head.reason, head.fruitless) == (False, None, 0)
        claim = await self.claim_one(store, worker="b")
        assert (claim.fruitless, claim.recovered) == (0, False)

    async def test_l8_a_resumed_execution_has_waited_since_it_was_resumed(
        self, storage: Storage, store: Store
    ) -> None:
        self.require(StoreCapability.MOVABLE_CLOCK)
        await self.create_and_hold(store, "held")
        await storage.clock.advance(5)
        await store.create(new_execution("earlier"), FIRST)
        await storage.clock.advance(5)
        await store.resume("held")
        await storage.clock.advance(5)
        await store.create(new_execution("later"), FIRST)
        order = [(await self.claim(store, limit=1)).claims[0].execution_id for _ in range(3)]
        assert order == ["earlier", "held", "later"]

    async def test_l8_an_execution_held_until_a_time_can_be_resumed_before(
        self, storage: Storage, store: Store
    ) -> None:
        await self.create_and_hold(store, "e", wake_at=MUCH_LATER)
        assert await store.resume("e")
        await self.claim_one(store)

    async def test_l8_resuming_an_execution_that_is_not_held_changes_nothing(
        self, storage: Storage, store: Store
    ) -> None:
        await self.lose(storage, store, times=2)
        before = await self.state(store, "e")
        assert not await store.resume("e")
        assert await self.state(store, "e") == before
        await self.assert_nothing_claimable(store)

    async def test_l8_resuming_an_execution_that_has_an_owner_again_changes_nothing(
        self, store: Store
    ) -> None:
        await self.create_and_hold(store, "e", wake_at=0.0)
        claim = await self.claim_one(store)
        before = await self.state(store, "e")
        assert not await store.resume("e")
        assert await self.state(store, "e") == before
        await self.assert_nothing_claimable(store)
        await store.append(claim, 1, [b"second"], Commit())

    async def test_l8_resuming_again_changes_nothing(self, store: Store) -> None:
        await self.create_and_hold(store, "e")
        assert [await store.resume("e"), await store.resume("e")] == [True, False]
        claim = await self.claim_one(store)
        await store.append(claim, 1, [], Commit(release=True))
        assert not await store.resume("e")
        await self.assert_nothing_claimable(store)

    async def test_l8_resuming_an_unknown_or_ended_execution_raises(self, store: Store) -> None:
        with pytest.raises(ExecutionNotFound):
            await store.resume("nobody")
        await self.create_and_close(store, "e", Status.FAILED)
        before = await self.state(store, "e")
        with pytest.raises(ExecutionAlreadyEnded) as refusal:
            await store.resume("e")
        assert refusal.value.status == Status.FAILED
        assert await self.state(store, "e") == before

    async def test_j14_an_append_is_refused_when_there_are_messages_that_its_writer_has_not_seen(
        self, storage: Storage, store: Store
    ) -> None:
        await store.create(new_execution(), FIRST)
        claim = await self.claim_one(store)
        await store.append(claim, 1, [b"second"], Commit(seen=0))
        for number in (1, 2):
            await store.send("e", Message(f"m{number}", b"body"))
        hold = Commit(consumed=1, release=True, hold=True, reason="why", tags={"a": "b"}, overview="new")
        async with storage.open() as second:
            for seen in (0, 1):
                before = await self.state(store, "e")
                with pytest.raises(MessagesUnseen) as refusal:
                    await second.append(claim, 2, [b"third"], replace(hold, seen=seen))
                assert (refusal.value.execution_id, refusal.value.seen) == ("e", seen)
                assert await self.state(second, "e") == before
            # Those that were consumed count too.
            await second.append(claim, 2, [], Commit(consumed=2))
            with pytest.raises(MessagesUnseen):
                await store.append(claim, 2, [b"third"], replace(hold, seen=1))
            await store.append(claim, 2, [b"third"], replace(hold, seen=2))
        assert (await self.head(store)).held
        await self.assert_refused(store, claim, 3, [], Commit(seen=0))

    async def test_j14_sending_a_message_again_makes_nothing_unseen(self, store: Store) -> None:
        await store.create(new_execution(), FIRST)
        claim = await self.claim_one(store)
        for _ in range(2):
            await store.send("e", Message("m", b"body"))
        await store.append(claim, 1, [], Commit(seen=1))

    def test_l7_only_a_release_can_hold(self) -> None:
        with pytest.raises(ValueError, match="release"):
            Commit(hold=True)

    # What these tests share

    async def assert_nothing_claimable(self, store: Store) -> None:
        work = await self.claim(store, worker="somebody")
        assert work.claims == ()
        if all(head.held for head in await store.heads()):
            assert work.next_wake_at is None
