"""An execution that has ended is forgotten with all its keys, in time and together; no other ever is."""

from __future__ import annotations

import asyncio
import random

import pytest
from redis.asyncio import Redis

from outlast.adapters.redis import RedisStore
from outlast.core.records import Status
from outlast.ports.journal import Commit, Message, NewExecution
from tests.adapters.redis_servers import VALKEY, shared_url
from tests.adapters.redis_storage import Prefix

pytestmark = pytest.mark.server

DAY_SECONDS = 24 * 60 * 60.0
HOUR_SECONDS = 60 * 60.0
PATIENCE_SECONDS = 60.0
ENDS = [Status.COMPLETED, Status.FAILED, Status.CANCELLED]
SHARDS = 3
AT_ONCE = 20
OF_ONE_EXECUTION = {"head", "journal", "inbox", "message-ids"}
"""The sorts of keys that end in an execution's id."""


async def live(
    store: RedisStore, id: str, chance: random.Random, *, keep_seconds: float | None, ends: bool
) -> None:
    """Lead one execution through messages, a wait and several claims, to its end or not quite."""
    workflow, worker = chance.choice(["v", "w"]), f"worker {chance.randrange(3)}"
    # A task queue of its own, so that just this execution is claimed.
    new = NewExecution(id, workflow, "f", task_queue=id, keep_seconds=keep_seconds)
    await store.create(new, b"first")
    for number in range(chance.randrange(3)):
        await store.send(id, Message(f"m{number}", b"body"))
    length = 1
    for is_last in (False, True):
        [claim] = (await store.claim(worker, ["v", "w"], id, limit=1, lease_seconds=1e9)).claims
        await store.append(claim, length, [b"x" * 100] * 3, Commit(consumed=chance.randrange(3)))
        length += 3
        if not is_last:
            await store.append(claim, length, [], Commit(release=True, wake_at=0.0, reason="for now"))
        elif ends:
            await store.append(claim, length, [b"last"], Commit(status=chance.choice(ENDS)))
        elif chance.random() < 0.5:
            await store.append(claim, length, [], Commit(release=True))


@pytest.mark.parametrize("count", [200, pytest.param(10_000, marks=pytest.mark.nightly)])
async def test_no_key_of_a_forgotten_execution_is_left_and_no_other_key_is_missing(count: int) -> None:
    storage = Prefix(shared_url(VALKEY), shards=str(SHARDS), keep_days="7")
    clock, chance = storage.clock, random.Random(count)
    ids = [f"x-{number}" for number in range(count)]
    lasting, short = set(ids[::10]), set(ids[5::10])
    """Those that do not end, and those that end and are kept for two days only."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(store: RedisStore, id: str) -> None:
        keep_seconds = 2 * DAY_SECONDS if id in short else None
        async with room:
            await live(store, id, chance, keep_seconds=keep_seconds, ends=id not in lasting)

    async def state(store: RedisStore) -> dict[str, object]:
        return {
            id: (await store.head(id), await store.read(id), await store.messages(id, 0)) for id in lasting
        }

    async def keys() -> set[str]:
        async with Redis.from_url(storage.settings.url) as client:
            found = [key async for key in client.scan_iter(f"{storage.prefix}:*", count=1000)]
        return {key.decode().removeprefix(f"{storage.prefix}:") for key in found}

    async with RedisStore(storage.settings, clock, clean_seconds=None) as store:

        async def kept() -> int:
            return len(await store.heads(limit=count))

        async def until_kept(number: int) -> None:
            """Let minutes pass until that many are kept; the cleaning happens in between, in real time."""
            async with asyncio.timeout(PATIENCE_SECONDS):
                while await kept() != number:
                    await clock.advance(20.0)
                    await asyncio.sleep(0.005)

        async with asyncio.TaskGroup() as group:
            for id in ids:
                group.create_task(one(store, id))
        before = await state(store)
        async with RedisStore(storage.settings, clock) as cleaning:
            # A worker that has nothing to do asks for work; from then on its store forgets what is over.
            await cleaning.claim("idle", ["v", "w"], "nothing", limit=1, lease_seconds=1.0)
            for days, number in ((2.0, count - len(short)), (5.0, len(lasting))):
                before_it = await kept()
                await clock.advance(days * DAY_SECONDS - HOUR_SECONDS)
                await asyncio.sleep(
                    0.1
                )  # time to forget too much; nothing announces that nothing is forgotten
                assert await kept() == before_it
                await clock.advance(HOUR_SECONDS)
                await until_kept(number)
        assert await state(store) == before
        for key in await keys():
            _, _, rest = key.partition(":")
            kind, _, name = rest.partition(":")
            assert kind not in OF_ONE_EXECUTION or name in lasting, key

        for id in lasting:
            await store.send(id, Message("wake", b""))
        await clock.advance(1e9)
        for id in lasting:
            [claim] = (await store.claim("last", ["v", "w"], id, limit=1, lease_seconds=1.0)).claims
            await store.append(claim, claim.length, [], Commit(status=Status.COMPLETED))
        await clock.advance(1.0)
        assert await store.prune(clock.now()) == len(lasting)
        assert await keys() <= {"format", *(f"{{{shard}}}:token" for shard in range(SHARDS))}
    await storage.dispose()
