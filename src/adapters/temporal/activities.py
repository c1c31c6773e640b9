"""The one Temporal activity that every step is.

A user's activity has its arguments as payload, and any worker that defines it can run it. The other steps
(model calls, calls of tool sources) hold objects that no payload could carry: sessions, connections, secrets.
Their payload is empty and their activity id is the step's key; the objects are those of the workflow code
itself. Temporal prefers to give an activity to the worker that has just run the workflow, where the step lies
at hand. Another worker (after a crash, under load) replays the execution's history up to now, in its own
process and without any effect, and finds the step that the code asks for there. So nothing is ever sent
between workers, and it costs nothing where nothing has gone wrong.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import copy_context
from dataclasses import dataclass, replace
from typing import Any

from temporalio import activity
from temporalio.client import Client, WorkflowHistory
from temporalio.common import RawValue
from temporalio.worker import Replayer

from durable_agents.adapters.temporal.failures import application_error
from durable_agents.adapters.temporal.payloads import LIMIT_BYTES, check_size, data_converter
from durable_agents.adapters.temporal.steps import OpenSteps
from durable_agents.adapters.temporal.workflows import DurableWorkflow, GuardedRunner, Host
from durable_agents.core.errors import (
    ActivityInterrupted,
    ActivityTimedOut,
    OutcomeUnknown,
    StorageUnavailable,
)
from durable_agents.core.failure import Failure, failure_of
from durable_agents.core.json import JSON
from durable_agents.core.records import StepKind
from durable_agents.ports.durability import ActivityCall, Attempt, Step
from durable_agents.ports.resources import Resources


@dataclass(slots=True)
class _Pulse:
    """What the attempt last said of itself, repeated to Temporal for as long as the worker lives."""

    details: tuple[JSON, ...]


class Attempts:
    """Performs attempts at steps, in one worker."""

    def __init__(self, client: Client, host: Host, resources: Resources) -> None:
        self._client = client
        self._host = host
        self._resources = resources
        self._tasks: set[asyncio.Task[Any]] = set()

    def abandon(self) -> None:
        """Cancel all attempts under way; Temporal is told nothing of use."""
        for task in self._tasks:
            task.cancel()

    @activity.defn(dynamic=True)
    async def perform(self, args: Sequence[RawValue]) -> JSON:
        """Make one attempt. What it raises tells Temporal whether, and after what time, to make another."""
        info = activity.info()
        pulse = _Pulse(tuple(info.heartbeat_details))
        async with self._under_way(pulse):
            step = await self._step(info, args)
            try:
                result = await self._host.toolkit.perform(
                    step.call, _attempt(info, pulse), step.options, self._resources
                )
                check_size(f"the result of {step.name!r}", result)
                return result
            except asyncio.CancelledError:
                cancelled = activity.cancellation_details()
                if cancelled is not None and not cancelled.worker_shutdown:
                    raise
                error: BaseException = ActivityInterrupted(step.name)
                lost = True
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as raised:
                error, lost = raised, isinstance(raised, ActivityTimedOut)
        if lost and step.options.effect == "once":
            error = OutcomeUnknown(step.name)
        failure = failure_of(error, LIMIT_BYTES)
        delay = step.options.retry.delay_after(info.attempt, failure)
        raise application_error(failure, attempt=info.attempt, retry_after_seconds=delay) from None

    async def _step(self, info: activity.Info, args: Sequence[RawValue]) -> Step:
        """Return the step.

        Raises:
            ApplicationError: this worker cannot know it; another one, or a later attempt, may.
        """
        try:
            if args:
                definition = self._host.toolkit.defined_activity(info.activity_type)
                arguments = activity.payload_converter().from_payload(args[0].payload)
                call = ActivityCall(definition, arguments)
                return Step(info.activity_id, StepKind.ACTIVITY, definition.name, call, definition.options)
            where = (info.workflow_id or "", info.workflow_run_id or "", info.activity_id)
            step = self._host.steps.find(*where) or (await self._replayed(*where[:2])).find(*where)
            if step is None:
                raise StorageUnavailable(
                    f"the code of execution {where[0]!r} does not ask for step {where[2]!r}"
                )
            return step
        except Exception as error:
            failure = Failure.of(error)
            wait = self._host.lease.total_seconds()
            raise application_error(failure, attempt=info.attempt, retry_after_seconds=wait) from None

    async def _replayed(self, execution_id: str, run_id: str) -> OpenSteps:
        """Return every step that the execution has asked for, found by running its code over its history."""
        history = await self._client.get_workflow_handle(execution_id, run_id=run_id).fetch_history()
        steps = OpenSteps(forgetting=False)
        await replay(replace(self._host, steps=steps), history)
        return steps

    @asynccontextmanager
    async def _under_way(self, pulse: _Pulse) -> AsyncIterator[None]:
        """Tell Temporal that this worker lives, often enough for it to notice soon when it does not."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)

        async def beat() -> None:
            while True:
                await asyncio.sleep(self._host.lease.total_seconds() / 4)
                activity.heartbeat(*pulse.details)

        beating = asyncio.create_task(beat())
        try:
            yield
        finally:
            beating.cancel()
            self._tasks.discard(task)


def _attempt(info: activity.Info, pulse: _Pulse) -> Attempt:
    loop, scope = asyncio.get_running_loop(), copy_context()

    def beat(details: tuple[JSON, ...]) -> None:
        check_size("what a heartbeat tells", list(details))
        pulse.details = details
        loop.call_soon_threadsafe(activity.heartbeat, *details, context=scope.copy())

    return Attempt(
        execution_id=info.workflow_id or "",
        activity=info.activity_type,
        attempt=info.attempt,
        idempotency_key=f"{info.workflow_id}/{info.activity_id}",
        heartbeat=beat,
        heartbeat_details=pulse.details,
    )


async def replay(host: Host, history: WorkflowHistory) -> None:
    """Run the code of an execution over its history, without any effect.

    Raises:
        temporalio.workflow.NondeterminismError: the code is not what made the history.
    """
    with ThreadPoolExecutor(1) as executor:
        replayer = Replayer(
            workflows=[DurableWorkflow],
            interceptors=[host],
            unsandboxed_workflow_runner=GuardedRunner(host.toolkit),
            workflow_task_executor=executor,
            data_converter=data_converter,
        )
        await replayer.replay_workflow(history)
