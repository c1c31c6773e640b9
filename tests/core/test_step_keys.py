"""A key says which step of a run it is, and no two steps have the same, whatever a model calls its calls."""

from __future__ import annotations

from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.core.step_keys import (
    call_key,
    is_run_within,
    is_within_another,
    model_key,
    place_in,
    run_key,
    summary_key,
)
from tests.core.strategies import any_text

places = st.just("") | st.from_regex(r"[0-9.]*:[0-9]+", fullmatch=True)
runs = st.lists(places, min_size=1, max_size=3).map(
    lambda found: reduce(nested, found[1:], run_key(found[0]))
)
turns = st.integers(1, 200)
call_ids = st.sampled_from(
    ["model", "model~", "model~~", "summary", "summary~", "t1/model", "/", "~"]
) | any_text.filter(len)


def nested(run: str, place: str) -> str:
    return run_key(place, run)


@given(runs, places)
def test_a_run_is_within_itself_and_within_the_run_that_it_is_a_part_of(run: str, place: str) -> None:
    part = nested(run, place)
    assert is_run_within(run, run)
    assert is_run_within(part, run)
    assert not is_run_within(run, part)
    assert is_within_another(part)
    assert not is_within_another(run_key(place))
    assert not is_run_within(run_key(":1"), run_key(":10"))
    assert not is_run_within(run_key(":10"), run_key(":1"))


@given(runs, turns, call_ids)
def test_a_key_of_a_call_gives_back_what_it_was_made_of(run: str, turn: int, call_id: str) -> None:
    assert place_in(call_key(run, turn, call_id)) == (run, turn, call_id)


@given(runs, turns)
def test_a_key_of_a_model_call_gives_back_what_it_was_made_of(run: str, turn: int) -> None:
    assert place_in(model_key(run, turn)) == (run, turn, None)
    assert place_in(summary_key(run, turn)) == (run, turn, None)
    assert summary_key(run, turn) != model_key(run, turn)


@given(
    st.from_regex(r"[0-9.]*:[0-9]+", fullmatch=True)
    | st.sampled_from(["", "run:0/t", "run:0/tx/model", "run:0/t1"])
)
def test_a_key_of_another_step_names_no_run(key: str) -> None:
    with pytest.raises(ValueError, match="is not the key of a step of a run"):
        place_in(key)
