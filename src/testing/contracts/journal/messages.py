"""Sending messages to an inbox, each exactly once: I1 to I5."""

from __future__ import annotations

import asyncio

import pytest

from outlast.core.errors import ExecutionAlreadyEnded, ExecutionNotFound, PayloadTooLarge
from outlast.core.records import Status
from outlast.ports.journal import (
    Commit,
    Message,
    Store,
)
from outlast.testing.contracts.journal.stage import FIRST, RECORDS, JournalContractBase, new_execution
from outlast.testing.contracts.journal.storage import Storage


class InboxContract(JournalContractBase):
    async def test_i1_messages_are_numbered_in_the_order_in_which_they_were_sent(
        self, storage: Storage, store: Store
    ) -> None:
        sent = [Message(f"m{number % 3}-{number}", b"%d" % number) for number in range(20, 0, -1)]
        async with storage.open() as second:
            await store.create(new_execution(), FIRST)
            for number, message in enumerate(sent):
                await (store, second)[number % 2].send("e", message)
                got = await (second, store)[number % 2].messages("e", 0)
                assert [delivery.message for delivery in got] == sent[: number + 1]
        async with storage.open() as reopened:
            for after in range(len(sent) + 2):
                got = await reopened.messages("e", after)
                assert [delivery.message for delivery in got] == sent[after:]
                assert [delivery.number for delivery in got] == list(range(after + 1, len(sent) + 1))

    async def test_i1_bodies_come_back_byte_for_byte(self, store: Store) -> None:
        await store.create(new_execution(), FIRST)
        bodies = [body for body in RECORDS if len(body) <= store.limit_bytes]
        for number, body in enumerate(bodies):
            await store.send("e", Message(str(number), body))
        assert [delivery.message.body for delivery in await store.messages("e", 0)] == bodies

    async def test_i1_concurrent_messages_all_arrive(self, storage: Storage, store: Store) -> None:
        await store.create(new_execution(), FIRST)
        async with storage.open() as second:
            await asyncio.gather(
                *((store, second)[n % 2].send("e", Message(f"m{n}", b"%d" % n)) for n in range(20))
            )
        got = await store.messages("e", 0)
        assert [delivery.number for delivery in got] == list(range(1, 21))
        assert {delivery.message for delivery in got} == {Message(f"m{n}", b"%d" % n) for n in range(20)}

    async def test_i4_an_inbox_can_be_read_a_few_messages_at_a_time(self, store: Store) -> None:
        await store.create(new_execution(), FIRST)
        for number in range(9):
            await store.send("e", Message(f"m{number}", b"%d" % number))
        for consumed in (0, 4):
            claim = await self.claim_one(store)
            await store.append(claim, 1, [], Commit(consumed=consumed, release=True))
            for after in range(consumed, 11):
                for limit in range(1, 12):
                    got = await store.messages("e", after, limit)
                    assert [delivery.number for delivery in got] == list(range(after + 1, 10))[:limit]
        assert list(await store.messages("nobody", 0, 3)) == []

    async def test_i5_messages_that_were_consumed_are_left_out(self, storage: Storage, store: Store) -> None:
        await store.create(new_execution(), FIRST)
        for number in range(1, 4):
            await store.send("e", Message(f"m{number}", b"body"))
        claim = await self.claim_one(store)
        await store.append(claim, 1, [], Commit(consumed=2))
        async with storage.open() as other:
            for reader in (store, other):
                assert [delivery.number for delivery in await reader.messages("e", 0)] == [3]
        await store.append(claim, 1, [RECORDS[0]], Commit(consumed=3, status=Status.FAILED))
        assert list(await store.messages("e", 0)) == []

    async def test_i2_sending_a_message_again_changes_nothing(self, storage: Storage, store: Store) -> None:
        await store.create(new_execution(), FIRST)
        await store.send("e", Message("m", b"body"))
        for again in (Message("m", b"body"), Message("m", b"another body"), Message("m", b"")):
            await store.send("e", again)
        assert [delivery.message for delivery in await store.messages("e", 0)] == [Message("m", b"body")]
        async with storage.open() as second:
            await asyncio.gather(*(each.send("e", Message("n", b"")) for each in (store, second) * 3))
        assert [delivery.number for delivery in await store.messages("e", 0)] == [1, 2]

    async def test_i2_sending_a_consumed_message_again_changes_nothing(self, storage: Storage) -> None:
        async with storage.open() as store:
            await store.create(new_execution(), FIRST)
            for number in range(1, 4):
                await store.send("e", Message(f"m{number}", b"body"))
            claim = await self.claim_one(store)
            await store.append(claim, 1, [], Commit(consumed=2))
            await store.append(claim, 1, [], Commit(consumed=3, release=True))
        async with storage.open() as store:
            for number in range(1, 4):
                await store.send("e", Message(f"m{number}", b"body"))
            assert list(await store.messages("e", 3)) == []
            assert (await self.claim(store)).claims == ()
            await store.send("e", Message("m4", b"body"))
            assert [delivery.number for delivery in await store.messages("e", 3)] == [4]

    async def test_i2_executions_do_not_share_message_ids(self, store: Store) -> None:
        for id in ("e", "f"):
            await store.create(new_execution(id), FIRST)
            await store.send(id, Message("m", id.encode()))
        for id in ("e", "f"):
            assert [d.message.body for d in await store.messages(id, 0)] == [id.encode()]

    async def test_i3_a_message_to_an_unknown_execution_is_refused(self, store: Store) -> None:
        with pytest.raises(ExecutionNotFound):
            await store.send("e", Message("m", b"body"))
        await store.create(new_execution(), FIRST)
        assert list(await store.messages("e", 0)) == []
        await store.send("e", Message("m", b"body"))
        assert len(await store.messages("e", 0)) == 1

    async def test_i3_a_message_to_an_execution_that_has_ended_is_refused(self, store: Store) -> None:
        for status in (Status.COMPLETED, Status.FAILED, Status.CANCELLED):
            id = str(status)
            await self.create_and_close(store, id, status)
            before = await self.state(store, id)
            with pytest.raises(ExecutionAlreadyEnded) as refusal:
                await store.send(id, Message("m", b"body"))
            assert refusal.value.status == status
            assert await self.state(store, id) == before
        assert (await self.claim(store)).claims == ()

    async def test_i3_a_message_over_the_limit_is_refused(self, store: Store) -> None:
        await store.create(new_execution(), FIRST)
        claim = await self.claim_one(store)
        await store.append(claim, 1, [], Commit(release=True))
        before = await self.state(store, "e")
        with pytest.raises(PayloadTooLarge):
            await store.send("e", Message("m", bytes(store.limit_bytes + 1)))
        assert await self.state(store, "e") == before
        assert (await self.claim(store)).claims == ()
        longest = Message("m", bytes(store.limit_bytes))
        await store.send("e", longest)
        assert [delivery.message for delivery in await store.messages("e", 0)] == [longest]

    async def test_messages_are_consumed_with_an_append_and_not_unconsumed(self, store: Store) -> None:
        await store.create(new_execution(), FIRST)
        for number in range(1, 4):
            await store.send("e", Message(f"m{number}", b"body"))
        claim = await self.claim_one(store)
        assert claim.consumed == 0
        await store.append(claim, 1, [], Commit(consumed=2))
        await store.append(claim, 1, [], Commit())
        await store.append(claim, 1, [], Commit(consumed=1, release=True))
        claim = await self.claim_one(store)
        assert claim.consumed == 2
        assert [delivery.number for delivery in await store.messages("e", 2)] == [3]
        await store.append(claim, 1, [], Commit(consumed=3, release=True))
        assert (await self.claim(store)).claims == ()
