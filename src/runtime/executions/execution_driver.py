"""Driving one claimed execution: inputs in, one append, then the steps that it allows.

The order makes it safe. The driver gives an input to the code in memory, and appends the input together with
what the code then asks for. It begins the steps only after the append has succeeded. If the append is
refused, another worker owns the execution: everything in memory is dropped, and nothing was begun.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace

from outlast.core.errors import (
    ActivityBlocked,
    ActivityInterrupted,
    ActivityTimedOut,
    OutcomeUnknown,
    PayloadTooLarge,
)
from outlast.core.event_stream import text_key
from outlast.core.failure import Failure
from outlast.core.json import JSON
from outlast.core.records import (
    AttemptFailed,
    CancelRequested,
    ExecutionEnded,
    ExecutionPaused,
    ExecutionRecovered,
    ExecutionResumed,
    Input,
    SignalReceived,
    StepCompleted,
    StepFailed,
    TimerFired,
    UpdateAccepted,
)
from outlast.core.reruns import held_at_failure
from outlast.core.tags import changes_in
from outlast.core.waiting import WaitingKind, overview_of
from outlast.core.workflow_machine import Batch, OpenStep
from outlast.ports.clock import Clock
from outlast.ports.deltas import Deltas
from outlast.ports.durability.steps import Attempt, Step
from outlast.ports.journal import PAUSED, Claim, Commit, Delivery, Store, as_reason
from outlast.ports.resources import Resources
from outlast.runtime.attempts.attempt import Heartbeat, NotBegun, perform_in_time
from outlast.runtime.attempts.observing import is_observed
from outlast.runtime.attempts.text_publisher import Publisher
from outlast.runtime.executions.inbox_messages import (
    CancelMessage,
    PauseMessage,
    ResumeMessage,
    SignalMessage,
    UpdateMessage,
    decode_message,
)
from outlast.runtime.executions.lease import Lease
from outlast.runtime.executions.live_execution import LiveExecution
from outlast.runtime.executions.loading import decoded, read_journal
from outlast.runtime.executions.lost_workers import NOBODY, Witness, recovery
from outlast.runtime.executions.store_retry import append_once, patiently
from outlast.runtime.executions.suspects import CAME_THROUGH
from outlast.runtime.isolation.pace import Pace
from outlast.runtime.isolation.tracebacks import failure_of

logger = logging.getLogger("outlast.worker")

INPUTS_AT_ONCE = 1000
"""The most inputs that one append writes, with the requests that they cause."""
MESSAGES_AT_ONCE = 256
"""The most messages that one call of the store reads."""
INPUTS_SECONDS = 0.5
"""The longest time for which inputs are collected before they are written."""

LINGER_SECONDS = 1.0
"""An execution with nothing to do but a wait shorter than this is kept, not released and claimed again."""


@dataclass(frozen=True, slots=True)
class Services:
    """The things that a worker lends to the drivers of its executions."""

    store: Store
    clock: Clock
    resources: Resources
    activity_slots: asyncio.Semaphore
    stopping: asyncio.Event
    """Set when no further step may begin."""
    deltas: Deltas | None = None
    witness: Witness = NOBODY


@dataclass(frozen=True, slots=True)
class _Ended:
    """The end of an attempt that was begun: a result, or a failure."""

    result: JSON = None
    failure: Failure | None = None
    outcome_unknown: bool = False
    interrupted: bool = False
    heartbeat: JSON = None


@dataclass(slots=True)
class _Pause:
    """A request to pause: the number of its message, and how far the messages after it were looked at."""

    number: int
    reason: str | None
    read_up_to: int
    is_shown: bool = False
    """True if `describe` says that the execution is about to be paused."""

    def show(self) -> str:
        """Return the reason why the execution does not go on, for as long as attempts are under way."""
        self.is_shown = True
        return as_reason(
            f"{in_words(self.reason)}; attempts that are under way go on to their end before that"
        )


def in_words(reason: str | None) -> str:
    """Return the text for a pause."""
    return "paused" if reason is None else f"paused: {reason}"


class _Portion:
    """The most inputs that one append may hold."""

    def __init__(self) -> None:
        self._left = INPUTS_AT_ONCE
        self._over_at = time.monotonic() + INPUTS_SECONDS

    def has_room(self) -> bool:
        """Return whether the portion has room for another input, and count that input."""
        self._left -= 1
        return self._left >= 0 and time.monotonic() < self._over_at


_Attempting = asyncio.Task[_Ended | None]
"""An attempt under way; None, and being cancelled, mean that it was never begun."""


class Driver:
    """Carries one claimed execution on until it ends, has nothing to do, or must be handed over."""

    def __init__(
        self,
        live: LiveExecution,
        claim: Claim,
        services: Services,
        lease: Lease,
        *,
        acquitted: Callable[[], None] = lambda: None,
    ) -> None:
        self.claim = claim
        self._lease = lease
        self.fruitless = claim.fruitless
        """The number of claims that were lost without progress, as the store counts them."""
        self.at_rest = asyncio.Event()
        """Set when the code has come to rest, and attempts at all steps that are due are under way."""
        self._live = live
        self._machine = live.machine
        self._services = services
        self._running: dict[str, _Attempting] = {}
        self._unwinding: set[_Attempting] = set()
        """Attempts that were cancelled because the code no longer waits for them."""
        self._ended: deque[tuple[str, _Attempting]] = deque()
        self._wake = asyncio.Event()
        self._has_mail = True
        self._mail: deque[Delivery] = deque()
        """Messages that were read and are still to be given to the code."""
        self._pause: _Pause | None = None
        """The request to pause that is to be obeyed as soon as no attempt is under way any more."""
        self._pace = Pace()
        self._recovery_due = claim.recovered
        self._acquitted = acquitted
        self._came_through = False
        self._begun: set[str] = set()
        self._waiting: str | None = None
        self._summary: str | None = None
        """The facts that this driver wrote last for those who look at the execution from outside."""
        live.consumed = max(live.consumed, claim.consumed)

    @property
    def in_doubt(self) -> bool:
        """True if an attempt may have had a side effect that the journal does not record."""
        return self._recovery_due or bool(self._begun)

    def notify_mail(self) -> None:
        """Note that the inbox holds unread messages."""
        self._has_mail = True
        self._wake.set()

    def notify_stop(self) -> None:
        """Note that the worker is stopping: begin nothing more, release as soon as nothing runs."""
        self._wake.set()

    def come_through(self) -> None:
        """Record that the process is still alive after this execution was tried alone."""
        self._came_through = True
        self._wake.set()

    def interrupt(self) -> None:
        """Cut short what still runs; each attempt is recorded as interrupted, then the claim is released."""
        for task in self._running.values():
            task.cancel()

    async def run(self) -> bool:
        """Carry the execution on; return True if it was released and can be kept, False if it has ended.

        Raises:
            LeaseLost: another worker owns it; drop it from memory.
            NonDeterminismError: the code departed from the journal; nothing of this activation was written.
            StorageError: the store failed for longer than it was worth waiting.
        """
        try:
            if self.claim.recovered:
                self._machine.note(recovery(self.claim, self._now(), self._services.witness))
            if self._machine.is_held:
                self._machine.note(ExecutionResumed(at=self._now()))
            # Also when this claim is a regular one: the worker that recorded the recovery of the execution
            # may not have been able to carry it on.
            for record in self._live.taken_up(self._now()):
                await self._deliver(record)
            while True:
                await self._take_inputs()
                self._correct_back_offs()
                if self._pause is not None and self._may_release():
                    await self._release_paused(self._pause)
                    return True
                if self._may_release():
                    await self._append(self._machine.take_batch(), self._release_commit())
                    return True
                batch = self._machine.take_batch()
                end, pause = self._machine.end, self._pause
                if end is not None and await self._hold_at_failure(batch, end):
                    return False
                must_show = pause is not None and not pause.is_shown
                if batch.records or end is not None or must_show or self._must_be_acquitted:
                    status = None if end is None else end.status
                    reason = None if pause is None else pause.show()
                    await self._append(
                        batch, Commit(consumed=self._live.consumed, status=status, reason=reason)
                    )
                if end is not None:
                    return False
                await self._begin_steps()
                await self._wait()
        finally:
            await self._stop_attempts()

    # Inputs

    async def _take_inputs(self) -> None:
        """Give the code the inputs that have come, one after the other; many inputs take several appends."""
        portion = _Portion()
        self._pace = Pace()
        await self._look_for_end_of_pause()
        while self._pause is None and await self._read_mail() and portion.has_room():
            delivery = self._mail.popleft()
            await self._receive(delivery)
            if self._pause is None:
                self._live.consumed = max(self._live.consumed, delivery.number)
        now = self._now()
        # Timers that are due fire in the order of their due times, whenever this code runs.
        for key, _ in sorted(
            ((key, due) for key, due in self._machine.timers.items() if due <= now),
            key=lambda timer: (timer[1], timer[0]),
        ):
            if self._pause is not None or not portion.has_room():
                break
            await self._deliver(TimerFired(at=now, key=key))
        while self._ended and portion.has_room():
            key, task = self._ended.popleft()
            # An attempt that the code no longer waits for has already left the running attempts.
            if self._running.pop(key, None) is not None and not task.cancelled():
                await self._take(key, task.result())
        for key in [key for key in self._running if key not in self._machine.steps]:
            self._unwind(self._running.pop(key))

    async def _read_mail(self) -> bool:
        """Read some messages, if none are left that the code has not got; return whether there are any."""
        if self._has_mail and not self._mail:
            self._has_mail = False
            page = await patiently(
                self._messages, self._services.clock, doing=f"execution {self.claim.execution_id}"
            )
            self._mail.extend(page)
            if len(page) == MESSAGES_AT_ONCE:
                self._has_mail = True
        return bool(self._mail)

    async def _messages(self) -> Sequence[Delivery]:
        read_up_to = self._live.consumed if self._pause is None else self._pause.read_up_to
        return await self._services.store.messages(self.claim.execution_id, read_up_to, MESSAGES_AT_ONCE)

    async def _look_for_end_of_pause(self) -> None:
        """Read on after a request to pause: one to go on, or to end, takes it back. Nothing is consumed."""
        while self._pause is not None and await self._read_mail():
            delivery = self._mail.popleft()
            self._pause.read_up_to = delivery.number
            if isinstance(decode_message(delivery.message.body), (CancelMessage, ResumeMessage)):
                self._live.consumed = self._pause.number
                self._pause = None
                self._mail.clear()
                self._has_mail = True

    async def _release_paused(self, pause: _Pause) -> None:
        """Write down the pause, and give the claim up until somebody resumes the execution."""
        self._machine.note(ExecutionPaused(at=self._now(), reason=pause.reason))
        self._live.consumed = pause.number
        commit = Commit(
            consumed=pause.number,
            release=True,
            hold=True,
            reason=as_reason(in_words(pause.reason)),
            waiting=PAUSED,
        )
        await self._append(self._machine.take_batch(), commit)
        # Who sends a request to go on looks for a pause after that, so one of us two sees the other.
        self._has_mail = True
        await self._look_for_end_of_pause()
        if self._pause is None:
            await patiently(
                functools.partial(self._services.store.resume, self.claim.execution_id),
                self._services.clock,
                doing=f"execution {self.claim.execution_id}",
            )

    async def _deliver(self, record: Input) -> None:
        """Give the code an input, and let it run until it is at rest; other executions run meanwhile."""
        self._live.deliver(record)
        await self._come_to_rest()

    async def _come_to_rest(self) -> None:
        while not self._live.at_rest:
            await self._pace.pause()
            self._live.go_on()
        if self._pace.is_due():
            await self._pace.pause()

    async def _receive(self, delivery: Delivery) -> None:
        now, message, content = self._now(), delivery.message, decode_message(delivery.message.body)
        if delivery.number <= self._live.void_mail and not isinstance(content, SignalMessage):
            return
        match content:
            case PauseMessage(reason=reason):
                self._pause = _Pause(delivery.number, reason, read_up_to=delivery.number)
                self._mail.clear()
                self._has_mail = True
                await self._look_for_end_of_pause()
            case ResumeMessage():
                pass  # It ended the pause before it, if there was one.
            case CancelMessage():
                await self._deliver(CancelRequested(at=now, message_id=message.id))
            case SignalMessage(name=name, arguments=arguments, named=named):
                await self._deliver(
                    SignalReceived(at=now, message_id=message.id, name=name, arguments=arguments, named=named)
                )
            case UpdateMessage(id=update_id, name=name, arguments=arguments, named=named):
                accepted = UpdateAccepted(
                    at=now, update_id=update_id, name=name, arguments=arguments, named=named
                )
                self._live.deliver_update(accepted)
                await self._come_to_rest()

    async def _take(self, key: str, ended: _Ended | None) -> None:
        opened = self._machine.steps.get(key)
        if ended is None or opened is None:
            return
        if ended.failure is None:
            await self._complete(opened, ended.result)
            return
        step = self._live.requested[key]
        if ended.outcome_unknown:
            await self._fail(key, opened.attempt, Failure.of(OutcomeUnknown(step.name)))
            return
        # An attempt that a graceful stop interrupts did not fail: it does not use up the last attempt.
        delay = 0.0 if ended.interrupted else step.options.retry.delay_after(opened.counted, ended.failure)
        if delay is None:
            await self._fail(key, opened.attempt, ended.failure)
            return
        now = self._now()
        self._machine.note(
            AttemptFailed(
                at=now,
                key=key,
                attempt=opened.attempt,
                failure=ended.failure,
                retry_at=now + delay,
                heartbeat=ended.heartbeat,
            )
        )

    async def _complete(self, opened: OpenStep, result: JSON) -> None:
        record = StepCompleted(at=self._now(), key=opened.scheduled.key, result=result)
        size, limit = self._live.encoder.size(record), self._services.store.limit_bytes
        if size > limit:
            # Another attempt would give the same error, so the code gets it at once.
            failure = Failure.of(PayloadTooLarge(f"the result of {opened.scheduled.name!r}", size, limit))
            await self._fail(record.key, opened.attempt, failure)
            return
        await self._deliver(record)

    async def _fail(self, key: str, attempts: int, failure: Failure) -> None:
        await self._deliver(StepFailed(at=self._now(), key=key, attempts=attempts, failure=failure))

    # Steps

    async def _begin_steps(self) -> None:
        now = self._now()
        self._pace = Pace()
        for key, opened in self._machine.steps.items():
            if self._services.stopping.is_set() or self._pause is not None:
                return
            if self._pace.is_due():
                await self._pace.pause()
            if key not in self._running and opened.retry_at <= now:
                task = asyncio.create_task(
                    self._attempt(self._live.requested[key], opened), name=f"{self.claim.execution_id}/{key}"
                )
                self._running[key] = task
                task.add_done_callback(functools.partial(self._attempt_ended, key))

    def _attempt_ended(self, key: str, task: _Attempting) -> None:
        self._ended.append((key, task))
        self._wake.set()

    async def _attempt(self, step: Step, opened: OpenStep) -> _Ended | None:
        """Make one attempt, and return how it ended; None if the worker stopped before it was begun.

        Raises:
            LeaseLost: it was not begun, since another worker owns the execution now.
        """
        services = self._services
        if (done := self._live.recalled(opened.scheduled)) is not None:
            return _Ended(result=done.result)
        async with services.activity_slots:
            while True:
                # The wait for a slot, a back-off or a stopped process may have lasted longer than the lease.
                # Then another worker may have begun this attempt, or recorded that its outcome is unknown.
                await self._lease.confirm()
                if services.stopping.is_set() or self._pause is not None:
                    return None
                self._begun.add(step.key)
                self._look_whether_at_rest()
                try:
                    return await self._perform(step, opened)
                except NotBegun:
                    self._begun.discard(step.key)

    def _begin(self) -> None:
        """Let an attempt begin only while the lease is good: it may have run out since it was confirmed."""
        if self._pause is not None or not self._lease.is_good:
            raise NotBegun

    async def _perform(self, step: Step, opened: OpenStep) -> _Ended:
        services, limit_bytes = self._services, self._services.store.limit_bytes
        pulse = Heartbeat(limit_bytes)
        last = opened.last_failure
        attempt = Attempt(
            execution_id=self.claim.execution_id,
            activity=step.name,
            attempt=opened.attempt,
            idempotency_key=f"{self.claim.execution_id}/{opened.scheduled.idempotency_key}",
            heartbeat=pulse.beat,
            heartbeat_details=tuple(last.heartbeat) if last and isinstance(last.heartbeat, list) else (),
            earlier=opened.earlier,
            trace=self._live.attempt_context(opened) if is_observed() else None,
        )
        once = step.options.effect == "once"
        try:
            async with self._publisher(step, opened.attempt) as publisher:
                if publisher is not None:
                    attempt = replace(attempt, publish=publisher.publish)
                result = await perform_in_time(
                    step.call,
                    attempt,
                    step.options,
                    services.resources,
                    services.clock,
                    pulse,
                    self._begin,
                )
        except NotBegun:
            raise
        except asyncio.CancelledError:
            return _Ended(
                failure=Failure.of(ActivityInterrupted(step.name)),
                outcome_unknown=once,
                interrupted=True,
                heartbeat=list(pulse.details),
            )
        except Exception as error:
            return _Ended(
                failure=failure_of(error, limit_bytes, final=step.options.retry.non_retryable),
                outcome_unknown=once and isinstance(error, (ActivityBlocked, ActivityTimedOut)),
                heartbeat=list(pulse.details),
            )
        return _Ended(result=result)

    def _publisher(self, step: Step, attempt: int) -> AbstractAsyncContextManager[Publisher | None]:
        services = self._services
        if services.deltas is None or not step.publishes_text:
            return nullcontext()
        key = text_key(step.key, self._live.reopened)
        return Publisher(services.deltas, services.clock, self.claim.execution_id, key, attempt)

    def _unwind(self, task: _Attempting) -> None:
        task.cancel()
        self._unwinding.add(task)
        task.add_done_callback(self._unwinding.discard)

    async def _stop_attempts(self) -> None:
        tasks = {*self._running.values(), *self._unwinding}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._running.clear()

    # Writing

    async def _hold_at_failure(self, batch: Batch, end: ExecutionEnded) -> bool:
        """Hold the execution, not end it, if its workflow wants that; return whether it is held."""
        if end.failure is None or self._live.definition.on_failure != "hold":
            return False
        store, clock, execution_id = self._services.store, self._services.clock, self.claim.execution_id
        written = await read_journal(store, clock, execution_id)
        journal = [record async for record in decoded(written)]
        reason = as_reason(f"it failed: {end.failure.kind}: {end.failure.message}")
        held = held_at_failure(execution_id, [*journal, *batch.records], self._now(), reason=reason)
        if held is None or await self._is_cancelled():
            return False
        # Who resumes it soon does not meet attempts of this worker.
        await self._stop_attempts()
        logger.error("execution %s is held: %s", execution_id, reason)
        await self._append(
            replace(batch, records=(*batch.records, *held)),
            Commit(
                consumed=self._live.consumed, release=True, hold=True, reason=reason, waiting=WaitingKind.HELD
            ),
        )
        if await self._is_cancelled():  # Who cancelled it did not see the hold.
            await patiently(
                functools.partial(store.resume, execution_id), clock, doing=f"execution {execution_id}"
            )
        return True

    async def _is_cancelled(self) -> bool:
        """Return whether a request to cancel has come that the code may not have got before it failed."""
        store, execution_id = self._services.store, self.claim.execution_id
        number = max(self.claim.consumed, self._live.void_mail)
        while page := await patiently(
            functools.partial(store.messages, execution_id, number, MESSAGES_AT_ONCE),
            self._services.clock,
            doing=f"execution {execution_id}",
        ):
            number = page[-1].number
            if any(isinstance(decode_message(one.message.body), CancelMessage) for one in page):
                return True
        return False

    async def _append(self, batch: Batch, commit: Commit) -> None:
        fruitless = self._fruitless_after(batch, commit)
        if fruitless != commit.fruitless:
            commit = replace(commit, fruitless=fruitless)
        if changes := changes_in(batch.records):
            commit = replace(commit, tags=changes)
        commit = self._with_overview(commit)
        await append_once(
            self._services.store,
            self._services.clock,
            self.claim,
            batch.position,
            self._live.encoder.take(batch.records),
            commit,
        )
        self._live.report(batch.records)
        self._recovery_due = False
        self._begun.intersection_update(self._running)
        if fruitless < self.fruitless:
            self.fruitless = fruitless
            self._acquitted()

    def _with_overview(self, commit: Commit) -> Commit:
        """Return the commit with the facts that a list shows, as far as they are new."""
        definition = self._live.definition
        overview = overview_of(self._machine, takes_messages=bool(definition.signals or definition.updates))
        waiting, summary = commit.waiting, overview.to_text()
        if waiting is None:
            waiting = next((str(one.kind) for one in overview.waiting_for), "")
        new_waiting = None if waiting == self._waiting else waiting
        new_summary = None if summary == self._summary else summary
        self._waiting, self._summary = waiting, summary
        if new_waiting is new_summary is None:
            return commit
        return replace(commit, waiting=new_waiting, summary=new_summary)

    def _fruitless_after(self, batch: Batch, commit: Commit) -> int:
        """Return the number of fruitless claims after an append; it stays if the append is not progress.

        An append that only records what became of the workers is not progress; any other append is. But while
        a step waits for an attempt that gets further than the lost ones, those still count: see `suspects`.
        """
        happened = not all(isinstance(one, (ExecutionRecovered, ExecutionResumed)) for one in batch.records)
        came_to_rest = commit.release and not self._services.stopping.is_set()
        if not (happened or came_to_rest or self._must_be_acquitted):
            return self.fruitless
        return min(self.fruitless, self._machine.losses, CAME_THROUGH if self._came_through else sys.maxsize)

    @property
    def _must_be_acquitted(self) -> bool:
        return self._came_through and self.fruitless > CAME_THROUGH

    def _may_release(self) -> bool:
        if self._machine.end is not None or self._running or self._ended or self._mail or self._has_mail:
            return False
        if self._services.stopping.is_set() or self._pause is not None:
            return True
        due = self._next_due()
        return due is None or due > self._now() + LINGER_SECONDS

    @property
    def _has_news(self) -> bool:
        """Return whether there is something to do at once."""
        return bool(self._ended or self._mail or self._has_mail or self._must_be_acquitted)

    def _release_commit(self) -> Commit:
        timer, wait = min(self._machine.timers.values(), default=None), self._shortest_back_off()
        if wait is not None and (timer is None or self._now() + wait <= timer):
            return Commit(consumed=self._live.consumed, release=True, wake_in=wait)
        return Commit(consumed=self._live.consumed, release=True, wake_at=timer)

    def _shortest_back_off(self) -> float | None:
        """Return the time until the next step may begin; None if no step waits for that."""
        clock, back_offs = self._services.clock, self._live.back_offs
        waiting = ((key, opened) for key, opened in self._machine.steps.items() if key not in self._running)
        return min((back_offs.seconds_left(key, opened, clock) for key, opened in waiting), default=None)

    def _correct_back_offs(self) -> None:
        """Correct the date until which a step waits, if the wall clock was set back since it was written."""
        clock, back_offs = self._services.clock, self._live.back_offs
        for key, opened in self._machine.steps.items():
            failed = opened.last_failure
            if failed is None or key in self._running or not back_offs.is_too_long(key, opened, clock):
                continue
            now = self._now()
            retry_at = now + back_offs.seconds_left(key, opened, clock)
            self._machine.note(failed.model_copy(update={"at": now, "retry_at": retry_at}))

    def _next_due(self) -> float | None:
        """Return when the next timer is due or the next step may begin; None if there is neither."""
        begin = (opened.retry_at for key, opened in self._machine.steps.items() if key not in self._running)
        return min([*self._machine.timers.values(), *begin], default=None)

    # Waiting

    async def _wait(self) -> None:
        """Return when an attempt has ended, there is mail, something is due, or the worker stops."""
        stopping = self._services.stopping.is_set()
        if self._has_news or (stopping and not self._running):
            return
        self._look_whether_at_rest()
        due = None if stopping or self._pause is not None else self._next_due()
        alarm = None if due is None else asyncio.create_task(self._services.clock.sleep(due - self._now()))
        if alarm is not None:
            alarm.add_done_callback(self._ring)
        try:
            await self._wake.wait()
        finally:
            self._wake.clear()
            if alarm is not None:
                alarm.cancel()

    def _look_whether_at_rest(self) -> None:
        if self._running.keys() <= self._begun:
            self.at_rest.set()

    def _ring(self, alarm: asyncio.Task[None]) -> None:
        if not alarm.cancelled():  # otherwise nobody waits for it any more
            self._wake.set()

    def _now(self) -> float:
        return self._services.clock.now()
