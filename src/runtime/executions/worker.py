"""The worker: claims executions, drives many at once, renews their leases, stops without losing any."""

from __future__ import annotations

import asyncio
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

from outlast.core.errors import (
    ConfigurationError,
    DefinitionError,
    LeaseLost,
    NonDeterminismError,
    StorageError,
)
from outlast.core.failure import named_message_of
from outlast.core.records import ExecutionRecovered, decode_record, encode_record
from outlast.ports.clock import Clock
from outlast.ports.definitions import WorkflowDefinition
from outlast.ports.deltas import Deltas
from outlast.ports.durability.workflow_context import WorkflowInfo
from outlast.ports.journal import (
    DEFAULT_TASK_QUEUE,
    Claim,
    Commit,
    Store,
    Work,
    WorkerCard,
    as_note,
    check_id,
)
from outlast.runtime.attempts.shared_resources import SharedResources
from outlast.runtime.definitions import determinism_guard
from outlast.runtime.definitions.workflow import definition_of
from outlast.runtime.executions.execution_driver import Driver, Services
from outlast.runtime.executions.lease import Lease
from outlast.runtime.executions.live_execution import LiveExecution
from outlast.runtime.executions.store_retry import patiently
from outlast.runtime.isolation.exits import contained

logger = logging.getLogger("outlast.worker")

HOLD_SECONDS = 10.0
"""How long an execution that cannot go on is left alone before someone tries again."""

CLAIMS_AT_ONCE = 5
"""How many executions one look at the store claims at most: the next ones are for whoever looks next, so that
workers share a burst of executions instead of one taking all it has room for."""

PAUSE_SECONDS = 0.02
"""The shortest wait between two looks at the store, when nothing happens there."""


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
        for name, text in (("task_queue", self.task_queue), ("identity", self.identity)):
            try:
                check_id("any" if text is None else text)
            except ValueError as error:
                raise ConfigurationError(f"the worker's {name} cannot be {text!r}: {error}") from error


@dataclass(slots=True, eq=False)
class _Activation:
    """One claim of this worker, the task that drives it, and its driver once the execution is loaded."""

    claim: Claim
    lease: Lease
    task: asyncio.Task[None]
    driver: Driver | None = None


class Worker:
    """Runs executions of some workflows while its `async with` block does.

    On leaving the block it stops: it begins nothing more, waits for running activities up to
    `graceful_shutdown_timeout`, records those that did not make it as interrupted, and releases everything
    it owns, so that another worker can go on at once (D15). If that is cancelled, it drops everything at
    once; its leases then run out by themselves.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        workflows: Sequence[type[Any]],
        options: WorkerOptions,
        deltas: Deltas | None = None,
    ) -> None:
        self._definitions = _by_name([definition_of(workflow) for workflow in workflows])
        for definition in self._definitions.values():
            determinism_guard.watch(definition.cls.__module__)
        self._store = store
        self._clock = clock
        self._options = options
        self.identity = options.identity or f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        """The name under which this worker holds leases."""
        self._activations: dict[str, _Activation] = {}
        self._cache: OrderedDict[str, LiveExecution] = OrderedDict()
        self._held_until: dict[str, float] = {}
        """Executions that cannot go on here, and when to try them again."""
        self._resources = SharedResources()
        self._stopping = asyncio.Event()
        self._slot_freed = asyncio.Event()
        self._services = Services(
            store,
            clock,
            self._resources,
            asyncio.Semaphore(options.max_concurrent_activities),
            self._stopping,
            deltas,
        )
        self._loops: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self._resources.__aenter__()
        self._loops = [
            asyncio.create_task(self._claim_forever(), name="outlast claim"),
            asyncio.create_task(self._renew_forever(), name="outlast renew"),
        ]
        for loop in self._loops:
            loop.add_done_callback(self._report)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        claiming, renewing = self._loops
        self._stopping.set()
        try:
            # Not cancelled: a claim that is under way may succeed, and must then be released again.
            await asyncio.wait([claiming])
            await self._finish_activations()
            renewing.cancel()
            await asyncio.wait([renewing])
            await self._leave()
        finally:
            tasks = [claiming, renewing, *(activation.task for activation in self._activations.values())]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
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

    def _report(self, loop: asyncio.Task[None]) -> None:
        if not loop.cancelled() and (failure := loop.exception()) is not None:
            logger.error("worker %s can no longer work", self.identity, exc_info=failure)

    async def _finish_activations(self) -> None:
        for activation in self._activations.values():
            if activation.driver is not None:
                activation.driver.notify_stop()
        left = {activation.task for activation in self._activations.values()}
        patience = asyncio.create_task(
            self._clock.sleep(self._options.graceful_shutdown_timeout.total_seconds())
        )
        try:
            while left and not patience.done():
                _, left = await asyncio.wait({patience, *left}, return_when=asyncio.FIRST_COMPLETED)
                left.discard(patience)
        finally:
            patience.cancel()
        for activation in self._activations.values():
            if activation.driver is not None:
                activation.driver.interrupt()
        if left:
            await asyncio.wait(left)

    # Claiming

    async def _claim_forever(self) -> None:
        """Claim what there is room for, then wait for news, for a free slot, or for a lease to run out."""
        lease_seconds = self._options.lease.total_seconds()
        while not self._stopping.is_set():
            self._slot_freed.clear()
            room = max(0, self._options.max_concurrent_executions - len(self._activations))
            limit = min(room, CLAIMS_AT_ONCE)
            asked_at = self._clock.steady()
            try:
                work = await self._store.claim(
                    self.identity,
                    frozenset(self._definitions),
                    self._options.task_queue,
                    limit=limit,
                    lease_seconds=lease_seconds,
                )
                for claim in work.claims:
                    self._begin(claim, Lease(claim, self._store, self._clock, lease_seconds, asked_at))
                for execution_id in work.mail:
                    activation = self._activations.get(execution_id)
                    if activation is not None and activation.driver is not None:
                        activation.driver.notify_mail()
                if len(work.claims) == limit < room:
                    await asyncio.sleep(
                        0
                    )  # There may be more; others in this process are to have a look too.
                else:
                    await self._news(work, is_full=len(work.claims) == room)
            except StorageError as error:
                if not error.retryable:
                    raise
                logger.warning("worker %s: %s; trying again", self.identity, error)
                await self._stopped_within(min(1.0, lease_seconds / 4))

    async def _news(self, work: Work, *, is_full: bool) -> None:
        """Return when there may be something to claim, or mail, or the worker stops."""
        patience = self._options.lease.total_seconds() / 4
        if not is_full and work.next_wake_at is not None:
            # Never at once: the store's clock may be a little behind ours.
            patience = min(patience, max(work.next_wake_at - self._clock.now(), PAUSE_SECONDS))
        news = asyncio.create_task(self._store.wait(work.version, patience))
        waits: set[asyncio.Task[Any]] = {news, asyncio.create_task(self._stopping.wait())}
        if is_full:
            waits.add(asyncio.create_task(self._slot_freed.wait()))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        if not news.cancelled():
            news.result()

    async def _stopped_within(self, seconds: float) -> bool:
        """Wait so long, but not longer than the worker works; tell whether it is stopping."""
        waits = {
            asyncio.create_task(self._clock.sleep(seconds)),
            asyncio.create_task(self._stopping.wait()),
        }
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return self._stopping.is_set()

    def _begin(self, claim: Claim, lease: Lease) -> None:
        previous = self._activations.get(claim.execution_id)
        task = asyncio.create_task(self._drive(claim, previous), name=f"outlast drive {claim.execution_id}")
        self._activations[claim.execution_id] = _Activation(claim, lease, task)

    # Driving

    async def _drive(self, claim: Claim, previous: _Activation | None) -> None:
        """Carry one claimed execution on; whatever happens, this worker's claim is given up afterwards."""
        execution_id = claim.execution_id
        activation = self._activations[execution_id]
        live: LiveExecution | None = None
        keep = False
        try:
            if previous is not None:
                # Our own lease had run out, and it was we who claimed the execution again.
                previous.task.cancel()
                await asyncio.wait([previous.task])
            held_for = self._held_until.pop(execution_id, 0.0) - self._clock.steady()
            if held_for > 0:
                await self._stopped_within(held_for)
            with contained():
                live = await self._load(claim)
                activation.driver = Driver(live, claim, self._services, activation.lease)
                keep = await activation.driver.run()
        except LeaseLost as error:
            logger.warning("worker %s: %s", self.identity, error)
        except NonDeterminismError as error:
            logger.error("%s", error)
            await self._hold(activation, str(error))
        except Exception as error:
            logger.exception("worker %s cannot carry execution %s on", self.identity, execution_id)
            await self._hold(activation, named_message_of(error))
        finally:
            if self._activations.get(execution_id) is activation:
                del self._activations[execution_id]
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
        records = await patiently(
            lambda: self._store.read(claim.execution_id),
            self._clock,
            doing=f"execution {claim.execution_id}",
        )
        if len(records) != claim.length:
            # Reading took longer than the lease: another owner has written since, and may be at work.
            raise LeaseLost(claim.execution_id)
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

    async def _hold(self, activation: _Activation, note: str) -> None:
        """Give an execution up that cannot go on here, and leave it alone for a while.

        Attempts that were under way are cut short by now, and the journal does not say how they ended: then
        it is told that they are in doubt, since whoever claims a released execution would not think so.
        """
        claim, now, steady = activation.claim, self._clock.now(), self._clock.steady()
        self._held_until = {key: until for key, until in self._held_until.items() if until > steady}
        # Unread mail makes it claimable at once, whatever the commit says; then we sit it out.
        self._held_until[claim.execution_id] = steady + HOLD_SECONDS
        in_doubt = claim.recovered if activation.driver is None else activation.driver.in_doubt
        records = (encode_record(ExecutionRecovered(at=now)),) if in_doubt else ()
        commit = Commit(release=True, wake_at=now + HOLD_SECONDS, note=as_note(note))
        try:
            head = await self._store.head(claim.execution_id)
            if head is not None:
                await self._store.append(claim, head.length, records, commit)
        except LeaseLost:
            return
        except StorageError as error:
            logger.warning("execution %s keeps its lease for now: %s", claim.execution_id, error)

    # Leases

    async def _renew_forever(self) -> None:
        """Say that this worker is alive, and make its leases last, three times in the time of a lease."""
        seconds = self._options.lease.total_seconds()
        card = WorkerCard(
            self.identity, tuple(sorted(self._definitions)), self._options.task_queue, self._clock.now()
        )
        while True:
            try:
                await self._store.announce(card, seconds)
            except StorageError as error:
                if not error.retryable:
                    raise
                logger.warning("worker %s cannot say that it is alive: %s", self.identity, error)
            await self._clock.sleep(seconds / 3)
            try:
                await self._renew(seconds)
            except StorageError as error:
                if not error.retryable:
                    raise
                logger.warning("worker %s cannot renew its leases: %s", self.identity, error)

    async def _renew(self, seconds: float) -> None:
        activations = list(self._activations.values())
        if not activations:
            return
        asked_at = self._clock.steady()
        lost = await self._store.renew([activation.claim for activation in activations], seconds)
        for activation in activations:
            activation.lease.extend(asked_at)
            # Its next append would be refused anyway; this only spares the work until then.
            if activation.claim.execution_id in lost:
                activation.task.cancel()

    async def _leave(self) -> None:
        try:
            await self._store.leave(self.identity)
        except StorageError as error:
            logger.warning("worker %s is still listed until its lease runs out: %s", self.identity, error)


def _by_name(definitions: Sequence[WorkflowDefinition]) -> dict[str, WorkflowDefinition]:
    by_name: dict[str, WorkflowDefinition] = {}
    for definition in definitions:
        if by_name.setdefault(definition.name, definition) is not definition:
            raise DefinitionError(f"two workflows are called {definition.name!r}; rename one of them")
    return by_name
