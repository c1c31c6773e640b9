"""Departures: two requests are equal when their JSON is; the fields that differ are named and shortened."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from outlast.core.departures import SHOWN_CHARACTERS_MAX, departure, differences
from outlast.core.json import JSON, canonical
from outlast.core.records import REQUESTS, EventEmitted, Request, decode_record, encode_record
from tests.core.strategies import any_request, json_values

ALIKE: list[Any] = [
    *(0, 0.0, -0.0, False, None, "", "0", [], [0], [0.0], {}),
    *(1, 1.0, True, "1", [True], {"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 1.0, "b": 2}),
    *(10**16, 1e16, 10**17 + 1, 1e17, 2**70, "\ud800", "\udfff", "\\ud800", [[["\ud800"]]]),
]


def emitted(value: JSON) -> EventEmitted:
    """Return a request that carries the value."""
    return EventEmitted(key="k", kind="text", data={"value": value})


values = st.sampled_from(ALIKE) | json_values


@given(values, values)
@example({"a": 1, "b": 2}, {"b": 2, "a": 1})
@example("\ud800", "\ud800")
def test_two_requests_differ_just_where_they_are_not_the_same_json(one: JSON, other: JSON) -> None:
    expected = f"data: {canonical({'value': one})} is not {canonical({'value': other})}"
    assert differences(emitted(one), emitted(other)) == (
        () if canonical(one) == canonical(other) else (expected,)
    )


@given(any_request)
def test_a_request_does_not_differ_from_its_own_record(request: Request) -> None:
    recorded = decode_record(encode_record(request))
    assert isinstance(recorded, REQUESTS)
    assert differences(recorded, request) == ()


@pytest.mark.parametrize("longer", [0, 1, 5000])
def test_a_departure_shows_a_long_record_by_its_beginning(longer: int) -> None:
    frame = len(canonical({"value": ""}))
    recorded = emitted("x" * (SHOWN_CHARACTERS_MAX - frame + longer))
    shown = departure("e-1", 1, recorded, "nothing").recorded
    assert shown.endswith("…" if longer else '"}')
    assert len(shown) == len("event 'text' at k, ") + SHOWN_CHARACTERS_MAX + (longer > 0)
