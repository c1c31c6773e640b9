"""The requests that workflow code can make of Temporal, in the terms of the durability port.

It serves agents in workflows that users write for Temporal themselves, whose code runs on Temporal's loop.
The code of this library's own workflows runs on ours: see `driver`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from datetime import datetime, timedelta
from random import Random
from typing import Any, NoReturn

from temporalio import workflow
from temporalio.exceptions import FailureError

from outlast.adapters.temporal.failures import StepLimits, step_failure
from outlast.adapters.temporal.kept_records import KeptRecords
from outlast.adapters.temporal.payloads import check_payload
from outlast.adapters.temporal.requests import LengthWarning, payload_of, start
from outlast.adapters.temporal.steps import OpenSteps, Place, activity_id_of
from outlast.core.approvals import Decision, Decisions
from outlast.core.errors import DeterminismError, NotSupported, PayloadTooLarge
from outlast.core.events import PatchedData, TaggedData
from outlast.core.failure import Failure, step_error
from outlast.core.json import JSON
from outlast.core.records import (
    EventEmitted,
    Input,
    Request,
    StepCompleted,
    StepFailed,
    StepKind,
    StepScheduled,
    encode_record,
)
from outlast.ports.durability.steps import E, Step
from outlast.ports.durability.workflow_context import WorkflowContext, WorkflowInfo
from outlast.ports.toolkit import Contained


class TemporalContext(WorkflowContext):
    """The context of one execution in a workflow of a user's own."""

    def __init__(
        self,
        steps: OpenSteps,
        lease: timedelta,
        limit_bytes: int,
        writes_json: bool,
        contained: Contained,
    ) -> None:
        info = workflow.info()
        self.records = KeptRecords(writes_json)
        self._info = WorkflowInfo(info.workflow_id, info.workflow_type, info.task_queue)
        self._run_id = info.run_id
        self._steps = steps
        self._lease = lease
        self._limit_bytes = limit_bytes
        self._contained = contained
        self._length = LengthWarning()
        self._random = workflow.random()
        self._state: dict[Any, Any] = {}
        self.decisions = Decisions()
        self._keys = 0
        self._emitted = 0
        self._patches: dict[str, bool] = {}

    def record(self, record: Input | Request) -> None:
        """Keep a record, for the readers of the event stream."""
        self.records.keep(encode_record(record))

    @property
    def time(self) -> float:
        """Workflow time, in seconds since the epoch."""
        return workflow.time()

    async def run_step(self, step: Step) -> JSON:
        place = Place(self._info.execution_id, self._run_id, activity_id_of(step))
        with self._steps.open(place, step):
            activity = self._schedule(step, place)
            try:
                result: JSON = await activity
            except FailureError as error:
                ended = step_failure(error, StepLimits.of(step))
            else:
                self.record(StepCompleted(at=self.time, key=step.key, result=result))
                return result
        if ended is None:
            self._steps.give_up(place)
            raise asyncio.CancelledError
        failure, attempts = ended
        self.record(StepFailed(at=self.time, key=step.key, attempts=attempts, failure=failure))
        raise step_error(failure, step.name, attempts)

    def _schedule(self, step: Step, place: Place) -> workflow.ActivityHandle[Any]:
        arguments = list(payload_of(step))
        scheduled = StepScheduled(
            key=step.key,
            kind=step.kind,
            name=step.name,
            arguments=step.arguments,
            about=step.about,
            model=step.model,
        )
        try:
            check_payload(f"the arguments of {step.name!r}", arguments, self._limit_bytes)
        except PayloadTooLarge as error:
            if step.kind is StepKind.TOOL:
                # The model asked for the call and gets the reason for not making it, so the stream has both.
                self.record(scheduled)
                failure = Failure.of(error)
                self.record(StepFailed(at=self.time, key=step.key, attempts=0, failure=failure))
            raise
        self.record(scheduled)
        self._length.look()
        return start(step, place.activity_id, arguments, self._lease)

    def _check_may_change(self, what: str) -> None:
        if workflow.unsafe.is_read_only():
            raise DeterminismError(f"{what} in a validator or a query", "it only reads; do it in a handler")

    def next_key(self) -> str:
        self._check_may_change("asking for anything")
        key = f":{self._keys}"
        self._keys += 1
        return key

    async def decision(self, key: str, fingerprint: str, fits: Callable[[Decision], bool]) -> Decision:
        awaited = self.decisions.awaited(key, fingerprint, fits)
        await self.wait_condition(awaited.has_come)
        return awaited.taken

    def emit(self, data: E) -> E:
        self._check_may_change("an event")
        if isinstance(data, TaggedData):
            raise NotSupported(
                "this workflow is Temporal's own: tag it by temporalio.workflow.upsert_search_attributes"
            )
        event = EventEmitted.of(f"event:{self._emitted + 1}", data)
        check_payload(f"an event of kind {event.kind!r}", event.data, self._limit_bytes)
        self._emitted += 1
        self.record(event)
        return data

    def now(self) -> datetime:
        return workflow.now()

    async def wait_condition(self, condition: Callable[[], bool], timeout: timedelta | None = None) -> None:
        if condition():
            return
        context = copy_context()
        failed: list[Exception] = []

        def holds() -> bool:
            # Temporal asks outside of any task, and treats an exception as a fault of the worker.
            try:
                with self._contained(self.unwinds):
                    return context.copy().run(condition)
            except Exception as error:
                failed.append(error)
                return True

        await workflow.wait_condition(holds, timeout=timeout)
        if failed:
            raise failed[0]

    def unwinds(self, error: BaseException) -> bool:
        # The SDK evicts, interrupts a deadlock and continues as new by classes of its own.
        return type(error).__module__.partition(".")[0] == "temporalio" or super().unwinds(error)

    @property
    def is_replaying(self) -> bool:
        return workflow.unsafe.is_replaying()

    @property
    def info(self) -> WorkflowInfo:
        return self._info

    @property
    def random(self) -> Random:
        self._check_may_change("a random number")
        return self._random

    @property
    def all_handlers_finished(self) -> bool:
        return workflow.all_handlers_finished()

    def patched(self, patch: str) -> bool:
        self._check_may_change("a patch")
        if patch not in self._patches:
            self._patches[patch] = workflow.patched(patch)
            if self._patches[patch]:
                self.record(EventEmitted.of(f"patch:{patch}", PatchedData(patch=patch)))
        return self._patches[patch]

    @property
    def should_continue_as_new(self) -> bool:
        return workflow.info().is_continue_as_new_suggested()

    async def continue_as_new(self, arguments: dict[str, JSON]) -> NoReturn:
        raise NotSupported("this workflow is Temporal's own: it continues as new by temporalio.workflow")

    @property
    def state(self) -> dict[Any, Any]:
        return self._state
