"""The owner of an execution, and the times when it begins and ceases to own it: L1 to L4."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from outlast.core.records import Status
from outlast.ports.journal import (
    DEFAULT_TASK_QUEUE,
    Claim,
    Commit,
    Message,
    Store,
    WorkerCard,
)
from outlast.testing.contracts.journal.stage import FIRST, JournalContractBase, new_execution
from outlast.testing.contracts.journal.storage import Storage, StoreCapability


class ClaimingContract(JournalContractBase):
    async def test_a_claim_has_all_that_the_worker_needs(self, storage: Storage, store: Store) -> None:
        await store.create(new_execution("e", workflow="v"), FIRST)
        [claim] = (await self.claim(store, worker="a", workflows=["w", "v"])).claims
        assert claim == Claim("e", "v", "a", claim.token, length=1, consumed=0)
        head = await store.head("e")
        assert head is not None
        assert head.owner == "a"
        await store.append(claim, 1, [b"second", b"third"], Commit(release=True, wake_at=storage.clock.now()))
        [claim] = (await self.claim(store, worker="b", workflows=["v"])).claims
        assert (claim.worker, claim.length, claim.recovered) == ("b", 3, False)

    async def test_only_executions_of_the_given_workflows_and_task_queue_are_claimed(
        self, store: Store
    ) -> None:
        for workflow in ("v", "w"):
            for task_queue in ("p", "q"):
                id = workflow + task_queue
                await store.create(new_execution(id, workflow=workflow, task_queue=task_queue), FIRST)
        assert (await self.claim(store, workflows=[], task_queue="p")).claims == ()
        assert (await self.claim(store, workflows=["u"], task_queue="p")).claims == ()
        assert (await self.claim(store, workflows=["v", "w"], task_queue="o")).claims == ()
        assert (await self.claim(store, workflows=["u"], task_queue="p")).next_wake_at is None
        work = await self.claim(store, workflows=["w", "u"], task_queue="q")
        assert [claim.execution_id for claim in work.claims] == ["wq"]
        work = await self.claim(store, workflows=["w", "v"], task_queue="p")
        assert sorted(claim.execution_id for claim in work.claims) == ["vp", "wp"]

    async def test_the_executions_that_have_waited_longest_are_claimed_first(
        self, storage: Storage, store: Store
    ) -> None:
        """They may wait for their start, their lease's end, their wake-up time, or since a message."""
        self.require(StoreCapability.MOVABLE_CLOCK)
        clock, start = storage.clock, storage.clock.now()
        for id in ("sleeper", "expired", "messaged", "early sleeper", "late sleeper"):
            await store.create(new_execution(id), FIRST)
        claims = {claim.execution_id: claim for claim in (await self.claim(store, lease_seconds=30.0)).claims}
        await store.append(claims["sleeper"], 1, [], Commit(release=True, wake_at=start + 20))
        await store.append(claims["messaged"], 1, [], Commit(release=True))
        await store.append(claims["late sleeper"], 1, [], Commit(release=True, wake_at=start + 60))
        await clock.advance(10)
        await store.create(new_execution("new"), FIRST)
        await clock.advance(15)
        await store.send("messaged", Message("m", b""))
        await clock.advance(15)
        # It has waited since it was released, not since the time that it names.
        await store.append(claims["early sleeper"], 1, [], Commit(release=True, wake_at=start))
        await clock.advance(10)
        order = []
        while work := (await self.claim(store, limit=2)).claims:
            order += [claim.execution_id for claim in work]
        assert order == ["new", "sleeper", "messaged", "expired", "early sleeper"]

    async def test_the_executions_that_have_waited_longest_are_claimed_first_across_workflows(
        self, storage: Storage, store: Store
    ) -> None:
        """An execution that comes in the middle of many others is claimed in the middle, by any worker."""
        self.require(StoreCapability.MOVABLE_CLOCK)
        created = [f"flood {number}" for number in range(12)]
        created[6:6] = ["late"]
        for id in created:
            workflow, _, _ = id.partition(" ")
            await store.create(new_execution(id, workflow=workflow), FIRST)
            await storage.clock.advance(1)
        order: list[str] = []
        async with storage.open() as second:
            for turn in range(6):
                work = await self.claim(
                    (store, second)[turn % 2],
                    worker=f"w{turn}",
                    workflows=["late", "flood", "other"],
                    limit=3,
                )
                order += [claim.execution_id for claim in work.claims]
        assert order == created

    async def test_l2_a_step_of_the_wall_clock_neither_takes_a_lease_nor_stretches_it(
        self, storage: Storage, store: Store
    ) -> None:
        self.require(StoreCapability.STEADY_LEASES)
        await store.create(new_execution(), FIRST)
        claim = await self.claim_one(store)
        await store.announce(WorkerCard("a", ("w",), DEFAULT_TASK_QUEUE, storage.clock.now()), 10)
        for seconds in (3600, -7200, 86_400):
            storage.clock.step(seconds)
            work = await self.claim(store, worker="b")
            assert work.claims == ()
            assert work.next_wake_at == pytest.approx(storage.clock.now() + self.lease_seconds)
            assert [worker.card.identity for worker in await store.workers()] == ["a"]
        assert await store.renew([claim], self.lease_seconds) == frozenset()
        storage.clock.step(-86_400)
        await storage.clock.advance(self.lease_seconds - 0.5)
        assert (await self.claim(store, worker="b")).claims == ()
        await storage.clock.advance(1)
        assert (await self.claim_one(store, worker="b")).recovered
        assert await store.workers() == []

    async def test_l9_a_step_of_the_wall_clock_makes_nobody_wait(
        self, storage: Storage, store: Store
    ) -> None:
        self.require(StoreCapability.STEADY_LEASES)
        for seconds in (-86_400, -3600, 3600):
            mailed, released, later, created = (f"{what} {seconds}" for what in ("m", "r", "l", "c"))
            for id in (mailed, released, later):
                await store.create(new_execution(id), FIRST)
            claims = {claim.execution_id: claim for claim in (await self.claim(store)).claims}
            await store.append(claims[mailed], 1, [], Commit(release=True))
            await store.append(claims[released], 1, [], Commit(release=True, wake_in=0.0))
            await store.append(claims[later], 1, [], Commit(release=True, wake_in=self.lease_seconds / 2))
            await store.create(new_execution(created), FIRST)
            await store.send(mailed, Message("m", b"body"))
            storage.clock.step(seconds)
            work = await self.claim(store, worker="b")
            assert {claim.execution_id for claim in work.claims} == {created, mailed, released}
            for claim in work.claims:
                await store.append(claim, 1, [], Commit(status=Status.COMPLETED))
            await storage.clock.advance(self.lease_seconds / 2 - 0.5)
            assert (await self.claim(store, worker="b")).claims == ()
            await storage.clock.advance(1)
            last = await self.claim_one(store, worker="b")
            assert last.execution_id == later
            await store.append(last, 1, [], Commit(status=Status.COMPLETED))

    async def test_no_more_are_claimed_than_asked_for(self, store: Store) -> None:
        for number in range(5):
            await store.create(new_execution(f"e{number}"), FIRST)
        sizes = [len((await self.claim(store, limit=limit)).claims) for limit in (0, 2, 1, 10, 10)]
        assert sizes == [0, 2, 1, 2, 0]

    async def test_l1_an_execution_is_claimed_once(self, storage: Storage, store: Store) -> None:
        for number in range(20):
            await store.create(new_execution(f"e{number}"), FIRST)
        async with storage.open() as second:
            works = await asyncio.gather(
                *(self.claim((store, second)[n % 2], worker=f"worker {n}", limit=3) for n in range(10))
            )
        claimed = [claim.execution_id for work in works for claim in work.claims]
        assert sorted(claimed) == sorted(f"e{number}" for number in range(20))
        assert all(len(work.claims) <= 3 for work in works)

    async def test_l1_an_execution_is_claimed_once_by_parallel_threads(
        self, storage: Storage, store: Store
    ) -> None:
        self.require(StoreCapability.PARALLEL_OPENING)
        for number in range(40):
            await store.create(new_execution(f"e{number}"), FIRST)

        async def claim_some(store: Store, worker: str) -> list[str]:
            claimed: list[str] = []
            while claims := (await self.claim(store, worker=worker, limit=2)).claims:
                for claim in claims:
                    await store.append(claim, 1, [worker.encode()], Commit())
                    claimed.append(claim.execution_id)
            return claimed

        works = await self.in_threads(
            storage, [partial(claim_some, worker=f"worker {number}") for number in range(4)]
        )
        assert sorted(id for work in works for id in work) == sorted(f"e{n}" for n in range(40))
        for worker, work in enumerate(works):
            for id in work:
                assert list(await store.read(id, 1)) == [f"worker {worker}".encode()]

    async def test_l1_the_tokens_of_an_execution_only_grow(self, storage: Storage, store: Store) -> None:
        await store.create(new_execution(), FIRST)
        tokens = []
        for turn in range(6):
            async with storage.open() as second:
                claim = await self.claim_one(second, worker=f"worker {turn % 2}")
            tokens.append(claim.token)
            if turn % 2:
                await store.append(claim, 1, [], Commit(release=True, wake_at=0.0))
            else:
                await storage.clock.advance(self.lease_seconds)
        assert tokens == sorted(set(tokens))

    async def test_l2_nobody_claims_before_the_lease_runs_out(self, storage: Storage, store: Store) -> None:
        self.require(StoreCapability.MOVABLE_CLOCK)
        await store.create(new_execution(), FIRST)
        await self.claim_one(store, worker="a")
        async with storage.open() as second:
            for passed in (0.0, self.lease_seconds / 2, self.lease_seconds / 2 - 0.25):
                await storage.clock.advance(passed)
                for each in (store, second):
                    for worker in ("a", "b"):
                        assert (await self.claim(each, worker=worker)).claims == ()
            await storage.clock.advance(0.25)
            assert (await self.claim_one(second, worker="b")).worker == "b"

    async def test_l2_a_message_or_an_early_renewal_makes_no_lease_shorter(
        self, storage: Storage, store: Store
    ) -> None:
        self.require(StoreCapability.MOVABLE_CLOCK)
        await store.create(new_execution(), FIRST)
        claim = await self.claim_one(store, worker="a")
        await store.send("e", Message("m", b"body"))
        await store.append(claim, 1, [b"second"], Commit())
        assert (await self.claim(store, worker="b")).claims == ()
        await storage.clock.advance(self.lease_seconds / 2)
        assert await store.renew([claim], self.lease_seconds) == frozenset()
        await storage.clock.advance(self.lease_seconds - 0.25)
        assert (await self.claim(store, worker="b")).claims == ()
        await storage.clock.advance(0.25)
        assert (await self.claim_one(store, worker="b")).recovered

    async def test_l2_a_released_execution_can_be_claimed_at_once(self, store: Store) -> None:
        await store.create(new_execution(), FIRST)
        claim = await self.claim_one(store, worker="a")
        await store.append(claim, 1, [], Commit(release=True, wake_at=0.0))
        assert (await self.claim_one(store, worker="b")).worker == "b"

    async def test_l2_an_execution_that_has_ended_is_never_claimed(
        self, storage: Storage, store: Store
    ) -> None:
        await store.create(new_execution(), FIRST)
        claim = await self.claim_one(store)
        await store.send("e", Message("m", b"body"))
        await store.append(claim, 1, [], Commit(status=Status.COMPLETED, release=True, wake_at=0.0))
        await storage.clock.advance(self.lease_seconds * 2)
        work = await self.claim(store)
        assert (work.claims, work.mail, work.next_wake_at) == ((), frozenset(), None)

    async def test_l3_recovered_says_that_the_last_owner_did_not_release_it(
        self, storage: Storage, store: Store
    ) -> None:
        await store.create(new_execution(), FIRST)
        claim = await self.claim_one(store, worker="a")
        assert (claim.recovered, claim.recovered_from) == (False, None)
        await storage.clock.advance(self.lease_seconds)
        claim = await self.claim_one(store, worker="b")
        assert (claim.recovered, claim.recovered_from) == (True, "a")
        await store.append(claim, 1, [], Commit(release=True, wake_at=0.0))
        await storage.clock.advance(self.lease_seconds * 2)
        claim = await self.claim_one(store, worker="c")
        assert not claim.recovered
        # A lease that ran out, whose owner then came back in time to release it.
        await storage.clock.advance(self.lease_seconds * 2)
        await store.append(claim, 1, [], Commit(release=True, wake_at=0.0))
        assert not (await self.claim_one(store, worker="a")).recovered
        await storage.clock.advance(self.lease_seconds)
        assert (await self.claim_one(store, worker="a")).recovered_from == "a"

    async def test_l4_a_lease_that_ran_out_but_was_not_claimed_is_renewed(
        self, storage: Storage, store: Store
    ) -> None:
        await store.create(new_execution(), FIRST)
        claim = await self.claim_one(store, worker="a")
        await storage.clock.advance(self.lease_seconds * 3)
        assert await store.renew([claim], self.lease_seconds) == frozenset()
        assert (await self.claim(store, worker="b")).claims == ()
        await store.append(claim, 1, [b"second"], Commit())

    async def test_l4_claims_that_are_lost_or_released_are_named_and_stay_so(
        self, storage: Storage, store: Store
    ) -> None:
        ids = ("kept", "released", "ended", "taken")
        for id in ids:
            await store.create(new_execution(id), FIRST)
        claims = {claim.execution_id: claim for claim in (await self.claim(store, worker="a")).claims}
        await store.append(claims["released"], 1, [], Commit(release=True))
        await store.append(claims["ended"], 1, [], Commit(status=Status.COMPLETED))
        assert await store.renew([claims["kept"]], self.lease_seconds * 10) == frozenset()
        await storage.clock.advance(self.lease_seconds)
        taken = await self.claim_one(store, worker="b")
        assert taken.execution_id == "taken"
        before = {id: await self.state(store, id) for id in ids}
        async with storage.open() as second:
            lost = await second.renew(list(claims.values()), self.lease_seconds * 10)
        assert lost == {"released", "ended", "taken"}
        assert {id: await self.state(store, id) for id in ids} == before
        assert (await self.claim(store, worker="c")).claims == ()
        await storage.clock.advance(self.lease_seconds)
        # The loser's renewal did not lengthen the winner's lease, and brought nothing back.
        work = await self.claim(store, worker="c")
        assert [claim.execution_id for claim in work.claims] == ["taken"]

    async def test_l4_renewing_nothing_loses_nothing(self, store: Store) -> None:
        assert await store.renew([], self.lease_seconds) == frozenset()
        unknown = Claim("nobody", "w", "a", token=1, length=1, consumed=0)
        assert await store.renew([unknown], self.lease_seconds) == {"nobody"}
