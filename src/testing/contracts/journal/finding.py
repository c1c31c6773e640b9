"""Finding executions: the order of lists and their pages (K2), and filters (K3)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from outlast.core.errors import DefinitionError
from outlast.core.records import Status
from outlast.ports.finding import EVERYTHING, Cursor, Where
from outlast.ports.journal import Commit, Head, Store
from outlast.testing.contracts.journal.stage import FIRST, JournalContractBase, new_execution
from outlast.testing.contracts.journal.storage import Storage, StoreCapability

EQUALLY_OLD = 300
"""Executions that were created at the same moment: more than any page shows."""

ODD_PREFIXES = (
    "a",
    "a%",
    "a_",
    "a*",
    "a[",
    "a:",
    "a\\",
    "a'",
    "ä",
    "日",
    "\ud7ff",
    "\U0010ffff",
    "a\U0010ffff",
)


async def pages(store: Store, where: Where = EVERYTHING, *, limit: int) -> AsyncIterator[Sequence[Head]]:
    """Yield the pages of a list, each from the end of the one before it; each must be beyond that."""
    after: Cursor | None = None
    while page := await store.heads(where, limit=limit, after=after):
        yield page
        last = Cursor(page[-1].created_at, page[-1].id)
        assert after is None or (last.created_at, last.id) < (after.created_at, after.id)
        after = last


async def found(store: Store, where: Where, *, limit: int = 100) -> list[str]:
    return [head.id for head in await store.heads(where, limit=limit)]


def bounds(*, after: float | None = None, before: float | None = None) -> Where:
    def moment(seconds: float | None) -> datetime | None:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)

    return Where(created_after=moment(after), created_before=moment(before))


class FilteringContract(JournalContractBase):
    # Pages -------------------------------------------------------------------------------------------------

    async def test_k2_a_list_goes_down_by_time_and_then_by_id(self, storage: Storage, store: Store) -> None:
        for id in ("b", "B", "é", "e\N{COMBINING ACUTE ACCENT}", "日", "\U0001f989", "a-", "a"):
            await store.create(new_execution(f"early {id}"), FIRST)
        await storage.clock.advance(1.0)
        await store.create(new_execution("late"), FIRST)
        heads = list(await store.heads())
        places = [(head.created_at, head.id) for head in heads]
        assert places == sorted(places, reverse=True)
        assert heads[0].id == "late"

    async def test_k2_pages_of_any_size_have_each_execution_once(
        self, storage: Storage, store: Store
    ) -> None:
        for number in range(23):
            await store.create(new_execution(f"e{number * 7 % 23}"), FIRST)
            if number % 4 == 0:
                await storage.clock.advance(0.25)
        everything = list(await store.heads())
        assert len(everything) == 23
        for limit in (1, 2, 5, 22, 23, 24):
            read = [page async for page in pages(store, limit=limit)]
            assert [head for page in read for head in page] == everything
            assert all(len(page) == limit for page in read[:-1])

    async def test_k2_no_page_skips_executions_that_are_equally_old(self, store: Store) -> None:
        self.require(StoreCapability.MOVABLE_CLOCK)
        ids = [f"e{number}" for number in range(EQUALLY_OLD)]
        for id in ids:
            await store.create(new_execution(id), FIRST)
        read = [head.id async for page in pages(store, limit=7) for head in page]
        assert read == sorted(ids, reverse=True)

    async def test_k2_pages_go_on_where_they_were_whatever_comes_and_goes(
        self, storage: Storage, store: Store
    ) -> None:
        for number in range(40):
            await store.create(new_execution(f"e{number:02}"), FIRST)
            if number % 5 == 0:
                await storage.clock.advance(0.25)
        claims = {claim.execution_id: claim for claim in (await self.claim(store, limit=100)).claims}
        stays = {f"e{number:02}" for number in range(40) if number % 3}
        read: list[str] = []
        async for page in pages(store, limit=4):
            read += [head.id for head in page]
            # The execution that the next cursor names, one before it and one after it are forgotten.
            place = int(page[-1].id.removeprefix("e")) if page[-1].id in claims else 0
            for id in (f"e{place:02}", f"e{place + 1:02}", f"e{place - 1:02}"):
                if id in claims and (id not in stays or id == page[-1].id):
                    await store.append(claims.pop(id), 1, [], Commit(status=Status.COMPLETED))
                    stays.discard(id)
            await storage.clock.advance(0.25)
            await store.prune(storage.clock.now())
            await store.create(new_execution(f"new {len(read)}"), FIRST)
        assert len(read) == len(set(read))
        assert stays <= set(read)

    async def test_k2_a_filter_counts_before_the_limit_does(self, store: Store) -> None:
        for number in range(60):
            workflow = "rare" if number in (0, 20, 59) else "usual"
            tags = {"number": str(number % 30)}
            await store.create(new_execution(f"e{number:02}", workflow=workflow, tags=tags), FIRST)
        for where, ids in {
            "rare": (Where(workflow="rare"), {"e00", "e20", "e59"}),
            "tag": (Where(tags={"number": "3"}), {"e03", "e33"}),
            "both": (Where(workflow="usual", tags={"number": "0"}), {"e30"}),
            "prefix": (Where(id_prefix="e5", status="running"), {f"e5{number}" for number in range(10)}),
        }.values():
            assert set(await found(store, where, limit=len(ids))) == ids
            read = [head.id async for page in pages(store, where, limit=1) for head in page]
            assert sorted(read) == sorted(ids)

    # Filters -----------------------------------------------------------------------------------------------

    async def test_k3_workflow_and_status(self, storage: Storage, store: Store) -> None:
        for number in range(6):
            await store.create(new_execution(f"e{5 - number}", workflow="vw"[number % 2]), FIRST)
            await storage.clock.advance(0.25)
        claims = {c.execution_id: c for c in (await self.claim(store, workflows=["v", "w"])).claims}
        await store.append(claims["e1"], 1, [], Commit(status=Status.FAILED))
        await store.append(claims["e2"], 1, [], Commit(status=Status.COMPLETED))
        await store.append(claims["e3"], 1, [], Commit(release=True, hold=True))
        for where, ids in [
            (EVERYTHING, ["e0", "e1", "e2", "e3", "e4", "e5"]),
            (Where(workflow="v"), ["e1", "e3", "e5"]),
            (Where(workflow="nothing"), []),
            (Where(status="failed"), ["e1"]),
            (Where(status="running"), ["e0", "e4", "e5"]),
            (Where(status="paused"), ["e3"]),
            (Where(workflow="v", status="running"), ["e5"]),
            (Where(workflow="v", status="paused"), ["e3"]),
            (Where(workflow="w", status="paused"), []),
            (Where(status="cancelled"), []),
        ]:
            assert await found(store, where) == ids
        assert await found(store, EVERYTHING, limit=2) == ["e0", "e1"]
        assert await found(store, EVERYTHING, limit=0) == []
        for head in await store.heads():
            assert head == await store.head(head.id)

    async def test_k3_what_is_held_is_paused_until_it_is_resumed_or_ends(
        self, storage: Storage, store: Store
    ) -> None:
        async def shown(*, paused: set[str], running: set[str]) -> None:
            async with storage.open() as other:
                for workflow in (None, "w"):
                    where = {status: Where(workflow, status) for status in ("paused", "running")}
                    assert set(await found(other, where["paused"])) == paused
                    assert set(await found(other, where["running"])) == running

        await store.create(new_execution("new", reason="created so"), FIRST)
        for id in ("released", "resumed", "ended"):
            await self.create_and_hold(store, id)
        await self.create_and_hold(store, "for a time", wake_at=storage.clock.now() + 1000)
        await shown(paused={"new", "released", "resumed", "ended"}, running={"for a time"})
        assert await store.resume("resumed")
        assert await store.resume("for a time")
        assert await store.amend("ended", 1, b"end", Status.TERMINATED)
        await shown(paused={"new", "released"}, running={"resumed", "for a time"})
        assert await found(store, Where(status="terminated")) == ["ended"]
        assert await store.amend("ended", 2, b"again", Status.RUNNING)
        await shown(paused={"new", "released"}, running={"resumed", "for a time", "ended"})
        await self.claim(store)
        await shown(paused={"new", "released"}, running={"resumed", "for a time", "ended"})

    async def test_k3_all_tags_of_the_filter_must_be_there(self, store: Store) -> None:
        tagged = {
            "plain": {"team": "blue", "tier": "1"},
            "other value": {"team": "red", "tier": "1"},
            "one of two": {"team": "blue"},
            "names with colons": {"team:blue": "x", "4:team": "blue"},
            "value with colon": {"team": "blue:x", "te": "amblue"},
            "empty": {"team": ""},
            "no tags": {},
        }
        for id, tags in tagged.items():
            await store.create(new_execution(id, tags=tags), FIRST)
        for tags in (
            {"team": "blue"},
            {"team": "blue", "tier": "1"},
            {"tier": "1", "team": "blue"},
            {"team": ""},
            {"team": "BLUE"},
            {"team:blue": "x"},
            {"team": "blue:x"},
            {"nothing": "blue"},
        ):
            expected = {id for id, own in tagged.items() if tags.items() <= own.items()}
            assert set(await found(store, Where(tags=tags))) == expected
        assert await found(store, Where(workflow="v", tags={"team": "blue"})) == []

    async def test_k3_the_beginning_of_an_id_is_compared_by_code_points(self, store: Store) -> None:
        ids = [f"{prefix}{rest}" for prefix in ODD_PREFIXES for rest in ("", "x", "\U0010ffff")]
        for id in dict.fromkeys(ids):
            await store.create(new_execution(id), FIRST)
        for prefix in (*ODD_PREFIXES, "", "b", "aX", "x" * 1000):
            expected = {id for id in ids if id.startswith(prefix)}
            assert set(await found(store, Where(id_prefix=prefix))) == expected
            read = [head.id async for page in pages(store, Where(id_prefix=prefix), limit=3) for head in page]
            assert sorted(read) == sorted(expected)

    async def test_k3_bounds_of_time_find_what_was_created_from_one_on_and_before_the_other(
        self, storage: Storage, store: Store
    ) -> None:
        times = []
        for number in range(4):
            head, _ = await store.create(new_execution(f"e{number}"), FIRST)
            times.append(head.created_at)
            await storage.clock.advance(1.0)
        for where, ids in [
            (bounds(after=times[2]), ["e3", "e2"]),
            (bounds(before=times[2]), ["e1", "e0"]),
            (bounds(after=times[1], before=times[3]), ["e2", "e1"]),
            (bounds(after=times[3], before=times[3]), []),
            (bounds(after=times[0] - 10, before=times[3] + 10), ["e3", "e2", "e1", "e0"]),
        ]:
            assert await found(store, where) == ids
            read = [head.id async for page in pages(store, where, limit=1) for head in page]
            assert read == ids

    async def test_k3_what_an_execution_waits_for(self, store: Store) -> None:
        words = {"t1": "timer", "t2": "timer", "a": "approval", "n": None}
        for id, word in words.items():
            await store.create(new_execution(id, waiting=word), FIRST)
        assert set(await found(store, Where(waiting_for="timer"))) == {"t1", "t2"}
        assert await found(store, Where(waiting_for="approval", status="running")) == ["a"]
        assert await found(store, Where(waiting_for="approval", status="failed")) == []
        assert await found(store, Where(waiting_for="signal")) == []
        claims = {claim.execution_id: claim for claim in (await self.claim(store)).claims}
        await store.append(claims["t1"], 1, [], Commit(release=True, waiting="signal"))
        await store.append(claims["a"], 1, [b"end"], Commit(status=Status.COMPLETED))
        assert await found(store, Where(waiting_for="timer")) == ["t2"]
        assert await found(store, Where(waiting_for="signal")) == ["t1"]
        assert await found(store, Where(waiting_for="approval")) == []

    async def test_k3_filters_join(self, storage: Storage, store: Store) -> None:
        await store.create(new_execution("old", workflow="v", tags={"a": "1"}, waiting="timer"), FIRST)
        await storage.clock.advance(1.0)
        head, _ = await store.create(
            new_execution("new 1", workflow="v", tags={"a": "1", "b": "2"}, waiting="timer"), FIRST
        )
        await store.create(new_execution("new 2", workflow="w", tags={"a": "1"}, waiting="timer"), FIRST)
        since = datetime.fromtimestamp(head.created_at, UTC)
        whole = Where("v", "running", {"a": "1"}, "new", since, since + timedelta(hours=1), "timer")
        assert await found(store, whole) == ["new 1"]
        for where in (
            Where("w", "running", {"b": "2"}),
            Where("v", "paused", {"a": "1"}),
            Where(None, "running", {"a": "1"}, "new", None, since),
            Where(None, None, {"a": "1"}, "old", since),
            Where("v", None, {"b": "1"}, waiting_for="timer"),
        ):
            assert await found(store, where) == []

    # What a filter and a cursor may be ----------------------------------------------------------------------

    def test_k3_a_filter_that_cannot_find_anything_is_refused_when_it_is_made(self) -> None:
        for wrong in (
            {"status": "asleep"},
            {"waiting_for": "lunch"},
            {"waiting_for": 7},
            {"tags": {"a": 1}},
            {"tags": {"": "x"}},
            {"tags": {"a": None}},
            {"tags": ["a"]},
            {"workflow": 7},
            {"created_after": datetime(2026, 1, 1)},
            {"created_before": 1.0},
        ):
            with pytest.raises(DefinitionError):
                Where(**wrong)

    def test_k3_a_filter_by_an_unknown_wait_names_those_that_there_are(self) -> None:
        with pytest.raises(DefinitionError, match=r"'lunch'.* held, paused, code, worker, .*, condition"):
            Where(waiting_for="lunch")
