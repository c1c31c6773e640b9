"""Creating executions: J1, J2, and the ids that they may have."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from outlast.core.records import Status
from outlast.ports.finding import Where
from outlast.ports.journal import (
    FINGERPRINT_CHARACTERS_MAX,
    ID_BYTES_MAX,
    REASON_BYTES_MAX,
    Commit,
    Head,
    Message,
    Store,
    WorkerCard,
    as_reason,
)
from outlast.testing.contracts.journal.stage import FIRST, JournalContractBase, new_execution
from outlast.testing.contracts.journal.storage import Storage, StoreCapability

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

FINGERPRINT = "".join(map(chr, range(32, 127)))


class CreatingContract(JournalContractBase):
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

    async def test_an_execution_that_was_never_created_is_not_found(self, store: Store) -> None:
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
        self.require(StoreCapability.PARALLEL_OPENING)

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

    def test_names_that_not_every_store_can_hold_are_refused_at_once(self) -> None:
        for name in REFUSED_IDS:
            with pytest.raises(ValueError, match="id"):
                new_execution("e", workflow=name)
            with pytest.raises(ValueError, match="id"):
                new_execution("e", task_queue=name)
            for identity, workflow, queue in ((name, "w", "q"), ("worker", name, "q"), ("worker", "w", name)):
                with pytest.raises(ValueError, match="id"):
                    WorkerCard(identity, (workflow,), queue, started_at=0.0)
        for fingerprint in ("", "grüße", "new\nline", "x" * (FINGERPRINT_CHARACTERS_MAX + 1)):
            with pytest.raises(ValueError, match="fingerprint"):
                new_execution("e", fingerprint=fingerprint)

    def test_any_text_can_be_made_a_reason_and_no_other_text_is_one(self) -> None:
        for text in (
            "",
            "why: ünïcode\n'quoted'",
            "🦉" * REASON_BYTES_MAX,
            "a\0b",
            "half \ud800",
            "x" * REASON_BYTES_MAX,
        ):
            reason = as_reason(text)
            assert len(reason.encode()) <= REASON_BYTES_MAX
            assert Commit(release=True, reason=reason).reason == as_reason(reason) == reason
            if reason != text:
                with pytest.raises(ValueError, match="reason"):
                    Commit(release=True, reason=text)

    async def test_names_may_be_any_text(self, store: Store) -> None:
        for number, name in enumerate(ODD_IDS):
            id = str(number)
            head, _ = await store.create(
                new_execution(id, workflow=name, fingerprint=FINGERPRINT, task_queue=name), FIRST
            )
            assert (head.workflow, head.fingerprint, head.task_queue) == (name, FINGERPRINT, name)
            work = await self.claim(store, worker=name, workflows=[name], task_queue=name)
            assert [(claim.execution_id, claim.workflow, claim.worker) for claim in work.claims] == [
                (id, name, name)
            ]
            assert [head.id for head in await store.heads(Where(workflow=name))] == [id]
            owned = await store.head(id)
            assert owned is not None
            assert owned.owner == name
