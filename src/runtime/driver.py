"""Driving one claimed execution: inputs in, one append, then the steps that it allows.

The order is what makes it safe. An input is given to the code in memory; what the code then asks for is
appended together with the input; only when the append has succeeded are the steps begun. An append that is
refused means that someone else owns the execution: everything in memory is dropped, nothing was begun.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass

from durable_agents.core.errors import (
    ActivityInterrupted,
    ActivityTimedOut,
    OutcomeUnknown,
    PayloadTooLarge,
    StorageError,
)
from durable_agents.core.failure import Failure
from durable_agents.core.json import JSON
from durable_agents.core.records import (
    AttemptFailed,
    CancelRequested,
    ExecutionRecovered,
    Input,
    SignalReceived,
    StepCompleted,
    StepFailed,
    TimerFired,
    encode_record,
)
from durable_agents.core.workflow_machine import Batch, OpenStep
from durable_agents.ports.clock import Clock
from durable_agents.ports.durability import Attempt, Step
from durable_agents.ports.journal import Claim, Commit, Store
from durable_agents.ports.resources import Resources
from durable_agents.runtime.attempts import Pulse, perform_in_time
from durable_agents.runtime.live import LiveExecution
from durable_agents.runtime.messages import CancelMessage, decode_message

logger = logging.getLogger("durable_agents.worker")

LINGER_SECONDS = 1.0
"""An execution with nothing to do but a wait shorter than this is kept, not released and claimed again."""


@dataclass(frozen=True, slots=True)
class Services:
    """What a worker lends to the drivers of its executions."""

    store: Store
    clock: Clock
    resources: Resources
    activity_slots: asyncio.Semaphore
    stopping: asyncio.Event
    """Set when no further step may begin."""


@dataclass(frozen=True, slots=True)
class _Ended:
    """How one attempt ended: with a result, or a failure."""

    key: str
    attempt: int
    result: JSON = None
    failure: Failure | None = None
    outcome_unknown: bool = False
    interrupted: bool = False
    heartbeat: JSON = None


class Driver:
    """Carries one claimed execution on until it ends, has nothing to do, or must be handed over."""

    def __init__(self, live: LiveExecution, claim: Claim, services: Services) -> None:
        self.claim = claim
        self._live = live
        self._machine = live.machine
        self._services = services
        self._running: dict[str, asyncio.Task[None]] = {}
        self._ended: deque[_Ended] = deque()
        self._wake = asyncio.Event()
        self._has_mail = True
        live.consumed = max(live.consumed, claim.consumed)

    def notify_mail(self) -> None:
        """Tell that the inbox holds something unread."""
        self._has_mail = True
        self._wake.set()

    def notify_stop(self) -> None:
        """Tell that the worker is stopping: begin nothing more, release as soon as nothing runs."""
        self._wake.set()

    def interrupt(self) -> None:
        """Cut short what still runs; each attempt is recorded as interrupted, then the claim is released."""
        for task in self._running.values():
            task.cancel()

    async def run(self) -> bool:
        """Carry the execution on. True: it was released and can be kept in memory; False: it has ended.

        Raises:
            LeaseLost: another worker owns it; drop it from memory.
            NonDeterminismError: the code departed from the journal; nothing of this activation was written.
            StorageError: the store failed for longer than it was worth waiting.
        """
        try:
            if self.claim.recovered:
                self._machine.note(ExecutionRecovered(at=self._now()))
                self._give_up_on_doubtful_steps()
            while True:
                await self._take_inputs()
                if self._may_release():
                    await self._append(self._machine.take_batch(), self._release_commit())
                    return True
                batch = self._machine.take_batch()
                closed = self._machine.closed
                if batch.records or closed is not None:
                    await self._append(
                        batch,
                        Commit(
                            consumed=self._live.consumed, status=None if closed is None else closed.status
                        ),
                    )
                if closed is not None:
                    return False
                self._begin_steps()
                await self._wait()
        finally:
            await self._stop_attempts()

    # Inputs

    async def _take_inputs(self) -> None:
        if self._has_mail:
            self._has_mail = False
            for delivery in await self._services.store.messages(self.claim.execution_id, self._live.consumed):
                self._live.deliver(self._input_of(delivery.message.id, delivery.message.body))
                self._live.consumed = delivery.number
        now = self._now()
        # Timers that are due fire in the order of their due times, whenever we happen to look.
        for key, _ in sorted(
            ((key, due) for key, due in self._machine.timers.items() if due <= now),
            key=lambda timer: (timer[1], timer[0]),
        ):
            self._live.deliver(TimerFired(at=now, key=key))
        while self._ended:
            self._take(self._ended.popleft())
        for key in [key for key in self._running if key not in self._machine.steps]:
            self._running.pop(key).cancel()  # the code no longer waits for it

    def _input_of(self, message_id: str, body: bytes) -> Input:
        message = decode_message(body)
        if isinstance(message, CancelMessage):
            return CancelRequested(at=self._now(), message_id=message_id)
        return SignalReceived(
            at=self._now(),
            message_id=message_id,
            name=message.name,
            arguments=message.arguments,
            named=message.named,
        )

    def _take(self, ended: _Ended) -> None:
        self._running.pop(ended.key, None)
        opened = self._machine.steps.get(ended.key)
        if opened is None:
            return
        if ended.failure is None:
            self._complete(opened, ended)
            return
        step = self._live.requested[ended.key]
        if ended.outcome_unknown:
            unknown = Failure.of(OutcomeUnknown(step.name))
            self._fail(ended.key, ended.attempt, unknown)
            return
        # Being interrupted by an orderly stop is nobody's failure: it does not use up the last attempt.
        delay = 0.0 if ended.interrupted else step.options.retry.delay_after(ended.attempt, ended.failure)
        if delay is None:
            self._fail(ended.key, ended.attempt, ended.failure)
            return
        now = self._now()
        self._machine.note(
            AttemptFailed(
                at=now,
                key=ended.key,
                attempt=ended.attempt,
                failure=ended.failure,
                retry_at=now + delay,
                heartbeat=ended.heartbeat,
            )
        )

    def _complete(self, opened: OpenStep, ended: _Ended) -> None:
        record = StepCompleted(at=self._now(), key=ended.key, result=ended.result)
        size, limit = len(encode_record(record)), self._services.store.limit_bytes
        if size > limit:
            # Running it again would give the same: the error goes to the code, once.
            failure = Failure.of(PayloadTooLarge(f"the result of {opened.scheduled.name!r}", size, limit))
            self._fail(ended.key, ended.attempt, failure)
            return
        self._live.deliver(record)

    def _fail(self, key: str, attempts: int, failure: Failure) -> None:
        self._live.deliver(StepFailed(at=self._now(), key=key, attempts=attempts, failure=failure))

    def _give_up_on_doubtful_steps(self) -> None:
        """End the steps that a lost worker may have run and that must not be run again."""
        for key, opened in list(self._machine.steps.items()):
            step = self._live.requested[key]
            if not opened.in_doubt:
                continue
            if step.options.effect == "once":
                self._fail(key, opened.attempt - 1, Failure.of(OutcomeUnknown(step.name)))
            elif opened.attempt > step.options.retry.max_attempts:
                self._fail(key, opened.attempt - 1, Failure.of(ActivityInterrupted(step.name)))

    # Steps

    def _begin_steps(self) -> None:
        if self._services.stopping.is_set():
            return
        now = self._now()
        for key, opened in self._machine.steps.items():
            if key not in self._running and opened.retry_at <= now:
                self._running[key] = asyncio.create_task(
                    self._attempt(self._live.requested[key], opened), name=f"{self.claim.execution_id}/{key}"
                )

    async def _attempt(self, step: Step, opened: OpenStep) -> None:
        """Make one attempt, and put how it ended where the driver finds it."""
        pulse = Pulse()
        last = opened.last_failure
        attempt = Attempt(
            execution_id=self.claim.execution_id,
            activity=step.name,
            attempt=opened.attempt,
            idempotency_key=f"{self.claim.execution_id}/{step.key}",
            heartbeat=pulse.beat,
            heartbeat_details=tuple(last.heartbeat) if last and isinstance(last.heartbeat, list) else (),
        )
        begun = False
        once = step.options.effect == "once"
        services = self._services
        try:
            async with services.activity_slots:
                if services.stopping.is_set():
                    return
                begun = True
                result = await perform_in_time(
                    step.call, attempt, step.options, services.resources, services.clock, pulse
                )
            ended = _Ended(step.key, opened.attempt, result=result)
        except asyncio.CancelledError:
            if not begun or step.key not in self._machine.steps:
                raise
            failure = Failure.of(ActivityInterrupted(step.name))
            ended = _Ended(step.key, opened.attempt, failure=failure, outcome_unknown=once, interrupted=True)
        except Exception as error:
            unknown = once and isinstance(error, ActivityTimedOut)
            ended = _Ended(
                step.key,
                opened.attempt,
                failure=Failure.of(error),
                outcome_unknown=unknown,
                heartbeat=list(pulse.details),
            )
        finally:
            self._wake.set()
        self._ended.append(ended)

    async def _stop_attempts(self) -> None:
        for task in self._running.values():
            task.cancel()
        if self._running:
            await asyncio.wait(self._running.values())
        self._running.clear()

    # Writing

    async def _append(self, batch: Batch, commit: Commit) -> None:
        store = self._services.store
        records = [encode_record(record) for record in batch.records]
        delay = 0.05
        while True:
            try:
                await store.append(self.claim, batch.position, records, commit)
                return
            except StorageError as error:
                if not error.retryable or delay > 5:
                    raise
                logger.warning("execution %s: %s; trying again", self.claim.execution_id, error)
            await self._services.clock.sleep(delay)
            delay *= 2
            if records and await self._is_written(batch.position + len(records)):
                return

    async def _is_written(self, length: int) -> bool:
        """Whether an append that raised has happened all the same: nobody else can have written."""
        head = await self._services.store.head(self.claim.execution_id)
        return head is not None and head.length >= length and head.owner == self.claim.worker

    def _may_release(self) -> bool:
        if self._machine.closed is not None or self._running or self._ended or self._has_mail:
            return False
        if self._services.stopping.is_set():
            return True
        due = self._next_due()
        return due is None or due > self._now() + LINGER_SECONDS

    def _release_commit(self) -> Commit:
        return Commit(consumed=self._live.consumed, release=True, wake_at=self._next_due())

    def _next_due(self) -> float | None:
        """When the next thing happens by itself: a timer, or a step that may begin."""
        dues = [*self._machine.timers.values(), *(s.retry_at for s in self._machine.steps.values())]
        return min(dues, default=None)

    # Waiting

    async def _wait(self) -> None:
        """Return when an attempt has ended, there is mail, something is due, or the worker stops."""
        dues = [
            *self._machine.timers.values(),
            *(s.retry_at for key, s in self._machine.steps.items() if key not in self._running),
        ]
        if self._services.stopping.is_set():
            dues = []
        due = min(dues, default=None)
        if not self._running and self._services.stopping.is_set():
            return
        if self._ended or self._has_mail:
            return
        sleeper = None
        if due is not None:
            sleeper = asyncio.create_task(self._services.clock.sleep(due - self._now()))
            sleeper.add_done_callback(lambda _: self._wake.set())
        try:
            await self._wake.wait()
        finally:
            self._wake.clear()
            if sleeper is not None:
                sleeper.cancel()

    def _now(self) -> float:
        return self._services.clock.now()
