"""The size of messages before they are parsed: bytes, values and levels, whatever is in their texts."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from outlast.adapters.mcp import limits
from outlast.adapters.mcp.messages import problem_of
from tests.core.strategies import nested

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('a"\\[]{},:é\n'),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text('a"\\[{,'), inner, max_size=5),
)


def values_in(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(values_in, inner))


def levels_in(value: Any) -> int:
    if not isinstance(value, dict | list):
        return 0
    return 1 + max(map(levels_in, value.values() if isinstance(value, dict) else value), default=0)


@given(
    value=json_values,
    ascii_only=st.booleans(),
    indent=st.sampled_from([None, 1]),
    values_max=st.integers(1, 20),
    depth_max=st.integers(0, 5),
)
@example(value=['\\"', ["[[["]], ascii_only=True, indent=None, values_max=3, depth_max=2)
@example(value={"\\": ["\\\\"]}, ascii_only=True, indent=None, values_max=3, depth_max=2)
def test_values_and_levels_are_counted_and_what_is_in_texts_is_not(
    value: Any, ascii_only: bool, indent: int | None, values_max: int, depth_max: int
) -> None:
    message = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "MESSAGE_VALUES_MAX", values_max)
        patch.setattr(limits, "MESSAGE_DEPTH_MAX", depth_max)
        problem = problem_of(message)
    # A list or an object without anything in it counts twice.
    if 2 * values_in(value) <= values_max and levels_in(value) <= depth_max:
        assert problem is None
    if levels_in(value) > depth_max:
        assert problem is not None
    if problem is None:
        assert values_in(value) <= values_max or len(message) <= values_max
        assert levels_in(value) <= depth_max


@given(value=json_values)
def test_what_a_model_could_use_is_never_too_much(value: Any) -> None:
    assert problem_of(json.dumps(value).encode()) is None


HOSTILE = {
    "long": b" " * (limits.MESSAGE_BYTES_MAX + 1),
    "empty lists": b"[" + b"[]," * 2_000_000 + b"1]",
    "numbers": b"[" + b"1," * 2_000_000 + b"1]",
    "texts": b"[" + b'"",' * 2_000_000 + b"1]",
    "keys": b"{" + b'"":1,' * 1_000_000 + b'"":1}',
    "levels": b"[" * 1_000_000,
    "few levels": json.dumps(nested(200)).encode(),
    "levels that are closed": b"[]" * 100 + json.dumps(nested(200)).encode(),
}


@pytest.mark.parametrize("kind", sorted(HOSTILE))
def test_what_would_take_long_is_found_before_it_is_parsed(kind: str) -> None:
    began = time.process_time()
    assert problem_of(HOSTILE[kind]) is not None
    assert time.process_time() - began < 1.0  # it takes some 20 ms


@pytest.mark.parametrize("text", ["x", '"', "\\", "[", ",", "é", '\\",["'])
def test_one_long_text_is_not_too_much(text: str) -> None:
    written = json.dumps(text)[1:-1].encode()
    message = b'{"text":"' + written * (limits.MESSAGE_BYTES_MAX // len(written) - 20) + b'"}'
    assert problem_of(message) is None
