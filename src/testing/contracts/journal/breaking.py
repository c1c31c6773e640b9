"""Storage that is cut off from its stores and comes back: a server that ends, a network that breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import pytest

from outlast.core.errors import StorageError
from outlast.core.records import Status
from outlast.ports.journal import DEFAULT_TASK_QUEUE, ENDLESS, Claim, Commit, Message, Store, WorkerCard
from outlast.testing.contracts.journal.stage import FIRST, JournalContractBase, new_execution
from outlast.testing.contracts.journal.storage import BreakableStorage, Storage, StoreCapability


class BreakingContract(JournalContractBase):
    """Part of `JournalContract`; it may be inherited alone, for storage that is too costly for all tests."""

    async def test_breakable_each_call_raises_storage_error_while_the_storage_is_cut_off(
        self, storage: Storage, store: Store
    ) -> None:
        breakable = self.breakable(storage)
        claim = await self._prepare(store)
        await breakable.cut_off()
        for _ in range(2):
            for name, call in self._calls(store, claim).items():
                outcome = await self.within_patience(storage, asyncio.gather(call(), return_exceptions=True))
                assert isinstance(outcome[0], StorageError), (name, outcome)
        await breakable.come_back()
        await self._until_it_works(storage, store)
        for call in self._calls(store, claim).values():
            await self.within_patience(storage, call())
        assert list(await store.read("e")) == [FIRST, b"next", b"end"]
        assert [delivery.message.id for delivery in await store.messages("e", 0)] == ["m"]

    async def test_breakable_a_store_cannot_be_opened_while_the_storage_is_cut_off(
        self, storage: Storage, store: Store
    ) -> None:
        breakable = self.breakable(storage)
        await store.create(new_execution(), FIRST)
        await breakable.cut_off()
        with pytest.raises(StorageError):
            async with storage.open() as second:
                await self.within_patience(storage, second.head("e"))
        await breakable.come_back()
        async with storage.open() as third:
            assert list(await third.read("e")) == [FIRST]

    async def test_breakable_all_that_was_written_is_there_when_the_storage_is_back(
        self, storage: Storage, store: Store
    ) -> None:
        breakable = self.breakable(storage)
        claim = await self._prepare(store)
        await store.append(claim, 1, [b"second"], Commit(overview="an overview"))
        before = await self.state(store, "e")
        for _ in range(2):
            await breakable.cut_off()
            with pytest.raises(StorageError):
                await self.within_patience(storage, store.append(claim, 2, [b"third"], Commit()))
            await breakable.come_back()
            await self._until_it_works(storage, store)
            assert await self.state(store, "e") == before
        async with storage.open() as second:
            assert await self.state(second, "e") == before
            assert (await self.claim(second, worker="b", workflows=["w"])).claims == ()
        await store.append(claim, 2, [b"third"], Commit(status=Status.COMPLETED))

    async def test_breakable_after_the_storage_is_back_no_old_connection_is_used(
        self, storage: Storage, store: Store
    ) -> None:
        """Whatever was open before, and how much of it: once one call has worked, all do."""
        breakable = self.breakable(storage)
        await self._prepare(store)

        async def many_calls() -> list[object]:
            calls = []
            for _ in range(10):
                calls.append(asyncio.create_task(store.head("e")))
                await asyncio.sleep(0)
            return [head.status for head in await asyncio.gather(*calls) if head is not None]

        running: list[object] = [Status.RUNNING] * 10
        assert await many_calls() == running
        await breakable.cut_off()
        await breakable.come_back()
        await self._until_it_works(storage, store)
        assert await many_calls() == running

    async def test_breakable_who_waits_is_woken_by_what_happens_after_the_storage_is_back(
        self, storage: Storage, store: Store
    ) -> None:
        """The wait may raise or return when the connection breaks; the next one must work."""
        breakable = self.breakable(storage)
        claim = await self._prepare(store)
        async with storage.open() as second:
            waiting = self._waiting(second)
            await asyncio.wait(waiting, timeout=0.05)
            await breakable.cut_off()
            await asyncio.wait(waiting, timeout=0.05)
            await breakable.come_back()
            await self._until_it_works(storage, store)
            # Let each begin to wait again.
            await asyncio.wait(waiting, timeout=0.05)
            await store.create(new_execution("new", workflow="new"), FIRST)
            await store.append(claim, 1, [b"next"], Commit())
            await store.append(claim, 2, [b"last"], Commit(status=Status.COMPLETED))
            await self.within_patience(storage, asyncio.gather(*waiting))

    async def test_breakable_who_begins_to_wait_while_the_storage_is_cut_off_is_woken_as_well(
        self, storage: Storage, store: Store
    ) -> None:
        breakable = self.breakable(storage)
        claim = await self._prepare(store)
        async with storage.open() as second:
            await second.head("e")
            await breakable.cut_off()
            waiting = self._waiting(second)
            await asyncio.wait(waiting, timeout=0.05)
            await breakable.come_back()
            await self._until_it_works(storage, store)
            # Let each begin to wait again.
            await asyncio.wait(waiting, timeout=0.05)
            await store.create(new_execution("new", workflow="new"), FIRST)
            await store.append(claim, 1, [b"next"], Commit())
            await store.append(claim, 2, [b"last"], Commit(status=Status.COMPLETED))
            await self.within_patience(storage, asyncio.gather(*waiting))

    # Helpers -----------------------------------------------------------------------------------------------

    def breakable(self, storage: Storage) -> BreakableStorage:
        self.require(StoreCapability.BREAKABLE)
        assert isinstance(storage, BreakableStorage), "write cut_off and come_back, or leave BREAKABLE out"
        return storage

    async def _prepare(self, store: Store) -> Claim:
        await store.create(new_execution(), FIRST)
        return await self.claim_one(store)

    def _calls(self, store: Store, claim: Claim) -> Mapping[str, Callable[[], Awaitable[object]]]:
        """Return a call of each method, in an order in which all of them can succeed."""
        card = WorkerCard("a", ("w",), DEFAULT_TASK_QUEUE, 0.0)
        return {
            "create": lambda: store.create(new_execution("other"), FIRST),
            "send": lambda: store.send("e", Message("m", b"")),
            "messages": lambda: store.messages("e", 0),
            "claim": lambda: self.claim(store, worker="b", limit=0),
            "renew": lambda: store.renew([claim], self.lease_seconds),
            "resume": lambda: store.resume("e"),
            "announce": lambda: store.announce(card, 10.0),
            "leave": lambda: store.leave("a"),
            "workers": store.workers,
            "head": lambda: store.head("e"),
            "heads": store.heads,
            "tag": lambda: store.tag("e", {"a": "1"}),
            "append": lambda: store.append(claim, 1, [b"next"], Commit()),
            "read": lambda: store.read("e"),
            "amend": lambda: store.amend("e", 2, b"end", Status.TERMINATED),
            "prune": lambda: store.prune(0.0),
        }

    def _waiting(self, store: Store) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(self._wait_on(store, what)) for what in ("work", "records", "the end")]

    async def _until_it_works(self, storage: Storage, store: Store) -> None:
        """Return when the store, the same object, answers again, and tasks from before have gone on."""

        async def ask() -> None:
            while True:
                with suppress(StorageError):
                    await store.head("e")
                    return
                await asyncio.sleep(0.01)

        await self.within_patience(storage, ask())
        for _ in range(20):
            await asyncio.sleep(0)

    async def _wait_on(self, store: Store, waits_for: str) -> None:
        """Wait as the engine does: again after an error, and after a wait that returned for no reason."""
        while True:
            try:
                if waits_for == "work":
                    work = await self.claim(store, worker="b", workflows=["new"])
                    if work.claims:
                        return
                    await store.wait(work.version, 100 * self.patience_seconds)
                else:
                    head = await store.head("e")
                    assert head is not None
                    if head.status is Status.COMPLETED or (waits_for == "records" and head.length > 1):
                        return
                    length = ENDLESS if waits_for == "the end" else 1
                    await store.follow("e", length, 100 * self.patience_seconds)
            except StorageError:
                await asyncio.sleep(0.01)
