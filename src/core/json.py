"""JSON as the journal writes it: one text for one value, strict in both directions."""

from __future__ import annotations

import json
from typing import Any

from pydantic import JsonValue

JSON = JsonValue
"""None, bool, int, float, str, list or dict with string keys, nested at will."""


def encode(value: JSON) -> bytes:
    """Return compact UTF-8 JSON of `value`.

    Text that UTF-8 cannot carry (a lone surrogate, which models do emit) is written as an escape.

    Raises:
        ValueError: for NaN and infinities, which JSON does not have.
        TypeError: for anything that is not JSON.
    """
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except UnicodeEncodeError:
        return json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False).encode()


def decode(data: bytes | str) -> Any:
    """Return the value that `data` spells.

    Raises:
        ValueError: when `data` is not JSON.
    """
    return json.loads(data)


def canonical(value: JSON) -> str:
    """Return a text that is equal for equal values, whatever the order of their keys."""
    return json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
