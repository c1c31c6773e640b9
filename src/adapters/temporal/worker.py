"""A worker: Temporal's own, with our one workflow and our one activity."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Self

from temporalio.client import Client
from temporalio.worker import Worker

from outlast.adapters.temporal.activities import TemporalAttempts
from outlast.adapters.temporal.departure_log import DepartureLog
from outlast.adapters.temporal.ended_runs import EndedRuns
from outlast.adapters.temporal.heartbeat import HURRY_SECONDS
from outlast.adapters.temporal.payloads import limit_of, writes_json
from outlast.adapters.temporal.refusals import refusal_in
from outlast.adapters.temporal.step_replay import Replays, by_code
from outlast.adapters.temporal.steps import OpenSteps
from outlast.adapters.temporal.worker_presence import WorkerPresence
from outlast.adapters.temporal.workflows import ClosingRunner, DurableWorkflow, Host
from outlast.core.argument_checks import check_timedelta, check_whole_number
from outlast.core.errors import ConfigurationError
from outlast.ports.definitions import WorkflowDefinition
from outlast.ports.journal import WorkerCard
from outlast.ports.toolkit import Toolkit

DEADLOCK_SECONDS = 8.0
"""The time after which the SDK gives up a workflow task and interrupts its thread.

Its own two seconds also pass while the machine is busy, or while Python collects garbage. A workflow task
that brings thousands of signals would then fail at each try. The server takes a task back after 10 s.
"""


@dataclass(frozen=True, slots=True)
class TemporalWorkerOptions:
    """The options of a worker; see `Backend.worker`. Temporal's name for the lease is heartbeat timeout."""

    lease: timedelta
    max_concurrent_executions: int
    max_concurrent_activities: int
    max_cached_executions: int
    task_queue: str
    graceful_shutdown_timeout: timedelta
    identity: str | None

    def __post_init__(self) -> None:
        for name in ("lease", "graceful_shutdown_timeout"):
            check_timedelta(f"the worker's {name}", getattr(self, name), ConfigurationError)
        if self.lease <= timedelta(0):
            raise ConfigurationError("the worker's lease must be longer than nothing; 10 s is the default")
        for name in ("max_concurrent_executions", "max_concurrent_activities"):
            check_whole_number(f"the worker's {name}", getattr(self, name), 1, ConfigurationError)
        cached = self.max_cached_executions
        check_whole_number("the worker's max_cached_executions", cached, 0, ConfigurationError)


class TemporalWorker:
    """Runs executions of some workflows while its `async with` block does, and stops gracefully.

    If the stop is cancelled, it drops everything at once; Temporal notices when the lease has run out.
    """

    def __init__(
        self,
        client: Client,
        toolkit: Toolkit,
        definitions: Mapping[str, WorkflowDefinition],
        options: TemporalWorkerOptions,
        ended: EndedRuns,
    ) -> None:
        self._client = client
        converter = client.data_converter
        self._host = Host(
            toolkit,
            definitions,
            OpenSteps(),
            options.lease,
            limit_of(converter),
            writes_json(converter),
            ended,
        )
        self._options = options
        self._stack = AsyncExitStack()
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        host, options = self._host, self._options
        replay = by_code(host.toolkit.live_code, host.definitions, self._client.data_converter)
        replays = Replays(self._client, replay)
        attempts = await self._stack.enter_async_context(TemporalAttempts(host, replays))
        identity = options.identity or self._client.identity
        card = WorkerCard(identity, tuple(sorted(host.definitions)), options.task_queue, time.time())
        await self._stack.enter_async_context(WorkerPresence(self._client, card, options.lease))
        departures = DepartureLog(self._client, host)
        self._stack.push_async_callback(departures.close)
        runner = ClosingRunner(departures.log_soon)
        self._stack.callback(runner.close)
        worker = Worker(
            self._client,
            task_queue=options.task_queue,
            workflows=[DurableWorkflow],
            activities=[attempts.perform],
            interceptors=[host],
            unsandboxed_workflow_runner=runner,
            identity=identity,
            max_cached_workflows=options.max_cached_executions,
            # This limits workflow tasks, which take milliseconds. Temporal needs two of them for its cache.
            max_concurrent_workflow_tasks=max(options.max_concurrent_executions, 2),
            max_concurrent_activities=options.max_concurrent_activities,
            sticky_queue_schedule_to_start_timeout=options.lease,
            # Attempts pace their heartbeats themselves.
            max_heartbeat_throttle_interval=timedelta(seconds=HURRY_SECONDS),
            default_heartbeat_throttle_interval=timedelta(seconds=HURRY_SECONDS),
            graceful_shutdown_timeout=options.graceful_shutdown_timeout,
        )
        # The SDK has no public way for either.
        runner.drop = worker._bridge_worker.request_workflow_eviction
        assert worker._workflow_worker is not None
        worker._workflow_worker._deadlock_timeout_seconds = DEADLOCK_SECONDS  # type: ignore[assignment]
        self._running = asyncio.create_task(_work(worker), name="outlast temporal worker")
        self._stack.push_async_callback(_stop, worker, self._running, attempts)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def run(self) -> None:
        """Wait until the worker can no longer work, then raise the error that stopped it."""
        assert self._running is not None
        await asyncio.shield(self._running)


async def _work(worker: Worker) -> None:
    try:
        await worker.run()
    except RuntimeError as error:
        if (refusal := refusal_in(error)) is not None:
            raise refusal from error
        raise


async def _stop(worker: Worker, running: asyncio.Task[None], attempts: TemporalAttempts) -> None:
    try:
        if not running.done():
            await worker.shutdown()
        await running
    except asyncio.CancelledError:
        attempts.abandon()
        raise
