"""Forgetting executions: K1."""

from __future__ import annotations

import pytest

from outlast.core.errors import ExecutionNotFound
from outlast.core.records import Status
from outlast.ports.journal import (
    Commit,
    Message,
    Store,
)
from outlast.testing.contracts.journal.stage import FIRST, MUCH_LATER, JournalContractBase, new_execution
from outlast.testing.contracts.journal.storage import Storage, StoreCapability


class ForgettingContract(JournalContractBase):
    async def test_the_time_of_the_end_is_kept(self, storage: Storage, store: Store) -> None:
        before = storage.clock.now()
        await store.create(new_execution(), FIRST)
        claim = await self.claim_one(store)
        await storage.clock.advance(1.0)
        await store.append(claim, 1, [b"last"], Commit(status=Status.CANCELLED))
        head = await store.head("e")
        assert head is not None
        assert (head.status, head.owner, head.length) == (Status.CANCELLED, None, 2)
        assert head.ended_at is not None
        assert before + 1.0 <= head.ended_at <= storage.clock.now()

    async def test_k1_a_running_execution_is_never_forgotten(self, storage: Storage, store: Store) -> None:
        for id in ("new", "owned", "expired", "sleeping", "waiting"):
            await store.create(new_execution(id, keep_seconds=0.0), FIRST)
        claims = {claim.execution_id: claim for claim in (await self.claim(store)).claims}
        await store.append(claims["new"], 1, [], Commit(release=True, wake_at=0.0))
        await store.append(claims["sleeping"], 1, [], Commit(release=True, wake_at=MUCH_LATER))
        await store.append(claims["waiting"], 1, [], Commit(release=True))
        await storage.clock.advance(self.lease_seconds * 2)
        await store.renew([claims["owned"]], self.lease_seconds)
        before = {id: await self.state(store, id) for id in claims}
        assert await store.prune(storage.clock.now() + 1000) == 0
        assert await store.prune() == 0
        assert {id: await self.state(store, id) for id in claims} == before
        await store.append(claims["owned"], 1, [b"second"], Commit())

    async def test_k1_an_execution_that_ended_long_enough_ago_is_forgotten_completely(
        self, storage: Storage, store: Store
    ) -> None:
        await store.create(new_execution("old"), FIRST)
        await store.send("old", Message("m", b"body"))
        claim = await self.claim_one(store)
        await store.append(claim, 1, [b"second"], Commit(status=Status.COMPLETED))
        await storage.clock.advance(1.0)
        between = storage.clock.now()
        await storage.clock.advance(1.0)
        await self.create_and_close(store, "young")
        assert await store.prune() == 0
        assert await store.prune(between - 1000) == 0
        assert await store.prune(between) == 1
        assert await store.prune(between) == 0
        async with storage.open() as second:
            assert await second.head("old") is None
            assert list(await second.read("old")) == []
            assert list(await second.messages("old", 0)) == []
            assert [head.id for head in await second.heads()] == ["young"]
            with pytest.raises(ExecutionNotFound):
                await second.send("old", Message("m", b"body"))
            _, created = await second.create(new_execution("old"), b"another first record")
            assert created
            assert list(await second.read("old")) == [b"another first record"]
            await second.send("old", Message("m", b"new body"))
            assert [(d.number, d.message.body) for d in await second.messages("old", 0)] == [(1, b"new body")]
            assert (await self.claim_one(second)).consumed == 0

    async def test_k1_an_execution_is_kept_as_long_as_it_asked_for(
        self, storage: Storage, store: Store
    ) -> None:
        await self.create_and_close(store, "short", keep_seconds=2.0)
        await self.create_and_close(store, "long", keep_seconds=1e6)
        await self.create_and_close(store, "unsaid")
        await storage.clock.advance(1.0)
        if StoreCapability.MOVABLE_CLOCK in self.capabilities:
            assert await store.prune() == 0
        await storage.clock.advance(1.0)
        assert await store.prune() == 1
        assert {head.id for head in await store.heads()} == {"long", "unsaid"}
        assert await store.prune(storage.clock.now()) == 1
        assert [head.id for head in await store.heads()] == ["long"]
