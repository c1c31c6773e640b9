"""What a model's reply says, read without trust."""

from __future__ import annotations

from collections.abc import Collection
from itertools import count
from typing import Any

from outlast.core.entries import AgentHandoff, Entry, FunctionCall
from outlast.core.json import DEPTH_MAX, check_json, decode


def open_function_calls(entries: tuple[Entry, ...]) -> tuple[FunctionCall, ...]:
    """Return the calls that wait for a result: those that no server-side handoff follows."""
    calls: list[FunctionCall] = []
    for entry in entries:
        if isinstance(entry, AgentHandoff):
            calls.clear()
        elif isinstance(entry, FunctionCall):
            calls.append(entry)
    return tuple(calls)


CALL_ID_MAX = 200
"""How many characters an id of a call may have: it becomes part of ids that backends bound."""


def has_own_id(call: FunctionCall, seen: Collection[str]) -> bool:
    """Whether a call can be known by its id among those that have the `seen` ones, and shown by it."""
    call_id = call.tool_call_id
    return 0 < len(call_id) <= CALL_ID_MAX and call_id.isprintable() and call_id not in seen


def with_own_call_ids(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Return the entries with an id of its own for every call.

    The first call with an id keeps it. Instead of one that is missing, repeated, longer than `CALL_ID_MAX`
    or not to be printed (as half a surrogate pair, which no backend takes), one is made up, of nine letters
    and digits.
    """
    given = {entry.tool_call_id for entry in entries if isinstance(entry, FunctionCall)}
    made_up = (own for number in count() if (own := f"call{number:05d}") not in given)
    seen: set[str] = set()
    kept: list[Entry] = []
    for entry in entries:
        if isinstance(entry, FunctionCall):
            if not has_own_id(entry, seen):
                entry = entry.model_copy(update={"tool_call_id": next(made_up)})
            seen.add(entry.tool_call_id)
        kept.append(entry)
    return tuple(kept)


def parsed_arguments(text: str) -> dict[str, Any] | None:
    """Return the arguments that a model wrote ({} for none), or None when they are no JSON object."""
    if not text.strip():
        return {}
    try:
        value = decode(text)
        # NaN and infinities, which Python reads, are no JSON; nor is what is nested too deep.
        check_json(value, depth_max=DEPTH_MAX)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
