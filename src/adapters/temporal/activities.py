"""The Temporal activity that performs every step.

A user's activity has its arguments as payload, and any worker that defines it can run it. The other steps
(model calls, calls of tool sources) hold objects that no payload could carry: sessions, connections, secrets.
Their payload is empty and their activity id is the step's key; the objects are those of the workflow code
itself. Temporal prefers to give an activity to the worker that has just run the workflow and has the step in
memory. Another worker (after a crash, under load) replays the execution's history up to now, in its own
process and without side effects, and finds the step that the code asks for there. So nothing is ever sent
between workers, and the replay costs time only after something has gone wrong.

Temporal counts every attempt. Our numbers leave out attempts that a graceful stop interrupted, that began in
a worker which cannot know the step, or that were put off because a server wants to be left alone. The number
of these is the first value in each heartbeat, because Temporal hands the last heartbeat to the next attempt.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Self

from temporalio import activity
from temporalio.client import AsyncActivityCancelledError
from temporalio.common import RawValue
from temporalio.service import RPCError, RPCStatusCode

from outlast.adapters.temporal.child_messages import message_child
from outlast.adapters.temporal.failures import UNCOUNTED, application_error
from outlast.adapters.temporal.heartbeat import TemporalHeartbeat
from outlast.adapters.temporal.payloads import LIMIT_BYTES, check_payload
from outlast.adapters.temporal.requests import Past
from outlast.adapters.temporal.step_replay import Replays
from outlast.adapters.temporal.steps import Place, key_of
from outlast.adapters.temporal.workflows import Host
from outlast.core.errors import (
    ActivityInterrupted,
    ActivityTimedOut,
    DefinitionError,
    ModelOverloaded,
    OutcomeUnknown,
    StorageUnavailable,
)
from outlast.core.failure import Failure, failure_of
from outlast.core.json import JSON
from outlast.core.records import StepKind
from outlast.ports.definitions import ActivityDefinition
from outlast.ports.durability.steps import Attempt, HeldBack, MessageChild, RunActivity, Step
from outlast.ports.resources import Resources


class TemporalAttempts:
    """Performs attempts at steps, in one worker, while its `async with` block lasts."""

    def __init__(self, host: Host, replays: Replays) -> None:
        self._host = host
        self._replays = replays
        self._resources: Resources | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._resources = await self._stack.enter_async_context(self._host.toolkit.open_resources())
        self._stack.push_async_callback(self._replays.close)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def abandon(self) -> None:
        """Cancel all attempts under way; Temporal gets no useful result of them."""
        for task in self._tasks:
            task.cancel()

    @activity.defn(dynamic=True)
    async def perform(self, args: Sequence[RawValue]) -> JSON:
        """Make one attempt. Its error says whether Temporal must make another, and after what time."""
        info = activity.info()
        assert self._resources is not None
        place = Place(info.workflow_id or "", info.workflow_run_id or "", info.activity_id)
        pulse = TemporalHeartbeat.after(info.heartbeat_details)
        async with self._under_way(place, pulse):
            values = activity.payload_converter().from_payloads([arg.payload for arg in args])
            past = Past.read(values[1]) if len(values) > 1 else Past(key_of(info.activity_id), 0, 0)
            step = await self._step(place, info, values[:1], pulse)
            here = info.attempt - pulse.spared
            number = past.attempts + here
            # After a retry, an attempt that may have been cut short then is made once more in any case.
            if number > step.options.retry.max_attempts and here > 1:
                # The worker of the last attempt is lost.
                raise _final(ActivityInterrupted(step.name, number - 1), step, number - 1)
            try:
                if isinstance(step.call, MessageChild):
                    await message_child(activity.client(), step.call, f"{info.workflow_id}/{past.key}")
                    return None
                result = await self._host.toolkit.perform(
                    step.call,
                    _attempt(info, step, past, pulse, self._host.limit_bytes),
                    step.options,
                    self._resources,
                )
                check_payload(f"the result of {step.name!r}", result, self._host.limit_bytes)
                return result
            except asyncio.CancelledError:
                cancelled = activity.cancellation_details()
                if cancelled is not None and not cancelled.worker_shutdown:
                    raise
                stopped = ActivityInterrupted(step.name)
                if step.options.effect == "once":
                    raise _final(stopped, step, number) from None
                if pulse.spare():
                    pulse.beat()
                    raise application_error(
                        Failure.of(stopped), attempt=number, retry_after_seconds=0.0
                    ) from None
                error: BaseException = stopped
            except HeldBack as held:
                error = ModelOverloaded(429, str(held), held.seconds)
                if pulse.spare():
                    pulse.beat()
                    raise application_error(
                        Failure.of(error), attempt=UNCOUNTED, retry_after_seconds=held.seconds
                    ) from None
            except Exception as raised:
                error = raised
            if isinstance(error, ActivityTimedOut) and step.options.effect == "once":
                raise _final(error, step, number) from None
            failure = self._host.toolkit.failure_of(
                error, LIMIT_BYTES, final=step.options.retry.non_retryable
            )
            delay = step.options.retry.delay_after(number, failure)
            if delay is not None:
                pulse.beat()
        raise application_error(failure, attempt=number, retry_after_seconds=delay) from None

    async def _step(
        self, place: Place, info: activity.Info, values: Sequence[Any], pulse: TemporalHeartbeat
    ) -> Step:
        """Return the step.

        Raises:
            ApplicationError: this worker cannot know the step; another one, or a later attempt, may.
        """
        try:
            await self._check_late(info, pulse)
            step = self._host.steps.find(place)
            if values and values[0] is not None:
                definition = await self._definition(place, info.activity_type, step)
                if step is not None and _is_of(step, definition):
                    return step
                call = RunActivity(definition, values[0])
                key = key_of(place.activity_id)
                return Step(key, StepKind.ACTIVITY, definition.name, call, definition.options)
            step = step or await self._replays.find(place)
            if step is None:
                execution, wanted = place.execution_id, place.activity_id
                raise StorageUnavailable(f"the code of execution {execution!r} asks for no step {wanted!r}")
            return step
        except Exception as error:
            failure = failure_of(error, LIMIT_BYTES)
            is_spared = pulse.spare()
            pulse.beat()
            raise application_error(
                failure,
                attempt=UNCOUNTED if is_spared else info.attempt,
                retry_after_seconds=self._host.lease.total_seconds() if is_spared else None,
            ) from None

    async def _definition(self, place: Place, name: str, step: Step | None) -> ActivityDefinition:
        """Return the activity of that name; where several have it, the code knows which one it calls."""
        defined = self._host.toolkit.defined_activity
        try:
            return defined(name, _called(step))
        except DefinitionError:
            if step is not None:
                raise
            return defined(name, _called(await self._replays.find(place)))

    async def _check_late(self, info: activity.Info, pulse: TemporalHeartbeat) -> None:
        """Drop an attempt that begins late if Temporal has given it up in the meantime.

        Temporal hands tasks also to a worker whose process is stopped for a while, as long as its connection
        is open. By the time that worker goes on, another worker may have done the work.
        """
        late_by = datetime.now(UTC) - info.started_time
        if info.is_local or late_by < self._host.lease / 2:
            return
        handle = activity.client().get_async_activity_handle(task_token=info.task_token)
        try:
            await handle.heartbeat(pulse.spared, *pulse.details)
        except AsyncActivityCancelledError:
            return  # The attempt is cancelled like any other.
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            activity.raise_complete_async()

    @asynccontextmanager
    async def _under_way(self, place: Place, pulse: TemporalHeartbeat) -> AsyncIterator[None]:
        """Send heartbeats, often enough for Temporal to notice soon when this worker is lost."""
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        self._tasks.add(task)

        def given_up() -> None:
            loop.call_soon_threadsafe(pulse.give_up)

        beating = asyncio.create_task(pulse.go_on(self._host.lease.total_seconds() / 4))
        try:
            with self._host.steps.watched(place, given_up):
                yield
        finally:
            beating.cancel()
            self._tasks.discard(task)


def _called(step: Step | None) -> ActivityDefinition | None:
    return step.call.definition if step is not None and isinstance(step.call, RunActivity) else None


def _is_of(step: Step, definition: ActivityDefinition) -> bool:
    """Return whether the step calls exactly this activity; workflow code in a sandbox calls a copy.

    If it does, its arguments need not be read from the payload: they were read where the call was made.
    """
    return isinstance(step.call, RunActivity) and step.call.definition is definition


def _final(error: BaseException, step: Step, attempts: int) -> Exception:
    """Return the error that ends a step whose outcome cannot be known."""
    if step.options.effect == "once":
        error = OutcomeUnknown(step.name)
    return application_error(failure_of(error, LIMIT_BYTES), attempt=attempts)


def _attempt(
    info: activity.Info, step: Step, past: Past, pulse: TemporalHeartbeat, limit_bytes: int
) -> Attempt:
    def beat(details: tuple[JSON, ...]) -> None:
        check_payload("the details of a heartbeat", list(details), limit_bytes)
        pulse.details = details

    idempotency_key = f"{info.workflow_id}/{past.key}"
    return Attempt(
        execution_id=info.workflow_id or "",
        activity=info.activity_type,
        attempt=past.attempts + info.attempt,
        idempotency_key=idempotency_key,
        heartbeat=beat,
        heartbeat_details=pulse.details,
        trace=past.context(info.workflow_id or ""),
        publish=pulse.publish if step.publishes_text else None,
        earlier=past.earlier,
    )
