"""Filters together with limits and cursors (K2, K3): each finds what the plain list has, in its order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

from outlast.core.records import Status
from outlast.ports.finding import EVERYTHING, Cursor, Where
from outlast.ports.journal import Commit, Head, Store
from outlast.testing.contracts.journal.stage import (
    FIRST,
    MUCH_LATER,
    JournalContractBase,
    new_execution,
)
from outlast.testing.contracts.journal.storage import Storage

EXECUTIONS = 48
RED, BLUE_ONE = {"team": "red"}, {"team": "blue", "tier": "1"}


def is_found(head: Head, where: Where) -> bool:
    """Return what a filter says about a head, part by part."""
    status = Status.PAUSED if head.held else head.status
    return (
        where.workflow in (None, head.workflow)
        and where.status in (None, status)
        and where.tags.items() <= head.tags.items()
        and head.id.startswith(where.id_prefix or "")
        and (where.first_at is None or head.created_at >= where.first_at)
        and (where.end_at is None or head.created_at < where.end_at)
        and where.waiting_for in (None, head.waiting)
    )


def combinations(heads: Sequence[Head]) -> list[Where]:
    """Return filters of one part, of two and of several."""
    early, late = (datetime.fromtimestamp(heads[place].created_at, UTC) for place in (-10, 10))
    return [
        EVERYTHING,
        Where("v"),
        Where(status="paused"),
        Where(tags=RED),
        Where(tags=BLUE_ONE),
        Where(id_prefix="b"),
        Where(waiting_for="timer"),
        Where(created_after=early, created_before=late),
        Where("v", "running"),
        Where("w", "paused", RED),
        Where(status="paused", tags=RED),
        Where(status="completed", tags={"team": "blue"}, id_prefix="a"),
        Where(status="running", waiting_for="timer", created_after=early),
        Where("w", tags=RED, created_before=late),
        Where(id_prefix="b", waiting_for="timer"),
        Where(id_prefix="a", created_after=early, created_before=late),
        Where("v", "running", {"team": "blue"}, "b", early, late, "timer"),
        Where("nothing", "running", RED),
    ]


class CombiningContract(JournalContractBase):
    async def test_k3_filters_find_what_the_list_has_with_any_limit(
        self, storage: Storage, store: Store
    ) -> None:
        heads = await self._create_various(storage, store)
        async with storage.open() as second:
            for where in combinations(heads):
                expected = [head for head in heads if is_found(head, where)]
                for limit in sorted({1, 2, 7, max(len(expected), 1), len(expected) + 1, 1000}):
                    assert list(await second.heads(where, limit=limit)) == expected[:limit], where

    async def test_k2_a_filtered_list_goes_on_from_any_place(self, storage: Storage, store: Store) -> None:
        """A place may be that of an execution which the filter does not find, or of none at all."""
        heads = await self._create_various(storage, store)
        places = [Cursor(head.created_at, head.id) for head in heads[::5]]
        places += [Cursor(head.created_at, f"{head.id} gone") for head in heads[3::16]]
        places.append(Cursor(heads[0].created_at + 1000.0, "a"))
        async with storage.open() as second:
            for where in combinations(heads):
                found = [head for head in heads if is_found(head, where)]
                for place in places:
                    expected = [
                        head for head in found if (head.created_at, head.id) < (place.created_at, place.id)
                    ]
                    for limit in (3, 1000):
                        page = await second.heads(where, limit=limit, after=place)
                        assert list(page) == expected[:limit], (where, place)

    async def test_k2_pages_of_a_filtered_list_have_each_execution_once(
        self, storage: Storage, store: Store
    ) -> None:
        heads = await self._create_various(storage, store)
        for where in combinations(heads):
            for limit in (2, 5):
                read: list[Head] = []
                while page := await store.heads(
                    where, limit=limit, after=Cursor(read[-1].created_at, read[-1].id) if read else None
                ):
                    read += page
                    assert len(read) <= len(heads)
                assert read == [head for head in heads if is_found(head, where)], where

    async def _create_various(self, storage: Storage, store: Store) -> list[Head]:
        """Create executions that differ in all that a filter asks for; return the list of all."""
        for begin in range(0, EXECUTIONS, 4):
            await asyncio.gather(*(self._create_one(store, number) for number in range(begin, begin + 4)))
            await storage.clock.advance(0.05)
        claims = {
            int(claim.execution_id[1:]): claim
            for claim in (await self.claim(store, workflows=["v", "w"], limit=EXECUTIONS)).claims
        }
        for number, claim in claims.items():
            commit = Commit(release=True, wake_at=MUCH_LATER)
            if number % 6 == 0:
                commit = Commit(status=Status.COMPLETED)
            elif number % 5 < 2:
                commit = Commit(release=True, hold=True)
            await store.append(claim, 1, [], commit)
        heads = list(await store.heads(limit=1000))
        assert len(heads) == EXECUTIONS
        places = [(head.created_at, head.id) for head in heads]
        assert places == sorted(places, reverse=True)
        return heads

    async def _create_one(self, store: Store, number: int) -> None:
        tags = {"team": "red" if number % 4 < 2 else "blue"} | ({"tier": "1"} if number % 3 else {})
        await store.create(
            new_execution(
                f"{'ab'[number % 2]}{number * 7 % EXECUTIONS:02}",
                workflow="w" if number % 3 == 0 else "v",
                tags=tags,
                waiting="timer" if number % 7 < 4 else "signal",
            ),
            FIRST,
        )
