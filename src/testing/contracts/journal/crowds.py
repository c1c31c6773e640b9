"""Several callers at the same moment: readers beside a writer, a takeover between a check and its write."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

from outlast.core.errors import ExecutionAlreadyEnded, LeaseLost
from outlast.core.records import Status
from outlast.ports.journal import Claim, Commit, Message, Store
from outlast.testing.contracts.journal.stage import FIRST, JournalContractBase, new_execution
from outlast.testing.contracts.journal.storage import Storage, StoreCapability

BATCH = 3
BATCHES = 60
ROUNDS = 10
"""The longest delay of a call that is to meet another, in turns of the event loop."""
DELAYS = [(0, turns) for turns in range(ROUNDS)] + [(turns, 0) for turns in range(1, ROUNDS)]
"""The turns by which each of two such calls comes later."""


def batch(number: int) -> list[bytes]:
    return [b"%d of %d" % (piece, number) for piece in range(BATCH)]


def whole_journal(batches: int) -> list[bytes]:
    return [FIRST, *(record for number in range(batches) for record in batch(number))]


async def after_turns(turns: int, call: Callable[[], Awaitable[Any]]) -> Any:
    """Make the call some turns of the event loop later; return its result, or the error that it raised."""
    for _ in range(turns):
        await asyncio.sleep(0)
    try:
        return await call()
    except (LeaseLost, ExecutionAlreadyEnded) as refusal:
        return refusal


class CrowdsContract(JournalContractBase):
    # Readers beside a writer -----------------------------------------------------------------------

    async def test_j5_a_reader_that_polls_sees_no_part_of_an_append_and_no_hole(
        self, storage: Storage, store: Store
    ) -> None:
        await store.create(new_execution(), FIRST)
        claim = await self.claim_one(store)
        async with storage.open() as second:
            await asyncio.gather(
                self._append_batches(store, claim),
                self._read_while_it_grows(second),
                self._read_on_while_it_grows(second),
            )

    async def test_j5_a_reader_in_another_thread_sees_no_part_of_an_append_and_no_hole(
        self, storage: Storage, store: Store
    ) -> None:
        self.require(StoreCapability.PARALLEL_OPENING)
        await store.create(new_execution(), FIRST)
        claim = await self.claim_one(store)
        programs: list[Callable[[Store], Coroutine[Any, Any, None]]] = [
            partial(self._append_batches, claim=claim),
            self._read_while_it_grows,
            self._read_on_while_it_grows,
        ]
        await self.in_threads(storage, programs)

    async def test_i1_a_reader_that_polls_misses_no_message(self, storage: Storage, store: Store) -> None:
        """It goes on from the last number that it saw, as a worker does."""
        await store.create(new_execution(), FIRST)
        seen: list[Message] = []

        async def read(reader: Store) -> None:
            after = 0
            while len(seen) < 4 * 20:
                for delivery in await reader.messages("e", after):
                    assert delivery.number == after + 1
                    after = delivery.number
                    seen.append(delivery.message)
                await asyncio.sleep(0)

        async def send(sender: Store, name: str) -> None:
            for number in range(20):
                await sender.send("e", Message(f"{name}{number}", b"body"))

        async with storage.open() as second:
            senders = [send((store, second)[number % 2], f"sender {number}, ") for number in range(4)]
            await self.within_patience(storage, asyncio.gather(read(second), *senders))
        for number in range(4):
            of_it = [message.id for message in seen if message.id.startswith(f"sender {number}, ")]
            assert of_it == [f"sender {number}, {turn}" for turn in range(20)]

    # A takeover between a check and its write --------------------------------------------------------

    async def test_j4_a_takeover_during_an_append_comes_before_it_or_after_it(
        self, storage: Storage, store: Store
    ) -> None:
        async with storage.open() as second:
            for writes_after, takes_after in DELAYS:
                for commit in (Commit(), Commit(release=True, wake_at=0.0)):
                    id = f"{writes_after} {takes_after} {commit.release}"
                    await store.create(new_execution(id), FIRST)
                    old = await self._claim_for_a_moment(storage, store)
                    write = partial(store.append, old, 1, [b"from a"], commit)
                    take = partial(self.claim, second, worker="b")
                    outcome, work = await asyncio.gather(
                        after_turns(writes_after, write), after_turns(takes_after, take)
                    )
                    claims = work.claims or (await self.claim(second, worker="b")).claims
                    [taken] = claims
                    written = [] if isinstance(outcome, LeaseLost) else [b"from a"]
                    assert taken.length == 1 + len(written)
                    await second.append(taken, taken.length, [b"from b"], Commit(status=Status.COMPLETED))
                    assert list(await store.read(id)) == [FIRST, *written, b"from b"]

    async def test_l4_a_takeover_during_a_renewal_comes_before_it_or_after_it(
        self, storage: Storage, store: Store
    ) -> None:
        async with storage.open() as second:
            for renews_after, takes_after in DELAYS:
                id = f"{renews_after} {takes_after}"
                await store.create(new_execution(id), FIRST)
                old = await self._claim_for_a_moment(storage, store)
                lost, work = await asyncio.gather(
                    after_turns(renews_after, partial(store.renew, [old], 10 * self.lease_seconds)),
                    after_turns(takes_after, partial(self.claim, second, worker="b", lease_seconds=1e6)),
                )
                assert lost == {claim.execution_id for claim in work.claims}
                [owner] = work.claims or [old]
                await store.append(owner, 1, [b"last"], Commit(status=Status.COMPLETED))
                assert list(await second.read(id)) == [FIRST, b"last"]

    async def test_j8_an_append_during_an_amendment_comes_before_it_or_after_it(
        self, storage: Storage, store: Store
    ) -> None:
        async with storage.open() as second:
            for amends_after, appends_after in DELAYS:
                id = f"{amends_after} {appends_after}"
                await store.create(new_execution(id), FIRST)
                claim = await self.claim_one(store)
                done, outcome = await asyncio.gather(
                    after_turns(amends_after, partial(second.amend, id, 1, b"amended", Status.TERMINATED)),
                    after_turns(appends_after, partial(store.append, claim, 1, [b"appended"], Commit())),
                )
                assert done is isinstance(outcome, LeaseLost)
                assert list(await store.read(id)) == [FIRST, b"amended" if done else b"appended"]
                if not done:
                    await store.append(claim, 2, [], Commit(status=Status.COMPLETED))

    async def test_i3_a_message_during_the_end_is_refused_or_in_the_inbox(
        self, storage: Storage, store: Store
    ) -> None:
        async with storage.open() as second:
            for sends_after, ends_after in DELAYS:
                id = f"{sends_after} {ends_after}"
                await store.create(new_execution(id), FIRST)
                claim = await self.claim_one(store)
                outcome, _ = await asyncio.gather(
                    after_turns(sends_after, partial(second.send, id, Message("m", b"body"))),
                    after_turns(
                        ends_after, partial(store.append, claim, 1, [], Commit(status=Status.FAILED))
                    ),
                )
                # Opening it again shows which messages came before its end.
                assert await store.amend(id, 1, b"again", Status.RUNNING)
                arrived = [delivery.message.id for delivery in await store.messages(id, 0)]
                assert arrived == ([] if isinstance(outcome, ExecutionAlreadyEnded) else ["m"])
                assert await store.amend(id, 2, b"end", Status.TERMINATED)

    async def test_l2_a_message_during_a_release_makes_it_claimable(
        self, storage: Storage, store: Store
    ) -> None:
        """The inbox is looked into when the release is written, not before."""
        async with storage.open() as second:
            for turns in range(ROUNDS):
                for first in ("send", "release"):
                    id = f"{first} {turns}"
                    await store.create(new_execution(id), FIRST)
                    claim = await self.claim_one(store)
                    send = partial(second.send, id, Message("m", b"body"))
                    release = partial(store.append, claim, 1, [], Commit(release=True))
                    calls = (send, release) if first == "send" else (release, send)
                    await asyncio.gather(after_turns(0, calls[0]), after_turns(turns, calls[1]))
                    again = await self.claim_one(store)
                    assert again.execution_id == id
                    await store.append(again, 1, [], Commit(status=Status.COMPLETED))

    async def test_a_claim_passes_over_nothing_that_is_being_written(
        self, storage: Storage, store: Store
    ) -> None:
        async with storage.open() as second:
            for turns in range(ROUNDS):
                id = f"e{turns}"
                await store.create(new_execution(id), FIRST)
                writing = asyncio.create_task(store.tag(id, {"turn": str(turns)}))
                for _ in range(turns):
                    await asyncio.sleep(0)
                while not (work := await self.claim(second, worker="b")).claims:
                    waiting = asyncio.create_task(second.wait(work.version, 100 * self.patience_seconds))
                    await self.ends(storage, waiting)
                await writing
                [claim] = work.claims
                assert claim.execution_id == id
                head = await store.head(id)
                assert head is not None
                assert head.tags == {"turn": str(turns)}
                await second.append(claim, 1, [], Commit(status=Status.COMPLETED))

    # Helpers -----------------------------------------------------------------------------------------------

    async def _claim_for_a_moment(self, storage: Storage, store: Store) -> Claim:
        """Return a claim whose lease has run out; also a real clock need not be waited for."""
        [claim] = (await self.claim(store, worker="a", lease_seconds=0.01)).claims
        await storage.clock.advance(0.02)
        return claim

    async def _append_batches(self, store: Store, claim: Claim) -> None:
        for number in range(BATCHES):
            status = Status.COMPLETED if number == BATCHES - 1 else None
            await store.append(claim, 1 + number * BATCH, batch(number), Commit(status=status))
            await asyncio.sleep(0)

    async def _read_while_it_grows(self, store: Store) -> None:
        """Look at the head and the whole journal, again and again, until the execution has ended."""
        whole, known, ended = whole_journal(BATCHES), 0, False
        while not ended:
            head = await store.head("e")
            records = list(await store.read("e"))
            assert head is not None
            assert known <= head.length <= len(records)
            assert head.length % BATCH == len(records) % BATCH == 1
            assert records == whole[: len(records)]
            known, ended = len(records), head.status is Status.COMPLETED
            assert not ended or head.length == len(whole)
            await asyncio.sleep(0)

    async def _read_on_while_it_grows(self, store: Store) -> None:
        """Read on from the last record that was seen, a few at a time, until all are there."""
        whole, seen = whole_journal(BATCHES), list[bytes]()
        while len(seen) < len(whole):
            seen += await store.read("e", len(seen), 2)
            assert seen == whole[: len(seen)]
            await asyncio.sleep(0)
