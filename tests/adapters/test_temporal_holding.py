"""The machine that decides what code gets on Temporal while its execution is held, without Temporal."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.adapters.temporal.holding import (
    PAUSE_SIGNAL,
    RESUME_SIGNAL,
    TABLE,
    Arrival,
    Effect,
    Holding,
    HoldingPhase,
    TakeUp,
    arrival_of,
)
from outlast.core.json import JSON
from outlast.core.records import (
    INPUTS,
    CancelRequested,
    ExecutionPaused,
    ExecutionResumed,
    Input,
    SignalReceived,
    StepCompleted,
    TimerFired,
    UpdateAccepted,
)


def signal(name: str, at: float = 0.0, **named: JSON) -> SignalReceived:
    return SignalReceived(at=at, message_id="", name=name, named=named)


PAUSE, RESUME = signal(PAUSE_SIGNAL), signal(RESUME_SIGNAL)
OF: dict[Arrival, st.SearchStrategy[Input]] = {
    Arrival.PAUSE: st.just(PAUSE),
    Arrival.RESUME: st.just(RESUME),
    Arrival.CANCEL: st.just(CancelRequested(at=0.0, message_id="cancel")),
    Arrival.OTHER: st.sampled_from(
        [
            signal("news"),
            StepCompleted(at=0.0, key=":0", result=1),
            TimerFired(at=0.0, key=":1"),
            UpdateAccepted(at=0.0, update_id="u", name="change"),
        ]
    ),
}


def inputs() -> st.SearchStrategy[list[Input]]:
    """Inputs of every sort; each has its number as its time, so that no two are equal."""
    one = st.one_of(*OF.values())
    return st.lists(one, max_size=30).map(
        lambda arrived: [record.with_(at=float(number)) for number, record in enumerate(arrived)]
    )


def taken(holding: Holding, arrived: Sequence[Input]) -> tuple[Holding, list[Effect]]:
    effects: list[Effect] = []
    for record in arrived:
        effects += holding.arrive(record)
    return holding, effects


def delivered(effects: Sequence[Effect]) -> list[Input]:
    return [effect for effect in effects if isinstance(effect, INPUTS)]


def for_code(arrived: Sequence[Input]) -> list[Input]:
    return [one for one in arrived if arrival_of(one) in (Arrival.CANCEL, Arrival.OTHER)]


@pytest.mark.parametrize("phase", HoldingPhase)
def test_every_phase_takes_every_sort_of_input(phase: HoldingPhase) -> None:
    assert TABLE[phase].keys() == set(Arrival)


@given(inputs(), st.booleans())
def test_code_gets_each_input_once_and_in_order_or_it_still_waits(
    arrived: list[Input], is_held: bool
) -> None:
    holding, effects = taken(Holding.at_start(is_held=is_held), arrived)
    assert [*delivered(effects), *holding.waiting] == for_code(arrived)
    if holding.phase is HoldingPhase.AT_WORK:
        assert not holding.waiting


@given(inputs(), st.booleans())
def test_nothing_is_delivered_between_a_pause_and_the_note_of_its_end(
    arrived: list[Input], is_held: bool
) -> None:
    _, effects = taken(Holding.at_start(is_held=is_held), arrived)
    held = is_held
    for effect in effects:
        match effect:
            case TakeUp() | ExecutionResumed():
                assert held
                held = False
            case ExecutionPaused():
                assert not held
                held = True
            case _:
                assert not held


@given(inputs(), st.booleans())
def test_a_run_is_taken_up_once_if_it_began_held_and_before_all_else(
    arrived: list[Input], is_held: bool
) -> None:
    holding, effects = taken(Holding.at_start(is_held=is_held), arrived)
    times = effects.count(TakeUp())
    assert times == (is_held and holding.phase is not HoldingPhase.HELD)
    if times:
        assert effects[0] == TakeUp()


@given(inputs(), st.booleans())
def test_it_is_held_exactly_as_the_last_request_to_pause_or_to_go_on_says(
    arrived: list[Input], is_held: bool
) -> None:
    holding, _ = taken(Holding.at_start(is_held=is_held), arrived)
    last = next((arrival_of(one) for one in reversed(arrived) if arrival_of(one) is not Arrival.OTHER), None)
    expected = is_held if last is None else last is Arrival.PAUSE
    assert (holding.phase is not HoldingPhase.AT_WORK) == expected


@given(inputs(), st.booleans(), OF[Arrival.CANCEL])
def test_a_request_to_cancel_reaches_the_code_at_once_after_what_came_before_it(
    arrived: list[Input], is_held: bool, cancel: Input
) -> None:
    holding, _ = taken(Holding.at_start(is_held=is_held), arrived)
    waiting = list(holding.waiting)
    assert delivered(holding.arrive(cancel)) == [*waiting, cancel]
    assert holding == Holding(HoldingPhase.AT_WORK)


@given(inputs(), st.booleans(), st.sampled_from([PAUSE, RESUME]))
def test_a_request_that_came_twice_is_one(arrived: list[Input], is_held: bool, asked: Input) -> None:
    once, _ = taken(Holding.at_start(is_held=is_held), [*arrived, asked])
    twice, _ = taken(Holding.at_start(is_held=is_held), [*arrived, asked])
    assert not twice.arrive(asked)
    assert twice == once


@given(inputs(), st.booleans())
def test_each_note_has_the_time_of_the_input_that_made_it(arrived: list[Input], is_held: bool) -> None:
    holding = Holding.at_start(is_held=is_held)
    for record in arrived:
        for effect in holding.arrive(record):
            if isinstance(effect, ExecutionPaused | ExecutionResumed):
                assert effect.at == record.at


@pytest.mark.parametrize("reason", [None, "the bank is closed", "", 3, ["a"], {"b": 1}])
def test_a_pause_keeps_a_reason_that_is_text(reason: JSON) -> None:
    kept = reason if isinstance(reason, str) else None
    effects = Holding(HoldingPhase.AT_WORK).arrive(signal(PAUSE_SIGNAL, 7.0, reason=reason))
    assert effects == [ExecutionPaused(at=7.0, reason=kept)]


def test_a_pause_from_temporals_command_line_needs_no_reason() -> None:
    assert Holding(HoldingPhase.AT_WORK).arrive(PAUSE) == [ExecutionPaused(at=0.0, reason=None)]
