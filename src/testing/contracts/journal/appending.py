"""Appending to a journal, which only its owner may do: J3 to J7, J11."""

from __future__ import annotations

import asyncio

import pytest

from outlast.core.errors import LeaseLost, PayloadTooLarge
from outlast.core.records import Status
from outlast.ports.journal import (
    Commit,
    Message,
    Store,
)
from outlast.testing.contracts.journal.stage import FIRST, RECORDS, JournalContractBase, new_execution
from outlast.testing.contracts.journal.storage import Storage


class AppendingContract(JournalContractBase):
    async def test_j3_appended_records_are_seen_by_every_reader_at_once(
        self, storage: Storage, store: Store
    ) -> None:
        async with storage.open() as second:
            await store.create(new_execution(), FIRST)
            claim = await self.claim_one(store)
            for length in range(1, 4):
                await store.append(claim, length, [b"%d" % length], Commit())
                assert list(await second.read("e", length)) == [b"%d" % length]
                assert await second.head("e") == await store.head("e")

    async def test_j3_appended_records_survive_reopening(self, storage: Storage) -> None:
        async with storage.open() as store:
            await store.create(new_execution(), FIRST)
            await store.send("e", Message("m1", b"one"))
            await store.send("e", Message("m2", b"two"))
            claim = await self.claim_one(store)
            await store.append(claim, 1, [b"second"], Commit(consumed=1))
        async with storage.open() as store:
            assert list(await store.read("e")) == [FIRST, b"second"]
            # The claim also outlives the store object.
            assert (await self.claim(store, worker="b")).claims == ()
            await store.append(claim, 2, [b"third"], Commit(release=True, reason="a reason"))
        async with storage.open() as store:
            assert list(await store.read("e")) == [FIRST, b"second", b"third"]
            head = await store.head("e")
            assert head is not None
            assert (head.length, head.reason, head.owner) == (3, "a reason", None)
            taken = await self.claim_one(store, worker="b")
            assert (taken.length, taken.consumed) == (3, 1)
            await store.append(taken, 3, [b"last"], Commit(status=Status.FAILED))
        async with storage.open() as store:
            head = await store.head("e")
            assert head is not None
            assert head.status is Status.FAILED
            assert head.ended_at is not None
            assert list(await store.read("e", 3)) == [b"last"]

    async def test_j4_a_worker_whose_execution_was_taken_over_is_fenced(
        self, storage: Storage, store: Store
    ) -> None:
        await store.create(new_execution(), FIRST)
        await store.send("e", Message("m", b"body"))
        old = await self.claim_one(store, worker="a")
        await storage.clock.advance(self.lease_seconds)
        async with storage.open() as second:
            taken = await self.claim_one(second, worker="b")
            for commit in (Commit(), Commit(consumed=1), Commit(status=Status.FAILED), Commit(release=True)):
                await self.assert_refused(store, old, 1, [b"stale"], commit)
            await second.append(taken, 1, [b"good"], Commit(consumed=1))
            await self.assert_refused(store, old, 1, [b"stale"], Commit())
            await self.assert_refused(store, old, 2, [b"stale"], Commit())
        assert list(await store.read("e")) == [FIRST, b"good"]

    async def test_j4_a_worker_that_claims_its_own_execution_again_is_fenced_as_well(
        self, storage: Storage, store: Store
    ) -> None:
        await store.create(new_execution(), FIRST)
        old = await self.claim_one(store, worker="a")
        await storage.clock.advance(self.lease_seconds)
        taken = await self.claim_one(store, worker="a")
        await self.assert_refused(store, old, 1, [b"stale"], Commit())
        await store.append(taken, 1, [b"good"], Commit())

    async def test_j4_a_claim_whose_lease_ran_out_is_valid_until_somebody_else_claims(
        self, storage: Storage, store: Store
    ) -> None:
        await store.create(new_execution(), FIRST)
        claim = await self.claim_one(store)
        await storage.clock.advance(self.lease_seconds * 3)
        await store.append(claim, 1, [b"second"], Commit())
        assert list(await store.read("e")) == [FIRST, b"second"]
        # An append does not renew the lease.
        assert (await self.claim_one(store, worker="b")).recovered

    async def test_j4_an_append_at_another_position_is_refused(self, store: Store) -> None:
        await store.create(new_execution(), FIRST)
        await store.send("e", Message("m", b"body"))
        claim = await self.claim_one(store)
        for position in (0, 2, 100, -1):
            for commit in (Commit(), Commit(consumed=1, release=True), Commit(status=Status.COMPLETED)):
                await self.assert_refused(store, claim, position, [b"misplaced"], commit)
        await store.append(claim, 1, [b"second", b"third"], Commit())
        await self.assert_refused(store, claim, 1, [b"second", b"third"], Commit())
        await store.append(claim, 3, [b"fourth"], Commit())
        assert list(await store.read("e")) == [FIRST, b"second", b"third", b"fourth"]

    async def test_j4_of_two_concurrent_appends_at_one_position_one_is_refused(
        self, storage: Storage, store: Store
    ) -> None:
        await store.create(new_execution(), FIRST)
        claim = await self.claim_one(store)
        async with storage.open() as second:
            for length in range(1, 9):
                writes = [
                    each.append(claim, length, [name], Commit())
                    for each, name in ((store, b"a"), (second, b"b"))
                ]
                outcomes = await asyncio.gather(*writes, return_exceptions=True)
                assert sorted(str(type(outcome).__name__) for outcome in outcomes) == [
                    "LeaseLost",
                    "NoneType",
                ]
                assert list(await store.read("e", length)) == [b"a" if outcomes[0] is None else b"b"]

    async def test_j4_a_released_claim_is_refused(self, store: Store) -> None:
        await store.create(new_execution(), FIRST)
        claim = await self.claim_one(store)
        await store.append(claim, 1, [], Commit(release=True))
        await self.assert_refused(store, claim, 1, [b"stale"], Commit())
        await self.assert_refused(store, claim, 1, [], Commit(release=True, wake_at=0.0))

    async def test_j4_the_claim_on_an_execution_that_has_ended_is_refused(self, store: Store) -> None:
        claim = await self.create_and_close(store, "e")
        await self.assert_refused(store, claim, 2, [b"stale"], Commit())
        await self.assert_refused(store, claim, 2, [], Commit(status=Status.CANCELLED))

    async def test_j4_a_claim_on_an_execution_that_was_forgotten_is_refused_for_ever(
        self, storage: Storage, store: Store
    ) -> None:
        await store.create(new_execution(), FIRST)
        forgotten = await self.claim_one(store)
        await storage.clock.advance(self.lease_seconds)
        taken = await self.claim_one(store, worker="b")
        await store.append(taken, 1, [], Commit(status=Status.COMPLETED))
        await storage.clock.advance(1.0)
        assert await store.prune(storage.clock.now()) == 1
        with pytest.raises(LeaseLost):
            await store.append(forgotten, 1, [b"stale"], Commit())
        await store.create(new_execution(), FIRST)
        await self.assert_refused(store, forgotten, 1, [b"stale"], Commit())
        claim = await self.claim_one(store)
        assert claim.token > taken.token > forgotten.token
        await self.assert_refused(store, forgotten, 1, [b"stale"], Commit())
        await self.assert_refused(store, taken, 1, [b"stale"], Commit())

    async def test_j5_a_refused_append_leaves_nothing(self, store: Store) -> None:
        await store.create(new_execution(), FIRST)
        await store.send("e", Message("m", b"body"))
        claim = await self.claim_one(store)
        too_long = bytes(store.limit_bytes + 1)
        commit = Commit(consumed=1, release=True, reason="a reason")
        before = await self.state(store, "e")
        with pytest.raises(PayloadTooLarge):
            await store.append(claim, 1, [b"fits", too_long, b"fits too"], commit)
        assert await self.state(store, "e") == before
        await store.append(claim, 1, [b"fits", b"fits too"], commit)
        assert list(await store.read("e", 1)) == [b"fits", b"fits too"]

    async def test_j5_a_cancelled_append_leaves_all_or_nothing(self, store: Store) -> None:
        async def turns(count: int) -> None:
            for _ in range(count):
                await asyncio.sleep(0)

        for number in range(40):
            id = f"e{number}"
            await store.create(new_execution(id), FIRST)
            claim = await self.claim_one(store)
            write = asyncio.create_task(
                store.append(claim, 1, [b"second", b"third"], Commit(release=True, reason="released"))
            )
            # The last appends are cancelled after some real time, for stores that write in a thread.
            await (turns(number) if number < 30 else asyncio.sleep((number - 30) / 5000))
            write.cancel()
            await asyncio.wait({write})
            head = await store.head(id)
            assert head is not None
            records = list(await store.read(id))
            if head.length == 1:
                assert records == [FIRST]
                assert (head.owner, head.reason) == (claim.worker, None)
                assert write.cancelled()
            else:
                assert records == [FIRST, b"second", b"third"]
                assert (head.length, head.owner, head.reason) == (3, None, "released")

    async def test_j5_the_outcome_of_a_cancelled_append_is_settled_when_the_call_has_ended(
        self, storage: Storage, store: Store
    ) -> None:
        seen: dict[str, object] = {}
        for number in range(40):
            id = f"e{number}"
            await store.create(new_execution(id), FIRST)
            claim = await self.claim_one(store)
            write = asyncio.create_task(store.append(claim, 1, [b"second"], Commit(release=True)))
            for _ in range(number):
                await asyncio.sleep(0)
            write.cancel()
            await asyncio.wait({write})
            seen[id] = await self.state(store, id)
        async with storage.open() as second:
            for id, state in seen.items():
                assert await self.state(second, id) == state

    async def test_j6_a_record_may_be_as_long_as_the_limit_and_no_longer(self, store: Store) -> None:
        longest, too_long = bytes(store.limit_bytes), bytes(store.limit_bytes + 1)
        with pytest.raises(PayloadTooLarge) as refusal:
            await store.create(new_execution(), too_long)
        assert refusal.value.limit_bytes == store.limit_bytes
        assert refusal.value.size_bytes == len(too_long)
        assert await store.head("e") is None
        _, created = await store.create(new_execution(), longest)
        assert created
        claim = await self.claim_one(store)
        before = await self.state(store, "e")
        with pytest.raises(PayloadTooLarge):
            await store.append(claim, 1, [too_long], Commit(release=True))
        assert await self.state(store, "e") == before
        await store.append(claim, 1, [longest, longest], Commit())
        assert [len(record) for record in await store.read("e")] == [store.limit_bytes] * 3

    async def test_j7_records_come_back_byte_for_byte(self, storage: Storage, store: Store) -> None:
        records = [record for record in RECORDS if len(record) <= store.limit_bytes]
        for number, record in enumerate(records):
            await store.create(new_execution(f"first-{number}"), record)
            assert list(await store.read(f"first-{number}")) == [record]
        await store.create(new_execution("e"), FIRST)
        claim = next(c for c in (await self.claim(store, limit=100)).claims if c.execution_id == "e")
        await store.append(claim, 1, records, Commit())
        async with storage.open() as second:
            whole = [FIRST, *records]
            for after in range(len(whole) + 2):
                assert list(await second.read("e", after)) == whole[after:]
            assert all(type(record) is bytes for record in await second.read("e"))

    async def test_j11_a_journal_can_be_read_a_few_records_at_a_time(
        self, storage: Storage, store: Store
    ) -> None:
        records = [b"%d" % number for number in range(12)]
        await store.create(new_execution(), FIRST)
        await store.append(await self.claim_one(store), 1, records, Commit())
        whole = [FIRST, *records]
        async with storage.open() as second:
            for after in range(len(whole) + 2):
                for limit in range(1, len(whole) + 3):
                    assert list(await second.read("e", after, limit)) == whole[after : after + limit]
            assert list(await second.read("nobody", 0, 3)) == []

    async def test_j7_records_stay_unchanged_after_later_appends(
        self, storage: Storage, store: Store
    ) -> None:
        await store.create(new_execution(), FIRST)
        expected = [FIRST]
        for turn in range(5):
            claim = await self.claim_one(store, worker=f"worker {turn}")
            batch = [b"%d" % turn] * turn
            await store.append(claim, len(expected), batch, Commit(release=True, wake_at=0.0))
            expected += batch
            assert list(await store.read("e")) == expected
        claim = await self.claim_one(store)
        await store.append(claim, len(expected), [], Commit(status=Status.COMPLETED))
        await storage.clock.advance(1.0)
        assert await store.prune() == 0
        assert list(await store.read("e")) == expected

    async def test_a_reason_lasts_until_the_next_append(self, store: Store) -> None:
        async def reason() -> str | None:
            head = await store.head("e")
            assert head is not None
            return head.reason

        await store.create(new_execution(), FIRST)
        assert await reason() is None
        claim = await self.claim_one(store)
        await store.append(claim, 1, [], Commit(release=True, wake_at=0.0, reason="why: ünïcode\n'quoted'"))
        assert await reason() == "why: ünïcode\n'quoted'"
        claim = await self.claim_one(store)
        assert await reason() is not None
        await store.append(claim, 1, [], Commit())
        assert await reason() is None
