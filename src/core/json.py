"""JSON as the journal writes it: one text for one value, strict in both directions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from math import isfinite
from typing import Any

from pydantic import JsonValue
from pydantic_core import to_json

JSON = JsonValue
"""None, bool, int, float, str, list or dict with string keys."""

DEPTH_MAX = 100
"""The depth to which lists and dicts from outside may be nested, so that every reader can read them."""
ENVELOPE_DEPTH = 20
"""The most levels that values and records of ours may put around the JSON in them."""

SAME_KEYS = "it has keys that become the same text in JSON, such as 1 and '1'"

_written = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_CONTAINERS = (dict, list, tuple)
_DIGITS_MAX = 4300
_INTEGER_END = 10**_DIGITS_MAX
"""The end of the integers that Python reads and writes, unless it is configured otherwise."""
_TOO_MANY_DIGITS = re.compile(rb"\d{%d}" % _DIGITS_MAX)


def encode(value: JSON, *, depth_max: int = DEPTH_MAX + ENVELOPE_DEPTH) -> bytes:
    """Return compact UTF-8 JSON of `value`.

    Text that UTF-8 cannot carry (a lone surrogate, which models do emit) is written as an escape. JSON from
    outside is first checked with a `depth_max` of `DEPTH_MAX`, so that our own values fit around it.

    Raises:
        ValueError: for NaN and infinities, which JSON does not have, and for more than `depth_max` levels.
        TypeError: for anything that is not JSON.
    """
    try:
        text = _written(value)
    except RecursionError:
        raise _too_deep(depth_max) from None
    # Most texts have too few brackets to be deep; counting brackets is much faster than a walk.
    if text.count("[") + text.count("{") > depth_max and _is_deeper(value, depth_max):
        raise _too_deep(depth_max)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False).encode()


def quickly_encoded(value: Any, *, depth_max: int = DEPTH_MAX + ENVELOPE_DEPTH) -> bytes | None:
    """Return JSON of a value whose types are known to be JSON's; None if `encode` must decide.

    That is so if it may have half a character, a number that JSON does not have or readers refuse, or too
    many levels. It takes a fifth of the time.
    """
    try:
        data = to_json(value, inf_nan_mode="constants")
    except ValueError:
        return None
    if b"NaN" in data or b"Infinity" in data or data.count(b"[") + data.count(b"{") > depth_max:
        return None
    return None if len(data) >= _DIGITS_MAX and _TOO_MANY_DIGITS.search(data) else data


def check_json(value: JSON, *, depth_max: int = DEPTH_MAX + ENVELOPE_DEPTH) -> None:
    """Raise the error of `encode`, without writing: the cost grows with the items, not with their text.

    Raises:
        ValueError: for NaN, infinities, numbers of thousands of digits, and for more than `depth_max` levels.
        TypeError: for anything that is not JSON.
    """
    level: list[Any] = [[value]]
    for _ in range(depth_max + 1):
        level = [item for outer in level for item in _inside(outer) if type(item) is not str and _nests(item)]
        if not level:
            return
    if any(level):
        raise _too_deep(depth_max)


def _nests(item: Any) -> bool:
    """Return whether the item is a list or a dict; raise if it is not a value of JSON."""
    if isinstance(item, _CONTAINERS):
        return True
    if isinstance(item, float):
        if not isfinite(item):
            raise ValueError(f"JSON has no number {item}")
    elif isinstance(item, int):
        if not -_INTEGER_END < item < _INTEGER_END:
            raise ValueError("it has an integer of thousands of digits")
    elif item is not None and not isinstance(item, str):
        raise TypeError(f"{type(item).__name__} is not a type of JSON")
    return False


def decode(data: bytes | str) -> Any:
    """Return the value that `data` spells.

    Raises:
        ValueError: when `data` is not JSON, or is nested too deep to be read.
    """
    try:
        return json.loads(data)
    except RecursionError:
        raise _too_deep(DEPTH_MAX) from None


def kept(value: Any, *, depth_max: int = DEPTH_MAX) -> Any:
    """Return a copy of JSON that comes from outside, as it is read again.

    Raises:
        ValueError, TypeError: it is not JSON, as for `encode`, or two of its keys become one.
    """
    copy = decode(encode(value, depth_max=depth_max))
    if copy != value and _loses_keys(value, copy):
        raise ValueError(SAME_KEYS)
    return copy


def _loses_keys(value: Any, copy: Any) -> bool:
    pairs = [(value, copy)]
    while pairs:
        value, copy = pairs.pop()
        if isinstance(copy, (dict, list)):
            if len(value) != len(copy):
                return True
            pairs += zip(_inside(value), _inside(copy), strict=True)
    return False


def with_whole_characters(value: Any) -> Any:
    """Return a copy that UTF-8 can carry, even if the texts of `value` have halves of surrogate pairs."""
    match value:
        case str():
            return whole_characters(value)
        case dict():
            return {with_whole_characters(name): with_whole_characters(item) for name, item in value.items()}
        case list():
            return [with_whole_characters(item) for item in value]
    return value


def whole_characters(text: str) -> str:
    """Return text that UTF-8 can carry: two halves of a surrogate pair are joined, a single one is U+FFFD."""
    if text.isascii():  # This is known of a text, however long it is.
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def canonical(value: JSON) -> str:
    """Return a text that is equal for equal values, also if their keys are in another order."""
    return json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"), allow_nan=False)


def _too_deep(levels: int) -> ValueError:
    return ValueError(f"it is nested more than {levels} levels deep")


def _is_deeper(value: Any, levels: int) -> bool:
    level: list[Any] = [[value]]
    for _ in range(levels + 1):
        level = [inner for outer in level for inner in _inside(outer) if isinstance(inner, _CONTAINERS)]
    return any(level)


def _inside(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value
