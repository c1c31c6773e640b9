"""Suspects: a worker sorts executions whose workers keep ending."""

from __future__ import annotations

import pytest

from outlast.runtime.executions.suspects import (
    FRUITLESS_MAX,
    GROUP_MAX,
    SETTLING_SHARES,
    SUSPICIOUS,
    TRIAL_SHARES,
    TRIED_ALONE,
    Placing,
    Suspects,
)

LEASE_SECONDS = 10.0


def suspects() -> Suspects:
    return Suspects.of(LEASE_SECONDS)


@pytest.mark.parametrize("fruitless", [0, 1])
def test_one_lost_claim_makes_no_suspect(fruitless: int) -> None:
    ours = suspects()
    for number in range(5 * GROUP_MAX):
        assert ours.place(f"e{number}", fruitless, now=0.0) is Placing.CARRIED
        assert not ours.suspects(f"e{number}")


def test_after_two_lost_claims_a_few_suspects_are_carried_at_once() -> None:
    ours = suspects()
    for number in range(GROUP_MAX):
        assert ours.place(f"e{number}", SUSPICIOUS, now=0.0) is Placing.CARRIED
    assert ours.place("one more", SUSPICIOUS, now=0.0) is Placing.GIVEN_BACK
    assert ours.place("fresh", 0, now=0.0) is Placing.CARRIED
    assert ours.acquitted("e3", now=1.0)
    assert not ours.acquitted("e3", now=1.0)
    assert ours.place("one more", SUSPICIOUS, now=1.0) is Placing.CARRIED


def test_after_more_lost_claims_one_suspect_is_tried_at_a_time() -> None:
    ours = suspects()
    assert ours.place("e", TRIED_ALONE, now=0.0) is Placing.TRIED
    assert ours.on_trial == "e"
    for fruitless in range(FRUITLESS_MAX):
        assert ours.place("f", fruitless, now=1.0) is Placing.GIVEN_BACK
    assert not ours.acquitted("f", now=1.0)
    assert ours.acquitted("e", now=4.0)
    assert ours.on_trial is None


def test_after_a_trial_other_executions_have_as_much_time() -> None:
    ours = suspects()
    ours.place("e", TRIED_ALONE, now=10.0)
    ours.acquitted("e", now=14.0)
    assert ours.place("f", TRIED_ALONE, now=17.75) is Placing.GIVEN_BACK
    assert ours.place("f", TRIED_ALONE, now=18.0) is Placing.TRIED


def test_a_trial_begins_when_nothing_else_was_begun_for_a_while() -> None:
    for tries, share in enumerate(SETTLING_SHARES):
        ours = suspects()
        assert ours.settling_seconds(TRIED_ALONE + tries, now=5.0) == 0.0
        ours.place("fresh", 0, now=5.0)
        ours.place("e", TRIED_ALONE + tries, now=5.0)
        settling = share * LEASE_SECONDS
        assert ours.settling_seconds(TRIED_ALONE + tries, now=5.25) == settling - 0.25
        assert ours.settling_seconds(TRIED_ALONE + tries, now=5.0 + 2 * settling) == 0.0


def test_a_trial_begins_some_time_after_the_one_before() -> None:
    ours = suspects()
    ours.place("e", TRIED_ALONE, now=0.0)
    ours.trial_begins(now=3.0)
    ours.acquitted("e", now=4.0)
    assert ours.place("f", FRUITLESS_MAX - 1, now=8.0) is Placing.TRIED
    assert (
        ours.settling_seconds(FRUITLESS_MAX - 1, now=8.0) == 3.0 + SETTLING_SHARES[-1] * LEASE_SECONDS - 8.0
    )


def test_a_trial_is_longer_the_more_attempts_were_lost() -> None:
    first, longest = TRIAL_SHARES
    seconds = [suspects().trial_seconds(losses) for losses in range(12)]
    assert seconds == sorted(seconds)
    assert seconds[TRIED_ALONE : TRIED_ALONE + 2] == [first * LEASE_SECONDS, 2 * first * LEASE_SECONDS]
    assert (seconds[0], seconds[-1]) == (first * LEASE_SECONDS, longest * LEASE_SECONDS)


def test_an_execution_given_back_for_a_trial_waits_only_if_it_is_a_suspect() -> None:
    ours = suspects()
    assert [ours.back_seconds(fruitless) for fruitless in range(SUSPICIOUS)] == [0.0] * SUSPICIOUS
    for fruitless in range(SUSPICIOUS, FRUITLESS_MAX):
        assert 0.0 < ours.back_seconds(fruitless) <= 2 * LEASE_SECONDS


def test_no_trial_keeps_the_others_waiting_for_longer_than_a_lease() -> None:
    assert max(SETTLING_SHARES) + max(TRIAL_SHARES) <= 1.0
    assert TRIED_ALONE + len(SETTLING_SHARES) == FRUITLESS_MAX


@pytest.mark.parametrize("fruitless", [FRUITLESS_MAX, FRUITLESS_MAX + 1, 1000])
def test_after_enough_lost_claims_an_execution_is_held(fruitless: int) -> None:
    ours = suspects()
    ours.place("e", TRIED_ALONE, now=0.0)
    assert ours.place("f", fruitless, now=0.0) is Placing.HELD
    assert not ours.suspects("f")
