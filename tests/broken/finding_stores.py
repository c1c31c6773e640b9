"""Stores that find the right executions by one filter on the first page, and not by more, or further on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from outlast.core.records import Status
from outlast.ports.finding import EVERYTHING, Cursor, Where
from outlast.ports.journal import Head
from tests.broken.stores import BrokenStore

ALL = 10**9


class FindingStore(BrokenStore):
    """A store whose mistake needs a filter together with a limit or a place."""

    breaks = ""
    found_by_random_programs = False


class StartsAgainBehindAStranger(FindingStore):
    """It looks for the execution of the cursor among those that the filter finds."""

    breaks = "k2_a_filtered_list_"

    async def heads(
        self, where: Where = EVERYTHING, *, limit: int = 100, after: Cursor | None = None
    ) -> Sequence[Head]:
        found = await super().heads(where, limit=ALL)
        if after is not None and after.id not in {head.id for head in found}:
            after = None
        return await super().heads(where, limit=limit, after=after)


class FindsNothingBehindAStranger(FindingStore):
    """A page after an execution that is not found by the filter is empty."""

    breaks = "k2_a_filtered_list_"

    async def heads(
        self, where: Where = EVERYTHING, *, limit: int = 100, after: Cursor | None = None
    ) -> Sequence[Head]:
        found = await super().heads(where, limit=ALL)
        if after is not None and after.id not in {head.id for head in found}:
            return []
        return await super().heads(where, limit=limit, after=after)


class ForgetsTagsOnTheNextPage(FindingStore):
    """The query for further pages was written before there were tags."""

    breaks = "k2_pages_of_a_filtered_"

    async def heads(
        self, where: Where = EVERYTHING, *, limit: int = 100, after: Cursor | None = None
    ) -> Sequence[Head]:
        is_first = after is None or not where.workflow
        return await super().heads(where if is_first else replace(where, tags={}), limit=limit, after=after)


class GoesByTimeInAFilteredList(FindingStore):
    """With a filter the place is a time: what is equally old is in no page."""

    breaks = "k2_pages_of_a_filtered_"

    async def heads(
        self, where: Where = EVERYTHING, *, limit: int = 100, after: Cursor | None = None
    ) -> Sequence[Head]:
        if after is not None and where != EVERYTHING:
            after = replace(after, id="")
        return await super().heads(where, limit=limit, after=after)


class SortsByIdWithAPrefix(FindingStore):
    """The index of ids gives the executions with a prefix, in the order of their ids."""

    breaks = "k3_filters_find_"

    async def heads(
        self, where: Where = EVERYTHING, *, limit: int = 100, after: Cursor | None = None
    ) -> Sequence[Head]:
        found = list(await super().heads(where, limit=ALL, after=after))
        if where.id_prefix:
            found.sort(key=lambda head: head.id, reverse=True)
        return found[:limit]


class LimitsEachTag(FindingStore):
    """The newest executions with each tag are looked up, so many as the limit, and then compared."""

    breaks = "k3_filters_find_"

    async def heads(
        self, where: Where = EVERYTHING, *, limit: int = 100, after: Cursor | None = None
    ) -> Sequence[Head]:
        found = list(await super().heads(where, limit=limit, after=after))
        for name, value in where.tags.items():
            newest = await super().heads(Where(tags={name: value}), limit=5 * limit, after=after)
            found = [head for head in found if head in newest]
        return found


class LimitsBeforeTheThirdPart(FindingStore):
    """Two parts of a filter have an index; the others are looked at when the page is there."""

    breaks = "k3_filters_find_"

    async def heads(
        self, where: Where = EVERYTHING, *, limit: int = 100, after: Cursor | None = None
    ) -> Sequence[Head]:
        if where.workflow is None or where.status is None or not where.tags:
            return await super().heads(where, limit=limit, after=after)
        page = await super().heads(Where(where.workflow, where.status), limit=limit, after=after)
        return [head for head in page if head in await super().heads(where, limit=ALL)]


class FindsNoTaggedThatIsPaused(FindingStore):
    """The index of tags has the status running for what is held."""

    breaks = "k3_filters_find_"

    async def heads(
        self, where: Where = EVERYTHING, *, limit: int = 100, after: Cursor | None = None
    ) -> Sequence[Head]:
        if where.status is Status.PAUSED and where.tags:
            return []
        return await super().heads(where, limit=limit, after=after)


class IgnoresTheWaitWithAPrefix(FindingStore):
    """A filter by id has no room for what an execution waits for."""

    breaks = "k3_filters_find_"

    async def heads(
        self, where: Where = EVERYTHING, *, limit: int = 100, after: Cursor | None = None
    ) -> Sequence[Head]:
        if where.id_prefix and where.workflow is None:
            where = replace(where, waiting_for=None)
        return await super().heads(where, limit=limit, after=after)


class TakesOneBoundWithAPlace(FindingStore):
    """The place replaces the bound of time."""

    breaks = "k2_a_filtered_list_"

    async def heads(
        self, where: Where = EVERYTHING, *, limit: int = 100, after: Cursor | None = None
    ) -> Sequence[Head]:
        if after is not None:
            where = replace(where, created_before=None)
        return await super().heads(where, limit=limit, after=after)


FINDING_STORES: tuple[type[BrokenStore], ...] = tuple(FindingStore.__subclasses__())
