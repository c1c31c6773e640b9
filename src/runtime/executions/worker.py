"""The worker claims executions, drives many at once, renews their leases, and stops without losing any."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Any, Self

from outlast.core.argument_checks import check_list, check_timedelta, check_whole_number
from outlast.core.errors import (
    BusyWorkflow,
    ConfigurationError,
    DefinitionError,
    LeaseLost,
    NonDeterminismError,
    StorageCorrupt,
    StorageError,
)
from outlast.core.failure import named_message_of
from outlast.core.waiting import WaitingKind
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
    check_id,
)
from outlast.ports.observers import WorkerLoad
from outlast.runtime.attempts.observing import observed_worker
from outlast.runtime.attempts.shared_resources import SharedResources
from outlast.runtime.definitions import determinism_guard
from outlast.runtime.definitions.known_workflows import definition_of
from outlast.runtime.executions.execution_driver import Driver
from outlast.runtime.executions.handing_back import HandingBack
from outlast.runtime.executions.journal_reading import read_journal
from outlast.runtime.executions.lease import Lease
from outlast.runtime.executions.live_execution import LiveExecution
from outlast.runtime.executions.loading import load
from outlast.runtime.executions.lost_workers import NOBODY, Witness, judged, kept
from outlast.runtime.executions.services import Services
from outlast.runtime.executions.suspects import FRUITLESS_MAX, Placing, Suspects
from outlast.runtime.isolation.at_work import MARKS, suspicion_of
from outlast.runtime.isolation.exits import contained
from outlast.runtime.isolation.tasks import isolated_attempts

logger = logging.getLogger("outlast.worker")

CLAIMS_AT_ONCE = 5
"""The most executions that a worker claims in one call of the store. More are left for the next worker that
looks, so that workers share a burst of executions instead of one taking all it has room for."""

RUNNING_SECONDS_MIN = 1.0
"""The time that code may always run without coming to rest, also where a lease is shorter than that."""

HOLDING_SHARE = 1 / 3
"""The share of a lease for which code may hold the event loop. Leases are renewed when a third has passed, so
they are still good afterwards."""
HOLDING_SECONDS_MIN = 0.5
"""The time that code may always hold the event loop, also where a lease is short and the machine busy."""

PAUSE_SECONDS = 0.02
"""The shortest wait between two looks at the store, when nothing happens there."""


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """The options of a worker; see `Backend.worker`."""

    lease: timedelta = timedelta(seconds=10)
    max_concurrent_executions: int = 100
    max_concurrent_activities: int = 100
    max_cached_executions: int = 1000
    task_queue: str = DEFAULT_TASK_QUEUE
    graceful_shutdown_timeout: timedelta = timedelta(seconds=30)
    identity: str | None = None
    holding_limit: timedelta | None = None

    @property
    def holding_seconds(self) -> float:
        """The time for which code of a user may hold the event loop before it is interrupted."""
        if self.holding_limit is not None:
            return self.holding_limit.total_seconds()
        return max(HOLDING_SECONDS_MIN, HOLDING_SHARE * self.lease.total_seconds())

    def __post_init__(self) -> None:
        for name in ("lease", "graceful_shutdown_timeout"):
            check_timedelta(f"the worker's {name}", getattr(self, name), ConfigurationError)
        if self.lease <= timedelta(0):
            raise ConfigurationError("the worker's lease must be longer than nothing; 10 s is the default")
        if self.holding_limit is not None and self.holding_limit <= timedelta(0):
            raise ConfigurationError(
                "the worker's holding_limit must be longer than nothing; a third of the lease is the default"
            )
        for name in ("max_concurrent_executions", "max_concurrent_activities"):
            check_whole_number(f"the worker's {name}", getattr(self, name), 1, ConfigurationError)
        cached = self.max_cached_executions
        check_whole_number("the worker's max_cached_executions", cached, 0, ConfigurationError)
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
    place: Placing
    driver: Driver | None = None

    @property
    def is_in_doubt(self) -> bool:
        """True if an attempt may have had a side effect that the journal does not record."""
        return self.claim.recovered if self.driver is None else self.driver.in_doubt

    @property
    def fruitless(self) -> int:
        """The number of claims that were lost without progress, as the store counts them."""
        return self.claim.fruitless if self.driver is None else self.driver.fruitless


class Worker:
    """Runs executions of some workflows while its `async with` block does.

    On leaving the block it stops: it begins nothing more, waits for running activities up to
    `graceful_shutdown_timeout`, records the others as interrupted, and releases everything it owns, so that
    another worker can go on at once (D15). If this stop is cancelled, the worker drops everything at once;
    its leases then run out by themselves.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        workflows: Sequence[type[Any]],
        options: WorkerOptions,
        deltas: Deltas | None = None,
        witness: Witness = NOBODY,
    ) -> None:
        check_list("the workflows of a worker", workflows)
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
        self._suspects = Suspects.of(options.lease.total_seconds())
        self._handing_back = HandingBack(store, clock, witness, options.lease.total_seconds())
        self._resources = SharedResources(clock)
        self._isolation = ExitStack()
        self._stopping = asyncio.Event()
        self._slot_freed = asyncio.Event()
        self._services = Services(
            store,
            clock,
            self._resources,
            asyncio.Semaphore(options.max_concurrent_activities),
            self._stopping,
            deltas,
            witness,
        )
        self._claims = 0
        self._loops: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self._resources.__aenter__()
        self._isolation.enter_context(isolated_attempts(self._options.holding_seconds))
        self._isolation.enter_context(observed_worker(self._workload))
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
        with self._isolation:
            await self._end(kind, error, trace)

    async def _end(self, *outcome: Any) -> None:
        claiming, renewing = self._loops
        self._stopping.set()
        try:
            # The claiming is not cancelled: a claim under way may succeed, and must then be released again.
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
            await self._resources.__aexit__(*outcome)
        for loop in self._loops:
            if not loop.cancelled() and (failure := loop.exception()) is not None:
                raise failure

    def _workload(self) -> WorkerLoad:
        options = self._options
        return WorkerLoad(
            self.identity, options.task_queue, len(self._activations), len(self._cache), self._claims
        )

    async def run(self) -> None:
        """Wait until the worker can no longer work, then raise the error that stopped it."""
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
        """Claim executions while there is room, then wait for news, a free slot or the end of a lease."""
        lease_seconds = self._options.lease.total_seconds()
        while not self._stopping.is_set():
            self._slot_freed.clear()
            room = max(0, self._options.max_concurrent_executions - len(self._activations))
            if self._suspects.on_trial is not None:
                room = 0
            limit = min(room, CLAIMS_AT_ONCE)
            try:
                if any(not activation.lease.is_good for activation in self._activations.values()):
                    # This process stood still. Its own claim must not take its executions away from itself,
                    # as if their worker were lost: attempts under way would then be repeated.
                    await self._renew(lease_seconds)
                asked_at = self._clock.steady()
                work = await self._store.claim(
                    self.identity,
                    frozenset(self._definitions),
                    self._options.task_queue,
                    limit=limit,
                    lease_seconds=lease_seconds,
                )
                claims = (judged(claim, self._services.witness) for claim in work.claims)
                self._claims += len(work.claims)
                for claim in sorted(claims, key=lambda claim: -claim.fruitless):
                    self._begin(claim, Lease(claim, self._store, self._clock, lease_seconds, asked_at))
                for execution_id in sorted(work.mail):
                    activation = self._activations.get(execution_id)
                    if activation is not None and activation.driver is not None:
                        activation.driver.notify_mail()
                if len(work.claims) == limit < room:
                    # There may be more, but other tasks of this process must come in between.
                    await asyncio.sleep(0)
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
            # Wait a moment in any case: the store's clock may be a little behind ours.
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
        """Wait for that time, or until the worker stops; return whether it is stopping."""
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
        execution_id = claim.execution_id
        previous = self._activations.get(execution_id)
        if previous is not None:
            self._acquit(execution_id)
        task = asyncio.create_task(self._drive(claim, previous), name=f"outlast drive {execution_id}")
        place = self._suspects.place(execution_id, claim.fruitless, self._clock.steady())
        self._activations[execution_id] = _Activation(claim, lease, task, place)

    def _acquit(self, execution_id: str) -> None:
        if self._suspects.acquitted(execution_id, self._clock.steady()):
            self._slot_freed.set()

    # Driving

    async def _drive(self, claim: Claim, previous: _Activation | None) -> None:
        """Carry one claimed execution on; afterwards this worker gives its claim up in every case."""
        execution_id = claim.execution_id
        activation = self._activations[execution_id]
        live: LiveExecution | None = None
        keep = False
        try:
            if previous is not None:
                # Our own lease had run out, and this worker itself claimed the execution again.
                previous.task.cancel()
                await asyncio.wait([previous.task])
            try:
                if not await self._may_begin(activation):
                    return
                with contained():
                    with self._under_suspicion(activation, activation.fruitless > 0):
                        live = await self._load(activation.claim)
                    keep = await self._carry_on(activation, live)
            except NonDeterminismError as error:
                logger.error("%s", error)
                await self._put_off(activation, str(error), waiting=WaitingKind.CODE)
            except BusyWorkflow as error:
                logger.error("%s", error)
                await self._give_up(activation, error)
            except Exception as error:
                if isinstance(error, LeaseLost):
                    raise
                logger.exception("worker %s cannot carry execution %s on", self.identity, execution_id)
                await self._give_up(activation, error)
        except LeaseLost as error:
            logger.warning("worker %s: %s", self.identity, error)
        finally:
            if self._activations.get(execution_id) is activation:
                del self._activations[execution_id]
                self._acquit(execution_id)
            self._slot_freed.set()
            if live is not None:
                self._park(execution_id, live) if keep else live.close()

    async def _load(self, claim: Claim) -> LiveExecution:
        """Return the execution at the end of its journal: the one in memory if it is there, else replayed."""
        cached = self._cache.pop(claim.execution_id, None)
        if cached is not None:
            if cached.machine.position == claim.length and not claim.recovered:
                return cached
            cached.close()
        records = await read_journal(self._store, self._clock, claim.execution_id)
        if not records and not claim.length:
            raise StorageCorrupt(
                f"the journal of execution {claim.execution_id} is gone, though its head is there: restore "
                "it from a copy"
            )
        if len(records) != claim.length:
            # Reading took longer than the lease: another owner has written since, and may be at work.
            raise LeaseLost(claim.execution_id)
        return await load(
            self._definitions[claim.workflow],
            WorkflowInfo(claim.execution_id, claim.workflow, self._options.task_queue),
            records,
            limit_bytes=self._store.limit_bytes,
            running_seconds_max=max(RUNNING_SECONDS_MIN, self._options.lease.total_seconds()),
        )

    def _park(self, execution_id: str, live: LiveExecution) -> None:
        self._cache[execution_id] = live
        while len(self._cache) > self._options.max_cached_executions:
            _, evicted = self._cache.popitem(last=False)
            evicted.close()

    async def _may_begin(self, activation: _Activation) -> bool:
        """Return whether this worker may carry the execution on now; if not, it has been handed back."""
        claim = activation.claim
        match activation.place:
            case Placing.HELD:
                await self._handing_back.hold_lost(claim)
                return False
            case Placing.GIVEN_BACK:
                await self._handing_back.give_back(claim, self._suspects.back_seconds(claim.fruitless))
                return False
            case Placing.TRIED:
                return await self._may_be_tried(activation)
            case Placing.CARRIED:
                if claim.recovered:
                    await self._handing_back.keep_count(claim)
                return True

    async def _may_be_tried(self, activation: _Activation) -> bool:
        """Wait until this worker has begun nothing else for a while; a loss until then does not count."""
        claim, handing_back = activation.claim, self._handing_back
        waiting = Commit(fruitless=kept(claim.fruitless, is_begun=False))
        length = await handing_back.record_recovery(claim, waiting)
        claim = activation.claim = replace(claim, length=length, recovered_from=None)
        logger.warning(
            "worker %s begins nothing but execution %s for a while: %d workers in a row ended while they "
            "carried it",
            self.identity,
            claim.execution_id,
            claim.fruitless,
        )
        if await self._stopped_within(self._suspects.settling_seconds(claim.fruitless, self._clock.steady())):
            await handing_back.give_back(claim, 0.0)
            return False
        await handing_back.keep_count(claim)
        self._suspects.trial_begins(self._clock.steady())
        return True

    async def _carry_on(self, activation: _Activation, live: LiveExecution) -> bool:
        """Carry the execution on, and return whether it can be kept in memory afterwards."""
        claim = activation.claim
        driver = activation.driver = Driver(
            live, claim, self._services, activation.lease, acquitted=partial(self._acquit, claim.execution_id)
        )
        if not self._suspects.suspects(claim.execution_id):
            return await driver.run()
        seconds = self._suspects.trial_seconds(live.machine.losses)
        watching = asyncio.create_task(self._watch(activation, driver, seconds), name="outlast watch")
        try:
            return await driver.run()
        finally:
            watching.cancel()

    async def _watch(self, activation: _Activation, driver: Driver, seconds: float) -> None:
        """Wait until a suspect is known not to end the process at once."""
        with self._under_suspicion(activation, activation.place is Placing.TRIED):
            await driver.at_rest.wait()
            await self._clock.sleep(seconds)
        if activation.place is Placing.TRIED:
            driver.come_through()
        else:
            self._acquit(activation.claim.execution_id)

    def _under_suspicion(self, activation: _Activation, is_suspicious: bool) -> AbstractContextManager[None]:
        """Mark a suspicious execution also where no code of its own runs; see `at_work`."""
        if not is_suspicious:
            return nullcontext()
        return MARKS.at_work(suspicion_of(activation.claim.execution_id))

    async def _put_off(
        self, activation: _Activation, reason: str, times: int = 0, *, waiting: WaitingKind | None = None
    ) -> None:
        """Leave the execution alone for a while; so many more claims of it were fruitless."""
        await self._handing_back.put_off(
            activation.claim,
            reason,
            in_doubt=activation.is_in_doubt,
            fruitless=activation.fruitless + times,
            waiting=waiting,
        )

    async def _give_up(self, activation: _Activation, error: Exception) -> None:
        """Let another worker try, or hold the execution after enough fruitless claims."""
        problem = named_message_of(error)
        if isinstance(error, StorageError) and not isinstance(error, StorageCorrupt):
            # The store or this worker is the cause, which passes without anybody resuming the execution.
            await self._put_off(activation, problem)
            return
        times = activation.fruitless + 1
        if times < FRUITLESS_MAX:
            await self._put_off(activation, problem, 1)
        else:
            await self._handing_back.hold_stuck(
                activation.claim,
                problem,
                in_doubt=activation.is_in_doubt,
                times=times,
                is_readable=not isinstance(error, StorageCorrupt),
            )

    # Leases

    async def _renew_forever(self) -> None:
        """Announce that this worker is alive, and renew its leases, three times in the time of a lease."""
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
            # Its next append would be refused anyway; stopping now only saves the work until then.
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
