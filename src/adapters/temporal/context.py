"""The requests that workflow code can make of Temporal, in the terms of the durability port."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import Context, ContextVar, copy_context
from datetime import datetime, timedelta
from random import Random
from typing import Any, NoReturn

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import FailureError

from outlast.adapters.temporal.ended_runs import EndedRun
from outlast.adapters.temporal.failures import step_failure
from outlast.adapters.temporal.payloads import as_written, check_size
from outlast.adapters.temporal.steps import OpenSteps, Place, activity_id_of
from outlast.core.approvals import Decision
from outlast.core.errors import DeterminismError, NotSupported, PayloadTooLarge
from outlast.core.events import PatchedData
from outlast.core.failure import Failure, step_error
from outlast.core.json import JSON, decode
from outlast.core.records import (
    EventEmitted,
    Input,
    Request,
    StepCompleted,
    StepFailed,
    StepKind,
    StepScheduled,
    TimerFired,
    TimerStarted,
    encode_record,
)
from outlast.ports.durability.steps import ActivityCall, E, Step
from outlast.ports.durability.workflow_context import WorkflowContext, WorkflowInfo
from outlast.ports.toolkit import Contained

SPARED_MAX = 20
"""The most attempts at a step that may end without being counted; see `activities`."""

PAGE_BYTES = 1024 * 1024

WARN_EVENTS = 10_240
WARN_BYTES = 10 * 1024 * 1024
"""The length from which a warning about a history is logged: a fifth of the length that Temporal allows."""

GRACE_SECONDS = 60.0
"""The time by which Temporal's own timeout is longer than that of an attempt, which the worker watches."""


in_handler: ContextVar[bool] = ContextVar("in_handler", default=False)
"""True while the handler of a signal or an update runs."""


class TemporalContext(WorkflowContext):
    """The context of one execution. It keeps the records that our own engine would have journaled.

    Temporal's history is the only truth. The records are derived from it by running the code, like everything
    else in a workflow, for the readers of the event stream.
    """

    def __init__(
        self,
        steps: OpenSteps,
        lease: timedelta,
        limit_bytes: int,
        writes_json: bool,
        contained: Contained,
        own_code: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        info = workflow.info()
        self.records: list[bytes] = []
        self._lengths: list[int] = []
        """The length of the history at the time of each record."""
        self._info = WorkflowInfo(info.workflow_id, info.workflow_type, info.task_queue)
        self._run_id = info.run_id
        self._steps = steps
        self._lease = lease
        self._limit_bytes = limit_bytes
        self._writes_json = writes_json
        self._contained = contained
        self._own_code = own_code
        self._random = workflow.random()
        self._state: dict[Any, Any] = {}
        self._decisions: dict[tuple[str, str], list[Decision]] = {}
        self._keys = 0
        self._emitted = 0
        self._before = 0
        self._warned = False
        self._patches: dict[str, bool] = {}

    def go_on_from(self, place: Mapping[str, int]) -> None:
        """Continue the counts of the execution's earlier history, which it passed on as `place`."""
        self._keys, self._emitted, self._before = place["keys"], place["emitted"], place["records"]

    def record(self, record: Input | Request) -> None:
        """Keep a record, for the readers of the event stream."""
        self.records.append(encode_record(record))
        self._lengths.append(workflow.info().get_current_history_length())

    def page(self, position: int, length: int) -> Any:
        """Return the records from `position` on that a history of `length` events gives, as many as fit.

        Temporal may ask when the history already has events whose workflow task is still to come. The records
        that code makes of these events alone can still change: the task can bring more, such as an update,
        which goes first. So readers say up to which event workflow tasks are completed.

        `before` is the number of records in the execution's earlier histories.
        """
        page: list[bytes] = []
        size = 0
        for record, made_at in zip(self.records[position:], self._lengths[position:], strict=True):
            if made_at > length or (page and size + len(record) > PAGE_BYTES):
                break
            page.append(record)
            size += len(record)
        text = b'{"records":[%s],"before":%d}' % (b",".join(page), self._before)
        return as_written(text) if self._writes_json else decode(text)

    def ended(self) -> EndedRun:
        """Return the records, after the last one is made."""
        return EndedRun(self._run_id, tuple(self.records), self._before, self._lengths[-1])

    @property
    def time(self) -> float:
        """Workflow time, in seconds since the epoch."""
        return workflow.time()

    async def run_step(self, step: Step) -> JSON:
        place = Place(self._info.execution_id, self._run_id, activity_id_of(step))
        with self._steps.open(place, step):
            with self._own_code():
                activity = self._schedule(step, place)
            try:
                result: JSON = await activity
            except FailureError as error:
                ended = step_failure(error, step)
            else:
                with self._own_code():
                    self.record(StepCompleted(at=self.time, key=step.key, result=result))
                return result
        if ended is None:
            self._steps.give_up(place)
            raise asyncio.CancelledError
        failure, attempts = ended
        self.record(StepFailed(at=self.time, key=step.key, attempts=attempts, failure=failure))
        raise step_error(failure, step.name, attempts)

    def _schedule(self, step: Step, place: Place) -> workflow.ActivityHandle[Any]:
        arguments: list[JSON] = [step.call.arguments] if isinstance(step.call, ActivityCall) else []
        scheduled = StepScheduled(
            key=step.key, kind=step.kind, name=step.name, arguments=step.arguments, about=step.about
        )
        try:
            check_size(f"the arguments of {step.name!r}", arguments, self._limit_bytes)
        except PayloadTooLarge as error:
            if step.kind is StepKind.TOOL:
                # The model asked for the call and gets the reason for not making it, so the stream has both.
                self.record(scheduled)
                failure = Failure.of(error)
                self.record(StepFailed(at=self.time, key=step.key, attempts=0, failure=failure))
            raise
        self.record(scheduled)
        self._warn_of_length()
        return _start(step, place.activity_id, arguments, self._lease)

    def _warn_of_length(self) -> None:
        """Log once that the history is long."""
        info = workflow.info()
        events, size = info.get_current_history_length(), info.get_current_history_size()
        if self._warned or (events < WARN_EVENTS and size < WARN_BYTES):
            return
        self._warned = True
        workflow.logger.warning(
            "the history of execution %s has %d events and %.1f MB; Temporal ends it at 51,200 or 50 MB. "
            "Let the workflow continue as new between two runs of agents",
            *(info.workflow_id, events, size / 1e6),
        )

    def _check_may_change(self, what: str) -> None:
        if workflow.unsafe.is_read_only():
            raise DeterminismError(f"{what} in a validator or a query", "it only reads; do it in a handler")

    def next_key(self) -> str:
        self._check_may_change("asking for anything")
        key = f":{self._keys}"
        self._keys += 1
        return key

    def decide(self, decision: Decision) -> None:
        """Keep the decision of a person; if one call has two decisions, the first that fits counts."""
        self._decisions.setdefault((decision.key, decision.fingerprint), []).append(decision)

    async def decision(self, key: str, fingerprint: str, fits: Callable[[Decision], bool]) -> Decision:
        found: list[Decision] = []

        def is_there() -> bool:
            waiting = self._decisions.get((key, fingerprint), [])
            while waiting and not found:
                one = waiting.pop(0)
                if fits(one):
                    found.append(one)
            return bool(found)

        await self.wait_condition(is_there)
        return found[0]

    def emit(self, data: E) -> E:
        self._check_may_change("an event")
        event = EventEmitted.of(f"event:{self._emitted + 1}", data)
        check_size(f"an event of kind {event.kind!r}", event.data, self._limit_bytes)
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
        if in_handler.get():
            raise NotSupported("a handler cannot continue as new, for it is waited for; let the entrypoint")
        check_size("what is carried along to continue as new", arguments, self._limit_bytes)
        await workflow.wait_condition(workflow.all_handlers_finished)
        place = {
            "keys": self._keys,
            "emitted": self._emitted,
            "records": self._before + len(self.records),
        }
        workflow.continue_as_new(args=[arguments, place])

    @property
    def state(self) -> dict[Any, Any]:
        return self._state

    def tell_timers(self) -> None:
        """Record the timers that asyncio starts, for which Temporal does not have an interceptor."""
        loop = asyncio.get_running_loop()
        start_timer = loop.call_later

        def call_later(
            delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
        ) -> asyncio.TimerHandle:
            key = self.next_key()

            def fire() -> None:
                self.record(TimerFired(at=self.time, key=key))
                callback(*args)

            self.record(TimerStarted(key=key, due_at=self.time + delay))
            return start_timer(delay, fire, context=context)

        loop.call_later = call_later  # type: ignore[method-assign, assignment]  # no hook


def _start(
    step: Step, activity_id: str, arguments: list[JSON], lease: timedelta
) -> workflow.ActivityHandle[Any]:
    timeout = timedelta(seconds=step.options.start_to_close_timeout + GRACE_SECONDS)
    if step.options.local:
        return workflow.start_local_activity(
            step.name,
            args=arguments,
            activity_id=activity_id,
            start_to_close_timeout=timeout,
            retry_policy=_retry_policy(step),
        )
    return workflow.start_activity(
        step.name,
        args=arguments,
        activity_id=activity_id,
        start_to_close_timeout=timeout,
        heartbeat_timeout=lease,
        retry_policy=_retry_policy(step),
    )


def _retry_policy(step: Step) -> RetryPolicy:
    """Return the policy for a step whose worker is lost; other failures have their own delay."""
    policy = step.options.retry
    initial = max(policy.initial_interval, 0.001)
    return RetryPolicy(
        initial_interval=timedelta(seconds=initial),
        backoff_coefficient=policy.backoff_coefficient,
        maximum_interval=timedelta(seconds=max(policy.max_interval, initial)),
        # Workers check the bound of the policy; one more attempt shows that the last worker is lost.
        maximum_attempts=policy.max_attempts + SPARED_MAX + 1,
        non_retryable_error_types=["TemporalTimeout:Heartbeat", "TemporalTimeout:StartToClose"]
        if step.options.effect == "once"
        else None,
    )
