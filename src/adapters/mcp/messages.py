"""Checks the size of a JSON message before it is parsed.

A parser makes an object of each value, and it cannot be interrupted. So a message of eight megabytes that is
one text is read in ten milliseconds, but two million empty lists take seconds, and gigabytes. This check
counts values and levels without making objects of them.
"""

from __future__ import annotations

from itertools import accumulate

from outlast.adapters.mcp import limits

ADVICE = "let the server send less at a time"
_ALL_BUT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = tuple(1 if byte in b"[{" else -1 for byte in range(256))


def problem_of(message: bytes) -> str | None:
    """Return what is too much about `message`, such as "more than 8 MiB"; None if it may be parsed."""
    if len(message) > limits.MESSAGE_BYTES_MAX:
        return too_long()
    if len(message) <= limits.MESSAGE_VALUES_MAX and _opening(message) <= limits.MESSAGE_DEPTH_MAX:
        return None  # It has too few characters for more. Almost every message ends here.
    unescaped = message.replace(rb"\\", b"").replace(rb"\"", b"")
    # Each value has at most two strings with two quotes each: its key, and perhaps itself.
    if unescaped.count(b'"') > 4 * limits.MESSAGE_VALUES_MAX:
        return _too_many_values()
    outside = b"".join(unescaped.split(b'"')[::2])
    if 1 + outside.count(b",") + _opening(outside) > limits.MESSAGE_VALUES_MAX:
        return _too_many_values()
    steps = map(_STEPS.__getitem__, outside.translate(None, _ALL_BUT_BRACKETS))
    if max(accumulate(steps), default=0) > limits.MESSAGE_DEPTH_MAX:
        return f"values that are nested more than {limits.MESSAGE_DEPTH_MAX} levels deep"
    return None


def too_long() -> str:
    """Return the problem of a message that is too long."""
    return f"more than {limits.MESSAGE_BYTES_MAX >> 20} MiB"


def _opening(text: bytes) -> int:
    return text.count(b"[") + text.count(b"{")


def _too_many_values() -> str:
    return f"more than {limits.MESSAGE_VALUES_MAX} values"
