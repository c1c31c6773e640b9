"""Writes without a claim, and executions that begin with several records: J8 to J10."""

from __future__ import annotations

import asyncio

import pytest

from outlast.core.errors import ExecutionAlreadyEnded, ExecutionNotFound, PayloadTooLarge
from outlast.core.records import Status
from outlast.ports.finding import Where
from outlast.ports.journal import ENDLESS, Commit, Message, Store
from outlast.testing.contracts.journal.stage import FIRST, MUCH_LATER, JournalContractBase, new_execution
from outlast.testing.contracts.journal.storage import Storage, StoreCapability

ENDS = [Status.FAILED, Status.CANCELLED, Status.TERMINATED, Status.COMPLETED]


class AmendingContract(JournalContractBase):
    # Several first records ---------------------------------------------------------------------------------

    async def test_j5_an_execution_may_begin_with_several_records(self, store: Store) -> None:
        head, created = await store.create(new_execution(), FIRST, [b"second", b"third"])
        assert (head.length, created) == (3, True)
        assert list(await store.read("e")) == [FIRST, b"second", b"third"]
        claim = await self.claim_one(store)
        assert claim.length == 3
        await store.append(claim, 3, [b"fourth"], Commit())
        assert (await self.head(store)).length == 4

    async def test_j6_no_first_record_is_written_if_one_is_too_long(self, store: Store) -> None:
        with pytest.raises(PayloadTooLarge):
            await store.create(new_execution(), FIRST, [b"second", bytes(store.limit_bytes + 1)])
        assert await store.head("e") is None
        assert list(await store.read("e")) == []

    async def test_l7_an_execution_can_be_created_held(self, storage: Storage, store: Store) -> None:
        head, _ = await store.create(new_execution(reason="copied"), FIRST, [b"second"])
        assert (head.held, head.reason) == (True, "copied")
        await store.send("e", Message("m", b"body"))
        assert not (await self.claim(store)).claims
        assert (await self.head(store)).held
        assert await store.resume("e")
        claim = await self.claim_one(store)
        assert (claim.length, (await self.head(store)).reason) == (2, None)

    # Created with its end ----------------------------------------------------------------------------------

    async def test_j13_an_execution_can_be_created_with_its_end(self, storage: Storage, store: Store) -> None:
        for status in ENDS:
            new = new_execution(status, ended=status, tags={"a": "1"}, overview="all of it")
            head, created = await store.create(new, FIRST, [b"second", b"end"])
            assert created
            assert (head.status, head.length, head.held, head.owner) == (status, 3, False, None)
            assert head.ended_at == head.created_at
            assert (head.tags, head.overview, head.waiting) == ({"a": "1"}, "all of it", None)
            async with storage.open() as other:
                assert await other.head(status) == head
                assert [one.id for one in await other.heads(Where(status=status))] == [status]
                assert list(await other.read(status)) == [FIRST, b"second", b"end"]
            assert await store.create(new, b"another") == (head, False)
        assert not await store.heads(Where(status=Status.RUNNING))
        assert {head.id for head in await store.heads(Where(tags={"a": "1"}))} == {*ENDS}

    async def test_j13_it_is_not_claimed_and_takes_no_message_and_no_other_end(self, store: Store) -> None:
        await store.create(new_execution(ended=Status.FAILED), FIRST, [b"end"])
        work = await self.claim(store)
        assert (work.claims, work.next_wake_at) == ((), None)
        with pytest.raises(ExecutionAlreadyEnded):
            await store.send("e", Message("m", b"body"))
        with pytest.raises(ExecutionAlreadyEnded):
            await store.resume("e")
        with pytest.raises(ExecutionAlreadyEnded):
            await store.amend("e", 2, b"end", Status.TERMINATED)
        assert list(await store.read("e")) == [FIRST, b"end"]

    async def test_j13_whoever_waits_for_its_end_need_not_wait(self, storage: Storage, store: Store) -> None:
        await store.create(new_execution(ended=Status.COMPLETED), FIRST)
        await self.ends(storage, asyncio.create_task(store.follow("e", ENDLESS, MUCH_LATER)))

    async def test_j13_it_is_opened_again(self, store: Store) -> None:
        await store.create(new_execution(ended=Status.FAILED), FIRST, [b"end"])
        assert await store.amend("e", 2, b"again", Status.RUNNING)
        claim = await self.claim_one(store)
        assert (claim.length, claim.recovered, claim.fruitless) == (3, False, 0)
        assert (await self.head(store)).ended_at is None
        await store.append(claim, 3, [b"last"], Commit(status=Status.COMPLETED))
        assert (await self.head(store)).status is Status.COMPLETED

    async def test_j13_it_is_forgotten_in_time(self, storage: Storage, store: Store) -> None:
        await store.create(new_execution("by rule", ended=Status.COMPLETED), FIRST)
        await store.create(new_execution("in time", ended=Status.COMPLETED, keep_seconds=5.0), FIRST)
        await storage.clock.advance(1.0)
        assert await store.prune() == 0
        assert await store.prune(storage.clock.now()) == 1
        assert [head.id for head in await store.heads()] == ["in time"]
        await storage.clock.advance(5.0)
        assert await store.prune() == 1
        assert await store.heads() == []

    def test_j13_what_has_not_ended_or_waits_is_no_end(self) -> None:
        for wrong in (
            {"ended": Status.RUNNING},
            {"ended": Status.PAUSED},
            {"ended": Status.FAILED, "reason": "held"},
            {"ended": Status.FAILED, "waiting": "timer"},
        ):
            with pytest.raises(ValueError, match="has ended"):
                new_execution(**wrong)

    # Amending ----------------------------------------------------------------------------------------------

    async def test_j8_a_journal_that_has_grown_is_not_amended(self, store: Store) -> None:
        await store.create(new_execution(), FIRST)
        claim = await self.claim_one(store)
        await store.append(claim, 1, [b"second"], Commit())
        for position in (0, 1, 3):
            assert not await store.amend("e", position, b"end", Status.TERMINATED)
        assert list(await store.read("e")) == [FIRST, b"second"]
        assert (await self.head(store)).status is Status.RUNNING
        await store.append(claim, 2, [b"third"], Commit())

    async def test_j8_of_several_only_one_is_written(self, store: Store) -> None:
        await self.create_and_close(store, "e", Status.FAILED)
        calls = [store.amend("e", 2, f"again {number}".encode(), Status.RUNNING) for number in range(5)]
        assert sorted(await asyncio.gather(*calls)) == [False] * 4 + [True]
        assert (await self.head(store)).length == 3

    async def test_j9_an_execution_is_ended_from_outside(self, store: Store) -> None:
        for status in ENDS:
            await store.create(new_execution(status), FIRST)
            assert await store.amend(status, 1, b"end", status)
            head = await store.head(status)
            assert head is not None
            assert (head.status, head.length, head.held, head.owner) == (status, 2, False, None)
            assert head.ended_at is not None
            assert list(await store.read(status)) == [FIRST, b"end"]
            assert not (await self.claim(store)).claims
            with pytest.raises(ExecutionAlreadyEnded):
                await store.send(status, Message("m", b"body"))
            assert [one.id for one in await store.heads(Where(status=status))] == [status]
        assert not await store.heads(Where(status=Status.RUNNING))

    async def test_j9_its_owner_cannot_write_any_more(self, store: Store) -> None:
        await store.create(new_execution(), FIRST)
        claim = await self.claim_one(store)
        assert await store.amend("e", 1, b"end", Status.TERMINATED)
        await self.assert_refused(store, claim, 1, [b"late"], Commit())
        await self.assert_refused(store, claim, 2, [b"late"], Commit(status=Status.COMPLETED))
        assert await store.renew([claim], self.lease_seconds) == frozenset({"e"})

    async def test_j9_what_is_held_is_ended_too(self, store: Store) -> None:
        await store.create(new_execution(reason="for a while"), FIRST)
        assert await store.amend("e", 1, b"end", Status.TERMINATED)
        head = await self.head(store)
        assert (head.status, head.held, head.reason) == (Status.TERMINATED, False, None)

    async def test_j9_what_has_ended_is_not_ended_again(self, store: Store) -> None:
        for status in ENDS:
            await self.create_and_close(store, status, status)
            with pytest.raises(ExecutionAlreadyEnded):
                await store.amend(status, 2, b"end", Status.TERMINATED)
            assert list(await store.read(status)) == [FIRST, b"last"]

    async def test_j9_an_end_from_outside_is_announced(self, storage: Storage, store: Store) -> None:
        await store.create(new_execution(), FIRST)
        waiting = asyncio.create_task(store.follow("e", ENDLESS, MUCH_LATER))
        async with storage.open() as other:
            assert await other.amend("e", 1, b"end", Status.TERMINATED)
            await self.ends(storage, waiting)

    async def test_j10_what_has_ended_is_opened_again(self, storage: Storage, store: Store) -> None:
        for status in ENDS:
            await self.create_and_close(store, status, status)
            async with storage.open() as other:
                assert await other.amend(status, 2, b"again", Status.RUNNING)
            head = await store.head(status)
            assert head is not None
            assert (head.status, head.length, head.held, head.fruitless) == (Status.RUNNING, 3, False, 0)
            assert (head.ended_at, head.reason, head.owner) == (None, None, None)
            claim = await self.claim_one(store)
            assert (claim.length, claim.recovered, claim.fruitless) == (3, False, 0)
            await store.append(claim, 3, [b"end"], Commit(status=Status.COMPLETED))
            assert list(await store.read(status)) == [FIRST, b"last", b"again", b"end"]
        assert len(await store.heads(Where(status=Status.COMPLETED))) == len(ENDS)

    async def test_j10_it_has_the_messages_that_its_worker_left(self, storage: Storage, store: Store) -> None:
        await self.keeps_messages(storage, store, is_amended=False)

    async def test_j10_it_has_the_messages_of_before_an_end_from_outside(
        self, storage: Storage, store: Store
    ) -> None:
        await self.keeps_messages(storage, store, is_amended=True)

    async def keeps_messages(self, storage: Storage, store: Store, *, is_amended: bool) -> None:
        """Check that nothing unread is lost by an end, and that messages are taken again afterwards."""
        await store.create(new_execution(), FIRST)
        for id in ("read", "unread"):
            await store.send("e", Message(id, b"body"))
        claim = await self.claim_one(store)
        if is_amended:
            await store.append(claim, 1, [], Commit(consumed=1))
            assert await store.amend("e", 1, b"end", Status.TERMINATED)
        else:
            await store.append(claim, 1, [b"end"], Commit(consumed=1, status=Status.FAILED))
        unread = await store.messages("e", 1)
        assert [(one.number, one.message.id) for one in unread] == [(2, "unread")]
        async with storage.open() as other:
            assert await other.amend("e", 2, b"again", Status.RUNNING)
        claim = await self.claim_one(store)
        assert claim.consumed == 1
        assert "e" in (await self.claim(store)).mail
        await store.send("e", Message("new", b"body"))
        found = await store.messages("e", claim.consumed)
        assert [(one.number, one.message.id) for one in found] == [(2, "unread"), (3, "new")]
        await store.append(claim, 3, [], Commit(consumed=3, release=True))
        assert not (await self.claim(store)).claims

    async def test_j10_it_is_not_forgotten_while_it_runs(self, storage: Storage, store: Store) -> None:
        await self.create_and_close(store, "e", Status.FAILED, keep_seconds=10.0)
        assert await store.amend("e", 2, b"again", Status.RUNNING)
        self.require(StoreCapability.MOVABLE_CLOCK)
        await storage.clock.advance(20.0)
        assert await store.prune(storage.clock.now()) == 0
        claim = await self.claim_one(store)
        await store.append(claim, 3, [b"end"], Commit(status=Status.FAILED))
        await storage.clock.advance(5.0)
        assert await store.prune() == 0
        await storage.clock.advance(10.0)
        assert await store.prune() == 1

    async def test_j10_opening_again_is_announced(self, storage: Storage, store: Store) -> None:
        await self.create_and_close(store, "e", Status.FAILED)
        version = (await self.claim(store)).version
        waiting = asyncio.create_task(store.wait(version, MUCH_LATER))
        async with storage.open() as other:
            assert await other.amend("e", 2, b"again", Status.RUNNING)
        await self.ends(storage, waiting)
        (claim,) = (await self.claim(store)).claims
        assert claim.execution_id == "e"

    async def test_j10_whoever_waits_for_the_end_waits_for_the_new_one(
        self, storage: Storage, store: Store
    ) -> None:
        await self.create_and_close(store, "e", Status.FAILED)
        async with storage.open() as other:
            await other.follow("e", ENDLESS, MUCH_LATER)
            assert await store.amend("e", 2, b"again", Status.RUNNING)
            waiting = asyncio.create_task(other.follow("e", ENDLESS, MUCH_LATER))
            await asyncio.sleep(0)
            claim = await self.claim_one(store)
            await store.append(claim, 3, [b"end"], Commit(status=Status.COMPLETED))
            await self.ends(storage, waiting)

    async def test_j6_a_record_that_is_too_long_is_not_added(self, store: Store) -> None:
        await store.create(new_execution(), FIRST)
        with pytest.raises(PayloadTooLarge):
            await store.amend("e", 1, bytes(store.limit_bytes + 1), Status.TERMINATED)
        assert (await self.head(store)).length == 1

    async def test_j9_an_unknown_execution_is_not_found(self, store: Store) -> None:
        for status in (Status.TERMINATED, Status.RUNNING):
            with pytest.raises(ExecutionNotFound):
                await store.amend("unknown", 1, b"end", status)
