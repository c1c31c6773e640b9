"""The things that the parts of the journal contract share: storage, a store, example executions."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import pytest

from outlast.core.errors import LeaseLost
from outlast.core.records import Status
from outlast.ports.journal import (
    DEFAULT_TASK_QUEUE,
    Claim,
    Commit,
    Head,
    Message,
    NewExecution,
    Store,
    Work,
)
from outlast.testing.contracts.asyncio_tests import AsyncioTests
from outlast.testing.contracts.journal.storage import ALL, Storage, StoreCapability
from outlast.testing.contracts.patience import at_most, in_words

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
"""Bytes that a store would change if it treated them as text, or as empty."""


def new_execution(
    id: str = "e",
    *,
    workflow: str = "w",
    fingerprint: str = "f",
    task_queue: str = DEFAULT_TASK_QUEUE,
    keep_seconds: float | None = None,
    reason: str | None = None,
    tags: Mapping[str, str] | None = None,
    overview: str | None = None,
    waiting: str | None = None,
    ended: Status | None = None,
) -> NewExecution:
    return NewExecution(
        id=id,
        workflow=workflow,
        fingerprint=fingerprint,
        task_queue=task_queue,
        keep_seconds=keep_seconds,
        reason=reason,
        tags=tags or {},
        overview=overview,
        waiting=waiting,
        ended=ended,
    )


class JournalContractBase(AsyncioTests):
    """Makes storage for each test, and has the helpers that several tests use."""

    new_storage: ClassVar[Callable[[], Storage]]
    capabilities: ClassVar[frozenset[StoreCapability]] = ALL
    lease_seconds: ClassVar[float] = 10.0
    """Make it short for a clock that cannot be moved."""
    patience_seconds: ClassVar[float] = 20.0
    """The real time after which something that should have ended counts as stuck."""

    @pytest.fixture
    async def storage(self) -> AsyncIterator[Storage]:
        storage = type(self).new_storage()
        yield storage
        await storage.dispose()

    @pytest.fixture
    async def store(self, storage: Storage) -> AsyncIterator[Store]:
        async with storage.open() as store:
            yield store

    def require(self, capability: StoreCapability) -> None:
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
        """Claim the execution that must be the only claimable one."""
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

    async def create_and_hold(self, store: Store, id: str, wake_at: float | None = None) -> None:
        await store.create(new_execution(id), FIRST)
        claim = await self.claim_one(store)
        await store.append(claim, 1, [], Commit(release=True, hold=True, wake_at=wake_at))

    async def lose(self, storage: Storage, store: Store, times: int) -> Claim:
        """Create an execution that loses that number of owners in a row; return the next claim of it."""
        await store.create(new_execution(), FIRST)
        for turn in range(times):
            await self.claim_one(store, worker=f"lost {turn}")
            await storage.clock.advance(self.lease_seconds)
        return await self.claim_one(store)

    async def head(self, store: Store) -> Head:
        head = await store.head("e")
        assert head is not None
        return head

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
        """Return the things that end a wait, in an order in which they can happen."""

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

        async def hold() -> None:
            claimed = await claim()
            await store.append(claimed, 1, [], Commit(consumed=1, release=True, hold=True))

        async def resume() -> None:
            assert await store.resume(id)

        async def send_to_somebodys() -> None:
            await claim()
            await store.send(id, Message("m2", b"body"))

        return create, release_until_later, send_to_nobodys, hold, resume, send_to_somebodys

    async def ends(self, storage: Storage, waiting: asyncio.Task[None], *, by_time: bool = False) -> None:
        """Return when the task is done; it fails if it needs time, unless `by_time`, or never ends."""
        moves = by_time or StoreCapability.PUSH_WAKEUP not in self.capabilities
        started = storage.clock.now()
        async with at_most(self.patience_seconds, in_words(waiting), lambda: self.look_into(storage)):
            while not waiting.done():
                if moves:
                    await storage.clock.advance(0.25)
                await asyncio.wait({waiting}, timeout=0.01)
        await waiting
        if not moves and StoreCapability.MOVABLE_CLOCK in self.capabilities:
            assert storage.clock.now() == started

    async def within_patience(self, storage: Storage, awaited: Awaitable[T]) -> T:
        async with at_most(self.patience_seconds, in_words(awaited), lambda: self.look_into(storage)):
            return await awaited

    async def look_into(self, storage: Storage) -> str:
        """Return the content of the storage, for the report of a failed test."""
        lines = [f"the storage then, at {storage.clock.now():.3f}:"]
        async with storage.open() as store:
            for head in await store.heads():
                deliveries = await store.messages(head.id, 0)
                messages = ", ".join(f"{one.number} {one.message.id!r}" for one in deliveries)
                lines.append(f"{head}, messages: {messages or 'none'}")
        return "\n".join(lines)

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
