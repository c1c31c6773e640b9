"""JSON as the journal writes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.core.json import (
    DEPTH_MAX,
    ENVELOPE_DEPTH,
    canonical,
    check_json,
    decode,
    encode,
    kept,
    quickly_encoded,
    whole_characters,
    with_whole_characters,
)
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


def test_a_value_that_is_not_json_is_refused() -> None:
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


huge = st.sampled_from([4299, 4300]).flatmap(
    lambda digits: st.sampled_from([1, -1]).map(lambda n: n * 10**digits)
)
odd_values = st.recursive(
    json_values | st.floats() | huge | st.sampled_from([object(), b"", (), True]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.tuples(inner) | st.dictionaries(any_text, inner, max_size=3)
    ),
    max_leaves=5,
)


odd_json = st.recursive(
    json_values | st.floats() | huge | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=5,
)


@given(odd_json, st.integers(min_value=0, max_value=6))
def test_what_is_encoded_quickly_is_read_the_same(value: Any, depth_max: int) -> None:
    data = quickly_encoded(value, depth_max=depth_max)
    if data is not None:
        assert repr(decode(data)) == repr(decode(encode(value, depth_max=depth_max)))
        assert repr(with_whole_characters(value)) == repr(value)


def test_only_plain_values_are_encoded_quickly() -> None:
    for plain in ({"x": [1, "é", 1.5, None, True]}, "x" * 5000, {"n": 10**100, "text": "y" * 5000}):
        assert quickly_encoded(plain) is not None
    for odd in (
        float("nan"),
        [float("-inf")],
        "\ud800",
        {"\udc00": 1},
        10**4300,
        nested(200),
        nested(100_000),
    ):
        assert quickly_encoded(odd) is None


@given(odd_values, st.integers(min_value=0, max_value=6))
def test_a_check_refuses_what_cannot_be_written(value: Any, depth_max: int) -> None:
    def refuses(judge: Callable[..., object]) -> bool:
        try:
            judge(value, depth_max=depth_max)
        except (TypeError, ValueError):
            return True
        return False

    assert refuses(check_json) == refuses(encode)


def test_a_check_says_what_is_wrong() -> None:
    value: Any
    for value, fault in (
        (nested(9), "more than 8 levels"),
        ([float("nan")], "no number nan"),
        (10**4300, "digits"),
    ):
        with pytest.raises(ValueError, match=fault):
            check_json(value, depth_max=8)
    with pytest.raises(TypeError, match="bytes is not a type of JSON"):
        check_json({"x": b""})  # type: ignore[dict-item]


@given(any_text)
def test_text_is_made_such_that_utf_8_carries_it(text: str) -> None:
    whole = whole_characters(text)
    assert whole.encode().decode() == whole == whole_characters(whole)
    if not any("\ud800" <= character <= "\udfff" for character in text):
        assert whole == text


def test_two_halves_of_a_character_become_one_and_a_single_one_is_replaced() -> None:
    assert whole_characters("\ud83e\udd89 \ud83e \udd89") == "🦉 \ufffd \ufffd"


@given(json_values)
def test_json_is_kept_as_it_is(value: Any) -> None:
    assert repr(kept(value)) == repr(value)
    assert not isinstance(value, (dict, list)) or kept(value) is not value


@pytest.mark.parametrize(
    "value", [{1: "a", "1": "b"}, [[{"x": {True: 1, "true": 2}}]], ({None: 1, "null": 2},)], ids=str
)
def test_keys_that_become_one_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="keys that become the same text"):
        kept(value)


def test_values_are_kept_as_json_writes_them() -> None:
    assert kept({1: (1, 2), None: ["\ud83d\ude00"]}) == {"1": [1, 2], "null": ["😀"]}


@given(json_values)
def test_any_json_with_whole_characters_can_be_encoded(value: Any) -> None:
    whole = with_whole_characters(value)
    assert json.dumps(whole, ensure_ascii=False).encode()
    assert with_whole_characters(whole) == whole


def test_half_a_character_is_replaced_wherever_it_is() -> None:
    value = {"a\ud800": ["\ud83d\ude00", 1, None, {"x": "\udfffb"}]}
    assert with_whole_characters(value) == {"a\ufffd": ["😀", 1, None, {"x": "\ufffdb"}]}
