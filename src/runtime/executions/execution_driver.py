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
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from outlast.core.errors import (
    MessagesUnseen,
    OutcomeUnknown,
    PayloadTooLarge,
)
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
from outlast.core.waiting import WaitingKind, overview_of, pause_in_words
from outlast.core.workflow_machine import Batch, MachinePhase, OpenStep
from outlast.ports.journal import PAUSED, Claim, Commit, Delivery, as_reason
from outlast.runtime.executions.child_messages import message_parent
from outlast.runtime.executions.children import Children
from outlast.runtime.executions.inbox_messages import (
    CancelMessage,
    ChildEndedMessage,
    PauseMessage,
    ResumeMessage,
    SignalMessage,
    UpdateMessage,
    decode_message,
)
from outlast.runtime.executions.journal_reading import decoded, read_journal
from outlast.runtime.executions.lease import Lease
from outlast.runtime.executions.live_execution import LiveExecution
from outlast.runtime.executions.lost_workers import kept, recovery
from outlast.runtime.executions.services import Services
from outlast.runtime.executions.step_attempts import EndedAttempt, StepAttempts
from outlast.runtime.executions.store_retry import append_once, patiently
from outlast.runtime.executions.suspects import CAME_THROUGH
from outlast.runtime.isolation.pace import Pace

T = TypeVar("T")

logger = logging.getLogger("outlast.worker")

INPUTS_AT_ONCE = 1000
"""The most inputs that one append writes, with the requests that they cause."""
MESSAGES_AT_ONCE = 256
"""The most messages that one call of the store reads."""
INPUTS_SECONDS = 0.5
"""The longest time for which inputs are collected before they are written."""

LINGER_SECONDS = 1.0
"""An execution with nothing to do but a wait shorter than this is kept, not released and claimed again."""


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
            f"{pause_in_words(self.reason)}; attempts that are under way go on to their end before that"
        )


class _Portion:
    """The most inputs that one append may hold."""

    def __init__(self) -> None:
        self._left = INPUTS_AT_ONCE
        self._over_at = time.monotonic() + INPUTS_SECONDS

    def take_room(self) -> bool:
        """Return whether the portion has room for another input, and count that input."""
        self._left -= 1
        return self._left >= 0 and time.monotonic() < self._over_at


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
        self.fruitless = claim.fruitless
        """The number of claims that were lost without progress, as the store counts them."""
        self.at_rest = asyncio.Event()
        """Set when the code has come to rest, and attempts at all steps that are due are under way."""
        self._live = live
        self._machine = live.machine
        self._services = services
        self._wake = asyncio.Event()
        self._attempts = StepAttempts(
            live,
            claim.execution_id,
            services,
            lease,
            may_begin=self._may_begin_steps,
            is_paused=lambda: self._pause is not None,
            begun=self._look_whether_at_rest,
            ended=self._wake.set,
        )
        self._children = Children(live, claim.execution_id, services, lease)
        self._has_mail = True
        self._mail: deque[Delivery] = deque()
        """Messages that were read and are still to be given to the code."""
        self._pause: _Pause | None = None
        """The request to pause that is to be obeyed as soon as no attempt is under way any more."""
        self._pace = Pace()
        self._recovery_due = claim.recovered
        self._acquitted = acquitted
        self._came_through = False
        self._waiting: str | None = None
        self._overview: str | None = None
        """The facts that this driver wrote last for those who look at the execution from outside."""
        live.consumed = max(live.consumed, claim.consumed)

    @property
    def in_doubt(self) -> bool:
        """True if an attempt may have had a side effect that the journal does not record."""
        return self._recovery_due or self._attempts.in_doubt

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
        self._attempts.interrupt()

    async def run(self) -> bool:
        """Carry the execution on; return True if it was released and can be kept, False if it has ended.

        Raises:
            LeaseLost: another worker owns it; drop it from memory.
            NonDeterminismError: the code departed from the journal; nothing of this activation was written.
            StorageError: the store failed for longer than it was worth waiting.
        """
        try:
            if (end := self._machine.end) is not None and self._machine.phase is MachinePhase.ENDED:
                await self._end(self._machine.take_batch(), end)
                return False
            if self.claim.recovered:
                self._machine.note(recovery(self.claim, self._now(), self._services.witness))
            if self._machine.is_held:
                self._machine.note(ExecutionResumed(at=self._now()))
            # Also when this claim is a regular one: the worker that recorded the recovery of the execution
            # may not have been able to carry it on.
            for record in self._live.taken_up(self._now()):
                await self._deliver(record)
            has_looked = False
            while True:
                await self._take_inputs()
                self._correct_back_offs()
                if self._pause is not None and self._may_release():
                    if await self._release_paused(self._pause):
                        return True
                    continue
                if self._may_release():
                    await self._append(self._machine.take_batch(), self._release_commit())
                    return True
                batch = self._machine.take_batch()
                end, pause = self._machine.end, self._pause
                if end is not None and await self._hold_at_failure(batch, end):
                    return False
                if end is not None:
                    await self._end(batch, end)
                    return False
                must_show = pause is not None and not pause.is_shown
                if batch.records or must_show or self._must_be_acquitted:
                    reason = None if pause is None else pause.show()
                    await self._append(batch, Commit(consumed=self._live.consumed, reason=reason))
                if self._may_begin_steps():
                    await self._children.begin()
                await self._begin_steps()
                if self._overview is None and not has_looked:  # It has written nothing, and it may take long.
                    has_looked = True
                    await self._take_back_reason()
                await self._wait()
        finally:
            await self._attempts.stop()

    async def _take_back_reason(self) -> None:
        """Take back why the last worker could not carry the execution on: this one can."""
        head = await self._patiently(functools.partial(self._services.store.head, self.claim.execution_id))
        if head is not None and head.reason is not None:
            await self._append(self._machine.take_batch(), Commit(consumed=self._live.consumed))

    # Inputs

    async def _take_inputs(self) -> None:
        """Give the code the inputs that have come, one after the other; many inputs take several appends."""
        portion = _Portion()
        self._pace = Pace()
        await self._look_for_end_of_pause()
        while self._pause is None and await self._read_mail() and portion.take_room():
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
            if self._pause is not None or not portion.take_room():
                break
            await self._deliver(TimerFired(at=now, key=key))
        if self._pause is None:
            await self._children.look()
        while self._children.news and portion.take_room():
            await self._deliver(self._children.news.popleft())
        while self._attempts.have_news and portion.take_room():
            if (ended := self._attempts.take()) is not None:
                await self._take(*ended)
        self._attempts.give_up(self._machine.steps)

    async def _read_mail(self) -> bool:
        """Read some messages, if none are left that the code has not got; return whether there are any."""
        if self._has_mail and not self._mail:
            self._has_mail = False
            page = await self._patiently(self._messages)
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

    async def _release_paused(self, pause: _Pause) -> bool:
        """Write down the pause, and give the claim up until somebody resumes the execution.

        Return False, with the claim kept, if a request to go on has come just before that.
        """
        self._machine.note(ExecutionPaused(at=self._now(), reason=pause.reason))
        self._live.consumed = pause.number
        batch = self._machine.take_batch()
        reason = as_reason(pause_in_words(pause.reason))
        while self._pause is not None:
            # Whoever sends a request to go on resumes what is held after that. So either we see the request,
            # or they see the hold, also if this worker is lost right after it.
            seen = pause.read_up_to
            commit = Commit(
                consumed=pause.number, release=True, hold=True, seen=seen, reason=reason, waiting=PAUSED
            )
            try:
                await self._append(batch, commit)
            except MessagesUnseen:
                self._has_mail = True
                await self._look_for_end_of_pause()
                if pause.read_up_to == seen:
                    raise  # The store counts a message that it does not show.
            else:
                return True
        await self._append(batch, Commit(consumed=pause.number))
        self._machine.note(ExecutionResumed(at=self._now()))
        return False

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
            case ChildEndedMessage(child=child):
                self._live.looks.hint(child)
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

    async def _take(self, key: str, ended: EndedAttempt) -> None:
        opened = self._machine.steps.get(key)
        if opened is None:
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
        is_held = self._live.back_offs.seconds_held
        for key, opened in self._machine.steps.items():
            if not self._may_begin_steps():
                return
            if self._pace.is_due():
                await self._pace.pause()
            if key in self._attempts or opened.retry_at > now or is_held(key, self._services.clock):
                continue
            self._attempts.begin(opened)

    def _may_begin_steps(self) -> bool:
        return not self._services.stopping.is_set() and self._pause is None

    # Writing

    async def _end(self, batch: Batch, end: ExecutionEnded) -> None:
        """Write down the end of the execution, end its children with it, and send word to its parent.

        Children end with it even if this worker is lost meanwhile: the execution has not ended for the store
        before they were ended, so the next worker that claims it finds the end in the journal, and goes on.
        """
        if self._children.are_left:
            if batch.records:
                await self._append(batch, Commit(consumed=self._live.consumed))
                batch = self._machine.take_batch()
            await self._children.leave()
        await self._append(batch, Commit(consumed=self._live.consumed, status=end.status))
        await message_parent(self._services.store, self.claim.execution_id, self._live.started)

    async def _hold_at_failure(self, batch: Batch, end: ExecutionEnded) -> bool:
        """Hold the execution, not end it, if its workflow wants that; return whether it is held."""
        if end.failure is None or self._live.definition.on_failure != "hold":
            return False
        store, clock, execution_id = self._services.store, self._services.clock, self.claim.execution_id
        written = await read_journal(store, clock, execution_id)
        journal = [record async for record in decoded(written)]
        reason = as_reason(f"it failed: {end.failure.in_words}")
        held = held_at_failure(execution_id, [*journal, *batch.records], self._now(), reason=reason)
        seen = await self._seen_without_cancellation()
        if held is None or seen is None:
            return False
        # Who resumes it soon does not meet attempts of this worker. Children end as they do before a retry.
        await self._attempts.stop()
        await self._children.leave()
        commit = Commit(
            consumed=self._live.consumed, release=True, hold=True, reason=reason, waiting=WaitingKind.HELD
        )
        while seen is not None:
            # Whoever cancels it resumes what is held after that: they see the hold, or we see the request.
            try:
                await self._append(
                    replace(batch, records=(*batch.records, *held)), replace(commit, seen=seen)
                )
            except MessagesUnseen as refusal:
                seen = await self._seen_without_cancellation()
                if seen == refusal.seen:
                    raise  # The store counts a message that it does not show.
            else:
                logger.error("execution %s is held: %s", execution_id, reason)
                return True
        return False

    async def _seen_without_cancellation(self) -> int | None:
        """Return the number of the last message; None if somebody wants the execution to be cancelled.

        The code may not have got such a request before it failed.
        """
        store, execution_id = self._services.store, self.claim.execution_id
        number = max(self.claim.consumed, self._live.void_mail)
        while page := await self._patiently(
            functools.partial(store.messages, execution_id, number, MESSAGES_AT_ONCE)
        ):
            number = page[-1].number
            if any(isinstance(decode_message(one.message.body), CancelMessage) for one in page):
                return None
        return max(number, self._live.consumed)  # Those that were consumed may be gone.

    async def _append(self, batch: Batch, commit: Commit) -> None:
        fruitless = self._fruitless_after(batch, commit)
        more = self._overview_changes(commit.waiting)
        if fruitless:
            more["fruitless"] = kept(fruitless)
        if changes := changes_in(batch.records):
            more["tags"] = changes
        if more:
            commit = replace(commit, **more)
        try:
            await append_once(
                self._services.store,
                self._services.clock,
                self.claim,
                batch.position,
                self._live.encoder.take(batch.records),
                commit,
            )
        except MessagesUnseen:
            self._waiting = self._overview = None  # They were not written.
            raise
        self._live.report(batch.records, self._now())
        self._recovery_due = False
        self._attempts.note_written()
        if fruitless < self.fruitless:
            self.fruitless = fruitless
            self._acquitted()

    def _overview_changes(self, waiting: str | None) -> dict[str, Any]:
        """Return the fields of a commit with the facts that a list shows, as far as they are new."""
        definition = self._live.definition
        overview = overview_of(self._machine, takes_messages=bool(definition.signals or definition.updates))
        written = overview.to_text()
        if waiting is None:
            waiting = next((str(one.kind) for one in overview.waiting_for), "")
        changes: dict[str, Any] = {}
        if waiting != self._waiting:
            changes["waiting"] = self._waiting = waiting
        if written != self._overview:
            changes["overview"] = self._overview = written
        return changes

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
        attempts = self._attempts
        has_mail = bool(self._mail or self._has_mail)
        has_news = attempts.have_news or bool(self._children.news)
        if self._machine.end is not None or attempts.are_open or has_news or has_mail:
            return False
        if not self._may_begin_steps():
            return True
        due = self._next_due()
        return due is None or due > self._now() + LINGER_SECONDS

    @property
    def _has_news(self) -> bool:
        """Return whether there is something to do at once."""
        has_mail = self._mail or self._has_mail
        return bool(self._attempts.have_news or self._children.news or has_mail or self._must_be_acquitted)

    def _release_commit(self) -> Commit:
        timer = min(self._machine.timers.values(), default=None)
        waits = [self._shortest_back_off(), self._children.seconds_left]
        wait = min((one for one in waits if one is not None), default=None)
        if wait is not None and (timer is None or self._now() + wait <= timer):
            return Commit(consumed=self._live.consumed, release=True, wake_in=wait)
        return Commit(consumed=self._live.consumed, release=True, wake_at=timer)

    def _shortest_back_off(self) -> float | None:
        """Return the time until the next step may begin; None if no step waits for that."""
        clock, back_offs = self._services.clock, self._live.back_offs
        waiting = ((key, opened) for key, opened in self._machine.steps.items() if key not in self._attempts)
        return min((back_offs.seconds_left(key, opened, clock) for key, opened in waiting), default=None)

    def _correct_back_offs(self) -> None:
        """Correct the date until which a step waits, if the wall clock was set back since it was written."""
        clock, back_offs = self._services.clock, self._live.back_offs
        for key, opened in self._machine.steps.items():
            failed = opened.last_failure
            if failed is None or key in self._attempts or not back_offs.is_too_long(key, opened, clock):
                continue
            now = self._now()
            retry_at = now + back_offs.seconds_left(key, opened, clock)
            self._machine.note(failed.model_copy(update={"at": now, "retry_at": retry_at}))

    def _next_due(self) -> float | None:
        """Return when the next timer is due or the next step may begin; None if there is neither."""
        now, held, clock = self._now(), self._live.back_offs.seconds_held, self._services.clock
        begin = (
            max(opened.retry_at, now + held(key, clock))
            for key, opened in self._machine.steps.items()
            if key not in self._attempts
        )
        look = self._children.seconds_left
        looks = [] if look is None else [now + look]
        return min([*self._machine.timers.values(), *begin, *looks], default=None)

    # Waiting

    async def _wait(self) -> None:
        """Return when an attempt has ended, there is mail, something is due, or the worker stops."""
        stopping = self._services.stopping.is_set()
        if self._has_news or (stopping and not self._attempts.are_open):
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
        if self._attempts.have_begun:
            self.at_rest.set()

    def _ring(self, alarm: asyncio.Task[None]) -> None:
        if not alarm.cancelled():  # otherwise nobody waits for it any more
            self._wake.set()

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        return await patiently(call, self._services.clock, doing=f"execution {self.claim.execution_id}")

    def _now(self) -> float:
        return self._services.clock.now()
