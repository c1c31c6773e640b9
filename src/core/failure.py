"""Errors as data: what a journal keeps of an exception, and the way back."""

from __future__ import annotations

from math import isfinite
from typing import Any, Self

from outlast.core import errors
from outlast.core.errors import (
    ActivityError,
    ActivityFailed,
    ModelError,
    OutlastError,
    PayloadTooLarge,
    ToolError,
    ToolServerError,
    Unserialisable,
)
from outlast.core.json import JSON
from outlast.core.values import Value

MESSAGE_CHARACTERS_MAX = 10_000


class Failure(Value):
    """An error that can be journaled: `kind` is the class name, `details` what rebuilds one of ours."""

    kind: str
    message: str
    retryable: bool = False
    details: dict[str, JSON] | None = None

    @classmethod
    def of(cls, error: BaseException, *, retryable: bool | None = None) -> Self:
        """Return the failure that `error` is; an error that is not ours counts as retryable.

        Nothing but the class name and the message of a foreign exception is kept: no traceback, no
        attributes, so that no secret of a frame reaches a journal. What no log could take of a message is
        kept as its escape.
        """
        if isinstance(error, OutlastError):
            details = {name: _plain(value) for name, value in error.details().items()}
            worth = type(error).retryable if retryable is None else retryable
            return cls(kind=type(error).__name__, message=str(error), retryable=worth, details=details)
        message = errors.loggable(str(error)) or type(error).__name__
        return cls(kind=type(error).__name__, message=message, retryable=retryable is not False)

    def error(self) -> OutlastError:
        """Return the error that this was: one of our classes where it was ours, else a `ForeignError`."""
        known = getattr(errors, self.kind, None)
        if self.details is not None and isinstance(known, type) and issubclass(known, OutlastError):
            try:
                return known(**self.details)
            except (TypeError, ValueError):
                pass  # Another version of this library wrote it, with other fields: its message still stands.
        return errors.ForeignError(kind=self.kind, message=self.message)


def failure_of(error: BaseException, limit_bytes: int) -> Failure:
    """Return the failure that `error` is, small enough to be part of a record of at most `limit_bytes`.

    A long message is cut, and an error of ours that is too long to be rebuilt is told by its message alone.
    """
    try:
        failure = Failure.of(error)
    except Exception as unreadable:  # The text of an exception is made by its author's code.
        message = f"its message cannot be shown: {type(unreadable).__name__}"
        return Failure(kind=type(error).__name__, message=message, retryable=True)
    if len(failure.message) <= MESSAGE_CHARACTERS_MAX and len(failure.to_json()) <= limit_bytes // 4:
        return failure
    # JSON writes a character as six bytes at most (twelve for the few beyond U+FFFF).
    cut = failure.message[: min(MESSAGE_CHARACTERS_MAX, limit_bytes // 64)] + "… (cut)"
    return Failure(kind=failure.kind, message=cut, retryable=failure.retryable)


def step_error(failure: Failure, step: str, attempts: int) -> OutlastError:
    """Return what workflow code sees of a step that failed for good: ours as they are, others wrapped."""
    error = failure.error()
    ours = (ActivityError, ModelError, ToolError, ToolServerError, PayloadTooLarge, Unserialisable)
    if isinstance(error, ours):
        return error
    return ActivityFailed(step, attempts, failure.kind, failure.message)


def _plain(value: Any) -> JSON:
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (str, int)) or (isinstance(value, float) and isfinite(value)):
        return value
    return str(value)
