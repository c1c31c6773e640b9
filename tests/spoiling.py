"""Bodies of a server with other bytes in one place, which no description of an API allows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

_SHORT_TEXTS = (
    *("null", "true", "0", "-1", "7.5", "1e999", "-Infinity", "NaN", '""', '"x"', '"\\ud800"'),
    *("[]", "{}", "[null]", "[7]", '["x"]', '{"x": null}', '{"id": 7}'),
    *("", "{", "<html>", "\ud800"),
)
TEXTS = {
    **{text: text for text in _SHORT_TEXTS},
    **{f"{levels} lists": "[" * levels + "]" * levels for levels in (90, 130, 400, 900, 100_000)},
    "5000 digits": "9" * 5000,
}
"""The bytes that are put there, JSON or not, by a name that is short enough to be shown."""

_HERE = "what is drawn goes here"


@dataclass(frozen=True)
class Spoiler:
    """Puts one of the `TEXTS` into the answer to the request that comes after `skip` others."""

    skip: int
    path: tuple[int, ...]
    text: str

    def spoil(self, body: bytes) -> bytes:
        """Return a body, JSON or events, with the text in place of something in it."""
        try:
            found = json.dumps(_spoilt(json.loads(body), self.path)).encode()
        except ValueError:
            lines = body.split(b"\n")
            data = [place for place, line in enumerate(lines) if line.startswith(b"data: {")]
            if not data:
                return self._new
            place = data[self.path[0] % len(data)] if self.path else data[0]
            whole = json.loads(lines[place].removeprefix(b"data: "))
            lines[place] = b"data: " + json.dumps(_spoilt(whole, self.path[1:])).encode()
            found = b"\n".join(lines)
        return found.replace(json.dumps(_HERE).encode(), self._new)

    @property
    def _new(self) -> bytes:
        return TEXTS[self.text].encode("utf-8", "surrogatepass")


def _spoilt(whole: Any, path: Sequence[int]) -> Any:
    """Return a JSON value with `_HERE` in the place that `path` leads to: the one after the other inside."""
    if not path or not isinstance(whole, (dict, list)) or not whole:
        return _HERE
    if isinstance(whole, dict):
        name = sorted(whole)[path[0] % len(whole)]
        return {**whole, name: _spoilt(whole[name], path[1:])}
    place = path[0] % len(whole)
    return [*whole[:place], _spoilt(whole[place], path[1:]), *whole[place + 1 :]]


def spoilers(skip_max: int) -> st.SearchStrategy[Spoiler]:
    """Return spoilers of one of the first answers."""
    paths = st.lists(st.integers(0, 11), max_size=6).map(tuple)
    return st.builds(Spoiler, st.integers(0, skip_max), paths, st.sampled_from(sorted(TEXTS)))
