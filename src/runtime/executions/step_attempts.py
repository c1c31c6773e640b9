"""The attempts at the steps of one claimed execution: begun, under way, ended, given up.

An attempt begins only while the lease is good, and only if the driver still lets it: a wait for a slot, a
back-off or a stopped process may have lasted longer than the lease, and then another worker may have begun
this attempt, or recorded that its outcome is unknown.
"""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace

from outlast.core.errors import ActivityBlocked, ActivityInterrupted, ActivityTimedOut
from outlast.core.event_stream import text_key
from outlast.core.failure import Failure
from outlast.core.json import JSON
from outlast.core.workflow_machine import OpenStep
from outlast.ports.durability.steps import Attempt, HeldBack, MessageChild, Step
from outlast.runtime.attempts.attempt import Heartbeat, NotBegun, perform_in_time
from outlast.runtime.attempts.observing import is_observed
from outlast.runtime.attempts.text_publisher import Publisher
from outlast.runtime.executions.child_messages import message_child
from outlast.runtime.executions.lease import Lease
from outlast.runtime.executions.live_execution import LiveExecution
from outlast.runtime.executions.services import Services
from outlast.runtime.isolation.tracebacks import failure_of


@dataclass(frozen=True, slots=True)
class EndedAttempt:
    """The end of an attempt that was begun: a result, or a failure."""

    result: JSON = None
    failure: Failure | None = None
    outcome_unknown: bool = False
    interrupted: bool = False
    heartbeat: JSON = None


_Attempting = asyncio.Task[EndedAttempt | None]
"""An attempt under way; None, and being cancelled, mean that it was never begun."""


class StepAttempts:
    """The attempts of one driver; at most one at each step."""

    def __init__(
        self,
        live: LiveExecution,
        execution_id: str,
        services: Services,
        lease: Lease,
        *,
        may_begin: Callable[[], bool],
        is_paused: Callable[[], bool],
        begun: Callable[[], object],
        ended: Callable[[], object],
    ) -> None:
        """Ask `may_begin` before each attempt; call `begun` when one has begun, and `ended` at its end.

        An attempt that has come so far is made though the worker stops meanwhile, unless it `is_paused`. Else
        workers that stop soon would never get anything done.
        """
        self._live = live
        self._execution_id = execution_id
        self._services = services
        self._lease = lease
        self._may_begin = may_begin
        self._is_paused = is_paused
        self._notify_begun = begun
        self._notify_ended = ended
        self._running: dict[str, _Attempting] = {}
        self._unwinding: set[_Attempting] = set()
        """Attempts that were cancelled because the code no longer waits for them."""
        self._ended: deque[tuple[str, _Attempting]] = deque()
        self._begun: set[str] = set()
        """The steps whose attempts may have had a side effect that the journal does not record."""

    def __contains__(self, key: str) -> bool:
        """Return whether there is an attempt at the step whose end was not taken."""
        return key in self._running

    @property
    def are_open(self) -> bool:
        """True if there is any attempt whose end was not taken."""
        return bool(self._running)

    @property
    def have_news(self) -> bool:
        """True if an attempt has ended that was not taken."""
        return bool(self._ended)

    @property
    def have_begun(self) -> bool:
        """True if none of them waits for a slot."""
        return self._running.keys() <= self._begun

    @property
    def in_doubt(self) -> bool:
        """True if an attempt may have had a side effect that the journal does not record."""
        return bool(self._begun)

    def begin(self, opened: OpenStep) -> None:
        """Begin the next attempt at a step, as soon as there is a slot for it."""
        key = opened.scheduled.key
        task = asyncio.create_task(
            self._attempt(self._live.requested[key], opened), name=f"{self._execution_id}/{key}"
        )
        self._running[key] = task
        task.add_done_callback(functools.partial(self._note_end, key))

    def take(self) -> tuple[str, EndedAttempt] | None:
        """Return the attempt that ended next, with its step's key; None if that needs no record."""
        key, task = self._ended.popleft()
        # An attempt that the code no longer waits for has already left the running attempts.
        if self._running.pop(key, None) is None or task.cancelled():
            return None
        ended = task.result()
        return None if ended is None else (key, ended)

    def give_up(self, wanted: Collection[str]) -> None:
        """Cancel the attempts at all steps but those that are wanted."""
        for key in [key for key in self._running if key not in wanted]:
            task = self._running.pop(key)
            task.cancel()
            self._unwinding.add(task)
            task.add_done_callback(self._unwinding.discard)

    def interrupt(self) -> None:
        """Cut short what still runs; each attempt ends as interrupted."""
        for task in self._running.values():
            task.cancel()

    def note_written(self) -> None:
        """Note that the journal records all attempts that were taken."""
        self._begun.intersection_update(self._running)

    async def stop(self) -> None:
        """Cancel all attempts, and return when none is under way."""
        tasks = {*self._running.values(), *self._unwinding}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._running.clear()

    def _note_end(self, key: str, task: _Attempting) -> None:
        self._ended.append((key, task))
        self._notify_ended()

    async def _attempt(self, step: Step, opened: OpenStep) -> EndedAttempt | None:
        """Make one attempt, and return how it ended; None if it must not begin, or not yet.

        Raises:
            LeaseLost: it was not begun, since another worker owns the execution now.
        """
        if (done := self._live.recalled(opened.scheduled)) is not None:
            return EndedAttempt(result=done.result)
        async with self._services.activity_slots:
            while True:
                await self._lease.confirm()
                if not self._may_begin():
                    return None
                self._begun.add(step.key)
                self._notify_begun()
                try:
                    return await self._perform(step, opened)
                except NotBegun:
                    self._begun.discard(step.key)
                except HeldBack as held:
                    self._begun.discard(step.key)
                    self._live.back_offs.hold(step.key, held.seconds, self._services.clock)
                    return None

    def _check_may_begin(self) -> None:
        """Raise `NotBegun` unless it may begin: the lease may have run out since it was confirmed."""
        if self._is_paused() or not self._lease.is_good:
            raise NotBegun

    async def _perform(self, step: Step, opened: OpenStep) -> EndedAttempt:
        services, limit_bytes = self._services, self._services.store.limit_bytes
        pulse = Heartbeat(limit_bytes)
        last = opened.last_failure
        attempt = Attempt(
            execution_id=self._execution_id,
            activity=step.name,
            attempt=opened.attempt,
            idempotency_key=f"{self._execution_id}/{opened.scheduled.idempotency_key}",
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
                if isinstance(step.call, MessageChild):
                    await message_child(services.store, attempt, step.call)
                    return EndedAttempt()
                result = await perform_in_time(
                    step.call,
                    attempt,
                    step.options,
                    services.resources,
                    services.clock,
                    pulse,
                    self._check_may_begin,
                )
        except (NotBegun, HeldBack):
            raise
        except asyncio.CancelledError:
            return EndedAttempt(
                failure=Failure.of(ActivityInterrupted(step.name)),
                outcome_unknown=once,
                interrupted=True,
                heartbeat=list(pulse.details),
            )
        except Exception as error:
            return EndedAttempt(
                failure=failure_of(error, limit_bytes, final=step.options.retry.non_retryable),
                outcome_unknown=once and isinstance(error, (ActivityBlocked, ActivityTimedOut)),
                heartbeat=list(pulse.details),
            )
        return EndedAttempt(result=result)

    def _publisher(self, step: Step, attempt: int) -> AbstractAsyncContextManager[Publisher | None]:
        services = self._services
        if services.deltas is None or not step.publishes_text:
            return nullcontext()
        key = text_key(step.key, self._live.reopened)
        return Publisher(services.deltas, services.clock, self._execution_id, key, attempt)
