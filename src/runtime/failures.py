"""Any exception as a failure that a journal takes, whatever its text is like."""

from __future__ import annotations

from durable_agents.core.failure import Failure

MESSAGE_CHARACTERS_MAX = 10_000


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
