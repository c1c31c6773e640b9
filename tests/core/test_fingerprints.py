"""A fingerprint is equal exactly for equal things."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from outlast.core.fingerprints import call_fingerprint, execution_fingerprint
from outlast.core.json import JSON
from tests.core.strategies import json_objects

names = st.text(max_size=3)


@given(names, json_objects, names, json_objects)
def test_a_fingerprint_of_an_execution_is_that_of_its_workflow_and_arguments(
    one: str, arguments: dict[str, JSON], other: str, others: dict[str, JSON]
) -> None:
    backwards = dict(reversed(arguments.items()))
    assert execution_fingerprint(one, arguments) == execution_fingerprint(one, backwards)
    same = execution_fingerprint(one, arguments) == execution_fingerprint(other, others)
    assert same == (one == other and arguments == others)


def test_a_call_has_another_fingerprint_than_an_execution_with_its_names() -> None:
    assert call_fingerprint("a", "t", {}) != execution_fingerprint("a", {}) != call_fingerprint("", "a", {})
