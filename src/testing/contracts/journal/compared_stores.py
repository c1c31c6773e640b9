"""Two open stores on one storage, compared with a model after each step of a random program."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

from hypothesis.stateful import RuleBasedStateMachine, invariant

from outlast.core.errors import (
    ExecutionAlreadyEnded,
    ExecutionNotFound,
    LeaseLost,
    MessagesUnseen,
    PayloadTooLarge,
)
from outlast.core.records import Status
from outlast.ports.finding import Cursor, Where
from outlast.ports.journal import Claim, Head, Store
from outlast.testing.contracts.journal.modelled import ModelExecution
from outlast.testing.contracts.journal.random_values import IDS, Moment
from outlast.testing.contracts.journal.storage import Storage

T = TypeVar("T")

REFUSALS = (ExecutionAlreadyEnded, ExecutionNotFound, LeaseLost, MessagesUnseen, PayloadTooLarge)
"""The errors that a store may raise at a call that is wrong; the model says which of them is right."""

CLOCK_TOLERANCE_SECONDS = 0.001
"""The precision with which a store must keep a time."""


class ComparedStores(RuleBasedStateMachine):
    """The stores and the model of one program, with an event loop and storage of its own."""

    new_storage: ClassVar[Callable[[], Storage]]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.storage = type(self).new_storage()
        self.stores: list[Store] = []
        self.model: dict[str, ModelExecution] = {}
        self.last_token: dict[str, int] = {}
        try:
            for _ in range(2):
                self.stores.append(self.opened())
        except BaseException:
            self.teardown()
            raise

    def call(self, operation: Coroutine[Any, Any, T]) -> T:
        return self.runner.get_loop().run_until_complete(operation)

    def good_claims(self) -> list[Claim]:
        return [execution.claim for execution in self.model.values() if execution.claim is not None]

    def good_claim(self, nth: int) -> Claim:
        good_claims = self.good_claims()
        return good_claims[nth % len(good_claims)]

    def store_at(self, moment: Moment) -> Store:
        if moment.after_seconds:
            self.call(self.storage.clock.advance(moment.after_seconds))
        if moment.reopens:
            self.call(self.stores[moment.store].__aexit__(None, None, None))
            self.stores[moment.store] = self.opened()
        return self.stores[moment.store]

    def opened(self) -> Store:
        return self.call(self.storage.open().__aenter__())

    @property
    def now(self) -> float:
        return self.storage.clock.now()

    def owned(self, claim: Claim) -> ModelExecution | None:
        execution = self.model.get(claim.execution_id)
        return execution if execution is not None and execution.claim == claim else None

    @invariant()
    def both_stores_agree_with_the_model(self) -> None:
        self.call(self.check())

    async def check(self) -> None:
        one, other = self.stores
        await self.check_heads(one, Where(workflow="v", status=Status.RUNNING))
        await self.check_heads(other, Where())
        await self.check_wake_up(other)
        for id in IDS:
            await self.check_execution(one, id, after=0)
            await self.check_execution(other, id, after=2)

    async def check_heads(self, store: Store, where: Where, limit: int = 100) -> None:
        """Check what a filter finds, page by page."""
        heads: list[Head] = []
        while page := await store.heads(
            where, limit=limit, after=Cursor(heads[-1].created_at, heads[-1].id) if heads else None
        ):
            heads += page
            assert len(page) <= limit
            assert len(heads) <= len(self.model)
        places = [(head.created_at, head.id) for head in heads]
        assert places == sorted(places, reverse=True)
        assert sorted(head.id for head in heads) == sorted(
            id for id, execution in self.model.items() if execution.matches(where)
        )

    async def check_wake_up(self, store: Store) -> None:
        """Check the time that a worker without room for more may sleep."""
        work = await store.claim("idle", {"v", "w"}, "default", limit=0, lease_seconds=1.0)
        assert (work.claims, work.mail) == ((), frozenset())
        times = [execution.claimable_since() for execution in self.model.values()]
        assert self.is_next(work.next_wake_at, [time for time in times if time is not None])

    async def check_execution(self, store: Store, id: str, after: int) -> None:
        execution, head = self.model.get(id), await store.head(id)
        if execution is None:
            assert head is None
            return
        self.assert_equal(head, execution.head())
        assert list(await store.read(id, after)) == execution.records[after:]
        assert list(await store.read(id, after, 2)) == execution.records[after : after + 2]
        if execution.status is Status.RUNNING:
            unread = await store.messages(id, execution.consumed)
            assert list(unread) == execution.deliveries()[execution.consumed :]
            assert list(await store.messages(id, execution.consumed, 2)) == list(unread)[:2]

    def teardown(self) -> None:
        try:
            self.call(self.close_all())
        finally:
            self.runner.close()

    async def close_all(self) -> None:
        async with AsyncExitStack() as closing:
            closing.push_async_callback(self.storage.dispose)
            for store in self.stores:
                closing.push_async_exit(store)

    def outcome(self, operation: Coroutine[Any, Any, object]) -> Exception | None:
        try:
            self.call(operation)
        except (
            ExecutionAlreadyEnded,
            ExecutionNotFound,
            LeaseLost,
            MessagesUnseen,
            PayloadTooLarge,
        ) as refusal:
            return refusal
        return None

    def is_owned_by(self, id: str, worker: str) -> bool:
        claim = self.model[id].claim
        return claim is not None and claim.worker == worker

    def is_next(self, time: float | None, expected: Collection[float]) -> bool:
        next_time = min(expected, default=None)
        if time is None or next_time is None or next_time > self.now:
            return self.is_near(time, next_time)
        return time <= self.now

    def is_near(self, time: float | None, expected: float | None) -> bool:
        if time is None or expected is None:
            return time is expected
        return abs(time - expected) <= CLOCK_TOLERANCE_SECONDS

    def assert_times(self, times: Sequence[float | None], expected: Sequence[float]) -> None:
        assert len(times) == len(expected)
        assert all(self.is_near(*pair) for pair in zip(times, expected, strict=True)), (times, expected)

    def assert_equal(self, head: Head | None, expected: Head) -> None:
        assert head is not None
        assert self.is_near(head.created_at, expected.created_at)
        assert self.is_near(head.ended_at, expected.ended_at)
        assert replace(head, created_at=0.0, ended_at=None) == replace(
            expected, created_at=0.0, ended_at=None
        )
