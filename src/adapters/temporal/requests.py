"""The activity that is asked of Temporal for a step: remote or local."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.api.history.v1 import ActivityTaskScheduledEventAttributes
from temporalio.common import RetryPolicy

from outlast.adapters.temporal.failures import StepLimits
from outlast.core.json import JSON
from outlast.core.spans import attempt_context, trace_of
from outlast.core.trace_context import TraceContext
from outlast.core.workflow_machine import OpenStep
from outlast.ports.durability.steps import RunActivity, Step
from outlast.ports.live_code import LiveCode

TRACE = "outlast_trace"
"""The memo field with the span of the caller that started the execution, as a `traceparent`."""

SPARED_MAX = 20
"""The most attempts at a step that may end without being counted; see `activities`."""

GRACE_SECONDS = 60.0
"""The time by which Temporal's own timeout is longer than that of an attempt, which the worker watches."""

LOCAL_TIME_MAX = timedelta(days=365)
"""The time that Temporal gives all attempts at a local step together; the worker watches each of them.

For each attempt that had a time of its own and failed, Temporal's SDK (1.35) would keep a timer,
which may end a later attempt, or outlive the worker and panic.
"""

MADE_ONCE = ["TemporalTimeout:Heartbeat", "TemporalTimeout:StartToClose"]
"""The errors after which Temporal must not try a step again whose outcome may be anything."""

WARN_EVENTS = 10_240
WARN_BYTES = 10 * 1024 * 1024
"""The length from which a warning about a history is logged: a fifth of the length that Temporal allows."""


@dataclass(frozen=True, slots=True)
class Past:
    """The things about a step that were before this history: attempts, and other steps with its key."""

    key: str
    """The key of the step among all steps of the execution; see `StepScheduled.idempotency_key`."""
    attempts: int
    """The attempts that count."""
    earlier: int
    """The attempts that no longer count; see `Attempt.earlier`."""
    trace: str | None = None
    """The span of the attempt, as a `traceparent`; None if it follows from the execution's id and the key."""

    @classmethod
    def of(cls, execution_id: str, live: LiveCode, opened: OpenStep) -> Past | None:
        """Return the past of a step; None if there is nothing to say."""
        key, context = opened.scheduled.idempotency_key, live.attempt_context(opened)
        trace = None if context == _own_context(execution_id, key) else context.traceparent
        past = cls(key, opened.attempt - 1, opened.earlier, trace)
        return None if past == cls(opened.scheduled.key, 0, 0) else past

    def context(self, execution_id: str) -> TraceContext:
        """Return the span of the attempt: one for all that Temporal retries, since they have no records."""
        given = None if self.trace is None else TraceContext.of(self.trace)
        return given or _own_context(execution_id, self.key)

    def written(self) -> JSON:
        """Return it as JSON."""
        written: dict[str, JSON] = {"key": self.key, "attempts": self.attempts, "earlier": self.earlier}
        return written if self.trace is None else {**written, "trace": self.trace}

    @classmethod
    def read(cls, value: Any) -> Past:
        """Return what `written` gave."""
        return cls(value["key"], value["attempts"], value["earlier"], value.get("trace"))


def _own_context(execution_id: str, key: str) -> TraceContext:
    return attempt_context(trace_of(execution_id), f"{execution_id}/{key}", 1)


def payload_of(step: Step, past: Past | None = None) -> Sequence[JSON]:
    """Return the arguments of the activity for a step: those of the call, and the step's past, if any.

    The arguments of the call are left out if any worker can make them from the history.
    """
    arguments: list[JSON] = [step.call.arguments] if isinstance(step.call, RunActivity) else []
    return arguments if past is None else [*(arguments or [None]), past.written()]


def start(
    step: Step, activity_id: str, arguments: Sequence[JSON], lease: timedelta
) -> workflow.ActivityHandle[Any]:
    """Start the activity for a step."""
    if step.options.local:
        return workflow.start_local_activity(
            step.name,
            args=arguments,
            activity_id=activity_id,
            schedule_to_close_timeout=LOCAL_TIME_MAX,
            retry_policy=_retry_policy(step),
        )
    return workflow.start_activity(
        step.name,
        args=arguments,
        activity_id=activity_id,
        start_to_close_timeout=timedelta(seconds=step.options.start_to_close_timeout + GRACE_SECONDS),
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
        non_retryable_error_types=MADE_ONCE if step.options.effect == "once" else None,
    )


def limits_in(scheduled: ActivityTaskScheduledEventAttributes) -> StepLimits:
    """Return the limits of a step from what `start` wrote into the history."""
    return StepLimits(
        scheduled.activity_type.name,
        scheduled.retry_policy.maximum_attempts - SPARED_MAX - 1,
        list(scheduled.retry_policy.non_retryable_error_types) == MADE_ONCE,
        scheduled.start_to_close_timeout.ToNanoseconds() / 1e9 - GRACE_SECONDS,
    )


def seconds_until(due_at: float, now: float) -> float:
    """Return the length of the timer for that time; Temporal has no timer of no length."""
    return max(0.001, due_at - now)


class LengthWarning:
    """Logs once that a history is long."""

    def __init__(self) -> None:
        self._is_due = True

    def look(self) -> None:
        """Log the warning if it is due and the history is long."""
        info = workflow.info()
        events, size = info.get_current_history_length(), info.get_current_history_size()
        if not self._is_due or (events < WARN_EVENTS and size < WARN_BYTES):
            return
        self._is_due = False
        workflow.logger.warning(
            "the history of execution %s has %d events and %.1f MB; Temporal ends it at 51,200 or 50 MB. "
            "Let the workflow continue as new between two runs of agents",
            *(info.workflow_id, events, size / 1e6),
        )
