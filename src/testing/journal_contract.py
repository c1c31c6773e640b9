"""The contract suite of the journal port: inherit it, say how to make storage, and pytest runs it.

    class TestSqliteJournal(JournalContract):
        capabilities = ALL - {Capability.PUSH_WAKEUP}
        new_storage = SqliteStorage.in_temporary_file

Behind each guarantee of `ports.journal` (J1 to J7, I1 to I3, L1 to L5, K1) stands at least one test with its
number; the others are about what the docstrings there say besides. `test_random_programs_agree_with_a_list`
then grows programs that nobody thought of. `testing.broken_stores` holds stores that break one guarantee
each, and the tests of this library prove that each is caught.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Sequence
from functools import partial
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from durable_agents.core.errors import ExecutionClosed, ExecutionNotFound, LeaseLost, PayloadTooLarge
from durable_agents.core.records import Status
from durable_agents.ports.journal import (
    DEFAULT_TASK_QUEUE,
    ID_BYTES_MAX,
    Claim,
    Commit,
    Head,
    Message,
    NewExecution,
    Store,
    Work,
)
from durable_agents.testing.journal_machine import JournalMachine
from durable_agents.testing.storage import ALL, Capability, Storage

T = TypeVar("T")

FIRST = b"the first record"
MEBIBYTE = 1024 * 1024
MUCH_LATER = 4e9
"""A wake-up time, in seconds since the epoch, that no clock has reached."""

RECORDS = (
    b"",
    b"{}",
    b"\x00",
    b"\x00 in the middle \x00",
    b"trailing blanks and newlines \r\n\n ",
    bytes(range(256)),
    "naïve 日本語 🦉".encode(),
    b"\xff\xfe\xc3(",
    b"",
    bytes(range(256)) * (MEBIBYTE // 256),
)
"""Bytes that a store which takes them for text, or for nothing, would change."""

ODD_IDS = (
    " ",
    " leading and trailing ",
    "a/b/../c",
    "it's; DROP TABLE executions; --",
    '"quoted"',
    "back\\slash",
    "{curly}[square]*?^%_",
    "colon:colon::",
    "grüße-日本語-🦉",
    "CASE",
    "case",
    "\N{LATIN SMALL LETTER E WITH ACUTE}",
    "e\N{COMBINING ACUTE ACCENT}",
    "0",
    "00",
    "-1",
    "None",
    "x" * ID_BYTES_MAX,
)

REFUSED_IDS = ("", "with\x00nul", "new\nline", "\x7f", "\ud800", "x" * (ID_BYTES_MAX + 1), "é" * ID_BYTES_MAX)


def new_execution(
    id: str = "e",
    *,
    workflow: str = "w",
    fingerprint: str = "f",
    task_queue: str = DEFAULT_TASK_QUEUE,
    keep_seconds: float | None = None,
) -> NewExecution:
    return NewExecution(
        id=id,
        workflow=workflow,
        fingerprint=fingerprint,
        task_queue=task_queue,
        keep_seconds=keep_seconds,
    )


class JournalContract:
    """Every store passes all of it, but for tests of a capability that its storage lacks."""

    new_storage: ClassVar[Callable[[], Storage]]
    capabilities: ClassVar[frozenset[Capability]] = ALL
    lease_seconds: ClassVar[float] = 10.0
    """Make it short for a clock that cannot be moved."""
    patience_seconds: ClassVar[float] = 20.0
    """Real time after which something that should have ended by now never will."""

    @pytest.fixture
    async def storage(self) -> AsyncIterator[Storage]:
        storage = type(self).new_storage()
        yield storage
        await storage.dispose()

    @pytest.fixture
    async def store(self, storage: Storage) -> AsyncIterator[Store]:
        async with storage.open() as store:
            yield store

    # Creating --------------------------------------------------------------------------------------------

    async def test_a_created_execution_is_running_and_holds_its_first_record(
        self, storage: Storage, store: Store
    ) -> None:
        before = storage.clock.now()
        head, created = await store.create(
            new_execution("e", workflow="w", fingerprint="f", task_queue="q"), FIRST
        )
        assert created
        assert before <= head.created_at <= storage.clock.now()
        assert head == Head("e", "w", "f", "q", Status.RUNNING, length=1, created_at=head.created_at)
        assert await store.head("e") == head
        assert list(await store.read("e")) == [FIRST]

    async def test_what_was_never_created_is_not_there(self, store: Store) -> None:
        assert await store.head("e") is None
        assert list(await store.read("e")) == []
        assert list(await store.messages("e", 0)) == []
        assert list(await store.heads()) == []
        work = await self.claim(store)
        assert (work.claims, work.mail, work.next_wake_at) == ((), frozenset(), None)

    async def test_j1_creating_an_id_that_exists_changes_nothing(
        self, storage: Storage, store: Store
    ) -> None:
        await store.create(new_execution(), FIRST)
        claim = await self.claim_one(store)
        await store.append(claim, 1, [b"second"], Commit())
        before = await store.head("e")
        other = new_execution("e", workflow="v", fingerprint="g", task_queue="q", keep_seconds=1.0)
        async with storage.open() as second:
            for each in (store, second):
                assert await each.create(other, b"another first record") == (before, False)
        assert await store.head("e") == before
        assert list(await store.read("e")) == [FIRST, b"second"]
        await store.append(claim, 2, [b"third"], Commit())

    async def test_j1_creating_an_id_that_has_ended_changes_nothing(self, store: Store) -> None:
        await self.create_and_close(store, "e")
        before = await store.head("e")
        assert await store.create(new_execution(), FIRST) == (before, False)
        assert (await self.claim(store)).claims == ()

    async def test_j2_concurrent_creates_make_one_execution(self, storage: Storage, store: Store) -> None:
        async with storage.open() as second:
            for round in range(10):
                id = f"e{round}"
                firsts = [f"first record by {caller}".encode() for caller in range(6)]
                answers = await asyncio.gather(
                    *(
                        (store, second)[caller % 2].create(new_execution(id), first)
                        for caller, first in enumerate(firsts)
                    )
                )
                winners = [first for first, (_, created) in zip(firsts, answers, strict=True) if created]
                assert len(winners) == 1
                assert list(await store.read(id)) == winners
                assert len({head for head, _ in answers}) == 1

    async def test_j2_creates_in_parallel_threads_make_one_execution(self, storage: Storage) -> None:
        self.require(Capability.PARALLEL_OPENING)

        async def create_all(store: Store, caller: int) -> list[bool]:
            return [(await store.create(new_execution(f"e{n}"), b"%d" % caller))[1] for n in range(10)]

        by_caller = await self.in_threads(
            storage, [partial(create_all, caller=caller) for caller in range(4)]
        )
        assert [sum(created) for created in zip(*by_caller, strict=True)] == [1] * 10

    async def test_ids_may_be_any_printable_text(self, storage: Storage, store: Store) -> None:
        for id in ODD_IDS:
            await store.create(new_execution(id), id.encode())
            await store.send(id, Message(id=id, body=id.encode()))
        async with storage.open() as second:
            assert {head.id for head in await second.heads(limit=len(ODD_IDS) + 1)} == set(ODD_IDS)
            for id in ODD_IDS:
                assert list(await second.read(id)) == [id.encode()]
                assert [d.message for d in await second.messages(id, 0)] == [Message(id=id, body=id.encode())]
        work = await self.claim(store, limit=len(ODD_IDS) + 1)
        assert {claim.execution_id for claim in work.claims} == work.mail == set(ODD_IDS)

    def test_ids_that_not_every_store_can_hold_are_refused_at_once(self) -> None:
        for id in REFUSED_IDS:
            with pytest.raises(ValueError, match="id"):
                new_execution(id)
            with pytest.raises(ValueError, match="id"):
                Message(id=id, body=b"")

    async def test_names_may_be_any_text(self, store: Store) -> None:
        for number, name in enumerate(ODD_IDS):
            id = str(number)
            head, _ = await store.create(
                new_execution(id, workflow=name, fingerprint=name, task_queue=name), FIRST
            )
            assert (head.workflow, head.fingerprint, head.task_queue) == (name, name, name)
            work = await self.claim(store, worker=name, workflows=[name], task_queue=name)
            assert [(claim.execution_id, claim.workflow, claim.worker) for claim in work.claims] == [
                (id, name, name)
            ]
            assert [head.id for head in await store.heads(workflow=name)] == [id]
            owned = await store.head(id)
            assert owned is not None
            assert owned.owner == name

    # Appending -------------------------------------------------------------------------------------------

    async def test_j3_what_was_appended_is_seen_by_every_reader_at_once(
        self, storage: Storage, store: Store
    ) -> None:
        async with storage.open() as second:
            await store.create(new_execution(), FIRST)
            claim = await self.claim_one(store)
            for length in range(1, 4):
                await store.append(claim, length, [b"%d" % length], Commit())
                assert list(await second.read("e", length)) == [b"%d" % length]
                assert await second.head("e") == await store.head("e")

    async def test_j3_what_was_appended_survives_reopening(self, storage: Storage) -> None:
        async with storage.open() as store:
            await store.create(new_execution(), FIRST)
            await store.send("e", Message("m1", b"one"))
            await store.send("e", Message("m2", b"two"))
            claim = await self.claim_one(store)
            await store.append(claim, 1, [b"second"], Commit(consumed=1))
        async with storage.open() as store:
            assert list(await store.read("e")) == [FIRST, b"second"]
            # The claim outlives the store object as well.
            assert (await self.claim(store, worker="b")).claims == ()
            await store.append(claim, 2, [b"third"], Commit(release=True, note="a note"))
        async with storage.open() as store:
            assert list(await store.read("e")) == [FIRST, b"second", b"third"]
            head = await store.head("e")
            assert head is not None
            assert (head.length, head.note, head.owner) == (3, "a note", None)
            taken = await self.claim_one(store, worker="b")
            assert (taken.length, taken.consumed) == (3, 1)
            await store.append(taken, 3, [b"last"], Commit(status=Status.FAILED))
        async with storage.open() as store:
            head = await store.head("e")
            assert head is not None
            assert head.status is Status.FAILED
            assert head.closed_at is not None
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

    async def test_j4_a_lease_that_ran_out_is_good_until_somebody_else_claims(
        self, storage: Storage, store: Store
    ) -> None:
        await store.create(new_execution(), FIRST)
        claim = await self.claim_one(store)
        await storage.clock.advance(self.lease_seconds * 3)
        await store.append(claim, 1, [b"second"], Commit())
        assert list(await store.read("e")) == [FIRST, b"second"]
        # Writing is not renewing.
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
        commit = Commit(consumed=1, release=True, note="a note")
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
                store.append(claim, 1, [b"second", b"third"], Commit(release=True, note="released"))
            )
            # The last ones are cancelled after some real time, for stores that write in a thread.
            await (turns(number) if number < 30 else asyncio.sleep((number - 30) / 5000))
            write.cancel()
            await asyncio.wait({write})
            head = await store.head(id)
            assert head is not None
            records = list(await store.read(id))
            if head.length == 1:
                assert records == [FIRST]
                assert (head.owner, head.note) == (claim.worker, None)
                assert write.cancelled()
            else:
                assert records == [FIRST, b"second", b"third"]
                assert (head.length, head.owner, head.note) == (3, None, "released")

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

    async def test_j7_records_stay_as_they_are_whatever_comes_after(
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

    async def test_a_note_lasts_until_the_next_append(self, store: Store) -> None:
        async def note() -> str | None:
            head = await store.head("e")
            assert head is not None
            return head.note

        await store.create(new_execution(), FIRST)
        assert await note() is None
        claim = await self.claim_one(store)
        await store.append(claim, 1, [], Commit(release=True, wake_at=0.0, note="why: ünïcode\n'quoted'"))
        assert await note() == "why: ünïcode\n'quoted'"
        claim = await self.claim_one(store)
        assert await note() is not None
        await store.append(claim, 1, [], Commit())
        assert await note() is None

    # Following -------------------------------------------------------------------------------------------

    async def test_following_does_not_wait_for_records_that_are_there(self, store: Store) -> None:
        await store.create(new_execution(), FIRST)
        await self.within_patience(store.follow("e", 0, self.patience_seconds * 100))

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

    async def test_following_times_out(self, storage: Storage, store: Store) -> None:
        await store.create(new_execution(), FIRST)
        await self.ends(storage, asyncio.create_task(store.follow("e", 1, 0.5)), by_time=True)

    # Messages --------------------------------------------------------------------------------------------

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

    async def test_i3_a_message_to_nobody_is_refused(self, store: Store) -> None:
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
            with pytest.raises(ExecutionClosed) as refusal:
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

    # Claiming --------------------------------------------------------------------------------------------

    async def test_a_claim_tells_what_the_worker_needs(self, storage: Storage, store: Store) -> None:
        await store.create(new_execution("e", workflow="v"), FIRST)
        [claim] = (await self.claim(store, worker="a", workflows=["w", "v"])).claims
        assert claim == Claim("e", "v", "a", claim.token, length=1, consumed=0, recovered=False)
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

    async def test_those_that_have_waited_longest_are_claimed_first(
        self, storage: Storage, store: Store
    ) -> None:
        """Whether they wait for their start, their lease's end, their wake-up time or since a message."""
        self.require(Capability.MOVABLE_CLOCK)
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
        self.require(Capability.PARALLEL_OPENING)
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
        self.require(Capability.MOVABLE_CLOCK)
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
        self.require(Capability.MOVABLE_CLOCK)
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
        assert not claim.recovered
        await storage.clock.advance(self.lease_seconds)
        claim = await self.claim_one(store, worker="b")
        assert claim.recovered
        await store.append(claim, 1, [], Commit(release=True, wake_at=0.0))
        await storage.clock.advance(self.lease_seconds * 2)
        claim = await self.claim_one(store, worker="c")
        assert not claim.recovered
        # A lease that ran out, whose owner then came back in time to release it.
        await storage.clock.advance(self.lease_seconds * 2)
        await store.append(claim, 1, [], Commit(release=True, wake_at=0.0))
        assert not (await self.claim_one(store, worker="a")).recovered
        await storage.clock.advance(self.lease_seconds)
        assert (await self.claim_one(store, worker="a")).recovered

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
        unknown = Claim("nobody", "w", "a", token=1, length=1, consumed=0, recovered=False)
        assert await store.renew([unknown], self.lease_seconds) == {"nobody"}

    # Waking up -------------------------------------------------------------------------------------------

    async def test_a_released_execution_waits_for_its_wake_up_time(
        self, storage: Storage, store: Store
    ) -> None:
        self.require(Capability.MOVABLE_CLOCK)
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
        """A message that comes just before the release must not be slept over."""
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
        self.require(Capability.MOVABLE_CLOCK)
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

    async def test_l5_what_happens_while_waiting_ends_the_wait(self, storage: Storage, store: Store) -> None:
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

    async def test_l5_a_cancelled_wait_leaves_the_store_usable(self, store: Store) -> None:
        version = (await self.claim(store)).version
        for waiting in (store.wait(version, 60.0), store.follow("e", 0, 60.0)):
            task = asyncio.create_task(waiting)
            await asyncio.sleep(0)
            task.cancel()
            await self.within_patience(asyncio.wait({task}))
        _, created = await store.create(new_execution(), FIRST)
        assert created

    # Looking and forgetting ------------------------------------------------------------------------------

    async def test_heads_are_listed_newest_first(self, storage: Storage, store: Store) -> None:
        for number in range(6):
            await store.create(new_execution(f"e{5 - number}", workflow="vw"[number % 2]), FIRST)
            await storage.clock.advance(0.25)
        claims = {c.execution_id: c for c in (await self.claim(store, workflows=["v", "w"])).claims}
        await store.append(claims["e1"], 1, [], Commit(status=Status.FAILED))
        await store.append(claims["e2"], 1, [], Commit(status=Status.COMPLETED))

        async def ids(
            workflow: str | None = None, status: Status | None = None, limit: int = 100
        ) -> list[str]:
            return [head.id for head in await store.heads(workflow=workflow, status=status, limit=limit)]

        assert await ids() == ["e0", "e1", "e2", "e3", "e4", "e5"]
        assert await ids(limit=2) == ["e0", "e1"]
        assert await ids(limit=0) == []
        assert await ids("v") == ["e1", "e3", "e5"]
        assert await ids("w", limit=1) == ["e0"]
        assert await ids("nothing") == []
        assert await ids(status=Status.FAILED) == ["e1"]
        assert await ids("v", Status.RUNNING) == ["e3", "e5"]
        assert await ids("v", Status.COMPLETED) == []
        assert await ids(status=Status.CANCELLED) == []
        for head in await store.heads():
            assert head == await store.head(head.id)

    async def test_the_time_of_the_end_is_kept(self, storage: Storage, store: Store) -> None:
        before = storage.clock.now()
        await store.create(new_execution(), FIRST)
        claim = await self.claim_one(store)
        await storage.clock.advance(1.0)
        await store.append(claim, 1, [b"last"], Commit(status=Status.CANCELLED))
        head = await store.head("e")
        assert head is not None
        assert (head.status, head.owner, head.length) == (Status.CANCELLED, None, 2)
        assert head.closed_at is not None
        assert before + 1.0 <= head.closed_at <= storage.clock.now()

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

    async def test_k1_what_ended_long_enough_ago_is_forgotten_whole(
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
        if Capability.MOVABLE_CLOCK in self.capabilities:
            assert await store.prune() == 0
        await storage.clock.advance(1.0)
        assert await store.prune() == 1
        assert {head.id for head in await store.heads()} == {"long", "unsaid"}
        assert await store.prune(storage.clock.now()) == 1
        assert [head.id for head in await store.heads()] == ["long"]

    # Random programs -------------------------------------------------------------------------------------

    def test_random_programs_agree_with_a_list(self) -> None:
        self.require(Capability.MOVABLE_CLOCK)
        self.explore(settings())

    @classmethod
    def explore(cls, chosen: settings) -> None:
        """Run random programs; raises what the first disagreement raises, with the program that led to it."""

        class Machine(JournalMachine):
            new_storage = cls.new_storage

        run_state_machine_as_test(Machine, settings=chosen)

    # What the tests share --------------------------------------------------------------------------------

    def require(self, capability: Capability) -> None:
        if capability not in self.capabilities:
            pytest.skip(f"this storage does not promise that {capability.value}")

    async def claim(
        self,
        store: Store,
        *,
        worker: str = "a",
        workflows: Collection[str] = ("w",),
        task_queue: str = DEFAULT_TASK_QUEUE,
        limit: int = 10,
        lease_seconds: float | None = None,
    ) -> Work:
        return await store.claim(
            worker, workflows, task_queue, limit=limit, lease_seconds=lease_seconds or self.lease_seconds
        )

    async def claim_one(self, store: Store, *, worker: str = "a") -> Claim:
        """Claim what must be the only claimable execution."""
        [claim] = (await self.claim(store, worker=worker)).claims
        return claim

    async def create_and_close(
        self,
        store: Store,
        id: str,
        status: Status = Status.COMPLETED,
        keep_seconds: float | None = None,
    ) -> Claim:
        await store.create(new_execution(id, keep_seconds=keep_seconds), FIRST)
        claim = await self.claim_one(store)
        await store.append(claim, 1, [b"last"], Commit(status=status))
        return claim

    async def state(self, store: Store, id: str) -> object:
        """Return all that can be seen of an execution."""
        return await store.head(id), list(await store.read(id)), list(await store.messages(id, 0))

    async def assert_refused(
        self, store: Store, claim: Claim, position: int, records: Sequence[bytes], commit: Commit
    ) -> None:
        before = await self.state(store, claim.execution_id)
        with pytest.raises(LeaseLost) as refusal:
            await store.append(claim, position, records, commit)
        assert refusal.value.execution_id == claim.execution_id
        assert await self.state(store, claim.execution_id) == before

    def announced(self, store: Store, id: str) -> Sequence[Callable[[], Awaitable[None]]]:
        """Return what ends a wait, in an order in which it can happen."""

        async def claim() -> Claim:
            [claim] = (await self.claim(store, workflows=["x"])).claims
            return claim

        async def create() -> None:
            await store.create(new_execution(id, workflow="x"), FIRST)

        async def release_until_later() -> None:
            claimed = await claim()
            await store.append(claimed, 1, [], Commit(release=True, wake_at=MUCH_LATER))

        async def send_to_nobodys() -> None:
            await store.send(id, Message("m1", b"body"))

        async def send_to_somebodys() -> None:
            await claim()
            await store.send(id, Message("m2", b"body"))

        return create, release_until_later, send_to_nobodys, send_to_somebodys

    async def ends(self, storage: Storage, waiting: asyncio.Task[None], *, by_time: bool = False) -> None:
        """Return when the task is done; it fails if it needs time, unless `by_time`, or never ends."""
        moves = by_time or Capability.PUSH_WAKEUP not in self.capabilities
        started = storage.clock.now()
        async with asyncio.timeout(self.patience_seconds):
            while not waiting.done():
                if moves:
                    await storage.clock.advance(0.25)
                await asyncio.wait({waiting}, timeout=0.01)
        await waiting
        if not moves and Capability.MOVABLE_CLOCK in self.capabilities:
            assert storage.clock.now() == started

    async def within_patience(self, awaitable: Awaitable[T]) -> T:
        async with asyncio.timeout(self.patience_seconds):
            return await awaitable

    async def in_threads(
        self, storage: Storage, programs: Sequence[Callable[[Store], Coroutine[Any, Any, T]]]
    ) -> list[T]:
        """Run each program in a thread, event loop and store of its own, all at once."""
        together = threading.Barrier(len(programs))

        async def run(program: Callable[[Store], Coroutine[Any, Any, T]]) -> T:
            async with storage.open() as store:
                together.wait(self.patience_seconds)
                return await program(store)

        def run_in_this_thread(program: Callable[[Store], Coroutine[Any, Any, T]]) -> T:
            return asyncio.run(run(program))

        return await asyncio.gather(*(asyncio.to_thread(run_in_this_thread, program) for program in programs))
