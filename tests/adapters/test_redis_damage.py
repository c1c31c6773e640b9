"""A key of an execution is deleted, overwritten or edited: it alone stops, and an error says why."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from outlast.adapters.redis import RedisStore
from outlast.core.errors import OutlastError, StorageCorrupt
from outlast.core.records import Status
from outlast.ports.journal import DEFAULT_TASK_QUEUE, Claim, Commit, Message, NewExecution
from outlast.testing.contracts.examples import few_examples
from tests.adapters.redis_servers import VALKEY, shared_url
from tests.adapters.redis_storage import Prefix

pytestmark = pytest.mark.server

KEYS = ("head", "journal", "inbox", "message-ids")
FIELDS = ("status", "workflow", "queue", "sent", "consumed", "token", "owner", "created", "fingerprint")

damages = st.one_of(
    st.tuples(st.sampled_from(KEYS), st.sampled_from(["DEL", "SET"])),
    st.tuples(st.sampled_from(FIELDS), st.sampled_from([None, b"junk", b"", b"\xff"])),
)
"""A key and the damage to it; or a field of the head and its new value."""


async def damage(client: Redis, prefix: str, what: str, how: Any) -> None:
    def key(kind: str) -> str:
        return f"{prefix}:{{0}}:{kind}:lost"

    if what in FIELDS:
        if await client.type(key("head")) != b"hash":
            return
        if how is None:
            await client.hdel(key("head"), what)
        else:
            await client.hset(key("head"), what, how)
        return
    await client.delete(key(what))
    if how == "SET":
        await client.set(key(what), "junk")


async def tried(deed: Awaitable[Any]) -> None:
    """Do something with the damaged execution: it may fail, but only with an error that says something."""
    try:
        await deed
    except OutlastError as error:
        said = str(error)
    else:
        said = "done"
    assert said.strip()


async def claim_all(store: RedisStore, worker: str) -> list[Claim]:
    work = await store.claim(worker, ["w"], DEFAULT_TASK_QUEUE, limit=10, lease_seconds=10.0)
    return list(work.claims)


@few_examples(60)
@given(st.lists(damages, min_size=1, max_size=2), st.booleans(), st.booleans())
async def test_damage_to_the_keys_of_one_execution_does_not_stop_others(
    done: list[tuple[str, Any]], has_mail: bool, is_claimed: bool
) -> None:
    storage = Prefix(shared_url(VALKEY))
    try:
        async with storage.open() as store, Redis.from_url(storage.settings.url) as client:
            await store.create(NewExecution("lost", "w", "f"), b"first")
            if has_mail:
                await store.send("lost", Message("m", b"body"))
            lost = await claim_all(store, "a") if is_claimed else []
            await store.create(NewExecution("other", "w", "f"), b"first")
            for what, how in done:
                await damage(client, storage.prefix, what, how)
            others = [one for one in await claim_all(store, "b") if one.execution_id == "other"]
            assert len(others) == 1
            assert "other" not in await store.renew([*lost, *others], 10.0)
            assert "other" in [head.id for head in await store.heads()]
            for claim in lost:
                await tried(store.append(claim, 1, [b"second"], Commit(release=True)))
            await tried(store.head("lost"))
            await tried(store.send("lost", Message("n", b"body")))
            await tried(store.messages("lost", 0))
            await tried(store.read("lost"))
            await tried(store.resume("lost"))
            await store.workers()
            await store.prune(storage.clock.now() + 1)
            await store.append(others[0], 1, [b"second"], Commit(release=True, wake_at=0.0))
            await storage.clock.advance(11.0)  # The lease of the damaged one has run out, too.
            assert "other" in [one.execution_id for one in await claim_all(store, "c")]
    finally:
        await storage.dispose()


async def contents(client: Redis, prefix: str) -> list[bytes | None]:
    """Return the values of the keys with the records and messages of the execution."""
    return [await client.dump(f"{prefix}:{{0}}:{kind}:lost") for kind in ("journal", "inbox", "message-ids")]


@few_examples(60)
@given(damages, st.booleans(), st.sampled_from(["send", "release", "end"]))
async def test_a_refused_call_on_a_damaged_execution_changes_nothing(
    done: tuple[str, Any], has_mail: bool, deed: str
) -> None:
    storage = Prefix(shared_url(VALKEY))
    try:
        async with storage.open() as store, Redis.from_url(storage.settings.url) as client:
            await store.create(NewExecution("lost", "w", "f"), b"first")
            if has_mail:
                await store.send("lost", Message("m", b"body"))
            [claim] = await claim_all(store, "a")
            await damage(client, storage.prefix, *done)
            before = await contents(client, storage.prefix)
            commit = Commit(release=True) if deed == "release" else Commit(status=Status.COMPLETED)
            try:
                if deed == "send":
                    await store.send("lost", Message("n", b"body"))
                else:
                    await store.append(claim, 1, [b"second"], commit)
            except OutlastError:
                assert await contents(client, storage.prefix) == before
            else:
                assert await contents(client, storage.prefix) != before
    finally:
        await storage.dispose()


async def test_a_message_to_a_damaged_execution_raises_and_the_execution_is_held() -> None:
    storage = Prefix(shared_url(VALKEY))
    async with storage.open() as store, Redis.from_url(storage.settings.url) as client:
        await store.create(NewExecution("lost", "w", "f"), b"first")
        [claim] = await claim_all(store, "a")
        await store.append(claim, 1, [], Commit(release=True))  # It waits, and no worker looks at it.
        await client.hset(f"{storage.prefix}:{{0}}:head:lost", "sent", "junk")
        with pytest.raises(StorageCorrupt, match="'lost' was deleted or changed: its head was changed"):
            await store.send("lost", Message("m", b"body"))
        head = await store.head("lost")
        assert head is not None
        assert head.held
        assert "its head was changed" in (head.reason or "")
    await storage.dispose()


@pytest.mark.parametrize("key", ["journal", "inbox"])
async def test_an_execution_that_was_set_aside_says_why_and_can_be_resumed_once_it_is_mended(
    key: str,
) -> None:
    storage = Prefix(shared_url(VALKEY))
    async with storage.open() as store, Redis.from_url(storage.settings.url) as client:
        await store.create(NewExecution("lost", "w", "f"), b"first")
        await store.send("lost", Message("m", b"body"))
        name = f"{storage.prefix}:{{0}}:{key}:lost"
        kept = await client.dump(name)
        await client.delete(name)
        assert await claim_all(store, "a") == []
        head = await store.head("lost")
        assert head is not None
        assert head.held
        assert head.reason is not None
        assert f"its {key} is gone" in head.reason
        assert kept is not None
        await client.restore(name, 0, kept)
        await store.resume("lost")
        assert [claim.execution_id for claim in await claim_all(store, "a")] == ["lost"]
    await storage.dispose()
