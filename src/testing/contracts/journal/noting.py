"""The facts in a head beside its journal: the overview and the word for a wait (J12), and tags (K4)."""

from __future__ import annotations

import asyncio

import pytest

from outlast.core.errors import DefinitionError, ExecutionNotFound
from outlast.core.records import Status
from outlast.core.tags import TAG_CHARACTERS_MAX, TAGS_MAX
from outlast.ports.finding import Where
from outlast.ports.journal import OVERVIEW_BYTES_MAX, WAITING_CHARACTERS_MAX, Commit, Store
from outlast.testing.contracts.journal.stage import FIRST, JournalContractBase, new_execution
from outlast.testing.contracts.journal.storage import Storage

OVERVIEWS = (
    "",
    "{}",
    "line\nline",
    "ünïcode 日本語 🦉",
    "x" * OVERVIEW_BYTES_MAX,
    "🦉" * (OVERVIEW_BYTES_MAX // 4),
)
TWENTY = {f"tag {number}": str(number) for number in range(TAGS_MAX)}
ODD_TAGS = {
    "a": "",
    "a:b": "c:d",
    "=": "=",
    "'": '"',
    "\\": "%_*?",
    "日本": "語🦉",
    "x" * TAG_CHARACTERS_MAX: "é" * TAG_CHARACTERS_MAX,
    "status": "running",
    "tag:tag": "tag:",
}


class NotingContract(JournalContractBase):
    # The overview, and what it waits for -------------------------------------------------------------------

    async def test_j12_the_head_has_the_last_summary(self, storage: Storage, store: Store) -> None:
        await store.create(new_execution(), FIRST)
        assert (await self.head(store)).overview is None
        claim = await self.claim_one(store)
        for overview in OVERVIEWS:
            await store.append(claim, 1, [], Commit(overview=overview))
            await store.append(claim, 1, [], Commit())
            async with storage.open() as other:
                assert (await self.head(other)).overview == overview
                [listed] = await other.heads()
                assert listed.overview == overview
        await store.append(claim, 1, [b"end"], Commit(status=Status.FAILED, overview="at the end"))
        assert (await self.head(store)).overview == "at the end"
        assert await store.amend("e", 2, b"again", Status.RUNNING)
        assert (await self.head(store)).overview == "at the end"

    async def test_j12_an_execution_may_begin_with_a_summary_and_a_wait(self, store: Store) -> None:
        new = new_execution(reason="imported", overview="so far", waiting="held")
        head, _ = await store.create(new, FIRST)
        assert (head.overview, head.waiting) == ("so far", "held")
        assert await self.head(store) == head

    async def test_j12_an_append_says_what_is_waited_for(self, store: Store) -> None:
        await store.create(new_execution(), FIRST)
        claim = await self.claim_one(store)
        for waiting, known in (
            ("timer", "timer"),
            (None, "timer"),
            ("attempt", "attempt"),
            ("attempt", "attempt"),
            ("", None),
            (None, None),
            ("x" * WAITING_CHARACTERS_MAX, "x" * WAITING_CHARACTERS_MAX),
        ):
            await store.append(claim, 1, [], Commit(waiting=waiting))
            head = await self.head(store)
            assert head.waiting == known
            assert head == (await store.heads())[0]
        await store.append(claim, 1, [], Commit(release=True, wake_at=0.0))
        assert (await self.head(store)).waiting == "x" * WAITING_CHARACTERS_MAX

    async def test_j12_nothing_is_waited_for_after_the_end_and_when_it_goes_on(self, store: Store) -> None:
        async def begin(id: str, commit: Commit) -> None:
            await store.create(new_execution(id), FIRST)
            await store.append(await self.claim_one(store), 1, [b"second"], commit)

        async def waits(id: str, word: str | None) -> None:
            head = await store.head(id)
            assert head is not None
            assert head.waiting == word
            assert [head.id for head in await store.heads(Where(waiting_for="timer"))] == [id] * bool(word)

        await begin("ended", Commit(status=Status.COMPLETED, waiting="timer"))
        await waits("ended", None)
        await begin("terminated", Commit(release=True, waiting="timer"))
        await waits("terminated", "timer")
        assert await store.amend("terminated", 2, b"end", Status.TERMINATED)
        await waits("terminated", None)
        assert await store.amend("terminated", 3, b"again", Status.RUNNING)
        await waits("terminated", None)
        claim = await self.claim_one(store)
        await store.append(claim, 4, [], Commit(waiting="timer"))
        await waits("terminated", "timer")
        await store.append(claim, 4, [], Commit(status=Status.FAILED))
        await waits("terminated", None)
        await begin("held", Commit(release=True, hold=True, waiting="timer"))
        await waits("held", "timer")
        assert await store.resume("held")
        await waits("held", None)

    async def test_j12_a_refused_append_changes_neither(self, storage: Storage, store: Store) -> None:
        claim = await self.lose(storage, store, times=0)
        await store.append(claim, 1, [], Commit(overview="right", waiting="signal", tags={"a": "right"}))
        await storage.clock.advance(self.lease_seconds)
        await self.claim_one(store, worker="b")
        wrong = Commit(overview="wrong", waiting="timer", tags={"a": "wrong", "b": "wrong"})
        await self.assert_refused(store, claim, 1, [b"late"], wrong)
        assert await store.heads(Where(waiting_for="timer")) == []
        assert await store.heads(Where(tags={"a": "wrong"})) == []

    def test_j12_texts_that_not_every_store_can_hold_are_refused_at_once(self) -> None:
        for overview in ("x" * (OVERVIEW_BYTES_MAX + 1), "é" * OVERVIEW_BYTES_MAX, "a\0b", "half \ud800"):
            with pytest.raises(ValueError, match="overview"):
                Commit(overview=overview)
            with pytest.raises(ValueError, match="overview"):
                new_execution(overview=overview)
        for waiting in ("x" * (WAITING_CHARACTERS_MAX + 1), "grün", "new\nline"):
            with pytest.raises(ValueError, match="wait"):
                Commit(waiting=waiting)
            with pytest.raises(ValueError, match="wait"):
                new_execution(waiting=waiting)

    # Tags ------------------------------------------------------------------------------------------------

    async def test_k4_an_execution_has_the_tags_with_which_it_was_created(
        self, storage: Storage, store: Store
    ) -> None:
        for tags in (ODD_TAGS, TWENTY, {}):
            id = f"e{len(tags)}"
            head, _ = await store.create(new_execution(id, tags=tags), FIRST)
            assert head.tags == tags
            async with storage.open() as other:
                assert await other.head(id) == head
                for tag in tags.items():
                    assert [one.id for one in await other.heads(Where(tags=dict([tag])))] == [id]
        # To create an id again changes nothing.
        _, created = await store.create(new_execution("e0", tags={"late": "1"}), FIRST)
        assert not created
        assert await store.heads(Where(tags={"late": "1"})) == []

    async def test_k4_tags_are_added_replaced_and_removed(self, storage: Storage, store: Store) -> None:
        await store.create(new_execution(tags={"a": "1", "b": "1"}), FIRST)
        await store.create(new_execution("other", tags={"a": "1", "b": "1"}), FIRST)
        await store.tag("e", {"a": "2", "b": None, "c": "3", "unknown": None})
        async with storage.open() as second:
            assert (await self.head(second)).tags == {"a": "2", "c": "3"}
            for tags, ids in [
                ({"a": "1"}, ["other"]),
                ({"a": "2"}, ["e"]),
                ({"b": "1"}, ["other"]),
                ({"c": "3"}, ["e"]),
            ]:
                assert [head.id for head in await second.heads(Where(tags=tags))] == ids
        await store.tag("e", {"a": "2"})
        assert [head.id for head in await store.heads(Where(tags={"a": "2"}))] == ["e"]
        await store.tag("e", {"a": None, "c": None})
        assert (await self.head(store)).tags == {}

    async def test_k4_an_append_changes_tags_together_with_its_records(self, store: Store) -> None:
        await store.create(new_execution(tags=TWENTY), FIRST)
        claim = await self.claim_one(store)
        await store.append(claim, 1, [b"second"], Commit(tags={"tag 0": None, "tag 1": "new", **ODD_TAGS}))
        expected = {**TWENTY, "tag 1": "new", **ODD_TAGS}
        del expected["tag 0"]
        assert (await self.head(store)).tags == expected
        assert await store.heads(Where(tags={"tag 0": "0"})) == []
        assert [head.id for head in await store.heads(Where(tags={"tag 1": "new", "a:b": "c:d"}))] == ["e"]
        await store.append(claim, 2, [], Commit(tags={"last": "1"}, status=Status.COMPLETED))
        assert (await self.head(store)).tags == {**expected, "last": "1"}

    async def test_k4_tags_stay_after_the_end_and_can_be_changed_there(self, store: Store) -> None:
        await store.create(new_execution(tags={"a": "1"}), FIRST)
        claim = await self.claim_one(store)
        await store.append(claim, 1, [b"last"], Commit(status=Status.FAILED))
        await store.tag("e", {"seen": "yes"})
        assert (await self.head(store)).tags == {"a": "1", "seen": "yes"}
        assert await store.amend("e", 2, b"again", Status.RUNNING)
        assert (await self.head(store)).tags == {"a": "1", "seen": "yes"}
        assert [head.id for head in await store.heads(Where(status="running", tags={"a": "1"}))] == ["e"]

    async def test_k4_tagging_leaves_the_claim_and_everything_else(self, store: Store) -> None:
        await store.create(new_execution(waiting="timer", overview="text"), FIRST)
        claim = await self.claim_one(store)
        before = await self.head(store)
        await store.tag("e", {"a": "1"})
        after = await self.head(store)
        assert after.tags == {"a": "1"}
        assert (after.owner, after.length, after.waiting, after.overview, after.status, after.held) == (
            *(before.owner, before.length, before.waiting, before.overview, before.status, before.held),
        )
        assert await store.renew([claim], self.lease_seconds) == frozenset()
        await store.append(claim, 1, [b"second"], Commit())
        assert (await self.head(store)).tags == {"a": "1"}

    async def test_k4_of_several_changes_at_once_none_is_lost(self, storage: Storage, store: Store) -> None:
        await store.create(new_execution(), FIRST)
        async with storage.open() as second:
            changes = [{f"tag {number}": str(number)} for number in range(TAGS_MAX)]
            await asyncio.gather(
                *((store, second)[number % 2].tag("e", change) for number, change in enumerate(changes))
            )
        assert (await self.head(store)).tags == TWENTY

    async def test_k4_more_tags_than_allowed_are_refused_whole(self, store: Store) -> None:
        await store.create(new_execution(tags=TWENTY), FIRST)
        before = await self.head(store)
        for wrong in ({"one more": "1"}, {"tag 0": None, "x": "1", "y": "2"}, {**TWENTY, "21st": "x"}):
            with pytest.raises(DefinitionError, match="20"):
                await store.tag("e", wrong)
            assert await self.head(store) == before
        for wrong in ({"": "x"}, {"a\nb": "x"}, {"a": "x" * (TAG_CHARACTERS_MAX + 1)}, {"a": "\ud800"}):
            with pytest.raises(DefinitionError):
                await store.tag("e", wrong)
            with pytest.raises(DefinitionError):
                new_execution(tags=wrong)
            with pytest.raises(DefinitionError):
                Commit(tags=wrong)
        assert await self.head(store) == before
        await store.tag("e", {"tag 0": None, "instead": "1"})
        await store.tag("e", {"tag 1": "another value"})
        assert len((await self.head(store)).tags) == TAGS_MAX

    async def test_k4_what_code_added_beyond_can_be_replaced_and_removed(self, store: Store) -> None:
        await store.create(new_execution(tags=TWENTY), FIRST)
        claim = await self.claim_one(store)
        await store.append(claim, 1, [], Commit(tags={"by code": "1", "by code too": "1"}))
        assert len((await self.head(store)).tags) == TAGS_MAX + 2
        await store.tag("e", {"by code": "2"})
        await store.tag("e", {"tag 0": None})
        with pytest.raises(DefinitionError, match="20"):
            await store.tag("e", {"more": "1"})
        assert (await self.head(store)).tags["by code"] == "2"

    async def test_k4_an_unknown_execution_is_not_found(self, store: Store) -> None:
        with pytest.raises(ExecutionNotFound):
            await store.tag("nobody", {"a": "1"})

    async def test_k1_tags_and_summaries_are_forgotten_with_their_execution(
        self, storage: Storage, store: Store
    ) -> None:
        new = new_execution(tags=ODD_TAGS, overview="old", waiting="timer")
        await store.create(new, FIRST)
        claim = await self.claim_one(store)
        await store.append(claim, 1, [], Commit(status=Status.COMPLETED))
        await storage.clock.advance(1.0)
        assert await store.prune(storage.clock.now()) == 1
        for name, value in ODD_TAGS.items():
            assert await store.heads(Where(tags={name: value})) == []
        head, created = await store.create(new_execution(), FIRST)
        assert created
        assert (head.tags, head.overview, head.waiting) == ({}, None, None)
        assert await self.head(store) == head
        for name, value in ODD_TAGS.items():
            assert await store.heads(Where(tags={name: value})) == []
