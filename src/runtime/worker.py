"""The worker: claims executions, drives many at once, renews their leases, stops without losing any."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

from durable_agents.core.errors import (
    ConfigurationError,
    DefinitionError,
    LeaseLost,
    NonDeterminismError,
    StorageError,
)
from durable_agents.core.records import decode_record
from durable_agents.ports.clock import Clock
from durable_agents.ports.definitions import WorkflowDefinition
from durable_agents.ports.durability import WorkflowInfo
from durable_agents.ports.journal import DEFAULT_TASK_QUEUE, Claim, Commit, Store, Work
from durable_agents.runtime.driver import Driver, Services
from durable_agents.runtime.live import LiveExecution
from durable_agents.runtime.resources import SharedResources
from durable_agents.runtime.workflow import definition_of

logger = logging.getLogger("durable_agents.worker")

HOLD_SECONDS = 10.0
"""How long an execution that cannot go on is left alone before someone tries again."""


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How a worker works; see `Backend.worker`."""

    lease: timedelta = timedelta(seconds=10)
    max_concurrent_executions: int = 100
    max_concurrent_activities: int = 100
    max_cached_executions: int = 1000
    task_queue: str = DEFAULT_TASK_QUEUE
    graceful_shutdown_timeout: timedelta = timedelta(seconds=30)
    identity: str | None = None

    def __post_init__(self) -> None:
        if self.lease <= timedelta(0):
            raise ConfigurationError("the worker's lease must be longer than nothing; 10 s is the default")
        for name in ("max_concurrent_executions", "max_concurrent_activities"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"the worker's {name} must be at least 1")
        if self.max_cached_executions < 0:
            raise ConfigurationError("the worker's max_cached_executions must not be negative")


class Worker:
    """Runs executions of some workflows while its `async with` block does.

    On leaving the block it stops: it begins nothing more, waits for running activities up to
    `graceful_shutdown_timeout`, records those that did not make it as interrupted, and releases everything
    it owns, so that another worker can go on at once (D15).
    """

    def __init__(
        self, store: Store, clock: Clock, workflows: Sequence[type[Any]], options: WorkerOptions
    ) -> None:
        self._definitions = _by_name([definition_of(workflow) for workflow in workflows])
        self._store = store
        self._clock = clock
        self._options = options
        self.identity = options.identity or f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        """The name under which this worker holds leases."""
        self._drivers: dict[str, Driver] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._claims: dict[str, Claim] = {}
        self._cache: OrderedDict[str, LiveExecution] = OrderedDict()
        self._resources = SharedResources()
        self._stopping = asyncio.Event()
        self._slot_freed = asyncio.Event()
        self._services = Services(
            store,
            clock,
            self._resources,
            asyncio.Semaphore(options.max_concurrent_activities),
            self._stopping,
        )
        self._loops: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self._resources.__aenter__()
        self._loops = [
            asyncio.create_task(self._claim_forever(), name="durable-agents claim"),
            asyncio.create_task(self._renew_forever(), name="durable-agents renew"),
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        claiming, renewing = self._loops
        self._stopping.set()
        claiming.cancel()
        await asyncio.wait([claiming])
        try:
            await self._finish_drivers()
        finally:
            renewing.cancel()
            await asyncio.wait([renewing])
            for live in self._cache.values():
                live.close()
            self._cache.clear()
            await self._resources.__aexit__(kind, error, trace)
        for loop in self._loops:
            if not loop.cancelled() and (failure := loop.exception()) is not None:
                raise failure

    async def run(self) -> None:
        """Return when the worker can no longer work: raises what stopped it. Cancel it to stop waiting."""
        done, _ = await asyncio.wait(self._loops, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def _finish_drivers(self) -> None:
        for driver in self._drivers.values():
            driver.notify_stop()
        if not self._tasks:
            return
        patience = asyncio.create_task(
            self._clock.sleep(self._options.graceful_shutdown_timeout.total_seconds())
        )
        left: set[asyncio.Task[None]] = set(self._tasks.values())
        while left and not patience.done():
            _, left = await asyncio.wait({patience, *left}, return_when=asyncio.FIRST_COMPLETED)
            left.discard(patience)
        patience.cancel()
        for driver in list(self._drivers.values()):
            driver.interrupt()
        if left:
            await asyncio.wait(left)

    # Claiming

    async def _claim_forever(self) -> None:
        """Claim what there is room for, then wait for news, for a free slot, or for a lease to run out."""
        patience = self._options.lease.total_seconds() / 4
        while True:
            self._slot_freed.clear()
            room = self._options.max_concurrent_executions - len(self._tasks)
            try:
                work = await self._store.claim(
                    self.identity,
                    frozenset(self._definitions),
                    self._options.task_queue,
                    limit=room,
                    lease_seconds=self._options.lease.total_seconds(),
                )
            except StorageError as error:
                if not error.retryable:
                    raise
                logger.warning("worker %s: %s; trying again", self.identity, error)
                await self._clock.sleep(min(1.0, patience))
                continue
            for claim in work.claims:
                self._begin(claim)
            for execution_id in work.mail:
                if (driver := self._drivers.get(execution_id)) is not None:
                    driver.notify_mail()
            if len(work.claims) == room:
                await self._slot_freed_or_news(work, patience)
            else:
                await self._news(work, self._until(work, patience))

    def _until(self, work: Work, patience: float) -> float:
        if work.next_wake_at is None:
            return patience
        return min(patience, max(0.0, work.next_wake_at - self._clock.now()))

    async def _news(self, work: Work, timeout: float) -> None:
        await self._store.wait(work.version, timeout)

    async def _slot_freed_or_news(self, work: Work, patience: float) -> None:
        waits = {
            asyncio.create_task(self._slot_freed.wait()),
            asyncio.create_task(self._news(work, patience)),
        }
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    def _begin(self, claim: Claim) -> None:
        self._claims[claim.execution_id] = claim
        task = asyncio.create_task(self._drive(claim), name=f"durable-agents drive {claim.execution_id}")
        self._tasks[claim.execution_id] = task

    # Driving

    async def _drive(self, claim: Claim) -> None:
        """Carry one claimed execution on; whatever happens, this worker's claim is given up afterwards."""
        execution_id = claim.execution_id
        live: LiveExecution | None = None
        keep = False
        try:
            live = await self._load(claim)
            driver = self._drivers[execution_id] = Driver(live, claim, self._services)
            keep = await driver.run()
        except LeaseLost as error:
            logger.warning("worker %s: %s", self.identity, error)
        except NonDeterminismError as error:
            logger.error("%s", error)
            await self._hold(claim, str(error))
        except Exception as error:
            logger.exception("worker %s cannot carry execution %s on", self.identity, execution_id)
            await self._hold(claim, f"{type(error).__name__}: {error}")
        finally:
            self._drivers.pop(execution_id, None)
            self._tasks.pop(execution_id, None)
            self._claims.pop(execution_id, None)
            self._slot_freed.set()
            if live is not None:
                self._park(execution_id, live) if keep else live.close()

    async def _load(self, claim: Claim) -> LiveExecution:
        """Return the execution caught up with its journal: from memory if it is, else replayed."""
        cached = self._cache.pop(claim.execution_id, None)
        if cached is not None:
            if cached.machine.position == claim.length and not claim.recovered:
                return cached
            cached.close()
        records = await self._store.read(claim.execution_id)
        return LiveExecution(
            self._definitions[claim.workflow],
            WorkflowInfo(claim.execution_id, claim.workflow, self._options.task_queue),
            [decode_record(record) for record in records],
            limit_bytes=self._store.limit_bytes,
        )

    def _park(self, execution_id: str, live: LiveExecution) -> None:
        self._cache[execution_id] = live
        while len(self._cache) > self._options.max_cached_executions:
            _, evicted = self._cache.popitem(last=False)
            evicted.close()

    async def _hold(self, claim: Claim, note: str) -> None:
        """Give an execution up that cannot go on here, and leave it alone for a while."""
        head = await self._head_of(claim)
        if head is None:
            return
        commit = Commit(release=True, wake_at=self._clock.now() + HOLD_SECONDS, note=note)
        with contextlib.suppress(LeaseLost):
            try:
                await self._store.append(claim, head, (), commit)
            except StorageError as error:
                logger.warning("execution %s keeps its lease for now: %s", claim.execution_id, error)

    async def _head_of(self, claim: Claim) -> int | None:
        try:
            head = await self._store.head(claim.execution_id)
        except StorageError as error:
            logger.warning("execution %s: %s", claim.execution_id, error)
            return None
        return None if head is None else head.length

    # Leases

    async def _renew_forever(self) -> None:
        seconds = self._options.lease.total_seconds()
        while True:
            await self._clock.sleep(seconds / 3)
            claims = list(self._claims.values())
            if not claims:
                continue
            try:
                lost = await self._store.renew(claims, seconds)
            except StorageError as error:
                if not error.retryable:
                    raise
                logger.warning("worker %s cannot renew its leases: %s", self.identity, error)
                continue
            for execution_id in lost:
                # Its next append would be refused anyway; this only spares the work until then.
                if execution_id in self._claims and self._claims[execution_id] in claims:
                    self._tasks[execution_id].cancel()


def _by_name(definitions: Sequence[WorkflowDefinition]) -> dict[str, WorkflowDefinition]:
    by_name: dict[str, WorkflowDefinition] = {}
    for definition in definitions:
        if by_name.setdefault(definition.name, definition) is not definition:
            raise DefinitionError(f"two workflows are called {definition.name!r}; rename one of them")
    return by_name
