"""JSON as the journal writes it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from outlast.core.json import DEPTH_MAX, ENVELOPE_DEPTH, canonical, decode, encode, whole_characters
from tests.core.strategies import any_text, json_objects, json_values, nested


@given(json_values)
def test_a_value_is_read_as_it_was_written(value: Any) -> None:
    assert repr(decode(encode(value))) == repr(value)
    encode(value).decode("utf-8", "strict")


@given(json_objects)
def test_the_order_of_keys_does_not_matter_to_the_canonical_text(value: dict[str, Any]) -> None:
    assert canonical(dict(reversed(value.items()))) == canonical(value)
    assert decode(canonical(value)) == value


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], {"x": -float("inf")}])
def test_numbers_that_json_does_not_have_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="JSON"):
        encode(value)


def test_what_is_not_json_is_refused() -> None:
    with pytest.raises(TypeError):
        encode({"x": object()})  # type: ignore[dict-item]
    for text in ("", "{", "nul", b"\xff"):
        with pytest.raises(ValueError, match=r".+"):
            decode(text)


def test_depth_is_bounded_in_both_directions() -> None:
    wide = [nested(1)] * 1000
    assert decode(encode(wide)) == wide
    objects: Any = 0
    for _ in range(DEPTH_MAX):
        objects = {"x": objects}
    for value in (nested(DEPTH_MAX), objects):
        assert decode(encode(value, depth_max=DEPTH_MAX)) == value
        for too_deep in ([value], {"x": value}, nested(100_000)):
            with pytest.raises(ValueError, match=f"more than {DEPTH_MAX} levels"):
                encode(too_deep, depth_max=DEPTH_MAX)
    wrapped = nested(DEPTH_MAX + ENVELOPE_DEPTH)
    assert decode(encode(wrapped)) == wrapped
    with pytest.raises(ValueError, match="levels deep"):
        encode([wrapped])
    with pytest.raises(ValueError, match="levels deep"):
        decode("[" * 100_000)


@given(any_text)
def test_text_is_made_such_that_utf_8_carries_it(text: str) -> None:
    whole = whole_characters(text)
    assert whole.encode().decode() == whole == whole_characters(whole)
    if not any("\ud800" <= character <= "\udfff" for character in text):
        assert whole == text


def test_two_halves_of_a_character_become_one_and_a_single_one_is_replaced() -> None:
    assert whole_characters("\ud83e\udd89 \ud83e \udd89") == "🦉 \ufffd \ufffd"
