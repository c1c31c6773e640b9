"""Retries: the failures that are tried again, and the back-off."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.core.errors import ModelOverloaded
from outlast.core.failure import Failure
from outlast.core.retry import ASKED_WAIT_MAX, RetryPolicy
from tests.core.strategies import json_values

RETRYABLE = Failure(kind="ValueError", message="no", retryable=True)
waits = st.floats(min_value=0, max_value=1e6)
policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 3000),
    initial_interval=waits,
    backoff_coefficient=st.floats(min_value=1, max_value=1e308),
    max_interval=waits,
)


@given(policies)
def test_waits_are_bounded_and_never_shrink_and_come_to_an_end(policy: RetryPolicy) -> None:
    attempts = sorted({1, 2, 3, 65, 66, 1000, policy.max_attempts - 1} - {0})
    delays = [policy.delay_after(attempt, RETRYABLE) for attempt in attempts if attempt < policy.max_attempts]
    known = [delay for delay in delays if delay is not None]
    assert known == delays == sorted(known)
    assert all(0 <= delay <= policy.max_interval for delay in known)
    for attempt in (policy.max_attempts, policy.max_attempts + 1, 10**9):
        assert policy.delay_after(attempt, RETRYABLE) is None


@given(st.integers(1, 30))
def test_the_wait_doubles_until_its_limit(attempt: int) -> None:
    policy = RetryPolicy(max_attempts=100)
    assert policy.delay_after(attempt, RETRYABLE) == min(2.0 ** (attempt - 1), 60.0)


def test_a_coefficient_too_large_for_a_float_waits_the_longest_time_there_is() -> None:
    for initial, expected in ((1.0, 7.0), (0.0, 0.0)):
        policy = RetryPolicy(
            max_attempts=9, initial_interval=initial, backoff_coefficient=1e308, max_interval=7.0
        )
        assert policy.delay_after(8, RETRYABLE) == expected


@given(policies, st.floats(min_value=0, max_value=1e9))
def test_the_wait_that_a_server_asks_for_is_honoured_up_to_a_day(policy: RetryPolicy, asked: float) -> None:
    overloaded = Failure.of(ModelOverloaded(429, "slow down", retry_after_seconds=asked))
    delay = policy.delay_after(1, overloaded)
    own = policy.delay_after(1, RETRYABLE)
    if policy.max_attempts == 1:
        assert delay is None
    else:
        assert own is not None
        assert delay == max(own, min(asked, ASKED_WAIT_MAX))


@given(policies, json_values)
def test_a_retry_after_that_is_not_valid_is_ignored(policy: RetryPolicy, asked: object) -> None:
    failure = Failure(kind="E", message="", retryable=True, details={"retry_after_seconds": asked})  # type: ignore[dict-item]
    delay = policy.delay_after(1, failure)
    assert delay is None or 0 <= delay <= max(policy.max_interval, ASKED_WAIT_MAX)


def test_a_failure_that_no_retry_helps_is_not_retried() -> None:
    policy = RetryPolicy()
    assert policy.delay_after(1, RETRYABLE) is not None
    assert policy.delay_after(1, RETRYABLE.with_(retryable=False)) is None


def test_a_group_waits_as_long_as_the_error_in_it_that_waits_longest() -> None:
    errors = [
        ModelOverloaded(429, "", 7.0),
        ValueError(),
        ModelOverloaded(429, ""),
        ModelOverloaded(429, "", 9),
    ]
    for group in (ExceptionGroup("", errors), ExceptionGroup("", [ExceptionGroup("", errors), KeyError()])):
        assert RetryPolicy().delay_after(1, Failure.of(group)) == 9.0


@pytest.mark.parametrize(
    "options",
    [
        {"max_attempts": 0},
        {"initial_interval": -1},
        {"backoff_coefficient": 0.5},
        {"max_interval": -1},
        {"max_interval": float("inf")},
        {"initial_interval": float("nan")},
    ],
)
def test_a_policy_without_bounds_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        RetryPolicy.model_validate(options)
