"""What a model's reply says, read without trust."""

from __future__ import annotations

from typing import Any

from durable_agents.core.entries import AgentHandoff, Entry, FunctionCall
from durable_agents.core.json import decode, encode


def open_function_calls(entries: tuple[Entry, ...]) -> tuple[FunctionCall, ...]:
    """Return the calls that wait for a result: those that no server-side handoff follows."""
    calls: tuple[FunctionCall, ...] = ()
    for entry in entries:
        if isinstance(entry, AgentHandoff):
            calls = ()
        elif isinstance(entry, FunctionCall):
            calls = (*calls, entry)
    return calls


def with_own_call_ids(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Return the entries with an id of its own for every call: a missing or repeated one is made up."""
    seen: set[str] = set()
    kept: list[Entry] = []
    for number, entry in enumerate(entries):
        if isinstance(entry, FunctionCall):
            call_id, tries = entry.tool_call_id, 0
            while not call_id or call_id in seen:
                call_id = f"call{number:03d}{tries:02d}"
                tries += 1
            seen.add(call_id)
            entry = (
                entry if call_id == entry.tool_call_id else entry.model_copy(update={"tool_call_id": call_id})
            )
        kept.append(entry)
    return tuple(kept)


def parsed_arguments(text: str) -> dict[str, Any] | None:
    """Return the arguments that a model wrote ({} for none), or None when they are no JSON object."""
    if not text.strip():
        return {}
    try:
        value = decode(text)
        encode(value)  # NaN and infinities, which Python reads, are no JSON
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
