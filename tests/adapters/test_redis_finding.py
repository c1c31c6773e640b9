"""Executions found by the beginning of their ids: by an index while they are few, else one by one."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from outlast.core.records import Status
from outlast.ports.finding import Cursor, Where
from outlast.ports.journal import NewExecution, Store
from tests.adapters.redis_storage import on_valkey, on_valkey_in_shards

pytestmark = pytest.mark.server

SCRIPT = Path(__file__).parents[2] / "src" / "adapters" / "redis" / "scripts" / "heads.lua"
[FEW_IDS] = map(int, re.findall(r"FEW_IDS = (\d+)", SCRIPT.read_text()))


async def pages(store: Store, where: Where, limit: int) -> list[str]:
    found: list[str] = []
    after: Cursor | None = None
    while page := await store.heads(where, limit=limit, after=after):
        found += [head.id for head in page]
        after = Cursor(page[-1].created_at, page[-1].id)
    return found


@pytest.mark.parametrize("new_storage", [on_valkey, on_valkey_in_shards])
async def test_pages_are_the_same_with_few_ids_and_with_many(new_storage: type) -> None:
    storage = new_storage()
    ids = [f"many-{number * 7919 % 10_007:05}" for number in range(FEW_IDS)]
    try:
        async with storage.open() as store:
            for first in range(0, len(ids), 100):
                await asyncio.gather(
                    *(store.create(NewExecution(id, "w", "f"), b"first") for id in ids[first : first + 100])
                )
                await storage.clock.advance(1.0)
            await store.create(NewExecution("other", "w", "f"), b"first")
            await store.amend(ids[3], 1, b"end", Status.FAILED)
            few = await pages(store, Where(id_prefix="many-"), 300)
            narrow = await pages(store, Where(id_prefix="many-00"), 7)
            assert sorted(few) == sorted(ids)
            assert narrow == [id for id in few if id.startswith("many-00")]
            assert await pages(store, Where(id_prefix="many-", status="failed"), 2) == [ids[3]]
            # One more, and they are not few any more.
            await store.create(NewExecution("many-", "w", "f"), b"first")
            assert await pages(store, Where(id_prefix="many-"), 300) == ["many-", *few]
            assert await pages(store, Where(id_prefix="many-0"), 300) == [
                id for id in few if id.startswith("many-0")
            ]
    finally:
        await storage.dispose()
