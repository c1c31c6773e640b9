"""Failures on their way through Temporal: as the details of an `ApplicationError`, and back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Self

from temporalio.exceptions import ActivityError as TemporalActivityError
from temporalio.exceptions import ApplicationError, CancelledError, TimeoutError, TimeoutType

from outlast.core.errors import (
    ActivityError,
    ActivityInterrupted,
    ActivityTimedOut,
    OutcomeUnknown,
)
from outlast.core.failure import Failure
from outlast.ports.durability.steps import Step

UNCOUNTED = 0
"""The number of an attempt that does not count: its worker cannot know the step, or was to wait with it."""


def application_error(
    failure: Failure, *, attempt: int = 1, retry_after_seconds: float | None = None
) -> ApplicationError:
    """Return the error that carries `failure` through Temporal; without `retry_after_seconds` it is final.

    Raise it `from None`: Temporal would store the texts of causes, which may hold anything.
    """
    return ApplicationError(
        failure.message,
        failure.model_dump(mode="json"),
        attempt,
        type=failure.kind,
        non_retryable=retry_after_seconds is None,
        # Temporal reads a delay of zero as a missing delay.
        next_retry_delay=None
        if retry_after_seconds is None
        else timedelta(seconds=max(retry_after_seconds, 0.001)),
    )


REJECTED = "outlast.rejected"
"""Distinguishes the failure of an update that was not accepted from that of its handler."""


def rejection(failure: Failure) -> ApplicationError:
    """Return the error that a validator raises, so that the caller gets `failure`."""
    return ApplicationError(
        failure.message, failure.model_dump(mode="json"), REJECTED, type=failure.kind, non_retryable=True
    )


def is_rejection(error: BaseException | None) -> bool:
    """Return whether the failure of an update is that of its validator."""
    return isinstance(error, ApplicationError) and REJECTED in error.details


def failure_in(error: BaseException | None) -> Failure:
    """Return the failure that Temporal hands back: ours, or the known part of a foreign one."""
    if isinstance(error, ApplicationError):
        if error.details and isinstance(error.details[0], dict):
            return Failure.model_validate(error.details[0])
        return Failure(kind=error.type or "ApplicationError", message=error.message)
    return Failure.of(error) if error is not None else Failure(kind="Unknown", message="no failure was kept")


@dataclass(frozen=True, slots=True)
class StepLimits:
    """The facts about a step that its failure depends on, beside the error that Temporal has."""

    name: str
    max_attempts: int = 1
    is_once: bool = False
    """True if the step must not be tried again when its outcome is unknown."""
    seconds: float = 0.0

    @classmethod
    def of(cls, step: Step) -> Self:
        """Return the limits of a step that code asked for."""
        options = step.options
        once = options.effect == "once"
        return cls(step.name, options.retry.max_attempts, once, options.start_to_close_timeout)


def step_failure(error: BaseException, step: StepLimits) -> tuple[Failure, int] | None:
    """Return the failure of a step that failed for good, and its attempts; None if it was cancelled."""
    # The failure of a local activity is not wrapped.
    cause = error.cause if isinstance(error, TemporalActivityError) else error
    if isinstance(cause, CancelledError):
        return None
    if isinstance(cause, TimeoutError):
        return Failure.of(_after_timeout(cause, step)), step.max_attempts
    attempts = cause.details[1] if isinstance(cause, ApplicationError) and len(cause.details) > 1 else 1
    return failure_in(cause), attempts


def _after_timeout(timeout: TimeoutError, step: StepLimits) -> ActivityError:
    """Return the error after a timeout of Temporal, which only strikes when a worker is lost."""
    if step.is_once:
        return OutcomeUnknown(step.name)
    if timeout.type is TimeoutType.HEARTBEAT:
        return ActivityInterrupted(step.name, step.max_attempts)
    return ActivityTimedOut(step.name, "start_to_close_timeout", step.seconds)
