"""The plugin that brings agents to Temporal workflows of the user's own."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from temporalio import workflow
from temporalio.client import Client
from temporalio.plugin import SimplePlugin
from temporalio.worker import (
    Interceptor,
    Replayer,
    ReplayerConfig,
    UnsandboxedWorkflowRunner,
    Worker,
    WorkerConfig,
    WorkflowRunner,
)
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from outlast.adapters.temporal.activities import TemporalAttempts
from outlast.adapters.temporal.native_context import UsersHost
from outlast.adapters.temporal.payloads import limit_of, writes_json
from outlast.adapters.temporal.step_replay import Replays, by_replayer
from outlast.adapters.temporal.steps import OpenSteps
from outlast.adapters.temporal.worker_presence import WorkerPresence
from outlast.core.errors import ConfigurationError, OutlastError
from outlast.ports.journal import WorkerCard
from outlast.ports.toolkit import Toolkit

PASSED_THROUGH = ("outlast", "griffe")
"""The modules that the sandbox shares with the worker; SDKs of models and tool sources are not among them."""


class AgentsPlugin(SimplePlugin):
    """Agents and activities of this library in workflows of the user's own; see `OutlastPlugin`."""

    def __init__(self, toolkit: Toolkit, lease: timedelta) -> None:
        if lease <= timedelta(0):
            raise ConfigurationError("the plugin's lease must be longer than nothing; 10 s is the default")
        super().__init__(
            "outlast",
            workflow_runner=_passing_through,
            workflow_failure_exception_types=[OutlastError],
        )
        self._toolkit = toolkit
        self._lease = lease
        # A module that the sandbox imports again must not replace the definitions that activities use.
        toolkit.ignore_definitions_where(workflow.unsafe.in_sandbox)

    def configure_worker(self, config: WorkerConfig) -> WorkerConfig:
        config = super().configure_worker(config)
        client: Client = config["client"]
        converter = client.data_converter
        host = UsersHost(
            self._toolkit, {}, OpenSteps(), self._lease, limit_of(converter), writes_json(converter)
        )
        others = list(config.get("interceptors", ()))
        attempts = TemporalAttempts(
            host, Replays(client, by_replayer(_replayer_of(host, config, others, client)))
        )
        config["interceptors"] = [*others, host]
        config["activities"] = [*config.get("activities", ()), attempts.perform]
        return config

    def configure_replayer(self, config: ReplayerConfig) -> ReplayerConfig:
        config = super().configure_replayer(config)
        host = UsersHost(self._toolkit, {}, OpenSteps(), self._lease)
        config["interceptors"] = [*config.get("interceptors", ()), host]
        return config

    async def run_worker(self, worker: Worker, next: Callable[[Worker], Awaitable[None]]) -> None:
        config = worker.config(active_config=True)
        owners = (getattr(perform, "__self__", None) for perform in config.get("activities", ()))
        async with (
            _attempts_among(owners),
            WorkerPresence(worker.client, _card_of(worker, config), self._lease),
        ):
            await super().run_worker(worker, next)


def _attempts_among(owners: Iterable[object]) -> TemporalAttempts:
    return next(owner for owner in owners if isinstance(owner, TemporalAttempts))


def _card_of(worker: Worker, config: WorkerConfig) -> WorkerCard:
    # A dynamic workflow does not have a name.
    names = (workflow._Definition.must_from_class(one).name for one in config.get("workflows", ()))
    identity = config.get("identity") or worker.client.identity
    return WorkerCard(identity, tuple(sorted(filter(None, names))), worker.task_queue, time.time())


def _passing_through(runner: WorkflowRunner | None) -> WorkflowRunner:
    runner = SandboxedWorkflowRunner() if runner is None else runner
    if not isinstance(runner, SandboxedWorkflowRunner):
        return runner
    restrictions = runner.restrictions.with_passthrough_modules(*PASSED_THROUGH)
    return dataclasses.replace(runner, restrictions=restrictions)


def _replayer_of(
    host: UsersHost, config: WorkerConfig, others: list[Interceptor], client: Client
) -> Callable[[OpenSteps, ThreadPoolExecutor], Replayer]:
    """Return a function that makes a replayer of the worker's workflows.

    The replayer does not use a sandbox: only steps are taken from its run, and a sandbox takes long to make.
    """
    workflows = list(config.get("workflows", ()))

    def make(steps: OpenSteps, executor: ThreadPoolExecutor) -> Replayer:
        if not workflows:
            raise ConfigurationError(
                "this worker has none of the workflows whose agents call models; a worker that performs "
                "their steps must have them registered"
            )
        return Replayer(
            workflows=workflows,
            interceptors=[*others, dataclasses.replace(host, steps=steps)],
            workflow_runner=UnsandboxedWorkflowRunner(),
            workflow_failure_exception_types=config.get("workflow_failure_exception_types", ()),
            workflow_task_executor=executor,
            namespace=client.namespace,
            data_converter=client.data_converter,
        )

    return make
