"""The retry policy: whether and when a failed attempt is tried again."""

from __future__ import annotations

from pydantic import Field

from outlast.core.failure import Failure
from outlast.core.values import Value

ASKED_WAIT_MAX = 86_400.0


class RetryPolicy(Value):
    """Attempts and back-off of a step. The bound on attempts is always finite: nothing is retried for ever.

    The wait after attempt n is `initial_interval * backoff_coefficient ** (n - 1)`, at most `max_interval`
    (all in seconds), and never less than what the failure itself asks for (`Retry-After`, up to a day).
    """

    max_attempts: int = Field(default=5, ge=1)
    initial_interval: float = Field(default=1.0, ge=0)
    backoff_coefficient: float = Field(default=2.0, ge=1)
    max_interval: float = Field(default=60.0, ge=0)
    non_retryable: tuple[str, ...] = ()
    """Names of exception classes that end the step at once, as `failure.is_among` takes them."""

    def delay_after(self, attempt: int, failure: Failure) -> float | None:
        """Return the seconds to wait before the next attempt; None when there must not be one."""
        if attempt >= self.max_attempts or not failure.retryable:
            return None
        try:
            grown = self.initial_interval * self.backoff_coefficient ** (attempt - 1)
        except OverflowError:
            grown = self.max_interval if self.initial_interval else 0.0
        asked = (failure.details or {}).get("retry_after_seconds")
        least = min(asked, ASKED_WAIT_MAX) if isinstance(asked, (int, float)) else 0.0
        return max(min(grown, self.max_interval), least)
