"""The Temporal workflow that runs every workflow of a user.

It is dynamic: it has every name, and looks up the user's workflow of that name. It gets the objects of its
worker through the extern functions of an interceptor, which Temporal offers for that. All that it does is to
hand on what Temporal brings: `driver` drives the user's code.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RawValue
from temporalio.worker import (
    Interceptor,
    UnsandboxedWorkflowRunner,
    WorkflowInboundInterceptor,
    WorkflowInstance,
    WorkflowInstanceDetails,
    WorkflowInterceptorClassInput,
)

from outlast.adapters.temporal.carried import Carried
from outlast.adapters.temporal.driver import TemporalDriver
from outlast.adapters.temporal.early_jobs import EarlyJobs
from outlast.adapters.temporal.ended_runs import EndedRuns
from outlast.adapters.temporal.failures import application_error, rejection
from outlast.adapters.temporal.kept_records import OVERVIEW_QUERY, RECORDS_QUERY
from outlast.adapters.temporal.loop_repairs import wait_for_all_that_arrives
from outlast.adapters.temporal.messages import read_sent
from outlast.adapters.temporal.payloads import LIMIT_BYTES
from outlast.adapters.temporal.steps import OpenSteps
from outlast.core.errors import UnknownDefinition
from outlast.core.json import JSON
from outlast.core.records import Status, UpdateAccepted
from outlast.ports.definitions import WorkflowDefinition
from outlast.ports.toolkit import Toolkit

_HOST = "outlast.host"
_OPENED = "outlast.opened"

CLOSING_SECONDS = 1.0
"""The longest time for which a worker that drops everything waits for a thread that runs code."""


@dataclass(frozen=True, eq=False)
class Host(Interceptor):
    """The things that a worker, or a replay, lends to the workflows that it runs."""

    toolkit: Toolkit
    definitions: Mapping[str, WorkflowDefinition]
    steps: OpenSteps
    lease: timedelta
    limit_bytes: int = LIMIT_BYTES
    writes_json: bool = False
    """True if the client's data converter writes JSON as we do; see `payloads.writes_json`."""
    ended: EndedRuns = field(default_factory=EndedRuns)
    """The waiters in this process for the ends of executions."""

    def workflow_interceptor_class(
        self, input: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor] | None:
        input.unsafe_extern_functions[_HOST] = lambda: self
        return None


def host() -> Host:
    """Return the things that the worker lends to the running workflow."""
    lent: Host = workflow.extern_functions()[_HOST]()
    return lent


class ClosingRunner(UnsandboxedWorkflowRunner):
    """Runs our workflow as it is, and closes the code that it holds before Temporal drops it from its cache.

    The sandbox imports every module again for each execution, SDKs included. The guard around the user's code
    refuses the same things at the call, with the same errors as on every other backend.
    """

    def __init__(self, departed: Callable[[str, str], object] = lambda execution_id, run_id: None) -> None:
        """Call `departed`, in any thread, when code departs from the history of an execution."""
        self._departed = departed
        self.drop: Callable[[str], object] = lambda run_id: None
        """Asks the worker to drop a run from its cache, from any thread; a replayer has none."""
        self._open: dict[TemporalDriver, threading.Lock] = {}
        """By driver, the lock that a thread of Temporal's holds while it runs the code."""

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        drivers: list[TemporalDriver] = []
        at_work = threading.Lock()

        def opened(driver: TemporalDriver) -> None:
            drivers.append(driver)
            self._open[driver] = at_work

        lent = {**det.extern_functions, _OPENED: opened}
        instance = super().create_instance(replace(det, extern_functions=lent))
        is_ours = det.defn.cls is DurableWorkflow
        begin_activation = wait_for_all_that_arrives(instance) if is_ours else _as_it_is
        activate = instance.activate
        early = EarlyJobs(lambda: self.drop(det.info.run_id))

        def activate_or_close(act: Any) -> Any:
            dropped = next((job for job in act.jobs if job.HasField("remove_from_cache")), None)
            with at_work:
                if dropped is not None:
                    if dropped.remove_from_cache.reason == dropped.remove_from_cache.NONDETERMINISM:
                        self._departed(det.info.workflow_id, det.info.run_id)
                    for driver in drivers:
                        driver.close()
                        self._open.pop(driver, None)
                if is_ours:
                    early.sift(act)
                begin_activation(act)
                return activate(act)

        instance.activate = activate_or_close  # type: ignore[method-assign]  # there is no hook
        return instance

    def close(self) -> None:
        """Close the code that Temporal has not dropped, as when its service was lost.

        A thread may still run some of it, if the stop of the worker was cut short. Code that goes on for long
        is left to that thread.
        """
        while self._open:
            driver, at_work = self._open.popitem()
            if at_work.acquire(timeout=CLOSING_SECONDS):
                try:
                    driver.close()
                finally:
                    at_work.release()


def _as_it_is(_activation: Any) -> None:
    """Leave an activation of a user's own workflow to the SDK."""


@workflow.defn(dynamic=True, sandboxed=False)
class DurableWorkflow:
    """Runs the user's workflow of its name.

    Raises:
        UnknownDefinition: this worker does not run that workflow. Temporal tries again, perhaps elsewhere.
    """

    @workflow.init
    def __init__(self, args: Sequence[RawValue]) -> None:
        self._unready: Exception | None = None
        """The reason why this worker cannot run the workflow: its first task fails, for another to try."""
        try:
            # The code begins now, because Temporal hands over early signals before it calls `run`.
            self._driver = self._driven(*_values(args))
        except Exception as error:
            # If the constructor of a workflow raises, the SDK leaves a coroutine that nobody awaits.
            self._unready = error

    def _driven(self, arguments: Any = None, carried: Any = None, *_: Any) -> TemporalDriver:
        lent = self._host = host()
        name = workflow.info().workflow_type
        if name not in lent.definitions:
            raise UnknownDefinition("workflow", name)
        driver = TemporalDriver(
            lent.toolkit.live_code,
            lent.definitions[name],
            arguments if isinstance(arguments, dict) else {},
            lent.steps,
            lease=lent.lease,
            limit_bytes=lent.limit_bytes,
            writes_json=lent.writes_json,
            carried=Carried.read(carried),
        )
        workflow.extern_functions()[_OPENED](driver)
        return driver

    @workflow.run
    async def run(self, args: Sequence[RawValue]) -> Any:
        if self._unready is not None:
            raise self._unready
        end = await self._driver.run()
        self._host.ended.end(workflow.info().workflow_id, self._driver.records.ended())
        if end.failure is not None:
            raise application_error(end.failure)
        if end.status is Status.CANCELLED:
            raise asyncio.CancelledError
        return end.result

    @workflow.signal(dynamic=True)
    async def signal(self, name: str, args: Sequence[RawValue]) -> None:
        if self._unready is None:
            self._driver.signal(name, *read_sent(_values(args)))

    @workflow.update(dynamic=True, unfinished_policy=workflow.HandlerUnfinishedPolicy.ABANDON)
    async def update(self, name: str, args: Sequence[RawValue]) -> Any:
        if self._unready is not None:
            raise self._unready
        completed = await self._driver.update(_update(name, args))
        if completed.failure is not None:
            raise application_error(completed.failure) from None
        return completed.result

    @update.validator
    def validate(self, name: str, args: Sequence[RawValue]) -> None:
        objection = None if self._unready is not None else self._driver.objection(_update(name, args))
        if objection is not None:
            raise rejection(objection) from None

    @workflow.query(dynamic=True)
    def query(self, name: str, args: Sequence[RawValue]) -> Any:
        try:
            return {"answer": self._driver.ask(name, *read_sent(_values(args)))}
        except Exception as error:
            # Failures are returned as data, because Temporal keeps only the message of a query that fails.
            failure = host().toolkit.failure_of(error, LIMIT_BYTES)
            return {"failure": failure.model_dump(mode="json")}

    @workflow.query(name=RECORDS_QUERY)
    def records(self, position: int, length: int) -> Any:
        return self._driver.records.page(position, length)

    @workflow.query(name=OVERVIEW_QUERY)
    def overview(self) -> Any:
        return self._driver.overview()


def _update(name: str, args: Sequence[RawValue]) -> UpdateAccepted:
    info = workflow.current_update_info()
    assert info is not None
    arguments, named = read_sent(_values(args))
    return UpdateAccepted(
        at=workflow.time(), update_id=info.id, name=name, arguments=tuple(arguments), named=dict(named)
    )


def _values(args: Sequence[RawValue]) -> list[JSON]:
    converter = workflow.payload_converter()
    return [converter.from_payload(arg.payload) for arg in args]
